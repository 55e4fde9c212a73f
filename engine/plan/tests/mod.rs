//! What fits and what does not, with the place in the file and the way to mend it.

mod clients;
mod connection_ids;
mod eal;
mod files;
mod identities;
mod listeners;
mod memory;
mod nics;
mod ports;
mod settings;
mod shards;
mod show;

use std::cell::RefCell;

use super::*;

const BASE: &str = r#"eal: ["-l", "0-1", "--no-huge", "-m", "512", "--no-pci", "--vdev=net_tap0,iface=stoq0"]
ports:
  - name: left
    link: right
    mtu: 1500
    addresses: ["fd00::1/64"]
  - name: right
    link: left
    addresses: ["fd00::2/64"]
  - name: tap
    device: net_tap0
    addresses: ["fd00:1::1/64"]
    gateway: "fe80::1"
shards:
  - { name: server, port: left, queue: 0, lcore: 0 }
  - { name: client, port: right, queue: 0, lcore: 1 }
  - { name: outside, port: tap, queue: 0, lcore: 0 }
identities:
  - name: own
    self_signed: ["localhost"]
transport:
  initial_mtu: 1200
limits:
  connections: 100
listeners:
  - name: main
    shard: server
    udp_port: 4433
    identity: own
    services: { perf: {}, hq-interop: { root: . } }
  - name: other
    shard: outside
    udp_port: 4433
    identity: own
    services: { echo: { early_data: true } }
clients:
  - name: bulk
    shard: client
    remote: "[fd00::1]:4433"
    trust: { identity: own }
    perf: { download: 1MiB, requests: 10 }
run:
  warmup: 1s
  duration: 10s
"#;

/// Accepts every file, and remembers what it was asked.
#[derive(Default)]
struct Accept(RefCell<Vec<String>>);

impl Checks for Accept {
    fn identity(&self, certificate: &Path, key: &Path) -> Result<(), String> {
        self.0
            .borrow_mut()
            .push(format!("{} {}", certificate.display(), key.display()));
        Ok(())
    }

    fn anchors(&self, files: &[PathBuf]) -> Result<(), String> {
        self.0.borrow_mut().push(format!("anchors {}", files.len()));
        Ok(())
    }
}

/// Refuses every file.
struct Refuse;

impl Checks for Refuse {
    fn identity(&self, certificate: &Path, _: &Path) -> Result<(), String> {
        Err(format!(
            "{}: the key is that of another certificate",
            certificate.display()
        ))
    }

    fn anchors(&self, _: &[PathBuf]) -> Result<(), String> {
        Err("no certificate in it".to_owned())
    }
}

/// The base with edits: each replaces a text that stands there exactly once.
fn edited(edits: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (old, new) in edits {
        assert_eq!(
            text.matches(old).count(),
            1,
            "{old:?} is to stand there once"
        );
        text = text.replace(old, new);
    }
    text
}

fn plan_of(text: String, given: &Given) -> Result<Plan, ConfigError> {
    let (config, source) = Config::parse(Path::new("x.yaml"), text)?;
    Plan::new(&config, &source, given, &Accept::default())
}

fn problem(edits: &[(&str, &str)]) -> String {
    plan_of(edited(edits), &Given::default())
        .unwrap_err()
        .to_string()
}

fn base() -> Plan {
    plan_of(BASE.to_owned(), &Given::default()).unwrap()
}

#[test]
fn what_fits() {
    let plan = base();
    assert!(plan.notes.is_empty());
    assert_eq!(plan.eal.lcores, [0, 1]);
    assert!(!plan.eal.huge_pages);
    assert_eq!(plan.ports[0].kind, PortKind::Link { peer: 1 });
    assert_eq!(plan.ports[0].offload, OffloadPlan::default());
    assert_eq!(plan.ports[0].tx_path, TxPathPlan::Scratch);
    assert_eq!(plan.ports[2].kind, PortKind::Device("net_tap0".to_owned()));
    assert_eq!((plan.ports[2].burst, plan.ports[2].tx_pool), (32, None));
    assert_eq!(plan.ports[2].tx_path, TxPathPlan::InPlace);
    assert_eq!(plan.ports[2].udp_payload_max, 1452);
    assert_eq!(plan.shards[0].listeners[0].services.len(), 2);
    assert_eq!(
        plan.shards[2].listeners[0].services,
        [ServicePlan::Echo { early_data: true }]
    );
    let client = &plan.shards[1].clients[0];
    assert_eq!(client.server_name, "fd00::1");
    assert_eq!(client.trust, TrustPlan::Identity(0));
    assert!(matches!(
        client.load,
        Load::Perf(PerfLoad {
            repeat: true,
            requests: Some(10),
            ..
        })
    ));
    assert_eq!(plan.transport.receive_window, 16 << 20);
    assert_eq!(plan.limits.connections, 100);
    assert_eq!(plan.run.duration, Some(Duration::from_secs(10)));
    assert!(plan.run.exit_when_clients_finish);
}

#[test]
fn an_empty_file_says_what_to_begin_with() {
    assert_eq!(
        plan_of(String::new(), &Given::default())
            .unwrap_err()
            .to_string(),
        "x.yaml:1:1: ports: there is no port; give at least one"
    );
}
