//! Two server shards of one port, a client, and a network that the input rules: it passes on, changes, drops, doubles,
//! misplaces and invents datagrams.
//!
//! The input is a sequence of steps: one byte of instructions, one byte of length, so many bytes of material. The
//! length's lowest bit chooses the server shard.
//!
//! To be built without debug assertions: quinn-proto 0.11.19 has one that a migration while nothing is in flight trips
//! (`pto_time_and_space`); without it the only consequence is a needless probe.

#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use common::{
    CLIENT_PORT, CONNECTIONS_MAX, PAYLOAD_MAX, SERVERS, UDP_PORT, address, assert_adds_up, datagram,
};
use libfuzzer_sys::fuzz_target;
use poll::Transport;

/// Bits of the byte of instructions.
const TO_CLIENT: u8 = 1;
const INVENT: u8 = 2;
const CHANGE: u8 = 4;
const DROP: u8 = 8;
const DOUBLE: u8 = 16;
const CUT: u8 = 32;
const WAIT: u8 = 64;
const ELSEWHERE: u8 = 128;

fuzz_target!(|input: &[u8]| {
    let mut now = Instant::now();
    let mut shards = common::servers(&common::server(), &common::limits(), now);
    shards.push(common::clients(common::client(), now));
    // Datagrams on their way to the servers and to the client.
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let mut buf = Vec::with_capacity(usize::from(PAYLOAD_MAX) + 596);
    let mut rest = input;
    while let Some((&[instructions, len], following)) = rest.split_first_chunk::<2>() {
        let (material, following) = following.split_at(usize::from(len).min(following.len()));
        rest = following;
        for (index, shard) in shards.iter_mut().enumerate() {
            shard.advance(now);
            let host = usize::from(index >= SERVERS);
            for _ in 0..64 {
                buf.clear();
                let Some(transmit) = shard.transmit(now, &mut buf, 1) else {
                    break;
                };
                assert!(transmit.size == buf.len() && buf.len() <= usize::from(PAYLOAD_MAX));
                assert_eq!(*transmit.destination.ip(), address(1 - host));
                let ports = (transmit.source_udp_port, transmit.destination.port());
                queues[1 - host].push_back((ports, buf.clone()));
            }
            let _ = shard.timeout();
            assert!(shard.counters().connections_current.get() <= CONNECTIONS_MAX as u64);
        }
        if instructions & WAIT != 0 {
            now += Duration::from_millis(1 << (len % 16));
        }
        let to = usize::from(instructions & TO_CLIENT);
        let udp_port = if to == 0 { UDP_PORT } else { CLIENT_PORT };
        let (mut ports, mut payload) = match instructions & INVENT != 0 {
            true => ((1_234, udp_port), material.to_vec()),
            false => match queues[to].pop_front() {
                Some(datagram) => datagram,
                None => continue,
            },
        };
        if instructions & DROP != 0 {
            continue;
        }
        if instructions & CHANGE != 0 {
            for change in material.chunks_exact(3) {
                let position = usize::from(u16::from_be_bytes([change[0], change[1]]));
                if let Some(byte) = payload.get_mut(position) {
                    *byte ^= change[2];
                }
            }
        }
        if instructions & CUT != 0 {
            payload.truncate(usize::from(len) * 6);
        }
        if instructions & ELSEWHERE != 0 {
            ports.0 ^= 1;
        }
        let from = SocketAddrV6::new(address(1 - to), ports.0, 0, 0);
        let to_address = SocketAddrV6::new(address(to), ports.1, 0, 0);
        let shard = match to {
            0 => usize::from(len) % SERVERS,
            _ => SERVERS,
        };
        for _ in 0..1 + usize::from(instructions & DOUBLE != 0) {
            shards[shard].receive(now, datagram(from, to_address, len, &payload));
        }
    }
    for shard in &mut shards {
        shard.stop(now);
        assert_adds_up(shard);
        assert_eq!(shard.counters().application_panics.get(), 0);
    }
    let sum = |of: fn(&stoq::shard::ShardCounters) -> u64| -> u64 {
        shards.iter().map(|shard| of(shard.counters())).sum()
    };
    let waiting = sum(|c| c.handed_over.get()) - sum(|c| c.taken_over.get());
    assert!(waiting <= (common::HANDOVER * SERVERS) as u64);
});
