//! The engine on a TAP port, and room for a peer on the kernel's side of it.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Engine, Namespace, Need, Outcome, Pki, Turn};

/// The engine's address.
pub const ENGINE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 1);
/// The address of the kernel's end of the TAP interface.
pub const KERNEL_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2);
/// UDP port that servers listen on in these tests.
pub const SERVER_PORT: u16 = 4433;

/// The kernel's end of the link.
const INTERFACE: &str = "stoq0";
/// IP MTU of the link.
const MTU: u16 = 1500;

/// A network namespace in which an engine holds one end of a TAP interface and the kernel the
/// other. Nothing else runs an engine while it lives.
pub struct TapLab {
    // In the order of dropping: the engine before its namespace, the turn last.
    engine: Option<Engine>,
    namespace: Namespace,
    /// Certificates of this test.
    pub pki: Pki,
    folder: TempDir,
    queues: u16,
    _turn: Turn,
}

impl TapLab {
    /// Prepares everything but the engine; `None` when the machine cannot (the reason is printed).
    pub fn new(needs: &[Need]) -> Option<Self> {
        let turn = Turn::take(&[&[Need::Root, Need::Tun, Need::Ip], needs].concat())?;
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target is writable");
        let pki = Pki::new(folder.path());
        std::fs::create_dir(folder.path().join("www")).expect("the test folder is writable");
        let namespace = Namespace::new();
        Some(Self {
            engine: None,
            namespace,
            pki,
            folder,
            queues: 1,
            _turn: turn,
        })
    }

    /// As `new`, for an engine with two queues on its port, and a shard with an lcore for each:
    /// `server` and `server-1`.
    pub fn with_two_queues() -> Option<Self> {
        let lab = Self::new(&[Need::TwoCpus])?;
        Some(Self { queues: 2, ..lab })
    }

    /// The folder of the test, removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that hq-interop servers serve.
    pub fn www(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// Starts the engine with the usual listener: perf, hq-interop (with early data) and echo.
    pub fn serve(&mut self) {
        self.serve_with("");
    }

    /// As `serve`, with more lines of YAML for the listener, each indented by four spaces.
    pub fn serve_with(&mut self, listener_lines: &str) {
        let www = self.www();
        self.listen(&format!(
            "    services:
      perf: {{}}
      hq-interop: {{ root: {}, early_data: true }}
      echo: {{}}
{listener_lines}",
            www.display()
        ));
    }

    /// Starts the engine with a listener that consists of these lines, indented by four spaces,
    /// beside its identity and UDP port.
    pub fn listen(&mut self, listener_lines: &str) {
        let Pki { server, .. } = &self.pki;
        let (certificate, key) = (server.certificate.display(), server.key.display());
        let shards = match self.queues {
            1 => "server",
            _ => "[server, server-1]",
        };
        self.start(&format!(
            "identities:
  - {{ name: server, certificate: {certificate}, key: {key} }}
listeners:
  - name: main
    shard: {shards}
    udp_port: {SERVER_PORT}
    identity: server
{listener_lines}
"
        ));
    }

    /// Starts the engine as a client of `KERNEL_ADDRESS` that trusts the authority; `work` is the
    /// YAML of what it does, in lines indented by four spaces. The server must run already.
    pub fn connect(&mut self, work: &str) {
        self.connect_from("server", work);
    }

    /// As `connect`, with a client that runs on the shard of this name.
    pub fn connect_from(&mut self, shard: &str, work: &str) {
        let anchor = self.pki.anchor.display();
        self.start(&format!(
            "clients:
  - name: work
    shard: {shard}
    remote: \"[{KERNEL_ADDRESS}]:{SERVER_PORT}\"
    server_name: localhost
    trust: {{ anchors: [{anchor}] }}
{work}
"
        ));
    }

    /// Starts the engine with its TAP port, its shards, and `yaml` after that.
    pub fn start(&mut self, yaml: &str) {
        let yaml = self.ports_and_shards() + yaml;
        self.start_whole(&yaml);
    }

    /// Starts another program on the TAP port: `command` makes it from the file with its ports and
    /// shards. The engine of this laboratory is then that program.
    pub fn start_program(&mut self, command: impl FnOnce(&Path) -> Command + Send) {
        let yaml = self.ports_and_shards();
        self.spawn(&yaml, |config| Engine::spawn(command(config)));
    }

    /// The TAP port, and its shards.
    fn ports_and_shards(&self) -> String {
        let (lcores, second) = match self.queues {
            1 => ("0", ""),
            _ => (
                "0-1",
                "  - { name: server-1, port: tap, queue: 1, lcore: 1, idle: adaptive }\n",
            ),
        };
        format!(
            "eal: [\"-l\", \"{lcores}\", \"--no-huge\", \"-m\", \"512\", \"--no-pci\", \"--no-shconf\", \"--vdev=net_tap0,iface={INTERFACE}\"]
ports:
  - {{ name: tap, device: net_tap0, mtu: {MTU}, addresses: [\"{ENGINE_ADDRESS}/64\"] }}
shards:
  - {{ name: server, port: tap, queue: 0, lcore: 0, idle: adaptive }}
{second}"
        )
    }

    /// Starts the engine with a configuration of its own. Its TAP interface is `stoq0`.
    pub fn start_whole(&mut self, yaml: &str) {
        self.spawn(yaml, Engine::run);
        self.engine().wait_until_ready();
    }

    fn spawn(&mut self, yaml: &str, start: impl FnOnce(&Path) -> Engine + Send) {
        let config = self.folder.path().join("engine.yaml");
        std::fs::write(&config, yaml).expect("the test folder is writable");
        self.engine = Some(self.namespace.inside(|| start(&config)));
        // The interface is there before the engine is ready, and a client that finds its peer
        // without an address would wait a second for the next solicitation.
        self.link_up();
    }

    /// Gives the kernel's end of the link its address and brings it up.
    pub fn link_up(&self) {
        self.namespace
            .configure(INTERFACE, &format!("{KERNEL_ADDRESS}/64"), MTU);
    }

    /// Takes the link down. The kernel forgets the address of its end.
    pub fn link_down(&self) {
        self.namespace.ip(&["link", "set", INTERFACE, "down"]);
    }

    /// Deletes the interface under the engine.
    pub fn delete_link(&self) {
        self.namespace.ip(&["link", "delete", INTERFACE]);
    }

    /// The engine's process.
    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the test started the engine")
    }

    /// Asks the engine to end, and waits.
    pub fn stop(&mut self) -> Outcome {
        self.engine
            .take()
            .expect("the test started the engine")
            .stop()
    }

    /// The engine's process, to be waited for.
    pub fn take_engine(&mut self) -> Engine {
        self.engine.take().expect("the test started the engine")
    }

    /// Where the engine listens.
    pub fn server_address(&self) -> SocketAddrV6 {
        SocketAddrV6::new(ENGINE_ADDRESS, SERVER_PORT, 0, 0)
    }

    /// Calls `f` on the kernel's side.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(f)
    }

    /// A UDP socket on the kernel's side, on any port or a given one.
    pub fn socket(&self, udp_port: u16) -> UdpSocket {
        let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, udp_port, 0, 0);
        self.inside(move || UdpSocket::bind(address).expect("the namespace is empty"))
    }
}
