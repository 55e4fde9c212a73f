//! Datagrams of a flood, made beforehand: sending one is a copy.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::{Endpoint, EndpointConfig};

use crate::memory::LEFT;
use crate::settings::SERVER_NAME;

/// Where the destination connection ID of an Initial packet begins: behind the first byte, the version and the length
/// of the ID (RFC 9000 §17.2.2).
const DCID_AT: usize = 6;

/// First datagrams of `count` connections that nobody goes on with: valid Initial packets with a ClientHello, each with
/// connection IDs of its own.
///
/// # Errors
/// quinn-proto refuses to connect, or sends nothing.
pub fn valid(
    count: usize,
    config: &quinn_proto::ClientConfig,
) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
    (0..count)
        .map(|_| {
            let mut datagram = Vec::with_capacity(1500);
            let (_, mut connection) =
                endpoint.connect(now, config.clone(), SocketAddr::V6(LEFT), SERVER_NAME)?;
            match connection.poll_transmit(now, 1, &mut datagram) {
                Some(_) => Ok(datagram),
                None => Err("a new connection sends nothing".into()),
            }
        })
        .collect()
}

/// The same with another destination connection ID, from which the server derives other keys: they look right until
/// they are decrypted.
pub fn invalid(valid: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let broken = |datagram: &Vec<u8>| {
        let mut datagram = datagram.clone();
        if let Some(byte) = datagram.get_mut(DCID_AT) {
            *byte ^= 0xff;
        }
        datagram
    };
    valid.iter().map(broken).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use bytes::BytesMut;
    use quinn_proto::DatagramEvent;

    use super::*;
    use crate::memory::RIGHT;
    use crate::scale::secrets;

    /// How many of `datagrams` a server takes for new connections. As it decrypts them when they are accepted, those
    /// of which the keys are wrong are not.
    fn accepted(datagrams: &[Vec<u8>], server: quinn_proto::ServerConfig) -> usize {
        let config = Arc::new(EndpointConfig::default());
        let mut endpoint = Endpoint::new(config, Some(Arc::new(server)), false, None);
        let now = Instant::now();
        let mut accepted = 0;
        for datagram in datagrams {
            let payload = BytesMut::from(&datagram[..]);
            let remote = SocketAddr::V6(RIGHT);
            let mut buffer = Vec::new();
            let event = endpoint.handle(now, remote, None, None, payload, &mut buffer);
            if let Some(DatagramEvent::NewConnection(incoming)) = event {
                accepted += usize::from(endpoint.accept(incoming, now, &mut buffer, None).is_ok());
            }
        }
        accepted
    }

    #[test]
    fn a_server_begins_handshakes_with_valid_ones_only() {
        let identity = secrets::identity().unwrap();
        let certificate = identity.chain()[0].clone();
        let client = secrets::client(certificate, false, Arc::new(AtomicU64::new(0))).unwrap();
        let valid = valid(8, &client).unwrap();
        assert!(valid.iter().all(|datagram| datagram.len() == 1200));
        let server = || secrets::server(&identity).unwrap();
        assert_eq!(accepted(&valid, server()), 8);
        assert_eq!(accepted(&invalid(&valid), server()), 0);
    }
}
