//! A measurement of quinn over kernel sockets: a server on CPU 0 and a client on CPU 1, each on one thread of a process
//! of its own.
//!
//! For [`Case::Scaling`] it is this process alone: on each CPU a thread with a server, its client, and a runtime for
//! both.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::case::{Case, Spec};
use super::control::{self, Environment};
use super::figures::Figures;
use super::flood::Flood;
use super::load::{Load, Work};
use super::process::Process;
use super::quinn_load::{self, Target};
use super::quinn_server::{
    Hello, client_endpoint, endpoint, pin, poll_without_sleep, runtime, serve, socket, transport,
};
use super::{CLIENT_CPU, initials, quinn_flood, secrets};

/// Runs the measurement.
///
/// # Errors
/// No sockets, or the server does not start.
pub fn run(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    match spec.case {
        Case::Scaling => run_pairs(spec),
        _ => run_two_processes(spec),
    }
}

fn run_two_processes(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let mut server = Server::start(spec)?;
    let hello = server.hello()?;
    let remote = SocketAddr::from((Ipv6Addr::LOCALHOST, hello.udp_port));
    let clients = Clients::new(spec, CertificateDer::from(hello.certificate));
    let mut flood = None;
    if spec.initials() > 0 {
        let valid = initials::valid(spec.initials(), &clients.config(false)?)?;
        let invalid = initials::invalid(&valid);
        let shared = Arc::new(Flood::new(valid, invalid));
        quinn_flood::start(Arc::clone(&shared), remote)?;
        flood = Some(shared);
    }
    let work = clients.work()?;
    let busy_polling = spec.case == Case::Fairness;
    on_thread(CLIENT_CPU, move |runtime| {
        let (socket, _) = socket()?;
        let endpoint = {
            let _context = runtime.enter();
            client_endpoint(socket)?
        };
        runtime.block_on(async {
            if busy_polling {
                tokio::spawn(poll_without_sleep());
            }
            run_loads(work, endpoint, remote).await;
        });
        Ok(())
    });
    let (own, server_process) = (Process::own(), Process(server.0.id()));
    let mut figures = control::run(
        spec,
        &Environment {
            loads: &clients.loads,
            flood: flood.as_deref(),
            full_handshakes: &clients.full_handshakes,
            server_busy: &|| server_process.cpu_time(),
            memory: &|| own.memory() + server_process.memory(),
            memory_peak: &|| own.memory_peak() + server_process.memory_peak(),
        },
    );
    let [receive, send] = hello.socket_buffers.map(|bytes| bytes >> 20);
    figures.notes.push(format!(
        "quinn's sockets have buffers of {receive} MiB to receive and {send} MiB to send, as the kernel counts"
    ));
    Ok(figures)
}

fn run_pairs(spec: &Spec) -> Result<Figures, Box<dyn Error>> {
    let mut all_loads = Vec::new();
    for cpu in 0..spec.pairs {
        let identity = secrets::identity()?;
        let (server_socket, _) = socket()?;
        let remote = server_socket.local_addr()?;
        let certificate = identity.chain().first().ok_or("no certificate")?.clone();
        let clients = Clients::new(spec, certificate);
        all_loads.extend(clients.loads.iter().cloned());
        let (work, spec) = (clients.work()?, *spec);
        on_thread(cpu, move |runtime| {
            let (client_socket, _) = socket()?;
            let (server, client) = {
                let _context = runtime.enter();
                (
                    endpoint(&spec, &identity, server_socket)?,
                    client_endpoint(client_socket)?,
                )
            };
            runtime.block_on(async {
                tokio::spawn(serve(server));
                run_loads(work, client, remote).await;
            });
            Ok(())
        });
    }
    let own = Process::own();
    Ok(control::run(
        spec,
        &Environment {
            loads: &all_loads,
            flood: None,
            full_handshakes: &AtomicU64::new(0),
            server_busy: &|| Duration::ZERO,
            memory: &|| own.memory(),
            memory_peak: &|| own.memory_peak(),
        },
    ))
}

/// Runs `work` on a thread of its own on `cpu` until the process ends. A failure shows as connections that never come up.
fn on_thread(
    cpu: usize,
    work: impl FnOnce(tokio::runtime::Runtime) -> Result<(), Box<dyn Error>> + Send + 'static,
) {
    std::thread::spawn(move || {
        pin(cpu);
        let done = runtime().map_err(Into::into).and_then(work);
        if let Err(error) = done {
            eprintln!("    quinn on CPU {cpu}: {error}");
        }
    });
}

/// The loads of one client, each with its settings.
type LoadsWithSettings = Vec<(Arc<Load>, quinn::ClientConfig)>;

/// Runs loads for ever.
async fn run_loads(loads: LoadsWithSettings, endpoint: quinn::Endpoint, remote: SocketAddr) {
    for (load, config) in loads {
        let endpoint = endpoint.clone();
        let target = Target {
            endpoint,
            remote,
            config,
        };
        tokio::spawn(quinn_load::run(load, target));
    }
    std::future::pending().await
}

/// What the client's side of a pair is made from.
struct Clients {
    spec: Spec,
    certificate: CertificateDer<'static>,
    full_handshakes: Arc<AtomicU64>,
    loads: Vec<Arc<Load>>,
}

impl Clients {
    fn new(spec: &Spec, certificate: CertificateDer<'static>) -> Self {
        Self {
            spec: *spec,
            certificate,
            full_handshakes: Arc::default(),
            loads: spec
                .loads()
                .into_iter()
                .map(Load::new)
                .map(Arc::new)
                .collect(),
        }
    }

    fn config(&self, resume: bool) -> Result<quinn::ClientConfig, Box<dyn Error>> {
        let full = Arc::clone(&self.full_handshakes);
        let mut client = secrets::client(self.certificate.clone(), resume, full)?;
        client.transport_config(transport(&self.spec)?);
        Ok(client)
    }

    fn work(&self) -> Result<LoadsWithSettings, Box<dyn Error>> {
        let with_settings = |load: &Arc<Load>| {
            let resume = load.spec.work == Work::Handshakes { resume: true };
            Ok((Arc::clone(load), self.config(resume)?))
        };
        self.loads.iter().map(with_settings).collect()
    }
}

/// The server's process; it ends with this value.
struct Server(Child);

impl Server {
    fn start(spec: &Spec) -> Result<Self, Box<dyn Error>> {
        let child = Command::new(std::env::current_exe()?)
            .arg("quinn-server")
            .args(spec.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self(child))
    }

    fn hello(&mut self) -> Result<Hello, Box<dyn Error>> {
        let output = self.0.stdout.take().ok_or("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|error| format!("the server said {line:?}: {error}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
