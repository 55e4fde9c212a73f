//! Connections that are kept and shared.
mod back_off;
mod config;
mod error;
mod health;
mod keeper;
mod key;
mod opener;
mod peer;
mod roster;
mod shared;
mod slot;
mod state;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;

pub use config::{BackOff, Health, PoolConfig};
pub use error::{NewPoolError, OpenError, PoolError};
pub use key::{ClientId, PeerKey};
pub use stats::PoolStats;
