//! Where packets cross the kernel: network namespaces with a veth pair between them, or a bridge for TAP interfaces.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::way::Medium;

/// The server's address on a wire.
pub const SERVER: &str = "fd00:5701::1";
/// The client's.
pub const CLIENT: &str = "fd00:5701::2";
/// The interface in each namespace of a veth pair.
pub const INTERFACE: &str = "wire";
/// The interface that joins TAP interfaces.
const BRIDGE: &str = "bridge";
/// How the names of namespaces begin; the number of the process that made it follows, then one of its own.
const PREFIX: &str = "stoq-field-";
/// How long an interface may take to appear.
const APPEAR_MAX: Duration = Duration::from_secs(10);
/// Time between two looks for it.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of an Ethernet frame that are not of its IP packet.
const ETHERNET: f64 = 14.0;

/// Namespaces that a measurement runs in. They and their interfaces are gone when this is dropped.
pub struct Wire {
    server: Option<Namespace>,
    client: Option<Namespace>,
}

impl Wire {
    /// What `medium` needs, for IP packets of `mtu` bytes. Some media need nothing; the others need root and `ip`.
    ///
    /// # Errors
    /// A command fails; the message has it.
    pub fn lay(medium: Medium, mtu: u16) -> Result<Self, String> {
        match medium {
            Medium::Loopback | Medium::Link | Medium::Memif => Ok(Self {
                server: None,
                client: None,
            }),
            Medium::Veth
            | Medium::VethCut
            | Medium::VethSingle
            | Medium::AfPacket
            | Medium::AfXdp => Self::veth(medium, mtu),
            Medium::Tap => Self::bridge(),
        }
    }

    fn veth(medium: Medium, mtu: u16) -> Result<Self, String> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let mtu = mtu.to_string();
        run(
            "ip",
            [
                "link",
                "add",
                INTERFACE,
                "netns",
                &server.name,
                "mtu",
                &mtu,
                "type",
                "veth",
                "peer",
                "name",
                INTERFACE,
                "netns",
                &client.name,
                "mtu",
                &mtu,
            ],
        )?;
        for (end, address) in [(&server, SERVER), (&client, CLIENT)] {
            match medium {
                // The engine is the host there, not the kernel.
                Medium::AfPacket | Medium::AfXdp => {
                    let key = format!("net.ipv6.conf.{INTERFACE}.disable_ipv6=1");
                    end.run("sysctl", ["-q", &key])?;
                }
                _ => {
                    let address = format!("{address}/64");
                    end.ip(["address", "add", &address, "dev", INTERFACE, "nodad"])?;
                }
            }
            if medium != Medium::Veth {
                let off = ["gso", "tso", "gro", "tx-udp-segmentation"];
                let off = off.into_iter().flat_map(|feature| [feature, "off"]);
                end.run("ethtool", ["-K", INTERFACE].into_iter().chain(off))?;
            }
            end.ip(["link", "set", INTERFACE, "up"])?;
        }
        Ok(Self {
            server: Some(server),
            client: Some(client),
        })
    }

    fn bridge() -> Result<Self, String> {
        let namespace = Namespace::new()?;
        namespace.ip([
            "link",
            "add",
            BRIDGE,
            "type",
            "bridge",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        namespace.ip(["link", "set", BRIDGE, "up"])?;
        Ok(Self {
            server: Some(namespace),
            client: None,
        })
    }

    /// A command that runs `program` where the server is.
    pub fn server(&self, program: impl AsRef<OsStr>) -> Command {
        inside(self.server.as_ref(), program)
    }

    /// A command that runs `program` where the client is.
    pub fn client(&self, program: impl AsRef<OsStr>) -> Command {
        inside(self.client.as_ref().or(self.server.as_ref()), program)
    }

    /// Waits for a TAP interface, and joins it to the bridge.
    ///
    /// # Errors
    /// It does not appear, or there is no bridge.
    pub fn join(&self, interface: &str) -> Result<(), String> {
        let namespace = self.server.as_ref().ok_or("there is no bridge")?;
        let start = Instant::now();
        while namespace.ip(["link", "show", interface]).is_err() {
            if start.elapsed() > APPEAR_MAX {
                return Err(format!("interface {interface} did not appear"));
            }
            sleep(LOOK);
        }
        namespace.ip(["link", "set", interface, "master", BRIDGE, "up"])
    }

    /// Mean size of the IP packets that the client's interface received, bytes; nothing where there is none.
    pub fn packet_mean(&self) -> Option<f64> {
        let namespace = self.client.as_ref()?;
        let arguments = ["-n", &namespace.name, "-s", "-j", "link", "show", INTERFACE];
        let output = Command::new("ip").args(arguments).output().ok()?;
        let links: Value = serde_json::from_slice(&output.stdout).ok()?;
        let received = links.pointer("/0/stats64/rx")?;
        let number = |key: &str| received.get(key).and_then(Value::as_f64);
        Some(number("bytes")? / number("packets")? - ETHERNET)
    }
}

/// Removes namespaces of runs that were interrupted.
pub fn remove_stale() {
    let entries = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some((process, _)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            // One that cannot be removed is in nobody's way.
            let _ = run("ip", ["netns", "delete", &name]);
        }
    }
}

struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        run("ip", ["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn ip<const N: usize>(&self, arguments: [&str; N]) -> Result<(), String> {
        run("ip", ["-n", &self.name].into_iter().chain(arguments))
    }

    fn run<'a>(
        &'a self,
        program: &'a str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), String> {
        let inside = ["netns", "exec", &self.name, program];
        run("ip", inside.into_iter().chain(arguments))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing to do about a failure here: the namespace then lasts until the machine stops.
        let _ = run("ip", ["netns", "delete", &self.name]);
    }
}

fn inside(namespace: Option<&Namespace>, program: impl AsRef<OsStr>) -> Command {
    let Some(namespace) = namespace else {
        return Command::new(program);
    };
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &namespace.name])
        .arg(program);
    command
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let line = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(&arguments).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} is missing: install it"),
        _ => format!("{}: {error}", line()),
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}: {}",
            line(),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
