//! The bounds of what waits between a shard and its handles.

/// Bounds of the queues between a shard and the handles to its connections. 0 would let nothing through, and counts
/// as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleLimits {
    /// Commands that wait for a shard, of all handles together; with more, tasks wait.
    pub commands: usize,
    /// Bytes of a stream that are read ahead of its [`RecvStream`](super::RecvStream); with more, the peer is held up
    /// by flow control. They are packet memory, mostly. When the peer ends the connection, all that has come is handed
    /// on, as far as the windows of the transport settings let it come.
    pub read_ahead: usize,
    /// Bytes of a stream that are written ahead of what QUIC's send buffer takes; with more,
    /// [`write`](super::SendStream::write) waits.
    pub write_ahead: usize,
    /// Streams of the peer that wait to be accepted, of each direction and connection; with more, the peer gets no
    /// credit for new ones.
    pub streams: u32,
    /// Unreliable datagrams that wait to be read, of a connection; with more, the oldest of those behind them are
    /// dropped.
    pub datagrams: u32,
    /// Bytes of unreliable datagrams that wait to be sent, of a connection, each with 32 more than it has.
    pub datagram_bytes: usize,
}

impl HandleLimits {
    /// The bounds that hold.
    pub(super) fn at_least_one(self) -> Self {
        Self {
            commands: self.commands.max(1),
            read_ahead: self.read_ahead.max(1),
            write_ahead: self.write_ahead.max(1),
            streams: self.streams.max(1),
            datagrams: self.datagrams.max(1),
            datagram_bytes: self.datagram_bytes.max(1),
        }
    }
}

impl Default for HandleLimits {
    fn default() -> Self {
        Self {
            commands: 4_096,
            read_ahead: 512 * 1024,
            write_ahead: 512 * 1024,
            streams: 256,
            datagrams: 512,
            datagram_bytes: 256 * 1024,
        }
    }
}
