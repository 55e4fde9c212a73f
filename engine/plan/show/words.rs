//! What stands in the cells of the tables.

use crate::config::{Congestion, Interval, Rate, Size};
use crate::format::bytes;
use crate::plan::{
    AckFrequencyPlan, ConnectionIdsPlan, LimitsPlan, Load, PortPlan, RunPlan, ServicePlan,
    TransportPlan, WorstCase, connection_ids,
};

pub(super) fn service(service: &ServicePlan) -> String {
    let folder = match service {
        ServicePlan::HqInterop { root, .. } => format!(" of {}", root.display()),
        ServicePlan::Perf { .. } | ServicePlan::Echo { .. } => String::new(),
    };
    let early_data = if service.early_data() {
        " with 0-RTT"
    } else {
        ""
    };
    format!("{}{folder}{early_data}", service.alpn())
}

pub(super) fn load(load: &Load) -> String {
    let mut parts = Vec::new();
    let (rate, requests, duration) = match load {
        Load::Perf(perf) => {
            parts.push(format!("{} streams", perf.streams));
            parts.push(format!(
                "{} up, {} down",
                Size(perf.upload),
                Size(perf.download)
            ));
            if perf.repeat {
                parts.push("repeated".to_owned());
            }
            (perf.rate, perf.requests, perf.duration)
        }
        Load::Hq(hq) => {
            parts.push(format!("{} files", hq.paths.len()));
            parts.push(match &hq.output {
                Some(folder) => format!("to {}", folder.display()),
                None => "dropped".to_owned(),
            });
            (None, None, None)
        }
        Load::Echo(echo) => {
            parts.push(match echo.datagrams {
                true => "unreliable datagrams".to_owned(),
                false => format!("{} streams", echo.streams),
            });
            parts.push(format!("of {}", Size(echo.size)));
            (echo.rate, echo.requests, echo.duration)
        }
    };
    parts.extend(rate.map(|rate| Rate(rate).to_string()));
    parts.extend(requests.map(|requests| format!("{requests} in all")));
    parts.extend(duration.map(|duration| format!("for {}", Interval(duration))));
    format!("{}: {}", load.alpn(), parts.join(", "))
}

pub(super) fn worst_case(worst: &WorstCase) -> [String; 2] {
    [
        format!(
            "{} if all that is allowed came at once:",
            bytes(worst.total)
        ),
        format!(
            "{} of connections, {} of streams, {} of what came before a handshake, {} of hand-over, {} of neighbours \
             and replies",
            bytes(worst.connections),
            bytes(worst.streams),
            bytes(worst.incoming),
            bytes(worst.handover),
            bytes(worst.network)
        ),
    ]
}

pub(super) fn limits(limits: &LimitsPlan) -> [String; 4] {
    let rate = |rate: Option<u32>| {
        rate.map_or("any number".to_owned(), |rate| {
            Rate(rate.into()).to_string()
        })
    };
    [
        format!(
            "{} connections, {} datagrams a turn",
            limits.connections, limits.turn_budget
        ),
        format!(
            "handshakes: {} in flight, address proven above {}, {} of a /64; {} buffered before they are accepted",
            limits.incoming,
            limits.retry_above,
            rate(limits.handshakes_per_prefix),
            bytes(limits.incoming_bytes)
        ),
        format!(
            "of strangers: {} looked at; {} stateless replies, {} of them waiting",
            rate(limits.strangers),
            rate(limits.stateless),
            limits.responses
        ),
        format!(
            "{} datagrams waiting for hand-over, {} for a neighbour; {} neighbours, {} open files",
            limits.handover, limits.waiting_datagrams, limits.neighbours, limits.open_files
        ),
    ]
}

pub(super) fn transport(transport: &TransportPlan) -> String {
    let congestion = match transport.congestion {
        Congestion::Cubic => "CUBIC",
        Congestion::NewReno => "NewReno",
        Congestion::Bbr => "BBR",
    };
    let discovery = if transport.mtu_discovery {
        "and up"
    } else {
        "fixed"
    };
    let ack = match transport.ack_frequency {
        Some(AckFrequencyPlan {
            threshold,
            max_delay,
        }) => {
            format!(
                "acknowledgements every {threshold} packets or {}",
                Interval(max_delay)
            )
        }
        None => "acknowledgements as the peer likes".to_owned(),
    };
    let idle = match transport.idle_timeout {
        Some(timeout) => format!("lost after {}", Interval(timeout)),
        None => "never lost".to_owned(),
    };
    let keep_alive = match transport.keep_alive {
        Some(interval) => format!(", kept alive every {}", Interval(interval)),
        None => String::new(),
    };
    let initial = transport.initial_mtu;
    format!("{congestion}, {initial} B datagrams {discovery}, {ack}, {idle}{keep_alive}")
}

pub(super) fn streams(transport: &TransportPlan) -> String {
    format!(
        "{} bidirectional, {} unidirectional; windows: {} received, {} of a stream, {} sent; {} of \
         unreliable datagrams",
        transport.bidi_streams,
        transport.uni_streams,
        Size(transport.receive_window),
        Size(transport.stream_receive_window),
        Size(transport.send_window),
        Size(transport.datagram_buffer)
    )
}

pub(super) fn run(run: &RunPlan) -> String {
    let end = match (run.duration, run.exit_when_clients_finish) {
        (Some(duration), false) => format!("{}, or until a signal", Interval(duration)),
        (Some(duration), true) => {
            format!(
                "{}, or until all clients finish, or a signal",
                Interval(duration)
            )
        }
        (None, true) => "until all clients finish, or a signal".to_owned(),
        (None, false) => "until a signal".to_owned(),
    };
    format!(
        "{end}; warm-up {}, drain {} at most{}",
        Interval(run.warmup),
        Interval(run.drain_timeout),
        if run.profile { "; profiled" } else { "" }
    )
}

/// `ports`: those of the plan, of which only some may have several shards.
pub(super) fn connection_ids(ids: &ConnectionIdsPlan, ports: &[PortPlan]) -> String {
    let reset = match ids.reset_key {
        Some(_) => "reset key given",
        None => "reset key random",
    };
    let alone = |port: &PortPlan| port.queues == 1;
    let plain = match (ids.given, ports.iter().any(alone)) {
        (false, true) if ports.iter().all(alone) => return format!("plain, 8 bytes; {reset}"),
        (false, true) => "; plain where a shard is alone on its port",
        _ => "",
    };
    let host = match &ids.host_id {
        Some(id) => connection_ids::digits(id),
        None => "random".to_owned(),
    };
    let rotations: Vec<String> = ids
        .keys
        .iter()
        .map(|key| key.rotation.to_string())
        .collect();
    let keys = match rotations.as_slice() {
        [] => "a random key".to_owned(),
        [only] => format!("the given key of rotation {only}"),
        [first, older @ ..] => format!(
            "the given key of rotation {first} (older IDs: {})",
            older.join(", ")
        ),
    };
    format!("17 bytes: host id ({host}), shard and nonce, encrypted by {keys}{plain}; {reset}")
}
