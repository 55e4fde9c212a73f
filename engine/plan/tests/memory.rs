//! Pools, and whether they fit.

use super::*;

#[test]
fn pools_follow_the_formula() {
    let plan = base();
    // Rings of 1024 + 1024, 4096 held; the link's pools are touched by both lcores, the device's by one.
    let per_lcore = 2 * 32 + 256 * 3 / 2;
    assert_eq!(plan.ports[0].pool.mbufs, 2048 + 4096 + 2 * per_lcore);
    assert_eq!(plan.ports[2].pool.mbufs, 2048 + 4096 + per_lcore);
    assert_eq!(plan.ports[0].pool.data_room, 128 + 2048);
    assert_eq!(plan.ports[0].pool.low_mark, 1024 + 4 * 32);
    let jumbo = plan_of(
        edited(&[(
            "    device: net_tap0\n",
            "    device: net_tap0\n    mtu: 9000\n",
        )]),
        &Given::default(),
    );
    assert_eq!(jumbo.unwrap().ports[2].pool.data_room, 128 + 9024);
    assert_eq!(
        plan.memory.pools,
        plan.ports.iter().map(|port| port.pool.bytes).sum::<u64>()
    );
    assert_eq!(plan.memory.granted, Some(512 << 20));
}

/// The base with a TAP port of 9000 bytes and the given data room.
fn jumbo(data_room: &str) -> Result<Plan, ConfigError> {
    let keys = format!("    device: net_tap0\n    mtu: 9000\n    data_room: {data_room}\n");
    plan_of(
        edited(&[("    device: net_tap0\n", &keys)]),
        &Given::default(),
    )
}

#[test]
fn what_is_sent_has_room_where_what_is_received_has_not() {
    let plan = jumbo("2176B").unwrap();
    let port = &plan.ports[2];
    assert_eq!(port.pool.data_room, 2176);
    let tx = port.tx_pool.expect("frames of 9000 bytes do not fit 2176");
    assert_eq!(tx.data_room, 128 + 9024);
    // A ring of 1024, and the bursts and cache of one lcore.
    assert_eq!(tx.mbufs, 1024 + 2 * 32 + 256 * 3 / 2);
    let pools = plan.ports.iter().map(PortPlan::pool_bytes).sum::<u64>();
    assert_eq!(plan.memory.pools, pools);
    assert!(pools > plan.ports.iter().map(|port| port.pool.bytes).sum());
    assert!(plan.to_string().contains("2176, tx 9152"), "{plan}");

    let plan = jumbo("16KiB").unwrap();
    assert_eq!(
        (plan.ports[2].pool.data_room, plan.ports[2].tx_pool),
        (16384, None)
    );
    assert_eq!(jumbo("auto").unwrap().ports[2].pool.data_room, 128 + 9024);
}

#[test]
fn data_rooms_out_of_range() {
    for size in ["600B", "64KiB"] {
        let text = jumbo(size).unwrap_err().to_string();
        let expected =
            "B is out of range: give 640 B..=65535 B, 128 B of headroom included, or `auto`";
        assert!(
            text.starts_with("x.yaml:13:16: ports[2].data_room: "),
            "{text}"
        );
        assert!(text.ends_with(expected), "{text}");
    }
    assert_eq!(
        problem(&[("mtu: 1500", "data_room: 1KiB")]),
        "x.yaml:5:16: ports[0].data_room: 1024 B is too little: what crosses a link stays in one mbuf, and a frame of \
         the MTU takes 2176 B"
    );
}

#[test]
fn memory_is_summed_over_numa_nodes() {
    let granted = |megabytes: &str| {
        let eal = vec![
            "-l0-1".to_owned(),
            "--vdev=net_tap0".to_owned(),
            megabytes.to_owned(),
        ];
        plan_of(
            BASE.to_owned(),
            &Given {
                eal,
                ..Given::default()
            },
        )
        .map(|plan| plan.memory.granted)
        .map_err(|error| error.to_string())
    };
    assert_eq!(granted("--socket-mem=256,256"), Ok(Some(512 << 20)));
    assert_eq!(granted("-m1024"), Ok(Some(1 << 30)));
    for text in [
        "--socket-mem=1,18446744073709551615",
        "--socket-mem=17592186044415,1",
    ] {
        assert!(
            granted(text)
                .unwrap_err()
                .contains("is no whole number of megabytes")
        );
    }
}

#[test]
fn too_little_memory() {
    assert_eq!(
        problem(&[("\"512\"", "\"32\"")]),
        "x.yaml:1:33: eal[3]: too little memory: EAL is given 32 MiB, and the packet pools (left \
         16 MiB, right 16 MiB, tap 15 MiB) with EAL's own data need 63 MiB; give `-m 64`, or lower \
         `memory.held_slices` or the descriptors"
    );
    let jumbo = (
        "    device: net_tap0\n",
        "    device: net_tap0\n    mtu: 9000\n",
    );
    let error = problem(&[("\"-m\", \"512\", ", ""), jumbo]);
    assert!(
        error.starts_with("x.yaml:1:20: eal[2]: too little memory: EAL is given 64 MiB"),
        "{error}"
    );
    assert_eq!(
        problem(&[("transport:", "memory: { mbufs: 512 }\ntransport:")]),
        "x.yaml:21:18: memory.mbufs: 512 is too few: the rings, bursts and caches of the port \
         `left` alone take 2944; use `auto`, or at least 2944"
    );
}

#[test]
fn a_low_mark_can_be_given() {
    let memory = |text: &str| format!("memory: {{ {text} }}\ntransport:");
    let given = plan_of(
        edited(&[("transport:", &memory("low_mark: 500"))]),
        &Given::default(),
    );
    assert_eq!(given.unwrap().ports[0].pool.low_mark, 500);
    assert_eq!(
        problem(&[("transport:", &memory("mbufs: 4096, low_mark: 4096"))]),
        "x.yaml:21:34: memory.low_mark: 4096 is out of range: the pool of the port `left` has 4096 \
         mbufs, and a burst of each queue takes 32; use `auto`, or 32 to 4095"
    );
}

/// The plan of configs/emulated.yaml with changes.
fn emulated(changes: &[(&str, &str)]) -> Result<Plan, ConfigError> {
    let mut text = include_str!("../../../configs/emulated.yaml").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    plan_of(text, &Given::default())
}

#[test]
fn what_is_to_be_cut_has_room_for_a_turn() {
    let plan = emulated(&[]).unwrap();
    let port = &plan.ports[0];
    let tx = port.tx_pool.expect("the NIC offers to segment");
    assert_eq!(port.segments, 16, "a connection's turn");
    // Headroom, Ethernet with a tag, IPv6, UDP, the payloads, and what quinn-proto may take back: rounded up to 64.
    assert_eq!(tx.data_room, 24_512);
    assert!(tx.data_room >= 128 + 18 + 48 + 16 * 1452 + 1024);

    let of = |changes: &[_]| {
        let plan = emulated(changes).unwrap();
        (
            plan.ports[0].segments,
            plan.ports[0].tx_pool.map(|pool| pool.data_room),
        )
    };
    let off = (
        "    link: right\n",
        "    link: right\n    offload: { udp_segmentation: off }\n",
    );
    assert_eq!(of(&[off]), (1, None));
    assert_eq!(of(&[("offloads: all ", "offloads: none ")]), (1, None));
    let budget = ("shards:\n", "limits: { turn_budget: 1024 }\nshards:\n");
    assert_eq!(
        of(&[budget]),
        (44, Some(65_152)),
        "as many as 16 bits can count"
    );
    let (left, right) = ("    link: right\n", "    link: left\n");
    let mtu = |link| format!("{link}    mtu: 9000\n");
    let (jumbo_left, jumbo_right) = (mtu(left), mtu(right));
    let jumbo = [
        (left, &*jumbo_left),
        (right, &*jumbo_right),
        ("\"512\"", "\"2048\""),
    ];
    assert_eq!(of(&jumbo), (7, Some(63_936)));
}

#[test]
fn virtual_devices_and_links_segment_only_if_told_to() {
    let plan = base();
    assert_eq!(plan.ports.iter().map(|port| port.segments).max(), Some(1));
    let told = plan_of(
        edited(&[(
            "    device: net_tap0\n",
            "    device: net_tap0\n    offload: { udp_segmentation: hardware }\n",
        )]),
        &Given::default(),
    );
    let told = told.unwrap();
    assert_eq!(told.ports[2].segments, 16);
    assert!(told.ports[2].tx_pool.is_some());
}
