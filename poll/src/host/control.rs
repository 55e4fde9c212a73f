//! What a host does about ICMPv6: neighbour discovery, router advertisements, echo, errors.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::neighbours::Advertised;
use super::timers::start_jitter;
use super::{Audience, Host, HostRole, Verdict};
use crate::wire::icmpv6::{
    Icmpv6Headers, Message, ND_HOP_LIMIT, NdOption, Options, QuotedUdp, emit,
};
use crate::wire::{
    ALL_NODES, DropReason, ETHERNET_HEADER, Icmpv6Frame, MTU_MIN, MacAddr, solicited_node,
};

/// Messages of a kind that can come from beyond the link that are taken, per second and at once: a bound for what they
/// make this host send (RFC 4443 §2.4 f), and for what a flood of them costs the other hosts of the port.
const FAR_PER_SECOND: u64 = 1000;
const FAR_BURST: u64 = 100;

impl Host {
    #[inline(never)]
    pub(super) fn receive_icmpv6(
        &mut self,
        now: Instant,
        frame: &[u8],
        headers: &Icmpv6Frame,
    ) -> Result<Verdict, DropReason> {
        if headers.dst_mac != self.mac && !headers.dst_mac.is_multicast() {
            return Err(DropReason::ForeignMac);
        }
        if headers.src_mac == self.mac || self.addresses.contains(headers.src) {
            // A multicast frame of our own that a switch sent back, or somebody who has our address. The latter is
            // noticed by the duplicate address probe and by advertisements.
            let advertisement = matches!(
                Message::parse(headers, frame),
                Ok(Message::NeighbourAdvertisement { .. })
            );
            if headers.src_mac == self.mac || !advertisement {
                return Err(DropReason::Loopback);
            }
        }
        if headers.src_mac.is_multicast() {
            return Err(DropReason::SourceAddress);
        }
        let for_us = self.addresses.contains(headers.dst)
            || headers.dst == ALL_NODES
            || self.addresses.listens_to(headers.dst);
        if !for_us {
            return Err(DropReason::ForeignAddress);
        }
        match Message::parse(headers, frame)? {
            Message::NeighbourSolicitation { target, source_mac } => {
                self.solicited(now, headers, target, source_mac)?;
                Ok(Verdict::Shared(Audience::All))
            }
            Message::NeighbourAdvertisement {
                target,
                target_mac,
                router,
                solicited,
                overrides,
            } => {
                let advertised = Advertised {
                    mac: target_mac.filter(|mac| !mac.is_multicast()),
                    solicited,
                    overrides,
                };
                self.advertised(now, target, router, advertised);
                Ok(Verdict::Shared(Audience::All))
            }
            Message::RouterAdvertisement {
                lifetime_s,
                options,
            } => {
                if !self.accept_router_advertisements {
                    return Err(DropReason::Icmpv6Unhandled);
                }
                self.router_advertised(now, headers.src, lifetime_s, options);
                Ok(Verdict::Shared(Audience::All))
            }
            Message::EchoRequest { id, data } => {
                if headers.message.end > ETHERNET_HEADER + usize::from(self.mtu) {
                    return Err(DropReason::BadIcmpv6);
                }
                if !self.echo_budget.take(now) {
                    return Err(DropReason::Icmpv6RateLimited);
                }
                if self.role == HostRole::Secondary {
                    return Ok(Verdict::Shared(Audience::Primary));
                }
                self.echo(now, headers, id, data)?;
                Ok(Verdict::Consumed)
            }
            Message::PacketTooBig { mtu, quoted } => {
                self.packet_too_big(now, mtu, quoted)?;
                Ok(Verdict::Shared(Audience::All))
            }
            Message::DestinationUnreachable { quoted, .. } => {
                self.quoted(quoted)?;
                self.counters.destination_unreachable += 1;
                Ok(Verdict::Consumed)
            }
            Message::ListenerQuery {
                group,
                delay_ms_max,
            } => {
                if self.role == HostRole::Secondary {
                    return Ok(Verdict::Shared(Audience::Primary));
                }
                if group.is_unspecified() || self.addresses.listens_to(group) {
                    let within = Duration::from_millis(u64::from(delay_ms_max));
                    self.schedule.listener_query(now, within, &mut self.random);
                }
                Ok(Verdict::Consumed)
            }
            Message::EchoReply { .. } | Message::RouterSolicitation { .. } => {
                Err(DropReason::Icmpv6Unhandled)
            }
        }
    }

    /// Asks for the MAC address of `target`: everybody in its solicited-node group, or one host by unicast.
    pub(super) fn solicit(&mut self, now: Instant, target: Ipv6Addr, probed: Option<MacAddr>) {
        let Some(src) = self.addresses.select(now, target, true) else {
            return;
        };
        let (dst, dst_mac) = match probed {
            Some(mac) => (target, mac),
            None => to_group(solicited_node(target)),
        };
        let source_mac = Some(self.mac);
        let message = Message::NeighbourSolicitation { target, source_mac };
        if self.send_nd(src, dst, dst_mac, &message) {
            self.counters.solicitations_sent += 1;
        }
    }

    /// Asks whether somebody else has `address` (RFC 4862 §5.4.2).
    pub(super) fn probe_duplicate(&mut self, address: Ipv6Addr) {
        let (dst, dst_mac) = to_group(solicited_node(address));
        let message = Message::NeighbourSolicitation {
            target: address,
            source_mac: None,
        };
        if self.send_nd(Ipv6Addr::UNSPECIFIED, dst, dst_mac, &message) {
            self.counters.solicitations_sent += 1;
        }
    }

    /// Sends a neighbour discovery message. False when the queue is full.
    pub(super) fn send_nd(
        &mut self,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        dst_mac: MacAddr,
        message: &Message<'_>,
    ) -> bool {
        let headers = Icmpv6Headers {
            src_mac: self.mac,
            dst_mac,
            src,
            dst,
            hop_limit: ND_HOP_LIMIT,
        };
        self.send(|frame| emit(frame, &headers, message))
    }

    /// Queues the frame that `build` writes. False, and counted, when the queue is full.
    pub(super) fn send(&mut self, build: impl FnOnce(&mut Vec<u8>)) -> bool {
        let sent = self.frames.push(build);
        if !sent {
            self.drops.count(DropReason::TxHostQueueFull);
        }
        sent
    }

    /// Somebody asks for one of our addresses (RFC 4861 §7.2.3, RFC 4862 §5.4.3).
    fn solicited(
        &mut self,
        now: Instant,
        headers: &Icmpv6Frame,
        target: Ipv6Addr,
        source_mac: Option<MacAddr>,
    ) -> Result<(), DropReason> {
        if !self.addresses.contains(target) {
            return Err(DropReason::ForeignAddress);
        }
        let tentative = self.addresses.is_tentative(now, target);
        if headers.src.is_unspecified() {
            // Another host is about to take the address. If we are, too, both have lost (RFC 4862 §5.4.3).
            if tentative {
                self.conflict(target);
                return Ok(());
            }
            if self.role == HostRole::Primary {
                let (dst, dst_mac) = to_group(ALL_NODES);
                self.advertise(target, dst, dst_mac, false, true);
            }
            return Ok(());
        }
        let source_mac = source_mac.filter(|mac| !mac.is_multicast());
        if let Some(mac) = source_mac {
            self.learn(now, headers.src, mac);
        }
        if self.role == HostRole::Primary {
            let dst_mac = source_mac.unwrap_or(headers.src_mac);
            self.advertise(target, headers.src, dst_mac, true, !tentative);
        }
        Ok(())
    }

    /// A host on the link told its MAC address by the way.
    fn learn(&mut self, now: Instant, address: Ipv6Addr, mac: MacAddr) {
        let usable = !mac.is_multicast() && self.routes.is_on_link(address);
        if usable && self.neighbours.learn(now, address, mac) {
            self.resolved(address, mac);
        }
    }

    fn advertise(
        &mut self,
        target: Ipv6Addr,
        dst: Ipv6Addr,
        dst_mac: MacAddr,
        solicited: bool,
        overrides: bool,
    ) {
        let message = Message::NeighbourAdvertisement {
            target,
            target_mac: Some(self.mac),
            router: false,
            solicited,
            overrides,
        };
        if self.send_nd(target, dst, dst_mac, &message) {
            self.counters.advertisements_sent += 1;
        }
    }

    fn advertised(&mut self, now: Instant, target: Ipv6Addr, router: bool, advertised: Advertised) {
        if self.addresses.contains(target) {
            self.conflict(target);
            return;
        }
        let announced = advertised.mac;
        if self.neighbours.advertised(now, target, advertised)
            && let Some(mac) = self.neighbours.mac_of(target)
        {
            self.resolved(target, mac);
        }
        // An advertisement that was not believed (RFC 4861 §7.2.5) says nothing about the role, either.
        let believed = announced.is_none() || announced == self.neighbours.mac_of(target);
        if !router && believed && self.routes.is_router(target) {
            self.routes.not_a_router(target);
            self.forget_routes();
        }
    }

    fn conflict(&mut self, address: Ipv6Addr) {
        if self.addresses.conflict(address) {
            self.counters.address_conflicts += 1;
        }
    }

    /// RFC 4861 §6.3.4, RFC 4862 §5.5.3.
    fn router_advertised(
        &mut self,
        now: Instant,
        router: Ipv6Addr,
        lifetime_s: u16,
        options: Options<'_>,
    ) {
        self.counters.router_advertisements += 1;
        self.routes.router_advertised(now, router, lifetime_s);
        if let Some(mac) = options.source_mac() {
            self.learn(now, router, mac);
        }
        let mut added = false;
        for option in options.iter() {
            match option {
                NdOption::Prefix(prefix) => {
                    let jitter = start_jitter(&mut self.random);
                    self.routes.prefix_advertised(now, &prefix);
                    added |= self.addresses.advertised(now, &prefix, jitter);
                }
                NdOption::Mtu(mtu) => {
                    let lawful = u32::from(MTU_MIN)..=u32::from(self.port_mtu);
                    if let Ok(taken) = u16::try_from(mtu)
                        && lawful.contains(&mtu)
                    {
                        self.mtu = taken;
                    }
                }
                _ => {}
            }
        }
        if added {
            self.multicast_generation += 1;
            if self.role == HostRole::Primary {
                self.schedule.groups_joined(now);
            }
        }
        if lifetime_s > 0 {
            self.schedule.stop_router_solicitations();
        }
        self.schedule.refresh(&self.addresses, &self.routes);
        self.forget_routes();
    }

    fn echo(
        &mut self,
        now: Instant,
        headers: &Icmpv6Frame,
        id: [u8; 4],
        data: &[u8],
    ) -> Result<(), DropReason> {
        // A request to a group is answered from an address of ours (RFC 4443 §4.2).
        let src = if headers.dst.is_multicast() {
            let on_link = self.routes.is_on_link(headers.src);
            let selected = self.addresses.select(now, headers.src, on_link);
            selected.ok_or(DropReason::Icmpv6Unhandled)?
        } else {
            headers.dst
        };
        let reply = Icmpv6Headers {
            src_mac: self.mac,
            // Back the way it came: the neighbour or router that sent it.
            dst_mac: headers.src_mac,
            src,
            dst: headers.src,
            hop_limit: super::HOP_LIMIT,
        };
        if self.send(|frame| emit(frame, &reply, &Message::EchoReply { id, data })) {
            self.counters.echo_replies_sent += 1;
        }
        Ok(())
    }

    fn packet_too_big(&mut self, now: Instant, mtu: u32, quoted: &[u8]) -> Result<(), DropReason> {
        let destination = self.quoted(quoted)?.dst;
        if !self.error_budget.take(now) {
            return Err(DropReason::Icmpv6RateLimited);
        }
        let so_far = self.path_mtu(now, destination);
        if self.path_mtus.announced(now, destination, mtu, so_far) {
            self.counters.path_mtu_lowered += 1;
            self.forget_routes();
        }
        Ok(())
    }

    /// What an ICMPv6 error quotes, if that can be a datagram of this host.
    fn quoted(&self, quoted: &[u8]) -> Result<QuotedUdp, DropReason> {
        QuotedUdp::parse(quoted)
            .filter(|q| self.addresses.contains(q.src) && self.udp_ports.contains(q.src_port))
            .filter(|q| !q.dst.is_multicast() && !self.addresses.contains(q.dst))
            .ok_or(DropReason::BadIcmpv6)
    }
}

/// A multicast group and its MAC address.
fn to_group(group: Ipv6Addr) -> (Ipv6Addr, MacAddr) {
    (group, MacAddr::of_multicast(group))
}

/// Bounds a rate.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens: u64,
    filled: Instant,
}

impl TokenBucket {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: FAR_BURST,
            filled: now,
        }
    }

    /// True when one more may be sent now.
    fn take(&mut self, now: Instant) -> bool {
        const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / FAR_PER_SECOND);
        let elapsed = now.saturating_duration_since(self.filled);
        let fresh = (elapsed.as_nanos() / INTERVAL.as_nanos()) as u64;
        if self.tokens + fresh >= FAR_BURST {
            self.tokens = FAR_BURST;
            self.filled = now;
        } else if fresh > 0 {
            self.tokens += fresh;
            // `fresh` is less than the burst, so this is a small number; the rest of the time is kept.
            self.filled += INTERVAL * fresh as u32;
        }
        let granted = self.tokens > 0;
        self.tokens -= u64::from(granted);
        granted
    }
}
