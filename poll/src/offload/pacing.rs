//! Sending on time: instants of this process in ticks of a device's clock.
//!
//! A device that offers `RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP` holds a frame back until its own clock shows what stands in
//! the mbuf. Nobody keeps that clock and this machine's together, so both are read now and then: one reading says where
//! they stand, two how fast the device's runs. Between readings they part by what their crystals differ, tens of
//! microseconds a second, hence [`LOOK_EVERY`].

use std::time::{Duration, Instant};

use hugepages::{DynField, EalUp, Mbuf};

use crate::port::Port;

/// How often the two clocks are compared.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between the first two comparisons, which say how fast the device's clock runs.
const CALIBRATION: Duration = Duration::from_millis(20);
/// Readings of which the quickest counts: it tells best when the device was read.
const READINGS: usize = 5;

/// Rates that differ by more than this share are not those of one clock that runs on: crystals are off by 100 ppm at most,
/// so somebody has set it.
const STEP_MIN: f64 = 1e-3;

/// A clock that frames leave by.
#[derive(Debug)]
pub struct PacingClock {
    /// The device whose clock is read, by `rte_eth_read_clock`; none where it is this machine's own.
    device: Option<Port>,
    field: DynField,
    course: Course,
}

/// How a device's clock goes by this machine's.
#[derive(Debug, Clone, Copy)]
struct Course {
    /// Where the clocks stood when they were first compared, or when the device's was last set: over the longest time
    /// their rates compare best.
    first: Reading,
    /// Where they stood last.
    last: Reading,
    ticks_per_ns: f64,
    /// The last comparison did not fit the rate.
    doubted: bool,
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    at: Instant,
    ticks: u64,
}

impl PacingClock {
    /// The clock of a started port; takes some 20 ms. `None` where the device cannot be asked for the time, or mbufs have
    /// no room for it.
    pub fn new(eal: EalUp, port: &Port) -> Option<Self> {
        let field = DynField::tx_timestamp(eal)?;
        let (device, course) = match port.nic_clock() {
            Some(clock) => {
                let at = clock.epoch();
                (None, Course::of_ns(Reading { at, ticks: 0 }))
            }
            None => {
                let read = || Reading::quickest(|| port.read_clock());
                let first = read()?;
                std::thread::sleep(CALIBRATION);
                (Some(port.clone()), Course::new(first, read()?)?)
            }
        };
        Some(Self {
            device,
            field,
            course,
        })
    }

    /// Says when a frame is to leave. To be called when what is asked of the device is set.
    #[inline]
    pub fn stamp(&self, mbuf: &mut Mbuf, departure: Instant) {
        let Course {
            last, ticks_per_ns, ..
        } = &self.course;
        mbuf.set_timestamp(self.field, last.ticks_at(departure, *ticks_per_ns));
    }

    /// Compares the clocks again, if the last time is long ago. It costs some microseconds: not a thing for every turn.
    pub(crate) fn follow(&mut self, now: Instant) {
        let Some(port) = &self.device else {
            return;
        };
        if now.saturating_duration_since(self.course.last.at) < LOOK_EVERY {
            return;
        }
        // A clock that cannot be read goes on as it went. While somebody else makes control calls, next time will do.
        if let Some(reading) = Reading::quickest(|| port.try_read_clock()) {
            self.course.follow(reading);
        }
    }
}

impl Course {
    /// A clock that counts nanoseconds, as this machine's does.
    fn of_ns(reading: Reading) -> Self {
        Self {
            first: reading,
            last: reading,
            ticks_per_ns: 1.0,
            doubted: false,
        }
    }

    /// `None` when the clock did not go on between the readings.
    fn new(first: Reading, second: Reading) -> Option<Self> {
        let ticks_per_ns = second.rate_since(first).filter(|rate| *rate > 0.0)?;
        Some(Self {
            first,
            last: second,
            ticks_per_ns,
            doubted: false,
        })
    }

    /// Learns from one more reading. The clock may have been set since the last one (by PTP, or a reset of the device): then
    /// all earlier ones say nothing of where it stands, but still how fast it runs. If the next one does not fit that rate
    /// either, the rate was wrong.
    fn follow(&mut self, reading: Reading) {
        let Some(recent) = reading.rate_since(self.last) else {
            return;
        };
        let fits = (recent / self.ticks_per_ns - 1.0).abs() <= STEP_MIN;
        if fits {
            self.ticks_per_ns = reading.rate_since(self.first).unwrap_or(recent);
        } else {
            self.first = reading;
            if self.doubted && recent > 0.0 {
                self.ticks_per_ns = recent;
            }
        }
        self.doubted = !fits;
        self.last = reading;
    }
}

impl Reading {
    /// Both clocks, as exactly as they can be read one after the other.
    fn quickest(read: impl Fn() -> Option<u64>) -> Option<Self> {
        (0..READINGS)
            .filter_map(|_| {
                let before = Instant::now();
                let ticks = read()?;
                let took = before.elapsed();
                let at = before + took / 2;
                Some((took, Self { at, ticks }))
            })
            .min_by_key(|(took, _)| *took)
            .map(|(_, reading)| reading)
    }

    /// Ticks a nanosecond since an earlier reading; below 0 if the clock was set back. `None` if no time has passed.
    fn rate_since(&self, earlier: Self) -> Option<f64> {
        let elapsed = self.at.checked_duration_since(earlier.at)?.as_nanos();
        let ticks = self.ticks.wrapping_sub(earlier.ticks).cast_signed();
        (elapsed > 0).then(|| ticks as f64 / elapsed as f64)
    }

    /// What the device's clock shows at an instant, before or after this reading.
    #[inline]
    fn ticks_at(&self, at: Instant, ticks_per_ns: f64) -> u64 {
        let ticks = |time: Duration| (time.as_nanos() as f64 * ticks_per_ns) as u64;
        match at.checked_duration_since(self.at) {
            Some(later) => self.ticks.wrapping_add(ticks(later)),
            None => self.ticks.saturating_sub(ticks(self.at - at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Instants before and after the last comparison, at rates from megahertz to gigahertz, as exactly as a
        /// timestamp needs to be.
        #[test]
        fn ticks_are_proportional(ns in 0_u64..10_000_000_000, mhz in 1_u32..4_000, back: bool) {
            let at = Instant::now() + Duration::from_secs(100);
            let ticks_per_ns = f64::from(mhz) / 1e3;
            let middle = 1_u64 << 50;
            let instant = match back {
                true => at - Duration::from_nanos(ns),
                false => at + Duration::from_nanos(ns),
            };
            let ticks = Reading { at, ticks: middle }.ticks_at(instant, ticks_per_ns);
            let expected = (ns as f64 * ticks_per_ns).round() as i64;
            let distance = ticks as i64 - middle as i64;
            let difference = distance - if back { -expected } else { expected };
            prop_assert!(difference.abs() <= 1, "{difference}");
        }
    }

    const MS: Duration = Duration::from_millis(1);

    /// A device's clock, of some rate, that can be set.
    struct Device {
        at: Instant,
        ticks: f64,
        ticks_per_ns: f64,
    }

    impl Device {
        fn after(&mut self, time: Duration) -> Reading {
            self.at += time;
            self.ticks += time.as_nanos() as f64 * self.ticks_per_ns;
            Reading {
                at: self.at,
                ticks: self.ticks as u64,
            }
        }
    }

    /// Of a clock of 125 MHz after three comparisons: it, and its course.
    fn running() -> (Device, Course) {
        let mut device = Device {
            at: Instant::now(),
            ticks: 1e15,
            ticks_per_ns: 0.125,
        };
        let first = device.after(MS);
        let mut course = Course::new(first, device.after(20 * MS)).expect("it runs");
        for _ in 0..3 {
            course.follow(device.after(100 * MS));
        }
        (device, course)
    }

    /// How far off the clock is 2 ms after a reading, ns.
    fn error_ns(course: &Course, device: &mut Device) -> f64 {
        let reading = device.after(2 * MS);
        let ticks = course.last.ticks_at(reading.at, course.ticks_per_ns);
        ticks.wrapping_sub(reading.ticks).cast_signed() as f64 / device.ticks_per_ns
    }

    #[test]
    fn a_clock_that_is_set_keeps_its_rate() {
        for seconds in [1e-3, -1e-3, 3600.0, -3600.0] {
            let (mut device, mut course) = running();
            device.ticks += seconds * 1e9 * device.ticks_per_ns;
            for _ in 0..20 {
                course.follow(device.after(100 * MS));
                let error = error_ns(&course, &mut device);
                assert!(error.abs() < 20.0, "{error} ns after a step of {seconds} s");
            }
        }
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let (mut device, mut course) = running();
        device.ticks_per_ns *= 1.0 + 50e-6;
        for _ in 0..10 {
            course.follow(device.after(100 * MS));
            // 50 ppm of 2 ms.
            assert!(error_ns(&course, &mut device).abs() < 120.0);
        }
    }

    #[test]
    fn a_rate_that_was_wrong_is_learned_anew() {
        let (mut device, mut course) = running();
        device.ticks_per_ns *= 2.0;
        course.follow(device.after(100 * MS));
        assert_eq!(course.ticks_per_ns, 0.125, "one reading may be a step");
        course.follow(device.after(100 * MS));
        assert!(error_ns(&course, &mut device).abs() < 20.0);
    }

    #[test]
    fn a_clock_that_stands_is_none() {
        let at = Instant::now();
        let reading = |at| Reading { at, ticks: 7 };
        assert!(Course::new(reading(at), reading(at + MS)).is_none());
        assert!(Course::new(reading(at), reading(at)).is_none());
    }
}
