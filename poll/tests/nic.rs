//! Emulated NICs behind real ring ports, under a clock of the tests' own. One process, one EAL: one test.

mod common;
mod rig;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddrV6;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{OURS, THEIRS};
use dpdk_sys::*;
use hugepages::{DynField, Mbuf, TxOffload};
use poll::offload::{Mode, OffloadConfig, Vlan};
use poll::wire::{Checksum, DropReason};
use poll::{Eal, Misbehaviour, NicConfig, NicOffload, PortError, WireConfig};
use proptest::prelude::*;
use rig::{Rig, Setup, checksum, datagram, large, micros, payload, segmentation, verified};

const FILL: u64 = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;

#[test]
fn emulated_nics() {
    let eal = common::eal();
    checksums_are_filled_when_asked_for(&eal);
    offloads_that_were_not_granted_are_not_done(&eal);
    large_datagrams_are_segmented(&eal);
    a_nic_that_misbehaves_fragments(&eal);
    tags_travel_in_the_mbuf(&eal);
    flows_arrive_on_the_queue_of_their_hash(&eal);
    jumbo_frames_are_scattered_and_gathered(&eal);
    frames_leave_at_their_time(&eal);
    a_wire_has_its_properties(&eal);
    what_has_no_room_is_lost_and_counted(&eal);
    what_is_not_offered_is_refused(&eal);
    what_may_not_be_freed_unseen_is_not_taken(&eal);
    hostile_mbufs(&eal);
    captures_open_in_tshark(&eal);
    eal.cleanup()
        .expect("every port is closed, every mbuf at home");
}

fn checksums_are_filled_when_asked_for(eal: &Eal) {
    let mut rig = Rig::new(eal, Setup::default());
    let bytes = payload(1200);
    let prepared = datagram(&bytes, Checksum::PseudoHeader);
    rig.send(0, 0, &prepared, checksum());
    rig.send(0, 0, &prepared, TxOffload::default());
    rig.send(0, 0, &datagram(&bytes, Checksum::Skip), checksum());
    rig.send(
        0,
        0,
        &datagram(&bytes, Checksum::Software),
        TxOffload::default(),
    );
    assert_eq!(
        rig.sent_back(0),
        4,
        "sent mbufs are home as soon as they are read"
    );
    let verdicts: Vec<_> = rig
        .receive(1)
        .into_iter()
        .map(|frame| {
            (
                frame.flags & RTE_MBUF_F_RX_L4_CKSUM_MASK,
                verified(&frame.bytes),
            )
        })
        .collect();
    let (good, bad) = (RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_BAD);
    assert_eq!(
        verdicts,
        [
            (good, Ok(bytes.clone())),
            (bad, Err(DropReason::BadUdpChecksum)),
            (bad, Err(DropReason::BadUdpChecksum)),
            (good, Ok(bytes)),
        ],
        "filled; not asked for; not prepared; done in software"
    );
    rig.end();
}

fn offloads_that_were_not_granted_are_not_done(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            offload: OffloadConfig {
                tx_checksum: Mode::Software,
                rx_checksum: Mode::Software,
                ..OffloadConfig::default()
            },
            ..Setup::default()
        },
    );
    let prepared = datagram(&payload(100), Checksum::PseudoHeader);
    let mut offload = checksum();
    offload.flags |= RTE_MBUF_F_TX_VLAN;
    rig.send(0, 0, &prepared, offload);
    let received = rig.receive(1);
    assert_eq!((received[0].flags, &received[0].bytes), (0, &prepared));
    assert_eq!(rig.stats(0).tx_not_granted, 1);
    rig.end();
}

fn large_datagrams_are_segmented(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            tx_room: 60_000,
            ..Setup::default()
        },
    );
    assert!(rig.port(0).offloads().segments_max > 1);
    let bytes = payload(30_000);
    rig.send(0, 0, &large(&bytes), segmentation(1452));
    let received = rig.receive(1);
    let parts: Vec<_> = received
        .iter()
        .map(|frame| verified(&frame.bytes))
        .collect();
    let expected: Vec<_> = bytes.chunks(1452).map(|part| Ok(part.to_vec())).collect();
    assert_eq!(parts, expected);
    assert!(
        received
            .iter()
            .all(|frame| frame.flags & RTE_MBUF_F_RX_L4_CKSUM_GOOD != 0)
    );
    assert_eq!((rig.stats(0).tx_mbufs, rig.stats(0).tx_frames), (1, 21));
    rig.end();
}

fn a_nic_that_misbehaves_fragments(eal: &Eal) {
    let liar = NicConfig {
        misbehaves: vec![Misbehaviour::UsoFragments],
        ..NicConfig::default()
    };
    let mut rig = Rig::new(
        eal,
        Setup {
            tx_room: 60_000,
            nics: [liar, NicConfig::default()],
            ..Setup::default()
        },
    );
    rig.send(0, 0, &large(&payload(4000)), segmentation(1452));
    let received = rig.receive(1);
    assert_eq!(received.len(), 3);
    for frame in received {
        assert_eq!(verified(&frame.bytes), Err(DropReason::Fragment));
        assert_eq!(
            frame.flags & RTE_MBUF_F_RX_L4_CKSUM_MASK,
            RTE_MBUF_F_RX_L4_CKSUM_UNKNOWN
        );
    }
    rig.end();
}

fn tags_travel_in_the_mbuf(eal: &Eal) {
    let vlan = |mode| OffloadConfig {
        vlan: Some(Vlan { id: 100, mode }),
        ..OffloadConfig::default()
    };
    let mut rig = Rig::new(
        eal,
        Setup {
            offload: vlan(Mode::Hardware),
            ..Setup::default()
        },
    );
    let bytes = payload(100);
    let plain = datagram(&bytes, Checksum::Software);
    let mut offload = checksum();
    offload.flags |= RTE_MBUF_F_TX_VLAN;
    rig.send_mbuf(0, 0, &datagram(&bytes, Checksum::PseudoHeader), |mbuf| {
        mbuf.set_tx(offload);
        mbuf.set_vlan_tci(100);
    });
    let received = rig.receive(1);
    let flags = RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_L4_CKSUM_GOOD;
    assert_eq!((received[0].flags, received[0].vlan_tci), (flags, 100));
    assert_eq!(received[0].bytes, plain);
    rig.end();

    // In software at the receiver: the tag is in the frame, with no word in the mbuf.
    let mut rig = Rig::new(
        eal,
        Setup {
            offload: vlan(Mode::Software),
            ..Setup::default()
        },
    );
    let tagged = [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat();
    rig.send(0, 0, &tagged, TxOffload::default());
    let received = rig.receive(1);
    assert_eq!(received[0].flags, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
    assert_eq!(received[0].bytes, tagged);
    rig.end();
}

fn flows_arrive_on_the_queue_of_their_hash(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            queues: 4,
            ..Setup::default()
        },
    );
    let rss = rig.port(1).rss().cloned().expect("RSS is granted");
    assert_eq!((rss.key.len(), rss.table.len()), (40, 128));
    let mut used = [0; 4];
    for udp_port in 2000_u16..2100 {
        let mut frame = datagram(&payload(64), Checksum::Software);
        frame[54..56].copy_from_slice(&udp_port.to_be_bytes());
        // The queue that it is sent on is of no matter.
        rig.send(0, usize::from(udp_port % 4), &frame, TxOffload::default());
        let received = rig.receive(1);
        let [src, dst] = [(THEIRS, udp_port), (OURS, common::UDP_PORT)]
            .map(|(address, port)| SocketAddrV6::new(address, port, 0, 0));
        assert_eq!(received[0].queue, usize::from(rss.queue(src, dst)));
        assert!(received[0].flags & RTE_MBUF_F_RX_RSS_HASH != 0);
        assert_eq!(received[0].rss_hash, poll::toeplitz(&rss.key, src, dst));
        used[received[0].queue] += 1;
    }
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
    // What is no IPv6 goes to the first queue.
    rig.send(0, 3, &[0xff; 60], TxOffload::default());
    assert_eq!(rig.receive(1)[0].queue, 0);
    rig.end();
}

fn jumbo_frames_are_scattered_and_gathered(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            mtu: 9000,
            tx_room: 9216,
            offload: chains(),
            ..Setup::default()
        },
    );
    let bytes = payload(8952);
    let frame = datagram(&bytes, Checksum::PseudoHeader);
    rig.send(0, 0, &frame, checksum());
    let received = rig.receive(1);
    assert_eq!(received[0].segments, 5, "of 2048 bytes each");
    assert_eq!(verified(&received[0].bytes), Ok(bytes));
    // One byte more than the MTU allows, tag included.
    rig.send(0, 0, &vec![0xff; 9019], TxOffload::default());
    assert!(rig.receive(1).is_empty());
    assert_eq!(rig.stats(1).rx_bad_length, 1);

    // The way back, from mbufs that are chained, which was not asked for: the first alone is sent.
    let mut chain = rig.mbuf(1, &frame[..1000]);
    for part in frame[1000..].chunks(2000) {
        chain.chain(rig.mbuf(1, part)).expect("a short chain");
    }
    chain.set_tx(TxOffload::default());
    rig.send_as_is(1, 0, chain);
    assert_eq!(rig.receive(0)[0].bytes, frame[..1000]);
    assert_eq!(rig.stats(1).tx_not_granted, 1);
    rig.end();
}

/// Chains are sent only where mbufs are not freed without a look.
fn chains() -> OffloadConfig {
    OffloadConfig {
        mbuf_fast_free: Mode::Off,
        ..OffloadConfig::default()
    }
}

fn frames_leave_at_their_time(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            offload: OffloadConfig {
                hardware_pacing: Mode::Hardware,
                ..OffloadConfig::default()
            },
            ..Setup::default()
        },
    );
    let field = DynField::tx_timestamp(eal.up()).expect("a field");
    let clock = rig
        .port(0)
        .nic_clock()
        .expect("an emulated NIC has a clock");
    let frame = datagram(&payload(100), Checksum::Software);
    let at = |rig: &mut Rig, us: u64| {
        let ns = clock.ns(rig.start() + micros(us));
        rig.send_mbuf(0, 0, &frame, |mbuf| mbuf.set_timestamp(field, ns));
    };
    at(&mut rig, 30);
    at(&mut rig, 50);
    // No timestamp, and yet it waits behind the others: a queue is not reordered.
    rig.send(0, 0, &frame, TxOffload::default());
    let counts: Vec<usize> = [0, 29, 30, 49, 50]
        .into_iter()
        .map(|us| {
            rig.set_time(us);
            rig.receive(1).len()
        })
        .collect();
    assert_eq!(counts, [0, 0, 1, 0, 2]);
    assert_eq!(rig.stats(0).tx_held, 2);
    // Past, and too far away: sent at once, and counted.
    at(&mut rig, 10);
    at(&mut rig, 5_000_000);
    assert_eq!(rig.receive(1).len(), 2);
    assert_eq!((rig.stats(0).tx_late, rig.stats(0).tx_far), (1, 1));
    // The deadline is that of the first frame that waits.
    at(&mut rig, 80);
    rig.step();
    assert_eq!(rig.timeout(), Some(rig.start() + micros(80)));
    rig.end();

    // Not granted: sent at once, and counted.
    let setup = Setup {
        offload: OffloadConfig {
            hardware_pacing: Mode::Off,
            ..OffloadConfig::default()
        },
        ..Setup::default()
    };
    let mut rig = Rig::new(eal, setup);
    let ns = clock.ns(rig.start() + micros(500));
    rig.send_mbuf(0, 0, &frame, |mbuf| mbuf.set_timestamp(field, ns));
    assert_eq!(rig.receive(1).len(), 1);
    let stats = rig.stats(0);
    assert_eq!((stats.tx_not_granted, stats.tx_held), (1, 0));
    rig.end();
}

fn a_wire_has_its_properties(eal: &Eal) {
    let wire = WireConfig {
        rate: Some(1_000_000_000),
        queue: 20,
        ecn_above: Some(10),
        delay: micros(500),
        ..WireConfig::default()
    };
    let nic = NicConfig {
        wire,
        ..NicConfig::default()
    };
    let mut rig = Rig::new(
        eal,
        Setup {
            nics: [nic, NicConfig::default()],
            ..Setup::default()
        },
    );
    assert_eq!(rig.port(0).link().mbps, 1000);
    // 1226 + 24 bytes take 10 µs.
    let frame = datagram(&payload(1164), Checksum::Software);
    for _ in 0..25 {
        rig.send(0, 0, &frame, TxOffload::default());
    }
    assert!(rig.receive(1).is_empty());
    assert_eq!(rig.timeout(), Some(rig.start() + micros(510)));
    assert_eq!(rig.stats(0).wire_queue_full, 5, "25 came, 20 had room");
    rig.set_time(509);
    assert!(rig.receive(1).is_empty());
    rig.set_time(600);
    let first = rig.receive(1);
    rig.set_time(700);
    let all: Vec<_> = first.into_iter().chain(rig.receive(1)).collect();
    assert_eq!(all.len(), 20);
    let marks: Vec<u8> = all.iter().map(|frame| frame.bytes[15] >> 4 & 3).collect();
    // ECT(0) is 2, "congestion experienced" 3. The twelfth is the first to find more than ten.
    let expected: Vec<u8> = (0..20)
        .map(|index| if index < 11 { 2 } else { 3 })
        .collect();
    assert_eq!(marks, expected);
    assert!(
        all.iter().all(|frame| verified(&frame.bytes).is_ok()),
        "sums do not cover the mark"
    );
    assert_eq!(rig.stats(0).wire_marked, 9);
    // The other direction is as configured there: perfect.
    rig.send(1, 0, &frame, TxOffload::default());
    assert_eq!(rig.receive(0).len(), 1);
    rig.end();

    // The same seed loses the same frames.
    let lost = |seed| {
        let wire = WireConfig {
            loss: 0.2,
            reorder: 0.2,
            seed,
            ..WireConfig::default()
        };
        let nic = NicConfig {
            wire,
            ..NicConfig::default()
        };
        let mut rig = Rig::new(
            eal,
            Setup {
                nics: [nic, NicConfig::default()],
                ..Setup::default()
            },
        );
        for number in 0..200_u16 {
            let frame = datagram(&number.to_be_bytes(), Checksum::Software);
            rig.send(0, 0, &frame, TxOffload::default());
        }
        let mut arrived = rig.receive(1);
        rig.set_time(1000);
        arrived.extend(rig.receive(1));
        let numbers: Vec<_> = arrived.iter().map(|frame| verified(&frame.bytes)).collect();
        let stats = rig.stats(0);
        assert_eq!(numbers.len() as u64 + stats.wire_lost, 200);
        assert!(stats.wire_reordered > 10);
        rig.end();
        numbers
    };
    assert_eq!(lost(1), lost(1));
    assert_ne!(lost(1), lost(2));
}

fn what_has_no_room_is_lost_and_counted(eal: &Eal) {
    let mut rig = Rig::new(
        eal,
        Setup {
            descriptors: 64,
            ..Setup::default()
        },
    );
    let frame = datagram(&payload(64), Checksum::Software);
    for _ in 0..100 {
        rig.send(0, 0, &frame, TxOffload::default());
        rig.step();
    }
    // A ring of 64 places holds 63.
    assert_eq!(rig.stats(1).rx_missed, 37);
    assert_eq!(rig.port(1).stats().rx_missed, 37);
    assert_eq!(rig.receive(1).len(), 63);

    let held = rig.empty_pool(1);
    rig.send(0, 0, &frame, TxOffload::default());
    assert!(rig.receive(1).is_empty());
    assert_eq!(rig.stats(1).rx_no_mbuf, 1);
    drop(held);
    rig.send(0, 0, &frame, TxOffload::default());
    assert_eq!(rig.receive(1).len(), 1);

    // What was sent and never moved comes home, too.
    rig.send_without_step(0, 0, &frame);
    rig.end();
}

fn what_is_not_offered_is_refused(eal: &Eal) {
    let offers: Vec<_> = NicOffload::ALL
        .into_iter()
        .filter(|offload| *offload != NicOffload::TxChecksum)
        .collect();
    let nic = NicConfig {
        offers,
        mtu_max: 3000,
        ..NicConfig::default()
    };
    let setup = Setup {
        nics: [nic.clone(), nic],
        ..Setup::default()
    };
    let asked = OffloadConfig {
        tx_checksum: Mode::Hardware,
        ..OffloadConfig::default()
    };
    let error = Rig::try_new(
        eal,
        Setup {
            offload: asked,
            ..setup.clone()
        },
    )
    .err();
    assert!(
        matches!(&error, Some(PortError::Unsupported { driver, .. }) if driver == "emulated"),
        "{error:?}"
    );
    let error = Rig::try_new(eal, Setup { mtu: 9000, ..setup }).err();
    assert!(
        matches!(&error, Some(PortError::Unsupported { problem, .. }) if problem.contains("3000"))
    );
}

/// Any mbuf that software may hand over: any flags, lengths and segments. Nothing panics, and all mbufs come home.
/// Where the port was told to free mbufs without a look, it gets none that must be looked at, nor what is behind it.
fn what_may_not_be_freed_unseen_is_not_taken(eal: &Eal) {
    for (mode, taken) in [(Mode::Hardware, 2), (Mode::Off, 4)] {
        let mut rig = Rig::new(
            eal,
            Setup {
                offload: OffloadConfig {
                    mbuf_fast_free: mode,
                    ..OffloadConfig::default()
                },
                ..Setup::default()
            },
        );
        let [pool, tx_pool] = rig.pools(0);
        let mbuf = |pool| Mbuf::alloc(pool).expect("an mbuf");
        let chain = || {
            let mut chain = mbuf(tx_pool);
            chain.chain(mbuf(tx_pool)).expect("room for a link");
            chain
        };
        for unfit in [mbuf(pool), chain()] {
            let mbufs = vec![mbuf(tx_pool), mbuf(tx_pool), unfit, mbuf(tx_pool)];
            assert_eq!(rig.offer(0, 0, mbufs), taken, "{mode}");
        }
        rig.end();
    }
}

fn hostile_mbufs(eal: &Eal) {
    let vlan = OffloadConfig {
        vlan: Some(Vlan {
            id: 1,
            mode: Mode::Hardware,
        }),
        hardware_pacing: Mode::Hardware,
        ..chains()
    };
    let setup = Setup {
        queues: 2,
        tx_room: 9216,
        offload: vlan,
        ..Setup::default()
    };
    let rig = RefCell::new(Rig::new(eal, setup));
    // How a buffer belongs to its mbuf is not the sender's to say.
    let kind = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 1..4),
        valid: bool,
        flags in prop_oneof![any::<u64>(), Just(FILL), Just(FILL | RTE_MBUF_F_TX_UDP_SEG)],
        l2_len in 0_u8..=127, l3_len in 0_u16..=511, l4_len: u8, tso_segsz: u16, tci: u16,
    )| {
        let (mut rig, mut parts) = (rig.borrow_mut(), parts);
        if valid {
            parts[0] = datagram(&parts[0], Checksum::PseudoHeader);
        }
        let mut chain: Option<Mbuf> = None;
        for part in &parts {
            let mbuf = rig.mbuf(0, part);
            match &mut chain {
                None => chain = Some(mbuf),
                Some(chain) => chain.chain(mbuf).expect("a short chain"),
            }
        }
        let mut mbuf = chain.expect("one part at least");
        mbuf.set_tx(TxOffload { flags: flags & !kind, l2_len, l3_len, l4_len, tso_segsz });
        mbuf.set_vlan_tci(tci);
        rig.send_as_is(0, 0, mbuf);
        // Whatever waits for its time has had it.
        rig.skip(Duration::from_secs(2));
        rig.step();
        for frame in rig.receive(1) {
            prop_assert!(frame.bytes.len() <= 1518);
        }
        prop_assert_eq!(rig.in_use(), 0);
    });
    rig.into_inner().end();
}

/// Everything that a NIC does to frames, captured: segments, checksums, tags, a loss, and an ICMPv6 message the other way.
fn captures_open_in_tshark(eal: &Eal) {
    let path = std::env::temp_dir().join(format!("stoq-nic-{}.pcapng", std::process::id()));
    let lossy = NicConfig {
        wire: WireConfig {
            rate: Some(1_000_000_000),
            delay: micros(250),
            loss: 0.3,
            seed: 5,
            ..WireConfig::default()
        },
        ..NicConfig::default()
    };
    let setup = Setup {
        tx_room: 60_000,
        offload: OffloadConfig {
            vlan: Some(Vlan {
                id: 7,
                mode: Mode::Hardware,
            }),
            ..OffloadConfig::default()
        },
        nics: [lossy, NicConfig::default()],
        ..Setup::default()
    };
    let mut rig = Rig::new(eal, setup);
    rig.emulation()
        .capture_to(&path)
        .expect("a file in the temporary folder");
    rig.send(0, 0, &large(&payload(14_520)), segmentation(1452));
    let mut offload = checksum();
    offload.flags |= RTE_MBUF_F_TX_VLAN;
    rig.send_mbuf(
        0,
        0,
        &datagram(&payload(100), Checksum::PseudoHeader),
        |mbuf| {
            mbuf.set_tx(offload);
            mbuf.set_vlan_tci(7);
        },
    );
    rig.set_time(1000);
    let received = rig.receive(1);
    let tagged = received.iter().filter(|frame| frame.vlan_tci == 7).count();
    rig.send(1, 0, &common::solicitation(), TxOffload::default());
    rig.receive(0);
    let (there, back) = (rig.stats(0), rig.stats(1));
    assert_eq!((there.tx_frames, back.tx_frames), (11, 1));
    assert!(there.wire_lost > 0);
    rig.end();

    let shown = tshark(&path);
    std::fs::remove_file(&path).expect("the capture was written");
    let Some(shown) = shown else { return };
    let arrived = received.len();
    let count = |is: &dyn Fn(&[&str]) -> bool| {
        let lines = shown
            .lines()
            .map(|line| line.split('|').collect::<Vec<_>>());
        lines.filter(|fields| is(fields)).count()
    };
    // Interface, UDP checksum status (1 is good), VLAN, ICMPv6 checksum status, malformed.
    assert_eq!(count(&|_| true), 11 + arrived + 2, "{shown}");
    assert_eq!(
        count(&|fields| fields[0] == "0" && fields[1] == "1"),
        11,
        "all left:\n{shown}"
    );
    assert_eq!(
        count(&|fields| fields[0] == "1" && fields[1] == "1"),
        arrived,
        "{shown}"
    );
    assert_eq!(count(&|fields| fields[2] == "7"), 1 + tagged, "{shown}");
    assert_eq!(count(&|fields| fields[3] == "1"), 2, "{shown}");
    assert_eq!(count(&|fields| !fields[4].is_empty()), 0, "{shown}");
}

/// What tshark sees in a capture, a line a frame; nothing where there is no tshark.
fn tshark(path: &Path) -> Option<String> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path);
    command.args(["-o", "udp.check_checksum:TRUE", "-d", "udp.port==4433,echo"]);
    command.args(["-T", "fields", "-E", "separator=|"]);
    for field in [
        "frame.interface_id",
        "udp.checksum.status",
        "vlan.id",
        "icmpv6.checksum.status",
        "_ws.malformed",
    ] {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: tshark is not installed: a capture was written, and not opened");
            return None;
        }
        Err(error) => panic!("tshark: {error}"),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "tshark refuses the capture: {complaints}"
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
