//! What clients are to do.

use std::time::Duration;

use stoq::app::{ConnectTarget, Dir};

/// A connection to be.
#[derive(Debug, Clone)]
pub struct ConnectionPlan {
    /// Its number in the world.
    pub number: u32,
    /// When, from the start of the world.
    pub start: Duration,
    pub target: ConnectTarget,
    pub streams: Vec<StreamPlan>,
    /// At most so many at a time.
    pub outstanding: usize,
    /// How long nothing is begun after a request, if at all.
    pub pause: Duration,
    /// Unreliable datagrams, and the bytes in each.
    pub datagrams: u16,
    pub datagram_size: u64,
    pub update_keys: bool,
    pub ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Closed when all is done.
    Close,
    /// Left open when all is done.
    Idle,
    /// Closed so long after the handshake, done or not.
    Cut(Duration),
}

/// A stream to be. At most one of the things that end it early.
#[derive(Debug, Clone, Copy)]
pub struct StreamPlan {
    pub dir: Dir,
    pub upload: u32,
    pub download: u32,
    pub server_stops: u32,
    pub server_resets: u32,
    pub server_closes: bool,
    pub client_stops: u32,
    pub client_resets: u32,
    pub slow_server: bool,
    pub slow_client: bool,
}
