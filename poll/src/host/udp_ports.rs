//! The UDP ports that datagrams are received on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a word.
const WORD: usize = u64::BITS as usize;
const WORDS: usize = (u16::MAX as usize + 1) / WORD;

/// A set of UDP ports: one bit each, so that a range of client ports costs no more than a single one.
///
/// Clones are the same set. All hosts of a port have one, and whoever keeps a clone opens and closes UDP ports while they
/// run: they see it before long, without a lock.
#[derive(Clone)]
pub struct UdpPorts(Arc<[AtomicU64; WORDS]>);

impl UdpPorts {
    /// Whether a UDP port is open.
    #[inline]
    pub fn contains(&self, udp_port: u16) -> bool {
        let (word, bit) = place(udp_port);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Opens a UDP port.
    pub fn insert(&self, udp_port: u16) {
        let (word, bit) = place(udp_port);
        self.0[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// Closes a UDP port: what arrives there is dropped by the host from then on, for connections that are left, too.
    pub fn remove(&self, udp_port: u16) {
        let (word, bit) = place(udp_port);
        self.0[word].fetch_and(!bit, Ordering::Relaxed);
    }
}

fn place(udp_port: u16) -> (usize, u64) {
    let (word, bit) = (usize::from(udp_port) / WORD, usize::from(udp_port) % WORD);
    (word, 1 << bit)
}

impl Default for UdpPorts {
    fn default() -> Self {
        Self(Arc::new([const { AtomicU64::new(0) }; WORDS]))
    }
}

impl FromIterator<u16> for UdpPorts {
    fn from_iter<I: IntoIterator<Item = u16>>(udp_ports: I) -> Self {
        let set = Self::default();
        for udp_port in udp_ports {
            set.insert(udp_port);
        }
        set
    }
}

impl fmt::Debug for UdpPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = (0..=u16::MAX).filter(|&udp_port| self.contains(udp_port));
        f.debug_set().entries(open).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_is(set: &UdpPorts, expected: impl Fn(u16) -> bool) {
        for udp_port in 0..=u16::MAX {
            assert_eq!(set.contains(udp_port), expected(udp_port), "{udp_port}");
        }
    }

    #[test]
    fn exactly_the_given_ports_are_in_the_set() {
        let given = [0, 1, 63, 64, 443, 4433, u16::MAX];
        let set: UdpPorts = given.into_iter().chain(40_000..40_256).collect();
        assert_is(&set, |udp_port| {
            given.contains(&udp_port) || (40_000..40_256).contains(&udp_port)
        });
    }

    #[test]
    fn clones_are_one_set() {
        let given: UdpPorts = [443, 444].into_iter().collect();
        let kept = given.clone();
        kept.insert(4433);
        kept.insert(4433);
        kept.remove(444);
        kept.remove(445);
        assert_is(&given, |udp_port| [443, 4433].contains(&udp_port));
        assert_eq!(format!("{given:?}"), "{443, 4433}");
    }
}
