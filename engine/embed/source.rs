//! Where the configuration of an embedded engine comes from.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, Source};
use crate::plan::{Given, Plan};
use crate::run::TlsChecks;

/// What says which ports and shards there are.
#[derive(Debug, Clone)]
pub(super) enum Described {
    /// An in-process link, whose two ends have so many queues each.
    Link { queues: u16, lcores: Vec<u32> },
    /// A file.
    File(PathBuf),
    /// The text of one.
    Text(String),
}

impl Described {
    /// The plan, with EAL arguments that replace those of the file, if there are any.
    pub(super) fn plan(&self, eal: Vec<String>) -> Result<Plan, ConfigError> {
        let given = Given::new(eal, None);
        let (config, source) = self.load(&given)?;
        Plan::new(&config, &source, &given, &TlsChecks)
    }

    fn load(&self, given: &Given) -> Result<(Config, Source), ConfigError> {
        match self {
            Self::Link { queues, lcores } => {
                let first = given.cpus.first().copied().unwrap_or(0);
                let lcores = match lcores.as_slice() {
                    [] => &[first],
                    lcores => lcores,
                };
                Config::parse(Path::new("link"), link(*queues, lcores))
            }
            Self::File(file) => Config::load(file),
            Self::Text(text) => Config::parse(Path::new("text"), text.clone()),
        }
    }
}

/// A link between the ports `left` and `right`. Queue i of both ends is driven by the same lcore, in turns.
fn link(queues: u16, lcores: &[u32]) -> String {
    let list: Vec<String> = lcores.iter().map(u32::to_string).collect();
    let list = list.join(",");
    let memory = 256 + 128 * u32::from(queues);
    let mut text = format!(
        "eal: [\"-l\", \"{list}\", \"--no-huge\", \"-m\", \"{memory}\", \"--no-pci\"]\n\
         ports:\n\
         - {{ name: left, link: right, addresses: [\"fd00:5701::1/64\"], queues: {queues} }}\n\
         - {{ name: right, link: left, addresses: [\"fd00:5701::2/64\"], queues: {queues} }}\n\
         shards:\n"
    );
    for port in ["left", "right"] {
        for queue in 0..queues {
            let lcore = lcores[usize::from(queue) % lcores.len()];
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "- {{ name: {port}-{queue}, port: {port}, queue: {queue}, lcore: {lcore}, idle: adaptive }}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_make_plans() {
        for (queues, lcores) in [(1, vec![]), (1, vec![0]), (2, vec![0, 1])] {
            let described = Described::Link { queues, lcores };
            let plan = described.plan(Vec::new()).unwrap();
            assert_eq!(plan.ports.len(), 2);
            assert_eq!(plan.shards.len(), 2 * usize::from(queues));
        }
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        let text = Described::Text("ports: 5\n".to_owned());
        let error = text.plan(Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("text:1:"), "{error}");
        let absent = Described::File("/nonexistent.yaml".into());
        let error = absent.plan(Vec::new()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent.yaml"), "{error}");
    }
}
