//! The addresses of the host: given, link-local, and made from advertised prefixes (RFC 4862).

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::wire::icmpv6::PrefixInformation;
use crate::wire::{MacAddr, solicited_node};

/// Addresses made from router advertisements; further prefixes are ignored.
const ADVERTISED_MAX: usize = 8;
/// How long an answer to the duplicate address probe is waited for (RFC 4862 §5.1, RETRANS_TIMER).
const PROBE_ANSWER: Duration = Duration::from_secs(1);
/// A router advertisement cannot shorten the remaining life of an address below this (RFC 4862 §5.5.3 e).
const LIFETIME_FLOOR: Duration = Duration::from_secs(2 * 3600);

/// One address.
#[derive(Debug, Clone, Copy)]
struct Address {
    address: Ipv6Addr,
    prefix_len: u8,
    /// None for the addresses that were given, and the link-local one.
    advertised: Option<Lifetimes>,
    /// When to ask whether somebody else has it.
    probe_at: Option<Instant>,
    /// Until when an answer to that may come.
    tentative_until: Option<Instant>,
    conflict: bool,
}

/// Ends of an address's life; none never ends.
#[derive(Debug, Clone, Copy)]
struct Lifetimes {
    valid_until: Option<Instant>,
    preferred_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Addresses {
    mac: MacAddr,
    list: Vec<Address>,
    /// The addresses alone, for the look at every received datagram.
    local: Vec<Ipv6Addr>,
    /// Their solicited-node groups, each once.
    groups: Vec<Ipv6Addr>,
}

impl Addresses {
    /// `given` addresses and the link-local one. `probe_delay` draws how long to wait with the duplicate address probe.
    pub(super) fn new(
        mac: MacAddr,
        given: &[(Ipv6Addr, u8)],
        now: Instant,
        mut probe_delay: impl FnMut() -> Duration,
    ) -> Self {
        let mut addresses = Self {
            mac,
            list: Vec::new(),
            local: Vec::new(),
            groups: Vec::new(),
        };
        for (address, prefix_len) in given.iter().copied().chain([(mac.link_local(), 64)]) {
            if addresses.list.iter().all(|known| known.address != address) {
                let probe_at = now + probe_delay();
                addresses.add(address, prefix_len, None, probe_at);
            }
        }
        addresses.index();
        addresses
    }

    /// True for an address of this host.
    #[inline]
    pub(super) fn contains(&self, address: Ipv6Addr) -> bool {
        self.local.contains(&address)
    }

    /// True for a solicited-node group that one of the addresses belongs to.
    pub(super) fn listens_to(&self, group: Ipv6Addr) -> bool {
        self.groups.contains(&group)
    }

    pub(super) fn groups(&self) -> &[Ipv6Addr] {
        &self.groups
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, u8)> {
        self.list.iter().map(|a| (a.address, a.prefix_len))
    }

    /// The address to send from (RFC 6724 §5, rules 2, 3 and 8): of the scope of `destination`, rather preferred than
    /// deprecated, with the longest common prefix. Without one of that scope the link-local address does on the link.
    pub(super) fn select(
        &self,
        now: Instant,
        destination: Ipv6Addr,
        on_link: bool,
    ) -> Option<Ipv6Addr> {
        let link_local = destination.is_unicast_link_local();
        let rank = |address: &&Address| {
            let deprecated = address
                .advertised
                .and_then(|lifetimes| lifetimes.preferred_until)
                .is_some_and(|until| until <= now);
            let common = (address.address.to_bits() ^ destination.to_bits()).leading_zeros();
            (!deprecated, common)
        };
        let of_scope = self
            .list
            .iter()
            .filter(|a| a.address.is_unicast_link_local() == link_local)
            .max_by_key(rank);
        match of_scope {
            Some(address) => Some(address.address),
            None => on_link.then(|| self.mac.link_local()),
        }
    }

    /// Takes an advertised prefix (RFC 4862 §5.5.3). True when an address was added.
    pub(super) fn advertised(
        &mut self,
        now: Instant,
        prefix: &PrefixInformation,
        probe_delay: Duration,
    ) -> bool {
        let usable = prefix.autonomous
            && prefix.len == 64
            && prefix.preferred_s <= prefix.valid_s
            && !prefix.prefix.is_unicast_link_local()
            && !prefix.prefix.is_multicast();
        if !usable {
            return false;
        }
        let address = self.mac.address_in(prefix.prefix);
        if let Some(known) = self.list.iter_mut().find(|a| a.address == address) {
            if let Some(lifetimes) = &mut known.advertised {
                lifetimes.renew(now, prefix);
            }
            return false;
        }
        let advertised = self.list.iter().filter(|a| a.advertised.is_some()).count();
        if prefix.valid_s == 0 || advertised >= ADVERTISED_MAX {
            return false;
        }
        let lifetimes = Lifetimes {
            valid_until: deadline(now, prefix.valid_s),
            preferred_until: deadline(now, prefix.preferred_s),
        };
        self.add(address, 64, Some(lifetimes), now + probe_delay);
        self.index();
        true
    }

    /// Removes the addresses whose life ended. True when there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.list.len();
        self.list.retain(|address| {
            let until = address.advertised.and_then(|l| l.valid_until);
            until.is_none_or(|until| now < until)
        });
        let expired = self.list.len() < before;
        if expired {
            self.index();
        }
        expired
    }

    /// The next address for which a duplicate address probe is due; it counts as probed now.
    pub(super) fn next_probe(&mut self, now: Instant) -> Option<Ipv6Addr> {
        let due = |a: &&mut Address| a.probe_at.is_some_and(|at| at <= now);
        let address = self.list.iter_mut().find(due)?;
        address.probe_at = None;
        address.tentative_until = Some(now + PROBE_ANSWER);
        Some(address.address)
    }

    /// True while it is open whether somebody else has `address`: it is used, but overrides nobody's knowledge
    /// (RFC 4429 §3.3).
    pub(super) fn is_tentative(&self, now: Instant, address: Ipv6Addr) -> bool {
        self.list.iter().any(|a| {
            let probed = a.tentative_until.is_some_and(|until| until <= now);
            a.address == address && !probed
        })
    }

    /// Somebody else has `address`. True when that is news.
    pub(super) fn conflict(&mut self, address: Ipv6Addr) -> bool {
        let known = self.list.iter_mut().find(|a| a.address == address);
        known.is_some_and(|address| !std::mem::replace(&mut address.conflict, true))
    }

    /// The addresses that somebody else has, too.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.list.iter().filter(|a| a.conflict).map(|a| a.address)
    }

    /// When [`expire`](Self::expire) or [`next_probe`](Self::next_probe) has something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        let end = |a: &Address| a.advertised.and_then(|l| l.valid_until);
        let ends = self.list.iter().filter_map(end);
        let probes = self.list.iter().filter_map(|a| a.probe_at);
        ends.chain(probes).min()
    }

    fn add(
        &mut self,
        address: Ipv6Addr,
        prefix_len: u8,
        advertised: Option<Lifetimes>,
        probe_at: Instant,
    ) {
        self.list.push(Address {
            address,
            prefix_len,
            advertised,
            probe_at: Some(probe_at),
            tentative_until: None,
            conflict: false,
        });
    }

    fn index(&mut self) {
        self.local = self.list.iter().map(|a| a.address).collect();
        self.groups = self
            .list
            .iter()
            .map(|a| solicited_node(a.address))
            .collect();
        self.groups.sort_unstable();
        self.groups.dedup();
    }
}

impl Lifetimes {
    /// The rules of RFC 4862 §5.5.3 e: nobody can end an address's life at once with a forged advertisement.
    fn renew(&mut self, now: Instant, prefix: &PrefixInformation) {
        self.preferred_until = deadline(now, prefix.preferred_s);
        let announced = Duration::from_secs(u64::from(prefix.valid_s));
        let remaining = self
            .valid_until
            .map(|until| until.saturating_duration_since(now));
        if announced > LIFETIME_FLOOR || remaining.is_some_and(|remaining| announced > remaining) {
            self.valid_until = deadline(now, prefix.valid_s);
        } else if remaining.is_none_or(|remaining| remaining > LIFETIME_FLOOR) {
            self.valid_until = Some(now + LIFETIME_FLOOR);
        }
    }
}

/// When a lifetime in seconds ends; the largest value never does (RFC 4861 §4.6.2).
pub(super) fn deadline(now: Instant, seconds: u32) -> Option<Instant> {
    (seconds != u32::MAX).then(|| now + Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn addresses(now: Instant) -> Addresses {
        let given = [(ip("2001:db8:1::1"), 64), (ip("fd00:2::1"), 48)];
        Addresses::new(MAC, &given, now, || Duration::from_millis(100))
    }

    fn prefix(text: &str, valid_s: u32, preferred_s: u32) -> PrefixInformation {
        PrefixInformation {
            prefix: ip(text),
            len: 64,
            on_link: true,
            autonomous: true,
            valid_s,
            preferred_s,
        }
    }

    #[test]
    fn source_is_of_the_scope_and_closest() {
        let now = Instant::now();
        let addresses = addresses(now);
        for (destination, source) in [
            ("fe80::9", "fe80::ff:fe00:1"),
            ("fd00:2::9", "fd00:2::1"),
            ("2001:db8:1::9", "2001:db8:1::1"),
            ("2600::1", "2001:db8:1::1"),
        ] {
            assert_eq!(
                addresses.select(now, ip(destination), false),
                Some(ip(source))
            );
        }
        let only_link_local = Addresses::new(MAC, &[], now, || Duration::ZERO);
        assert_eq!(only_link_local.select(now, ip("2600::1"), false), None);
        assert_eq!(
            only_link_local.select(now, ip("2600::1"), true),
            Some(MAC.link_local())
        );
    }

    #[test]
    fn an_advertised_prefix_makes_an_address_that_ends() {
        let now = Instant::now();
        let mut addresses = addresses(now);
        let made = ip("2001:db8:5::ff:fe00:1");
        assert!(addresses.advertised(now, &prefix("2001:db8:5::", 3600, 60), Duration::ZERO));
        assert!(!addresses.advertised(now, &prefix("2001:db8:5::", 3600, 60), Duration::ZERO));
        assert!(addresses.contains(made));
        assert!(addresses.iter().any(|entry| entry == (made, 64)));
        assert_eq!(
            addresses.select(now, ip("2001:db8:5::9"), false),
            Some(made)
        );
        // Deprecated: another one is rather taken.
        let later = now + Duration::from_secs(60);
        assert_eq!(
            addresses.select(later, ip("2001:db8:5::9"), false),
            Some(ip("2001:db8:1::1"))
        );
        assert!(!addresses.expire(now + Duration::from_secs(3599)));
        assert!(addresses.expire(now + Duration::from_secs(3600)));
        assert!(!addresses.contains(made));
    }

    #[test]
    fn useless_prefixes_are_ignored_and_their_number_is_bounded() {
        let now = Instant::now();
        let mut addresses = addresses(now);
        let good = prefix("2001:db8:5::", 3600, 60);
        for bad in [
            PrefixInformation {
                autonomous: false,
                ..good
            },
            PrefixInformation { len: 63, ..good },
            PrefixInformation {
                valid_s: 0,
                preferred_s: 0,
                ..good
            },
            PrefixInformation {
                preferred_s: 3601,
                ..good
            },
            PrefixInformation {
                prefix: ip("fe80::"),
                ..good
            },
        ] {
            assert!(!addresses.advertised(now, &bad, Duration::ZERO));
        }
        for i in 0..100 {
            let text = format!("2001:db8:{:x}::", 0x100 + i);
            addresses.advertised(now, &prefix(&text, 3600, 60), Duration::ZERO);
        }
        assert_eq!(addresses.iter().count(), 3 + ADVERTISED_MAX);
    }

    #[test]
    fn a_short_lifetime_cannot_end_an_address_at_once() {
        let now = Instant::now();
        let mut addresses = addresses(now);
        let made = ip("2001:db8:5::ff:fe00:1");
        addresses.advertised(
            now,
            &prefix("2001:db8:5::", u32::MAX, u32::MAX),
            Duration::ZERO,
        );
        addresses.advertised(now, &prefix("2001:db8:5::", 0, 0), Duration::ZERO);
        assert!(!addresses.expire(now + LIFETIME_FLOOR - Duration::from_secs(1)));
        assert!(addresses.contains(made));
        // Within the last two hours a shorter one is ignored, a longer one taken.
        let later = now + Duration::from_secs(3600);
        addresses.advertised(later, &prefix("2001:db8:5::", 10, 10), Duration::ZERO);
        assert!(!addresses.expire(later + Duration::from_secs(3599)));
        addresses.advertised(later, &prefix("2001:db8:5::", 4000, 10), Duration::ZERO);
        assert!(!addresses.expire(later + Duration::from_secs(3999)));
        assert!(addresses.expire(later + Duration::from_secs(4000)));
    }

    #[test]
    fn each_address_is_probed_once() {
        let now = Instant::now();
        let mut addresses = addresses(now);
        assert_eq!(addresses.next_probe(now), None);
        let at = addresses.due().unwrap();
        assert_eq!(at, now + Duration::from_millis(100));
        let mut probed: Vec<_> = std::iter::from_fn(|| addresses.next_probe(at)).collect();
        probed.sort();
        let mut all: Vec<_> = addresses.iter().map(|(address, _)| address).collect();
        all.sort();
        assert_eq!(probed, all);
        assert_eq!(addresses.due(), None);
        assert!(addresses.is_tentative(at, all[0]));
        assert!(!addresses.is_tentative(at + PROBE_ANSWER, all[0]));
        assert!(addresses.conflict(all[0]));
        assert!(!addresses.conflict(all[0]));
        assert!(!addresses.conflict(ip("2600::1")));
        assert_eq!(addresses.conflicts().collect::<Vec<_>>(), [all[0]]);
    }
}
