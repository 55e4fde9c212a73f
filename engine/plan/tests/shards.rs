//! Queues, lcores, shards.

use super::*;

#[test]
fn queues_and_lcores() {
    assert_eq!(
        problem(&[
            ("port: tap, queue: 0", "port: left, queue: 0"),
            ("gateway", "queues: 1\n    gateway")
        ]),
        "x.yaml:13:13: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[("port: tap, queue: 0", "port: left, queue: 0")]),
        "x.yaml:10:5: ports[2]: no shard drives the port `tap`; add one or remove the port"
    );
    let two_shards_on_one_queue = [(
        "shards:\n",
        "shards:\n  - { name: twin, port: left, queue: 0, lcore: 1 }\n",
    )];
    assert_eq!(
        problem(&two_shards_on_one_queue),
        "x.yaml:16:40: shards[1].queue: the shard `twin` has queue 0 of the port `left` already, \
         and a queue is polled by one shard; choose another queue"
    );
    assert_eq!(
        problem(&[("port: tap, queue: 0", "port: tap, queue: 1")]),
        "x.yaml:10:5: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[
            ("port: tap, queue: 0", "port: tap, queue: 7"),
            ("gateway", "queues: 1\n    gateway")
        ]),
        "x.yaml:13:13: ports[2].queues: no shard drives queue 0 of the port `tap`; add one, or \
         lower the number of queues"
    );
    assert_eq!(
        problem(&[
            (
                "shards:\n",
                "shards:\n  - { name: high, port: left, queue: 3, lcore: 1 }\n"
            ),
            ("mtu: 1500", "queues: 1")
        ]),
        "x.yaml:15:38: shards[0].queue: the port `left` has 1 queues, counted from 0; raise its \
         `queues`, or choose a lower one"
    );
    assert_eq!(
        problem(&[(
            "port: right, queue: 0, lcore: 1",
            "port: right, queue: 0, lcore: 7"
        )]),
        "x.yaml:16:51: shards[1].lcore: lcore 7 is not in EAL's core list 0-1; add it to `-l`, or \
         choose another"
    );
    let two_queues_on_one_lcore = [(
        "shards:\n",
        "shards:\n  - { name: second, port: left, queue: 1, lcore: 0 }\n",
    )];
    assert_eq!(
        problem(&two_queues_on_one_lcore),
        "x.yaml:16:50: shards[1].lcore: lcore 0 drives the shard `second` of the same port already; \
         one lcore gains nothing from a second queue: choose another lcore"
    );
    assert_eq!(
        problem(&[(
            "port: tap, queue: 0, lcore: 0",
            "port: tap, lcore: 0, idle: busy"
        )]),
        "x.yaml:17:49: shards[2].idle: the shard `server` on the same lcore 0 has another `idle`; \
         make them equal"
    );
    assert_eq!(
        problem(&[("port: tap", "port: tab")]),
        "x.yaml:17:28: shards[2].port: no port is called `tab`; did you mean `tap`?"
    );
}

#[test]
fn steering_follows_from_port_and_queues() {
    let text = edited(&[
        (
            "shards:\n",
            "shards:\n  - { name: left-1, port: left, queue: 1, lcore: 1 }\n  \
             - { name: right-1, port: right, queue: 1, lcore: 0 }\n  \
             - { name: tap-1, port: tap, queue: 1, lcore: 1 }\n",
        ),
        ("shard: outside\n", "shard: [outside, tap-1]\n"),
    ]);
    let plan = plan_of(text, &Given::default()).unwrap();
    let steering: Vec<SteeringPlan> = plan.ports.iter().map(|port| port.steering).collect();
    use SteeringPlan::*;
    assert_eq!(steering, [ByQueue, ByQueue, RssElseHandOver]);
    assert_eq!(base().ports[2].steering, OneQueue);
    for text in [
        "by queue",
        "RSS, else hand-over",
        "17 bytes: host id (random), shard and nonce, encrypted by a random key; reset key random",
    ] {
        assert!(plan.to_string().contains(text), "{plan}");
    }
    // Datagrams on their way between shards stay in their mbufs.
    let shorter = base().ports[2].pool.mbufs + 2048 + 2 * 1024;
    assert_eq!(plan.ports[2].pool.mbufs, shorter + (2 * 32 + 256 * 3 / 2));
}

#[test]
fn the_ends_of_a_link_have_as_many_queues() {
    let two = (
        "shards:\n",
        "shards:\n  - { name: second, port: left, queue: 1, lcore: 1 }\n",
    );
    assert_eq!(
        problem(&[two]),
        "x.yaml:3:5: ports[0].queues: 2, but 1 on `right` at the other end; make them equal, with a \
         shard for each"
    );
}

#[test]
fn more_shards_than_a_connection_id_can_name() {
    let more: String = (0..254)
        .map(|index| format!("  - {{ name: s{index}, port: left, queue: {index}, lcore: 0 }}\n"))
        .collect();
    assert_eq!(
        problem(&[("shards:\n", &format!("shards:\n{more}"))]),
        "x.yaml:15:3: shards: 257 shards are too many: connection IDs name a shard in one byte; give \
         at most 256"
    );
}

#[test]
fn keys_of_receive_side_scaling() {
    let key = |bytes: usize| format!("device: net_tap0\n    rss_key: \"{}\"", "6d".repeat(bytes));
    for bytes in [40, 52] {
        let text = edited(&[("device: net_tap0", &key(bytes))]);
        let plan = plan_of(text, &Given::default()).unwrap();
        assert_eq!(plan.ports[2].rss_key, Some(Secret(vec![0x6d; bytes])));
        let json = serde_json::to_string(&plan).unwrap();
        assert!(!json.contains("6d6d") && !format!("{plan:?}").contains("109, 109"));
    }
    assert_eq!(
        problem(&[("device: net_tap0", &key(16))]),
        "x.yaml:12:14: ports[2].rss_key: the key has 16 bytes: give 40 or 52, as the device takes \
         (80 or 104 hexadecimal digits)"
    );
    assert_eq!(
        problem(&[("mtu: 1500", "rss_key: \"00\"")]),
        "x.yaml:5:14: ports[0].rss_key: a link has no receive-side scaling; remove the key"
    );
}
