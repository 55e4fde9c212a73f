//! The client, for all kinds of work.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::time::{Duration, Instant};

use ::quiche::Connection;
use bench::api::case::REST;
use bench::api::recorder::{Recorder, request};
use bench::field::peer::{ClientSpec, HEADER, PATIENCE, Work};
use bench::scale::case::DIALING;
use bench::scale::figures::Figures;
use bench::settings::SERVER_NAME;
use bytes::Bytes;

use super::config;
use super::endpoint::{Application, Endpoint};
use super::socket::{BUFFER, Socket};
use crate::asynchronous::judge_kind;
use crate::report::Usage;

/// How long connections may take to come up.
const DIAL_MAX: Duration = Duration::from_secs(30);

/// Runs a client as `spec` says.
pub fn run(spec: &ClientSpec) -> Result<Figures, Box<dyn Error>> {
    let mut config = config(&spec.path)?;
    let certificate = spec.path.certificate();
    let utf8 = "the path of the identity is not UTF-8";
    config.load_verify_locations_from_file(certificate.to_str().ok_or(utf8)?)?;
    config.verify_peer(true);
    let any = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    let socket = Socket::bind(any, !spec.path.no_segmentation)?;
    let driver = Driver {
        endpoint: Endpoint::new(socket, config, false),
        client: Client::new(spec),
        spec: spec.clone(),
    };
    match spec.path.work {
        Work::Bulk | Work::Requests => driver.requests(),
        Work::Handshakes | Work::Resumed => driver.handshakes(),
        Work::Datagrams => driver.datagrams(),
        Work::Idle => driver.idle(),
    }
}

/// What is done, step by step, around the loop.
struct Driver {
    endpoint: Endpoint<State>,
    client: Client,
    spec: ClientSpec,
}

impl Driver {
    fn requests(mut self) -> Result<Figures, Box<dyn Error>> {
        let load = self.spec.load;
        self.dial(load.connections)?;
        self.rest(REST)?;
        let usage = Usage::now(&self.spec);
        self.client.begin(&self.spec);
        for n in 0..load.outstanding {
            let slot = self.client.up[n % self.client.up.len()];
            if let Some(issued) = self.client.recorder.issue() {
                self.endpoint
                    .with(slot, |_, state| state.waiting.push_back(issued));
            }
        }
        while !self.client.is_over() {
            self.turn(None)?;
        }
        let mut figures = self.client.recorder.figures(None);
        usage.add_cpu_by_bytes(&mut figures);
        let first = self.client.up.first().copied().unwrap_or_default();
        if let Some(bytes) = self.endpoint.with(first, |connection, _| {
            connection.max_send_udp_payload_size()
        }) {
            figures.add("UDP payload", "B", bytes as f64);
        }
        Ok(figures)
    }

    fn handshakes(mut self) -> Result<Figures, Box<dyn Error>> {
        let (work, under_way) = (self.spec.path.work, self.spec.load.outstanding);
        if work == Work::Resumed {
            self.dial(1)?;
            self.rest(REST)?; // Its ticket comes after the handshake.
            let first = self.client.up[0];
            self.finish_handshake(first, work)?;
        }
        self.client.begin(&self.spec);
        for _ in 0..under_way {
            self.begin_handshake()?;
        }
        while !self.client.is_over() {
            self.turn(None)?;
            for slot in std::mem::take(&mut self.client.answered) {
                self.finish_handshake(slot, work)?;
                self.begin_handshake()?;
            }
        }
        let mut figures = self.client.recorder.figures(None);
        judge_kind(work, self.client.full, under_way, &mut figures);
        Ok(figures)
    }

    fn begin_handshake(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some(issued) = self.client.recorder.issue() {
            let slot = self.connect()?;
            self.endpoint
                .with(slot, |_, state| state.waiting.push_back(issued));
        }
        Ok(())
    }

    /// Takes the ticket of a connection, which is then closed.
    fn finish_handshake(&mut self, slot: usize, work: Work) -> Result<(), Box<dyn Error>> {
        let client = &mut self.client;
        self.endpoint.with(slot, |connection, _| {
            client.full += u64::from(!connection.is_resumed());
            if work == Work::Resumed
                && let Some(session) = connection.session()
            {
                client.session = Some(session.to_vec());
            }
        });
        Ok(self.endpoint.close(slot)?)
    }

    fn datagrams(mut self) -> Result<Figures, Box<dyn Error>> {
        self.dial(1)?;
        self.rest(REST)?;
        self.client.begin(&self.spec);
        let (slot, mut lost) = (self.client.up[0], 0);
        while !self.client.is_over() {
            let answers = self.client.returned;
            self.endpoint.with(slot, |_, _| ()); // Has it fill up what is under way.
            self.rest(PATIENCE)?;
            if self.client.returned == answers {
                lost += self.client.under_way.len() as u64;
                self.client
                    .recorder
                    .give_up(self.client.under_way.len() as u64);
                self.client.under_way.clear();
            }
        }
        let mut figures = self.client.recorder.figures(None);
        figures.add("lost", "", lost as f64);
        Ok(figures)
    }

    fn idle(mut self) -> Result<Figures, Box<dyn Error>> {
        // What is made once, with the first connection, is not what a connection takes.
        self.dial(1)?;
        self.rest(REST)?;
        let (usage, load) = (Usage::now(&self.spec), self.spec.load);
        self.dial(1 + load.connections)?;
        self.rest(load.length())?;
        let mut figures = Figures::default();
        usage.add_memory_by_connections(load.connections, &mut figures);
        if self.client.lost > 0 {
            figures
                .problems
                .push(format!("{} connections were lost", self.client.lost));
        }
        Ok(figures)
    }

    /// Makes connections until `count` are up.
    fn dial(&mut self, count: usize) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + DIAL_MAX;
        let mut begun = self.client.up.len();
        while self.client.up.len() < count {
            while begun < count && begun - self.client.up.len() < DIALING {
                self.connect()?;
                begun += 1;
            }
            self.turn(Some(end))?;
            if self.client.lost > 0 || Instant::now() > end {
                let (up, lost) = (self.client.up.len(), self.client.lost);
                return Err(format!("of {count} connections {up} came up, {lost} failed").into());
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<usize, ::quiche::Error> {
        let session = self.client.session.as_deref();
        self.endpoint
            .connect(SERVER_NAME, self.spec.connect, session)
    }

    /// Goes on for a while.
    fn rest(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.client.is_over() {
            self.turn(Some(end))?;
        }
        Ok(())
    }

    fn turn(&mut self, until: Option<Instant>) -> Result<(), Box<dyn Error>> {
        if !self.endpoint.turn(&mut self.client)? && !self.spec.path.busy {
            self.endpoint.wait(until)?;
        }
        Ok(())
    }
}

/// What a connection is about.
#[derive(Default)]
struct State {
    up: bool,
    /// When requests were issued that are not sent yet.
    waiting: VecDeque<Instant>,
    /// Requests under way: when they were issued, and bytes of the answer so far.
    streams: HashMap<u64, (Instant, u64)>,
    /// The next stream to open.
    next: u64,
    /// Bytes of the first request that waits which were sent: the congestion window had no room for more.
    sent: usize,
}

/// What all connections do.
struct Client {
    work: Work,
    request: Bytes,
    recorder: Recorder,
    /// Whether the load has begun.
    begun: bool,
    /// Datagrams under way, or to be, at a time.
    outstanding: usize,
    under_way: VecDeque<Instant>,
    /// Datagrams that came back.
    returned: u64,
    buffer: Vec<u8>,
    /// Connections that are up, in the order in which they came to be.
    up: Vec<usize>,
    /// Connections whose request was answered, of those that make handshakes.
    answered: Vec<usize>,
    /// Connections that ended by themselves.
    lost: u64,
    full: u64,
    session: Option<Vec<u8>>,
}

impl Client {
    fn new(spec: &ClientSpec) -> Self {
        let (work, load) = (spec.path.work, spec.load);
        let request = request(load.answer);
        Self {
            work,
            request: match work {
                Work::Handshakes | Work::Resumed => request.slice(..HEADER),
                // A datagram is as long as what comes back.
                Work::Datagrams => Bytes::from(vec![0; load.answer as usize]),
                _ => request,
            },
            recorder: Recorder::new(load.terms(work), Instant::now()),
            begun: false,
            outstanding: load.outstanding,
            under_way: VecDeque::new(),
            returned: 0,
            buffer: vec![0; BUFFER],
            up: Vec::new(),
            answered: Vec::new(),
            lost: 0,
            full: 0,
            session: None,
        }
    }

    /// The load begins now.
    fn begin(&mut self, spec: &ClientSpec) {
        self.recorder = Recorder::new(spec.load.terms(self.work), Instant::now());
        self.full = 0;
        self.begun = true;
    }

    fn is_over(&self) -> bool {
        self.begun && self.recorder.is_over()
    }

    /// Sends requests that wait, as far as the peer permits streams and the congestion window bytes.
    fn send(&self, connection: &mut Connection, state: &mut State) {
        while let Some(&issued) = state.waiting.front() {
            let rest = &self.request[state.sent..];
            let Ok(sent) = connection.stream_send(state.next, rest, true) else {
                return; // It is tried again when something has come.
            };
            state.sent += sent;
            if state.sent < self.request.len() {
                return; // As above.
            }
            state.streams.insert(state.next, (issued, 0));
            state.next += 4;
            state.sent = 0;
            state.waiting.pop_front();
        }
    }

    fn read(&mut self, slot: usize, connection: &mut Connection, id: u64, state: &mut State) {
        let Some((issued, bytes)) = state.streams.get_mut(&id) else {
            return;
        };
        while let Ok((count, finished)) = connection.stream_recv(id, &mut self.buffer) {
            *bytes += count as u64;
            self.recorder.received(count);
            if !finished {
                continue;
            }
            match self.work {
                Work::Handshakes | Work::Resumed => {
                    self.recorder.count(*issued, *bytes);
                    self.answered.push(slot);
                }
                _ => state
                    .waiting
                    .extend(self.recorder.answered(*issued, *bytes)),
            }
            state.streams.remove(&id);
            return;
        }
    }

    fn echo(&mut self, connection: &mut Connection) {
        while let Ok(count) = connection.dgram_recv(&mut self.buffer) {
            self.returned += 1;
            if let Some(issued) = self.under_way.pop_front() {
                self.recorder.count(issued, count as u64);
            }
        }
        while self.under_way.len() < self.outstanding
            && let Some(issued) = self.recorder.issue()
        {
            match connection.dgram_send(&self.request) {
                Ok(()) => self.under_way.push_back(issued),
                Err(error) => {
                    self.recorder.fail(error.to_string());
                    return;
                }
            }
        }
    }
}

impl Application for Client {
    type State = State;

    fn progress(&mut self, slot: usize, connection: &mut Connection, state: &mut State) {
        if !state.up {
            if !connection.is_established() {
                return;
            }
            state.up = true;
            self.up.push(slot);
        }
        while let Some(id) = connection.stream_readable_next() {
            self.read(slot, connection, id, state);
        }
        self.send(connection, state);
        if self.work == Work::Datagrams && self.begun {
            self.echo(connection);
        }
    }

    fn ended(&mut self, connection: &Connection, _state: State) {
        self.lost += 1;
        let why = connection.peer_error().or(connection.local_error());
        self.recorder.fail(format!("a connection ended: {why:?}"));
    }
}
