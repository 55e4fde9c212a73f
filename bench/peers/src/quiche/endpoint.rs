//! The loop: what has come is handed to connections, timers fire, the application reads and writes, and what they have
//! to say is sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use ::quiche::{Config, Connection, RecvInfo};

use super::connections::{Connections, Destination};
use super::socket::{BUFFER, Socket};

/// What an application does with connections.
pub trait Application {
    /// What it keeps for each.
    type State: Default;

    /// Something may have happened on this connection: reads and writes.
    fn progress(&mut self, slot: usize, connection: &mut Connection, state: &mut Self::State);

    /// A connection ended.
    fn ended(&mut self, connection: &Connection, state: Self::State);
}

/// A socket and its connections.
pub struct Endpoint<S> {
    socket: Socket,
    config: Config,
    /// Whether it accepts connections.
    server: bool,
    connections: Connections<S>,
    /// Times, slots and their generations.
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    /// Empty, but for its room.
    spare: Vec<usize>,
    out: Vec<u8>,
}

impl<S: Default> Endpoint<S> {
    /// An endpoint that accepts connections, or does not.
    pub fn new(socket: Socket, config: Config, server: bool) -> Self {
        Self {
            socket,
            config,
            server,
            connections: Connections::new(),
            timers: BinaryHeap::new(),
            spare: Vec::new(),
            out: vec![0; BUFFER],
        }
    }

    /// Begins a connection; `session` is what an earlier one left to resume.
    pub fn connect(
        &mut self,
        server_name: &str,
        remote: SocketAddr,
        session: Option<&[u8]>,
    ) -> ::quiche::Result<usize> {
        let (id, local) = (self.connections.make_id(), self.socket.local());
        let mut connection =
            ::quiche::connect(Some(server_name), &id, local, remote, &mut self.config)?;
        if let Some(session) = session {
            connection.set_session(session)?;
        }
        Ok(self.connections.insert(connection, vec![id.to_vec()]))
    }

    /// Does `what` with a connection that is still there, which then may have something to send.
    pub fn with<R>(
        &mut self,
        slot: usize,
        what: impl FnOnce(&mut Connection, &mut S) -> R,
    ) -> Option<R> {
        self.connections.mark(slot);
        let entry = self.connections.get_mut(slot)?;
        Some(what(&mut entry.connection, &mut entry.state))
    }

    /// Ends a connection, says so to its peer, and forgets it.
    pub fn close(&mut self, slot: usize) -> io::Result<()> {
        if let Some(entry) = self.connections.get_mut(slot) {
            // Fails only if it was closed before.
            let _ = entry.connection.close(true, 0, b"");
            self.flush(slot)?;
            self.connections.remove(slot);
        }
        Ok(())
    }

    /// Receives, tells the application, and sends. Returns whether anything moved.
    pub fn turn(&mut self, application: &mut impl Application<State = S>) -> io::Result<bool> {
        let received = self.receive()?;
        self.expire(Instant::now());
        let mut marked = self
            .connections
            .take_marked(std::mem::take(&mut self.spare));
        let moved = received || !marked.is_empty();
        for slot in marked.drain(..) {
            let Some(entry) = self.connections.get_mut(slot) else {
                continue;
            };
            application.progress(slot, &mut entry.connection, &mut entry.state);
            if entry.connection.is_closed() {
                if let Some(entry) = self.connections.remove(slot) {
                    application.ended(&entry.connection, entry.state);
                }
                continue;
            }
            self.flush(slot)?;
            self.schedule(slot);
        }
        self.spare = marked;
        Ok(moved)
    }

    /// Sleeps until something comes or is due, at most until `until`.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<()> {
        let due = self.timers.peek().map(|Reverse((at, _, _))| *at);
        let due = due.into_iter().chain(until).min();
        let timeout = due.map(|at| at.saturating_duration_since(Instant::now()));
        self.socket.wait_readable(timeout)
    }

    fn receive(&mut self) -> io::Result<bool> {
        let to = self.socket.local();
        let (connections, config, server) = (&mut self.connections, &mut self.config, self.server);
        self.socket.receive(|datagram, from| {
            let slot = match connections.destination(datagram) {
                Destination::Slot(slot) => slot,
                Destination::New(theirs) if server => {
                    let ours = connections.make_id();
                    let Ok(connection) = ::quiche::accept(&ours, None, to, from, config) else {
                        return;
                    };
                    connections.insert(connection, vec![ours.to_vec(), theirs])
                }
                Destination::New(_) | Destination::Nobody => return,
            };
            if let Some(entry) = connections.get_mut(slot) {
                // What cannot be opened is dropped, as by any endpoint.
                let _ = entry.connection.recv(datagram, RecvInfo { from, to });
                connections.mark(slot);
            }
        })
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&Reverse((at, slot, generation))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if let Some(entry) = self.connections.get_mut(slot)
                && entry.generation == generation
                && entry.timer == Some(at)
            {
                entry.timer = None;
                entry.connection.on_timeout();
                self.connections.mark(slot);
            }
        }
    }

    /// Has a connection looked at when its time comes. A timer that was moved back fires all the same, finds nothing to
    /// do, and is set anew: that is cheaper than to move it with every packet.
    fn schedule(&mut self, slot: usize) {
        if let Some(entry) = self.connections.get_mut(slot)
            && let Some(at) = entry.connection.timeout_instant()
            && entry.timer.is_none_or(|timer| at < timer)
        {
            entry.timer = Some(at);
            self.timers.push(Reverse((at, slot, entry.generation)));
        }
    }

    /// Sends what a connection has, in batches of full datagrams.
    fn flush(&mut self, slot: usize) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let connection = &mut entry.connection;
        loop {
            let full = connection.max_send_udp_payload_size();
            let room = self.out.len().min(full * self.socket.segments_max());
            let (mut filled, mut segment, mut destination) = (0, 0, None);
            // An error is one that the connection's state tells, too.
            while filled + full <= room
                && let Ok((size, info)) = connection.send(&mut self.out[filled..filled + full])
            {
                if filled == 0 {
                    segment = size;
                    destination = Some(info.to);
                }
                filled += size;
                if size < full {
                    break; // Only the last of a batch may be shorter.
                }
            }
            let Some(destination) = destination else {
                return Ok(());
            };
            while !self
                .socket
                .send(&self.out[..filled], segment, destination)?
            {
                self.socket.wait_writable()?; // quiche takes no packet back.
            }
        }
    }
}
