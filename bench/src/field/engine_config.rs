//! The configurations of the engine's measurements: one process with both ends of a link, or one for each end.

use std::path::Path;
use std::time::Duration;

use super::case::{Case, REQUEST};
use super::peer::{CERTIFICATE, HEADER, KEY, Load, Work};
use super::way::Medium;
use super::wire::{CLIENT, INTERFACE, SERVER};
use crate::settings::SERVER_NAME;

/// Where listeners are.
const UDP_PORT: u16 = 4433;
/// The server's TAP interface, and the client's.
pub const TAPS: [&str; 2] = ["field-a", "field-b"];

/// What a configuration is about.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What packets cross.
    pub medium: Medium,
    /// What is done.
    pub case: Case,
    /// How much of it.
    pub load: Load,
    /// Folder of the identity, and of the socket of memif.
    pub folder: &'a Path,
    /// What is left out at the start.
    pub warm_up: Duration,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Server,
    Client,
}

impl Setting<'_> {
    /// Both ends of a link.
    pub fn link(&self) -> String {
        let mtu = self.case.mtu();
        let idle = self.idle();
        format!(
            r#"eal: ["-l", "0-1", "--no-huge", "-m", "512", "--no-pci", "--no-shconf"]
ports:
  - {{ name: left, link: right, mtu: {mtu}, addresses: ["{SERVER}/64"] }}
  - {{ name: right, link: left, mtu: {mtu}, addresses: ["{CLIENT}/64"] }}
shards:
  - {{ name: server, port: left, lcore: 0, idle: {idle} }}
  - {{ name: client, port: right, lcore: 1, idle: {idle} }}
{}{}{}"#,
            self.identity(),
            self.listener(),
            self.client_load()
        )
    }

    /// The process of the server.
    pub fn server(&self) -> String {
        self.head(End::Server) + &self.identity() + &self.listener()
    }

    /// The process of the client.
    pub fn client(&self) -> String {
        self.head(End::Client) + &self.identity() + &self.client_load()
    }

    fn head(&self, end: End) -> String {
        let (name, lcore, address) = match end {
            End::Server => ("server", 0, SERVER),
            End::Client => ("client", 1, CLIENT),
        };
        let (device, vdev) = self.device(end);
        // The link of memif comes up when the other end connects.
        let link_up_timeout = match (self.medium, end) {
            (Medium::Memif, End::Server) => "100ms",
            _ => "5s",
        };
        format!(
            r#"eal: ["-l", "{lcore}", "--no-huge", "-m", "512", "--no-pci", "--no-shconf", "--vdev={vdev}"]
ports:
  - {{ name: wire, device: {device}, mtu: {}, addresses: ["{address}/64"], link_up_timeout: {link_up_timeout} }}
shards:
  - {{ name: {name}, port: wire, lcore: {lcore}, idle: {} }}
"#,
            self.case.mtu(),
            self.idle()
        )
    }

    /// The device of an end, and how EAL makes it.
    fn device(&self, end: End) -> (&'static str, String) {
        match self.medium {
            Medium::AfPacket => (
                "net_af_packet0",
                format!("net_af_packet0,iface={INTERFACE},qdisc_bypass=1"),
            ),
            Medium::AfXdp => ("net_af_xdp0", format!("net_af_xdp0,iface={INTERFACE}")),
            Medium::Tap => {
                let [server, client] = TAPS;
                let interface = if end == End::Server { server } else { client };
                ("net_tap0", format!("net_tap0,iface={interface}"))
            }
            _ => {
                let role = if end == End::Server {
                    "server"
                } else {
                    "client"
                };
                let socket = self.folder.join("memif.sock");
                // A buffer has to hold a whole frame: frames over several of them arrive garbled (DPDK 22.11).
                let buffer = if self.case.mtu() > 1500 { 9216 } else { 2048 };
                let vdev = format!(
                    "net_memif0,role={role},socket={},socket-abstract=no,rsize=10,bsize={buffer}",
                    socket.display()
                );
                ("net_memif0", vdev)
            }
        }
    }

    /// Bulk transfers and polling cases take their lcores whole; the others sleep when there is no work.
    fn idle(&self) -> &'static str {
        match self.case.polls() || self.case.work() == Work::Bulk {
            true => "busy",
            false => "adaptive",
        }
    }

    fn identity(&self) -> String {
        let [certificate, key] = [CERTIFICATE, KEY].map(|file| self.folder.join(file));
        format!(
            "identities:\n  - {{ name: field, certificate: {}, key: {} }}\n",
            certificate.display(),
            key.display()
        )
    }

    fn listener(&self) -> String {
        format!(
            r#"listeners:
  - name: main
    shard: server
    udp_port: {UDP_PORT}
    identity: field
    services: {{ perf: {{}}, echo: {{}} }}
"#
        )
    }

    fn client_load(&self) -> String {
        let Load {
            connections,
            outstanding,
            answer,
            ..
        } = self.load;
        let each = outstanding / connections.max(1);
        let load = match self.case.work() {
            Work::Datagrams => {
                format!("echo: {{ streams: {each}, size: {answer}B, datagrams: true }}")
            }
            Work::Bulk => {
                format!("perf: {{ streams: {each}, upload: 0, download: {answer}, repeat: true }}")
            }
            _ => {
                let upload = REQUEST - HEADER as u64; // The header is beside it.
                format!(
                    "perf: {{ streams: {each}, upload: {upload}, download: {answer}, repeat: true }}"
                )
            }
        };
        format!(
            r#"clients:
  - name: load
    shard: client
    remote: "[{SERVER}]:{UDP_PORT}"
    server_name: {SERVER_NAME}
    trust: {{ identity: field }}
    connections: {connections}
    {load}
run:
  warmup: {}ms
"#,
            self.warm_up.as_millis()
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use stoq::config::Config;
    use stoq::plan::{Given, Plan};
    use stoq::run::TlsChecks;

    use super::*;
    use crate::field::peer_way::make_identity;
    use crate::field::way::{Stack, Way};

    fn check(yaml: String) {
        let file = Path::new("field.yaml");
        let given = Given {
            cpus: vec![0, 1],
            ..Given::default()
        };
        let planned = Config::parse(file, yaml.clone())
            .and_then(|(config, source)| Plan::new(&config, &source, &given, &TlsChecks));
        assert!(planned.is_ok(), "{:?}\n{yaml}", planned.err());
    }

    #[test]
    fn the_engine_takes_every_configuration() {
        let folder = std::env::temp_dir().join(format!("stoq-field-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        make_identity(&folder).unwrap();
        let engine = |way: &Way| way.stack == Stack::Engine;
        for way in Way::all().into_iter().filter(engine) {
            for &case in Case::value_variants() {
                let setting = Setting {
                    medium: way.medium,
                    case,
                    load: case.load(1.0, false),
                    folder: &folder,
                    warm_up: Duration::from_millis(500),
                };
                if !way.runs(case) || case == Case::Idle {
                    continue;
                }
                if way.medium == Medium::Link {
                    check(setting.link());
                } else {
                    check(setting.server());
                    check(setting.client());
                }
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
