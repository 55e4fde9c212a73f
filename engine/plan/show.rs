//! The plan as tables, for `engine check`.

use std::fmt::{self, Display, Formatter};

use super::{
    AckFrequencyPlan, ChecksumPlan, ClientAuthPlan, ClientPlan, IdentitySource, LimitsPlan,
    ListenerPlan, Load, Plan, PortKind, PortPlan, RunPlan, ServicePlan, TransportPlan, TrustPlan,
    TxPathPlan, WorstCase, client, connection_ids, listener, shard,
};
use crate::config::{Congestion, Idle, Interval, Rate, Size};
use crate::format::bytes;
use crate::table::Table;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sections = [
            Some(self.general()),
            Some(self.port_table()),
            Some(self.shard_table()),
            self.listener_table(),
            self.client_table(),
        ];
        for (index, table) in sections.iter().flatten().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            table.fmt(f)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn general(&self) -> Table {
        let mut table = Table::new("");
        table.row(["EAL", &self.eal.arguments.join(" ")]);
        table.row(["lcores", &shard::ranges(&self.eal.lcores)]);
        let pages = if self.eal.huge_pages {
            "huge pages"
        } else {
            "no huge pages"
        };
        let granted = match self.memory.granted {
            Some(granted) => format!("{} granted", bytes(granted)),
            None => "as much as needed".to_owned(),
        };
        let pools = bytes(self.memory.pools);
        table.row([
            "packet memory",
            &format!("{pools} in pools, {granted}, {pages}"),
        ]);
        let [total, parts] = worst_case(&self.memory.worst_case);
        table.row(["heap, worst case", &total]);
        table.row(["", &parts]);
        for identity in &self.identities {
            let source = match &identity.source {
                IdentitySource::SelfSigned(names) => {
                    format!("made at start for {}", names.join(", "))
                }
                IdentitySource::Files { certificate, key } => {
                    format!("{} with {}", certificate.display(), key.display())
                }
            };
            table.row(["identity", &format!("{}: {source}", identity.name)]);
        }
        table.row(["transport", &transport(&self.transport)]);
        table.row(["streams", &streams(&self.transport)]);
        table.row(["connection IDs", &self.connection_id_text()]);
        for (index, line) in limits(&self.limits).iter().enumerate() {
            table.row([if index == 0 { "limits, a shard" } else { "" }, line]);
        }
        if let Some(metrics) = &self.metrics {
            let address = format!("http://{}/metrics", metrics.listen);
            table.row(["metrics", &address]);
        }
        table.row(["run", &run(&self.run)]);
        table
    }

    fn connection_id_text(&self) -> String {
        let ids = &self.connection_ids;
        let several = self.ports.iter().any(|port| port.queues > 1);
        let reset = match ids.reset_key {
            Some(_) => "reset key given",
            None => "reset key random",
        };
        if !ids.given && !several {
            return format!("plain, 8 bytes; {reset}");
        }
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
            [only] => format!("key given, rotation {only}"),
            [first, older @ ..] => format!(
                "key given, rotation {first}, and for older IDs {}",
                older.join(", ")
            ),
        };
        let plain = if ids.given {
            ""
        } else {
            "; plain where a shard is alone on its port"
        };
        format!("17 bytes, with host {host} and shard, encrypted by {keys}{plain}; {reset}")
    }

    fn port_table(&self) -> Table {
        let mut table = Table::new("<<>><>>>>");
        table.row([
            "port",
            "kind",
            "MTU",
            "queues",
            "steering",
            "rx desc",
            "tx desc",
            "mbufs",
            "data room",
            "checksum",
            "tx path",
            "addresses",
        ]);
        for port in &self.ports {
            table.row(self.port_row(port));
        }
        table
    }

    fn port_row(&self, port: &PortPlan) -> [String; 12] {
        let kind = match &port.kind {
            PortKind::Device(name) => name.clone(),
            PortKind::Link { peer } => format!("link to {}", self.ports[*peer].name),
        };
        let checksum = match port.checksum {
            ChecksumPlan::Software => "software",
            ChecksumPlan::Skip => "off",
        };
        let tx_path = match port.tx_path {
            TxPathPlan::InPlace => "in place",
            TxPathPlan::Scratch => "scratch",
        };
        let mut addresses: Vec<String> = port
            .addresses
            .iter()
            .map(|(address, length)| format!("{address}/{length}"))
            .collect();
        addresses.push("link-local".to_owned());
        if port.router_advertisements {
            addresses.push("from routers".to_owned());
        }
        let gateway = port
            .gateway
            .map_or(String::new(), |gateway| format!(", gateway {gateway}"));
        [
            port.name.clone(),
            kind,
            port.mtu.to_string(),
            port.queues.to_string(),
            port.steering.text().to_owned(),
            port.rx_descriptors.to_string(),
            port.tx_descriptors.to_string(),
            port.pool.mbufs.to_string(),
            port.pool.data_room.to_string(),
            checksum.to_owned(),
            tx_path.to_owned(),
            addresses.join(", ") + &gateway,
        ]
    }

    fn shard_table(&self) -> Table {
        let mut table = Table::new("<<>><>>");
        table.row([
            "shard",
            "port",
            "queue",
            "lcore",
            "idle",
            "listeners",
            "clients",
        ]);
        for shard in &self.shards {
            table.row([
                shard.name.clone(),
                self.ports[shard.port].name.clone(),
                shard.queue.to_string(),
                shard.lcore.to_string(),
                match shard.idle {
                    Idle::Busy => "busy".to_owned(),
                    Idle::Adaptive => "adaptive".to_owned(),
                },
                shard.listeners.len().to_string(),
                shard.clients.len().to_string(),
            ]);
        }
        table
    }

    fn listener_table(&self) -> Option<Table> {
        let mut table = Table::new("");
        table.row([
            "listener",
            "shard",
            "UDP",
            "identity",
            "clients show",
            "services",
        ]);
        let mut any = false;
        for shard in &self.shards {
            for listener in &shard.listeners {
                table.row(self.listener_row(&shard.name, listener));
                any = true;
            }
        }
        any.then_some(table)
    }

    fn listener_row(&self, shard: &str, listener: &ListenerPlan) -> [String; 6] {
        let client_auth = match &listener.client_auth {
            ClientAuthPlan::None => "nothing",
            ClientAuthPlan::Optional(_) => "maybe a certificate",
            ClientAuthPlan::Required(_) => "a certificate",
        };
        let services: Vec<String> = listener.services.iter().map(service).collect();
        [
            listener.name.clone(),
            shard.to_owned(),
            listener::any_address(listener.udp_port),
            self.identities[listener.identity].name.clone(),
            client_auth.to_owned(),
            services.join(", "),
        ]
    }

    fn client_table(&self) -> Option<Table> {
        let mut table = Table::new("<<<<>");
        table.row([
            "client",
            "shard",
            "server",
            "believed by",
            "connections",
            "load",
        ]);
        let mut any = false;
        for shard in &self.shards {
            for client in &shard.clients {
                table.row(self.client_row(&shard.name, client));
                any = true;
            }
        }
        any.then_some(table)
    }

    fn client_row(&self, shard: &str, client: &ClientPlan) -> [String; 6] {
        let trust = match &client.trust {
            TrustPlan::Anchors(files) => {
                let files: Vec<String> = files
                    .iter()
                    .map(|file| file.display().to_string())
                    .collect();
                files.join(", ")
            }
            TrustPlan::Identity(identity) => self.identities[*identity].name.clone(),
            TrustPlan::Fingerprint(bytes) => client::fingerprint(bytes)
                .chars()
                .take(15)
                .chain(['…'])
                .collect(),
            TrustPlan::Insecure => "nothing (insecure)".to_owned(),
        };
        [
            client.name.clone(),
            shard.to_owned(),
            format!("{} at {}", client.server_name, client.remote),
            trust,
            client.connections.to_string(),
            load(&client.load) + if client.early_data { ", 0-RTT" } else { "" },
        ]
    }
}

fn service(service: &ServicePlan) -> String {
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

fn load(load: &Load) -> String {
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

fn worst_case(worst: &WorstCase) -> [String; 2] {
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

fn limits(limits: &LimitsPlan) -> [String; 4] {
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

fn transport(transport: &TransportPlan) -> String {
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

fn streams(transport: &TransportPlan) -> String {
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

fn run(run: &RunPlan) -> String {
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
        "{end}; warm-up {}, drain {} at most",
        Interval(run.warmup),
        Interval(run.drain_timeout)
    )
}
