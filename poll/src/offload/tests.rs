use dpdk_sys as sys;

use super::*;
use crate::port::{PortError, PortId, PortInfo};

/// A device of `driver` that offers `rx` and `tx`.
fn device(driver: &str, rx: u64, tx: u64) -> PortInfo {
    PortInfo {
        id: PortId(0),
        name: "dev0".to_owned(),
        driver: driver.to_owned(),
        numa_node: None,
        rx_queues_max: 8,
        tx_queues_max: 8,
        mtu_range: (68, 9702),
        rx_frame_max: 9728,
        rss_table: 0,
        rss_key_size: 0,
        rss_types: 0,
        rx_offloads: rx,
        tx_offloads: tx,
    }
}

const RX_ALL: u64 = sys::RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_RX_OFFLOAD_VLAN_STRIP
    | sys::RTE_ETH_RX_OFFLOAD_SCATTER;
const TX_ALL: u64 = sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM
    | sys::RTE_ETH_TX_OFFLOAD_UDP_TSO
    | sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT
    | sys::RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE
    | sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP;

/// Everything that can be asked for.
fn card() -> PortInfo {
    PortInfo {
        rss_table: 512,
        rss_key_size: 52,
        rss_types: sys::RTE_ETH_RSS_NONFRAG_IPV6_UDP,
        ..device("net_ice", RX_ALL, TX_ALL)
    }
}

const BUFFERS: Buffers = Buffers {
    mtu: 1500,
    queues: 2,
    rx_data_room: 2048 + 128,
    tx_data_room: u16::MAX,
};

const VLAN: Vlan = Vlan {
    id: 100,
    mode: Mode::Auto,
};

fn decide(info: &PortInfo, config: OffloadConfig, buffers: Buffers) -> Offloads {
    negotiate(info, &config, buffers).expect("nothing is refused")
}

/// The text of a refusal.
fn refused(info: &PortInfo, config: OffloadConfig, buffers: Buffers) -> String {
    match negotiate(info, &config, buffers) {
        Err(error @ PortError::Unsupported { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Who does what, in the order of the decisions, one letter each.
fn granted(offloads: &Offloads) -> String {
    let letter = |decision: &Decision| match decision.granted {
        Mode::Hardware => 'H',
        Mode::Software => 's',
        Mode::Off => '-',
        Mode::Auto => '?',
    };
    offloads.decisions.iter().map(letter).collect()
}

fn decision<'a>(offloads: &'a Offloads, name: &str) -> &'a Decision {
    let mut all = offloads.decisions.iter();
    all.find(|decision| decision.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_card_does_all_that_it_offers() {
    let config = OffloadConfig {
        vlan: Some(VLAN),
        hardware_pacing: Mode::Hardware,
        ..OffloadConfig::default()
    };
    let offloads = decide(&card(), config, BUFFERS);
    // Checksums, segmentation, RSS, VLAN both ways, scatter, fast free, pacing.
    assert_eq!(granted(&offloads), "HHHHHH-HH");
    assert_eq!(offloads.tx_checksum, Checksum::PseudoHeader);
    assert_eq!(offloads.rx_checksum, RxChecksum::Trust);
    assert_eq!(
        offloads.segments_max, 45,
        "65,439 bytes behind 96, and 1452 a datagram"
    );
    assert_eq!(offloads.tx_bits, TX_ALL);
    assert_eq!(offloads.rx_bits, RX_ALL & !sys::RTE_ETH_RX_OFFLOAD_SCATTER);
    let vlan = offloads.vlan.expect("it is in one");
    assert_eq!(
        (vlan.id, vlan.insert, vlan.strip),
        (100, Tagging::Hardware, Tagging::Hardware)
    );
    assert!(offloads.mbuf_fast_free && offloads.pacing && offloads.rss);
    assert!(
        offloads
            .decisions
            .iter()
            .all(|decision| !decision.falls_back())
    );
}

#[test]
fn a_device_paces_only_when_it_is_asked_to() {
    for (wanted, granted) in [
        (Mode::Auto, Mode::Software),
        (Mode::Software, Mode::Software),
        (Mode::Hardware, Mode::Hardware),
    ] {
        let config = OffloadConfig {
            hardware_pacing: wanted,
            ..OffloadConfig::default()
        };
        let offloads = decide(&card(), config, BUFFERS);
        let decision = decision(&offloads, "hardware_pacing");
        assert!(decision.offered);
        assert_eq!(decision.granted, granted, "{wanted}");
        assert!(wanted != Mode::Auto || decision.reason.contains("up to 2 ms"));
        let by_device = granted == Mode::Hardware;
        assert_eq!(offloads.pacing, by_device);
        let bit = offloads.tx_bits & sys::RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP;
        assert_eq!(bit != 0, by_device);
    }
}

#[test]
fn a_device_that_offers_nothing_leaves_it_to_the_engine() {
    let config = OffloadConfig {
        vlan: Some(VLAN),
        ..OffloadConfig::default()
    };
    let offloads = decide(&device("net_null", 0, 0), config, BUFFERS);
    assert_eq!(granted(&offloads), "ss-sss--s");
    assert_eq!(
        (offloads.rx_bits, offloads.tx_bits, offloads.segments_max),
        (0, 0, 1)
    );
    for name in ["tx_checksum", "vlan_insert", "mbuf_fast_free"] {
        let decision = decision(&offloads, name);
        assert!(decision.falls_back());
        assert_eq!(decision.reason, "not offered", "{name}");
    }
    let plain = Offloads {
        vlan: offloads.vlan,
        decisions: offloads.decisions.clone(),
        ..Offloads::default()
    };
    assert_eq!(offloads, plain, "that is what the default says");
}

#[test]
fn hardware_that_is_not_offered_is_refused_with_what_is() {
    let info = device("net_x", 0, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
    let hardware = Mode::Hardware;
    let auto = OffloadConfig::default();
    for (key, config) in [
        (
            "tx_checksum",
            OffloadConfig {
                tx_checksum: hardware,
                ..auto
            },
        ),
        (
            "rx_checksum",
            OffloadConfig {
                rx_checksum: hardware,
                ..auto
            },
        ),
        (
            "udp_segmentation",
            OffloadConfig {
                udp_segmentation: hardware,
                ..auto
            },
        ),
        (
            "rss",
            OffloadConfig {
                rss: hardware,
                ..auto
            },
        ),
        (
            "mbuf_fast_free",
            OffloadConfig {
                mbuf_fast_free: hardware,
                ..auto
            },
        ),
        (
            "hardware_pacing",
            OffloadConfig {
                hardware_pacing: hardware,
                ..auto
            },
        ),
        (
            "vlan_strip",
            OffloadConfig {
                vlan: Some(Vlan {
                    mode: hardware,
                    ..VLAN
                }),
                ..auto
            },
        ),
    ] {
        let text = refused(&info, config, BUFFERS);
        let expected = format!(
            "dev0 (net_x): offload.{key}: hardware, but the device does not offer it (it offers tx VLAN_INSERT); use auto"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn drivers_that_are_known_are_taken_for_what_they_are() {
    let auto = OffloadConfig::default();
    let tap = device("net_tap", RX_ALL, TX_ALL);
    let offloads = decide(&tap, auto, BUFFERS);
    assert_eq!(offloads.tx_checksum, Checksum::Software);
    assert!(
        decision(&offloads, "tx_checksum")
            .reason
            .contains("copies the headers")
    );
    let insist = OffloadConfig {
        tx_checksum: Mode::Hardware,
        ..auto
    };
    assert_eq!(
        decide(&tap, insist, BUFFERS).tx_checksum,
        Checksum::PseudoHeader
    );

    let vhost = device("net_vhost", RX_ALL, TX_ALL);
    assert!(
        decision(&decide(&vhost, auto, BUFFERS), "udp_segmentation")
            .reason
            .contains("UFO")
    );
    let unknown = decide(&device("net_new", RX_ALL, TX_ALL), auto, BUFFERS);
    assert_eq!(unknown.segments_max, 1);
    assert!(
        decision(&unknown, "udp_segmentation")
            .reason
            .contains("engine selftest")
    );
    assert_eq!(unknown.tx_checksum, Checksum::PseudoHeader);

    let link = device("net_ring", 0, 0);
    let offloads = decide(&link, auto, BUFFERS);
    assert_eq!(
        (offloads.tx_checksum, offloads.rx_checksum),
        (Checksum::Skip, RxChecksum::Skip)
    );
    let summed = OffloadConfig {
        tx_checksum: Mode::Software,
        rx_checksum: Mode::Software,
        ..auto
    };
    let offloads = decide(&link, summed, BUFFERS);
    assert_eq!(
        (offloads.tx_checksum, offloads.rx_checksum),
        (Checksum::Software, RxChecksum::Verify)
    );
}

#[test]
fn checksums_on_a_wire_cannot_be_off() {
    let off = OffloadConfig {
        rx_checksum: Mode::Off,
        ..OffloadConfig::default()
    };
    let text = refused(&card(), off, BUFFERS);
    assert!(
        text.contains("offload.rx_checksum: off is for links only"),
        "{text}"
    );
}

#[test]
fn segmentation_takes_room_and_checksums_by_the_device() {
    let auto = OffloadConfig::default();
    let small = Buffers {
        tx_data_room: 2048 + 128,
        ..BUFFERS
    };
    let offloads = decide(&card(), auto, small);
    assert_eq!(offloads.segments_max, 1);
    assert_eq!(offloads.tx_bits & sys::RTE_ETH_TX_OFFLOAD_UDP_TSO, 0);
    assert!(
        decision(&offloads, "udp_segmentation")
            .reason
            .contains("2176 bytes holds one")
    );
    let insist = OffloadConfig {
        udp_segmentation: Mode::Hardware,
        ..auto
    };
    assert!(refused(&card(), insist, small).contains("holds one datagram"));

    let summed = OffloadConfig {
        tx_checksum: Mode::Software,
        ..insist
    };
    assert!(refused(&card(), summed, BUFFERS).contains("compute the checksums, too"));
    let jumbo = Buffers {
        mtu: 9000,
        ..BUFFERS
    };
    assert_eq!(
        decide(
            &card(),
            auto,
            Buffers {
                rx_data_room: 9216,
                ..jumbo
            }
        )
        .segments_max,
        7
    );
}

#[test]
fn scatter_is_for_frames_larger_than_an_mbuf() {
    let auto = OffloadConfig::default();
    let jumbo = Buffers {
        mtu: 9000,
        ..BUFFERS
    };
    let offloads = decide(&card(), auto, jumbo);
    assert!(offloads.scatter);
    assert_eq!(
        offloads.rx_bits & sys::RTE_ETH_RX_OFFLOAD_SCATTER,
        sys::RTE_ETH_RX_OFFLOAD_SCATTER
    );
    let text = refused(&device("net_null", 0, 0), auto, jumbo);
    assert!(
        text.contains("9018 bytes does not fit a data room of 2048"),
        "{text}"
    );
    let memif = decide(&device("net_memif", 0, 0), auto, jumbo);
    assert!(memif.scatter && memif.rx_bits == 0, "it chains unasked");
    assert!(
        !decide(&device("net_ring", 0, 0), auto, jumbo).scatter,
        "the sender's mbufs cross"
    );
    // A frame of the MTU with a tag fills the room.
    let full = Buffers {
        mtu: 2048 - 18,
        ..BUFFERS
    };
    assert!(!decide(&card(), auto, full).scatter);
    assert!(
        decide(
            &card(),
            auto,
            Buffers {
                mtu: 2048 - 17,
                ..full
            }
        )
        .scatter
    );
}

#[test]
fn rss_needs_a_table_and_something_to_spread() {
    let auto = OffloadConfig::default();
    let one = decide(
        &card(),
        auto,
        Buffers {
            queues: 1,
            ..BUFFERS
        },
    );
    assert!(!one.rss);
    assert_eq!(decision(&one, "rss").reason, "one queue");
    let without = PortInfo {
        rss_table: 0,
        ..card()
    };
    let offloads = decide(&without, auto, BUFFERS);
    assert!(!offloads.rss);
    assert_eq!(
        decision(&offloads, "rss").reason,
        "not offered: shards hand over what is theirs"
    );
    let off = decide(
        &card(),
        OffloadConfig {
            rss: Mode::Off,
            ..auto
        },
        BUFFERS,
    );
    assert_eq!((off.rss, decision(&off, "rss").granted), (false, Mode::Off));
}
