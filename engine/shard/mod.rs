//! The shard: quinn-proto endpoints and connections, timers, fair turns, and the applications on top.
//!
//! A [`Shard`] is everything that one (port, queue pair, lcore) knows of QUIC. It does no I/O and reads no clock: the
//! worker hands it datagrams and asks for some, with the time as an argument ([`poll::Transport`]). A virtual clock does
//! as well, and that is how it is tested. It shares nothing with other shards but keys, and an inbox for datagrams that
//! arrived on the wrong queue ([`steering`](crate::steering)).
//!
//! One turn of the worker's loop, seen from here:
//!
//! ```text
//!   receive    ×n   a connection ID that names another shard: handed over to it, unopened
//!                   else: the gate, the endpoint finds the connection, which decrypts and marks itself
//!   transmit   first: what others handed over, timers due, marked connections deliver events to their applications,
//!                     applications due
//!              then:  ready connections in turns, `turn_budget` datagrams each, and stateless answers in between
//!              …until there is nothing to send or the burst is full: then the rest stays as it is
//!   timeout         the past if something is left over, else the earliest timer
//! ```
//!
//! What bounds the work of a turn: callbacks follow only from datagrams of the burst, timers that fired, and
//! applications that were due; datagrams are built only as the worker has room for them. Nothing in a turn is
//! proportional to the number of connections: those at rest stand in no list but that of the timers, which is a heap.
//!
//! # Fairness
//!
//! Connections with something to send stand in line, each once. The first has its turn: it sends until it has nothing
//! left, or must wait for acknowledgements, credit or its pacer, or has sent `turn_budget` datagrams, and then stands at
//! the end again if it had to stop. One that comes to have something to send stands at the end, too. So whoever has
//! little waits behind at most one turn of each of the others, and whoever has much gets an equal share with the others
//! of its kind, in datagrams: next to n connections with one datagram each, a bulk transfer has `turn_budget` of the
//! n + `turn_budget` datagrams of a round. Received datagrams are taken as they come; what connections may receive is
//! bounded by their windows. Within a connection, streams take turns by priority ([`Connection::set_priority`]).
//! Stateless answers to strangers have every fourth datagram at most.
//!
//! [`Connection::set_priority`]: crate::app::Connection::set_priority

mod applications;
mod classify;
mod config;
mod core;
mod counters;
mod dispatch;
mod entry;
mod gate;
mod listeners;
mod rates;
mod receive;
mod responses;
mod samples;
mod setup;
mod streams;
mod timers;
mod transmit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hugepages::mapped::faults;
use poll::{Datagram, Transmit, Transport};

use self::applications::Applications;
pub(crate) use self::core::Core;
use self::core::{Clients, Endpoint, Service};
use self::gate::Gate;
use self::setup::{Endpoints, check};
pub use config::{ListenerConfig, ServiceConfig, ShardConfig, ShardError, ShardLimits};
pub use counters::{BUCKETS, Buckets, Counter, ShardCounters};
pub(crate) use entry::Entry;

use crate::steering::{PortChoice, Steering};

/// QUIC on one queue pair: see the [module](self).
pub struct Shard {
    core: Core,
    applications: Applications,
    drain_timeout: Duration,
    drain: Drain,
    /// Timers and applications have not been looked at in this turn.
    new_turn: bool,
    /// Datagrams of connections that go before the next stateless answer.
    before_response: u8,
    /// Page faults in mapped files seen by this shard.
    page_faults: u64,
}

/// How far a shutdown is.
#[derive(Debug, Clone, Copy)]
enum Drain {
    /// No stop was requested.
    None,
    /// Streams in use may finish.
    Waiting { until: Instant },
    /// Everything is closed, which peers are told as far as the device takes frames.
    Closing { until: Instant },
    /// Nothing is waited for any more: peers that were not told find out by their idle time-out.
    Over,
}

/// How long a device that takes no frames can hold up the end after the drain time-out.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// While connections have something to send, one datagram in so many is a stateless answer: strangers who provoke
/// answers cannot take the port from those who are connected.
const RESPONSE_SHARE: u8 = 4;

impl Shard {
    /// Makes a shard and its applications, on the thread that drives them. `now` is the time at which it starts, on the
    /// clock that drives it.
    pub fn new(config: ShardConfig, now: Instant) -> Result<Self, ShardError> {
        check(&config)?;
        let connects = config.connects();
        let mut endpoints = Endpoints::new(&config);
        let gate = Gate::new(&config.limits, now, endpoints.randomness.number()?);
        let mut core = Core::new(
            now,
            config.limits,
            config.counters,
            config.steering,
            endpoints,
            gate,
        );
        core.paced_by_device = config.paced_by_device;
        let mut applications = Applications::default();
        for listener in config.listeners {
            let services = listener.services.into_iter().map(|service| Service {
                alpn: service.alpn,
                early_data: service.early_data,
                application: applications.add((service.application)(), false, now),
            });
            core.endpoints.push(Endpoint {
                udp_ports: listener.udp_port..=listener.udp_port,
                services: services.collect(),
                streams: listener.streams,
                generation: 0,
                owner: None,
                closed: false,
                quinn: core
                    .maker
                    .make(Some((listener.udp_port, listener.server)))?,
                routes: Vec::new(),
            });
        }
        if connects {
            let start = core.maker.randomness.number()?;
            core.clients = Some(Clients {
                endpoint: core.endpoints.len() as u16,
                udp_ports: PortChoice::new(config.client_ports.clone(), start),
            });
            core.endpoints.push(Endpoint {
                udp_ports: config.client_ports.range,
                services: Vec::new(),
                streams: None,
                generation: 0,
                owner: None,
                closed: false,
                quinn: core.maker.make(None)?,
                routes: Vec::new(),
            });
        }
        for client in config.clients {
            applications.add(client(), true, now);
        }
        for agent in config.agents {
            applications.add(agent(), false, now);
        }
        Ok(Self {
            core,
            applications,
            drain_timeout: config.drain_timeout,
            drain: Drain::None,
            new_turn: true,
            before_response: 0,
            page_faults: faults(),
        })
    }

    /// The UDP ports of this shard: what the worker has to let through to it.
    pub fn udp_ports(&self) -> impl Iterator<Item = u16> + '_ {
        let endpoints = self.core.endpoints.iter();
        endpoints.flat_map(|endpoint| endpoint.udp_ports.clone())
    }

    /// What this shard counts.
    pub fn counters(&self) -> &Arc<ShardCounters> {
        &self.core.counters
    }

    /// True when there is at least one client and all of them have finished. Other threads read it from
    /// [`ShardCounters::clients_finished`].
    pub fn clients_finished(&self) -> bool {
        self.applications.clients_finished()
    }

    /// Brings the counters up to date that are taken from statistics of connections: `lost_packets`,
    /// `congestion_events`, `mtu`. Turns do it for a few connections at a time, and for each when it ends; this looks at
    /// every connection. Dropping the shard does it, too.
    pub fn publish(&self) {
        self.core.publish();
    }

    /// What is done once a turn, before anything is sent.
    fn start_turn(&mut self) {
        self.new_turn = false;
        self.core.take_over();
        if self
            .core
            .timers
            .earliest()
            .is_some_and(|at| at <= self.core.now)
        {
            self.core.fire_timers();
        }
        self.core.settle(&mut self.applications);
        self.applications.run_due(&mut self.core);
        self.core.sample();
        match self.drain {
            Drain::Waiting { until } if until <= self.core.now => {
                let until = self.core.now + CLOSE_MAX;
                self.drain = Drain::Closing { until };
                self.core.close_all();
            }
            Drain::Closing { until } if until <= self.core.now => self.drain = Drain::Over,
            _ => {}
        }
    }

    /// Builds the next datagram: an answer to a stranger in its turn, else one of a connection, or several.
    #[inline]
    fn build(&mut self, buf: &mut Vec<u8>, segments_max: usize) -> Option<Transmit> {
        if self.before_response == 0
            && let Some(response) = self.core.responses.pop(buf)
        {
            self.before_response = RESPONSE_SHARE - 1;
            return Some(response);
        }
        if let Some(transmit) = self.core.transmit(buf, segments_max) {
            let datagrams = transmit.datagrams().min(RESPONSE_SHARE.into()) as u8;
            self.before_response = self.before_response.saturating_sub(datagrams);
            return Some(transmit);
        }
        self.core.responses.pop(buf)
    }

    /// A mapped file was truncated while it was read from, perhaps into the datagram in `buf`: it must not leave.
    /// quinn-proto takes it for sent, and later for lost; the application resets what it cannot send any more.
    #[cold]
    fn page_fault(&mut self, buf: &mut Vec<u8>) {
        self.page_faults = faults();
        self.core.counters.discarded_page_fault.add(1);
        buf.clear();
        let core = &mut self.core;
        self.applications.call_all(core, |application, context| {
            application.page_faults(context)
        });
    }
}

impl Drain {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Waiting { until } | Self::Closing { until } => Some(until),
            Self::None | Self::Over => None,
        }
    }
}

impl Transport for Shard {
    #[inline]
    fn receive(&mut self, now: Instant, datagram: Datagram) {
        self.core.now = now;
        self.core.receive(datagram);
    }

    #[inline]
    fn advance(&mut self, now: Instant) {
        self.core.now = now;
        if self.new_turn {
            self.start_turn();
        }
        self.core.settle(&mut self.applications);
    }

    #[inline]
    fn transmit(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        segments_max: usize,
    ) -> Option<Transmit> {
        self.core.now = now;
        if self.new_turn {
            self.start_turn();
        }
        loop {
            self.core.settle(&mut self.applications);
            match self.build(buf, segments_max) {
                Some(_) if faults() != self.page_faults => self.page_fault(buf),
                Some(transmit) => {
                    let datagrams = transmit.datagrams() as u64;
                    self.core.counters.udp_sent.add(datagrams);
                    return Some(transmit);
                }
                // The last connection's turn may have made events.
                None if self.core.dirty.is_empty() => {
                    self.new_turn = true;
                    return None;
                }
                None => {}
            }
        }
    }

    fn timeout(&mut self) -> Option<Instant> {
        self.new_turn = true;
        let core = &self.core;
        let waits = core.steering.as_ref().is_some_and(Steering::waits);
        if waits || !core.ready.is_empty() || !core.dirty.is_empty() || !core.responses.is_empty() {
            return Some(core.now);
        }
        let deadlines = [
            core.timers.earliest(),
            self.applications.next_run(),
            self.drain.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn is_drained(&self) -> bool {
        let core = &self.core;
        let rests = core.live == 0 && core.dirty.is_empty() && core.ready.is_empty();
        matches!(self.drain, Drain::Over) || core.stopping && rests
    }

    fn stop(&mut self, now: Instant) {
        if self.core.stopping {
            return;
        }
        self.core.now = now;
        self.core.stopping = true;
        self.drain = Drain::Waiting {
            until: now + self.drain_timeout,
        };
        self.applications
            .call_all(&mut self.core, |application, context| {
                application.stop(context)
            });
        self.core.mark_all();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.publish();
    }
}
