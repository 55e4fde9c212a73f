//! What a client wants to know of its connections that s2n-quic tells by events alone.

use s2n_quic::connection::Handle;
use s2n_quic::provider::event::events::{CipherSuite, KeyUpdate, MtuUpdated};
use s2n_quic::provider::event::{ConnectionInfo, ConnectionMeta, Subscriber};

/// Keeps it for each connection.
pub struct Watch;

/// What was told of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// UDP payload of a full datagram, bytes.
    pub udp_payload: Option<u16>,
    /// Whether the latest keys are not for AES-128-GCM.
    pub other_cipher: bool,
}

impl Seen {
    /// Of `connection`, up to now.
    pub fn of(connection: &Handle) -> Self {
        connection
            .query_event_context(|seen: &Self| *seen)
            .unwrap_or_default()
    }
}

impl Subscriber for Watch {
    type ConnectionContext = Seen;

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo) -> Seen {
        Seen::default()
    }

    fn on_mtu_updated(&mut self, seen: &mut Seen, _: &ConnectionMeta, event: &MtuUpdated) {
        seen.udp_payload = Some(event.mtu);
    }

    fn on_key_update(&mut self, seen: &mut Seen, _: &ConnectionMeta, event: &KeyUpdate) {
        seen.other_cipher = !matches!(
            event.cipher_suite,
            CipherSuite::TLS_AES_128_GCM_SHA256 { .. }
        );
    }
}
