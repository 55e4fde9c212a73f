//! The engine's own TLS and transport settings, so that quinn-proto alone runs with the same.

use std::error::Error;
use std::sync::Arc;

use quinn_proto::{ClientConfig, EndpointConfig, ServerConfig};
use stoq::tls::{ClientAuth, ClientTls, Identity, ServerTls, Trust, client_config, server_config};
use stoq::transport::{IPV6_UDP_HEADERS, TransportSettings};

/// The protocol name of the transfers here.
pub const ALPN: &[u8] = b"bulk";
/// The name in the certificate.
pub const SERVER_NAME: &str = "localhost";

/// What both ends of a transfer share. The engine's defaults: AES-128-GCM is the preferred cipher suite.
pub struct Settings {
    udp_payload_max: u16,
    client: ClientConfig,
    server: ServerConfig,
}

impl Settings {
    /// Settings for a path of `mtu` bytes of IPv6 packet, with a certificate made now.
    ///
    /// # Errors
    /// The certificate or the TLS configuration cannot be made, or `mtu` is below 1280.
    pub fn new(mtu: u16) -> Result<Self, Box<dyn Error>> {
        let udp_payload_max = mtu.saturating_sub(IPV6_UDP_HEADERS);
        let transport = TransportSettings::default().build(udp_payload_max)?;
        let identity = Identity::self_signed(&[SERVER_NAME.to_owned()])?;
        let mut client = client_config(ClientTls {
            trust: &Trust::Fingerprint(identity.fingerprint()),
            identity: None,
            alpns: vec![ALPN.to_vec()],
            early_data: false,
        })?;
        client.transport_config(Arc::clone(&transport));
        let mut server = server_config(ServerTls {
            identity: &identity,
            alpns: vec![ALPN.to_vec()],
            client_auth: ClientAuth::None,
            early_data: false,
        })?;
        server.transport_config(transport);
        Ok(Self {
            udp_payload_max,
            client,
            server,
        })
    }

    /// Largest UDP payload of the path, bytes.
    pub fn udp_payload_max(&self) -> u16 {
        self.udp_payload_max
    }

    /// Settings of the end that connects.
    pub fn client(&self) -> ClientConfig {
        self.client.clone()
    }

    /// Settings of the end that is connected to.
    pub fn server(&self) -> ServerConfig {
        self.server.clone()
    }

    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        // Refused below 1200 only, which `TransportSettings::build` has refused before.
        let _ = config.max_udp_payload_size(self.udp_payload_max);
        config
    }
}
