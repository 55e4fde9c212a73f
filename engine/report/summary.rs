//! The report as a table for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::{Latency, Report};
use crate::format::{bits_per_second, bytes, grouped};
use crate::table::Table;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.totals().fmt(f)?;
        if !self.lcores.is_empty() {
            writeln!(f)?;
            self.lcore_table().fmt(f)?;
        }
        if let Some(profile) = &self.profile {
            write!(f, "\n{profile}")?;
        }
        Ok(())
    }
}

impl Report {
    fn totals(&self) -> Table {
        let mut table = Table::new("");
        let mut row = |name: &str, text: String| table.row([name.to_owned(), text]);
        row("goodput", bits_per_second(self.goodput_gbps * 1e9));
        row(
            "application data",
            format!(
                "{} received, {} sent, in {:.2} s",
                bytes(self.bytes_received),
                bytes(self.bytes_sent),
                self.elapsed_s
            ),
        );
        let connections = &self.connections;
        row(
            "connections",
            format!(
                "{} accepted, {} opened, {} at the peak, {} refused, {} lost",
                grouped(connections.accepted),
                grouped(connections.opened),
                grouped(connections.peak),
                grouped(connections.refused),
                grouped(connections.lost)
            ),
        );
        row(
            "handshakes",
            format!("{:.1} a second", self.handshakes_per_s),
        );
        if let Some(Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        }) = self.latency_us
        {
            row(
                "latency",
                format!(
                    "p50 {p50:.1} µs, p90 {p90:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs, \
                     max {max:.1} µs"
                ),
            );
        }
        row(
            "frames received",
            format!(
                "{}: {} zero-copy, {} copied",
                grouped(self.rx.frames),
                grouped(self.rx.zero_copy),
                grouped(self.rx.copied)
            ),
        );
        row(
            "frames sent",
            format!(
                "{}: {} in place, {} copied; waited in {} turns",
                grouped(self.tx.frames),
                grouped(self.tx.in_place),
                grouped(self.tx.copied),
                grouped(self.tx.stalled)
            ),
        );
        // With one queue a port there is nothing to steer.
        if self
            .steering
            .values()
            .any(|steering| steering != "one_queue")
        {
            row("steering", self.steering_text());
        }
        row("dropped", dropped([&self.rx.dropped, &self.tx.dropped]));
        for (port, counts) in &self.nics {
            row(&format!("NIC of {port}"), counted(counts));
        }
        row(
            "QUIC",
            format!(
                "{} packets lost, {} congestion events, datagrams up to {} B",
                grouped(self.quic.lost_packets),
                grouped(self.quic.congestion_events),
                self.quic.mtu
            ),
        );
        let leak = if self.mbufs.in_use_at_exit > 0 {
            ": a leak"
        } else {
            ""
        };
        row(
            "mbufs",
            format!(
                "{} of {} in use at exit{leak}",
                grouped(self.mbufs.in_use_at_exit),
                grouped(self.mbufs.capacity)
            ),
        );
        table
    }

    fn steering_text(&self) -> String {
        let ports: Vec<String> = self
            .steering
            .iter()
            .map(|(port, steering)| format!("{port} {}", steering.replace('_', " ")))
            .collect();
        format!(
            "{}; {} datagrams handed over, {} found the other shard full",
            ports.join(", "),
            grouped(self.rx.handed_over),
            grouped(self.rx.handover_full)
        )
    }

    fn lcore_table(&self) -> Table {
        let mut table = Table::new("><>>>>>>");
        table.row([
            "lcore",
            "shard",
            "busy %",
            "ns/frame",
            "rx frames",
            "tx frames",
            "handed over",
            "taken over",
        ]);
        for lcore in &self.lcores {
            table.row([
                lcore.id.to_string(),
                lcore.shard.clone(),
                format!("{:.1}", lcore.busy_percent),
                format!("{:.0}", lcore.ns_per_frame),
                grouped(lcore.rx_frames),
                grouped(lcore.tx_frames),
                grouped(lcore.handed_over),
                grouped(lcore.taken_over),
            ]);
        }
        table
    }
}

fn dropped(maps: [&BTreeMap<String, u64>; 2]) -> String {
    counted(maps.into_iter().flatten())
}

fn counted<'a>(counts: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(name, &count)| format!("{name} {}", grouped(count)))
        .collect();
    if counts.is_empty() {
        "nothing".to_owned()
    } else {
        counts.join(", ")
    }
}
