//! Which destinations are on the link, and which router has the others (RFC 4861 §5.2).

use std::net::Ipv6Addr;
use std::time::Instant;

use super::addresses::deadline;
use crate::wire::icmpv6::PrefixInformation;

/// Prefixes kept from router advertisements; further ones are ignored.
const PREFIXES_MAX: usize = 8;
/// Routers kept from router advertisements; further ones are ignored.
const ROUTERS_MAX: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Prefix {
    bits: u128,
    mask: u128,
    /// None: given, or advertised for ever.
    until: Option<Instant>,
    advertised: bool,
}

#[derive(Debug, Clone, Copy)]
struct Router {
    address: Ipv6Addr,
    /// None for the given gateway.
    until: Option<Instant>,
    /// It did not answer; others are tried first (RFC 4861 §6.3.6).
    suspect: bool,
}

#[derive(Debug)]
pub(super) struct Routes {
    prefixes: Vec<Prefix>,
    /// The given gateway first.
    routers: Vec<Router>,
}

impl Routes {
    pub(super) fn new(given: &[(Ipv6Addr, u8)], gateway: Option<Ipv6Addr>) -> Self {
        let prefix = |&(address, len): &(Ipv6Addr, u8)| {
            let mask = mask(len)?;
            let bits = address.to_bits() & mask;
            Some(Prefix {
                bits,
                mask,
                until: None,
                advertised: false,
            })
        };
        let router = |address| Router {
            address,
            until: None,
            suspect: false,
        };
        Self {
            prefixes: given.iter().filter_map(prefix).collect(),
            routers: gateway.into_iter().map(router).collect(),
        }
    }

    /// True when `destination` is reached without a router.
    pub(super) fn is_on_link(&self, destination: Ipv6Addr) -> bool {
        let bits = destination.to_bits();
        destination.is_unicast_link_local()
            || self
                .prefixes
                .iter()
                .any(|prefix| bits & prefix.mask == prefix.bits)
    }

    /// Where a datagram to `destination` goes first.
    pub(super) fn next_hop(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        if self.is_on_link(destination) {
            return Some(destination);
        }
        let trusted = self.routers.iter().find(|router| !router.suspect);
        trusted
            .or(self.routers.first())
            .map(|router| router.address)
    }

    /// True for the given gateway and for advertised routers.
    pub(super) fn is_router(&self, address: Ipv6Addr) -> bool {
        self.routers.iter().any(|router| router.address == address)
    }

    pub(super) fn routers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.routers.iter().map(|router| router.address)
    }

    /// Takes what a router says of itself (RFC 4861 §6.3.4).
    pub(super) fn router_advertised(&mut self, now: Instant, address: Ipv6Addr, lifetime_s: u16) {
        let until = deadline(now, u32::from(lifetime_s));
        if let Some(known) = self.routers.iter_mut().find(|r| r.address == address) {
            known.suspect = false;
            // The given gateway needs no advertisement, and none can take it away.
            if known.until.is_some() {
                known.until = until;
            }
        } else if lifetime_s > 0 {
            let advertised = self.routers.iter().filter(|r| r.until.is_some()).count();
            if advertised < ROUTERS_MAX {
                self.routers.push(Router {
                    address,
                    until,
                    suspect: false,
                });
            }
        }
        self.expire(now);
    }

    /// Takes an advertised prefix (RFC 4861 §6.3.4).
    pub(super) fn prefix_advertised(&mut self, now: Instant, prefix: &PrefixInformation) {
        let Some(mask) = mask(prefix.len) else {
            return;
        };
        if !prefix.on_link || prefix.prefix.is_unicast_link_local() {
            return;
        }
        let bits = prefix.prefix.to_bits() & mask;
        let until = deadline(now, prefix.valid_s);
        let same = |known: &&mut Prefix| known.bits == bits && known.mask == mask;
        if let Some(known) = self.prefixes.iter_mut().find(same) {
            if known.advertised {
                known.until = until;
            }
        } else {
            let advertised = self.prefixes.iter().filter(|p| p.advertised).count();
            if advertised < PREFIXES_MAX {
                self.prefixes.push(Prefix {
                    bits,
                    mask,
                    until,
                    advertised: true,
                });
            }
        }
        self.expire(now);
    }

    /// A neighbour says that it is no router any more (RFC 4861 §7.2.5).
    pub(super) fn not_a_router(&mut self, address: Ipv6Addr) {
        self.routers
            .retain(|router| router.until.is_none() || router.address != address);
    }

    /// A neighbour did not answer: if it is a router, another one has its turn.
    pub(super) fn unreachable(&mut self, address: Ipv6Addr) {
        for router in &mut self.routers {
            router.suspect |= router.address == address;
        }
        if self.routers.iter().all(|router| router.suspect) {
            let alone = self.routers.len() == 1;
            for router in &mut self.routers {
                router.suspect = router.address == address && !alone;
            }
        }
    }

    /// Forgets what is over. True when there was anything.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.prefixes.len() + self.routers.len();
        self.prefixes
            .retain(|prefix| prefix.until.is_none_or(|until| now < until));
        self.routers
            .retain(|router| router.until.is_none_or(|until| now < until));
        self.prefixes.len() + self.routers.len() < before
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        let prefixes = self.prefixes.iter().filter_map(|prefix| prefix.until);
        let routers = self.routers.iter().filter_map(|router| router.until);
        prefixes.chain(routers).min()
    }
}

/// The mask of a prefix length; none for lengths that no prefix has.
fn mask(len: u8) -> Option<u128> {
    match len {
        0 => Some(0),
        1..=128 => Some(u128::MAX << (128 - u32::from(len))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, len: u8, valid_s: u32) -> PrefixInformation {
        PrefixInformation {
            prefix: ip(text),
            len,
            on_link: true,
            autonomous: false,
            valid_s,
            preferred_s: 0,
        }
    }

    #[test]
    fn on_link_by_prefix_and_the_rest_by_the_gateway() {
        let routes = Routes::new(&[(ip("fd00:1::7"), 64)], Some(ip("fe80::1")));
        for (destination, next_hop) in [
            ("fd00:1::9", "fd00:1::9"),
            ("fe80::9", "fe80::9"),
            ("fd00:1:0:1::9", "fe80::1"),
            ("2001:db8::1", "fe80::1"),
        ] {
            assert_eq!(routes.next_hop(ip(destination)), Some(ip(next_hop)));
        }
        let alone = Routes::new(&[(ip("fd00:1::7"), 128)], None);
        assert_eq!(alone.next_hop(ip("fd00:1::8")), None);
    }

    #[test]
    fn routers_come_and_go_with_their_lifetime() {
        let now = Instant::now();
        let mut routes = Routes::new(&[], None);
        let far = ip("2001:db8::1");
        routes.router_advertised(now, ip("fe80::1"), 10);
        routes.router_advertised(now, ip("fe80::2"), 20);
        assert_eq!(routes.next_hop(far), Some(ip("fe80::1")));
        assert_eq!(routes.due(), Some(now + Duration::from_secs(10)));
        routes.expire(now + Duration::from_secs(10));
        assert_eq!(routes.next_hop(far), Some(ip("fe80::2")));
        routes.router_advertised(now, ip("fe80::2"), 0);
        assert_eq!(routes.next_hop(far), None);
        for i in 0..100 {
            routes.router_advertised(now, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, i), 10);
        }
        assert_eq!(routes.routers().count(), ROUTERS_MAX);
    }

    #[test]
    fn a_router_that_does_not_answer_gives_way() {
        let now = Instant::now();
        let (a, b, far) = (ip("fe80::1"), ip("fe80::2"), ip("2001:db8::1"));
        let mut routes = Routes::new(&[], Some(a));
        routes.unreachable(a);
        assert_eq!(routes.next_hop(far), Some(a));
        routes.router_advertised(now, b, 60);
        routes.unreachable(a);
        assert_eq!(routes.next_hop(far), Some(b));
        routes.unreachable(b);
        assert_eq!(routes.next_hop(far), Some(a));
        routes.unreachable(a);
        assert_eq!(routes.next_hop(far), Some(b));
        routes.not_a_router(b);
        routes.not_a_router(a);
        assert_eq!(routes.next_hop(far), Some(a));
    }

    #[test]
    fn prefixes_are_bounded_and_end() {
        let now = Instant::now();
        let mut routes = Routes::new(&[(ip("fd00:1::7"), 64)], None);
        routes.prefix_advertised(now, &prefix("fd00:1::", 64, 0));
        assert!(
            routes.is_on_link(ip("fd00:1::9")),
            "what was given cannot be taken away"
        );
        routes.prefix_advertised(now, &prefix("fd00:5::", 48, 60));
        assert!(routes.is_on_link(ip("fd00:5:0:9::1")));
        routes.prefix_advertised(now, &prefix("fd00:6::", 129, 60));
        assert!(!routes.is_on_link(ip("fd00:6::1")));
        assert!(routes.expire(now + Duration::from_secs(60)));
        assert!(!routes.is_on_link(ip("fd00:5:0:9::1")));
        for i in 0..100 {
            routes.prefix_advertised(now, &prefix(&format!("fd00:{:x}::", 0x100 + i), 64, 60));
        }
        assert_eq!(routes.prefixes.len(), 1 + PREFIXES_MAX);
    }
}
