//! Two shards under a virtual clock, joined by a link, with all of the handle layer on both, and an executor that polls
//! a task only when it was woken: a wake-up that is lost shows as a task that is stuck.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::rc::{Rc, Weak};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use poll::host::UdpPorts;
use poll::{Datagram, Ecn, Path, Transport};

use super::tasks::{Clock, Task, Tasks};
use super::watched::Watched;
use crate::handle::{
    Agent, ClientConfig, Connection, Courier, Handle, HandleLimits, HandlePort, Listener,
    ServerConfig,
};
use crate::shard::{Shard, ShardConfig, ShardCounters, ShardLimits};
use crate::steering::ClientPorts;
use crate::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust};
use crate::transport::TransportSettings;

/// The sides of a rig. Both can do everything; most tests listen on the first.
pub(super) const SERVER: usize = 0;
pub(super) const CLIENT: usize = 1;

/// Where tests listen.
pub(super) const UDP_PORT: u16 = 4_433;
/// The UDP port of connections that a side opens.
pub(super) const CLIENT_PORT: u16 = 50_000;
pub(super) const ALPN: &str = "test";
/// The name in the server's certificate.
pub(super) const NAME: &str = "server.test";
/// The largest UDP payload of the link.
const PAYLOAD_MAX: u16 = 1_452;
/// How long a datagram is on its way.
const LATENCY: Duration = Duration::from_millis(5);
/// Datagrams that a worker pulls in a turn.
const BURST: usize = 32;
/// Turns after which a test has gone wrong.
const TURNS_MAX: u64 = 3_000_000;

/// What a rig is made of.
pub(super) struct Setup {
    /// Of each side.
    pub(super) limits: [HandleLimits; 2],
    /// Of each side.
    pub(super) settings: [TransportSettings; 2],
    pub(super) connections_max: usize,
    pub(super) early_data: bool,
    /// The probability of a datagram to be lost.
    pub(super) loss: f64,
    pub(super) seed: u64,
    /// Couriers are late and deliver events one by one, and tasks that are woken are polled in any order, some turns
    /// later.
    pub(super) chaos: bool,
    /// Couriers are tasks of the program.
    pub(super) in_program: bool,
}

impl Default for Setup {
    fn default() -> Self {
        // No idle time-out: a test in which nothing happens any more is to have nothing left to wait for.
        let settings = TransportSettings {
            idle_timeout: None,
            ..TransportSettings::default()
        };
        Self {
            limits: [HandleLimits::default(); 2],
            settings: [settings.clone(), settings],
            connections_max: 1_000,
            early_data: false,
            loss: 0.0,
            seed: 1,
            chaos: false,
            in_program: false,
        }
    }
}

impl Setup {
    /// The same bounds on both sides.
    pub(super) fn limits(limits: HandleLimits) -> Self {
        Self {
            limits: [limits; 2],
            ..Self::default()
        }
    }
}

struct Flight {
    at: Instant,
    from: SocketAddrV6,
    to: SocketAddrV6,
    ecn: Ecn,
    payload: Vec<u8>,
}

struct Side {
    shard: Option<Shard>,
    counters: Arc<ShardCounters>,
    agent: Weak<RefCell<Agent>>,
    courier: Option<Courier>,
    handle: Handle,
}

/// See the module.
pub(super) struct Rig {
    now: Instant,
    pub(super) loss: f64,
    /// The UDP port by which the server sees connections of the client, when a NAT stands between.
    pub(super) nat: Option<u16>,
    chaos: bool,
    random: Random,
    sides: [Side; 2],
    flights: VecDeque<Flight>,
    pub(super) tasks: Tasks,
    clock: Clock,
    /// Turns in a row in which nothing happened.
    quiet: u32,
    turns: u64,
    early_data: bool,
    /// Couriers deliver nothing while this is set.
    pub(super) couriers_away: bool,
    /// Called in every turn.
    pub(super) every_turn: Option<Box<dyn FnMut()>>,
}

impl Rig {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Instant::now();
        let tasks = Tasks::default();
        let side = |index: usize| {
            let ports = vec![HandlePort {
                addresses: vec![(address(index), 64)],
                gateway: false,
                shards: 1,
                udp_payload_max: PAYLOAD_MAX,
                transport: setup.settings[index].build(PAYLOAD_MAX).unwrap(),
                udp_ports: UdpPorts::default(),
            }];
            let (handle, mut agents, mut couriers) =
                Handle::new(ports, [0], setup.limits[index], 1);
            let (agent, courier) = (agents.pop().unwrap(), couriers.pop().unwrap());
            let made = Arc::<OnceLock<()>>::default();
            let counters = Arc::<ShardCounters>::default();
            let config = ShardConfig {
                seed: Some(setup.seed + index as u64),
                limits: ShardLimits {
                    connections: setup.connections_max,
                    streams: setup.settings[index].streams(),
                    ..ShardLimits::default()
                },
                udp_payload_max: PAYLOAD_MAX,
                listeners: Vec::new(),
                client_ports: ClientPorts::one(CLIENT_PORT),
                clients: Vec::new(),
                agents: vec![Box::new(move || {
                    made.set(()).unwrap();
                    Box::new(Watched::new(agent()))
                })],
                steering: None,
                reset_key: [0x2a; 32],
                paced_by_device: false,
                drain_timeout: Duration::from_secs(3),
                counters: Arc::clone(&counters),
            };
            let shard = Shard::new(config, now).unwrap();
            let courier = match setup.in_program {
                false => Some(courier),
                true => {
                    tasks.spawner().spawn_background("courier", courier);
                    None
                }
            };
            Side {
                shard: Some(shard),
                counters,
                agent: Watched::last_made(),
                courier,
                handle,
            }
        };
        let sides = [side(SERVER), side(CLIENT)];
        Self {
            now,
            loss: setup.loss,
            nat: None,
            chaos: setup.chaos,
            random: Random::new(setup.seed),
            sides,
            flights: VecDeque::new(),
            tasks,
            clock: Clock::new(now),
            quiet: 0,
            turns: 0,
            early_data: setup.early_data,
            couriers_away: false,
            every_turn: None,
        }
    }

    // What tests work with.

    pub(super) fn handle(&self, side: usize) -> Handle {
        self.sides[side].handle.clone()
    }

    pub(super) fn counters(&self, side: usize) -> &ShardCounters {
        &self.sides[side].counters
    }

    /// Looks at the agent of a side.
    pub(super) fn agent<T>(&self, side: usize, look: impl FnOnce(&Agent) -> T) -> T {
        let agent = self.sides[side].agent.upgrade();
        look(&agent.expect("its shard runs").borrow())
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub(super) fn server_config(&self) -> ServerConfig {
        ServerConfig::with_tls(ServerTls {
            identity: identity(),
            alpns: vec![ALPN.into()],
            client_auth: ClientAuth::None,
            early_data: self.early_data,
        })
        .unwrap()
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        ClientConfig::with_tls(ClientTls {
            trust: &Trust::Fingerprint(identity().fingerprint()),
            identity: None,
            alpns: vec![ALPN.into()],
            early_data: self.early_data,
        })
        .unwrap()
    }

    pub(super) fn listen(&mut self) -> Listener {
        self.listen_with(self.server_config())
    }

    pub(super) fn listen_with(&mut self, config: ServerConfig) -> Listener {
        let handle = self.handle(SERVER);
        let listener = async move { handle.listen(UDP_PORT, config).await };
        self.block_on(listener).unwrap()
    }

    /// A connection: its two ends, the server's first.
    #[track_caller]
    pub(super) fn connect(&mut self, listener: &Listener) -> (Connection, Connection) {
        let config = self.client_config();
        self.connect_with(listener, config)
    }

    pub(super) fn connect_with(
        &mut self,
        listener: &Listener,
        config: ClientConfig,
    ) -> (Connection, Connection) {
        let handle = self.handle(CLIENT);
        let connecting = handle.connect_with(config, server(), NAME).unwrap();
        let accept = listener.accept();
        self.block_on(async move {
            let client = connecting.await.unwrap();
            (accept.await.unwrap(), client)
        })
    }

    /// Begins a task.
    pub(super) fn spawn<T: 'static>(
        &mut self,
        name: impl Into<String>,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        self.tasks.spawner().spawn(name, future)
    }

    // Time passes.

    /// Runs until the future is done, which panics if it never will be.
    #[track_caller]
    pub(super) fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn("block_on", future);
        self.join(&task)
    }

    /// Runs until a task is done, which panics if it never will be.
    #[track_caller]
    pub(super) fn join<T>(&mut self, task: &Task<T>) -> T {
        self.run_until(|| task.is_done());
        task.take()
    }

    /// Runs until all tasks are done, which panics if they never will be.
    #[track_caller]
    pub(super) fn finish(&mut self) {
        let tasks = self.tasks.spawner();
        self.run_until(|| tasks.is_empty());
    }

    #[track_caller]
    pub(super) fn run_until(&mut self, mut done: impl FnMut() -> bool) {
        while !done() {
            if !self.turn(None) && !done() {
                panic!("stuck: {}", self.tasks.names());
            }
        }
    }

    /// Runs for a time.
    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            if !self.turn(Some(until)) {
                self.now = until;
                self.clock.set(until);
            }
        }
    }

    /// Runs long enough for everything under way to arrive and be acknowledged.
    pub(super) fn settle(&mut self) {
        self.run_for(Duration::from_secs(1));
    }

    /// Drains the shard of a side and ends it, as the end of an engine does.
    pub(super) fn stop(&mut self, side: usize) {
        self.sides[side].shard.as_mut().unwrap().stop(self.now);
        while !self.sides[side].shard.as_ref().unwrap().is_drained() {
            self.turn(None);
        }
        self.kill(side);
    }

    /// Drops the courier of a side, while its shard runs on.
    pub(super) fn drop_courier(&mut self, side: usize) {
        self.sides[side].courier = None;
    }

    /// Ends the shard of a side at once. Its courier is told, and may be yet to tell.
    pub(super) fn kill(&mut self, side: usize) {
        self.pump(side);
        // A courier that is a task has to come to what waits for it: the end of a shard waits for it, too.
        if self.sides[side].courier.is_none() {
            for _ in 0..20 {
                self.tasks.poll(|| true);
            }
        }
        self.sides[side].shard = None;
    }

    /// One turn of everything, then the clock moves to what happens next. False when nothing will.
    fn turn(&mut self, until: Option<Instant>) -> bool {
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "no end: {}", self.tasks.names());
        let mut busy = self.arrive();
        for side in [SERVER, CLIENT] {
            busy |= self.transmit(side);
        }
        for side in [SERVER, CLIENT] {
            busy |= self.pump(side);
        }
        busy |= self.poll_tasks();
        if let Some(every_turn) = &mut self.every_turn {
            every_turn();
        }
        let timeouts = self.sides.iter_mut().filter_map(|side| side.shard.as_mut());
        let timeouts: Vec<_> = timeouts.filter_map(Transport::timeout).collect();
        self.quiet = if busy { 0 } else { self.quiet + 1 };
        let soon = self.now + Duration::from_micros(1);
        let mut next = Some(soon);
        // A command is seen in the next turn, and answered in the one after it.
        if self.quiet > 3 {
            let arrival = self.flights.front().map(|flight| flight.at);
            let sleeper = self.clock.next();
            let times = timeouts.into_iter().chain(arrival).chain(sleeper);
            next = times.min().map(|at| at.max(soon));
        }
        let (moved, now) = match (next, until) {
            (None, _) => return false,
            (Some(next), Some(until)) => (true, next.min(until)),
            (Some(next), None) => (true, next),
        };
        self.now = now;
        self.clock.set(now);
        moved
    }

    fn arrive(&mut self) -> bool {
        let mut any = false;
        while self
            .flights
            .front()
            .is_some_and(|flight| flight.at <= self.now)
            && let Some(flight) = self.flights.pop_front()
        {
            any = true;
            let side = usize::from(*flight.to.ip() == address(CLIENT));
            let datagram = Datagram {
                path: Path {
                    remote: flight.from,
                    local: *flight.to.ip(),
                    local_udp_port: flight.to.port(),
                },
                ecn: flight.ecn,
                payload: BytesMut::from(&flight.payload[..]),
            };
            if let Some(shard) = &mut self.sides[side].shard {
                shard.receive(self.now, datagram);
            }
        }
        any
    }

    fn transmit(&mut self, side: usize) -> bool {
        let Some(shard) = &mut self.sides[side].shard else {
            return false;
        };
        let mut any = false;
        let mut payload = Vec::with_capacity(usize::from(PAYLOAD_MAX));
        for _ in 0..BURST {
            payload.clear();
            let Some(transmit) = shard.transmit(self.now, &mut payload, 1) else {
                break;
            };
            any = true;
            if !self.random.chance(self.loss) {
                let udp_port = self.nat.filter(|_| side == CLIENT);
                let udp_port = udp_port.unwrap_or(transmit.source_udp_port);
                let mut to = transmit.destination;
                if side == SERVER && self.nat.is_some() {
                    to.set_port(CLIENT_PORT);
                }
                self.flights.push_back(Flight {
                    at: self.now + LATENCY,
                    from: SocketAddrV6::new(address(side), udp_port, 0, 0),
                    to,
                    ecn: transmit.ecn,
                    payload: payload.clone(),
                });
            }
        }
        any
    }

    fn pump(&mut self, side: usize) -> bool {
        let Some(courier) = &mut self.sides[side].courier else {
            return false;
        };
        if self.couriers_away {
            return false;
        }
        let (tasks, random) = (&mut self.tasks, &mut self.random);
        let (any, lives) = match self.chaos {
            false => courier.pump(|| {}),
            true if courier.waits() && random.chance(0.3) => return true,
            true => courier.pump(|| {
                tasks.poll(|| random.chance(0.5));
            }),
        };
        if !lives {
            self.sides[side].courier = None;
        }
        any
    }

    fn poll_tasks(&mut self) -> bool {
        match self.chaos {
            false => self.tasks.poll(|| true),
            true => {
                let random = &mut self.random;
                self.tasks.shuffle(|bound| random.below(bound));
                self.tasks.poll(|| random.chance(0.6))
            }
        }
    }
}

/// The address of a side.
pub(super) fn address(side: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, side as u16 + 1)
}

/// Where tests listen.
pub(super) fn server() -> SocketAddrV6 {
    SocketAddrV6::new(address(SERVER), UDP_PORT, 0, 0)
}

pub(super) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::self_signed([NAME]).unwrap())
}

/// Two sides with one connection between them.
pub(super) struct Pair {
    pub(super) rig: Rig,
    pub(super) listener: Listener,
    pub(super) server: Connection,
    pub(super) client: Connection,
}

impl Pair {
    pub(super) fn new(setup: Setup) -> Self {
        let mut rig = Rig::new(setup);
        let listener = rig.listen();
        let (server, client) = rig.connect(&listener);
        Self {
            rig,
            listener,
            server,
            client,
        }
    }
}

/// Shared by the tasks of a test.
pub(super) fn shared<T: Copy>(value: T) -> Rc<Cell<T>> {
    Rc::new(Cell::new(value))
}

/// A small generator (splitmix64), so that faults repeat.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
