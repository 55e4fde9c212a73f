//! What strangers send to a server.

use std::net::SocketAddrV6;

use poll::Ecn;
use stoq::steering::CidCodec;

use crate::network::{INVENTING, Wire, stranger};
use crate::random::Random;

/// A datagram from nobody in particular.
pub fn make(random: &mut Random, to: SocketAddrV6, codec: &CidCodec) -> Wire {
    let payload = match random.below(6) {
        0 => {
            let len = random.magnitude(1, 1_200) as usize;
            bytes(random, len)
        }
        1 => {
            let version = random.next() as u32 | 0x0a0a_0a0a;
            let len = random.between(20, 1_200) as usize;
            long_header(random, 0xc0, version, 8, len)
        }
        // An Initial packet that no key opens.
        2 => {
            let cid_len = random.between(0, 20) as u8;
            let len = random.pick(&[100, 1_200, 1_200]);
            long_header(random, 0xc0, 1, cid_len, len)
        }
        // A Handshake packet of nobody.
        3 => {
            let cid_len = random.pick(&[8, 17, 20]);
            long_header(random, 0xe0, 1, cid_len, 300)
        }
        // Short headers: an ID that says nothing, and one that names a shard, of this port or another.
        4 => short_header(random, None),
        _ => {
            let shard = random.between(0, 5) as u8;
            let nonce = u128::from(random.next()) | 1 << 80;
            let cid = codec.encode(shard, nonce);
            short_header(random, Some(&cid))
        }
    };
    Wire {
        from: stranger(random, INVENTING),
        to,
        ecn: Ecn::from_bits(random.next() as u8),
        payload,
    }
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8).collect()
}

/// RFC 9000 §17.2, with whatever behind the connection IDs.
fn long_header(random: &mut Random, first: u8, version: u32, cid_len: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![first | random.next() as u8 & 0x0f];
    packet.extend(version.to_be_bytes());
    for cid_len in [cid_len, 8] {
        packet.push(cid_len);
        packet.extend(bytes(random, cid_len.into()));
    }
    let rest = len.saturating_sub(packet.len());
    // No token, and a length that is within the datagram.
    let length = (rest.saturating_sub(3) as u16).min(0x3fff) | 0x4000;
    packet.push(0);
    packet.extend(length.to_be_bytes());
    packet.extend(bytes(random, rest.saturating_sub(3)));
    packet
}

fn short_header(random: &mut Random, cid: Option<&[u8]>) -> Vec<u8> {
    let mut packet = vec![0x40 | random.next() as u8 & 0x3f];
    match cid {
        Some(cid) => packet.extend_from_slice(cid),
        None => packet.extend(bytes(random, 17)),
    }
    let len = random.between(1, 1_000) as usize;
    packet.extend(bytes(random, len));
    packet
}
