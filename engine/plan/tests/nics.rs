//! Emulated NICs at the ends of a link.

use super::*;

/// The base with an emulated NIC at either end of the link.
fn with_nics(left: &str, right: &str) -> String {
    edited(&[
        (
            "    link: right\n",
            &format!("    link: right\n    emulated: {left}\n"),
        ),
        (
            "    link: left\n",
            &format!("    link: left\n    emulated: {right}\n"),
        ),
    ])
}

fn nic_problem(left: &str, right: &str) -> String {
    plan_of(with_nics(left, right), &Given::default())
        .unwrap_err()
        .to_string()
}

fn nic(plan: &Plan, port: usize) -> &NicPlan {
    match &plan.ports[port].kind {
        PortKind::Emulated { nic, .. } => nic,
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn what_is_given_and_what_is_not() {
    let left = "{ offloads: [rss, tx_checksum, rss], misbehaves: [uso_fragments, rss_wrong], mtu_max: 3000, rss_table: 64, \
                capture: there.pcapng, wire: { rate: 10Gbps, queue: 500, ecn_above: 50, delay: 1ms, jitter: 10us, \
                loss: 0.1%, loss_burst: 4, reorder: 2%, reorder_delay: 5ms, duplicate: 0.01%, seed: 7 } }";
    let plan = plan_of(with_nics(left, "{}"), &Given::default()).unwrap();
    let (left, right) = (nic(&plan, 0), nic(&plan, 1));
    assert_eq!(left.offloads, [NicOffload::TxChecksum, NicOffload::Rss]);
    assert_eq!(
        left.misbehaves,
        [Misbehaviour::UsoFragments, Misbehaviour::RssWrong]
    );
    assert_eq!((left.mtu_max, left.rss_table), (3000, 64));
    assert_eq!(left.capture, Some(PathBuf::from("there.pcapng")));
    let wire = &left.wire;
    assert_eq!(
        (wire.rate_bps, wire.queue, wire.ecn_above),
        (Some(10_000_000_000), 500, Some(50))
    );
    assert_eq!(
        (wire.delay, wire.jitter),
        (Duration::from_millis(1), Duration::from_micros(10))
    );
    assert_eq!((wire.loss.share(), wire.loss_burst), (0.001, Some(4)));
    assert_eq!(
        (wire.reorder.share(), wire.reorder_delay),
        (0.02, Duration::from_millis(5))
    );
    assert_eq!((wire.duplicate.share(), wire.seed), (0.0001, Some(7)));

    assert_eq!(right.offloads, NicOffload::ALL);
    assert_eq!((right.mtu_max, right.rss_table), (9702, 128));
    assert_eq!(
        (right.wire.rate_bps, right.wire.delay),
        (None, Duration::ZERO)
    );
    assert_eq!((&right.capture, &right.misbehaves), (&None, &vec![]));
    // As on a device, not as on a link.
    assert_eq!(plan.ports[0].tx_path, TxPathPlan::InPlace);

    let text = plan.to_string();
    for expected in [
        "left      tx_checksum rss; misbehaves: uso_fragments rss_wrong  3000       10Gbps   500, marks above 50  \
         1ms and up to 10us  0.1%, 4 in a row  2%         0.01%    there.pcapng\n",
        "right     everything ",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let json = serde_json::to_value(&plan).unwrap();
    let wire = &json["ports"][0]["kind"]["emulated"]["nic"]["wire"];
    assert_eq!(
        (&wire["loss"], &wire["delay_s"]),
        (&0.001.into(), &0.001.into())
    );
}

#[test]
fn words_in_place_of_a_list() {
    let plan = plan_of(
        with_nics("{ offloads: none }", "{ offloads: vlan }"),
        &Given::default(),
    );
    let plan = plan.unwrap();
    assert_eq!(nic(&plan, 0).offloads, []);
    assert_eq!(nic(&plan, 1).offloads, [NicOffload::Vlan]);
}

#[test]
fn an_emulated_end_may_have_other_queues_than_its_peer() {
    let mut text = with_nics("{}", "{}");
    text = text.replace(
        "  - { name: outside,",
        "  - { name: second, port: left, queue: 1, lcore: 1 }\n  - { name: outside,",
    );
    text = text.replace("    shard: server\n", "    shard: [server, second]\n");
    let plan = plan_of(text, &Given::default()).unwrap();
    assert_eq!((plan.ports[0].queues, plan.ports[1].queues), (2, 1));
    assert_eq!(plan.ports[0].steering, SteeringPlan::RssElseHandOver);
}

#[test]
fn what_does_not_fit() {
    let one = problem(&[("    link: right\n", "    link: right\n    emulated: {}\n")]);
    assert_eq!(
        one,
        "x.yaml:8:5: ports[1]: `left` at the other end of the link is an emulated NIC, and this is none; give it \
         `emulated: {}`"
    );
    let device = problem(&[(
        "    device: net_tap0\n",
        "    device: net_tap0\n    emulated: {}\n",
    )]);
    assert_eq!(
        device,
        "x.yaml:12:15: ports[2].emulated: only the ends of a link have emulated NICs; remove this key, or `device`"
    );
    for (nic, expected) in [
        (
            "{ mtu_max: 1000 }",
            "mtu_max: 1000 is out of range: 1280..=9702",
        ),
        (
            "{ mtu_max: 1400 }",
            "mtu_max: 1400 is less than the MTU of the port, 1500; raise it, or lower `mtu`",
        ),
        (
            "{ rss_table: 100 }",
            "rss_table: 100 does not do: give a power of two from 1 to 512",
        ),
        (
            "{ wire: { queue: 5 } }",
            "wire.queue: without a `rate` no frame ever waits; give one, or remove this key",
        ),
        (
            "{ wire: { ecn_above: 5 } }",
            "wire.ecn_above: without a `rate` no frame ever waits; give one, or remove this key",
        ),
        (
            "{ wire: { rate: 1Gbps, queue: 0 } }",
            "wire.queue: 0 is out of range: 1..=1000000 frames",
        ),
        (
            "{ wire: { rate: 1Gbps, queue: 10, ecn_above: 10 } }",
            "wire.ecn_above: never reached: the queue holds 10 frames; give less than that",
        ),
        (
            "{ wire: { loss_burst: 4 } }",
            "wire.loss_burst: nothing is lost; give `loss`, or remove this key",
        ),
        (
            "{ wire: { loss: 1%, loss_burst: 0 } }",
            "wire.loss_burst: give 1 or more, or `off`",
        ),
        ("{ wire: { delay: 2m } }", "wire.delay: more than 60s"),
        (
            "{ wire: { loss: 0.1 } }",
            "wire.loss: `0.1` is not a percentage such as 0.1%",
        ),
        (
            "{ wire: { rate: 5 } }",
            "wire.rate: `5` has no unit: write `5Mbps`",
        ),
        (
            "{ offloads: [tso] }",
            "offloads[0]: unknown value `tso`; choose one of: tx_checksum, rx_checksum, udp_segmentation, vlan, rss, \
             scatter, multi_segs, send_on_timestamp, fast_free",
        ),
    ] {
        let text = nic_problem(nic, "{}");
        let at = text
            .find("ports[0].emulated.")
            .unwrap_or_else(|| panic!("{text}"));
        assert_eq!(&text[at + "ports[0].emulated.".len()..], expected);
    }
    assert_eq!(
        nic_problem("{ capture: a }", "{ capture: b }"),
        "x.yaml:10:26: ports[1].emulated.capture: `left` at the other end has a capture, which shows both directions; \
         remove one"
    );
}
