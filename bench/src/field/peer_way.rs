//! A measurement of another stack: a server and a client of `bench/peers`, each a process on a CPU of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use stoq::transport::IPV6_UDP_HEADERS;

use super::case::Case;
use super::peer::{ClientSpec, Hello, MTU_SHARE_MIN, PathSpec, ServerSpec};
use super::way::{Medium, Way};
use super::wire::{SERVER, Wire};
use crate::child::run_json;
use crate::scale::figures::Figures;
use crate::scale::{CLIENT_CPU, SERVER_CPU};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Place {
    /// The program of the other stacks.
    pub peer: PathBuf,
    /// The engine.
    pub engine: PathBuf,
    /// `scale`, which measures what the engine's own clients do not do.
    pub scale: PathBuf,
    /// For configurations, logs and the identity of servers.
    pub folder: PathBuf,
}

/// Measures `case` once.
///
/// # Errors
/// Why there is no figure.
pub fn measure(
    place: &Place,
    way: Way,
    case: Case,
    seconds: f64,
    quick: bool,
) -> Result<Figures, String> {
    let wire = Wire::lay(way.medium, case.mtu())?;
    let stack = way.stack.to_string();
    let path = |cpu| PathSpec {
        work: case.work(),
        identity: place.folder.clone(),
        udp_payload: case.mtu() - IPV6_UDP_HEADERS,
        no_segmentation: way.medium == Medium::VethSingle,
        busy: case.polls(),
        cpu,
    };
    let host = match way.medium {
        Medium::Loopback => "::1",
        _ => SERVER,
    };
    let at = |udp_port| -> Result<SocketAddr, String> {
        let host = host.parse().map_err(|error| format!("{host}: {error}"))?;
        Ok(SocketAddr::new(host, udp_port))
    };
    let spec = ServerSpec {
        listen: at(0)?,
        path: path(SERVER_CPU),
    };
    let mut command = wire.server(&place.peer);
    command.args(spec.arguments(&stack));
    let (server, hello) = Server::start(command)?;
    let spec = ClientSpec {
        connect: at(hello.udp_port)?,
        server_pid: server.0.id(),
        path: path(CLIENT_CPU),
        load: case.load(seconds, quick),
    };
    let mut command = wire.client(&place.peer);
    command.args(spec.arguments(&stack));
    let limit = spec.load.warm_up() + spec.load.length() + super::OVERHEAD_MAX;
    let figures =
        run_json(&mut command, &place.folder, limit).map_err(|error| error.to_string())?;
    let mut figures: Figures =
        serde_json::from_value(figures).map_err(|error| error.to_string())?;
    drop(server);
    judge(way, case, &wire, &mut figures);
    Ok(figures)
}

/// Whether packets had the size that the medium is named for.
fn judge(way: Way, case: Case, wire: &Wire, figures: &mut Figures) {
    let mtu = f64::from(case.mtu());
    if let Some(mean) = wire.packet_mean() {
        figures.add("packet on the wire", "B", mean);
        if way.medium != Medium::Veth && mean > mtu {
            figures
                .problems
                .push(format!("packets of {mean:.0} bytes were not cut to {mtu}"));
        }
    }
    let full = mtu - f64::from(IPV6_UDP_HEADERS);
    if let Some(payload) = figures.value("UDP payload")
        && payload < full * MTU_SHARE_MIN
    {
        figures
            .problems
            .push(format!("datagrams had {payload} bytes at most, not {full}"));
    }
}

/// A process that listens; it ends with this value.
struct Server(Child);

impl Server {
    fn start(mut command: Command) -> Result<(Self, Hello), String> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let mut server = Self(child);
        let output = server.0.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        let hello = serde_json::from_str(&line)
            .map_err(|error| format!("the server said {line:?}: {error}"))?;
        Ok((server, hello))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the identity of all servers: ECDSA P-256, signed by itself, for [`SERVER_NAME`](crate::settings::SERVER_NAME).
///
/// # Errors
/// No randomness, or the files cannot be written.
pub fn make_identity(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let names = vec![crate::settings::SERVER_NAME.to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    std::fs::write(folder.join(super::peer::CERTIFICATE), made.cert.pem())?;
    std::fs::write(
        folder.join(super::peer::KEY),
        made.signing_key.serialize_pem(),
    )?;
    Ok(())
}
