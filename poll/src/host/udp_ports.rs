//! The UDP ports that datagrams are received on.

/// Bits of a word.
const WORD: usize = u64::BITS as usize;
const WORDS: usize = (u16::MAX as usize + 1) / WORD;

/// A set of UDP ports: one bit each, so that a range of client ports costs no more than a single one.
#[derive(Debug)]
pub(super) struct UdpPorts(Box<[u64; WORDS]>);

impl UdpPorts {
    #[inline]
    pub(super) fn contains(&self, udp_port: u16) -> bool {
        self.0[usize::from(udp_port) / WORD] >> (usize::from(udp_port) % WORD) & 1 == 1
    }
}

impl FromIterator<u16> for UdpPorts {
    fn from_iter<I: IntoIterator<Item = u16>>(udp_ports: I) -> Self {
        let mut bits = Box::new([0; WORDS]);
        for udp_port in udp_ports {
            bits[usize::from(udp_port) / WORD] |= 1 << (usize::from(udp_port) % WORD);
        }
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_given_ports_are_in_the_set() {
        let given = [0, 1, 63, 64, 443, 4433, u16::MAX];
        let set: UdpPorts = given.into_iter().chain(40_000..40_256).collect();
        for udp_port in 0..=u16::MAX {
            let expected = given.contains(&udp_port) || (40_000..40_256).contains(&udp_port);
            assert_eq!(set.contains(udp_port), expected, "{udp_port}");
        }
    }
}
