//! A life of a world, and what must hold at its end.

use std::fmt::Write;
use std::time::Duration;

use stoq::shard::ShardCounters;

use crate::buffers;
use crate::genesis;
use crate::ledger::{End, Ledger, Way, number};
use crate::network::INVENTING;
use crate::random::Random;
use crate::trace::say;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// What a world came to.
pub struct Outcome {
    /// The same in each run of a seed.
    pub trace: u64,
    /// Simulated time.
    pub took: Duration,
    /// Sums that say whether worlds are worth looking at.
    pub tally: Tally,
    pub violations: Vec<String>,
}

/// What happened in worlds, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub datagrams: u64,
    pub connections: u64,
    pub done: u64,
    pub streams: u64,
    pub bytes: u64,
    pub unreliable: u64,
    pub early: u64,
    pub handed_over: u64,
    pub handover_full: u64,
    pub retries: u64,
    pub refused: u64,
    pub dropped: u64,
    pub lost: u64,
}

/// Lives through the world of a seed.
pub fn live(seed: u64) -> Outcome {
    let buffers_before = buffers::in_use();
    let mut world = genesis::world(seed);
    let mut violations = Vec::new();
    let limit = world.scenario.deadline;
    let finished = world.run_until(limit, clients_finished);
    if !finished && world.scenario.gentle() && !world.stopped {
        violations.push(format!("clients have not finished after {limit:?}"));
    }
    world.calm();
    say(|| "the end begins".to_owned());
    drain(&mut world, &mut violations);
    check_buffers(&world, buffers_before, &mut violations);
    check_counters(&world, &mut violations);
    check_strangers(&world, &mut violations);
    check_own_clients(&world, finished, &mut violations);
    check_ledger(&world, &mut violations);
    if world.too_many_turns() {
        violations.push("too many turns".to_owned());
    }
    let outcome = Outcome {
        trace: world.trace.hash(),
        took: world.now - world.start,
        tally: tally(&world),
        violations,
    };
    drop(world);
    outcome
}

fn clients_finished(world: &World) -> bool {
    let clients = world.nodes.iter().filter(|node| node.host > 0);
    clients
        .into_iter()
        .all(|node| node.shard.clients_finished())
}

/// Shuts everything down in some order, and waits until nothing is left.
fn drain(world: &mut World, violations: &mut Vec<String>) {
    let mut hosts: Vec<_> = (0..world.hosts.len()).collect();
    let first = world.random.below(hosts.len());
    hosts.rotate_left(first);
    for host in hosts {
        world.stop(host);
        let pause = Random::time(&mut world.random, SECOND / 1_000, SECOND);
        if world.random.chance(0.5) {
            world.run_until(pause, |_| false);
        }
    }
    // Past the time-out there may be a device that takes nothing for some seconds, or a worker that does not run.
    let limit = world.scenario.drain_timeout + 10 * SECOND;
    let drained = |world: &World| {
        world
            .nodes
            .iter()
            .all(|node| poll::Transport::is_drained(&node.shard))
    };
    if !world.run_until(limit, drained) {
        violations.push(format!("not drained after {limit:?}: {}", left(world)));
    }
    // Closing connections linger for three probe time-outs (RFC 9000 §10.2), which are long where much is lost.
    let limit = 600 * SECOND;
    if !world.run_until(limit, World::is_at_rest) {
        violations.push(format!("not at rest after {limit:?}: {}", left(world)));
    }
}

fn left(world: &World) -> String {
    let mut text = String::new();
    for (index, node) in world.nodes.iter().enumerate() {
        let held = node.shard.counters().connections_current.get();
        let _ = write!(text, "shard {index} holds {held} connections; ");
    }
    text
}

/// Every buffer is back: none is left in a shard, an application or a channel.
fn check_buffers(world: &World, before: i64, violations: &mut Vec<String>) {
    let left = buffers::in_use() - before;
    if left != 0 {
        violations.push(format!(
            "{left} receive buffers not returned, {}",
            self::left(world)
        ));
    }
}

fn check_counters(world: &World, violations: &mut Vec<String>) {
    let mut equal = |what: &str, shard: usize, left: u64, right: u64| {
        if left != right {
            violations.push(format!("shard {shard}: {what}: {left} and {right}"));
        }
    };
    for (index, node) in world.nodes.iter().enumerate() {
        let counters = node.shard.counters();
        say(|| format!("shard {index}: {counters:#?}"));
        let ShardCounters {
            udp_received,
            taken_over,
            ..
        } = &**counters;
        let received = udp_received.get() + counters.dropped_unknown_udp_port.get();
        equal("datagrams received", index, received, node.received);
        equal("datagrams sent", index, counters.udp_sent.get(), node.sent);
        let (went, taken) = (counters.accounted(), udp_received.get() + taken_over.get());
        equal("datagrams taken in, and gone somewhere", index, taken, went);
        let ended = counters.handshakes.get()
            + counters.handshakes_failed.get()
            + counters.connects_failed.get();
        let begun = counters.connections_accepted.get() + counters.connections_opened.get();
        equal("connections begun, and come to an end", index, begun, ended);
        equal("panics", index, counters.application_panics.get(), 0);
        equal(
            "connections left",
            index,
            counters.connections_current.get(),
            0,
        );
        let in_state = [
            &counters.connections_handshaking,
            &counters.connections_closing,
        ];
        equal(
            "connections left in a state",
            index,
            in_state.map(|c| c.get()).iter().sum(),
            0,
        );
    }
    for host in &world.hosts {
        let nodes = &world.nodes[host.nodes.clone()];
        let sum = |of: fn(&ShardCounters) -> u64| -> u64 {
            nodes.iter().map(|node| of(node.shard.counters())).sum()
        };
        let handed_over = sum(|counters| counters.handed_over.get());
        let taken_over = sum(|counters| counters.taken_over.get());
        equal(
            "handed over, and taken over",
            host.nodes.start,
            handed_over,
            taken_over,
        );
    }
    check_rss(world, violations);
}

/// Where a device hashes as it says, and delivers as it hashes, what answers a client comes to its shard.
fn check_rss(world: &World, violations: &mut Vec<String>) {
    let faults = &world.scenario.faults;
    // A connection ID that was changed on its way may name another shard, and a replay comes from elsewhere.
    let strange = [faults.misplacement, faults.corruption, faults.replay];
    if !world.scenario.rss || strange.iter().any(|&fault| fault > 0.0) {
        return;
    }
    for (index, node) in world.nodes.iter().enumerate() {
        let handed_over = node.shard.counters().handed_over.get();
        if node.host > 0 && handed_over > 0 {
            violations.push(format!(
                "shard {index} of clients handed {handed_over} datagrams over"
            ));
        }
    }
}

/// Nobody gets more than three times what came from his address (RFC 9000 §8.1).
///
/// Left out are those who replay. A packet that overtakes its original makes a connection migrate, and quinn-proto
/// 0.11.19 asks the new address at full size, however little came from there (RFC 9000 §8.2.1 has it send less); and
/// while a handshake runs it counts what comes from other addresses, too.
fn check_strangers(world: &World, violations: &mut Vec<String>) {
    for (address, &(from, to)) in &world.strangers {
        if to > 3 * from && address.ip().segments()[1] == INVENTING {
            violations.push(format!("{address} sent {from} bytes and got {to}"));
        }
    }
}

fn check_own_clients(world: &World, finished: bool, violations: &mut Vec<String>) {
    for (handle, requests) in &world.handles {
        let Some(results) = handle.take_results() else {
            violations.push("a client ended without results".to_owned());
            continue;
        };
        let came = results.completed + results.datagrams_lost;
        let rules = world.scenario.rules();
        let excused = !rules.gentle || rules.fragile || world.stopped || !finished || world.rebound;
        if !excused && (came != *requests || results.failures_total > 0) {
            let failures = &results.failures;
            violations.push(format!("{came} of {requests} requests, {failures:?}"));
        }
        if came + results.unanswered > *requests {
            violations.push(format!("more than {requests} requests: {results:?}"));
        }
    }
}

fn check_ledger(world: &World, violations: &mut Vec<String>) {
    let ledger = &mut *world.book.lock();
    violations.append(&mut ledger.violations);
    for (number, record) in &ledger.opened {
        if record.end.is_none() {
            violations.push(format!("connection {number} never ended"));
        }
        let stays_undone = record.cut || record.may_end(ledger.rules) || world.stopped;
        if world.scenario.gentle() && !stays_undone {
            let end = &record.end;
            violations.push(format!("connection {number} is not done: {end:?}"));
        }
    }
    if world.scenario.gentle() && !world.stopped && ledger.opened.len() != world.planned {
        let (opened, planned) = (ledger.opened.len(), world.planned);
        violations.push(format!("{opened} of {planned} connections opened"));
    }
    for (key, record) in &ledger.accepted {
        if record.end.is_none() {
            violations.push(format!("server's connection {key:?} never ended"));
        }
    }
    for &(tag, way) in ledger.flows.keys() {
        check_flow(ledger, tag, way, violations);
    }
}

/// A stream came whole, or one of its ends gave it up, or its connection was lost.
fn check_flow(ledger: &Ledger, tag: u64, way: Way, violations: &mut Vec<String>) {
    let flow = &ledger.flows[&(tag, way)];
    let given_up = matches!(flow.sent, Some(End::Reset(_)));
    let done = ledger
        .opened
        .get(&number(tag))
        .is_some_and(|record| record.done);
    if flow.end.is_none() && !given_up && done && !ledger.is_void(tag) {
        violations.push(format!("stream {tag:x} {way:?} has no end: {flow:?}"));
    }
}

fn tally(world: &World) -> Tally {
    let mut tally = Tally::default();
    for node in &world.nodes {
        let counters = node.shard.counters();
        let add = |sum: &mut u64, counter: &stoq::shard::Counter| *sum += counter.get();
        tally.datagrams += node.received;
        add(&mut tally.bytes, &counters.bytes_received);
        add(&mut tally.early, &counters.early_data_accepted);
        add(&mut tally.handed_over, &counters.handed_over);
        add(&mut tally.handover_full, &counters.dropped_handover_full);
        add(&mut tally.retries, &counters.retries);
        add(&mut tally.refused, &counters.connections_refused);
        add(&mut tally.dropped, &counters.dropped_quic_ignored);
        add(&mut tally.dropped, &counters.dropped_incoming_full);
        add(&mut tally.dropped, &counters.dropped_strangers);
        add(&mut tally.lost, &counters.connections_lost);
    }
    let ledger = world.book.lock();
    tally.connections = ledger.opened.len() as u64;
    tally.done = ledger.opened.values().filter(|record| record.done).count() as u64;
    let whole = |end: &Option<End>| *end == Some(End::Finished);
    tally.streams = ledger
        .flows
        .values()
        .filter(|flow| whole(&flow.end))
        .count() as u64;
    tally.unreliable = ledger.datagrams() as u64;
    tally
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.connections += other.connections;
        self.done += other.done;
        self.streams += other.streams;
        self.bytes += other.bytes;
        self.unreliable += other.unreliable;
        self.early += other.early;
        self.handed_over += other.handed_over;
        self.handover_full += other.handover_full;
        self.retries += other.retries;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.lost += other.lost;
    }
}
