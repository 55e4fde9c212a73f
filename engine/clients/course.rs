//! The course of a client that makes requests, as [`perf`](super::perf) and [`echo`](super::echo) have it in common:
//! connections come and go, requests begin on them in turn, and at the end the results are handed over.

use std::time::Instant;

use super::connections::Connections;
use super::pacer::Pacer;
use super::results::Report;
use crate::app::{Connection, ConnectionError, ConnectionKey, Context};

/// See the module.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) connections: Connections,
    pub(super) report: Report,
    pub(super) pacer: Pacer,
    /// Requests under way on all connections.
    pub(super) under_way: u64,
}

impl Course {
    pub(super) fn new(connections: Connections, report: Report, pacer: Pacer) -> Self {
        Self {
            connections,
            report,
            pacer,
            under_way: 0,
        }
    }

    /// To be called first by every run. Returns how many connections could not be started.
    pub(super) fn run(&mut self, shard: &mut Context<'_>) -> usize {
        self.pacer.run(shard.now());
        match self.pacer.is_over() {
            true => 0,
            false => self.connections.connect(shard, &mut self.report),
        }
    }

    /// Requests can be made on a connection. True when it is to be filled with them: at a rate, they are shared out by
    /// the next run.
    pub(super) fn ready(&mut self, connection: &Connection<'_>) -> bool {
        let now = connection.now();
        self.connections.ready(connection);
        self.report.start(now);
        self.pacer.start(now);
        !self.pacer.has_rate()
    }

    /// A connection is gone, which is a failure before the work is over.
    pub(super) fn gone(&mut self, key: ConnectionKey, reason: &ConnectionError) {
        let over = self.pacer.is_over();
        (self.connections).gone(key, reason, over, &mut self.report);
        self.pacer.wake();
    }

    /// When to run next: at one of the client's `own` times, or for what is in here.
    pub(super) fn timeout(&self, own: Option<Instant>) -> Option<Instant> {
        let until_over = [own, self.connections.timeout()].into_iter().flatten();
        let until_over = until_over.filter(|_| !self.pacer.is_over());
        self.pacer.timeout().into_iter().chain(until_over).min()
    }

    /// Looks whether it is over. Besides those under way, `waiting` requests are to be made again.
    pub(super) fn check(&mut self, now: Instant, waiting: u64) {
        let alone = self.connections.all_gone();
        self.pacer.check(now, self.under_way + waiting, alone);
    }

    /// Ends it: what has no answer now will have none. Later calls change nothing.
    pub(super) fn finish(&mut self, shard: &mut Context<'_>, waiting: u64) {
        if self.pacer.finish() {
            self.report.unanswered = self.pacer.waiting(shard.now()) + self.under_way + waiting;
            self.connections.close(shard);
            self.report.hand_over(shard.now());
        }
    }
}

/// A client on a [`Course`]: how requests are shared out.
pub(super) trait Requests {
    /// The course it is on.
    fn course(&mut self) -> &mut Course;

    /// Whether a request is to be begun on some connection.
    fn is_due(&self, now: Instant) -> bool;

    /// Begins one request; false when none is due or the connection takes none.
    fn begin(&mut self, connection: &mut Connection<'_>) -> bool;

    /// Begins requests on a connection, as many as are due and it takes.
    fn fill(&mut self, connection: &mut Connection<'_>) {
        while self.begin(connection) {}
    }

    /// Begins what is due, over the connections in turn.
    fn begin_due(&mut self, shard: &mut Context<'_>) {
        let now = shard.now();
        while self.is_due(now) && self.begin_somewhere(shard) {}
        self.course().pacer.sleep(now);
    }

    /// Begins one request on the next connection that takes it; when none does, a callback for one follows.
    fn begin_somewhere(&mut self, shard: &mut Context<'_>) -> bool {
        for offset in 0..self.course().connections.len() {
            if let Some(key) = self.course().connections.in_turn(offset)
                && let Some(mut connection) = shard.connection(key)
                && self.begin(&mut connection)
            {
                self.course().connections.had_turn(offset);
                return true;
            }
        }
        false
    }
}
