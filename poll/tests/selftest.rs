//! The self-test on real ports: it finds what keeps its word, what lies, and what says nothing. One process, one EAL: one
//! test.

use std::time::{Duration, Instant};

use hugepages::{Mempool, MempoolConfig};
use poll::offload::{Mode, OffloadConfig, PacingClock, Vlan};
use poll::selftest::{Finding, TestEnd, Verdict, run, segmentation};
use poll::{Eal, LinkEnd, Misbehaviour, NicConfig, Port, PortConfig, WireConfig, emulated, link};

const PATIENCE: Duration = Duration::from_millis(200);

#[test]
fn offloads_are_seen_on_the_wire() {
    let arguments =
        "-l 0 --no-huge -m 256 --no-pci --no-shconf --no-telemetry --log-level=4 --vdev=net_null0";
    let arguments: Vec<String> = arguments.split(' ').map(String::from).collect();
    let eal = Eal::start(&arguments).expect("EAL starts without huge pages");
    let pools = Pools::new(&eal);
    a_link_offers_nothing_and_passes_frames(&eal, pools);
    an_honest_nic_does_everything(&eal, pools);
    every_lie_is_found_out(&eal, pools);
    a_lie_is_found_out_at_start(&eal, pools);
    losses_and_delays_are_no_lies(&eal, pools);
    what_cannot_be_asked_has_no_answer(&eal, pools);
    a_cut_cable_gives_no_answer(&eal, pools);
    a_device_from_which_nothing_comes_back(&eal, pools);
    eal.cleanup()
        .expect("every port is closed, every mbuf at home");
}

/// What all ports here share: mbufs for ordinary frames, and for what is to be cut.
#[derive(Clone, Copy)]
struct Pools {
    rx: Mempool,
    tx: Mempool,
}

impl Pools {
    fn new(eal: &Eal) -> Self {
        let pool = |name: &str, data_room| {
            let config = MempoolConfig {
                name: name.to_owned(),
                mbufs: 511,
                cache: 0,
                data_room,
                numa_node: None,
            };
            Mempool::create(eal.up(), &config).expect("a pool")
        };
        Self {
            rx: pool("rx", 128 + 2048),
            tx: pool("tx", 128 + 32_768),
        }
    }

    fn config(self, mtu: u16, queues: u16, offload: OffloadConfig) -> PortConfig {
        PortConfig {
            mtu,
            queues,
            rx_descriptors: 256,
            tx_descriptors: 256,
            pool: self.rx,
            tx_pool: self.tx,
            rss_key: None,
            offload,
        }
    }

    fn end(self, eal: &Eal, (port, queues): LinkEnd) -> TestEnd {
        let clock = port
            .offloads()
            .pacing
            .then(|| PacingClock::new(eal.up(), &port));
        TestEnd {
            clock: clock.flatten(),
            port,
            queues,
            pool: self.tx,
        }
    }
}

/// Everything that is offered.
fn all() -> OffloadConfig {
    OffloadConfig {
        vlan: Some(Vlan {
            id: 100,
            mode: Mode::Auto,
        }),
        hardware_pacing: Mode::Hardware,
        ..OffloadConfig::default()
    }
}

fn verdicts(findings: &[Finding]) -> Vec<(&'static str, Verdict)> {
    findings.iter().map(|f| (f.offload, f.verdict)).collect()
}

fn of<'a>(findings: &'a [Finding], offload: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.offload == offload);
    found.expect("every offload is in the findings")
}

fn a_link_offers_nothing_and_passes_frames(eal: &Eal, pools: Pools) {
    let config = pools.config(1500, 1, OffloadConfig::default());
    let ends = link(eal, ["selflink0", "selflink1"], [&config; 2]).expect("a link");
    let mut ends = ends.map(|end| pools.end(eal, end));
    let findings = run(&mut ends, PATIENCE, &mut |_| {});
    assert_eq!(
        of(&findings, "frames").verdict,
        Verdict::Ok,
        "{findings:#?}"
    );
    let seen = &of(&findings, "frames").seen;
    assert_eq!(seen, "arrived as sent, up to 1500 bytes");
    for offload in [
        "scatter",
        "tx_checksum",
        "udp_segmentation",
        "vlan_insert",
        "hardware_pacing",
    ] {
        assert_eq!(
            of(&findings, offload).verdict,
            Verdict::NotOffered,
            "{offload}"
        );
    }
}

/// Runs the self-test over two emulated NICs.
fn on_nics(eal: &Eal, pools: Pools, names: [&str; 2], nics: [NicConfig; 2]) -> Vec<Finding> {
    let config = pools.config(9000, 4, all());
    let (ends, mut emulation) =
        emulated(eal, names, [&config; 2], nics).expect("two emulated NICs");
    let mut ends = ends.map(|end| pools.end(eal, end));
    run(&mut ends, PATIENCE, &mut |now: Instant| {
        emulation.step(now);
    })
}

fn an_honest_nic_does_everything(eal: &Eal, pools: Pools) {
    let findings = on_nics(
        eal,
        pools,
        ["honest0", "honest1"],
        [NicConfig::default(), NicConfig::default()],
    );
    assert_eq!(findings.len(), 18);
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    }
    // Three of 8952 bytes are what an mbuf of 32 768 takes.
    assert_eq!(
        of(&findings, "udp_segmentation").seen,
        "3 datagrams, sums right"
    );
    assert_eq!(
        of(&findings, "scatter").seen,
        "9000 bytes whole, in mbufs: 5"
    );
}

/// One lie: the rows that tell of it, and no others. Segments have tags and sums, too.
fn every_lie_is_found_out(eal: &Eal, pools: Pools) {
    let table: [(_, &[&str]); 6] = [
        (Misbehaviour::UsoFragments, &["udp_segmentation"]),
        (
            Misbehaviour::TxChecksumLeft,
            &["tx_checksum", "udp_segmentation"],
        ),
        (Misbehaviour::RxChecksumGoodAlways, &["rx_checksum"]),
        (
            Misbehaviour::VlanNotInserted,
            &["udp_segmentation", "vlan_insert"],
        ),
        (Misbehaviour::RssWrong, &["rss"]),
        (Misbehaviour::TimestampIgnored, &["hardware_pacing"]),
    ];
    assert_eq!(table.map(|(lie, _)| lie), Misbehaviour::ALL);
    for (index, (lie, rows)) in table.into_iter().enumerate() {
        let names = [format!("liar{index}"), format!("witness{index}")];
        let liar = NicConfig {
            misbehaves: vec![lie],
            ..NicConfig::default()
        };
        let names = [names[0].as_str(), names[1].as_str()];
        let findings = on_nics(eal, pools, names, [liar, NicConfig::default()]);
        for finding in &findings {
            let expected = match finding.port == names[0] && rows.contains(&finding.offload) {
                true => Verdict::Lies,
                false => Verdict::Ok,
            };
            assert_eq!(finding.verdict, expected, "{lie:?}: {finding:?}");
        }
        if lie == Misbehaviour::UsoFragments {
            let seen = &of(&findings, "udp_segmentation").seen;
            assert!(seen.ends_with("IPv6 fragments"), "{seen}");
        }
    }
}

fn a_lie_is_found_out_at_start(eal: &Eal, pools: Pools) {
    let config = pools.config(1500, 1, all());
    let liar = NicConfig {
        misbehaves: vec![Misbehaviour::UsoFragments],
        ..NicConfig::default()
    };
    let (ends, mut emulation) = emulated(
        eal,
        ["start0", "start1"],
        [&config; 2],
        [liar, NicConfig::default()],
    )
    .expect("two emulated NICs");
    let mut ends = ends.map(|end| pools.end(eal, end));
    let mut alone = |from| {
        segmentation(&mut ends, from, PATIENCE, &mut |now| {
            emulation.step(now);
        })
        .verdict
    };
    assert_eq!([alone(0), alone(1)], [Verdict::Lies, Verdict::Ok]);
}

fn losses_and_delays_are_no_lies(eal: &Eal, pools: Pools) {
    let nic = |loss, seed| NicConfig {
        wire: WireConfig {
            loss,
            delay: Duration::from_millis(2),
            seed,
            ..WireConfig::default()
        },
        ..NicConfig::default()
    };
    let findings = on_nics(
        eal,
        pools,
        ["lossy0", "lossy1"],
        [nic(0.05, 3), nic(0.05, 4)],
    );
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    }
    // As at start: an honest NIC may find no answer on a bad wire, and is never called a liar.
    for (loss, names) in [(0.3, ["bad0", "bad1"]), (0.8, ["worse0", "worse1"])] {
        let config = pools.config(1500, 1, all());
        let (ends, mut emulation) =
            emulated(eal, names, [&config; 2], [nic(loss, 5), nic(loss, 6)])
                .expect("two emulated NICs");
        let mut ends = ends.map(|end| pools.end(eal, end));
        for from in [0, 1] {
            let mut turn = |now| {
                emulation.step(now);
            };
            let finding = segmentation(&mut ends, from, PATIENCE / 4, &mut turn);
            let expected: &[_] = match loss {
                0.3 => &[Verdict::Ok],
                _ => &[Verdict::NoAnswer],
            };
            assert!(expected.contains(&finding.verdict), "{loss}: {finding:?}");
        }
    }
}

/// Mbufs that two datagrams of the MTU do not fit get smaller ones; without mbufs nothing is known of the device.
fn what_cannot_be_asked_has_no_answer(eal: &Eal, pools: Pools) {
    // Frames come from another pool than the port's, which a device that frees unseen must not be given.
    let offload = OffloadConfig {
        mbuf_fast_free: Mode::Off,
        ..all()
    };
    let config = pools.config(1500, 1, offload);
    let nics = [NicConfig::default(), NicConfig::default()];
    let (ends, mut emulation) =
        emulated(eal, ["small0", "small1"], [&config; 2], nics).expect("two emulated NICs");
    let mut ends = ends.map(|end| pools.end(eal, end));
    ends[0].pool = pools.rx;
    let mut turn = |now| {
        emulation.step(now);
    };
    let finding = segmentation(&mut ends, 0, PATIENCE, &mut turn);
    assert_eq!(
        (finding.verdict, &*finding.seen),
        (Verdict::Ok, "2 datagrams, sums right")
    );
    let all_taken: Vec<_> = std::iter::from_fn(|| hugepages::Mbuf::alloc(pools.rx)).collect();
    let finding = segmentation(&mut ends, 0, PATIENCE, &mut turn);
    assert_eq!(
        (finding.verdict, &*finding.seen),
        (Verdict::NoAnswer, "there was no mbuf to build a frame in")
    );
    drop(all_taken);
}

fn a_cut_cable_gives_no_answer(eal: &Eal, pools: Pools) {
    let nic = NicConfig {
        wire: WireConfig {
            loss: 1.0,
            ..WireConfig::default()
        },
        ..NicConfig::default()
    };
    let findings = on_nics(eal, pools, ["cut0", "cut1"], [nic.clone(), nic]);
    assert!(
        findings.iter().all(|f| f.verdict == Verdict::NoAnswer),
        "{:?}",
        verdicts(&findings)
    );
}

/// `net_null` swallows frames, and makes others from nothing, which are none of ours.
fn a_device_from_which_nothing_comes_back(eal: &Eal, pools: Pools) {
    let config = pools.config(1500, 1, OffloadConfig::default());
    let end = Port::open(eal, "net_null0", &config).expect("the null device opens");
    let findings = run(&mut [pools.end(eal, end)], PATIENCE, &mut |_| {});
    let frames = of(&findings, "frames");
    assert_eq!(
        (frames.verdict, &*frames.seen),
        (Verdict::NoAnswer, "nothing arrived")
    );
}
