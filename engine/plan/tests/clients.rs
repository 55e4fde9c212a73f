//! Clients and their loads.

use super::*;

#[test]
fn early_data_on_a_single_connection_is_worth_a_note() {
    let perf = "perf: { download: 1MiB, requests: 10 }";
    let notes = |client: &str| {
        let plan = plan_of(edited(&[(perf, client)]), &Given::default());
        plan.unwrap().notes.len()
    };
    assert_eq!(notes("early_data: true\n    perf: {}"), 1);
    assert_eq!(
        notes("early_data: true\n    connections: 2\n    perf: {}"),
        0
    );
}

#[test]
fn clients() {
    let perf = "perf: { download: 1MiB, requests: 10 }";
    assert_eq!(
        problem(&[(perf, "connections: 2")]),
        "x.yaml:37:5: clients[0]: the client `bulk` does nothing; give `perf`, `hq` or `echo`"
    );
    assert_eq!(
        problem(&[(perf, "perf: {}\n    echo: {}")]),
        "x.yaml:37:5: clients[0]: the client `bulk` does several things; make a client for each of \
         `perf`, `hq`, `echo`"
    );
    assert_eq!(
        problem(&[(perf, "connections: 101\n    perf: {}")]),
        "x.yaml:41:18: clients[0].connections: the clients of the shard `client` open 101 \
         connections, and `limits.connections` is 100; raise it"
    );
    assert_eq!(
        problem(&[("trust: { identity: own }", "trust: {}")]),
        "x.yaml:40:12: clients[0].trust: give exactly one of `anchors`, `identity`, `fingerprint`, \
         `insecure: true`"
    );
    assert_eq!(
        problem(&[("[fd00::1]:4433", "[fd00::2]:4433")]),
        "x.yaml:39:13: clients[0].remote: fd00::2 is an address of this client's own port `right`; \
         name the server's"
    );
    assert_eq!(
        problem(&[(perf, "hq: { paths: [\"big.bin\"] }")]),
        "x.yaml:41:19: clients[0].hq.paths[0]: `big.bin` needs a leading slash: write `/big.bin`"
    );
    assert_eq!(
        problem(&[(perf, "echo: { datagrams: true, size: 2kB }")]),
        "x.yaml:41:36: clients[0].echo.size: 2000 is out of range: an unreliable datagram here has \
         8..=1408 bytes"
    );
    assert_eq!(
        problem(&[(perf, "perf: { rate: 100 }")]),
        "x.yaml:41:19: clients[0].perf.rate: `100` has no unit: write `100/s`"
    );
    for path in ["/a/../b", "//x", "/a\\\\b"] {
        let text = problem(&[(perf, &format!("hq: {{ paths: [\"{path}\"] }}"))]);
        assert!(
            text.starts_with("x.yaml:41:19: clients[0].hq.paths[0]: ")
                && text.contains("name a file plainly"),
            "{text}"
        );
    }
    assert_eq!(
        problem(&[(perf, "server_name: \"foo bar\"\n    perf: {}")]),
        "x.yaml:41:18: clients[0].server_name: `foo bar` is neither a DNS name nor an IP address"
    );
}

#[test]
fn echo_datagrams_are_one_at_a_time_or_as_many_as_streams_says() {
    for (text, expected) in [
        ("echo: { datagrams: true }", 1),
        ("echo: { datagrams: true, streams: 7 }", 7),
    ] {
        let perf = "perf: { download: 1MiB, requests: 10 }";
        let plan = plan_of(edited(&[(perf, text)]), &Given::default()).unwrap();
        let client = plan.shards.iter().find_map(|shard| shard.clients.first());
        let Load::Echo(load) = &client.unwrap().load else {
            panic!("{client:?}");
        };
        assert_eq!((load.datagrams, load.streams), (true, expected));
    }
}
