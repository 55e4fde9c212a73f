//! From the poll-mode driver up to UDP datagrams over IPv6, and back down.

mod transport;
pub mod wire;

pub use transport::{Datagram, Ecn, Path, Transmit, Transport};
