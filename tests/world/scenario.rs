//! What a world is made of: all of it follows from the seed.

use std::time::Duration;

use stoq::app::{ConnectTarget, Dir};
use stoq::shard::ShardLimits;
use stoq::transport::{AckFrequency, Congestion, TransportSettings};

use crate::client::{ConnectionPlan, Ending, StreamPlan};
use crate::ledger::Rules;
use crate::random::Random;
use crate::streams::NEVER;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How bad a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nothing happens that QUIC need not survive, and bounds are wide: all work gets done.
    Gentle,
    /// Anything goes: connections may be refused and lost, but only for stated reasons.
    Harsh,
}

/// What the network does to datagrams. Probabilities are 0 to 1.
#[derive(Debug, Clone)]
pub struct Faults {
    pub latency: Duration,
    /// Added to the latency, up to this.
    pub jitter: Duration,
    pub loss: f64,
    pub duplication: f64,
    /// Of a datagram to be held back by up to five latencies.
    pub reordering: f64,
    /// Of some bytes of a datagram to be changed.
    pub corruption: f64,
    /// Of a mark of congestion, on datagrams that may be marked.
    pub congestion: f64,
    /// Of arriving on any shard of the port instead of the one that the hash says.
    pub misplacement: f64,
    /// Of being sent once more by a stranger.
    pub replay: f64,
    /// Bytes a second that a shard can send.
    pub rate: u64,
}

/// Something that happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All datagrams are lost.
    LinkDown,
    LinkUp,
    /// The shard's device takes nothing.
    TxStalls(usize, Duration),
    /// The shard does not run.
    Sleeps(usize, Duration),
    /// A client host is seen from other UDP ports, and from another address, too.
    Rebinds {
        host: usize,
        address: bool,
    },
    /// Larger UDP payloads than this are lost.
    Narrows(u16),
    /// New connection IDs are made with another key.
    RotatesKeys,
    /// Something arrives that nobody asked for.
    Stranger,
    /// The servers begin to shut down.
    Stops,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub mood: Mood,
    /// Shards of the server's port.
    pub servers: usize,
    /// Shards of each client's port.
    pub clients: Vec<usize>,
    /// Whether clients choose UDP ports by what the device hashes.
    pub rss: bool,
    pub faults: Faults,
    /// In the order of their times, counted from the start.
    pub events: Vec<(Duration, Event)>,
    /// UDP payloads that the ports carry, and that the path carries at first.
    pub payload_max: u16,
    pub path_payload_max: u16,
    pub server_limits: ShardLimits,
    pub server_settings: TransportSettings,
    pub client_settings: TransportSettings,
    pub early_data: bool,
    /// Datagrams that may wait for a shard to take them over.
    pub handover: usize,
    /// Datagrams that may wait in a receive queue.
    pub ring: usize,
    pub drain_timeout: Duration,
    /// Which of the engine's own clients run beside the checking ones.
    pub perf: bool,
    pub echo: bool,
    /// Time after which clients are stopped, whatever they have done.
    pub deadline: Duration,
}

impl Scenario {
    pub fn new(random: &mut Random) -> Self {
        let mood = match random.chance(0.5) {
            true => Mood::Gentle,
            false => Mood::Harsh,
        };
        let harsh = mood == Mood::Harsh;
        let servers = random.between(1, 4) as usize;
        let clients: Vec<_> = (0..random.between(1, 2))
            .map(|_| random.between(1, 2) as usize)
            .collect();
        let payload_max = random.pick(&[1_200, 1_232, 1_452, 1_452]);
        let mut scenario = Self {
            mood,
            servers,
            rss: random.chance(0.5),
            faults: faults(random, harsh),
            events: Vec::new(),
            payload_max,
            path_payload_max: match random.chance(0.2) {
                true => random.between(1_200, payload_max.into()) as u16,
                false => payload_max,
            },
            server_limits: limits(random, harsh),
            server_settings: settings(random, harsh),
            client_settings: settings(random, harsh),
            early_data: random.chance(0.3),
            handover: pick_bound(random, harsh, 4, 1_024),
            ring: pick_bound(random, harsh, 16, 1_024),
            drain_timeout: random.time(10 * MS, 5 * SECOND),
            perf: random.chance(0.15),
            echo: random.chance(0.15),
            deadline: 120 * SECOND,
            clients,
        };
        scenario.server_limits.streams = scenario.server_settings.streams();
        let shards = scenario.servers + scenario.clients.iter().sum::<usize>();
        scenario.happen(random, harsh, shards);
        scenario
    }

    pub fn gentle(&self) -> bool {
        self.mood == Mood::Gentle
    }

    pub fn rules(&self) -> Rules {
        Rules {
            gentle: self.gentle(),
            fragile: self.faults.corruption > 0.0 || self.faults.misplacement > 0.0,
        }
    }

    fn happen(&mut self, random: &mut Random, harsh: bool, shards: usize) {
        let longest = if harsh { 8 * SECOND } else { 700 * MS };
        let mut add = |at: Duration, event: Event| self.events.push((at, event));
        let within = |random: &mut Random| random.time(MS, 4 * SECOND);
        if random.chance(0.2) {
            for _ in 0..random.between(1, 3) {
                let at = within(random);
                add(at, Event::LinkDown);
                add(at + random.time(MS, longest), Event::LinkUp);
            }
        }
        if random.chance(0.2) {
            for _ in 0..random.between(1, 4) {
                let time = random.time(MS, longest);
                add(within(random), Event::TxStalls(random.below(shards), time));
            }
        }
        if random.chance(0.2) {
            for _ in 0..random.between(1, 4) {
                let time = random.time(MS, longest);
                add(within(random), Event::Sleeps(random.below(shards), time));
            }
        }
        if random.chance(0.25) {
            for _ in 0..random.between(1, 4) {
                let host = random.below(self.clients.len());
                let address = random.chance(0.5);
                add(within(random), Event::Rebinds { host, address });
            }
            // A client that only waits would never tell the server where it is now.
            if !harsh {
                let often = random.time(100 * MS, 2 * SECOND);
                self.client_settings.keep_alive = Some(often);
            }
        }
        if random.chance(0.15) {
            let narrow = random.between(1_200, self.payload_max.into()) as u16;
            add(within(random), Event::Narrows(narrow));
        }
        if random.chance(0.15) {
            add(within(random), Event::RotatesKeys);
        }
        if random.chance(0.3) {
            for _ in 0..random.magnitude(1, 200) {
                add(within(random), Event::Stranger);
            }
        }
        if random.chance(0.15) {
            add(within(random), Event::Stops);
        }
        self.events.sort_by_key(|&(at, _)| at);
    }

    /// Connections for the clients of one shard.
    pub fn connections(
        &self,
        random: &mut Random,
        first: u32,
        target: &ConnectTarget,
    ) -> Vec<ConnectionPlan> {
        let count = random.magnitude(1, 5) as u32;
        let mut starts: Vec<_> = (0..count)
            .map(|_| match random.chance(0.5) {
                true => Duration::ZERO,
                false => random.time(MS, 2 * SECOND),
            })
            .collect();
        starts.sort();
        let numbers = first..;
        let mut plans = Vec::new();
        for (number, start) in numbers.zip(starts) {
            let mut streams: Vec<_> = (0..random.below(10)).map(|_| stream(random)).collect();
            let closes = random.chance(0.05);
            if let Some(last) = streams.last_mut() {
                last.server_closes = closes && last.dir == Dir::Bi && last.is_plain();
            }
            let datagrams = random.chance(0.3);
            plans.push(ConnectionPlan {
                number,
                start,
                target: target.clone(),
                streams,
                outstanding: random.pick(&[1, 2, 4, usize::MAX]),
                pause: match random.chance(0.2) {
                    true => random.time(MS, 2 * SECOND),
                    false => Duration::ZERO,
                },
                datagrams: if datagrams {
                    random.between(1, 30) as u16
                } else {
                    0
                },
                datagram_size: random.magnitude(1, 1_100),
                update_keys: random.chance(0.1),
                ending: match random.below(10) {
                    0 => Ending::Cut(random.time(MS, SECOND)),
                    1..=4 => Ending::Idle,
                    _ => Ending::Close,
                },
            });
        }
        plans
    }
}

impl StreamPlan {
    fn is_plain(&self) -> bool {
        [
            self.server_stops,
            self.server_resets,
            self.client_stops,
            self.client_resets,
        ] == [NEVER; 4]
    }
}

fn stream(random: &mut Random) -> StreamPlan {
    let size = |random: &mut Random| match random.below(4) {
        0 => 0,
        1 | 2 => random.magnitude(1, 3_000) as u32,
        _ => random.magnitude(1_000, 100_000) as u32,
    };
    let mut plan = StreamPlan {
        dir: random.pick(&[Dir::Bi, Dir::Bi, Dir::Uni]),
        upload: size(random),
        download: size(random),
        server_stops: NEVER,
        server_resets: NEVER,
        server_closes: false,
        client_stops: NEVER,
        client_resets: NEVER,
        slow_server: random.chance(0.1),
        slow_client: random.chance(0.1),
    };
    let upto = |random: &mut Random, size: u32| random.between(0, size.into()) as u32;
    match random.below(16) {
        0 => plan.server_stops = upto(random, plan.upload),
        1 => plan.server_resets = upto(random, plan.download),
        2 => plan.client_stops = upto(random, plan.download),
        3 => plan.client_resets = upto(random, plan.upload),
        _ => {}
    }
    plan
}

fn faults(random: &mut Random, harsh: bool) -> Faults {
    let most = |gentle: f64, rough: f64| if harsh { rough } else { gentle };
    let mut some = |chance: f64, most: f64| match random.chance(chance) {
        true => most * random.unit() * random.unit(),
        false => 0.0,
    };
    let loss = some(0.4, most(0.1, 0.5));
    let duplication = some(0.3, 0.2);
    let reordering = some(0.3, 0.2);
    let corruption = some(0.3, most(0.05, 0.3));
    let congestion = some(0.2, 0.2);
    let misplaced = some(0.5, 1.0);
    let replay = some(0.2, most(0.0, 0.2));
    let misplacement = if random.chance(0.2) { 1.0 } else { misplaced };
    let latency = random.time(20 * MS / 1_000, 80 * MS);
    Faults {
        latency,
        jitter: match random.chance(0.5) {
            true => latency.mul_f64(random.unit()),
            false => Duration::ZERO,
        },
        loss,
        duplication,
        reordering,
        corruption,
        congestion,
        misplacement,
        replay,
        rate: random.magnitude(1_000_000, 1_000_000_000),
    }
}

fn limits(random: &mut Random, harsh: bool) -> ShardLimits {
    let mut limits = ShardLimits {
        turn_budget: random.magnitude(1, 64) as u16,
        connections: 64,
        incoming: 64,
        retry_above: random.pick(&[0, 1, 2, 64]),
        ..ShardLimits::default()
    };
    if harsh && random.chance(0.5) {
        limits.connections = random.between(1, 6) as usize;
        limits.incoming = random.between(1, 3) as usize;
        limits.responses = random.between(1, 4) as usize;
        let rates = [None, Some(1), Some(10), Some(100)];
        limits.handshakes_per_prefix = random.pick(&rates);
        limits.strangers = random.pick(&rates);
        limits.stateless = random.pick(&rates);
    }
    limits
}

fn settings(random: &mut Random, harsh: bool) -> TransportSettings {
    let mut settings = TransportSettings {
        congestion: random.pick(&[Congestion::Cubic, Congestion::NewReno, Congestion::Bbr]),
        idle_timeout: Some(20 * SECOND),
        ..TransportSettings::default()
    };
    if random.chance(0.3) {
        settings.receive_window = random.magnitude(4_000, 200_000);
        settings.stream_receive_window = random.magnitude(2_000, 100_000);
        settings.send_window = random.magnitude(2_000, 200_000);
    }
    if random.chance(0.3) {
        settings.bidi_streams = random.magnitude(1, 64) as u32;
        settings.uni_streams = random.magnitude(1, 64) as u32;
    }
    if random.chance(0.3) {
        settings.ack_frequency = match random.chance(0.5) {
            true => None,
            false => Some(AckFrequency {
                threshold: random.between(1, 20) as u32,
                max_delay: random.time(MS, 25 * MS),
            }),
        };
    }
    if random.chance(0.2) {
        settings.datagram_buffer = random.magnitude(1_000, 20_000) as usize;
    }
    if random.chance(0.2) {
        settings.keep_alive = Some(random.time(100 * MS, 5 * SECOND));
    }
    if harsh && random.chance(0.3) {
        settings.idle_timeout = Some(random.time(500 * MS, 10 * SECOND));
    }
    if harsh && random.chance(0.3) {
        settings.initial_mtu = random.between(1_200, 1_452) as u16;
    }
    settings.mtu_discovery = random.chance(0.8);
    settings
}

/// A bound that is felt (`low` or more, harsh worlds only), or one that is not.
fn pick_bound(random: &mut Random, harsh: bool, low: u64, wide: usize) -> usize {
    match harsh && random.chance(0.3) {
        true => random.magnitude(low, 4 * low) as usize,
        false => wide,
    }
}
