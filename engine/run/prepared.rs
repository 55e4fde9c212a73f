//! A run that is prepared: what is made of a plan without EAL, to which an embedding program may add.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use poll::host::UdpPorts;
use poll::{Control, LaneCounters};

use super::devices::Devices;
use super::quic::{self, Quic, QuicError};
use super::shared::Shared;
use super::supervisor::{self, Supervisor, Watched};
use super::{Outcome, RunError, SetOnDrop, Shards, drive, leave_lcores, memif, tap, workers};
use crate::app::NewApplication;
use crate::handle::HandlePort;
use crate::metrics::{Observed, Server};
use crate::plan::Plan;
use crate::shard::{ListenerConfig, ShardCounters};

/// How a prepared run goes on.
pub(crate) struct RunOptions {
    /// Whether SIGINT and SIGTERM drain.
    pub(crate) signals: bool,
    /// Set by whoever wants the run to drain.
    pub(crate) stop: Arc<AtomicBool>,
    /// Run on threads of the control plane, off the lcores; each has ended soon after the shards have.
    pub(crate) couriers: Vec<Box<dyn FnOnce() + Send>>,
    /// Called once all lanes have turned.
    pub(crate) ready: Box<dyn FnOnce() + Send>,
}

impl Default for RunOptions {
    /// As the binary runs.
    fn default() -> Self {
        Self {
            signals: true,
            stop: Arc::default(),
            couriers: Vec::new(),
            ready: Box::new(|| {}),
        }
    }
}

/// A plan of which all is made that needs no EAL. What else shall run on its shards is added before it
/// [runs](Self::run).
pub(crate) struct Prepared<'a> {
    plan: &'a Plan,
    shards: Shards,
    watched: Watched,
}

impl<'a> Prepared<'a> {
    /// Makes identities, TLS, keys and the configurations of shards. `served` names the UDP ports of a port that listeners
    /// will be added for, so that its clients take others.
    ///
    /// # Errors
    /// See [`RunError`].
    pub(crate) fn new(plan: &'a Plan, served: &dyn Fn(&str) -> Vec<u16>) -> Result<Self, RunError> {
        tap::check(&plan.eal.arguments)?;
        memif::check(&plan.eal.arguments)?;
        let quic = Quic::new(plan)?;
        let mut shared = Shared::new(plan, served)?;
        let mut configs = Vec::new();
        let mut watched = Watched {
            shards: Vec::new(),
            lanes: Vec::new(),
            clients: Vec::new(),
            devices: Devices::new(),
        };
        for index in 0..plan.shards.len() {
            let counters = Arc::<ShardCounters>::default();
            let (config, clients) = quic.shard(index, Arc::clone(&counters), &mut shared)?;
            configs.push(config);
            watched.shards.push(counters);
            watched.lanes.push(Arc::<LaneCounters>::default());
            watched.clients.extend(clients);
        }
        Ok(Self {
            plan,
            shards: Shards { configs, shared },
            watched,
        })
    }

    /// The ports, as handles see them.
    ///
    /// # Errors
    /// Transport settings that do not fit one.
    pub(crate) fn handle_ports(&self) -> Result<Vec<HandlePort>, RunError> {
        let ports = self.plan.ports.iter().enumerate();
        ports
            .map(|(index, port)| {
                let shards = self.plan.shards.iter();
                Ok(HandlePort {
                    addresses: port.addresses.clone(),
                    gateway: port.gateway.is_some() || port.router_advertisements,
                    shards: shards.filter(|shard| shard.port == index).count(),
                    udp_payload_max: port.udp_payload_max,
                    transport: quic::transport(self.plan, index).map_err(QuicError::from)?,
                    udp_ports: self.shards.shared.udp_ports(index).clone(),
                })
            })
            .collect()
    }

    /// Adds an application that may listen and connect.
    pub(crate) fn add_agent(&mut self, shard: usize, agent: NewApplication) {
        self.shards.configs[shard].agents.push(agent);
        self.open_client_ports(shard);
    }

    /// Adds a listener.
    pub(crate) fn add_listener(&mut self, shard: usize, listener: ListenerConfig) {
        let udp_ports = self.udp_ports(shard);
        udp_ports.insert(listener.udp_port);
        self.shards.configs[shard].listeners.push(listener);
    }

    fn open_client_ports(&self, shard: usize) {
        let udp_ports = self.udp_ports(shard);
        for udp_port in self.shards.configs[shard].client_ports.range.clone() {
            udp_ports.insert(udp_port);
        }
    }

    fn udp_ports(&self, shard: usize) -> &UdpPorts {
        let port = self.plan.shards[shard].port;
        self.shards.shared.udp_ports(port)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// See [`RunError`]. Whatever was started has been stopped when this returns.
    pub(crate) fn run(
        self,
        options: RunOptions,
        live: &mut (dyn FnMut(&Watched, Duration) + Send),
    ) -> Result<Outcome, RunError> {
        let Self {
            plan,
            shards,
            watched,
        } = self;
        let observed = Observed::new(plan, watched.clone());
        let _metrics = match plan.metrics {
            Some(metrics) => {
                let plan = plan.clone();
                let on_start = move || leave_lcores(&plan);
                Some(Server::start(metrics.listen, observed.clone(), on_start)?)
            }
            None => None,
        };

        let system = |what| move |source| RunError::System { what, source };
        let signals = options.signals.then(supervisor::signals).transpose();
        let control = Arc::new(Control::new(workers(plan).len()));
        let ended = Arc::new(AtomicBool::new(false));
        let supervisor = Supervisor {
            plan,
            control: Arc::clone(&control),
            watched: watched.clone(),
            ended: Arc::clone(&ended),
            signals: signals.map_err(system("signals"))?,
            stop: options.stop,
            ready: Some(options.ready),
        };
        std::thread::scope(|scope| {
            for courier in options.couriers {
                let spawned = std::thread::Builder::new()
                    .name("courier".to_owned())
                    .spawn_scoped(scope, move || {
                        leave_lcores(plan);
                        courier();
                    });
                spawned.map_err(system("courier thread"))?;
            }
            let (go, started) = mpsc::channel::<()>();
            let spawned = std::thread::Builder::new()
                .name("control".to_owned())
                .spawn_scoped(scope, move || {
                    leave_lcores(plan);
                    supervisor.watch(&started, live)
                });
            let thread = spawned.map_err(system("control thread"))?;
            // Dropped when this closure ends, however it ends, so that the control thread does.
            let end = SetOnDrop(ended);
            let result = drive(plan, shards, &watched, &observed, &control, go);
            drop(end);
            let measured = thread.join().ok().flatten().unwrap_or_default();
            let mut outcome = result?;
            outcome.measured = measured;
            Ok(outcome)
        })
    }
}
