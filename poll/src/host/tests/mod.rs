//! Tests of a host under a virtual clock, by area; what they share is here.

mod neighbours;
mod receive;
mod roles;
mod routes;
mod start;

use std::net::SocketAddrV6;

use super::*;
use crate::transport::Transmit;
use crate::wire::icmpv6::{
    Icmpv6Headers, Message, ND_HOP_LIMIT, NdOption, Options, PrefixInformation, emit,
};
use crate::wire::{
    ALL_MLDV2_ROUTERS, ALL_ROUTERS, HEADERS, Parsed, UdpHeaders, emit_udp_headers, parse,
    solicited_node,
};

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const UDP_PORT: u16 = 4433;
/// What concerns every host of a port.
const FOR_ALL: Verdict = Verdict::Shared(Audience::All);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> HostConfig {
    HostConfig {
        role: HostRole::Primary,
        mac: OURS,
        addresses: vec![(ip("fd00::1"), 64)],
        gateway: None,
        accept_router_advertisements: false,
        mtu: 1500,
        udp_ports: [UDP_PORT].into_iter().collect(),
        verify_checksums: true,
        tx_checksum: Checksum::Software,
        neighbours_max: 32,
        waiting_datagrams_max: 16,
        seed: 5,
    }
}

/// A host two seconds after its start, with what it had to say then thrown away.
fn settled(config: HostConfig) -> (Host, Instant) {
    let start = Instant::now();
    let mut host = Host::new(config, start);
    for half_second in 0..4 {
        frames(&mut host, start + seconds(1) / 2 * half_second);
    }
    let now = start + seconds(2);
    frames(&mut host, now);
    (host, now)
}

/// Everything the host has to send now.
fn frames(host: &mut Host, now: Instant) -> Vec<Vec<u8>> {
    let mut out = [0; frame_len_max(1500)];
    std::iter::from_fn(|| {
        host.poll_frame(now, &mut out)
            .map(|len| out[..len].to_vec())
    })
    .collect()
}

/// The one frame that the host has to send now, as an ICMPv6 message with its headers.
fn only_message(frames: &[Vec<u8>]) -> (Icmpv6Headers, Message<'_>) {
    let [frame] = frames else {
        panic!("{} frames", frames.len());
    };
    message(frame)
}

fn message(frame: &[u8]) -> (Icmpv6Headers, Message<'_>) {
    let Ok(Parsed::Icmpv6(parsed)) = parse(frame, true) else {
        panic!("not ICMPv6: {frame:x?}");
    };
    let headers = Icmpv6Headers {
        src_mac: parsed.src_mac,
        dst_mac: parsed.dst_mac,
        src: parsed.src,
        dst: parsed.dst,
        hop_limit: parsed.hop_limit,
    };
    (headers, Message::parse(&parsed, frame).unwrap())
}

fn icmpv6(src_mac: MacAddr, src: &str, dst: &str, message: &Message<'_>) -> Vec<u8> {
    let dst = ip(dst);
    let hop_limit = match message {
        Message::ListenerQuery { .. } => 1,
        _ => ND_HOP_LIMIT,
    };
    let dst_mac = if dst.is_multicast() {
        MacAddr::of_multicast(dst)
    } else {
        OURS
    };
    let headers = Icmpv6Headers {
        src_mac,
        dst_mac,
        src: ip(src),
        dst,
        hop_limit,
    };
    let mut frame = Vec::new();
    emit(&mut frame, &headers, message);
    frame
}

fn udp(src_mac: MacAddr, src: &str, src_port: u16) -> (UdpHeaders, Vec<u8>) {
    let headers = UdpHeaders {
        src_mac,
        dst_mac: OURS,
        src: ip(src),
        dst: ip("fd00::1"),
        src_port,
        dst_port: UDP_PORT,
        ecn: Ecn::Ect0,
        hop_limit: 64,
        flow_label: 0,
    };
    (headers, udp_frame(&headers, b"hello"))
}

fn udp_frame(headers: &UdpHeaders, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADERS];
    emit_udp_headers(&mut head, headers, payload, Checksum::Software);
    [&head[..], payload].concat()
}

fn advertisement(target: &str, mac: MacAddr, router: bool) -> Vec<u8> {
    let message = Message::NeighbourAdvertisement {
        target: ip(target),
        target_mac: Some(mac),
        router,
        solicited: true,
        overrides: true,
    };
    icmpv6(mac, target, "fd00::1", &message)
}

fn router_advertisement(lifetime_s: u16, options: &[NdOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        option.emit(&mut bytes);
    }
    let options = Options::new(&bytes).unwrap();
    let message = Message::RouterAdvertisement {
        lifetime_s,
        options,
    };
    icmpv6(ROUTER, "fe80::fe", "ff02::1", &message)
}

fn transmit_to(destination: &str) -> Transmit {
    Transmit {
        destination: SocketAddrV6::new(ip(destination), 443, 0, 0),
        source: None,
        source_udp_port: UDP_PORT,
        ecn: Ecn::Ect0,
        size: 5,
        segment_size: None,
        departure: None,
    }
}

fn ready(mac: MacAddr, source: &str) -> Route {
    Route::Ready {
        mac,
        source: ip(source),
    }
}

fn waiting(source: &str) -> Route {
    Route::Waiting { source: ip(source) }
}

/// A host that knows `fd00::2` to be reachable at `PEER`.
fn with_peer() -> (Host, Instant) {
    let (mut host, now) = settled(config());
    assert_eq!(host.route(now, ip("fd00::2"), None, 5), waiting("fd00::1"));
    let frame = advertisement("fd00::2", PEER, false);
    assert_eq!(host.receive(now, &frame), FOR_ALL);
    frames(&mut host, now);
    (host, now)
}

fn packet_too_big(mtu: u32, quoted: &UdpHeaders) -> Vec<u8> {
    let packet = udp_frame(quoted, &[0; 100]);
    let message = Message::PacketTooBig {
        mtu,
        quoted: &packet[ETHERNET_HEADER..],
    };
    icmpv6(ROUTER, "2001:db8::fe", "fd00::1", &message)
}
