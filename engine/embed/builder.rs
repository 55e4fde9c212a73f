//! What an engine is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;

use tracing::{info, warn};

use super::source::Described;
use super::{Engine, StartError};
use crate::app::{Application, NewApplication};
use crate::handle::{ClientConfig, Courier, Handle, HandleLimits, HandlePort, ServerConfig};
use crate::plan::Plan;
use crate::report::Report;
use crate::run::{Prepared, QuicError, RunError, RunOptions, free_cpus};
use crate::shard::{ListenerConfig, ServiceConfig};

/// Describes an engine, and starts it.
#[must_use = "an engine begins with `start`"]
pub struct Builder {
    described: Described,
    eal: Vec<String>,
    limits: HandleLimits,
    client: Option<ClientConfig>,
    services: Vec<Service>,
    drivers: Vec<Driver>,
    signals: bool,
    couriers: Couriers,
}

/// Who brings the shards' events to handles.
#[derive(Clone, Copy)]
enum Couriers {
    Threads(Option<usize>),
    Program,
}

/// The shard that an application is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardInfo {
    /// Its name in the configuration.
    pub name: String,
    /// The name of its port.
    pub port: String,
    /// Its queue of that port: they are numbered from 0.
    pub queue: u16,
    /// Its lcore.
    pub lcore: u32,
}

type Make = Arc<dyn Fn(&ShardInfo) -> Box<dyn Application> + Send + Sync>;

struct Service {
    port: String,
    udp_port: u16,
    config: ServerConfig,
    make: Make,
}

struct Driver {
    port: String,
    make: Make,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            described: Described::Link {
                queues: 1,
                lcores: Vec::new(),
            },
            eal: Vec::new(),
            limits: HandleLimits::default(),
            client: None,
            services: Vec::new(),
            drivers: Vec::new(),
            signals: false,
            couriers: Couriers::Threads(None),
        }
    }

    // Ports and shards; the last that is said counts.

    /// Two ports joined in this process, `left` with the address `fd00:5701::1` and `right` with `fd00:5701::2`: what one
    /// sends the other receives. It needs no device, no huge pages and no root. Both ends run on the first CPU of the
    /// process, which sleeps when there is nothing to do. This is what a builder begins with.
    pub fn link(self) -> Self {
        self.link_on(1, &[])
    }

    /// The same with several queues, and so shards, on each end, driven by these lcores in turn.
    pub fn link_on(mut self, queues: u16, lcores: &[u32]) -> Self {
        let lcores = lcores.to_vec();
        self.described = Described::Link { queues, lcores };
        self
    }

    /// Ports, shards, bounds and all else from a file as the `engine` binary takes it (`configs/` has examples).
    pub fn config_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.described = Described::File(file.into());
        self
    }

    /// The same from a text.
    pub fn config_text(mut self, yaml: impl Into<String>) -> Self {
        self.described = Described::Text(yaml.into());
        self
    }

    /// EAL arguments, instead of those of the configuration.
    pub fn eal_arguments<A: Into<String>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.eal = arguments.into_iter().map(Into::into).collect();
        self
    }

    // What runs on it.

    /// A service on every shard of a port, run to completion: `make` makes one instance for each, on its lcore. The
    /// configuration has one protocol (ALPN).
    pub fn serve<A: Application + 'static>(
        mut self,
        port: impl Into<String>,
        udp_port: u16,
        config: ServerConfig,
        make: impl Fn(&ShardInfo) -> A + Send + Sync + 'static,
    ) -> Self {
        self.services.push(Service {
            port: port.into(),
            udp_port,
            config,
            make: Arc::new(move |shard| Box::new(make(shard))),
        });
        self
    }

    /// An application on every shard of a port that opens connections, run to completion: `make` makes one instance for
    /// each, on its lcore.
    pub fn drive<A: Application + 'static>(
        mut self,
        port: impl Into<String>,
        make: impl Fn(&ShardInfo) -> A + Send + Sync + 'static,
    ) -> Self {
        self.drivers.push(Driver {
            port: port.into(),
            make: Arc::new(move |shard| Box::new(make(shard))),
        });
        self
    }

    /// What [`Handle::connect`] uses.
    pub fn client_config(mut self, config: ClientConfig) -> Self {
        self.client = Some(config);
        self
    }

    /// The bounds of what waits between shards and handles.
    pub fn handle_limits(mut self, limits: HandleLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How many threads bring what happens on the shards to the handles; at most one a shard. If it is not said: as many
    /// as there are CPUs without an lcore, and one at least.
    pub fn courier_threads(mut self, threads: usize) -> Self {
        self.couriers = Couriers::Threads(Some(threads.max(1)));
        self
    }

    /// The program does that itself: it [takes](Engine::take_courier) a future, and polls it where its tasks run. That
    /// saves a switch between threads for everything that happens; with [`Courier::spinning`] also all system calls.
    pub fn courier_in_program(mut self) -> Self {
        self.couriers = Couriers::Program;
        self
    }

    /// Whether SIGINT and SIGTERM drain the engine, and a second one ends it at once. Without, signals are the program's
    /// own affair.
    pub fn stop_on_signals(mut self, stop: bool) -> Self {
        self.signals = stop;
        self
    }

    /// Starts the engine, and waits until its shards run.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running then; but when EAL had started, it cannot be started again in this
    /// process.
    pub fn start(self) -> Result<Engine, StartError> {
        let plan = self.described.plan(self.eal.clone())?;
        for note in &plan.notes {
            warn!("{note}");
        }
        self.check(&plan)?;
        let zero_copy = hugepages::is_installed();
        if !zero_copy {
            info!(
                "this program has an allocator of its own: datagrams are copied once in each direction; \
                 `hugepages::PacketAlloc` as the global allocator avoids that"
            );
        }
        let stop = Arc::<AtomicBool>::default();
        let (ready, started) = mpsc::channel();
        let thread = {
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name("stoq-main".to_owned())
                .spawn(move || self.run(&plan, stop, ready))
        };
        let system = |source| StartError::System {
            what: "thread",
            source,
        };
        let thread = thread.map_err(system)?;
        match started.recv() {
            Ok((handle, courier)) => Ok(Engine {
                handle,
                courier,
                stop,
                thread: Some(thread),
                zero_copy,
            }),
            Err(mpsc::RecvError) => match thread.join() {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(_)) => Err(StartError::Ended),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }

    /// Whether what was asked for fits the plan.
    fn check(&self, plan: &Plan) -> Result<(), StartError> {
        let services = self.services.iter().map(|service| &service.port);
        for port in services.chain(self.drivers.iter().map(|driver| &driver.port)) {
            if !plan.ports.iter().any(|known| known.name == *port) {
                let known: Vec<&str> = plan.ports.iter().map(|port| port.name.as_str()).collect();
                return Err(StartError::UnknownPort {
                    port: port.clone(),
                    known: known.join(", "),
                });
            }
        }
        self.check_udp_ports(plan)?;
        match self
            .services
            .iter()
            .find(|service| service.config.alpns.len() != 1)
        {
            Some(service) => Err(StartError::Protocols(service.udp_port)),
            None => Ok(()),
        }
    }

    /// Whether every service has a UDP port of its own.
    fn check_udp_ports(&self, plan: &Plan) -> Result<(), StartError> {
        for (index, service) in self.services.iter().enumerate() {
            let is_same =
                |other: &Service| other.udp_port == service.udp_port && other.port == service.port;
            let shards = plan.shards.iter();
            let on_port = shards.filter(|shard| plan.ports[shard.port].name == service.port);
            let mut listeners = on_port.flat_map(|shard| &shard.listeners);
            let reason = if service.udp_port == 0 {
                "it is none"
            } else if self.services[..index].iter().any(is_same) {
                "another service has it"
            } else if listeners.any(|listener| listener.udp_port == service.udp_port) {
                "a listener of the configuration has it"
            } else {
                continue;
            };
            return Err(StartError::UdpPort {
                port: service.port.clone(),
                udp_port: service.udp_port,
                reason,
            });
        }
        Ok(())
    }

    /// The UDP ports that services have on a port.
    fn udp_ports(&self, port: &str) -> Vec<u16> {
        let services = self.services.iter().filter(|own| own.port == port);
        services.map(|service| service.udp_port).collect()
    }

    /// What the main thread of the engine does.
    fn run(
        self,
        plan: &Plan,
        stop: Arc<AtomicBool>,
        ready: mpsc::Sender<(Handle, Option<Courier>)>,
    ) -> Result<Report, RunError> {
        let mut prepared = Prepared::new(plan, &|port| self.udp_ports(port))?;
        let ports = prepared.handle_ports()?;
        let of_shards = plan.shards.iter().map(|shard| shard.port);
        let count = match self.couriers {
            Couriers::Threads(Some(threads)) => threads,
            Couriers::Threads(None) => free_cpus(plan).count().max(1),
            Couriers::Program => 1,
        };
        let (handle, agents, mut couriers) =
            Handle::new(ports.clone(), of_shards, self.limits, count);
        if let Some(client) = &self.client {
            handle.set_default_client_config(client.clone());
        }
        for (shard, agent) in agents.into_iter().enumerate() {
            prepared.add_agent(shard, Box::new(move || Box::new(agent())));
        }
        let in_program = match self.couriers {
            Couriers::Threads(_) => None,
            Couriers::Program => couriers.pop(),
        };
        let threads = couriers
            .into_iter()
            .map(|courier| Box::new(move || courier.run()) as Box<dyn FnOnce() + Send>);
        for (shard, shard_plan) in plan.shards.iter().enumerate() {
            let info = ShardInfo {
                name: shard_plan.name.clone(),
                port: plan.ports[shard_plan.port].name.clone(),
                queue: shard_plan.queue,
                lcore: shard_plan.lcore,
            };
            for service in self.services.iter().filter(|own| own.port == info.port) {
                let listener = service.listener(&ports[shard_plan.port], &info)?;
                prepared.add_listener(shard, listener);
            }
            for driver in self.drivers.iter().filter(|own| own.port == info.port) {
                prepared.add_agent(shard, make(&driver.make, &info));
            }
        }
        let options = RunOptions {
            signals: self.signals,
            stop,
            couriers: threads.collect(),
            ready: Box::new(move || {
                // Nobody waits any more: the engine runs on until it is stopped.
                let _ = ready.send((handle, in_program));
            }),
        };
        let outcome = prepared.run(options, &mut |_, _| {})?;
        Ok(Report::new(&outcome.totals(plan)))
    }
}

impl Service {
    fn listener(&self, port: &HandlePort, info: &ShardInfo) -> Result<ListenerConfig, QuicError> {
        let (server, streams) = self.config.on_port(port)?;
        let services = self.config.alpns.iter().map(|alpn| ServiceConfig {
            alpn: alpn.clone(),
            early_data: self.config.early_data,
            application: make(&self.make, info),
        });
        Ok(ListenerConfig {
            udp_port: self.udp_port,
            streams,
            server,
            services: services.collect(),
        })
    }
}

fn make(make: &Make, info: &ShardInfo) -> NewApplication {
    let (make, info) = (Arc::clone(make), info.clone());
    Box::new(move || make(&info))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Identity;

    struct Nothing;

    impl Application for Nothing {}

    fn serve(builder: Builder, port: &str, udp_port: u16, alpns: &[&str]) -> Builder {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let config = ServerConfig::new(&identity, alpns.iter().copied()).unwrap();
        builder.serve(port, udp_port, config, |_| Nothing)
    }

    /// What is wrong is found before EAL starts, which a process can do once.
    fn refused(builder: Builder) -> String {
        builder.start().map(drop).unwrap_err().to_string()
    }

    #[test]
    fn services_that_do_not_fit_are_refused_before_anything_starts() {
        let one = |port, udp_port, alpns: &[&str]| serve(Builder::new(), port, udp_port, alpns);
        let error = refused(one("middle", 1, &["x"]));
        assert!(
            error.contains("`middle`") && error.contains("left, right"),
            "{error}"
        );
        assert!(refused(one("left", 0, &["x"])).contains("it is none"));
        assert!(refused(one("left", 1, &[])).contains("exactly one protocol"));
        assert!(refused(one("left", 1, &["x", "y"])).contains("exactly one protocol"));
        let twice = serve(one("left", 1, &["x"]), "left", 1, &["y"]);
        assert!(refused(twice).contains("another service has it"));
        let driven = Builder::new().drive("middle", |_| Nothing);
        assert!(refused(driven).contains("`middle`"));
    }

    #[test]
    fn a_service_does_not_take_the_udp_port_of_a_listener() {
        let yaml = r#"
eal: ["-l", "0", "--no-huge", "-m", "256", "--no-pci"]
ports:
  - { name: left, link: right, addresses: ["fd00::1/64"] }
  - { name: right, link: left, addresses: ["fd00::2/64"] }
shards:
  - { name: a, port: left, lcore: 0 }
  - { name: b, port: right, lcore: 0 }
identities: [{ name: own, self_signed: ["localhost"] }]
listeners: [{ name: main, shard: a, udp_port: 4433, identity: own, services: { perf: {} } }]
"#;
        let builder = serve(Builder::new().config_text(yaml), "left", 4433, &["x"]);
        assert!(refused(builder).contains("a listener of the configuration has it"));
    }

    #[test]
    fn clients_leave_the_udp_ports_of_services_alone() {
        let plan = Described::Link {
            queues: 1,
            lcores: vec![0],
        }
        .plan(Vec::new())
        .unwrap();
        // All that the block of clients could be in, but one place for it.
        let all: Vec<u16> = (49_152..=u16::MAX)
            .filter(|udp_port| udp_port / 256 != 200)
            .collect();
        let mut prepared = Prepared::new(&plan, &|_| all.clone()).unwrap();
        for shard in 0..plan.shards.len() {
            prepared.add_agent(shard, crate::app::from_fn(|| Nothing));
        }
        for port in prepared.handle_ports().unwrap() {
            let open = |udp_port: &u16| port.udp_ports.contains(*udp_port);
            assert!(!all.iter().any(open));
            assert!((200 * 256..=200 * 256 + 255).all(|udp_port| open(&udp_port)));
        }
    }
}
