//! What is wrong with a configuration, where, and how to mend it.

use std::path::PathBuf;

/// A usage or configuration error: the process ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is wrong at one place of the file.
    #[error("{file}:{line}:{column}: {}{message}", Prefix(key))]
    At {
        /// The configuration file, as it was named.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, in characters, from 1.
        column: u64,
        /// Path of the key, such as `shards[1].lcore`; empty at the top of the file.
        key: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// Something is wrong with the EAL arguments of the command line.
    #[error("EAL arguments: {message}")]
    Eal {
        /// What is wrong and how to mend it.
        message: String,
    },
}

/// A key's path with the colon that follows it, or nothing at the top of the file.
struct Prefix<'a>(&'a str);

impl std::fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "{}: ", self.0)
        }
    }
}
