//! One direction of the wire between two emulated NICs: a queue, a rate, a delay, and chance.
//!
//! ```text
//!          queue, first in first out          on the way, by time of arrival
//! enter ──► tail drop, ECN mark ──► rate ──► loss ──► delay, jitter, reordering ──► arrive
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::WireConfig;
use super::headers::Headers;
use super::kit::Kit;
use crate::random::Random;

/// What Ethernet adds to each frame, bytes: preamble and start delimiter 8, checksum 4, gap to the next frame 12.
const ETHERNET_OVERHEAD: u64 = 24;
/// Bytes of memory that frames on the way take at most: about what 10 Gbit/s send in 100 ms. Long lines without a rate must not take all memory.
const IN_FLIGHT_MAX: usize = 128 << 20;
const PICOS: u64 = 1_000_000_000_000;

/// One direction of the wire. Times are those of the model's clock, in nanoseconds.
#[derive(Debug)]
pub(super) struct Wire {
    config: WireConfig,
    random: Random,
    /// When the wire has sent all that is queued, picoseconds: at 100 Gbit/s a byte takes 80.
    free_at: u64,
    /// When each queued frame will have been sent.
    queued: VecDeque<u64>,
    /// In the bad state of the model of Gilbert.
    bad: bool,
    /// The latest arrival of a frame that is not reordered: jitter does not let later ones get ahead.
    last_arrival: u64,
    on_the_way: BinaryHeap<Reverse<OnTheWay>>,
    bytes_on_the_way: usize,
    entered: u64,
}

/// A frame on its way. The order is that of arrival, then that of departure.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OnTheWay {
    arrival: u64,
    number: u64,
    frame: Vec<u8>,
}

impl Wire {
    pub(super) fn new(config: WireConfig) -> Self {
        Self {
            random: Random::new(config.seed),
            config,
            free_at: 0,
            queued: VecDeque::new(),
            bad: false,
            last_arrival: 0,
            on_the_way: BinaryHeap::new(),
            bytes_on_the_way: 0,
            entered: 0,
        }
    }

    /// Puts a frame into the queue for the wire, where there is room. `sent` sees it as it leaves, with the time of its
    /// first bit.
    pub(super) fn enter(
        &mut self,
        mut frame: Vec<u8>,
        now: u64,
        kit: &mut Kit,
        sent: impl FnOnce(u64, &[u8]),
    ) {
        while self.queued.front().is_some_and(|&end| end <= now) {
            self.queued.pop_front();
        }
        if self.queued.len() >= self.config.queue && self.config.rate.is_some() {
            kit.stats.wire_queue_full += 1;
            return kit.put(frame);
        }
        if self.bytes_on_the_way + frame.capacity() > IN_FLIGHT_MAX {
            kit.stats.wire_full += 1;
            return kit.put(frame);
        }
        self.mark(&mut frame, kit);
        let [start, end] = self.serialise(frame.len(), now);
        kit.stats.tx_frames += 1;
        kit.stats.tx_bytes += frame.len() as u64;
        sent(start, &frame);
        if self.is_lost() {
            kit.stats.wire_lost += 1;
            return kit.put(frame);
        }
        if self.random.chance(self.config.duplicate) {
            kit.stats.wire_duplicated += 1;
            let mut twin = kit.take();
            twin.extend_from_slice(&frame);
            self.travel(twin, end, kit);
        }
        self.travel(frame, end, kit);
    }

    /// When the next frame arrives.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.on_the_way.peek().map(|Reverse(next)| next.arrival)
    }

    /// The next frame that has arrived by `now`, with its time.
    pub(super) fn arrive(&mut self, now: u64) -> Option<(u64, Vec<u8>)> {
        if self.next_arrival()? > now {
            return None;
        }
        let Reverse(next) = self.on_the_way.pop()?;
        self.bytes_on_the_way -= next.frame.capacity();
        Some((next.arrival, next.frame))
    }

    fn mark(&self, frame: &mut [u8], kit: &mut Kit) {
        let above = |mark| self.queued.len() > mark;
        if self.config.ecn_above.is_some_and(above)
            && let Some(ipv6) = Headers::parse(frame).ipv6
            && ipv6.mark_congestion(frame)
        {
            kit.stats.wire_marked += 1;
        }
    }

    /// When the first bit of a frame leaves, and when its last has left.
    fn serialise(&mut self, len: usize, now: u64) -> [u64; 2] {
        let Some(rate) = self.config.rate else {
            return [now, now];
        };
        let start = self.free_at.max(now.saturating_mul(1000));
        let bits = 8 * (len as u64 + ETHERNET_OVERHEAD);
        self.free_at = start.saturating_add(bits * PICOS / rate.max(1));
        let end = self.free_at.div_ceil(1000);
        self.queued.push_back(end);
        [start / 1000, end]
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.config.loss;
        let Some(burst) = self.config.loss_burst.filter(|_| loss > 0.0) else {
            return self.random.chance(loss);
        };
        // Of a chain that leaves the bad state with 1 / burst, this share of time is bad: loss.
        let leave = 1.0 / burst.max(1.0);
        let enter = (leave * loss / (1.0 - loss)).min(1.0);
        let change = self.random.chance(if self.bad { leave } else { enter });
        self.bad ^= change;
        self.bad
    }

    fn travel(&mut self, frame: Vec<u8>, end: u64, kit: &mut Kit) {
        let jitter = self.random.up_to(ns(self.config.jitter));
        let mut arrival = end
            .saturating_add(ns(self.config.delay))
            .saturating_add(jitter);
        if self.random.chance(self.config.reorder) {
            kit.stats.wire_reordered += 1;
            arrival = arrival.saturating_add(ns(self.config.reorder_delay));
        } else {
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        self.bytes_on_the_way += frame.capacity();
        self.entered += 1;
        self.on_the_way.push(Reverse(OnTheWay {
            arrival,
            number: self.entered,
            frame,
        }));
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 1226;

    /// A wire with what it counts.
    struct Rig {
        wire: Wire,
        kit: Kit,
        departures: Vec<u64>,
    }

    impl Rig {
        fn new(config: WireConfig) -> Self {
            Self {
                wire: Wire::new(config),
                kit: Kit::default(),
                departures: Vec::new(),
            }
        }

        /// Sends frames that begin with their numbers.
        fn send(&mut self, numbers: std::ops::Range<u32>, now: u64) {
            for number in numbers {
                let mut frame = number.to_be_bytes().to_vec();
                frame.resize(FRAME, 0);
                let departures = &mut self.departures;
                let sent = |at, _: &[u8]| departures.push(at);
                self.wire.enter(frame, now, &mut self.kit, sent);
            }
        }

        /// Time and number of each frame that has arrived.
        fn receive(&mut self, now: u64) -> Vec<(u64, u32)> {
            std::iter::from_fn(|| self.wire.arrive(now))
                .map(|(at, frame)| {
                    let number = frame.first_chunk().copied().map(u32::from_be_bytes);
                    (at, number.expect("frames begin with a number"))
                })
                .collect()
        }
    }

    #[test]
    fn a_frame_takes_its_bits_and_the_delay() {
        // 1226 + 24 bytes are 10 000 bits: 10 µs at 1 Gbit/s.
        let mut rig = Rig::new(WireConfig {
            rate: Some(1_000_000_000),
            delay: Duration::from_micros(500),
            ..WireConfig::default()
        });
        rig.send(0..3, 7_000);
        assert_eq!(rig.departures, [7_000, 17_000, 27_000]);
        assert_eq!(rig.wire.next_arrival(), Some(517_000));
        assert_eq!(rig.receive(516_999), []);
        assert_eq!(rig.receive(527_000), [(517_000, 0), (527_000, 1)]);
        assert_eq!(rig.receive(u64::MAX), [(537_000, 2)]);
        assert_eq!(
            (rig.kit.stats.tx_frames, rig.kit.stats.tx_bytes),
            (3, 3 * 1226)
        );
        assert_eq!(rig.wire.bytes_on_the_way, 0);
    }

    #[test]
    fn a_full_queue_drops_its_tail_and_empties_with_time() {
        let mut rig = Rig::new(WireConfig {
            rate: Some(1_000_000_000),
            queue: 4,
            ..WireConfig::default()
        });
        rig.send(0..10, 0);
        assert_eq!(rig.kit.stats.wire_queue_full, 6);
        // After 25 µs two of the four are out.
        rig.send(10..20, 25_000);
        assert_eq!(rig.kit.stats.wire_queue_full, 6 + 8);
        let arrived: Vec<u32> = rig.receive(u64::MAX).iter().map(|(_, n)| *n).collect();
        assert_eq!(arrived, [0, 1, 2, 3, 10, 11]);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = Duration::from_micros(100);
        let mut rig = Rig::new(WireConfig {
            jitter,
            seed: 1,
            ..WireConfig::default()
        });
        rig.send(0..1000, 0);
        let arrived = rig.receive(100_000);
        assert_eq!(arrived.len(), 1000);
        assert!(arrived.iter().zip(0..).all(|((_, got), sent)| *got == sent));
        assert!(arrived[0].0 < arrived[999].0);

        let mut rig = Rig::new(WireConfig {
            reorder: 0.01,
            reorder_delay: Duration::from_micros(10),
            seed: 2,
            ..WireConfig::default()
        });
        rig.send(0..1000, 0);
        let on_time = rig.receive(0);
        let late = rig.receive(10_000);
        assert!((2..30).contains(&late.len()), "{}", late.len());
        assert_eq!(on_time.len() + late.len(), 1000);
        assert_eq!(rig.kit.stats.wire_reordered, late.len() as u64);
        assert!(late.iter().all(|(at, _)| *at == 10_000));
    }

    #[test]
    fn losses_meet_their_share_alone_and_in_bursts() {
        for burst in [None, Some(8.0)] {
            let mut rig = Rig::new(WireConfig {
                loss: 0.05,
                loss_burst: burst,
                seed: 3,
                ..WireConfig::default()
            });
            rig.send(0..50_000, 0);
            let lost = rig.kit.stats.wire_lost as f64 / 50_000.0;
            assert!((0.04..0.06).contains(&lost), "{burst:?}: {lost}");
            let arrived = rig.receive(0);
            let gaps = arrived.windows(2).filter(|w| w[1].1 != w[0].1 + 1).count();
            let mean = rig.kit.stats.wire_lost as f64 / gaps as f64;
            let expected = burst.unwrap_or(1.05);
            assert!((mean / expected - 1.0).abs() < 0.2, "{burst:?}: {mean}");
        }
    }

    /// Whatever size frames have: what bounds the wire is the memory that they take.
    #[test]
    fn a_wire_holds_so_much_memory_and_no_more() {
        let mut rig = Rig::new(WireConfig {
            delay: Duration::from_secs(1),
            ..WireConfig::default()
        });
        let capacity = 8 << 20;
        for _ in 0..20 {
            let mut frame = Vec::with_capacity(capacity);
            frame.extend_from_slice(&[0; 60]);
            rig.wire.enter(frame, 0, &mut rig.kit, |_, _| {});
        }
        assert_eq!(
            rig.kit.stats.wire_full,
            20 - (IN_FLIGHT_MAX / capacity) as u64
        );
        while rig.wire.arrive(u64::MAX).is_some() {}
        assert_eq!(rig.wire.bytes_on_the_way, 0);
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let run = |seed| {
            let mut rig = Rig::new(WireConfig {
                rate: Some(10_000_000),
                jitter: Duration::from_millis(1),
                loss: 0.1,
                reorder: 0.1,
                duplicate: 0.1,
                seed,
                ..WireConfig::default()
            });
            rig.send(0..500, 0);
            (rig.receive(u64::MAX), rig.kit.stats)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).0, run(8).0);
        assert!(run(7).1.wire_duplicated > 20);
    }
}
