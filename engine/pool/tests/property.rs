//! Whatever happens in whatever order: bounds hold, nobody waits beside room, all is gone in the end.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PEERS: u16 = 4;

#[derive(Debug, Clone)]
enum Event {
    Call(u16),
    CallByKey(u16),
    /// The call at this place is polled: a lease if it is ready.
    Poll(usize),
    GiveUp(usize),
    Return(usize),
    Accept(usize),
    AcceptEarly(usize),
    Refuse(usize),
    /// The connection at this place ends.
    Close(usize),
    CloseSilently(usize),
    CloseLocally(usize),
    Deafen(usize),
    /// The server's word on early data.
    Word(usize, bool),
    Advance(u64),
    Turn,
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 0..PEERS;
    let place = 0..64usize;
    prop_oneof![
        8 => peer.clone().prop_map(Event::Call),
        2 => peer.prop_map(Event::CallByKey),
        4 => place.clone().prop_map(Event::Poll),
        3 => place.clone().prop_map(Event::GiveUp),
        6 => place.clone().prop_map(Event::Return),
        4 => place.clone().prop_map(Event::Accept),
        1 => place.clone().prop_map(Event::AcceptEarly),
        2 => place.clone().prop_map(Event::Refuse),
        1 => place.clone().prop_map(Event::Close),
        1 => place.clone().prop_map(Event::CloseSilently),
        1 => place.clone().prop_map(Event::CloseLocally),
        1 => place.clone().prop_map(Event::Deafen),
        1 => (place, any::<bool>()).prop_map(|(place, word)| Event::Word(place, word)),
        3 => (1..3000u64).prop_map(Event::Advance),
        4 => Just(Event::Turn),
    ]
}

#[derive(Debug, Clone)]
struct Bounds {
    peers: usize,
    connections: usize,
    connections_per_peer: usize,
    leases: usize,
    open_at: usize,
    waiters: usize,
    waiters_per_peer: usize,
    wait: bool,
    shards: usize,
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (
        (1..5usize, 1..6usize, 1..4usize, 1..4usize),
        (1..4usize, 1..10usize, 1..6usize, any::<bool>(), 1..4usize),
    )
        .prop_map(
            |(
                (peers, connections, connections_per_peer, leases),
                (open_at, waiters, waiters_per_peer, wait, shards),
            )| {
                Bounds {
                    peers,
                    connections,
                    connections_per_peer,
                    leases,
                    open_at,
                    waiters,
                    waiters_per_peer,
                    wait,
                    shards,
                }
            },
        )
}

impl Bounds {
    fn config(&self) -> PoolConfig {
        PoolConfig::default()
            .peers(self.peers)
            .connections(self.connections)
            .connections_per_peer(self.connections_per_peer)
            .leases_per_connection(self.leases)
            .open_at(self.open_at)
            .waiters(self.waiters)
            .waiters_per_peer(self.waiters_per_peer)
            .wait_timeout(4 * SECOND)
            .open_timeout(3 * SECOND)
            .idle_timeout(5 * SECOND)
            .settle(SECOND)
            .health(Some(
                Health::default().interval(2 * SECOND).deadline(SECOND),
            ))
            .back_off(BackOff::default().max(2 * SECOND).wait(self.wait))
    }
}

/// A pool, and all that was taken from it.
struct Run {
    bounds: Bounds,
    pool: Fixture,
    calls: Vec<Call>,
    leases: Vec<Held<FakeConnection>>,
}

impl Run {
    fn new(bounds: Bounds) -> Self {
        Self {
            pool: Fixture::on_shards(bounds.shards, bounds.config()),
            bounds,
            calls: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        let world = self.pool.world.clone();
        let made = |place: usize| {
            let made = world.0.made.lock().unwrap();
            (!made.is_empty()).then(|| Arc::clone(&made[place % made.len()]))
        };
        let attempt = |place: usize| (world.waiting() > 0).then(|| place % world.waiting());
        match *event {
            Event::Call(number) => {
                if let Ok(peer) = self.pool.shared.peer(&key(number)) {
                    let call = self.pool.call(&peer);
                    self.calls.push(call);
                }
            }
            Event::CallByKey(number) => {
                let shared = Arc::clone(&self.pool.shared);
                self.calls.push(Call {
                    future: Box::pin(async move { shared.get_by_key(&key(number)).await }),
                    woken: Arc::default(),
                });
            }
            Event::Poll(place) if !self.calls.is_empty() => {
                let place = place % self.calls.len();
                if let Poll::Ready(outcome) = self.calls[place].poll() {
                    drop(self.calls.remove(place));
                    self.leases.extend(outcome.ok());
                }
            }
            Event::GiveUp(place) if !self.calls.is_empty() => {
                drop(self.calls.remove(place % self.calls.len()));
            }
            Event::Return(place) if !self.leases.is_empty() => {
                drop(self.leases.remove(place % self.leases.len()));
            }
            Event::Accept(place) => {
                attempt(place).map(|place| world.accept(place));
            }
            Event::AcceptEarly(place) => {
                attempt(place).map(|place| world.accept_early(place));
            }
            Event::Refuse(place) => {
                attempt(place)
                    .into_iter()
                    .for_each(|place| world.refuse(place));
            }
            Event::Close(place) => made(place).iter().for_each(|facts| facts.close()),
            Event::CloseSilently(place) => {
                made(place).iter().for_each(|facts| facts.close_silently());
            }
            Event::CloseLocally(place) => {
                made(place).iter().for_each(|facts| facts.close_locally());
            }
            Event::Deafen(place) => made(place).iter().for_each(|facts| facts.turn_deaf()),
            Event::Word(place, word) => {
                made(place).iter().for_each(|facts| facts.early.keep(word));
            }
            Event::Advance(ms) => self.pool.advance(MS * ms as u32),
            Event::Turn => self.pool.turn(),
            Event::Poll(_) | Event::GiveUp(_) | Event::Return(_) => {}
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let stats = self.pool.stats();
        let bounds = &self.bounds;
        prop_assert!(stats.connections + stats.opening <= bounds.connections);
        prop_assert!(stats.peers <= bounds.peers);
        prop_assert!(stats.waiters <= bounds.waiters);
        prop_assert!(stats.waiters_max <= bounds.waiters);
        self.pool.shared.with_state(|state| {
            let mut waiting = 0;
            for peer in state.peers.values() {
                prop_assert!(peer.connections() <= bounds.connections_per_peer);
                prop_assert!(peer.queue.len() <= bounds.waiters_per_peer);
                waiting += peer.queue.len();
                let loads = peer.entries.iter().map(|entry| entry.slot.load());
                for load in loads {
                    prop_assert!(load.leases() <= bounds.leases);
                    prop_assert!(!load.is_retired());
                    prop_assert_eq!(load.is_open(), peer.queue.is_empty());
                    // Who waits does not wait beside room.
                    prop_assert!(peer.queue.is_empty() || load.leases() == bounds.leases);
                }
                // Who waits, waits for something that comes.
                let now = self.pool.world_now();
                prop_assert!(
                    peer.queue.is_empty()
                        || peer.connections() > 0
                        || peer.starved
                        || (bounds.wait && peer.delay.wait(now).is_some())
                        || state.due.is_some_and(|due| due <= now)
                );
                prop_assert_eq!(peer.starved, state.is_starved(peer.roster.id));
            }
            prop_assert_eq!(waiting, stats.waiters);
            // A place for each who waits or has not looked, and no other.
            prop_assert!(state.waiters.len() <= self.calls.len());
            Ok(())
        })?;
        Ok(())
    }

    /// All calls that do not wait for the world are done.
    fn end(mut self) -> Result<(), TestCaseError> {
        self.calls.clear();
        self.leases.clear();
        self.check()?;
        let stats = self.pool.stats();
        prop_assert_eq!((stats.waiters, stats.leases), (0, 0));
        prop_assert_eq!(self.pool.shared.with_state(|state| state.waiters.len()), 0);
        for _ in 0..200 {
            while self.pool.world.waiting() > 0 {
                self.pool.world.refuse(0);
            }
            self.pool.advance(SECOND);
        }
        let stats = self.pool.stats();
        prop_assert_eq!((stats.connections, stats.opening, stats.peers), (0, 0, 0));
        prop_assert_eq!(self.pool.world.alive(), 0);
        prop_assert_eq!(self.pool.keeper.turn(self.pool.world_now()), None);
        prop_assert_eq!(self.pool.keeper.tasks(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_and_nobody_is_lost(bounds in bounds(), events in vec(event(), 1..200)) {
        let mut run = Run::new(bounds);
        for event in &events {
            run.apply(event);
            run.check()?;
        }
        run.end()?;
    }

    /// With a world that answers everything, everybody is served, in order, however many give up on the way.
    #[test]
    fn all_who_stay_are_served_in_order(
        leases in 1..4usize,
        connections in 1..4usize,
        leaves in vec(any::<bool>(), 1..60),
        returns in vec(0..8usize, 60),
    ) {
        let config = PoolConfig::default()
            .leases_per_connection(leases)
            .connections_per_peer(connections);
        let mut pool = Fixture::new(config);
        pool.world.0.eager.store(true, Ordering::SeqCst);
        let peer = pool.peer(1);
        let mut calls: Vec<_> = leaves.iter().map(|_| pool.call(&peer)).map(Some).collect();
        for (call, leaves) in calls.iter_mut().zip(&leaves) {
            if *leaves {
                *call = None;
            }
        }
        pool.turn();
        let mut held: Vec<Held<FakeConnection>> = Vec::new();
        let mut returns = returns.into_iter();
        let mut queue: VecDeque<Call> = calls.into_iter().flatten().collect();
        while let Some(mut call) = queue.pop_front() {
            let lease = loop {
                if let Poll::Ready(outcome) = call.poll() {
                    break outcome;
                }
                for other in &mut queue {
                    prop_assert!(other.poll().is_pending(), "it was overtaken");
                }
                prop_assert!(!held.is_empty(), "it waits beside room");
                drop(held.remove(returns.next().unwrap_or(0) % held.len()));
            };
            prop_assert!(lease.is_ok());
            held.extend(lease.ok());
            prop_assert!(held.len() <= leases * connections);
        }
        drop(held);
        let stats = pool.stats();
        let left = leaves.iter().filter(|leaves| **leaves).count() as u64;
        prop_assert_eq!((stats.waiters, stats.leases, stats.cancelled), (0, 0, left));
    }
}
