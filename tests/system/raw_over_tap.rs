//! Datagrams that no QUIC stack would send, from a plain UDP socket over TAP.

use std::net::UdpSocket;
use std::time::Duration;

use crate::harness::{ENGINE_ADDRESS, SERVER_PORT, TapLab};

/// Of the pattern that RFC 9000 §15 reserves so that nobody ever supports it.
const UNKNOWN_VERSION: u32 = 0x1a2a_3a4a;
const DESTINATION_ID: &[u8] = b"destinat";
const SOURCE_ID: &[u8] = b"source";

/// A long header with an unknown version, padded to `size` bytes.
fn unknown_version(size: usize) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(UNKNOWN_VERSION.to_be_bytes());
    for id in [DESTINATION_ID, SOURCE_ID] {
        packet.push(id.len() as u8);
        packet.extend(id);
    }
    packet.resize(size, 0);
    packet
}

fn lab_and_socket() -> Option<(TapLab, UdpSocket)> {
    let mut lab = TapLab::new(&[])?;
    lab.serve();
    let socket = lab.socket(0);
    socket
        .connect(lab.server_address())
        .expect("there is a route");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("not zero");
    Some((lab, socket))
}

#[test]
fn unknown_version_is_answered_with_version_negotiation() {
    let Some((mut lab, socket)) = lab_and_socket() else {
        return;
    };
    let mut buffer = [0; 2048];
    socket.send(&unknown_version(1200)).expect("sent");
    let size = socket.recv(&mut buffer).expect("an answer in time");
    // RFC 8999 §6: version 0, the connection IDs crosswise, then what the server supports.
    let mut head = vec![0; 4];
    for id in [SOURCE_ID, DESTINATION_ID] {
        head.push(id.len() as u8);
        head.extend(id);
    }
    let answer = &buffer[..size];
    assert_eq!(answer[0] & 0x80, 0x80, "a long header");
    assert_eq!(&answer[1..=head.len()], head, "{answer:02x?}");
    let versions: Vec<_> = answer[1 + head.len()..].chunks(4).collect();
    assert!(
        versions.contains(&&[0, 0, 0, 1][..]),
        "QUIC v1 among {versions:02x?}"
    );
    assert!(
        !versions.contains(&&UNKNOWN_VERSION.to_be_bytes()[..]),
        "{versions:02x?}"
    );
    lab.stop().expect_clean();
}

#[test]
fn short_datagram_of_unknown_version_is_not_answered() {
    let Some((mut lab, socket)) = lab_and_socket() else {
        return;
    };
    // RFC 9000 §6.1: a server answers only what could have been a first packet (1200 bytes), so
    // that nobody multiplies traffic with it.
    socket.send(&unknown_version(200)).expect("sent");
    socket.send(&unknown_version(1200)).expect("sent");
    let mut buffer = [0; 2048];
    socket.recv(&mut buffer).expect("an answer to the second");
    assert!(
        socket.recv(&mut buffer).is_err(),
        "an answer to the first, too"
    );
    lab.stop().expect_clean();
}

#[test]
fn nonsense_is_survived_and_foreign_ports_are_counted() {
    let Some((mut lab, socket)) = lab_and_socket() else {
        return;
    };
    let mut state = 1_u32;
    for size in (0..1400).step_by(7) {
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let datagram: Vec<u8> = noise.take(size).collect();
        socket.send(&datagram).expect("sent");
    }
    let elsewhere = (ENGINE_ADDRESS, SERVER_PORT + 1);
    for _ in 0..3 {
        // Not connected: an ICMPv6 error would come back as an error of the next call.
        lab.socket(0).send_to(b"anybody?", elsewhere).expect("sent");
    }
    // Still there, and in order: everything before this was taken or dropped.
    socket.send(&unknown_version(1200)).expect("sent");
    let mut buffer = [0; 2048];
    while socket.recv(&mut buffer).expect("an answer in time") == 0 || buffer[1..5] != [0; 4] {}
    let report = lab.stop().expect_clean();
    assert_eq!(report["rx"]["dropped"]["foreign_udp_port"], 3, "{report:#}");
    assert_eq!(report["connections"]["accepted"], 0);
}
