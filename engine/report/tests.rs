//! Keys, units, and what people see.

use super::*;

fn totals() -> RunTotals {
    RunTotals {
        elapsed: Duration::from_millis(5500),
        warmup: Duration::from_millis(500),
        bytes_received_measured: 5_000_000_000,
        bytes_received: 5_400_000_000,
        bytes_sent: 4096,
        connections: ConnectionTotals {
            accepted: 1,
            opened: 1,
            peak: 2,
            refused: 3,
            lost: 0,
            handshakes: 11,
        },
        latency: None,
        rx: RxTotals {
            frames: 4_000_000,
            zero_copy: 3_999_000,
            copied: 900,
        },
        tx: TxTotals {
            frames: 3_000_000,
            in_place: 0,
            copied: 3_000_000,
            segmented: 0,
            stalled: 12,
        },
        dropped: vec![
            ("ipv4", 90),
            ("arp", 0),
            ("tx_no_route", 2),
            ("foreign_mac", 8),
        ],
        mbufs: MbufTotals {
            capacity: 14_080,
            in_use_at_exit: 0,
        },
        quic: QuicTotals {
            lost_packets: 7,
            congestion_events: 1,
            mtu: 1452,
        },
        lcores: vec![
            LcoreTotals {
                id: 0,
                shard: "server".to_owned(),
                busy: Duration::from_millis(5000),
                elapsed: Duration::from_millis(5500),
                rx_frames: 1_000_000,
                tx_frames: 3_000_000,
                handed_over: 1_234,
                taken_over: 0,
                handover_full: 5,
                profile: Default::default(),
            },
            LcoreTotals {
                id: 1,
                shard: "idle".to_owned(),
                taken_over: 1_230,
                ..LcoreTotals::default()
            },
        ],
        nics: Vec::new(),
        steering: vec![
            ("tap".to_owned(), "hand_over"),
            ("other".to_owned(), "one_queue"),
        ],
        profile: None,
    }
}

#[test]
fn the_json_has_the_keys_of_the_design() {
    let report = Report {
        latency_us: Some(latency()),
        ..Report::new(&totals())
    };
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let expected = serde_json::json!({
        "elapsed_s": 5.5,
        "goodput_gbps": 8.0,
        "bytes_received": 5_400_000_000_u64,
        "bytes_sent": 4096,
        "connections": { "accepted": 1, "opened": 1, "peak": 2, "refused": 3, "lost": 0 },
        "handshakes_per_s": 2.0,
        "latency_us": { "p50": 1.5, "p90": 2.5, "p99": 3.5, "p999": 4.5, "max": 5.5 },
        "rx": {
            "frames": 4_000_000,
            "zero_copy": 3_999_000,
            "copied": 900,
            "handed_over": 1_234,
            "taken_over": 1_230,
            "handover_full": 5,
            "dropped": { "foreign_mac": 8, "ipv4": 90 },
        },
        "tx": {
            "frames": 3_000_000,
            "in_place": 0,
            "copied": 3_000_000,
            "segmented": 0,
            "stalled": 12,
            "dropped": { "tx_no_route": 2 },
        },
        "mbufs": { "capacity": 14_080, "in_use_at_exit": 0 },
        "quic": { "lost_packets": 7, "congestion_events": 1, "mtu": 1452 },
        "lcores": [
            {
                "id": 0,
                "shard": "server",
                "busy_percent": 90.909,
                "ns_per_frame": 1250.0,
                "rx_frames": 1_000_000,
                "tx_frames": 3_000_000,
                "handed_over": 1_234,
                "taken_over": 0,
                "handover_full": 5,
            },
            {
                "id": 1,
                "shard": "idle",
                "busy_percent": 0.0,
                "ns_per_frame": 0.0,
                "rx_frames": 0,
                "tx_frames": 0,
                "handed_over": 0,
                "taken_over": 1_230,
                "handover_full": 0,
            },
        ],
        "steering": { "other": "one_queue", "tap": "hand_over" },
    });
    assert_eq!(json, expected);
}

#[test]
fn latency_is_there_only_when_it_was_measured() {
    let report = Report::new(&totals());
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert!(json.get("latency_us").is_none());
    assert!(!report.to_string().contains("latency"));
}

#[test]
fn a_run_within_its_warm_up_has_no_goodput() {
    let short = RunTotals {
        elapsed: Duration::from_millis(300),
        ..totals()
    };
    assert_eq!(Report::new(&short).goodput_gbps, 0.0);
    assert_eq!(Report::new(&RunTotals::default()).goodput_gbps, 0.0);
}

#[test]
fn percentiles_of_a_histogram_in_nanoseconds() {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    assert_eq!(Latency::of(&histogram), None);
    for microseconds in 1..=1000 {
        histogram.record(microseconds * 1000).unwrap();
    }
    let latency = Latency::of(&histogram).unwrap();
    for (value, expected) in [
        (latency.p50, 500.0),
        (latency.p90, 900.0),
        (latency.p99, 990.0),
        (latency.p999, 999.0),
        (latency.max, 1000.0),
    ] {
        assert!(
            (value - expected).abs() <= expected / 1000.0 * 2.0,
            "{value} for {expected}"
        );
    }
}

#[test]
fn the_summary_lines_up() {
    let report = Report {
        latency_us: Some(latency()),
        ..Report::new(&totals())
    };
    let expected = "\
goodput           8.00 Gbps
application data  5.03 GiB received, 4.00 KiB sent, in 5.50 s
connections       1 accepted, 1 opened, 2 at the peak, 3 refused, 0 lost
handshakes        2.0 a second
latency           p50 1.5 µs, p90 2.5 µs, p99 3.5 µs, p99.9 4.5 µs, max 5.5 µs
frames received   4'000'000: 3'999'000 zero-copy, 900 copied
frames sent       3'000'000: 0 in place, 3'000'000 copied; waited in 12 turns
steering          other one queue, tap hand over; 1'234 datagrams handed over, 5 found the other shard full
dropped           foreign_mac 8, ipv4 90, tx_no_route 2
QUIC              7 packets lost, 1 congestion events, datagrams up to 1452 B
mbufs             0 of 14'080 in use at exit

lcore  shard   busy %  ns/frame  rx frames  tx frames  handed over  taken over
    0  server    90.9      1250  1'000'000  3'000'000        1'234           0
    1  idle       0.0         0          0          0            0       1'230
";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn with_one_queue_a_port_there_is_no_steering_to_tell() {
    let plain = RunTotals {
        steering: vec![("tap".to_owned(), "one_queue")],
        ..totals()
    };
    let summary = Report::new(&plain).to_string();
    assert!(!summary.contains("steering"), "{summary}");
}

#[test]
fn a_leak_is_called_one() {
    let leaky = RunTotals {
        mbufs: MbufTotals {
            capacity: 100,
            in_use_at_exit: 3,
        },
        dropped: Vec::new(),
        ..totals()
    };
    let summary = Report::new(&leaky).to_string();
    assert!(
        summary.contains("3 of 100 in use at exit: a leak"),
        "{summary}"
    );
    assert!(summary.contains("dropped           nothing"), "{summary}");
}

fn latency() -> Latency {
    Latency {
        p50: 1.5,
        p90: 2.5,
        p99: 3.5,
        p999: 4.5,
        max: 5.5,
    }
}
