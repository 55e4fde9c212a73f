//! Transport, limits, metrics, the course of the run.

use super::*;

#[test]
fn transport_and_limits() {
    assert_eq!(
        problem(&[("initial_mtu: 1200", "initial_mtu: 4000")]),
        "x.yaml:22:16: transport.initial_mtu: 4000 is out of range: 1200..=1452 bytes of UDP \
         payload; MTU discovery goes on from there"
    );
    assert_eq!(
        problem(&[
            ("initial_mtu: 1200", "initial_mtu: 1300"),
            ("device: net_tap0", "device: net_tap0\n    mtu: 1280")
        ]),
        "x.yaml:23:16: transport.initial_mtu: 1300 does not fit the port `tap`: its MTU of 1280 \
         leaves 1232 bytes of UDP payload"
    );
    assert_eq!(
        problem(&[(
            "initial_mtu: 1200",
            "receive_window: 1MiB\n  stream_receive_window: 2MiB"
        )]),
        "x.yaml:23:26: transport.stream_receive_window: 2MiB is more than the connection's \
         receive_window of 1MiB; a stream cannot use it"
    );
    assert_eq!(
        problem(&[("initial_mtu: 1200", "keep_alive: 1m")]),
        "x.yaml:22:15: transport.keep_alive: 1m comes too late: connections are lost after an \
         idle_timeout of 30s"
    );
    assert_eq!(
        problem(&[("connections: 100", "connections: 0")]),
        "x.yaml:24:16: limits.connections: 0 is out of range: 1..=16777216"
    );
    let small = plan_of(
        edited(&[("initial_mtu: 1200", "receive_window: 1MiB")]),
        &Given::default(),
    );
    assert_eq!(small.unwrap().transport.stream_receive_window, 1 << 20);
}

fn limits(text: &str) -> Result<LimitsPlan, String> {
    let text = edited(&[("connections: 100", text)]);
    let plan = plan_of(text, &Given::default());
    plan.map(|plan| plan.limits)
        .map_err(|error| error.to_string())
}

#[test]
fn limits_have_defaults_that_fit_each_other() {
    let defaults = limits("responses: 128").unwrap();
    assert_eq!(defaults.connections, 20_000);
    assert_eq!((defaults.incoming, defaults.retry_above), (1024, 128));
    assert_eq!(defaults.incoming_bytes, 1 << 20);
    assert_eq!(defaults.handshakes_per_prefix, Some(4096));
    assert_eq!(defaults.strangers, Some(5_000));
    assert_eq!(defaults.stateless, Some(1000));
    assert_eq!(defaults.handover, 1024);
    let few = limits("connections: 10").unwrap();
    assert_eq!((few.incoming, few.retry_above), (10, 5));
    let given = limits(
        "strangers: off\n  stateless: 5/s\n  handshakes_per_prefix: 7/s\n  handover: 9\n  \
         incoming_bytes: 2MiB\n  retry_above: 0",
    );
    let given = given.unwrap();
    assert_eq!((given.strangers, given.stateless), (None, Some(5)));
    assert_eq!((given.handshakes_per_prefix, given.handover), (Some(7), 9));
    assert_eq!((given.incoming_bytes, given.retry_above), (2 << 20, 0));
}

#[test]
fn limits_that_contradict_each_other_or_let_nothing_through() {
    for (text, expected) in [
        (
            "connections: 100\n  incoming: 101",
            "25:13: limits.incoming: 101 is never reached: a handshake is a connection, and \
             `connections` is 100; choose 100 or less",
        ),
        (
            "incoming: 10\n  retry_above: 11",
            "25:16: limits.retry_above: 11 is never reached: `incoming` is 10; choose a lower number",
        ),
        (
            "handover: 0",
            "24:13: limits.handover: 0 is out of range: 1..=65536",
        ),
        (
            "incoming_bytes: 2GiB",
            "24:19: limits.incoming_bytes: 2GiB is out of range: at most 1GiB",
        ),
        (
            "strangers: 0/s",
            "24:14: limits.strangers: `0/s`: a rate is 1/s to 1000000000/s",
        ),
        (
            "stateless: 1000001/s",
            "24:14: limits.stateless: 1000001/s is out of range: 1/s to 1000000/s, or `off`",
        ),
        (
            "stateless: 10",
            "24:14: limits.stateless: `10` has no unit: write `10/s`",
        ),
        (
            "handshakes_per_prefix: on",
            "24:26: limits.handshakes_per_prefix: give a value or `off`",
        ),
    ] {
        assert_eq!(limits(text).unwrap_err(), format!("x.yaml:{expected}"));
    }
}

#[test]
fn the_worst_case_adds_up_what_limits_allow() {
    let worst = base().memory.worst_case;
    // 100 connections on each of three shards, with 16 MiB both ways and 1 MiB of datagrams both ways.
    assert_eq!(worst.connections, 300 * ((32 << 10) + (34 << 20)));
    assert_eq!(worst.handover, 0, "no port has several queues");
    assert_eq!(worst.incoming, 3 << 20);
    let sum = [
        worst.connections,
        worst.streams,
        worst.incoming,
        worst.network,
    ];
    assert_eq!(worst.total, sum.iter().sum::<u64>());
    let most = edited(&[
        ("connections: 100", "connections: 16777216"),
        ("initial_mtu: 1200", "send_window: 4611686018427387903B"),
    ]);
    let most = plan_of(most, &Given::default()).unwrap();
    assert_eq!(most.memory.worst_case.total, u64::MAX);
}

#[test]
fn metrics() {
    let with = |listen: &str| {
        edited(&[(
            "run:\n",
            &format!("metrics: {{ listen: \"{listen}\" }}\nrun:\n"),
        )])
    };
    let plan = plan_of(with("[::1]:9464"), &Given::default()).unwrap();
    let listen = plan.metrics.unwrap().listen;
    assert_eq!(listen, "[::1]:9464".parse().unwrap());
    assert!(plan.notes.is_empty());
    assert!(plan.to_string().contains("http://[::1]:9464/metrics"));
    assert!(base().metrics.is_none());

    let open = plan_of(with("[::]:9464"), &Given::default()).unwrap();
    assert!(open.notes[0].starts_with("metrics are served at [::]:9464 to whoever"));
    let error = |listen| {
        plan_of(with(listen), &Given::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("[fd00::1]:9464"),
        "x.yaml:42:20: metrics.listen: fd00::1 is an address of the port `left`, which the kernel \
         knows nothing of; choose one of the kernel's, such as [::1]:9464"
    );
    assert_eq!(
        error("9464"),
        "x.yaml:42:20: metrics.listen: `9464` is not an address with a TCP port such as [::1]:9464"
    );
}

#[test]
fn run() {
    assert_eq!(
        problem(&[("duration: 10s", "duration: 500ms")]),
        "x.yaml:44:13: run.duration: a run of 500ms ends within its warm-up of 1s; make it longer, \
         or lower `warmup`"
    );
    let given = Given {
        duration: Some(Duration::from_secs(1)),
        ..Given::default()
    };
    assert_eq!(
        plan_of(BASE.to_owned(), &given).unwrap_err().to_string(),
        "x.yaml:43:11: run.warmup: a run of 1s ends within its warm-up of 1s; make it longer, or \
         lower `warmup`"
    );
}
