//! The metrics by name.
//!
//! Names follow Prometheus' conventions: the prefix `stoq_`, base units, `_total` on counters. Drop reasons are those
//! of the report.

use super::families::{Families, Labels};
use super::{Observed, ShardReading};

/// Name, help, and value for a shard.
type Single = (&'static str, &'static str, fn(&ShardReading<'_>) -> f64);
/// Name, help, a label, and for a shard a value for each of the label's values.
type Labelled = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ShardReading<'_>) -> Vec<(&'static str, u64)>,
);

const COUNTERS: &[Single] = &[
    // The lane.
    (
        "stoq_rx_frames_total",
        "Frames received, dropped ones among them.",
        |shard| shard.lane.rx_frames as f64,
    ),
    ("stoq_tx_frames_total", "Frames sent.", |shard| {
        shard.lane.tx_frames as f64
    }),
    (
        "stoq_rx_payload_bytes_total",
        "Bytes of UDP payload received.",
        |shard| shard.lane.rx_bytes as f64,
    ),
    (
        "stoq_tx_payload_bytes_total",
        "Bytes of UDP payload sent.",
        |shard| shard.lane.tx_bytes as f64,
    ),
    (
        "stoq_tx_segmented_total",
        "Packet buffers of several datagrams that the device segmented.",
        |shard| shard.lane.tx_segmented as f64,
    ),
    (
        "stoq_tx_stalled_turns_total",
        "Turns in which sending waited for the device or for a packet buffer; nothing is dropped then.",
        |shard| shard.lane.tx_stalled as f64,
    ),
    (
        "stoq_pool_pressure_turns_total",
        "Turns that copied what they received because the pool ran low.",
        |shard| shard.lane.pool_pressure as f64,
    ),
    ("stoq_turns_total", "Turns of the worker's loop.", |shard| {
        shard.lane.turns as f64
    }),
    (
        "stoq_lcore_busy_seconds_total",
        "Time in turns that moved frames; its rate is the busy share of the lcore.",
        |shard| seconds(shard.lane.busy_ns),
    ),
    (
        "stoq_lcore_seconds_total",
        "Time since the lane started.",
        |shard| seconds(shard.lane.elapsed_ns),
    ),
    // Connections.
    (
        "stoq_connections_accepted_total",
        "Incoming connections that a handshake was begun with.",
        |shard| shard.counters.connections_accepted.get() as f64,
    ),
    (
        "stoq_connections_opened_total",
        "Outgoing connections that a handshake was begun with.",
        |shard| shard.counters.connections_opened.get() as f64,
    ),
    (
        "stoq_connections_lost_total",
        "Connections that ended by a time-out, a reset or an error.",
        |shard| shard.counters.connections_lost.get() as f64,
    ),
    (
        "stoq_early_data_accepted_total",
        "Connections whose 0-RTT data was accepted, both sides.",
        |shard| shard.counters.early_data_accepted.get() as f64,
    ),
    (
        "stoq_stateless_responses_total",
        "Version negotiations, Retries, refusals and stateless resets sent.",
        |shard| shard.counters.responses.get() as f64,
    ),
    (
        "stoq_retries_total",
        "Retries sent, to clients that must prove their address first.",
        |shard| shard.counters.retries.get() as f64,
    ),
    // Applications and QUIC.
    (
        "stoq_application_received_bytes_total",
        "Bytes that applications read.",
        |shard| shard.counters.bytes_received.get() as f64,
    ),
    (
        "stoq_application_sent_bytes_total",
        "Bytes that applications wrote.",
        |shard| shard.counters.bytes_sent.get() as f64,
    ),
    (
        "stoq_application_panics_total",
        "Panics caught in applications.",
        |shard| shard.counters.application_panics.get() as f64,
    ),
    (
        "stoq_streams_opened_total",
        "Streams that our applications opened.",
        |shard| shard.counters.streams_opened.get() as f64,
    ),
    (
        "stoq_streams_accepted_total",
        "Streams that peers opened.",
        |shard| shard.counters.streams_accepted.get() as f64,
    ),
    (
        "stoq_unreliable_datagrams_received_total",
        "Unreliable datagrams (RFC 9221) taken by applications.",
        |shard| shard.counters.datagrams_received.get() as f64,
    ),
    (
        "stoq_unreliable_datagrams_sent_total",
        "Unreliable datagrams (RFC 9221) queued by applications.",
        |shard| shard.counters.datagrams_sent.get() as f64,
    ),
    (
        "stoq_unreliable_datagrams_refused_total",
        "Unreliable datagrams (RFC 9221) of applications that were too large, or that the peer does not take.",
        |shard| shard.counters.datagrams_refused.get() as f64,
    ),
    (
        "stoq_quic_datagrams_received_total",
        "UDP datagrams taken in by the shard.",
        |shard| shard.counters.udp_received.get() as f64,
    ),
    (
        "stoq_quic_datagrams_sent_total",
        "UDP datagrams built by the shard.",
        |shard| shard.counters.udp_sent.get() as f64,
    ),
    (
        "stoq_handed_over_total",
        "Datagrams that belonged to a connection of another shard and were handed to it.",
        |shard| shard.counters.handed_over.get() as f64,
    ),
    (
        "stoq_taken_over_total",
        "Datagrams taken over from other shards.",
        |shard| shard.counters.taken_over.get() as f64,
    ),
    (
        "stoq_rx_icmpv6_frames_total",
        "ICMPv6 frames that the IPv6 host took.",
        |shard| shard.lane.rx_icmpv6 as f64,
    ),
    (
        "stoq_relayed_frames_total",
        "ICMPv6 frames handed to the hosts on other queues of the port.",
        |shard| shard.lane.relayed as f64,
    ),
    (
        "stoq_lost_packets_total",
        "QUIC packets declared lost.",
        |shard| shard.counters.lost_packets.get() as f64,
    ),
    (
        "stoq_congestion_events_total",
        "Times a congestion window was reduced.",
        |shard| shard.counters.congestion_events.get() as f64,
    ),
];

const GAUGES: &[Single] = &[
    (
        "stoq_connections_peak",
        "The most connections held at a time.",
        |shard| shard.counters.connections_peak.get() as f64,
    ),
    (
        "stoq_neighbours",
        "Entries of the neighbour cache.",
        |shard| shard.lane.neighbours as f64,
    ),
    (
        "stoq_path_mtu_bytes",
        "The largest UDP payload that MTU discovery reached.",
        |shard| shard.counters.mtu.get() as f64,
    ),
];

const LABELLED_COUNTERS: &[Labelled] = &[
    (
        "stoq_rx_datagrams_total",
        "UDP payloads received, handed on in the packet buffer they arrived in or as a copy.",
        "path",
        |shard| {
            vec![
                ("zero_copy", shard.lane.rx_zero_copy),
                ("copied", shard.lane.rx_copied),
            ]
        },
    ),
    (
        "stoq_tx_datagrams_total",
        "UDP payloads sent, built where the device reads them or copied there.",
        "path",
        |shard| {
            vec![
                ("in_place", shard.lane.tx_in_place),
                ("copied", shard.lane.tx_copied),
            ]
        },
    ),
    (
        "stoq_rx_dropped_total",
        "Received frames and datagrams that were dropped, by reason.",
        "reason",
        |shard| {
            let drops = shard.drops();
            drops.filter(|(reason, _)| !is_tx(reason)).collect()
        },
    ),
    (
        "stoq_tx_dropped_total",
        "Datagrams that could not be sent, by reason.",
        "reason",
        |shard| shard.drops().filter(|(reason, _)| is_tx(reason)).collect(),
    ),
    (
        "stoq_handshakes_total",
        "Handshakes by outcome: completed (on either side), failed as server or as client, refused.",
        "outcome",
        |shard| {
            vec![
                ("completed", shard.counters.handshakes.get()),
                ("failed_server", shard.counters.handshakes_failed.get()),
                ("failed_client", shard.counters.connects_failed.get()),
                ("refused", shard.counters.connections_refused.get()),
            ]
        },
    ),
    (
        "stoq_host_events_total",
        "What the IPv6 host did: neighbour discovery, multicast listener reports, errors of routers.",
        "event",
        host_events,
    ),
];

/// What the IPv6 host did, under the names of its counters.
fn host_events(shard: &ShardReading<'_>) -> Vec<(&'static str, u64)> {
    let host = &shard.lane.host;
    vec![
        ("solicitations_sent", host.solicitations_sent),
        ("advertisements_sent", host.advertisements_sent),
        ("router_solicitations_sent", host.router_solicitations_sent),
        ("listener_reports_sent", host.listener_reports_sent),
        ("echo_replies_sent", host.echo_replies_sent),
        ("datagrams_parked", host.parked),
        ("neighbours_failed", host.neighbours_failed),
        ("neighbours_evicted", host.neighbours_evicted),
        ("router_advertisements", host.router_advertisements),
        ("path_mtu_lowered", host.path_mtu_lowered),
        ("destination_unreachable", host.destination_unreachable),
        ("address_conflicts", host.address_conflicts),
    ]
}

const LABELLED_GAUGES: &[Labelled] = &[(
    "stoq_connections",
    "Connections now, by state.",
    "state",
    |shard| shard.connections().to_vec(),
)];

/// All metrics in Prometheus' text format, version 0.0.4.
pub fn text(observed: &Observed) -> String {
    let mut families = Families::default();
    build(&mut families);
    shards(&mut families, observed);
    clients(&mut families, observed);
    ports(&mut families, observed);
    families.encode()
}

fn build(families: &mut Families) {
    let labels = vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", env!("STOQ_GIT_REVISION")),
        ("dpdk", env!("STOQ_DPDK_VERSION")),
    ];
    families
        .gauge("stoq_build_info", "1, with the engine's build as labels.")
        .set(labels, 1.0);
}

fn shards(families: &mut Families, observed: &Observed) {
    // Read once, so that all metrics of a shard are of one moment.
    let shards: Vec<_> = observed.shards().collect();
    for (name, help, value) in COUNTERS {
        let mut family = families.counter(name, help);
        shards
            .iter()
            .for_each(|shard| family.set(shard.labels(), value(shard)));
    }
    for (name, help, value) in GAUGES {
        let mut family = families.gauge(name, help);
        shards
            .iter()
            .for_each(|shard| family.set(shard.labels(), value(shard)));
    }
    for (is_counter, list) in [(true, LABELLED_COUNTERS), (false, LABELLED_GAUGES)] {
        for (name, help, label, values) in list {
            let mut family = match is_counter {
                true => families.counter(name, help),
                false => families.gauge(name, help),
            };
            for shard in &shards {
                for (of_label, value) in values(shard) {
                    family.set(shard.labels_with(label, of_label), value as f64);
                }
            }
        }
    }
    let mut rtt = families.histogram(
        "stoq_rtt_seconds",
        "Smoothed round-trip times of connections: at the end of the handshake, now and then, and at the end.",
    );
    for shard in &shards {
        rtt.set_buckets(shard.labels(), &shard.counters.rtt);
    }
}

fn clients(families: &mut Families, observed: &Observed) {
    let shards: Vec<_> = observed.shards().collect();
    // A client is on a shard of the plan.
    let on_shards = || {
        let clients = observed.clients();
        clients.filter_map(|client| Some((shards.get(client.shard)?, client)))
    };
    let mut requests = families.counter(
        "stoq_client_requests_total",
        "Requests, files or messages of clients in this process, by outcome.",
    );
    for (shard, client) in on_shards() {
        for (outcome, count) in [("completed", client.completed), ("failed", client.failed)] {
            let mut labels = shard.labels_with("client", client.name);
            labels.push(("outcome", outcome));
            requests.set(labels, count as f64);
        }
    }
    let mut latency = families.histogram(
        "stoq_client_latency_seconds",
        "Time from the begin of a request, or from when it was due at a rate, to the end of its answer.",
    );
    for (shard, client) in on_shards() {
        latency.set_buckets(shard.labels_with("client", client.name), client.latency);
    }
}

fn ports(families: &mut Families, observed: &Observed) {
    let ports = observed.ports();
    let mut gauge = |name, help, value: fn(&super::PortReading<'_>) -> f64| {
        let mut family = families.gauge(name, help);
        for port in &ports {
            family.set(vec![("port", port.name)], value(port));
        }
    };
    gauge(
        "stoq_link_up",
        "1 while the link of a port is up.",
        |port| f64::from(u8::from(port.link.up)),
    );
    gauge(
        "stoq_pool_mbufs",
        "Packet buffers of a port's pool.",
        |port| f64::from(port.pool.capacity),
    );
    gauge(
        "stoq_pool_free_mbufs",
        "Packet buffers of a port's pool that nobody holds.",
        |port| f64::from(port.pool.available),
    );
    let mut dropped = families.counter(
        "stoq_device_dropped_total",
        "Frames that the device dropped before anybody saw them, by reason.",
    );
    for port in &ports {
        for (reason, count) in port.drops() {
            dropped.set(vec![("port", port.name), ("reason", reason)], count as f64);
        }
    }
    let mut statistics = families.gauge(
        "stoq_device_xstat",
        "What the driver of a device counts, by its own names (rte_eth_xstats); most of it counts up.",
    );
    for (port, values) in observed.device_statistics() {
        for (name, value) in &values {
            statistics.set(vec![("port", port), ("name", name)], *value as f64);
        }
    }
}

impl ShardReading<'_> {
    fn labels(&self) -> Labels<'_> {
        vec![
            ("port", self.port),
            ("shard", self.name),
            ("lcore", self.lcore),
        ]
    }

    fn labels_with<'a>(&'a self, name: &'static str, value: &'a str) -> Labels<'a> {
        let mut labels = self.labels();
        labels.push((name, value));
        labels
    }
}

fn is_tx(reason: &str) -> bool {
    reason.starts_with("tx_")
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
