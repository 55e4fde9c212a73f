//! What is known of the MTU of paths (RFC 8201).

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::keyed::KeyedHash;
use crate::wire::MTU_MIN;

/// Destinations whose path MTU is remembered.
const DESTINATIONS_MAX: usize = 256;
/// How long a path MTU holds: routes change, and a smaller MTU is not announced when it ends (RFC 8201 §4).
const LIFETIME: Duration = Duration::from_secs(600);

/// Path MTUs below the link's, by destination. Bounded: a new one replaces the oldest.
#[derive(Debug)]
pub(super) struct PathMtus {
    by_destination: HashMap<Ipv6Addr, PathMtu, KeyedHash>,
}

#[derive(Debug, Clone, Copy)]
struct PathMtu {
    mtu: u16,
    until: Instant,
}

impl PathMtus {
    pub(super) fn new(hash: KeyedHash) -> Self {
        Self {
            // Twice the bound: so the table never has to grow, whatever was removed from it.
            by_destination: HashMap::with_capacity_and_hasher(2 * DESTINATIONS_MAX, hash),
        }
    }

    /// The MTU of the path to `destination` in bytes, if one is known.
    #[inline]
    pub(super) fn of(&self, now: Instant, destination: Ipv6Addr) -> Option<u16> {
        if self.by_destination.is_empty() {
            return None;
        }
        let path = self.by_destination.get(&destination)?;
        (now < path.until).then_some(path.mtu)
    }

    /// Takes an announced MTU, given the one in use so far. True when it is smaller and holds from now on: an
    /// announcement may never raise the MTU, nor lower it below 1280 (RFC 8201 §4).
    pub(super) fn announced(
        &mut self,
        now: Instant,
        destination: Ipv6Addr,
        mtu: u32,
        so_far: u16,
    ) -> bool {
        let Ok(mtu) = u16::try_from(mtu) else {
            return false;
        };
        if mtu < MTU_MIN || mtu >= so_far {
            return false;
        }
        if !self.by_destination.contains_key(&destination) {
            self.make_room(now);
        }
        let until = now + LIFETIME;
        self.by_destination
            .insert(destination, PathMtu { mtu, until });
        true
    }

    fn make_room(&mut self, now: Instant) {
        if self.by_destination.len() < DESTINATIONS_MAX {
            return;
        }
        self.by_destination.retain(|_, path| now < path.until);
        if self.by_destination.len() < DESTINATIONS_MAX {
            return;
        }
        let oldest = self
            .by_destination
            .iter()
            .min_by_key(|(_, path)| path.until);
        if let Some(oldest) = oldest.map(|(destination, _)| *destination) {
            self.by_destination.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn paths() -> PathMtus {
        PathMtus::new(KeyedHash::new(&mut Random::new(1)))
    }

    #[test]
    fn only_lower_values_from_1280_up_are_taken() {
        let (mut paths, now) = (paths(), Instant::now());
        let to = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        for refused in [0, 1279, 1500, 9000, 70_000, u32::MAX] {
            assert!(!paths.announced(now, to, refused, 1500));
        }
        assert!(paths.announced(now, to, 1400, 1500));
        assert!(!paths.announced(now, to, 1450, 1400));
        assert!(paths.announced(now, to, 1280, 1400));
        assert_eq!(paths.of(now, to), Some(1280));
        assert_eq!(paths.of(now + LIFETIME, to), None);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (mut paths, start) = (paths(), Instant::now());
        let capacity = paths.by_destination.capacity();
        let to = |i: u128| Ipv6Addr::from(0xfd00 << 112 | i);
        for i in 0..5000 {
            let now = start + Duration::from_micros(i as u64);
            assert!(paths.announced(now, to(i), 1300, 1500));
        }
        assert_eq!(paths.by_destination.len(), DESTINATIONS_MAX);
        assert_eq!(paths.by_destination.capacity(), capacity);
        let now = start + Duration::from_secs(1);
        assert_eq!(paths.of(now, to(4999)), Some(1300));
        assert_eq!(paths.of(now, to(0)), None);
    }
}
