//! Where the time of a turn goes, stage by stage: a profiler that is cheap enough to be switched on in production.
//!
//! One turn in [`TURNS`] is timed: each change of stage reads the time stamp counter, and the ticks since the last reading
//! go to the stage that ends. All other turns, and all turns of lanes without a [`Profiler`], pay a branch at each change.
//! A stage is marked by [`enter`] or [`within`], wherever it is, by a lane or by the transport above it: the clock belongs
//! to the thread.
//!
//! Reading the counter takes longer than some stages last. What it takes is measured when a profiler is made, and
//! [taken off](ProfileStats::ticks). What remains is an average over many frames: the CPU works on several instructions at a
//! time, so a few nanoseconds of a stage may be found in its neighbours.
//!
//! Where the system gives the CPU to somebody else, the stage that was interrupted seems to last for milliseconds. A piece
//! of a stage beyond [`INTERRUPTED`] is counted apart.

use std::cell::Cell;
use std::time::Duration;

use crate::counters::LaneStats;
use crate::tsc;

/// One turn in so many is timed. A prime, so that it does not fall into step with traffic that repeats itself.
pub const TURNS: u32 = 31;

/// No piece of a stage takes so long, a handshake's signature included: the CPU was taken away.
pub const INTERRUPTED: Duration = Duration::from_micros(500);

/// A part of the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The driver's receive burst.
    Rx,
    /// The host looks at a frame: headers, addresses, checksum.
    Parse,
    /// From an mbuf to bytes that the transport owns, and buffers given back.
    Lift,
    /// The transport takes in a datagram.
    Receive,
    /// The protocol under the transport takes in a datagram: decryption, frames.
    ProtocolReceive,
    /// The transport's timers, events and turns.
    Advance,
    /// The protocol's timers, events and streams.
    ProtocolEvents,
    /// Applications.
    Application,
    /// The transport chooses what is sent.
    Transmit,
    /// The protocol builds a datagram: frames, encryption.
    ProtocolTransmit,
    /// An mbuf is taken, lent to the transport, and filled.
    Lend,
    /// Route, headers, checksum.
    Emit,
    /// The driver's transmit burst.
    Tx,
    /// The rest of the turn: the host's own frames, the clock, counters.
    Other,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = Self::Other as usize + 1;
}

/// Begins `stage` on this thread and returns the stage that it ends. Free of any effect in a turn that is not timed.
#[inline(always)]
pub fn enter(stage: Stage) -> Stage {
    CLOCK.with(|clock| match clock.runs.get() {
        true => clock.enter(stage),
        false => stage,
    })
}

/// Does `work` as a stage of its own, and goes on with the one it was called in.
#[inline(always)]
pub fn within<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let outer = enter(stage);
    let done = work();
    enter(outer);
    done
}

thread_local! {
    static CLOCK: Clock = const { Clock::new() };
}

/// The present turn on this thread.
struct Clock {
    runs: Cell<bool>,
    stage: Cell<Stage>,
    since: Cell<u64>,
    /// Longer pieces are interruptions.
    limit: Cell<u64>,
    interruptions: Cell<u64>,
    interrupted: Cell<u64>,
    ticks: [Cell<u64>; Stage::COUNT],
    readings: [Cell<u64>; Stage::COUNT],
}

impl Clock {
    const fn new() -> Self {
        Self {
            runs: Cell::new(false),
            stage: Cell::new(Stage::Other),
            since: Cell::new(0),
            limit: Cell::new(u64::MAX),
            interruptions: Cell::new(0),
            interrupted: Cell::new(0),
            ticks: [const { Cell::new(0) }; Stage::COUNT],
            readings: [const { Cell::new(0) }; Stage::COUNT],
        }
    }

    fn start(&self, limit: u64) {
        self.limit.set(limit);
        self.interruptions.set(0);
        self.interrupted.set(0);
        self.ticks.iter().for_each(|ticks| ticks.set(0));
        self.readings.iter().for_each(|readings| readings.set(0));
        self.stage.set(Stage::Other);
        self.runs.set(true);
        self.since.set(tsc::ticks());
    }

    #[cold]
    fn enter(&self, stage: Stage) -> Stage {
        let now = tsc::ticks();
        let ended = self.stage.replace(stage);
        let spent = now.saturating_sub(self.since.replace(now));
        if spent > self.limit.get() {
            self.interruptions.set(self.interruptions.get() + 1);
            self.interrupted.set(self.interrupted.get() + spent);
            return ended;
        }
        let (ticks, readings) = (&self.ticks[ended as usize], &self.readings[ended as usize]);
        ticks.set(ticks.get() + spent);
        readings.set(readings.get() + 1);
        ended
    }

    fn stop(&self) {
        self.enter(Stage::Other);
        self.runs.set(false);
    }
}

/// Times turns of a lane. Made on the thread that drives it, since it measures there what a reading takes.
#[derive(Debug)]
pub struct Profiler {
    /// Turns until the next one that is timed.
    until: u32,
    /// Frames received and sent before the turn that is being timed.
    before: Option<[u64; 2]>,
    /// See [`ProfileStats::calibration`].
    calibration: u64,
    /// [`INTERRUPTED`] in ticks.
    limit: u64,
}

impl Default for Profiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Profiler {
    /// A profiler of a lane of this thread.
    pub fn new() -> Self {
        Self {
            until: 1,
            before: None,
            calibration: calibrate(),
            limit: match tsc::rate() {
                0 => u64::MAX,
                rate => (rate as f64 * INTERRUPTED.as_secs_f64()) as u64,
            },
        }
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn begin(&mut self, stats: &LaneStats) {
        self.until -= 1;
        if self.until == 0 {
            self.until = TURNS;
            self.before = Some([stats.rx_frames, stats.tx_frames]);
            CLOCK.with(|clock| clock.start(self.limit));
        }
    }

    /// The turn ends. One that moved no frame is forgotten: polling in vain would drown everything else.
    #[inline]
    pub(crate) fn end(&mut self, stats: &mut LaneStats, busy: bool) {
        let Some([received, sent]) = self.before.take() else {
            return;
        };
        CLOCK.with(|clock| {
            clock.stop();
            if !busy {
                return;
            }
            let profile = &mut stats.profile;
            profile.calibration = self.calibration;
            profile.turns += 1;
            profile.rx_frames += stats.rx_frames - received;
            profile.tx_frames += stats.tx_frames - sent;
            profile.interruptions += clock.interruptions.get();
            profile.interrupted += clock.interrupted.get();
            let timed = clock.ticks.iter().zip(&clock.readings);
            let sums = profile.gross.iter_mut().zip(&mut profile.readings);
            for ((gross, readings), (ticks, count)) in sums.zip(timed) {
                *gross += ticks.get();
                *readings += count.get();
            }
        });
    }
}

/// Changes of stage in one round of the calibration.
const CALIBRATION: u64 = 256;

/// Ticks that [`CALIBRATION`] changes of stage take with nothing in between: in the best of some rounds, since an interrupt
/// can only make a round longer.
fn calibrate() -> u64 {
    let round = || {
        CLOCK.with(|clock| clock.start(u64::MAX));
        for _ in 0..CALIBRATION {
            enter(Stage::Rx);
        }
        CLOCK.with(|clock| {
            clock.stop();
            clock.ticks.iter().map(Cell::get).sum()
        })
    };
    (0..64).map(|_| round()).min().unwrap_or(0)
}

/// What the timed turns of a lane that moved frames add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProfileStats {
    /// Turns.
    pub turns: u64,
    /// Frames received in them.
    pub rx_frames: u64,
    /// Frames sent in them.
    pub tx_frames: u64,
    /// Pieces of stages that lasted longer than [`INTERRUPTED`].
    pub interruptions: u64,
    /// Ticks of these, which are in no stage.
    pub interrupted: u64,
    /// Ticks by stage, the clock's own among them.
    pub gross: [u64; Stage::COUNT],
    /// Readings of the clock by the stage that they ended: each has added what a reading takes to `gross`.
    pub readings: [u64; Stage::COUNT],
    /// Ticks that 257 readings in a row take on this lane's CPU.
    pub calibration: u64,
}

impl ProfileStats {
    /// Words that this consists of.
    pub(crate) const WORDS: usize = 6 + 2 * Stage::COUNT;

    /// Ticks that one reading of the clock takes.
    pub fn reading(&self) -> f64 {
        self.calibration as f64 / (CALIBRATION + 1) as f64
    }

    /// Ticks of a stage, without those of the clock.
    pub fn ticks(&self, stage: Stage) -> f64 {
        let clock = self.readings[stage as usize] as f64 * self.reading();
        (self.gross[stage as usize] as f64 - clock).max(0.0)
    }

    /// Ticks that went into reading the clock.
    pub fn overhead(&self) -> f64 {
        self.readings.iter().sum::<u64>() as f64 * self.reading()
    }

    /// Every word. A new field does not compile until it has its place here.
    pub(crate) fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            turns,
            rx_frames,
            tx_frames,
            interruptions,
            interrupted,
            gross,
            readings,
            calibration,
        } = self;
        let plain: [&mut u64; 6] = [
            turns,
            rx_frames,
            tx_frames,
            interruptions,
            interrupted,
            calibration,
        ];
        plain.into_iter().chain(gross).chain(readings)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn spin(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    /// One timed turn in which `work` is done, by its stages.
    fn timed(profiler: &mut Profiler, work: impl FnOnce(&mut LaneStats)) -> LaneStats {
        let mut stats = LaneStats::default();
        profiler.until = 1;
        profiler.begin(&stats);
        work(&mut stats);
        profiler.end(&mut stats, true);
        stats
    }

    #[test]
    fn time_goes_to_the_stage_it_is_spent_in() {
        let mut profiler = Profiler::new();
        let stats = timed(&mut profiler, |stats| {
            within(Stage::Receive, || {
                within(Stage::ProtocolReceive, || spin(Duration::from_micros(10)));
            });
            stats.rx_frames += 3;
        });
        let profile = stats.profile;
        assert_eq!(
            (profile.turns, profile.rx_frames, profile.tx_frames),
            (1, 3, 0)
        );
        // Twice begun, once before and once after the inner one; the outermost again at its end.
        assert_eq!(profile.readings[Stage::Receive as usize], 2);
        assert_eq!(profile.readings[Stage::ProtocolReceive as usize], 1);
        assert_eq!(profile.ticks(Stage::Tx), 0.0);
    }

    #[test]
    fn the_longer_of_two_stages_has_more_ticks() {
        // Somebody else may get the CPU during the shorter one, though not each time.
        let right = (0..10).any(|_| {
            let mut profiler = Profiler::new();
            let profile = timed(&mut profiler, |_| {
                within(Stage::Receive, || {
                    spin(Duration::from_millis(2));
                    within(Stage::ProtocolReceive, || spin(Duration::from_millis(20)));
                });
            })
            .profile;
            let (outer, inner) = (
                profile.ticks(Stage::Receive),
                profile.ticks(Stage::ProtocolReceive),
            );
            outer > 0.0 && inner > outer
        });
        assert!(right);
    }

    #[test]
    fn a_cpu_that_was_taken_away_is_no_stages_doing() {
        let mut profiler = Profiler::new();
        // Without EAL the rate of the clock is unknown: what passes in a time that a short spin stays below.
        let start = tsc::ticks();
        std::thread::sleep(Duration::from_millis(200));
        let limit = tsc::ticks() - start;
        profiler.limit = limit;
        let stats = timed(&mut profiler, |_| {
            within(Stage::Emit, || spin(Duration::from_micros(10)));
            within(Stage::Parse, || {
                std::thread::sleep(Duration::from_millis(1000))
            });
        });
        let profile = stats.profile;
        assert_eq!(profile.interruptions, 1);
        assert!(profile.interrupted > limit);
        assert_eq!(profile.ticks(Stage::Parse), 0.0);
        assert!(profile.ticks(Stage::Emit) > 0.0);
    }

    #[test]
    fn one_turn_in_so_many_is_timed() {
        let mut profiler = Profiler::new();
        let mut stats = LaneStats::default();
        for _ in 0..10 * TURNS {
            profiler.begin(&stats);
            stats.tx_frames += 2;
            profiler.end(&mut stats, true);
        }
        assert_eq!((stats.profile.turns, stats.profile.tx_frames), (10, 20));
    }

    #[test]
    fn turns_that_moved_nothing_are_forgotten() {
        let mut profiler = Profiler::new();
        let mut stats = LaneStats::default();
        profiler.begin(&stats);
        enter(Stage::Rx);
        profiler.end(&mut stats, false);
        assert_eq!(stats, LaneStats::default());
    }

    #[test]
    fn outside_of_a_timed_turn_nothing_is_counted() {
        assert_eq!(enter(Stage::Emit), Stage::Emit);
        assert_eq!(within(Stage::Tx, || 5), 5);
        CLOCK.with(|clock| {
            assert!(!clock.runs.get());
            assert!(clock.readings.iter().all(|readings| readings.get() == 0));
        });
    }

    #[test]
    fn the_clock_is_taken_off() {
        let mut profile = ProfileStats {
            calibration: (CALIBRATION + 1) * 20,
            ..ProfileStats::default()
        };
        profile.gross[Stage::Emit as usize] = 1_000;
        profile.readings[Stage::Emit as usize] = 10;
        assert_eq!(profile.ticks(Stage::Emit), 800.0);
        assert_eq!(profile.overhead(), 200.0);
        // Never below nothing.
        profile.readings[Stage::Emit as usize] = 100;
        assert_eq!(profile.ticks(Stage::Emit), 0.0);
    }

    #[test]
    fn a_reading_takes_some_time_but_not_long() {
        let reading = ProfileStats {
            calibration: calibrate(),
            ..ProfileStats::default()
        }
        .reading();
        assert!(reading > 0.0, "{reading}");
    }
}
