//! quinn-proto with as little around it as possible: one endpoint, one connection, one stream that never ends.
//!
//! It is what the engine is measured against: whatever a shard costs more than this is ours.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Instant;

use bytes::Bytes;
use poll::{Datagram, Ecn, Transmit, Transport};
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Dir, EcnCodepoint, Endpoint, Event, StreamEvent, StreamId,
};

use crate::memory::Bulk;
use crate::settings::{SERVER_NAME, Settings};

/// Bytes handed to quinn-proto in one write: one slice of memory that is never copied.
const PIECE: usize = 1 << 20;

pub(crate) static ZEROES: [u8; PIECE] = [0; PIECE];

/// One end of a bulk transfer on quinn-proto alone.
pub struct Bare {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, quinn_proto::Connection)>,
    udp_port: u16,
    stream: Option<StreamId>,
    /// Client: sends. Server: receives.
    sends: bool,
    /// Client: sends once MTU discovery has got here. quinn-proto probes only when it has nothing else to send, and a
    /// sender that is never held up would stay at a smaller MTU for a long time.
    mtu: u16,
    /// Something may have happened since the events were last looked at.
    dirty: bool,
    received: u64,
    scratch: Vec<u8>,
}

impl Bare {
    /// The end that connects to `remote` and sends without end.
    ///
    /// # Errors
    /// quinn-proto refuses the settings.
    pub fn sender(
        settings: &Settings,
        udp_port: u16,
        remote: SocketAddrV6,
    ) -> Result<Self, quinn_proto::ConnectError> {
        let mut bare = Self::new(settings, udp_port, true);
        let client = settings.client();
        let connection =
            bare.endpoint
                .connect(Instant::now(), client, SocketAddr::V6(remote), SERVER_NAME)?;
        bare.connection = Some(connection);
        Ok(bare)
    }

    /// The end that takes one connection and reads what it is sent.
    pub fn receiver(settings: &Settings, udp_port: u16) -> Self {
        Self::new(settings, udp_port, false)
    }

    fn new(settings: &Settings, udp_port: u16, sends: bool) -> Self {
        let server = (!sends).then(|| settings.server().into());
        Self {
            endpoint: Endpoint::new(settings.endpoint().into(), server, true, None),
            connection: None,
            udp_port,
            stream: None,
            sends,
            mtu: settings.udp_payload_max(),
            dirty: true,
            received: 0,
            scratch: Vec::with_capacity(16 << 10),
        }
    }

    /// Looks at what has happened, reads and writes.
    fn progress(&mut self) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut write = false;
        while let Some(event) = connection.poll() {
            match event {
                Event::Stream(StreamEvent::Writable { .. }) => write = true,
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    self.stream = connection.streams().accept(Dir::Uni);
                }
                _ => {}
            }
        }
        if self.sends && self.stream.is_none() && connection.current_mtu() == self.mtu {
            self.stream = connection.streams().open(Dir::Uni);
            write = true;
        }
        match self.stream {
            Some(stream) if self.sends => {
                while write {
                    let mut piece = [Bytes::from_static(&ZEROES)];
                    write = connection
                        .send_stream(stream)
                        .write_chunks(&mut piece)
                        .is_ok();
                }
            }
            Some(stream) => {
                let mut stream = connection.recv_stream(stream);
                if let Ok(mut chunks) = stream.read(true) {
                    while let Ok(Some(chunk)) = chunks.next(usize::MAX) {
                        self.received += chunk.bytes.len() as u64;
                    }
                    let _ = chunks.finalize();
                }
            }
            None => {}
        }
    }
}

impl Bulk for Bare {
    fn received(&self) -> u64 {
        self.received
    }

    fn is_sending(&self) -> bool {
        self.sends && self.stream.is_some()
    }

    fn lost_packets(&self) -> u64 {
        self.connection
            .as_ref()
            .map_or(0, |(_, connection)| connection.stats().path.lost_packets)
    }
}

impl Transport for Bare {
    fn receive(&mut self, now: Instant, datagram: Datagram) {
        self.dirty = true;
        let event = self.endpoint.handle(
            now,
            SocketAddr::V6(datagram.path.remote),
            Some(IpAddr::V6(datagram.path.local)),
            EcnCodepoint::from_bits(datagram.ecn as u8),
            datagram.payload,
            &mut self.scratch,
        );
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut self.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) if self.connection.is_none() => {
                self.connection = self
                    .endpoint
                    .accept(incoming, now, &mut self.scratch, None)
                    .ok();
            }
            _ => {}
        }
    }

    fn advance(&mut self, now: Instant) {
        if let Some((_, connection)) = &mut self.connection
            && connection.poll_timeout().is_some_and(|at| at <= now)
        {
            connection.handle_timeout(now);
            self.dirty = true;
        }
        if self.dirty {
            self.dirty = false;
            self.progress();
        }
    }

    fn transmit(
        &mut self,
        now: Instant,
        buf: &mut Vec<u8>,
        _segments_max: usize,
    ) -> Option<Transmit> {
        let (_, connection) = self.connection.as_mut()?;
        let transmit = connection.poll_transmit(now, 1, buf)?;
        let SocketAddr::V6(destination) = transmit.destination else {
            return None;
        };
        Some(Transmit {
            destination,
            source: None,
            source_udp_port: self.udp_port,
            ecn: transmit
                .ecn
                .map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8)),
            size: transmit.size,
            segment_size: None,
            departure: None,
        })
    }

    fn timeout(&mut self) -> Option<Instant> {
        self.connection.as_mut()?.1.poll_timeout()
    }
}
