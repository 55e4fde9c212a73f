//! What fits and what does not, with the place in the file and the way to mend it.

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
    assert_eq!(plan.ports[0].checksum, ChecksumPlan::Skip);
    assert_eq!(plan.ports[0].tx_path, TxPathPlan::Scratch);
    assert_eq!(plan.ports[2].kind, PortKind::Device("net_tap0".to_owned()));
    assert_eq!(plan.ports[2].checksum, ChecksumPlan::Software);
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
fn pools_follow_the_formula() {
    let plan = base();
    // Rings of 1024 + 1024, 4096 held; the link's pools are touched by both lcores, the device's by one.
    let per_lcore = 2 * 32 + 256 * 3 / 2;
    assert_eq!(plan.ports[0].pool.mbufs, 2048 + 4096 + 2 * per_lcore);
    assert_eq!(plan.ports[2].pool.mbufs, 2048 + 4096 + per_lcore);
    assert_eq!(plan.ports[0].pool.data_room, 128 + 2048);
    let jumbo = plan_of(
        edited(&[(
            "    device: net_tap0\n",
            "    device: net_tap0\n    mtu: 9000\n",
        )]),
        &Given::default(),
    );
    assert_eq!(jumbo.unwrap().ports[2].pool.data_room, 128 + 9024);
    assert_eq!(
        plan.memory.pools,
        plan.ports.iter().map(|port| port.pool.bytes).sum::<u64>()
    );
    assert_eq!(plan.memory.granted, Some(512 << 20));
}

#[test]
fn the_command_line_wins() {
    let eal = ["-l", "0-3", "--vdev", "net_tap0"]
        .map(String::from)
        .to_vec();
    let given = Given {
        eal,
        duration: Some(Duration::from_secs(3)),
        cpus: Vec::new(),
    };
    let plan = plan_of(BASE.to_owned(), &given).unwrap();
    assert_eq!(plan.eal.arguments, ["-l", "0-3", "--vdev", "net_tap0"]);
    assert_eq!(plan.eal.lcores, [0, 1, 2, 3]);
    assert!(plan.eal.huge_pages);
    assert_eq!(plan.memory.granted, None);
    assert_eq!(plan.run.duration, Some(Duration::from_secs(3)));
}

#[test]
fn without_huge_pages_engines_do_not_share_files() {
    let arguments = |more: &str| {
        let text = edited(&[("\"--no-pci\"", &format!("\"--no-pci\"{more}"))]);
        plan_of(text, &Given::default()).unwrap().eal.arguments
    };
    let added = |more: &str| {
        arguments(more)
            .last()
            .is_some_and(|last| last == "--no-shconf")
    };
    assert!(added(""));
    assert!(!added(", \"--file-prefix\", \"mine\""));
    assert!(!added(", \"--file-prefix=mine\""));
    assert_eq!(
        arguments(", \"--no-shconf\"").len(),
        base().eal.arguments.len()
    );
}

#[test]
fn lcores_default_to_the_cpus_of_the_machine() {
    let edits = [("\"-l\", \"0-1\", ", "")];
    let given = Given {
        cpus: vec![0, 1, 2],
        ..Given::default()
    };
    assert_eq!(
        plan_of(edited(&edits), &given).unwrap().eal.lcores,
        [0, 1, 2]
    );
    let given = Given {
        cpus: vec![0],
        ..Given::default()
    };
    let error = plan_of(edited(&edits), &given).unwrap_err().to_string();
    assert!(
        error.contains("lcore 1 is not in EAL's core list 0;"),
        "{error}"
    );
}

#[test]
fn ports() {
    assert_eq!(
        problem(&[("    device: net_tap0\n", "")]),
        "x.yaml:10:5: ports[2]: the port `tap` has no device: give `device` (a PCI address, or a \
         name made by `--vdev`) or `link` (the port at the other end)"
    );
    assert_eq!(
        problem(&[(
            "    link: right\n",
            "    link: right\n    device: net_tap0\n"
        )]),
        "x.yaml:4:11: ports[0].link: a port is a device or an end of a link; remove `device` or `link`"
    );
    assert_eq!(
        problem(&[("device: net_tap0", "device: net_tap1")]),
        "x.yaml:11:13: ports[2].device: no `--vdev` of the EAL arguments makes the device `net_tap1` \
         (made are net_tap0); add `--vdev=net_tap1,…`"
    );
    assert_eq!(
        problem(&[("device: net_tap0", "device: \"3b:00.0\"")]),
        "x.yaml:11:13: ports[2].device: EAL's `--no-pci` hides the PCI device `3b:00.0`; replace it \
         with `-a 3b:00.0`"
    );
    assert_eq!(
        problem(&[
            ("device: net_tap0", "device: \"3b:00.0\""),
            ("\"--no-pci\"", "\"-a\", \"0000:5e:00.0\"")
        ]),
        "x.yaml:11:13: ports[2].device: EAL's `-a` and `-b` arguments leave out `3b:00.0`; add \
         `-a 3b:00.0`"
    );
    assert_eq!(
        problem(&[("name: tap", "name: left")]),
        "x.yaml:10:11: ports[2].name: the name `left` is that of ports[0]; choose another"
    );
    for name in ["a-name-of-twenty-let", "a/b", "\"a b\"", "ü"] {
        let text = problem(&[("  - name: tap", &format!("  - name: {name}"))]);
        assert!(
            text.starts_with("x.yaml:10:11: ports[2].name: ") && text.contains("at most 19"),
            "{text}"
        );
    }
    assert_eq!(
        problem(&[("mtu: 1500", "mtu: 1200")]),
        "x.yaml:5:10: ports[0].mtu: 1200 is out of range: an IPv6 MTU here is 1280..=9600"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "checksum: sometimes")]),
        "x.yaml:5:15: ports[0].checksum: unknown value `sometimes`; choose one of: auto, software, off"
    );
    assert_eq!(
        problem(&[(
            "    device: net_tap0\n",
            "    device: net_tap0\n    checksum: off\n"
        )]),
        "x.yaml:12:15: ports[2].checksum: `off` is for links only: frames of a device must carry \
         UDP checksums (RFC 8200 §8.1); use `auto` or `software`"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "rx_descriptors: 1000")]),
        "x.yaml:5:21: ports[0].rx_descriptors: 1000 does not do: give a power of two from 64 to 32768"
    );
}

#[test]
fn links() {
    assert_eq!(
        problem(&[("link: right", "link: rihgt")]),
        "x.yaml:4:11: ports[0].link: no port is called `rihgt`; did you mean `right`?"
    );
    assert_eq!(
        problem(&[
            ("link: right", "link: left"),
            ("link: left\n    addresses", "link: right\n    addresses")
        ]),
        "x.yaml:4:11: ports[0].link: a link needs two ports; name another one"
    );
    assert_eq!(
        problem(&[("link: right", "link: tap")]),
        "x.yaml:4:11: ports[0].link: the port `tap` is not linked back; give it `link: left`"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "mtu: 9000")]),
        "x.yaml:5:10: ports[0].mtu: 9000, but 1500 on `right` at the other end; make them equal"
    );
}

#[test]
fn addresses() {
    assert_eq!(
        problem(&[("fd00::2/64", "fd00::1/64")]),
        "x.yaml:9:17: ports[1].addresses[0]: fd00::1 is an address of `left` already"
    );
    assert_eq!(
        problem(&[("fd00::2/64", "10.0.0.2/8")]),
        "x.yaml:9:17: ports[1].addresses[0]: `10.0.0.2` is IPv4; the engine speaks IPv6 only"
    );
    assert_eq!(
        problem(&[("gateway: \"fe80::1\"", "gateway: \"fd00:2::1\"")]),
        "x.yaml:13:14: ports[2].gateway: fd00:2::1 lies in no prefix of the port's addresses, so it \
         cannot be reached; give a link-local address, or add the prefix to `addresses`"
    );
    assert_eq!(
        problem(&[("gateway: \"fe80::1\"", "gateway: \"fd00:1::1\"")]),
        "x.yaml:13:14: ports[2].gateway: fd00:1::1 is an address of the port itself"
    );
}

#[test]
fn queues_and_lcores() {
    assert_eq!(
        problem(&[
            ("port: tap, queue: 0", "port: left, queue: 0"),
            ("gateway", "queues: 1\n    gateway")
        ]),
        "x.yaml:13:13: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[("port: tap, queue: 0", "port: left, queue: 0")]),
        "x.yaml:10:5: ports[2]: no shard drives the port `tap`; add one or remove the port"
    );
    let two_shards_on_one_queue = [(
        "shards:\n",
        "shards:\n  - { name: twin, port: left, queue: 0, lcore: 1 }\n",
    )];
    assert_eq!(
        problem(&two_shards_on_one_queue),
        "x.yaml:16:40: shards[1].queue: the shard `twin` has queue 0 of the port `left` already, \
         and a queue is polled by one shard; choose another queue"
    );
    assert_eq!(
        problem(&[("port: tap, queue: 0", "port: tap, queue: 1")]),
        "x.yaml:10:5: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[
            ("port: tap, queue: 0", "port: tap, queue: 7"),
            ("gateway", "queues: 1\n    gateway")
        ]),
        "x.yaml:13:13: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[
            (
                "shards:\n",
                "shards:\n  - { name: high, port: left, queue: 3, lcore: 1 }\n"
            ),
            ("mtu: 1500", "queues: 1")
        ]),
        "x.yaml:15:38: shards[0].queue: the port `left` has 1 queues, counted from 0; raise its \
         `queues`, or choose a lower one"
    );
    assert_eq!(
        problem(&[(
            "port: right, queue: 0, lcore: 1",
            "port: right, queue: 0, lcore: 7"
        )]),
        "x.yaml:16:51: shards[1].lcore: lcore 7 is not in EAL's core list 0-1; add it to `-l`, or \
         choose another"
    );
    let two_queues_on_one_lcore = [(
        "shards:\n",
        "shards:\n  - { name: second, port: left, queue: 1, lcore: 0 }\n",
    )];
    assert_eq!(
        problem(&two_queues_on_one_lcore),
        "x.yaml:16:50: shards[1].lcore: lcore 0 drives the shard `second` of the same port already; \
         one lcore gains nothing from a second queue: choose another lcore"
    );
    assert_eq!(
        problem(&[(
            "port: tap, queue: 0, lcore: 0",
            "port: tap, lcore: 0, idle: busy"
        )]),
        "x.yaml:17:49: shards[2].idle: the shard `server` on the same lcore 0 has another `idle`; \
         make them equal"
    );
    assert_eq!(
        problem(&[("port: tap", "port: tab")]),
        "x.yaml:17:28: shards[2].port: no port is called `tab`; did you mean `tap`?"
    );
}

#[test]
fn eal_arguments() {
    assert_eq!(
        problem(&[("\"0-1\"", "\"zero\"")]),
        "x.yaml:1:7: eal[0]: `zero` is no list of lcores such as 0-3 or 0,2"
    );
    assert_eq!(
        problem(&[("\"--vdev=net_tap0,iface=stoq0\"", "\"--vdev\"")]),
        "x.yaml:1:58: eal[6]: `--vdev` lacks its value"
    );
    assert_eq!(
        problem(&[("\"--no-pci\"", "\"--in-memory\"")]),
        "x.yaml:1:46: eal[5]: EAL refuses `-m` with `--no-huge` and `--in-memory`; leave out \
         `--in-memory`"
    );
    let eal = ["-l", "0-1", "-m", "lots"].map(String::from).to_vec();
    let given = Given {
        eal,
        ..Given::default()
    };
    assert_eq!(
        plan_of(BASE.to_owned(), &given).unwrap_err().to_string(),
        "EAL arguments: `-m lots` is no whole number of megabytes"
    );
}

#[test]
fn memory_is_summed_over_numa_nodes() {
    let granted = |megabytes: &str| {
        let eal = vec![
            "-l0-1".to_owned(),
            "--vdev=net_tap0".to_owned(),
            megabytes.to_owned(),
        ];
        plan_of(
            BASE.to_owned(),
            &Given {
                eal,
                ..Given::default()
            },
        )
        .map(|plan| plan.memory.granted)
        .map_err(|error| error.to_string())
    };
    assert_eq!(granted("--socket-mem=256,256"), Ok(Some(512 << 20)));
    assert_eq!(granted("-m1024"), Ok(Some(1 << 30)));
    for text in [
        "--socket-mem=1,18446744073709551615",
        "--socket-mem=17592186044415,1",
    ] {
        assert!(
            granted(text)
                .unwrap_err()
                .contains("is no whole number of megabytes")
        );
    }
}

#[test]
fn too_little_memory() {
    assert_eq!(
        problem(&[("\"512\"", "\"32\"")]),
        "x.yaml:1:33: eal[3]: too little memory: EAL is given 32 MiB, and the packet pools (left \
         16 MiB, right 16 MiB, tap 15 MiB) with EAL's own data need 63 MiB; give `-m 64`, or lower \
         `memory.held_slices` or the descriptors"
    );
    let jumbo = (
        "    device: net_tap0\n",
        "    device: net_tap0\n    mtu: 9000\n",
    );
    let error = problem(&[("\"-m\", \"512\", ", ""), jumbo]);
    assert!(
        error.starts_with("x.yaml:1:20: eal[2]: too little memory: EAL is given 64 MiB"),
        "{error}"
    );
    assert_eq!(
        problem(&[("transport:", "memory: { mbufs: 512 }\ntransport:")]),
        "x.yaml:21:18: memory.mbufs: 512 is too few: the rings, bursts and caches of the port \
         `left` alone take 2944; use `auto`, or at least 2944"
    );
}

#[test]
fn identities() {
    assert_eq!(
        problem(&[(
            "    self_signed: [\"localhost\"]\n",
            "    certificate: no/such.pem\n    key: key.pem\n"
        )]),
        "x.yaml:20:18: identities[0].certificate: cannot read no/such.pem: No such file or \
         directory (os error 2)"
    );
    assert_eq!(
        problem(&[(
            "    self_signed: [\"localhost\"]\n",
            "    certificate: chain.pem\n"
        )]),
        "x.yaml:20:18: identities[0].certificate: its private key is missing; add `key`"
    );
    assert_eq!(
        problem(&[("    self_signed: [\"localhost\"]\n", "")]),
        "x.yaml:19:5: identities[0]: give `self_signed`, or `certificate` and `key`"
    );
    assert_eq!(
        problem(&[("self_signed: [\"localhost\"]", "self_signed: []")]),
        "x.yaml:20:18: identities[0].self_signed: give the names the certificate is for, such as \
         [\"localhost\"]"
    );
    assert_eq!(
        problem(&[("[\"localhost\"]", "[\"*.example.com\", \"ünter\"]")]),
        "x.yaml:20:36: identities[0].self_signed[1]: `ünter` is neither a DNS name nor an IP address"
    );
}

#[test]
fn certificate_files_are_found_beside_the_configuration_and_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let text = edited(&[
        (
            "    self_signed: [\"localhost\"]\n",
            "    certificate: chain.pem\n    key: key.pem\n",
        ),
        (
            "    shard: outside\n",
            "    shard: outside\n    client_auth: required\n    trust: { anchors: [ca.pem] }\n",
        ),
    ]);
    let (config, source) = Config::parse(&folder.path().join("x.yaml"), text).unwrap();
    let checks = Accept::default();
    let plan = Plan::new(&config, &source, &Given::default(), &checks).unwrap();
    let certificate = folder.path().join("chain.pem");
    let key = folder.path().join("key.pem");
    let expected = format!("{} {}", certificate.display(), key.display());
    assert_eq!(checks.0.into_inner(), [expected, "anchors 1".to_owned()]);
    assert_eq!(
        plan.identities[0].source,
        IdentitySource::Files { certificate, key }
    );
    let anchors = vec![folder.path().join("ca.pem")];
    assert_eq!(
        plan.shards[2].listeners[0].client_auth,
        ClientAuthPlan::Required(anchors)
    );

    let refused = Plan::new(&config, &source, &Given::default(), &Refuse)
        .unwrap_err()
        .to_string();
    let place = format!(
        "{}/x.yaml:20:18: identities[0].certificate: ",
        folder.path().display()
    );
    assert!(refused.starts_with(&place), "{refused}");
    assert!(
        refused.ends_with("chain.pem: the key is that of another certificate"),
        "{refused}"
    );
}

#[test]
fn listeners() {
    assert_eq!(
        problem(&[(
            "shard: outside\n    udp_port",
            "shard: server\n    udp_port"
        )]),
        "x.yaml:33:15: listeners[1].udp_port: the listener `main` has UDP port 4433 of the same \
         port already; choose another"
    );
    assert_eq!(
        problem(&[("shard: outside\n", "shard: [outside, server]\n")]),
        "x.yaml:32:22: listeners[1].shard[1]: the shard `server` is on another port than \
         `outside`; make a listener for each port"
    );
    assert_eq!(
        problem(&[("shard: outside\n", "shard: otuside\n")]),
        "x.yaml:32:12: listeners[1].shard: no shard is called `otuside`; did you mean `outside`?"
    );
    assert_eq!(
        problem(&[("root: .", "root: no/such")]),
        "x.yaml:30:47: listeners[0].services.hq-interop.root: cannot serve no/such: No such file \
         or directory (os error 2)"
    );
    assert_eq!(
        problem(&[("services: { echo: { early_data: true } }", "services: {}")]),
        "x.yaml:35:15: listeners[1].services: nothing is served; give `perf`, `hq-interop` or `echo`"
    );
    assert_eq!(
        problem(&[(
            "    shard: outside\n",
            "    shard: outside\n    client_auth: required\n"
        )]),
        "x.yaml:33:18: listeners[1].client_auth: say what clients' certificates must lead up to: \
         add `trust: { anchors: [ca.pem] }`"
    );
    assert_eq!(
        problem(&[(
            "    shard: outside\n",
            "    shard: outside\n    trust: { anchors: [ca.pem] }\n"
        )]),
        "x.yaml:33:12: listeners[1].trust: clients are not asked for certificates; set \
         `client_auth` to `optional` or `required`, or remove `trust`"
    );
    assert_eq!(
        problem(&[(
            "identity: own\n    services: { perf",
            "identity: none\n    services: { perf"
        )]),
        "x.yaml:29:15: listeners[0].identity: no identity is called `none`; there are: own"
    );
}

#[test]
fn a_listener_on_some_of_the_shards_is_worth_a_note() {
    let text = edited(&[(
        "shards:\n",
        "shards:\n  - { name: second, port: left, queue: 1, lcore: 1 }\n  - { name: third, port: right, queue: 1, lcore: 0 }\n",
    )]);
    let plan = plan_of(text, &Given::default()).unwrap();
    assert_eq!(plan.ports[0].queues, 2);
    assert_eq!(
        plan.notes,
        [
            "the listener `main` runs on 1 of the 2 shards of its port; datagrams that RSS gives to \
          the others are dropped"
        ]
    );
}

#[test]
fn several_queues_of_a_device_are_worth_a_note() {
    let text = edited(&[(
        "shards:\n",
        "shards:\n  - { name: second, port: tap, queue: 1, lcore: 1 }\n",
    )]);
    let plan = plan_of(text, &Given::default()).unwrap();
    let note = "the port `tap` has 2 queues";
    let found = plan.notes.iter().filter(|text| text.starts_with(note));
    assert_eq!(found.count(), 1, "{:?}", plan.notes);
}

#[test]
fn early_data_on_a_single_connection_is_worth_a_note() {
    let perf = "perf: { download: 1MiB, requests: 10 }";
    let notes = |client: &str| {
        let plan = plan_of(edited(&[(perf, client)]), &Given::default());
        plan.unwrap().notes.len()
    };
    assert_eq!(notes("early_data: true\n    perf: {}"), 1);
    assert_eq!(
        notes("early_data: true\n    connections: 2\n    perf: {}"),
        0
    );
}

#[test]
fn clients() {
    let perf = "perf: { download: 1MiB, requests: 10 }";
    assert_eq!(
        problem(&[(perf, "connections: 2")]),
        "x.yaml:37:5: clients[0]: the client `bulk` does nothing; give `perf`, `hq` or `echo`"
    );
    assert_eq!(
        problem(&[(perf, "perf: {}\n    echo: {}")]),
        "x.yaml:37:5: clients[0]: the client `bulk` does several things; make a client for each of \
         `perf`, `hq`, `echo`"
    );
    assert_eq!(
        problem(&[(perf, "connections: 101\n    perf: {}")]),
        "x.yaml:41:18: clients[0].connections: the clients of the shard `client` open 101 \
         connections, and `limits.connections` is 100; raise it"
    );
    assert_eq!(
        problem(&[("trust: { identity: own }", "trust: {}")]),
        "x.yaml:40:12: clients[0].trust: give exactly one of `anchors`, `identity`, `fingerprint`, \
         `insecure: true`"
    );
    assert_eq!(
        problem(&[("[fd00::1]:4433", "[fd00::2]:4433")]),
        "x.yaml:39:13: clients[0].remote: fd00::2 is an address of this client's own port `right`; \
         name the server's"
    );
    assert_eq!(
        problem(&[(perf, "hq: { paths: [\"big.bin\"] }")]),
        "x.yaml:41:19: clients[0].hq.paths[0]: `big.bin` needs a leading slash: write `/big.bin`"
    );
    assert_eq!(
        problem(&[(perf, "echo: { datagrams: true, size: 2kB }")]),
        "x.yaml:41:36: clients[0].echo.size: 2000 is out of range: an unreliable datagram here has \
         8..=1408 bytes"
    );
    assert_eq!(
        problem(&[(perf, "perf: { rate: 100 }")]),
        "x.yaml:41:19: clients[0].perf.rate: `100` has no unit: write `100/s`"
    );
    for path in ["/a/../b", "//x", "/a\\\\b"] {
        let text = problem(&[(perf, &format!("hq: {{ paths: [\"{path}\"] }}"))]);
        assert!(
            text.starts_with("x.yaml:41:19: clients[0].hq.paths[0]: ")
                && text.contains("name a file plainly"),
            "{text}"
        );
    }
    assert_eq!(
        problem(&[(perf, "server_name: \"foo bar\"\n    perf: {}")]),
        "x.yaml:41:18: clients[0].server_name: `foo bar` is neither a DNS name nor an IP address"
    );
}

#[test]
fn echo_datagrams_are_one_at_a_time_or_as_many_as_streams_says() {
    for (text, expected) in [
        ("echo: { datagrams: true }", 1),
        ("echo: { datagrams: true, streams: 7 }", 7),
    ] {
        let perf = "perf: { download: 1MiB, requests: 10 }";
        let plan = plan_of(edited(&[(perf, text)]), &Given::default()).unwrap();
        let client = plan.shards.iter().find_map(|shard| shard.clients.first());
        let Load::Echo(load) = &client.unwrap().load else {
            panic!("{client:?}");
        };
        assert_eq!((load.datagrams, load.streams), (true, expected));
    }
}

#[test]
fn transport_and_limits() {
    assert_eq!(
        problem(&[("initial_mtu: 1200", "initial_mtu: 4000")]),
        "x.yaml:22:16: transport.initial_mtu: 4000 is out of range: 1200..=1452 bytes of UDP \
         payload; MTU discovery goes on from there"
    );
    assert_eq!(
        problem(&[
            ("initial_mtu: 1200", "initial_mtu: 1300"),
            ("device: net_tap0", "device: net_tap0\n    mtu: 1280")
        ]),
        "x.yaml:23:16: transport.initial_mtu: 1300 does not fit the port `tap`: its MTU of 1280 \
         leaves 1232 bytes of UDP payload"
    );
    assert_eq!(
        problem(&[(
            "initial_mtu: 1200",
            "receive_window: 1MiB\n  stream_receive_window: 2MiB"
        )]),
        "x.yaml:23:26: transport.stream_receive_window: 2MiB is more than the connection's \
         receive_window of 1MiB; a stream cannot use it"
    );
    assert_eq!(
        problem(&[("initial_mtu: 1200", "keep_alive: 1m")]),
        "x.yaml:22:15: transport.keep_alive: 1m comes too late: connections are lost after an \
         idle_timeout of 30s"
    );
    assert_eq!(
        problem(&[("connections: 100", "connections: 0")]),
        "x.yaml:24:16: limits.connections: 0 is out of range: 1..=16777216"
    );
    let small = plan_of(
        edited(&[("initial_mtu: 1200", "receive_window: 1MiB")]),
        &Given::default(),
    );
    assert_eq!(small.unwrap().transport.stream_receive_window, 1 << 20);
}

#[test]
fn metrics() {
    let with = |listen: &str| {
        edited(&[(
            "run:\n",
            &format!("metrics: {{ listen: \"{listen}\" }}\nrun:\n"),
        )])
    };
    let plan = plan_of(with("[::1]:9464"), &Given::default()).unwrap();
    let listen = plan.metrics.unwrap().listen;
    assert_eq!(listen, "[::1]:9464".parse().unwrap());
    assert!(plan.notes.is_empty());
    assert!(plan.to_string().contains("http://[::1]:9464/metrics"));
    assert!(base().metrics.is_none());

    let open = plan_of(with("[::]:9464"), &Given::default()).unwrap();
    assert!(open.notes[0].starts_with("metrics are served at [::]:9464 to whoever"));
    let error = |listen| {
        plan_of(with(listen), &Given::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("[fd00::1]:9464"),
        "x.yaml:42:20: metrics.listen: fd00::1 is an address of the port `left`, which the kernel \
         knows nothing of; choose one of the kernel's, such as [::1]:9464"
    );
    assert_eq!(
        error("9464"),
        "x.yaml:42:20: metrics.listen: `9464` is not an address with a TCP port such as [::1]:9464"
    );
}

#[test]
fn run() {
    assert_eq!(
        problem(&[("duration: 10s", "duration: 500ms")]),
        "x.yaml:44:13: run.duration: a run of 500ms ends within its warm-up of 1s; make it longer, \
         or lower `warmup`"
    );
    let given = Given {
        duration: Some(Duration::from_secs(1)),
        ..Given::default()
    };
    assert_eq!(
        plan_of(BASE.to_owned(), &given).unwrap_err().to_string(),
        "x.yaml:43:11: run.warmup: a run of 1s ends within its warm-up of 1s; make it longer, or \
         lower `warmup`"
    );
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

#[test]
fn the_plan_is_shown_as_tables_and_as_json() {
    let plan = base();
    let text = plan.to_string();
    for expected in [
        "port   kind            MTU  queues  rx desc  tx desc  mbufs  data room  checksum  tx path   addresses\n",
        "tap    net_tap0       1500       1     1024     1024   6592       2176  software  in place  fd00:1::1/64, link-local, gateway fe80::1\n",
        "server   left       0      0  adaptive          1        0\n",
        "other     outside  [::]:4433  own       nothing       echo with 0-RTT\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["run"]["duration_s"], 10.0);
    assert_eq!(json["ports"][0]["kind"]["link"]["peer"], 1);
    assert_eq!(
        json["shards"][2]["listeners"][0]["services"][0]["echo"]["early_data"],
        true
    );
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn every_file_in_configs_is_a_plan() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(configs()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let (config, source) = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        Plan::new(&config, &source, &Given::default(), &Accept::default())
            .unwrap_or_else(|error| panic!("{error}"));
        names.push(file.file_stem().unwrap().to_string_lossy().into_owned());
    }
    for name in [
        "loopback",
        "tap",
        "null",
        "memif-server",
        "memif-client",
        "af_packet",
        "af_packet-client",
        "nic",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "configs/{name}.yaml is missing"
        );
    }
}

/// Whatever is cut off or damaged: an error with a place, never a panic.
#[test]
fn damaged_files_are_errors() {
    let text = std::fs::read_to_string(configs().join("loopback.yaml")).unwrap();
    let outcome = |text: String| match plan_of(text, &Given::default()) {
        Ok(_) => {}
        Err(ConfigError::At { line, column, .. }) => assert!(line > 0 && column > 0),
        Err(error) => panic!("no place: {error}"),
    };
    for (start, _) in text.match_indices('\n') {
        outcome(text[..start].to_owned());
        outcome(text[start..].to_owned());
    }
    for (index, damage) in [": ", "- ", "{", "]", "\"", "\t", "&a", "*a", "\0"]
        .iter()
        .enumerate()
    {
        for (start, _) in text.match_indices(": ").skip(index).step_by(9) {
            outcome(format!("{}{damage}{}", &text[..start], &text[start + 2..]));
        }
    }
}

/// Asks the parser which keys a section has, and looks for an explanation of each in the reference file.
#[test]
fn loopback_yaml_explains_every_key() {
    let reference = std::fs::read_to_string(configs().join("loopback.yaml")).unwrap();
    let sections = [
        "",
        "ports: [{ name: a, ",
        "memory: { ",
        "shards: [{ name: a, ",
        "identities: [{ name: a, ",
        "transport: { ",
        "transport: { ack_frequency: { ",
        "limits: { ",
        "metrics: { ",
        "listeners: [{ name: a, ",
        "listeners: [{ trust: { ",
        "listeners: [{ services: { ",
        "listeners: [{ services: { hq-interop: { ",
        "clients: [{ name: a, ",
        "clients: [{ trust: { ",
        "clients: [{ perf: { ",
        "clients: [{ hq: { ",
        "clients: [{ echo: { ",
        "run: { ",
    ];
    let mut keys_seen = 0;
    for section in sections {
        let closing: String = section
            .chars()
            .rev()
            .filter_map(|c| match c {
                '{' => Some('}'),
                '[' => Some(']'),
                _ => None,
            })
            .collect();
        let text = format!("{section}zzzzzzzzzz: 0{closing}\n");
        let error = Config::parse(Path::new("x"), text)
            .map(|(config, _)| config)
            .unwrap_err();
        let error = error.to_string();
        let (_, keys) = error
            .split_once("the keys here are: ")
            .unwrap_or_else(|| panic!("{error}"));
        for key in keys.split(", ") {
            assert!(
                reference
                    .lines()
                    .any(|line| line.contains(&format!("{key}:"))),
                "configs/loopback.yaml does not explain `{key}` ({section})"
            );
            keys_seen += 1;
        }
    }
    assert!(keys_seen > 80, "{keys_seen}");
}
