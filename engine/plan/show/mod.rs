//! The plan as tables, for `engine check`.

mod nics;
mod words;

use std::fmt::{self, Display, Formatter};

use super::{
    ClientAuthPlan, ClientPlan, IdentitySource, ListenerPlan, OffloadPlan, Plan, PortKind,
    PortPlan, TrustPlan, TxPathPlan, client, listener, shard,
};
use crate::config::Idle;
use crate::format::bytes;
use crate::table::Table;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sections = [
            Some(self.general()),
            Some(self.port_table()),
            Some(self.offload_table()),
            nics::table(&self.ports),
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
        let [total, parts] = words::worst_case(&self.memory.worst_case);
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
        table.row(["transport", &words::transport(&self.transport)]);
        table.row(["streams", &words::streams(&self.transport)]);
        let ids = words::connection_ids(&self.connection_ids, &self.ports);
        table.row(["connection IDs", &ids]);
        for (index, line) in words::limits(&self.limits).iter().enumerate() {
            table.row([if index == 0 { "limits, a shard" } else { "" }, line]);
        }
        if let Some(metrics) = &self.metrics {
            let address = format!("http://{}/metrics", metrics.listen);
            table.row(["metrics", &address]);
        }
        table.row(["run", &words::run(&self.run)]);
        table
    }

    fn port_table(&self) -> Table {
        let mut table = Table::new("<<>><>>>>>>");
        table.row([
            "port",
            "kind",
            "MTU",
            "queues",
            "steering",
            "rx desc",
            "tx desc",
            "mbufs",
            "low mark",
            "data room",
            "burst",
            "tx path",
            "addresses",
        ]);
        for port in &self.ports {
            table.row(self.port_row(port));
        }
        table
    }

    fn port_row(&self, port: &PortPlan) -> [String; 13] {
        let kind = match &port.kind {
            PortKind::Device(name) => name.clone(),
            PortKind::Link { peer } => format!("link to {}", self.ports[*peer].name),
            PortKind::Emulated { peer, .. } => {
                format!("emulated NIC, to {}", self.ports[*peer].name)
            }
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
            both(port.pool.mbufs, port.tx_pool.map(|pool| pool.mbufs)),
            port.pool.low_mark.to_string(),
            both(port.pool.data_room, port.tx_pool.map(|pool| pool.data_room)),
            port.burst.to_string(),
            tx_path.to_owned(),
            addresses.join(", ") + &gateway,
        ]
    }

    /// What is asked of the devices.
    fn offload_table(&self) -> Table {
        let mut table = Table::new("");
        let names = OffloadPlan::default().wanted().map(|(name, _)| name);
        table.row(["offloads wanted"].into_iter().chain(names).chain(["vlan"]));
        for port in &self.ports {
            let vlan = match &port.offload.0.vlan {
                Some(vlan) => format!("{} ({})", vlan.id, vlan.mode),
                None => "off".to_owned(),
            };
            let modes = port.offload.wanted().map(|(_, mode)| mode.to_string());
            table.row([port.name.clone()].into_iter().chain(modes).chain([vlan]));
        }
        table
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
        let services: Vec<String> = listener.services.iter().map(words::service).collect();
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
            words::load(&client.load) + if client.early_data { ", 0-RTT" } else { "" },
        ]
    }
}

/// A number of the pool that is received into, and of the one that is sent from where it is another.
fn both(rx: impl Display, tx: Option<impl Display>) -> String {
    match tx {
        Some(tx) => format!("{rx}, tx {tx}"),
        None => rx.to_string(),
    }
}
