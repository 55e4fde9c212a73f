//! The client as an application of a shard.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use stoq::app::{
    Application, ConnectTarget, Connection, ConnectionError, ConnectionKey, ConnectionStats,
    Context, Dir, ReadEnd, StreamId,
};

use super::case::{REST, Spec};
use super::recorder::{Recorder, request};
use crate::scale::figures::Figures;

/// Has a fixed number of requests under way on one connection, and says what it found when it is over.
pub struct Requester {
    spec: Spec,
    target: ConnectTarget,
    found: Sender<Figures>,
    request: Bytes,
    recorder: Recorder,
    /// The connection, once it is up.
    key: Option<ConnectionKey>,
    /// When to begin: at once with the connection, then with the requests.
    wake: Option<Instant>,
    /// Requests that wait for the server to grant a stream, by the time at which they were issued.
    waiting: VecDeque<Instant>,
    streams: Streams,
    told: bool,
}

impl Requester {
    /// A client of the server at `target` that tells `found`.
    pub fn new(spec: Spec, target: ConnectTarget, found: Sender<Figures>) -> Self {
        Self {
            spec,
            target,
            found,
            request: request(spec.case.answer()),
            recorder: Recorder::new(spec.terms(), Instant::now()),
            key: None,
            wake: Some(Instant::now()),
            waiting: VecDeque::with_capacity(spec.case.outstanding()),
            streams: Streams::default(),
            told: false,
        }
    }

    fn begin(&mut self, connection: &mut Connection<'_>) {
        self.recorder = Recorder::new(self.spec.terms(), Instant::now());
        for _ in 0..self.spec.case.outstanding() {
            self.waiting.extend(self.recorder.issue());
        }
        self.send(connection);
    }

    /// Sends requests that wait, as far as the server grants streams.
    fn send(&mut self, connection: &mut Connection<'_>) {
        while !self.waiting.is_empty()
            && let Some(id) = connection.open(Dir::Bi)
            && let Some(issued) = self.waiting.pop_front()
        {
            let mut request = self.request.clone();
            match connection.write_bytes(id, &mut request) {
                Ok(_) if request.is_empty() => {
                    connection.finish(id);
                    self.streams.insert(id, issued);
                }
                other => {
                    let problem = format!("a request was not taken whole: {other:?}");
                    self.recorder.fail(problem);
                }
            }
        }
        if self.recorder.is_over() {
            self.tell(Some(&connection.stats()));
        }
    }

    fn tell(&mut self, stats: Option<&ConnectionStats>) {
        if !self.told {
            self.told = true;
            // Nobody listens any more when the measurement took too long.
            let _ = self.found.send(self.recorder.figures(stats));
        }
    }

    fn fail(&mut self, problem: String) {
        self.recorder.fail(problem);
        self.tell(None);
    }
}

impl Application for Requester {
    fn connected(&mut self, connection: &mut Connection<'_>) {
        self.key = Some(connection.key());
        self.wake = Some(connection.now() + REST);
    }

    fn available(&mut self, connection: &mut Connection<'_>, _dir: Dir) {
        self.send(connection);
    }

    fn readable(&mut self, connection: &mut Connection<'_>, id: StreamId) {
        let Some(stream) = self.streams.of(id) else {
            return;
        };
        let recorder = &mut self.recorder;
        let end = connection.read_with(id, usize::MAX, |chunk| {
            stream.received += chunk.len() as u64;
            recorder.received(chunk.len());
        });
        let Stream { issued, received } = *stream;
        match end {
            Ok(ReadEnd::Blocked | ReadEnd::Limit) => return,
            Ok(ReadEnd::Finished) => self.waiting.extend(recorder.answered(issued, received)),
            Err(error) => recorder.fail(format!("an answer: {error}")),
        }
        self.streams.remove(id);
        self.send(connection);
    }

    fn closed(&mut self, _key: ConnectionKey, reason: &ConnectionError) {
        if !self.told {
            self.fail(format!("the connection was lost: {reason}"));
        }
    }

    fn timeout(&self) -> Option<Instant> {
        self.wake
    }

    fn run(&mut self, shard: &mut Context<'_>) {
        self.wake = None;
        match self.key {
            None => {
                if let Err(error) = shard.connect(&self.target) {
                    self.fail(format!("no connection: {error}"));
                }
            }
            Some(key) => {
                if let Some(mut connection) = shard.connection(key) {
                    self.begin(&mut connection);
                }
            }
        }
    }
}

/// The requests under way by stream: IDs are given out in sequence, so no hash is needed.
#[derive(Default)]
struct Streams {
    /// Index of the first stream in `states`.
    first: u64,
    states: VecDeque<Option<Stream>>,
}

#[derive(Clone, Copy)]
struct Stream {
    issued: Instant,
    received: u64,
}

impl Streams {
    /// A stream just opened.
    fn insert(&mut self, id: StreamId, issued: Instant) {
        if self.states.is_empty() {
            self.first = id.index();
        }
        let received = 0;
        self.states.push_back(Some(Stream { issued, received }));
    }

    fn slot(&mut self, id: StreamId) -> Option<&mut Option<Stream>> {
        let at = id.index().checked_sub(self.first)?;
        self.states.get_mut(usize::try_from(at).ok()?)
    }

    fn of(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slot(id)?.as_mut()
    }

    fn remove(&mut self, id: StreamId) {
        if let Some(slot) = self.slot(id) {
            *slot = None;
        }
        while let Some(None) = self.states.front() {
            self.states.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoq::app::Side;

    #[test]
    fn streams_may_end_in_any_order() {
        let mut streams = Streams::default();
        let id = |index| StreamId::new(Side::Client, Dir::Bi, index);
        let now = Instant::now();
        (0..4).for_each(|index| streams.insert(id(index), now));
        for index in [2, 0, 1] {
            assert!(streams.of(id(index)).is_some());
            streams.remove(id(index));
            assert!(streams.of(id(index)).is_none());
        }
        assert_eq!(streams.states.len(), 1);
        streams.insert(id(4), now);
        streams.of(id(4)).unwrap().received = 7;
        assert_eq!(streams.of(id(3)).unwrap().received, 0);
        streams.remove(id(3));
        assert_eq!(streams.of(id(4)).unwrap().received, 7);
    }
}
