//! The engine from any thread: futures that need no particular runtime, with names and semantics as in quinn.
//!
//! ```text
//!   application threads                         a courier a shard                      the shard's lcore
//!
//!   Handle, Connection,    bounded queue of commands, one a shard ─────────────────►   Agent (an Application)
//!   SendStream, RecvStream                                                               │
//!        ▲                  fills queues,                 one batch of events a turn     │
//!        └──── wakes tasks ─ under locks ◄── Courier ◄───────────────────────────────────┘
//! ```
//!
//! Bytes cross as [`Bytes`](bytes::Bytes), in both directions, and are not copied: what is received may be packet memory
//! of the port. The lcore wakes nobody but, once a turn and only if it sleeps, the courier.
//!
//! # Backpressure
//!
//! Everything that waits is bounded ([`HandleLimits`]), and who meets a bound waits:
//!
//! * the queue of commands: whoever writes, sends a datagram or asks for statistics;
//! * what a stream has on the way to the shard, and behind that QUIC's send window: whoever writes to it;
//! * what was read ahead of a stream: the peer, by flow control; streams that nobody accepts likewise;
//! * unreliable datagrams that nobody reads: the oldest of them are dropped.
//!
//! # Dropping
//!
//! As in quinn: a dropped [`SendStream`] is finished, a dropped [`RecvStream`] stopped with code 0, and the last handle of
//! a connection closes it with code 0. Futures are cancel-safe where their documentation says so.

mod agent;
mod command;
mod config;
mod connecting;
mod connection;
mod courier;
mod datagrams;
mod error;
mod event;
mod inner;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
mod io;
mod limits;
mod link;
mod listener;
mod phases;
mod recv_stream;
mod round;
mod routes;
mod send_stream;
mod streams;
#[cfg(test)]
mod tests;
pub(crate) mod waiters;

use std::fmt;
use std::net::SocketAddrV6;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_channel::oneshot;
use quinn_proto::Side;
use rustls::pki_types::ServerName;

pub(crate) use self::agent::Agent;
use self::agent::Outbox;
use self::command::{Command, Listen, Unbegun};
pub use self::config::{ClientConfig, ServerConfig};
pub use self::connecting::{Connecting, ZeroRttAccepted};
pub use self::connection::Connection;
pub use self::courier::Courier;
use self::courier::courier;
pub use self::datagrams::{ReadDatagram, SendDatagram};
pub use self::error::{
    ClosedStream, ConnectError, ConnectionError, ListenError, ReadError, ReadExactError,
    ReadToEndError, SendDatagramError, StoppedError, WriteError,
};
use self::inner::Inner;
pub use self::limits::HandleLimits;
use self::link::{Link, link};
use self::listener::ListenerInner;
pub use self::listener::{AcceptConnection, Listener};
pub use self::phases::{Closed, HandshakeDone};
pub use self::recv_stream::RecvStream;
pub(crate) use self::routes::HandlePort;
pub use self::send_stream::SendStream;
pub use self::streams::{AcceptBi, AcceptUni, OpenBi, OpenUni};
use crate::app::ConnectTarget;
use crate::transport::TransportSettings;

/// The engine, as the rest of the program sees it. Clones are the same engine.
///
/// It does not keep the engine running: that is [`Engine`](crate::Engine)'s part. Once the engine has stopped, it fails
/// with `EngineStopped`.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    ports: Vec<HandlePort>,
    shards: Vec<Shard>,
    /// Counts connections, so that they are spread over shards.
    next: AtomicUsize,
    default_client: Mutex<Option<ClientConfig>>,
}

/// The way to a shard.
struct Shard {
    port: usize,
    link: Arc<Link>,
}

/// Makes the agent of a shard, on its lcore.
pub(crate) type NewAgent = Box<dyn FnOnce() -> Agent + Send>;

impl Handle {
    /// A handle to shards on `ports`, given by their index for each shard. The agents are to run on the shards, and the
    /// couriers, at most so many, until the agents are dropped.
    pub(crate) fn new(
        ports: Vec<HandlePort>,
        shards: impl IntoIterator<Item = usize>,
        limits: HandleLimits,
        couriers: usize,
    ) -> (Self, Vec<NewAgent>, Vec<Courier>) {
        let limits = limits.at_least_one();
        let mut commands = Vec::new();
        let shards = shards.into_iter().map(|port| {
            let (link, received) = link(limits);
            commands.push(received);
            Shard { port, link }
        });
        let shards: Vec<Shard> = shards.collect();
        let links: Vec<Arc<Link>> = shards.iter().map(|shard| Arc::clone(&shard.link)).collect();
        let each = links.len().div_ceil(couriers.max(1)).max(1);
        let parts = links.chunks(each).map(|links| courier(links.to_vec()));
        let (couriers, mailboxes): (Vec<_>, Vec<_>) = parts.unzip();
        let outboxes = mailboxes.into_iter().flatten().map(Outbox::new);
        let agents = commands.into_iter().zip(outboxes);
        let agents = agents.map(|(commands, outbox)| {
            Box::new(move || Agent::new(commands, outbox, limits)) as NewAgent
        });
        let agents = agents.collect();
        let shared = Shared {
            ports,
            shards,
            next: AtomicUsize::new(0),
            default_client: Mutex::new(None),
        };
        (Self(Arc::new(shared)), agents, couriers)
    }

    /// What [`connect`](Self::connect) uses from now on.
    pub fn set_default_client_config(&self, config: ClientConfig) {
        *self.default_client() = Some(config);
    }

    fn default_client(&self) -> std::sync::MutexGuard<'_, Option<ClientConfig>> {
        let lock = self.0.default_client.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a connection to `remote`, whose certificate has to be for `server_name`, with the default configuration.
    ///
    /// # Errors
    /// See [`ConnectError`]; what goes wrong later, the [`Connecting`] tells.
    pub fn connect(
        &self,
        remote: SocketAddrV6,
        server_name: &str,
    ) -> Result<Connecting, ConnectError> {
        let config = self.default_client().clone();
        let config = config.ok_or(ConnectError::NoDefaultClientConfig)?;
        self.connect_with(config, remote, server_name)
    }

    /// Begins a connection with a given configuration.
    ///
    /// It leaves by the port that has the address on its link, or else a gateway. Connections are spread over the shards
    /// of the port in turn.
    ///
    /// # Errors
    /// See [`ConnectError`]; what goes wrong later, the [`Connecting`] tells.
    pub fn connect_with(
        &self,
        config: ClientConfig,
        remote: SocketAddrV6,
        server_name: &str,
    ) -> Result<Connecting, ConnectError> {
        let port = routes::find(&self.0.ports, remote)?;
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.begin(port, turn, config, remote, server_name)
    }

    /// How many shards connections to `remote` can be spread over: those of the port that leads there.
    pub(crate) fn shards_to(&self, remote: SocketAddrV6) -> usize {
        let port = routes::find(&self.0.ports, remote).ok();
        port.map_or(1, |port| self.0.of_port(port).count())
    }

    /// The same as [`connect_with`](Self::connect_with), or without a configuration [`connect`](Self::connect), from a
    /// shard of the port that the caller chooses; their numbers go round.
    pub(crate) fn connect_from(
        &self,
        shard: usize,
        config: Option<ClientConfig>,
        remote: SocketAddrV6,
        server_name: &str,
    ) -> Result<Connecting, ConnectError> {
        let config = config.or_else(|| self.default_client().clone());
        let config = config.ok_or(ConnectError::NoDefaultClientConfig)?;
        let port = routes::find(&self.0.ports, remote)?;
        self.begin(port, shard, config, remote, server_name)
    }

    fn begin(
        &self,
        port: usize,
        shard: usize,
        config: ClientConfig,
        remote: SocketAddrV6,
        server_name: &str,
    ) -> Result<Connecting, ConnectError> {
        let shared = &*self.0;
        if ServerName::try_from(server_name).is_err() {
            let name = server_name.to_owned();
            return Err(ConnectError::InvalidServerName(name));
        }
        let link = shared.shard(port, shard);
        if link.is_stopped() {
            return Err(ConnectError::EngineStopped);
        }
        if link.is_swamped() {
            return Err(ConnectError::TooManyBegun);
        }
        let mut quinn = config.quinn;
        quinn.transport_config(shared.ports[port].transport(config.transport.as_ref())?);
        let target = ConnectTarget {
            remote,
            streams: config.transport.as_ref().map(TransportSettings::streams),
            server_name: server_name.to_owned(),
            config: quinn,
            early_data: config.early_data,
        };
        let inner = Arc::new(Inner::new(Arc::clone(link), Side::Client, remote));
        let connection = Connection::new(Arc::clone(&inner));
        link.send(Command::Connect(Box::new(target), Unbegun::new(inner)));
        Ok(Connecting::new(&connection))
    }

    /// Accepts connections on a UDP port, on all ports and shards of the engine. Choose one below 49152: from there on, the
    /// engine's outgoing connections have some, at random.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn listen(
        &self,
        udp_port: u16,
        config: ServerConfig,
    ) -> Result<Listener, ListenError> {
        let shared = &*self.0;
        let inner = ListenerInner::new(udp_port, config.backlog, shared.shards.len());
        let inner = Arc::new(inner);
        let links = shared.shards.iter().map(|shard| Arc::clone(&shard.link));
        // Dropped when a shard fails, or nobody waits any more: then no shard listens on.
        let listener = Listener::new(Arc::clone(&inner), links.collect());
        let mut replies = Vec::new();
        for shard in &shared.shards {
            let (server, streams) = config.on_port(&shared.ports[shard.port])?;
            let (reply, answer) = oneshot::channel();
            replies.push(answer);
            shard.link.send(Command::Listen(Box::new(Listen {
                udp_port,
                server,
                alpns: config.alpns.clone(),
                early_data: config.early_data,
                streams,
                listener: Arc::clone(&inner),
                reply,
            })));
        }
        for answer in replies {
            answer.await.unwrap_or(Err(ListenError::EngineStopped))?;
        }
        for port in &shared.ports {
            port.udp_ports.insert(udp_port);
        }
        Ok(listener)
    }

    /// True when the engine has stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.shards.iter().all(|shard| shard.link.is_stopped())
    }
}

impl Shared {
    fn of_port(&self, port: usize) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(move |shard| shard.port == port)
    }

    /// A shard of a port. Their numbers go round.
    fn shard(&self, port: usize, number: usize) -> &Arc<Link> {
        let number = number % self.of_port(port).count();
        // Every port has a shard, or no route would lead to it.
        &self.of_port(port).nth(number).expect("counted above").link
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("ports", &self.0.ports.len())
            .field("shards", &self.0.shards.len())
            .finish()
    }
}
