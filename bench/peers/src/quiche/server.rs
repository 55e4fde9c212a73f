//! The server: answers requests, and returns datagrams.

use std::collections::HashMap;
use std::error::Error;

use ::quiche::Connection;
use bench::field::peer::{HEADER, ServerSpec, ZEROES};

use super::config;
use super::endpoint::{Application, Endpoint};
use super::socket::{BUFFER, Socket};
use crate::report;

/// Serves as `spec` says.
pub fn serve(spec: &ServerSpec) -> Result<(), Box<dyn Error>> {
    let mut config = config(&spec.path)?;
    let utf8 = "the path of the identity is not UTF-8";
    config.load_cert_chain_from_pem_file(spec.path.certificate().to_str().ok_or(utf8)?)?;
    config.load_priv_key_from_pem_file(spec.path.key().to_str().ok_or(utf8)?)?;
    let socket = Socket::bind(spec.listen, !spec.path.no_segmentation)?;
    report::listening(socket.local().port())?;
    let mut endpoint = Endpoint::new(socket, config, true);
    let mut server = Server {
        buffer: vec![0; BUFFER],
    };
    loop {
        if !endpoint.turn(&mut server)? && !spec.path.busy {
            endpoint.wait(None)?;
        }
    }
}

struct Server {
    buffer: Vec<u8>,
}

/// The streams of a connection.
type Streams = HashMap<u64, Stream>;

/// A request that is being received, then its answer.
#[derive(Default)]
struct Stream {
    header: Vec<u8>,
    /// Bytes of the answer that are still to be sent, once the request is complete.
    left: Option<u64>,
}

impl Server {
    fn read(&mut self, connection: &mut Connection, id: u64, streams: &mut Streams) {
        let stream = streams.entry(id).or_default();
        while let Ok((count, finished)) = connection.stream_recv(id, &mut self.buffer) {
            let wanted = (HEADER - stream.header.len()).min(count);
            stream.header.extend_from_slice(&self.buffer[..wanted]);
            if finished {
                let header = <[u8; HEADER]>::try_from(&*stream.header);
                stream.left = Some(header.map_or(0, u64::from_be_bytes));
                write(connection, id, streams);
                return;
            }
        }
    }
}

/// Writes what the stream takes of its answer.
fn write(connection: &mut Connection, id: u64, streams: &mut Streams) {
    let Some(left) = streams.get_mut(&id).and_then(|stream| stream.left.as_mut()) else {
        return;
    };
    loop {
        let piece = (*left).min(ZEROES.len() as u64);
        let last = piece == *left;
        match connection.stream_send(id, &ZEROES[..piece as usize], last) {
            Ok(written) => {
                *left -= written as u64;
                if last && written as u64 == piece {
                    break;
                }
                if written == 0 {
                    return; // It will be writable again.
                }
            }
            Err(::quiche::Error::Done) => return, // As above.
            Err(_) => break,                      // Nobody wants it any more.
        }
    }
    streams.remove(&id);
}

impl Application for Server {
    type State = Streams;

    fn progress(&mut self, _slot: usize, connection: &mut Connection, streams: &mut Streams) {
        while let Ok(count) = connection.dgram_recv(&mut self.buffer) {
            // What the peer does not take shows at the client.
            let _ = connection.dgram_send(&self.buffer[..count]);
        }
        while let Some(id) = connection.stream_readable_next() {
            self.read(connection, id, streams);
        }
        while let Some(id) = connection.stream_writable_next() {
            write(connection, id, streams);
        }
    }

    fn ended(&mut self, _connection: &Connection, _streams: Streams) {}
}
