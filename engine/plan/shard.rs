//! Shards: a queue pair of a port, driven by an lcore.

use serde::Serialize;

use super::client::ClientPlan;
use super::eal::Arguments;
use super::listener::ListenerPlan;
use super::names;
use super::port::PortPlan;
use crate::config::{Config, ConfigError, Idle, Shard, Source};

/// Shards of a process: connection IDs name them in one byte.
const SHARDS_MAX: usize = 256;

/// A shard.
#[derive(Debug, Clone, Serialize)]
pub struct ShardPlan {
    /// Its name in the file.
    pub name: String,
    /// Index of its port.
    pub port: usize,
    /// Its queue pair of that port; no other shard has it.
    pub queue: u16,
    /// The lcore that drives it. One lcore may drive shards of several ports, all with the same `idle`.
    pub lcore: u32,
    /// What the lcore does when there is no work.
    pub idle: Idle,
    /// UDP port that its clients send from; 0: those of its port. Shards of a port may have the same: connection IDs
    /// tell them apart.
    pub client_udp_port: u16,
    /// UDP ports on which it accepts connections.
    pub listeners: Vec<ListenerPlan>,
    /// What it drives against servers.
    pub clients: Vec<ClientPlan>,
}

/// Plans all shards; listeners and clients are added later.
pub(super) fn plan(
    config: &Config,
    source: &Source,
    eal: &Arguments<'_>,
    ports: &[PortPlan],
) -> Result<Vec<ShardPlan>, ConfigError> {
    if config.shards.is_empty() {
        return Err(source.error("shards", "there is no shard; give one for each port"));
    }
    if config.shards.len() > SHARDS_MAX {
        let message = format!(
            "{} shards are too many: connection IDs name a shard in one byte; give at most {SHARDS_MAX}",
            config.shards.len()
        );
        return Err(source.error("shards", message));
    }
    names::unique(
        source,
        "shards",
        config.shards.iter().map(|shard| shard.name.as_str()),
    )?;
    let mut shards: Vec<ShardPlan> = Vec::with_capacity(config.shards.len());
    for (index, shard) in config.shards.iter().enumerate() {
        let at = |key: &str| format!("shards[{index}].{key}");
        let all = ports.iter().map(|port| port.name.as_str());
        let port = names::find(source, &at("port"), "port", &shard.port, all)?;
        if shard.queue >= ports[port].queues {
            let (name, queues) = (&ports[port].name, ports[port].queues);
            let message = format!(
                "the port `{name}` has {queues} queues, counted from 0; raise its `queues`, or \
                 choose a lower one"
            );
            return Err(source.error(at("queue"), message));
        }
        lcore(source, at("lcore"), shard, eal.lcores())?;
        conflict(source, index, shard, port, &shards, ports)?;
        shards.push(ShardPlan {
            name: shard.name.clone(),
            port,
            queue: shard.queue,
            lcore: shard.lcore,
            idle: shard.idle,
            client_udp_port: shard.client_udp_port.unwrap_or(0),
            listeners: Vec::new(),
            clients: Vec::new(),
        });
    }
    Ok(shards)
}

fn lcore(source: &Source, key: String, shard: &Shard, lcores: &[u32]) -> Result<(), ConfigError> {
    if lcores.contains(&shard.lcore) {
        return Ok(());
    }
    let message = format!(
        "lcore {} is not in EAL's core list {}; add it to `-l`, or choose another",
        shard.lcore,
        ranges(lcores)
    );
    Err(source.error(key, message))
}

/// Compares a shard with those before it.
fn conflict(
    source: &Source,
    index: usize,
    shard: &Shard,
    port: usize,
    before: &[ShardPlan],
    ports: &[PortPlan],
) -> Result<(), ConfigError> {
    for other in before {
        if other.port == port && other.queue == shard.queue {
            let message = format!(
                "the shard `{}` has queue {} of the port `{}` already, and a queue is polled by \
                 one shard; choose another queue",
                other.name, shard.queue, ports[port].name
            );
            // Where the queue is left to its default, the shard as a whole is pointed at.
            return Err(source.error(format!("shards[{index}].queue"), message));
        }
        if other.lcore != shard.lcore {
            continue;
        }
        if other.port == port {
            let message = format!(
                "lcore {} drives the shard `{}` of the same port already; one lcore gains nothing \
                 from a second queue: choose another lcore",
                shard.lcore, other.name
            );
            return Err(source.error(format!("shards[{index}].lcore"), message));
        }
        if other.idle != shard.idle {
            let message = format!(
                "the shard `{}` on the same lcore {} has another `idle`; make them equal",
                other.name, shard.lcore
            );
            return Err(source.error(format!("shards[{index}].idle"), message));
        }
    }
    Ok(())
}

/// `0-1,4` of ascending numbers.
pub(super) fn ranges(numbers: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .zip(first..)
            .take_while(|&(&number, expected)| number == expected);
        let length = run.count();
        let last = rest[length - 1];
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&match length {
            1 => first.to_string(),
            _ => format!("{first}-{last}"),
        });
        rest = &rest[length..];
    }
    if text.is_empty() {
        "(empty)".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_as_ranges() {
        assert_eq!(ranges(&[]), "(empty)");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }
}
