//! Where the time of a profiled run went, stage by stage.

use std::fmt::{self, Display, Formatter};

use poll::profile::{ProfileStats, Stage, TURNS};
use serde::Serialize;

use super::{LcoreTotals, rounded};
use crate::format::grouped;
use crate::table::Table;

/// Where the time of the lcores went, in turns that moved frames.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Profile {
    /// Ticks of the time stamp counter a second, as EAL found out.
    pub tsc_hz: u64,
    /// One turn in so many was timed.
    pub turns_per_timed: u32,
    /// What reading the clock takes, and was taken off: the mean of the shards.
    pub reading_ns: f64,
    /// Share of the busy time that went into reading the clock, percent.
    pub overhead_percent: f64,
    /// Pieces of stages during which the system took the CPU away (they lasted longer than
    /// [`INTERRUPTED`](poll::profile::INTERRUPTED)); they are left out.
    pub interruptions: u64,
    /// Their time, for each 100 of all stages together.
    pub interrupted_percent: f64,
    /// All shards together.
    pub all: Times,
    /// Each shard.
    pub shards: Vec<ShardProfile>,
}

/// Where the time of a shard's lane went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ShardProfile {
    /// Its name.
    pub shard: String,
    /// DPDK's number of its lcore.
    pub lcore: u32,
    /// The times.
    pub times: Times,
}

/// Times by stage, and what they come to for a frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// Turns that were timed and moved frames.
    pub turns: u64,
    /// Frames received in these.
    pub rx_frames: u64,
    /// Frames sent in these.
    pub tx_frames: u64,
    /// By stage, in the order of the way of a packet.
    pub stages: Vec<StageTimes>,
    /// By whose code it is.
    pub parts: Vec<PartTimes>,
}

/// The time of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageTimes {
    /// The stage.
    pub stage: &'static str,
    /// Whose code it is.
    pub part: Part,
    /// Which frames go through it.
    pub direction: Direction,
    /// How many of these there were.
    pub frames: u64,
    /// Ticks of the time stamp counter for a frame.
    pub cycles_per_frame: f64,
    /// Nanoseconds for a frame.
    pub ns_per_frame: f64,
    /// Share of the time of all stages.
    pub percent: f64,
}

/// The time of all stages of a part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartTimes {
    /// Whose code it is.
    pub part: Part,
    /// Nanoseconds for a frame received: stages of these, and their share of those that serve both directions.
    pub ns_per_rx_frame: f64,
    /// Nanoseconds for a frame sent.
    pub ns_per_tx_frame: f64,
    /// Share of the time of all stages.
    pub percent: f64,
}

/// Whose code a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// This engine's, with DPDK and its drivers.
    Engine,
    /// quinn-proto's, with TLS, packet protection and what it frees.
    Quinn,
    /// Applications'.
    Application,
}

/// Which frames go through a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Those received.
    Received,
    /// Those sent.
    Sent,
    /// All.
    Both,
}

/// Names of the stages, in the order of the way of a packet.
pub(crate) const STAGES: [(Stage, &str, Part, Direction); Stage::COUNT] = {
    use Direction::{Both, Received, Sent};
    use Part::{Application, Engine, Quinn};
    [
        (Stage::Rx, "rx", Engine, Received),
        (Stage::Parse, "parse", Engine, Received),
        (Stage::Lift, "bridge_rx", Engine, Received),
        (Stage::Receive, "shard_rx", Engine, Received),
        (Stage::ProtocolReceive, "quinn_rx", Quinn, Received),
        (Stage::Advance, "shard_turn", Engine, Both),
        (Stage::ProtocolEvents, "quinn_events", Quinn, Both),
        (Stage::Application, "application", Application, Both),
        (Stage::Transmit, "shard_tx", Engine, Sent),
        (Stage::ProtocolTransmit, "quinn_tx", Quinn, Sent),
        (Stage::Lend, "bridge_tx", Engine, Sent),
        (Stage::Emit, "emit", Engine, Sent),
        (Stage::Tx, "tx", Engine, Sent),
        (Stage::Other, "other", Engine, Both),
    ]
};

/// Ticks by stage, in the order of [`STAGES`], of one shard or several.
#[derive(Default)]
struct Sums {
    turns: u64,
    rx_frames: u64,
    tx_frames: u64,
    ticks: [f64; Stage::COUNT],
}

impl Profile {
    pub(super) fn new(lcores: &[LcoreTotals], tsc_hz: u64) -> Self {
        let ns_per_tick = 1e9 / tsc_hz.max(1) as f64;
        let mut all = Sums::default();
        let mut shards = Vec::new();
        for lcore in lcores {
            let mut sums = Sums::default();
            sums.add(&lcore.profile);
            all.add(&lcore.profile);
            shards.push(ShardProfile {
                shard: lcore.shard.clone(),
                lcore: lcore.id,
                times: sums.times(ns_per_tick),
            });
        }
        let profiles = || lcores.iter().map(|lcore| &lcore.profile);
        let timed = profiles().filter(|profile| profile.turns > 0).count();
        let readings: f64 = profiles().map(ProfileStats::reading).sum();
        let overhead: f64 = profiles().map(ProfileStats::overhead).sum();
        let interrupted: u64 = profiles().map(|profile| profile.interrupted).sum();
        let busy_ns: u128 = lcores.iter().map(|lcore| lcore.busy.as_nanos()).sum();
        Self {
            tsc_hz,
            turns_per_timed: TURNS,
            reading_ns: rounded(share(readings * ns_per_tick, timed as f64)),
            overhead_percent: rounded(share(overhead * ns_per_tick * 100.0, busy_ns as f64)),
            interruptions: profiles().map(|profile| profile.interruptions).sum(),
            interrupted_percent: rounded(share(interrupted as f64 * 100.0, all.ticks.iter().sum())),
            all: all.times(ns_per_tick),
            shards,
        }
    }
}

impl Sums {
    fn add(&mut self, profile: &ProfileStats) {
        self.turns += profile.turns;
        self.rx_frames += profile.rx_frames;
        self.tx_frames += profile.tx_frames;
        for (sum, (stage, ..)) in self.ticks.iter_mut().zip(STAGES) {
            *sum += profile.ticks(stage);
        }
    }

    fn times(&self, ns_per_tick: f64) -> Times {
        let whole: f64 = self.ticks.iter().sum();
        let stages = STAGES.into_iter().zip(self.ticks);
        let stages = stages.map(|((_, stage, part, direction), ticks)| {
            let frames = self.frames(direction);
            let cycles_per_frame = share(ticks, frames as f64);
            StageTimes {
                stage,
                part,
                direction,
                frames,
                cycles_per_frame: rounded(cycles_per_frame),
                ns_per_frame: rounded(cycles_per_frame * ns_per_tick),
                percent: rounded(share(ticks * 100.0, whole)),
            }
        });
        let parts = [Part::Engine, Part::Quinn, Part::Application];
        let parts = parts.map(|part| {
            let ns = |direction| self.ticks_per_frame(part, direction) * ns_per_tick;
            let both = ns(Direction::Both);
            PartTimes {
                part,
                ns_per_rx_frame: rounded(ns(Direction::Received) + both),
                ns_per_tx_frame: rounded(ns(Direction::Sent) + both),
                percent: rounded(share(self.ticks_of(part, None) * 100.0, whole)),
            }
        });
        Times {
            turns: self.turns,
            rx_frames: self.rx_frames,
            tx_frames: self.tx_frames,
            stages: stages.collect(),
            parts: parts.to_vec(),
        }
    }

    fn frames(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Received => self.rx_frames,
            Direction::Sent => self.tx_frames,
            Direction::Both => self.rx_frames + self.tx_frames,
        }
    }

    fn ticks_per_frame(&self, part: Part, direction: Direction) -> f64 {
        share(
            self.ticks_of(part, Some(direction)),
            self.frames(direction) as f64,
        )
    }

    /// Ticks of the stages of a part, of one direction or of all.
    fn ticks_of(&self, part: Part, direction: Option<Direction>) -> f64 {
        let stages = STAGES.iter().zip(self.ticks);
        let chosen = stages.filter(|((_, _, its, way), _)| {
            *its == part && direction.is_none_or(|direction| direction == *way)
        });
        chosen.map(|(_, ticks)| ticks).sum()
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Quinn => "quinn-proto, AEAD",
            Self::Application => "applications",
        }
    }
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Both => "both",
        }
    }
}

impl Display for Profile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "profile: one turn in {} timed; reading the clock takes {:.1} ns, which is taken off, and {:.2} % of the busy \
             time; TSC {:.3} GHz",
            self.turns_per_timed,
            self.reading_ns,
            self.overhead_percent,
            self.tsc_hz as f64 / 1e9
        )?;
        if self.interruptions > 0 {
            writeln!(
                f,
                "left out: {} pieces during which the CPU did something else, {:.1} % of the time below",
                grouped(self.interruptions),
                self.interrupted_percent
            )?;
        }
        if self.all.turns == 0 {
            return writeln!(f, "no timed turn moved a frame");
        }
        self.all.stage_table().fmt(f)?;
        writeln!(f)?;
        self.part_table().fmt(f)?;
        if self.shards.len() > 1 {
            writeln!(f)?;
            self.shard_table().fmt(f)?;
        }
        Ok(())
    }
}

impl Times {
    fn stage_table(&self) -> Table {
        let mut table = Table::new("<<>>>>");
        table.row([
            "stage",
            "of frames",
            "timed",
            "cycles/frame",
            "ns/frame",
            "time %",
        ]);
        for stage in &self.stages {
            table.row([
                stage.stage.replace('_', " "),
                stage.direction.name().to_owned(),
                grouped(stage.frames),
                format!("{:.0}", stage.cycles_per_frame),
                format!("{:.1}", stage.ns_per_frame),
                format!("{:.1}", stage.percent),
            ]);
        }
        table
    }

    fn part(&self, part: Part) -> Option<&PartTimes> {
        self.parts.iter().find(|times| times.part == part)
    }
}

impl Profile {
    /// For each shard, and for all, what a frame costs by whose code it is.
    fn part_table(&self) -> Table {
        let mut table = Table::new("<<>>>");
        table.row([
            "shard",
            "whose time",
            "ns/frame received",
            "ns/frame sent",
            "time %",
        ]);
        let shards = self.shards.iter();
        let all = ("all", &self.all);
        let named = shards.map(|shard| (shard.shard.as_str(), &shard.times));
        // One shard is all there is.
        let several = self.shards.len() > 1;
        for (name, times) in named.filter(|_| several).chain([all]) {
            for part in [Part::Engine, Part::Quinn, Part::Application] {
                let Some(part) = times.part(part) else {
                    continue;
                };
                let of = |frames: u64, ns: f64| match frames {
                    0 => "-".to_owned(),
                    _ => format!("{ns:.1}"),
                };
                table.row([
                    name.to_owned(),
                    part.part.name().to_owned(),
                    of(times.rx_frames, part.ns_per_rx_frame),
                    of(times.tx_frames, part.ns_per_tx_frame),
                    format!("{:.1}", part.percent),
                ]);
            }
        }
        table
    }

    /// For each shard, what a frame costs by stage.
    fn shard_table(&self) -> Table {
        let mut table = Table::new("<>>>>>>>>>>>>>>>>");
        let columns = ["shard", "lcore", "rx frames", "tx frames"];
        let stages = STAGES.iter().map(|(_, name, ..)| name.replace('_', " "));
        table.row(columns.into_iter().map(str::to_owned).chain(stages));
        for shard in &self.shards {
            let times = &shard.times;
            let ns = times.stages.iter();
            let first = [
                shard.shard.clone(),
                shard.lcore.to_string(),
                grouped(times.rx_frames),
                grouped(times.tx_frames),
            ];
            let ns = ns.map(|stage| format!("{:.1}", stage.ns_per_frame));
            table.row(first.into_iter().chain(ns));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A lane that was timed for 10 frames received and 40 sent, with a clock of 2 GHz that costs nothing to read.
    fn lcore(name: &str) -> LcoreTotals {
        let mut profile = ProfileStats {
            turns: 5,
            rx_frames: 10,
            tx_frames: 40,
            ..ProfileStats::default()
        };
        for (stage, ticks) in [
            (Stage::Rx, 1_000),
            (Stage::Parse, 500),
            (Stage::ProtocolReceive, 10_000),
            (Stage::ProtocolTransmit, 40_000),
            (Stage::Emit, 2_000),
            (Stage::Application, 1_500),
            (Stage::Other, 5_000),
        ] {
            profile.gross[stage as usize] = ticks;
        }
        LcoreTotals {
            shard: name.to_owned(),
            busy: Duration::from_millis(1),
            profile,
            ..LcoreTotals::default()
        }
    }

    #[test]
    fn every_stage_has_a_name_once() {
        for (index, (stage, name, ..)) in STAGES.iter().enumerate() {
            let same = STAGES.iter().filter(|(other, ..)| other == stage).count();
            assert_eq!(same, 1, "{stage:?}");
            assert!(STAGES[..index].iter().all(|(_, other, ..)| other != name));
        }
    }

    #[test]
    fn time_is_divided_by_the_frames_it_was_spent_on() {
        let profile = Profile::new(&[lcore("s")], 2_000_000_000);
        let stage = |name| {
            let found = profile.all.stages.iter().find(|stage| stage.stage == name);
            *found.expect("a stage")
        };
        // 1000 ticks for 10 frames received; 2000 for 40 sent; 5000 for all 50.
        assert_eq!(stage("rx").cycles_per_frame, 100.0);
        assert_eq!(stage("rx").ns_per_frame, 50.0);
        assert_eq!(stage("emit").ns_per_frame, 25.0);
        assert_eq!(stage("other").ns_per_frame, 50.0);
        assert_eq!(stage("quinn_tx").percent, rounded(4_000_000.0 / 60_000.0));
        let engine = profile.all.part(Part::Engine).expect("it is there");
        // Rx, parse, and a share of the rest; emit, and the same share.
        assert_eq!(engine.ns_per_rx_frame, 75.0 + 50.0);
        assert_eq!(engine.ns_per_tx_frame, 25.0 + 50.0);
        let percent: f64 = profile.all.parts.iter().map(|part| part.percent).sum();
        assert!((percent - 100.0).abs() < 0.01, "{percent}");
    }

    #[test]
    fn shards_add_up() {
        let profile = Profile::new(&[lcore("a"), lcore("b")], 2_000_000_000);
        assert_eq!((profile.all.turns, profile.all.tx_frames), (10, 80));
        // Twice the time for twice the frames.
        assert_eq!(profile.all.stages, {
            let mut stages = profile.shards[0].times.stages.clone();
            stages.iter_mut().for_each(|stage| stage.frames *= 2);
            stages
        });
    }

    #[test]
    fn the_clocks_cost_is_told() {
        let mut lcore = lcore("s");
        // 20 ticks a reading, 1000 readings: 10 µs of a busy millisecond.
        lcore.profile.calibration = 257 * 20;
        lcore.profile.readings[Stage::Other as usize] = 1_000;
        let profile = Profile::new(&[lcore], 2_000_000_000);
        assert_eq!(profile.reading_ns, 10.0);
        assert_eq!(profile.overhead_percent, 1.0);
    }

    #[test]
    fn nothing_timed_is_no_trouble() {
        let profile = Profile::new(&[LcoreTotals::default()], 0);
        assert!(profile.to_string().contains("no timed turn"));
        let json = serde_json::to_value(&profile).expect("numbers and strings");
        assert_eq!(json["all"]["parts"][0]["ns_per_rx_frame"], 0.0);
    }

    #[test]
    fn people_see_stages_and_parts() {
        let text = Profile::new(&[lcore("a"), lcore("b")], 2_000_000_000).to_string();
        for line in [
            "rx            received  20           100      50.0     1.7",
            "a      engine              125.0           75.0    14.2",
        ] {
            let words =
                |line: &str| -> Vec<String> { line.split_whitespace().map(String::from).collect() };
            let found = text.lines().any(|shown| words(shown) == words(line));
            assert!(found, "no `{line}` in\n{text}");
        }
    }
}
