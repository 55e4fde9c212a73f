//! The client.

use std::error::Error;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bench::api::tasks;
use bench::field::peer::{ClientSpec, PathSpec, Work};
use bench::scale::figures::Figures;
use bench::settings::SERVER_NAME;
use bytes::Bytes;
use quinn_proto::ConnectionStats;
use s2n_quic::Client;
use s2n_quic::client::Connect;
use s2n_quic::connection::Handle;
use s2n_quic::provider::tls::s2n_tls;
use s2n_quic::provider::tls::s2n_tls::callbacks::VerifyHostNameCallback;
use stoq::services::perf;

use super::events::{Seen, Watch};
use super::{datagrams, io, limits, receive, send, tickets};
use crate::asynchronous::{self, Dialer, FullHandshakes};

/// Chunks of a stream that are taken at a time.
const CHUNKS: usize = 64;

/// Runs a client as `spec` says.
pub fn run(spec: &ClientSpec) -> Result<Figures, Box<dyn Error>> {
    asynchronous::run(spec, || {
        let full = FullHandshakes::default();
        let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let client = Client::builder()
            .with_io(io(&spec.path, local)?)?
            .with_tls(tls(&spec.path, Arc::clone(&full))?)?
            .with_limits(limits()?)?
            .with_datagram(datagrams(&spec.path)?)?
            .with_event(Watch)?
            .start()?;
        Ok(Target {
            client,
            remote: spec.connect,
            full,
        })
    })
}

fn tls(path: &PathSpec, full: FullHandshakes) -> Result<s2n_tls::Client, Box<dyn Error>> {
    let mut builder = s2n_tls::Client::builder()
        .with_application_protocols([perf::ALPN])?
        .with_empty_trust_store()?
        .with_certificate(&*path.certificate())?
        .with_verify_host_name_callback(CountFull(full))?;
    if path.work == Work::Resumed {
        tickets::take(builder.config_mut())?;
    }
    Ok(builder.build()?)
}

/// Checks the name in certificates, and counts them: a session that is resumed shows none.
struct CountFull(FullHandshakes);

impl VerifyHostNameCallback for CountFull {
    fn verify_host_name(&self, name: &str) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        name == SERVER_NAME
    }
}

#[derive(Clone)]
struct Target {
    client: Client,
    remote: SocketAddr,
    full: FullHandshakes,
}

impl Dialer for Target {
    type Connection = Connected;

    async fn connect(&self) -> Result<Connected, String> {
        let connect = Connect::new(self.remote).with_server_name(SERVER_NAME);
        let connection = self
            .client
            .connect(connect)
            .await
            .map_err(|e| e.to_string())?;
        let (handle, _) = connection.split();
        Ok(Connected(handle))
    }

    fn full_handshakes(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }
}

/// A connection that is up.
#[derive(Clone)]
struct Connected(Handle);

impl tasks::Client for Connected {
    async fn exchange(
        &self,
        request: Bytes,
        mut received: impl FnMut(usize) + Send,
    ) -> Result<u64, String> {
        let mut handle = self.0.clone();
        let stream = handle
            .open_bidirectional_stream()
            .await
            .map_err(|e| e.to_string())?;
        let (mut receive, mut send) = stream.split();
        send.send_data(request).map_err(|e| e.to_string())?;
        send.finish().map_err(|e| e.to_string())?;
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let mut bytes = 0;
        loop {
            let (count, open) = receive
                .receive_vectored(&mut chunks)
                .await
                .map_err(|e| e.to_string())?;
            for chunk in &mut chunks[..count] {
                let chunk = std::mem::take(chunk);
                received(chunk.len());
                bytes += chunk.len() as u64;
            }
            if !open {
                return Ok(bytes);
            }
        }
    }

    async fn stats(&self) -> Option<ConnectionStats> {
        None
    }
}

impl asynchronous::Connection for Connected {
    fn send_datagram(&self, payload: Bytes) -> Result<(), String> {
        send(&self.0, payload)
    }

    async fn receive_datagram(&self) -> Result<Bytes, String> {
        receive(&self.0).await
    }

    fn udp_payload(&self) -> Option<u16> {
        Seen::of(&self.0).udp_payload
    }

    fn oddity(&self) -> Option<&'static str> {
        Seen::of(&self.0)
            .other_cipher
            .then_some("the cipher is not AES-128-GCM")
    }

    fn close(&self) {
        self.0.close(0_u32.into());
    }
}
