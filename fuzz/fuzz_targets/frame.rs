//! Frames against the parser and a host, several in a row, with time passing between them.
//!
//! The input is a sequence of: one byte of instructions, two bytes of length, a frame. `seeds/frame` holds one frame of
//! every kind. To run it, with cargo-fuzz: `cargo +nightly fuzz run frame corpus/frame seeds/frame`.

#![no_main]

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use poll::host::{Host, HostConfig, HostRole, Verdict, frame_len_max};
use poll::wire::{Checksum, MacAddr, parse};

const MTU: u16 = 1500;
const NEIGHBOURS_MAX: usize = 8;
const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OUR_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// Bits of the byte of instructions.
const MEND_CHECKSUM: u8 = 1;
const ADDRESS_TO_US: u8 = 2;
const POLL: u8 = 4;
const ROUTE: u8 = 8;

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut host = host(now);
    let mut out = [0; frame_len_max(MTU)];
    let mut rest = input;
    while let Some((&[instructions, high, low], following)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low])).min(following.len());
        let (frame, following) = following.split_at(len);
        rest = following;

        let mut frame = frame.to_vec();
        if instructions & ADDRESS_TO_US != 0 && frame.len() >= 54 {
            frame[0..6].copy_from_slice(&OURS.0);
            frame[38..54].copy_from_slice(&OUR_ADDRESS.octets());
        }
        if instructions & MEND_CHECKSUM != 0 {
            mend_icmpv6_checksum(&mut frame);
        }
        let _ = parse(&frame, true);
        if let Verdict::Udp { path, payload, .. } = host.receive(now, &frame) {
            assert!(!frame[payload].is_empty());
            assert_eq!(path.local, OUR_ADDRESS);
            if instructions & ROUTE != 0 {
                let _ = host.route(now, *path.remote.ip(), Some(path.local), 1200);
            }
        }
        if instructions & POLL != 0 {
            now += Duration::from_millis(u64::from(instructions) * 8);
            while let Some(len) = host.poll_frame(now, &mut out) {
                assert!(parse(&out[..len], true).is_ok());
            }
        }
        assert!(host.neighbours(now).count() <= NEIGHBOURS_MAX);
        assert!((1280..=MTU).contains(&host.mtu()));
    }
});

fn host(now: Instant) -> Host {
    let config = HostConfig {
        role: HostRole::Primary,
        mac: OURS,
        addresses: vec![(OUR_ADDRESS, 64)],
        gateway: None,
        accept_router_advertisements: true,
        mtu: MTU,
        udp_ports: [4433].into_iter().collect(),
        // A fuzzer does not find checksums; what lies behind them is of more interest.
        verify_checksums: false,
        tx_checksum: Checksum::Software,
        neighbours_max: NEIGHBOURS_MAX,
        waiting_datagrams_max: 4,
        seed: 1,
    };
    Host::new(config, now)
}

/// Makes the checksum of an ICMPv6 message right, when the frame holds one without extension headers.
fn mend_icmpv6_checksum(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk::<58>() else {
        return;
    };
    let len = usize::from(u16::from_be_bytes([head[18], head[19]]));
    if head[20] != 58 || len < 4 || frame.len() < 54 + len {
        return;
    }
    frame[56..58].fill(0);
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum = len as u32 + 58;
    sum += frame[22..54 + len].chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
