//! Any connection ID into the steering: made up, or made by the codec and changed, in a short or a long header, at any
//! shard of a port.
//!
//! The input is a sequence of steps: instructions, first byte, one byte of length, so many bytes of material.

#![no_main]

use std::net::SocketAddrV6;
use std::time::Instant;

use common::{CLIENT_PORT, SERVERS, UDP_PORT, address, assert_adds_up, codec, datagram};
use libfuzzer_sys::fuzz_target;
use poll::Transport;
use stoq::steering::CID_LEN;

/// Bits of the byte of instructions; the two lowest choose the shard that is named.
const TRUE: u8 = 4;
const ROTATED: u8 = 8;
const CHANGED: u8 = 16;
const LAST: u8 = 32;
const TURN: u8 = 64;

fuzz_target!(|input: &[u8]| {
    let now = Instant::now();
    let codec = codec();
    let mut shards = common::servers(&common::server(), &common::limits(), now);
    let mut buf = Vec::with_capacity(2_048);
    let mut rest = input;
    let mut nonce = 0;
    while let Some((&[instructions, first, len], following)) = rest.split_first_chunk::<3>() {
        let (material, following) = following.split_at(usize::from(len).min(following.len()));
        rest = following;
        let mut cid = material
            .get(..CID_LEN.min(material.len()))
            .unwrap_or_default()
            .to_vec();
        if instructions & TRUE != 0 {
            nonce += 1;
            codec
                .rotate(if instructions & ROTATED != 0 { 5 } else { 0 })
                .unwrap();
            let named = instructions & 3;
            let made = codec.encode(named, nonce);
            assert_eq!(codec.decode(&made), Some(named));
            cid = made.to_vec();
            if instructions & CHANGED != 0 {
                for (byte, change) in cid.iter_mut().zip(material) {
                    *byte ^= change;
                }
            }
        }
        let read = codec.decode(&cid);
        assert!(read.is_none() || cid.len() == CID_LEN);
        let mut packet = vec![first];
        if first & 0x80 != 0 {
            packet.extend([0, 0, 0, 1, cid.len() as u8]);
        }
        packet.extend_from_slice(&cid);
        packet.extend_from_slice(material);
        let from = SocketAddrV6::new(address(1), CLIENT_PORT, 0, 0);
        let to = SocketAddrV6::new(address(0), UDP_PORT, 0, 0);
        let at = usize::from(instructions & LAST != 0) % SERVERS;
        let before = shards[at].counters().handed_over.get();
        shards[at].receive(now, datagram(from, to, 0, &packet));
        // Handed over only if the ID names the other shard.
        let handed = shards[at].counters().handed_over.get() - before;
        let elsewhere = (0..SERVERS as u8).any(|shard| {
            usize::from(shard) != at
                && packet_cid(&packet).is_some_and(|cid| codec.decode(cid) == Some(shard))
        });
        assert!(handed == 0 || elsewhere);
        if instructions & TURN != 0 {
            for shard in &mut shards {
                shard.advance(now);
                buf.clear();
                let _ = shard.transmit(now, &mut buf, 1);
                let _ = shard.timeout();
            }
        }
    }
    for shard in &mut shards {
        shard.advance(now);
        assert_adds_up(shard);
    }
});

/// The destination ID of a packet as a reader of the specification finds it (RFC 8999 §5).
fn packet_cid(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? & 0x80 {
        0 => packet.get(1..1 + CID_LEN),
        _ => packet.get(6..6 + usize::from(*packet.get(5)?)),
    }
}
