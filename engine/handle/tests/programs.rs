//! Random programs: tasks on both sides open, write, read, stop, reset, drop and give up, with bounds that hardly let
//! anything through, over links that lose, with couriers that are late. Whatever they do, what arrives is right, nobody
//! waits for ever, and nothing is left.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use quinn_proto::VarInt;

use super::rig::{CLIENT, Pair, SERVER, Setup};
use super::tasks::{Spawner, pause};
use crate::handle::{
    Agent, Connection, ConnectionError, HandleLimits, ReadError, ReadExactError, RecvStream,
    SendDatagramError, SendStream, StoppedError, WriteError,
};
use crate::transport::TransportSettings;

const STOP: VarInt = VarInt::from_u32(11);
const RESET: VarInt = VarInt::from_u32(12);

#[derive(Debug, Clone)]
struct Program {
    limits: [HandleLimits; 2],
    settings: [(u32, u64); 2],
    loss: f64,
    seed: u64,
    in_program: bool,
    streams: Vec<Plan>,
    /// Sent by each side.
    datagrams: [u8; 2],
}

/// A stream.
#[derive(Debug, Clone)]
struct Plan {
    opener: usize,
    bidirectional: bool,
    size: usize,
    /// Bytes written, and read, at once.
    piece: usize,
    sender: Sender,
    reader: Reader,
    /// Bytes sent back.
    answer: usize,
    /// How often a future is given up before it is waited for.
    impatience: u8,
}

#[derive(Debug, Clone, Copy)]
enum Sender {
    Finishes,
    Drops,
    /// After so many bytes.
    Resets(usize),
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    ReadsAll,
    /// After so many bytes.
    Stops(usize),
    Drops(usize),
}

fn limits() -> impl Strategy<Value = HandleLimits> {
    let size = || prop_oneof![1..4_usize, 1..400_usize, Just(100_000)];
    let count = || prop_oneof![1..3_u32, Just(100)];
    let commands = prop_oneof![1..5_usize, Just(100)];
    (commands, size(), size(), count(), count(), size()).prop_map(
        |(commands, read_ahead, write_ahead, streams, datagrams, datagram_bytes)| HandleLimits {
            commands,
            read_ahead,
            write_ahead,
            streams,
            datagrams,
            datagram_bytes,
        },
    )
}

fn plan() -> impl Strategy<Value = Plan> {
    let size = || prop_oneof![Just(0), 4..50_usize, 4..2_000_usize];
    let sender = prop_oneof![
        3 => Just(Sender::Finishes),
        2 => Just(Sender::Drops),
        1 => (0..500_usize).prop_map(Sender::Resets),
    ];
    let reader = prop_oneof![
        3 => Just(Reader::ReadsAll),
        1 => (0..500_usize).prop_map(Reader::Stops),
        1 => (0..500_usize).prop_map(Reader::Drops),
    ];
    let how = (sender, reader, 0..4_u8);
    (0..2_usize, any::<bool>(), size(), 1..700_usize, size(), how).prop_map(
        |(opener, bidirectional, size, piece, answer, (sender, reader, impatience))| Plan {
            opener,
            bidirectional,
            size,
            piece,
            sender,
            reader,
            answer,
            impatience,
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    let settings = || {
        (
            prop_oneof![1..4_u32, Just(100)],
            prop_oneof![300..3_000_u64, Just(100_000)],
        )
    };
    let loss = prop_oneof![Just(0.0), Just(0.02), Just(0.1)];
    let streams = prop::collection::vec(plan(), 1..10);
    (
        (limits(), limits()),
        (settings(), settings()),
        loss,
        (any::<u64>(), any::<bool>()),
        streams,
        (0..8_u8, 0..8_u8),
    )
        .prop_map(
            |(limits, settings, loss, (seed, in_program), streams, datagrams)| Program {
                limits: limits.into(),
                settings: settings.into(),
                loss,
                seed,
                in_program,
                streams,
                datagrams: datagrams.into(),
            },
        )
}

/// What is sent on a stream: which one it is, then numbers that differ from stream to stream.
fn byte(stream: usize, offset: usize) -> u8 {
    match offset {
        0..4 => (stream as u32).to_be_bytes()[offset],
        _ => (stream * 31 + offset * 7 + offset / 251) as u8,
    }
}

/// Gives a future up some times before it is waited for.
async fn impatient<F: Future + Unpin>(times: u8, make: impl Fn() -> F) -> F::Output {
    for time in 0..times {
        let mut future = make();
        let once = std::future::poll_fn(|context| {
            Poll::Ready(std::pin::Pin::new(&mut future).poll(context))
        });
        if let Poll::Ready(done) = once.await {
            return done;
        }
        for _ in 0..time {
            pause().await;
        }
    }
    make().await
}

/// What the tasks of a program have in common.
#[derive(Clone)]
struct Run {
    plans: Rc<Vec<Plan>>,
    spawner: Spawner,
    /// Connections may be lost from now on.
    ending: Rc<Cell<bool>>,
}

/// A connection that is lost ends a task, and nothing else does.
type Done = Result<(), ConnectionError>;

impl Run {
    fn spawn(&self, name: String, task: impl Future<Output = Done> + 'static) {
        let ending = Rc::clone(&self.ending);
        self.spawner.spawn(name, async move {
            if let Err(lost) = task.await {
                assert!(ending.get(), "{lost:?}");
            }
        });
    }

    async fn open(self, connection: Connection, stream: usize) -> Done {
        let plan = self.plans[stream].clone();
        if !plan.bidirectional {
            let send = impatient(plan.impatience, || connection.open_uni()).await?;
            return write(send, stream, plan.size, plan).await;
        }
        let opened = impatient(plan.impatience, || connection.open_bi()).await;
        let (send, mut recv) = opened?;
        let copy = plan.clone();
        self.spawn(format!("answer to {stream}"), async move {
            if let Some(number) = number(&mut recv).await? {
                assert_eq!(number, stream);
                read(recv, stream, copy.answer, &copy, Reader::ReadsAll).await?;
            }
            Ok(())
        });
        write(send, stream, plan.size, plan).await
    }

    async fn accepted(self, send: Option<SendStream>, mut recv: RecvStream) -> Done {
        let Some(stream) = number(&mut recv).await? else {
            return Ok(());
        };
        let plan = self.plans[stream].clone();
        assert_eq!(send.is_some(), plan.bidirectional);
        if let Some(send) = send {
            let answer = Plan {
                sender: Sender::Finishes,
                ..plan.clone()
            };
            let write = write(send, stream, plan.answer, answer);
            self.spawn(format!("answer of {stream}"), write);
        }
        read(recv, stream, plan.size, &plan, plan.reader).await
    }
}

async fn write(mut send: SendStream, stream: usize, size: usize, plan: Plan) -> Done {
    let size = match plan.sender {
        Sender::Resets(after) => after.min(size),
        Sender::Finishes | Sender::Drops => size,
    };
    let mut sent = 0;
    while sent < size {
        let piece: Bytes = (sent..size.min(sent + plan.piece))
            .map(|offset| byte(stream, offset))
            .collect();
        let written = match sent % 2 {
            0 => send.write(&piece).await,
            _ => {
                let count = piece.len();
                send.write_chunk(piece).await.map(|()| count)
            }
        };
        match written {
            Ok(count) => sent += count,
            Err(WriteError::Stopped(code)) => {
                assert!(code == STOP || code == VarInt::from_u32(0));
                assert_eq!(send.stopped().await, Ok(Some(code)));
                return Ok(());
            }
            Err(WriteError::ConnectionLost(error)) => return Err(error),
            Err(other) => panic!("{other:?}"),
        }
    }
    match plan.sender {
        Sender::Drops => return Ok(()),
        Sender::Resets(_) => drop(send.reset(RESET)),
        Sender::Finishes => send.finish().unwrap(),
    }
    match send.stopped().await {
        Ok(_) => Ok(()),
        Err(StoppedError::ConnectionLost(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

/// Reads the number of a stream, if there is one.
async fn number(recv: &mut RecvStream) -> Result<Option<usize>, ConnectionError> {
    let mut number = [0; 4];
    match recv.read_exact(&mut number).await {
        Ok(()) => Ok(Some(u32::from_be_bytes(number) as usize)),
        Err(ReadExactError::FinishedEarly(0)) => Ok(None),
        Err(ReadExactError::ReadError(ReadError::Reset(RESET))) => Ok(None),
        Err(ReadExactError::ReadError(ReadError::ConnectionLost(error))) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

/// Reads what follows the number, of `size` bytes in all.
async fn read(
    mut recv: RecvStream,
    stream: usize,
    size: usize,
    plan: &Plan,
    reader: Reader,
) -> Done {
    let mut offset = 4;
    loop {
        match reader {
            Reader::Stops(after) if offset >= after => {
                let _ = recv.stop(STOP);
                return Ok(());
            }
            Reader::Drops(after) if offset >= after => return Ok(()),
            _ => {}
        }
        match recv.read_chunk(plan.piece).await {
            Ok(Some(chunk)) => {
                assert!(chunk.len() <= plan.piece);
                for own in chunk {
                    assert_eq!(own, byte(stream, offset), "stream {stream} at {offset}");
                    offset += 1;
                }
                assert!(offset <= size);
            }
            Ok(None) => {
                assert_eq!(offset, size, "stream {stream} is not complete");
                return Ok(());
            }
            Err(ReadError::Reset(RESET)) => {
                assert!(matches!(plan.sender, Sender::Resets(_)));
                return Ok(());
            }
            Err(ReadError::ConnectionLost(error)) => return Err(error),
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn assert_bounds(connection: &Connection, limits: &HandleLimits) {
    let state = connection.inner().state();
    // What is there when a connection ends is all handed on.
    if state.closed.is_some() {
        return;
    }
    for (id, stream) in &state.streams {
        let bytes: usize = stream.chunks.iter().map(Bytes::len).sum();
        assert!(bytes <= limits.read_ahead, "{id}: {bytes} bytes");
    }
    for accepting in &state.accepting {
        assert!(accepting.ready.len() <= limits.streams as usize);
    }
    assert!(state.datagrams.len() <= limits.datagrams as usize);
}

/// Two sides that are at work, and their ends of the connection, the server's first.
fn begin(program: &Program, idle_timeout: Option<Duration>) -> (Pair, [Connection; 2], Run) {
    let settings = program.settings.map(|(streams, window)| TransportSettings {
        bidi_streams: streams,
        uni_streams: streams,
        stream_receive_window: window,
        idle_timeout,
        ..TransportSettings::default()
    });
    let limits = program.limits;
    let mut pair = Pair::new(Setup {
        limits,
        settings,
        seed: program.seed,
        chaos: true,
        in_program: program.in_program,
        ..Setup::default()
    });
    pair.rig.loss = program.loss;
    let ends = [pair.server.clone(), pair.client.clone()];
    pair.rig.every_turn = {
        let ends = ends.clone();
        Some(Box::new(move || {
            for (end, limits) in ends.iter().zip(&limits) {
                assert_bounds(end, limits);
            }
        }))
    };
    let run = Run {
        plans: Rc::new(program.streams.clone()),
        spawner: pair.rig.tasks.spawner(),
        ending: Rc::default(),
    };
    for (stream, plan) in run.plans.iter().enumerate() {
        let task = run.clone().open(ends[plan.opener].clone(), stream);
        run.spawn(format!("open {stream}"), task);
    }
    for side in [SERVER, CLIENT] {
        let coming = |bidirectional: bool| {
            let here = |plan: &&Plan| plan.opener != side && plan.bidirectional == bidirectional;
            run.plans.iter().filter(here).count()
        };
        let (count, end, own) = (coming(true), ends[side].clone(), run.clone());
        run.spawn(format!("accept bi {side}"), async move {
            for number in 0..count {
                let (send, recv) = impatient(2, || end.accept_bi()).await?;
                let name = format!("accepted bi {number} on {side}");
                own.spawn(name, own.clone().accepted(Some(send), recv));
            }
            Ok(())
        });
        let (count, end, own) = (coming(false), ends[side].clone(), run.clone());
        run.spawn(format!("accept uni {side}"), async move {
            for number in 0..count {
                let recv = impatient(2, || end.accept_uni()).await?;
                let name = format!("accepted uni {number} on {side}");
                own.spawn(name, own.clone().accepted(None, recv));
            }
            Ok(())
        });
        let (count, end) = (program.datagrams[side], ends[side].clone());
        run.spawn(format!("datagrams of {side}"), async move {
            for number in 0..count {
                let datagram = Bytes::from(vec![number; usize::from(number) * 50]);
                match impatient(1, || end.send_datagram_wait(datagram.clone())).await {
                    Ok(()) => {}
                    Err(SendDatagramError::ConnectionLost(error)) => return Err(error),
                    Err(other) => panic!("{other:?}"),
                }
                end.stats().await?;
            }
            Ok(())
        });
    }
    (pair, ends, run)
}

fn run_to_the_end(program: &Program) {
    let (mut pair, ends, _run) = begin(program, None);
    pair.rig.finish();

    // What may still be lost is over; what is under way arrives.
    pair.rig.loss = 0.0;
    pair.rig.settle();
    for (side, end) in ends.iter().enumerate() {
        assert!(end.close_reason().is_none());
        assert_eq!(pair.rig.agent(side, Agent::streams).0, 0, "side {side}");
        assert_eq!(pair.rig.agent(side, Agent::waiting), 0);
        let state = end.inner().state();
        let left: HashSet<_> = state.streams.keys().collect();
        assert!(left.is_empty(), "side {side}: {left:?}");
        let came = state.datagrams.len();
        assert!(came <= usize::from(program.datagrams[1 - side]));
    }
    let Pair {
        mut rig,
        listener,
        server,
        client,
    } = pair;
    rig.every_turn = None;
    let closed = server.closed();
    drop((client, ends));
    rig.block_on(closed);
    drop(server);
    rig.settle();
    for side in [SERVER, CLIENT] {
        assert_eq!(rig.counters(side).connections_current.get(), 0);
    }
    drop(listener);
}

/// How a program is cut off.
#[derive(Debug, Clone, Copy)]
enum End {
    Close(usize),
    Drain(usize),
    BreakOff(usize),
}

fn cut_off(program: &Program, after: Duration, end: End) {
    // Who is not told finds out by the idle time-out.
    let (mut pair, ends, run) = begin(program, Some(Duration::from_secs(3)));
    pair.rig.run_for(after);
    run.ending.set(true);
    match end {
        End::Close(side) => ends[side].close(VarInt::from_u32(1), b"enough"),
        End::Drain(side) => pair.rig.stop(side),
        End::BreakOff(side) => pair.rig.kill(side),
    }
    pair.rig.finish();
    for end in ends {
        // Some may have been done before.
        end.close(VarInt::from_u32(2), b"");
        pair.rig.block_on(end.closed());
    }
}

fn end() -> impl Strategy<Value = End> {
    let side = || 0..2_usize;
    prop_oneof![
        side().prop_map(End::Close),
        side().prop_map(End::Drain),
        side().prop_map(End::BreakOff),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_tasks_do_is_done_in_the_end(program in program()) {
        run_to_the_end(&program);
    }

    #[test]
    fn nobody_waits_for_what_has_ended(program in program(), after in 0..60_000_u64, end in end()) {
        cut_off(&program, Duration::from_micros(after), end);
    }
}
