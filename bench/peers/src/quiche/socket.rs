//! A kernel socket that sends and receives many datagrams in a call (GSO, GRO, recvmmsg).

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bench::scale::quinn_server::socket_at;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of a buffer: the largest super-packet.
pub const BUFFER: usize = 64 << 10;

/// A bound socket.
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    segments_max: usize,
    buffers: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Socket {
    /// Binds `address`; without `segmentation`, each datagram is sent in a call of its own.
    pub fn bind(address: SocketAddr, segmentation: bool) -> io::Result<Self> {
        let (socket, _) = socket_at(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        let segments_max = if segmentation {
            state.max_gso_segments()
        } else {
            1
        };
        Ok(Self {
            socket,
            state,
            local,
            segments_max,
            buffers: vec![0; BUFFER * BATCH_SIZE].into(),
            metas: [RecvMeta::default(); BATCH_SIZE],
        })
    }

    /// Where it is.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams of one size that a call sends.
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Hands what has come, at most a batch, to `take`, datagram by datagram. Returns whether something had.
    pub fn receive(&mut self, mut take: impl FnMut(&mut [u8], SocketAddr)) -> io::Result<bool> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = {
            let mut rest = self.buffers.chunks_mut(BUFFER);
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()))
        };
        let count = match self
            .state
            .recv((&self.socket).into(), &mut slices, &mut self.metas)
        {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (slice, meta) in slices.iter_mut().zip(&self.metas).take(count) {
            for datagram in slice[..meta.len].chunks_mut(meta.stride.max(1)) {
                take(datagram, meta.addr);
            }
        }
        Ok(count > 0)
    }

    /// Sends `bytes`, datagrams of `segment` bytes each, of which the last may be shorter. False: not now.
    pub fn send(&self, bytes: &[u8], segment: usize, destination: SocketAddr) -> io::Result<bool> {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > segment).then_some(segment),
            src_ip: None,
        };
        match self.state.try_send((&self.socket).into(), &transmit) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sleeps until something comes, or for `timeout`.
    pub fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            timeout.as_ref(),
        )?;
        Ok(())
    }

    /// Sleeps until something can be sent.
    pub fn wait_writable(&self) -> io::Result<()> {
        poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None)?;
        Ok(())
    }
}
