//! What the file's author sees when something in it is misspelt.

use super::*;

fn error(text: &str) -> String {
    Config::parse(Path::new("x.yaml"), text.to_owned())
        .map(|(config, _)| config)
        .unwrap_err()
        .to_string()
}

#[test]
fn misspelt_and_unknown_keys() {
    assert_eq!(
        error("shards:\n  - { name: a, port: p, lcroe: 0 }\n"),
        "x.yaml:2:25: shards[0].lcroe: unknown key `lcroe`; did you mean `lcore`?"
    );
    assert_eq!(
        error("run:\n  banana: 1s\n"),
        "x.yaml:2:3: run.banana: unknown key `banana`; the keys here are: warmup, drain_timeout, \
         duration, exit_when_clients_finish, profile"
    );
    assert_eq!(
        error("listener:\n  - name: a\n"),
        "x.yaml:1:1: listener: unknown key `listener`; did you mean `listeners`?"
    );
    assert_eq!(
        error("listeners:\n  - name: a\n    services:\n      pref: {}\n"),
        "x.yaml:4:7: listeners[0].services.pref: unknown key `pref`; did you mean `perf`?"
    );
}

#[test]
fn missing_and_repeated_keys() {
    assert_eq!(
        error("ports:\n  - device: net_tap0\n    mtu: 1500\n"),
        "x.yaml:2:5: ports[0]: the key `name` is missing"
    );
    assert_eq!(
        error("run:\n  warmup: 1s\n  warmup: 2s\n"),
        "x.yaml:3:3: the key `warmup` stands here twice; remove one"
    );
}

#[test]
fn wrong_types() {
    assert_eq!(
        error("ports:\n  - { name: a, mtu: 70000 }\n"),
        "x.yaml:2:21: ports[0].mtu: `70000` is not a whole number from 0 to 65535"
    );
    assert_eq!(
        error("ports:\n  - { name: a, router_advertisements: maybe }\n"),
        "x.yaml:2:39: ports[0].router_advertisements: `maybe` is not `true` or `false`"
    );
    assert_eq!(
        error("ports: 5\n"),
        "x.yaml:1:8: ports: expected a list: `- item` lines, or `[item, item]`"
    );
    assert_eq!(
        error("run: fast\n"),
        "x.yaml:1:6: run: expected `key: value` lines, or `{}` for the defaults"
    );
    assert_eq!(
        error("shards:\n  - { name: a, port: p, lcore: 0, idle: bussy }\n"),
        "x.yaml:2:41: shards[0].idle: unknown value `bussy`; did you mean `busy`?"
    );
    assert_eq!(
        error("transport: { congestion: vegas }\n"),
        "x.yaml:1:26: transport.congestion: unknown value `vegas`; choose one of: cubic, newreno, bbr"
    );
}

#[test]
fn an_empty_service_is_not_an_absent_one() {
    let text = "listeners:\n  - name: a\n    shard: s\n    udp_port: 1\n    identity: i\n    services:\n      perf:\n";
    assert_eq!(
        error(text),
        "x.yaml:7:11: listeners[0].services.perf: expected `key: value` lines, or `{}` for the defaults"
    );
}

#[test]
fn wrong_units() {
    assert_eq!(
        error("run:\n  warmup: 500\n"),
        "x.yaml:2:11: run.warmup: `500` has no unit: write `500s` or `500ms`"
    );
    assert_eq!(
        error("transport:\n  receive_window: 16MBit\n"),
        "x.yaml:2:19: transport.receive_window: `16MBit`: unknown unit `MBit`; use B, kB, MB, GB, \
         KiB, MiB or GiB"
    );
    assert_eq!(
        error("transport:\n  ack_frequency: { threshold: 10, max_delay: 5 }\n"),
        "x.yaml:2:46: transport.ack_frequency.max_delay: `5` has no unit: write `5s` or `5ms`"
    );
    assert_eq!(
        error("transport:\n  keep_alive: on\n"),
        "x.yaml:2:15: transport.keep_alive: give a value or `off`"
    );
    assert_eq!(
        error("ports:\n  - name: a\n    addresses:\n      - fd00::1/64\n      - 10.0.0.1/8\n"),
        "x.yaml:5:9: ports[0].addresses[1]: `10.0.0.1` is IPv4; the engine speaks IPv6 only"
    );
}

#[test]
fn what_is_no_yaml() {
    assert_eq!(error("ports: [\n"), "x.yaml:1:8: unclosed bracket '['");
}

#[test]
fn bytes_in_hexadecimal() {
    let ids = |text: &str| {
        let text = format!("connection_ids: {{ host_id: {text} }}\n");
        let parsed = Config::parse(Path::new("x.yaml"), text);
        parsed.map(|(config, _)| config.connection_ids.unwrap().host_id)
    };
    for (text, bytes) in [
        ("\"0a01\"", &[0x0a, 0x01][..]),
        ("0A01", &[0x0a, 0x01]),
        ("0010", &[0x00, 0x10]),
        ("1e02", &[0x1e, 0x02]),
        ("12", &[0x12]),
    ] {
        assert_eq!(ids(text).unwrap(), Some(Hex(bytes.to_vec())), "{text}");
    }
    for text in ["\"0a0\"", "\"\"", "0x10", "\"zz\"", "\"é\"", "deadbeefs"] {
        let error = ids(text).unwrap_err().to_string();
        assert_eq!(
            error,
            "x.yaml:1:28: connection_ids.host_id: these are not bytes in hexadecimal: give two of \
             0-9, a-f for each, in quotes"
        );
    }
    // Keys do not show in messages.
    assert_eq!(format!("{:?}", Hex(vec![1, 2])), "Hex(2 bytes)");
    assert_eq!(
        error("connection_ids: { keys: [{ rotation: 0, key: \"00112233zz\" }] }\n"),
        "x.yaml:1:46: connection_ids.keys[0].key: these are not bytes in hexadecimal: give two of \
         0-9, a-f for each, in quotes"
    );
}

#[test]
fn off_in_all_its_places() {
    let text = "ports: [{ name: a, offload: { tx_checksum: off, vlan: off } }]\n\
                transport: { ack_frequency: off, keep_alive: off, idle_timeout: 10s }\n";
    let (config, _) = Config::parse(Path::new("x.yaml"), text.to_owned()).unwrap();
    assert_eq!(config.ports[0].offload.tx_checksum, OffloadMode::Off);
    assert_eq!(config.ports[0].offload.vlan, Some(OrOff::Off));
    assert!(matches!(config.transport.ack_frequency, Some(OrOff::Off)));
    assert_eq!(config.transport.keep_alive, Some(OrOff::Off));
    let ten = Interval(std::time::Duration::from_secs(10));
    assert_eq!(config.transport.idle_timeout, Some(OrOff::On(ten)));
}

#[test]
fn a_vlan_is_a_number_or_more() {
    let vlan = |text: &str| {
        let text = format!("ports: [{{ name: a, offload: {{ vlan: {text} }} }}]\n");
        let parsed = Config::parse(Path::new("x.yaml"), text);
        parsed.map(|(config, _)| config.ports[0].offload.vlan)
    };
    let on = |id, tagging| Some(OrOff::On(Vlan { id, tagging }));
    assert_eq!(vlan("100").unwrap(), on(100, OffloadMode::Auto));
    assert_eq!(vlan("\"100\"").unwrap(), on(100, OffloadMode::Auto));
    assert_eq!(vlan("{ id: 7 }").unwrap(), on(7, OffloadMode::Auto));
    let software = vlan("{ id: 7, tagging: software }");
    assert_eq!(software.unwrap(), on(7, OffloadMode::Software));
    for (text, problem) in [
        (
            "red",
            "x.yaml:1:37: ports[0].offload.vlan: `red` does not do: give a VLAN id, `{ id, tagging }`, or `off`",
        ),
        (
            "{ id: 7, tags: on }",
            "x.yaml:1:46: ports[0].offload.vlan.tags: unknown key `tags`; the keys here are: id, tagging",
        ),
        (
            "{ tagging: auto }",
            "x.yaml:1:37: ports[0].offload.vlan: the key `id` is missing",
        ),
    ] {
        assert_eq!(vlan(text).unwrap_err().to_string(), problem, "{text}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("no/such.yaml"))
        .map(|(config, _)| config)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such.yaml: cannot be read: No such file or directory (os error 2)"
    );
}
