//! Listeners and services.

use super::*;

#[test]
fn listeners() {
    assert_eq!(
        problem(&[(
            "shard: outside\n    udp_port",
            "shard: server\n    udp_port"
        )]),
        "x.yaml:33:15: listeners[1].udp_port: the listener `main` has UDP port 4433 of the same \
         port already; choose another"
    );
    assert_eq!(
        problem(&[("shard: outside\n", "shard: [outside, server]\n")]),
        "x.yaml:32:22: listeners[1].shard[1]: the shard `server` is on another port than \
         `outside`; make a listener for each port"
    );
    assert_eq!(
        problem(&[("shard: outside\n", "shard: otuside\n")]),
        "x.yaml:32:12: listeners[1].shard: no shard is called `otuside`; did you mean `outside`?"
    );
    assert_eq!(
        problem(&[("root: .", "root: no/such")]),
        "x.yaml:30:47: listeners[0].services.hq-interop.root: cannot serve no/such: No such file \
         or directory (os error 2)"
    );
    assert_eq!(
        problem(&[("services: { echo: { early_data: true } }", "services: {}")]),
        "x.yaml:35:15: listeners[1].services: nothing is served; give `perf`, `hq-interop` or `echo`"
    );
    assert_eq!(
        problem(&[(
            "    shard: outside\n",
            "    shard: outside\n    client_auth: required\n"
        )]),
        "x.yaml:33:18: listeners[1].client_auth: say what clients' certificates must lead up to: \
         add `trust: { anchors: [ca.pem] }`"
    );
    assert_eq!(
        problem(&[(
            "    shard: outside\n",
            "    shard: outside\n    trust: { anchors: [ca.pem] }\n"
        )]),
        "x.yaml:33:12: listeners[1].trust: clients are not asked for certificates; set \
         `client_auth` to `optional` or `required`, or remove `trust`"
    );
    assert_eq!(
        problem(&[(
            "identity: own\n    services: { perf",
            "identity: none\n    services: { perf"
        )]),
        "x.yaml:29:15: listeners[0].identity: no identity is called `none`; there are: own"
    );
}

const TWO_QUEUES: (&str, &str) = (
    "shards:\n",
    "shards:\n  - { name: second, port: tap, queue: 1, lcore: 1 }\n",
);

#[test]
fn a_listener_runs_on_all_shards_of_a_device() {
    assert_eq!(
        problem(&[TWO_QUEUES]),
        "x.yaml:33:12: listeners[1].shard: new connections may arrive on any shard of the port \
         `tap`; list them all: [second, outside]"
    );
    let all = ("shard: outside\n", "shard: [outside, second]\n");
    let plan = plan_of(edited(&[TWO_QUEUES, all]), &Given::default()).unwrap();
    let on_tap = plan.shards.iter().filter(|shard| shard.port == 2);
    assert!(on_tap.clone().all(|shard| shard.listeners.len() == 1));
    assert_eq!(on_tap.count(), 2);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn on_a_link_the_other_end_chooses_the_shard() {
    let text = edited(&[(
        "shards:\n",
        "shards:\n  - { name: second, port: left, queue: 1, lcore: 1 }\n  \
         - { name: third, port: right, queue: 1, lcore: 0 }\n",
    )]);
    let plan = plan_of(text, &Given::default()).unwrap();
    assert_eq!(plan.ports[0].queues, 2);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}
