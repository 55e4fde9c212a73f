//! What runs on a shard: the application interface.
//!
//! An [`Application`] is a state machine that the shard calls on its lcore: once for each thing that happened to one
//! of its connections, with that [`Connection`] borrowed for the call. It must not block and it never waits; what it
//! cannot do now, it does in the callback that follows. Nothing it writes is built into packets until the driver has
//! room, so a write costs no system call, lock or copy beyond the one into the send buffer.
//!
//! ```text
//!   connected ──> opened / readable / writable / datagrams … ──> ending ──> closed  for each connection
//!   run (at start, then when timeout() is due)  page_faults  stop              for the application
//! ```

mod connection;

use std::net::SocketAddrV6;
use std::time::Instant;

use bytes::Bytes;
pub use connection::{Connection, Read, ReadEnd, ReadError, WriteError};
pub use quinn_proto::{
    ConnectError, ConnectionError, ConnectionStats, Dir, SendDatagramError, Side, StreamId, VarInt,
};

use crate::shard::{Core, ShardError};
use crate::transport::StreamLimits;

/// What runs on a shard: one instance for each listener service, client or agent, and shard.
///
/// An instance is made on the lcore that calls it ([`NewApplication`]) and never leaves it: it needs no `Send` and no
/// lock. A callback that panics costs the connection it
/// was called for (closed with [`PANICKED`]), not the shard; one that panics outside of a connection's callback
/// costs all connections of the application, and it is not run again.
pub trait Application {
    /// A connection is ready for streams and datagrams. First call for its key, except for a client connection that
    /// failed before (there, [`closed`](Self::closed) is the only one).
    ///
    /// Server: the handshake is complete; if the service allows 0-RTT and the peer uses it, this is called before
    /// ([`Connection::is_early_data`]) and [`handshake_done`](Self::handshake_done) follows. Client: the handshake is
    /// complete; if [`ConnectTarget::early_data`] was asked for and the session is resumable, this is called before.
    ///
    /// Early data can be replayed by an attacker (RFC 9001 §9.2): act on it only where that does no harm.
    fn connected(&mut self, _connection: &mut Connection<'_>) {}

    /// The handshake of a connection that was [`connected`](Self::connected) early is complete now.
    ///
    /// Client: when [`Connection::accepted_early_data`] is false the server has refused the early data; every stream
    /// opened until now is gone without further callbacks, and the application starts again.
    fn handshake_done(&mut self, _connection: &mut Connection<'_>) {}

    /// The peer opened streams: call [`Connection::accept`] until it returns `None`. An accepted stream may already
    /// hold data for which no [`readable`](Self::readable) follows, so read it at once.
    fn opened(&mut self, _connection: &mut Connection<'_>, _dir: Dir) {}

    /// Data, the end, or a reset arrived on a stream. Called once for all that arrived: read until
    /// [`ReadEnd::Blocked`], or come back to it by yourself.
    fn readable(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// A stream on which a write was blocked may take data again.
    fn writable(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// The peer has acknowledged everything of a stream that we finished.
    fn finished(&mut self, _connection: &mut Connection<'_>, _id: StreamId) {}

    /// The peer does not want more of a stream of ours. Whatever is written to it from now on fails.
    fn stopped(&mut self, _connection: &mut Connection<'_>, _id: StreamId, _code: VarInt) {}

    /// The peer permits more streams: [`Connection::open`] may succeed again.
    fn available(&mut self, _connection: &mut Connection<'_>, _dir: Dir) {}

    /// Unreliable datagrams arrived: call [`Connection::recv_datagram`] until it returns `None`.
    fn datagrams(&mut self, _connection: &mut Connection<'_>) {}

    /// An unreliable datagram that was [blocked](SendDatagramError::Blocked) may be sent now.
    fn datagrams_unblocked(&mut self, _connection: &mut Connection<'_>) {}

    /// The peer has ended the connection, or it was lost, and [`closed`](Self::closed) follows at once: what it has
    /// received and nobody has read can be read now, and never again. Nothing can be sent.
    fn ending(&mut self, _connection: &mut Connection<'_>) {}

    /// The connection is gone: the last call for this key, whoever ended it (after our own
    /// [`close`](Connection::close) the reason is [`ConnectionError::LocallyClosed`]).
    fn closed(&mut self, _key: ConnectionKey, _reason: &ConnectionError) {}

    /// When [`run`](Self::run) is wanted next. Asked again after every call into this application; an instant that
    /// has passed asks for the next turn of the worker's loop.
    fn timeout(&self) -> Option<Instant> {
        None
    }

    /// Whether [`run`](Self::run) is wanted in every turn of the worker's loop: for applications that other threads
    /// talk to. Asked once, when the application is added. It wakes nobody: on a shard with nothing to do, the next turn
    /// comes when the worker's idle policy wants it.
    fn every_turn(&self) -> bool {
        false
    }

    /// Called once at the start, and then whenever [`timeout`](Self::timeout) is due, or in
    /// [every turn](Self::every_turn).
    fn run(&mut self, _shard: &mut Context<'_>) {}

    /// The number of page faults taken in mapped files moved: a file was truncated while it was sent. The datagram
    /// that was just built is thrown away. Look at which mapping it was, and reset the streams that send from it.
    fn page_faults(&mut self, _shard: &mut Context<'_>) {}

    /// The shard shuts down: start nothing new. Connections without a stream in use are closed at once, others when
    /// their streams are done, all of them when the drain time-out has passed.
    fn stop(&mut self, _shard: &mut Context<'_>) {}

    /// Clients of the binary's configuration: all work is done. The process ends when every one of them says so.
    fn is_finished(&self) -> bool {
        false
    }
}

/// Makes an application, on the thread of the lcore that will call it.
pub type NewApplication = Box<dyn FnOnce() -> Box<dyn Application> + Send>;

/// What makes an application, from a function that does. An application that is `Send` can be made before:
/// `from_fn(move || application)`.
pub fn from_fn<A: Application + 'static>(
    make: impl FnOnce() -> A + Send + 'static,
) -> NewApplication {
    Box::new(move || Box::new(make()))
}

/// The application error code with which a connection is closed whose application panicked.
pub const PANICKED: VarInt = VarInt::from_u32(0x50_41_4e_43);

/// Names a connection of one shard. Never used again while the shard lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    pub(crate) index: u32,
    pub(crate) serial: u64,
}

/// Where a client connects to, and how.
#[derive(Debug, Clone)]
pub struct ConnectTarget {
    /// The server's address and UDP port.
    pub remote: SocketAddrV6,
    /// The name sent in TLS (SNI), and looked for in the server's certificate.
    pub server_name: String,
    /// Streams that the server may have open, when the transport settings of `config` have limits of their own
    /// ([`TransportSettings::streams`](crate::transport::TransportSettings::streams)); `None`: those of the shard.
    pub streams: Option<StreamLimits>,
    /// TLS and transport settings; [`tls::client_config`](crate::tls::client_config) makes the former.
    pub config: quinn_proto::ClientConfig,
    /// Use 0-RTT when a session with this server can be resumed.
    pub early_data: bool,
}

/// The shard as an application sees it outside of a connection's callback.
pub struct Context<'a> {
    core: &'a mut Core,
    application: u16,
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut Core, application: u16) -> Self {
        Self { core, application }
    }

    /// The time of this turn of the loop.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// Starts a connection. [`Application::connected`] or [`Application::closed`] follows.
    ///
    /// Fails when the target makes no sense, when the shard is at its limit of connections
    /// ([`ConnectError::CidsExhausted`]), and when it is shutting down ([`ConnectError::EndpointStopping`]).
    pub fn connect(&mut self, target: &ConnectTarget) -> Result<ConnectionKey, ConnectError> {
        self.core.connect(target, self.application)
    }

    /// Accepts connections on a UDP port from now on, all of them for this application; `alpns` are the protocols it
    /// speaks, each with whether it takes 0-RTT data, and must be those of `server`; `streams` is what a client may have
    /// open, as in [`ListenerConfig::streams`](crate::shard::ListenerConfig::streams). For what several shards that listen
    /// on one UDP port must have in common see [`ListenerConfig::server`](crate::shard::ListenerConfig::server).
    ///
    /// For the engine's own handles: nothing that is public opens the UDP port on its host.
    ///
    /// The worker has to let the UDP port through ([`poll::host::HostConfig::udp_ports`]).
    ///
    /// # Errors
    /// UDP port 0, or one that another listener or the clients have; no protocol, or one twice; no random numbers.
    #[doc(hidden)]
    pub fn listen(
        &mut self,
        udp_port: u16,
        server: quinn_proto::ServerConfig,
        alpns: Vec<(Vec<u8>, bool)>,
        streams: Option<StreamLimits>,
    ) -> Result<(), ShardError> {
        let application = self.application;
        self.core
            .listen(application, udp_port, server, alpns, streams)
    }

    /// Accepts no more connections on a UDP port that this application [listens](Self::listen) on; does nothing on
    /// others. Connections live on, so the worker has to let the UDP port through until they are gone; whoever comes
    /// anew is refused.
    #[doc(hidden)]
    pub fn unlisten(&mut self, udp_port: u16) {
        self.core.unlisten(self.application, udp_port);
    }

    /// Ends a connection of this application at once, also one that it has begun and of which the handshake runs: one
    /// that [`connection`](Self::connection) does not lend yet. [`Application::closed`] follows.
    pub fn close(&mut self, key: ConnectionKey, code: VarInt, reason: Bytes) {
        self.core.close(key, self.application, code, reason);
    }

    /// A live connection of this application; `None` while its handshake runs, and when it is closed.
    pub fn connection(&mut self, key: ConnectionKey) -> Option<Connection<'_>> {
        self.core.connection(key, self.application)
    }
}
