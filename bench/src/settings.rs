//! The engine's transport settings and one cipher suite, for quinn-proto alone.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    AckFrequencyConfig, ClientConfig, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, VarInt,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Headers between the IP MTU and the UDP payload: IPv6 40, UDP 8.
const IP_AND_UDP_HEADERS: u16 = 48;

/// What both ends of a transfer on quinn-proto alone share.
pub struct Settings {
    udp_payload_max: u16,
    client: Arc<QuicClientConfig>,
    server: Arc<QuicServerConfig>,
}

impl Settings {
    /// The name in the certificate.
    pub const SERVER_NAME: &'static str = "localhost";

    /// Settings for a path of `mtu` bytes of IPv6 packet, with a certificate made now.
    ///
    /// # Errors
    /// The certificate or the TLS configuration cannot be made.
    pub fn new(mtu: u16) -> Result<Self, Box<dyn std::error::Error>> {
        let made = rcgen::generate_simple_self_signed([Self::SERVER_NAME.to_owned()])?;
        let certificate = CertificateDer::from(made.cert);
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
        Ok(Self {
            udp_payload_max: mtu - IP_AND_UDP_HEADERS,
            client: Arc::new(client_crypto(&certificate)?.try_into()?),
            server: Arc::new(server_crypto(certificate, key)?.try_into()?),
        })
    }

    /// Largest UDP payload of the path, bytes.
    pub fn udp_payload_max(&self) -> u16 {
        self.udp_payload_max
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new(self.client.clone());
        config.transport_config(Arc::new(self.transport()));
        config
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(self.server.clone());
        config.transport_config(Arc::new(self.transport()));
        config
    }

    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::default();
        // Refused only below 1200, which no MTU of IPv6 allows.
        let _ = config.max_udp_payload_size(self.udp_payload_max.max(1200));
        config
    }

    fn transport(&self) -> TransportConfig {
        let window = VarInt::from_u32(16 << 20);
        let mut mtu_discovery = MtuDiscoveryConfig::default();
        mtu_discovery
            .upper_bound(self.udp_payload_max)
            .minimum_change(1);
        let mut ack_frequency = AckFrequencyConfig::default();
        ack_frequency
            .ack_eliciting_threshold(VarInt::from_u32(10))
            .max_ack_delay(Some(Duration::from_millis(5)));
        let mut config = TransportConfig::default();
        config
            .receive_window(window)
            .stream_receive_window(window)
            .send_window(window.into_inner())
            .mtu_discovery_config(Some(mtu_discovery))
            .ack_frequency_config(Some(ack_frequency));
        config
    }
}

/// The provider with AES-128-GCM only: what QUIC stacks are compared with.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn client_crypto(
    certificate: &CertificateDer<'static>,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn server_crypto(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
}
