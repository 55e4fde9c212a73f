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

/// A clock that frames leave by.
#[derive(Debug)]
pub struct PacingClock {
    source: Source,
    field: DynField,
    /// Where the clocks stood when they were first compared: over the longest time their rates compare best.
    first: Reading,
    /// Where they stood last.
    last: Reading,
    ticks_per_ns: f64,
}

#[derive(Debug)]
enum Source {
    /// The clock of a device, by `rte_eth_read_clock`.
    Device(Port),
    /// Nanoseconds since then.
    Since(Instant),
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
        let source = match port.nic_clock() {
            Some(clock) => Source::Since(clock.epoch()),
            None => Source::Device(port.clone()),
        };
        let first = source.read()?;
        let mut clock = Self {
            source,
            field,
            first,
            last: first,
            ticks_per_ns: 1.0,
        };
        if matches!(clock.source, Source::Device(_)) {
            std::thread::sleep(CALIBRATION);
            clock.compare();
        }
        Some(clock)
    }

    /// Says when a frame is to leave. To be called when what is asked of the device is set.
    #[inline]
    pub fn stamp(&self, mbuf: &mut Mbuf, departure: Instant) {
        mbuf.set_timestamp(self.field, self.last.ticks_at(departure, self.ticks_per_ns));
    }

    /// Compares the clocks again, if the last time is long ago. It costs some microseconds: not a thing for every turn.
    pub(crate) fn follow(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last.at) >= LOOK_EVERY {
            self.compare();
        }
    }

    fn compare(&mut self) {
        // A clock that cannot be read any more goes on as it went.
        let Some(reading) = self.source.read() else {
            return;
        };
        let elapsed = reading
            .at
            .saturating_duration_since(self.first.at)
            .as_nanos();
        let ticks = reading.ticks.wrapping_sub(self.first.ticks);
        if matches!(self.source, Source::Device(_)) && elapsed > 0 {
            self.ticks_per_ns = ticks as f64 / elapsed as f64;
        }
        self.last = reading;
    }
}

impl Reading {
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

impl Source {
    fn read(&self) -> Option<Reading> {
        match self {
            Self::Since(epoch) => Some(Reading {
                at: *epoch,
                ticks: 0,
            }),
            Self::Device(port) => (0..READINGS)
                .filter_map(|_| {
                    let before = Instant::now();
                    let ticks = port.read_clock()?;
                    let took = before.elapsed();
                    let at = before + took / 2;
                    Some((took, Reading { at, ticks }))
                })
                .min_by_key(|(took, _)| *took)
                .map(|(_, reading)| reading),
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
}
