//! One connection of a shard: quinn-proto's state machine, and where it stands in ours.

use std::cell::OnceCell;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use quinn_proto::{ConnectionHandle, Dir, Side};

use super::samples::{Acknowledged, KnownCell};
use super::streams::Grants;
use crate::app::ConnectionKey;
use crate::tls::PeerIdentity;

/// How far the application is involved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handshake runs; the application has not been told.
    Handshaking,
    /// The handshake runs, and the application already works with 0-RTT data.
    Early,
    /// The handshake is complete and the application has been told.
    Open,
    /// The application has been told of the end, or was never told of the beginning. What is left is to send the
    /// close and to absorb what the peer still sends (RFC 9000 §10.2).
    Closed,
}

/// A connection and its place in the shard's lists.
pub(crate) struct Entry {
    pub(crate) key: ConnectionKey,
    /// Boxed: entries stay small enough to be looked through, and do not move kilobytes.
    pub(crate) quinn: Box<quinn_proto::Connection>,
    /// How the endpoint calls the connection.
    pub(crate) handle: ConnectionHandle,
    /// Index of the endpoint.
    pub(crate) endpoint: u16,
    /// Which of the endpoint's listeners the connection came to.
    pub(crate) generation: u32,
    /// The largest unreliable datagram that our own send buffer takes; 0 when there is none.
    pub(crate) datagram_max: usize,
    /// Our UDP port. One of the endpoint's.
    pub(crate) udp_port: u16,
    /// The address to send from where quinn-proto names none; `None` leaves the choice to the host.
    pub(crate) source: Option<Ipv6Addr>,
    /// Index of the application; `None` on a server until ALPN has chosen a service.
    pub(crate) application: Option<u16>,
    /// The service takes 0-RTT data (server), or the application asked to send some (client).
    pub(crate) early_data: bool,
    pub(crate) phase: Phase,
    /// The negotiated protocol, empty until it is known.
    pub(crate) alpn: Vec<u8>,
    pub(crate) identity: OnceCell<Option<Box<PeerIdentity>>>,
    /// The handshake is complete.
    pub(crate) established: bool,
    /// Events came before the application was told of the connection.
    pub(crate) withheld: bool,
    /// What the peer may open.
    pub(crate) grants: Grants,
    /// Bidirectional streams that we opened and whose other direction has not ended.
    pub(crate) awaited: u32,
    /// Streams that we opened in quinn-proto ahead of their use.
    pub(crate) reserved: u32,
    /// The application closed the connection.
    pub(crate) closing: bool,
    /// The endpoint has forgotten the connection: its handle may name another one by now.
    pub(crate) drained: bool,
    /// In the list of connections whose events are to be looked at.
    pub(crate) dirty: bool,
    /// Something happened after which there may be something to send.
    pub(crate) touched: bool,
    /// In the list of connections that may have something to send.
    pub(crate) ready: bool,
    /// Datagrams built in the present turn.
    pub(crate) turn: u16,
    /// What is built leaves then, and not at once: see [`AHEAD_MAX`](super::transmit).
    pub(crate) departure: Option<Instant>,
    /// What of its statistics is counted.
    pub(super) known: KnownCell,
    /// Whether its peer acknowledges what is sent to it.
    pub(super) acknowledged: Acknowledged,
}

impl Entry {
    pub(crate) fn new(
        key: ConnectionKey,
        endpoint: u16,
        udp_port: u16,
        handle: ConnectionHandle,
        mut connection: quinn_proto::Connection,
        grants: Grants,
    ) -> Self {
        Self {
            // Nothing is in it yet.
            datagram_max: connection.datagrams().send_buffer_space(),
            key,
            quinn: Box::new(connection),
            handle,
            endpoint,
            generation: 0,
            udp_port,
            source: None,
            application: None,
            early_data: false,
            phase: Phase::Handshaking,
            alpn: Vec::new(),
            identity: OnceCell::new(),
            established: false,
            withheld: false,
            grants,
            awaited: 0,
            reserved: 0,
            closing: false,
            drained: false,
            dirty: false,
            touched: false,
            ready: false,
            turn: 0,
            departure: None,
            known: KnownCell::default(),
            acknowledged: Acknowledged::default(),
        }
    }

    /// The peer's address now.
    pub(crate) fn remote_address(&self) -> SocketAddrV6 {
        v6(self.quinn.remote_address())
    }

    /// True when `remote` is not where the peer was last.
    pub(crate) fn has_moved(&self, remote: SocketAddrV6) -> bool {
        canonical(self.remote_address()) != canonical(remote)
    }

    /// The peer's identity, looked up at the first call after the handshake has verified it.
    pub(crate) fn peer_identity(&self) -> Option<&PeerIdentity> {
        if self.identity.get().is_none() {
            let session = self.quinn.crypto_session();
            let found = session.peer_identity().and_then(PeerIdentity::from_session);
            if found.is_none() && self.quinn.is_handshaking() {
                return None; // It may still come.
            }
            let _ = self.identity.set(found.map(Box::new));
        }
        self.identity.get()?.as_deref()
    }

    /// Whether 0-RTT data was accepted. quinn-proto says so on the client; on a server it has the keys only if so.
    pub(crate) fn accepted_early_data(&self) -> bool {
        match self.quinn.side() {
            Side::Client => self.quinn.accepted_0rtt(),
            Side::Server => self.quinn.has_0rtt(),
        }
    }

    /// True for an incoming connection whose handshake is in flight.
    pub(crate) fn is_incoming(&self) -> bool {
        self.is_handshaking() && self.quinn.side() == Side::Server
    }

    /// True for a connection whose handshake is in flight.
    pub(crate) fn is_handshaking(&self) -> bool {
        !self.established && self.phase != Phase::Closed
    }

    /// True when no stream of the connection is in use: nothing of ours is unacknowledged, nothing of the peer's
    /// unread, and no answer awaited. A stream that is only reserved is not in use.
    pub(crate) fn is_idle(&mut self) -> bool {
        let streams = self.quinn.streams();
        self.awaited == 0
            && streams.send_streams() <= self.reserved as usize
            && streams.remote_open_streams(Dir::Bi) == 0
            && streams.remote_open_streams(Dir::Uni) == 0
    }
}

/// The IPv6 address of a peer. The shard hands quinn-proto nothing else, so the mapping of IPv4 never happens.
pub(crate) fn v6(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V6(address) => address,
        SocketAddr::V4(address) => {
            SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0)
        }
    }
}

/// `address` with nothing in it but what packets carry, so that equal peers compare equal.
pub(crate) fn canonical(address: SocketAddrV6) -> SocketAddrV6 {
    SocketAddrV6::new(*address.ip(), address.port(), 0, 0)
}

/// A socket address of quinn-proto's kind.
pub(crate) fn any(address: SocketAddrV6) -> SocketAddr {
    SocketAddr::V6(canonical(address))
}

/// The IPv6 address in a source that quinn-proto chose, if any.
pub(crate) fn source(address: Option<std::net::IpAddr>) -> Option<Ipv6Addr> {
    match address {
        Some(std::net::IpAddr::V6(address)) => Some(address),
        _ => None,
    }
}
