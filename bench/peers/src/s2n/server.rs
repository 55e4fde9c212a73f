//! The server: answers requests, and returns datagrams.

use std::error::Error;

use bench::field::peer::{PathSpec, ServerSpec, Work, ZEROES};
use bench::scale::quinn_server::{poll_without_sleep, runtime};
use bytes::Bytes;
use s2n_quic::provider::tls::s2n_tls;
use s2n_quic::stream::BidirectionalStream;
use s2n_quic::{Connection, Server};
use stoq::services::perf;

use super::{datagrams, io, limits, receive, send, tickets};
use crate::report;

/// Serves as `spec` says.
pub fn serve(spec: &ServerSpec) -> Result<(), Box<dyn Error>> {
    runtime()?.block_on(async {
        if spec.path.busy {
            tokio::spawn(poll_without_sleep());
        }
        let mut server = server(spec, tls(&spec.path)?)?;
        report::listening(server.local_addr()?.port())?;
        while let Some(connection) = server.accept().await {
            match spec.path.work {
                Work::Datagrams => tokio::spawn(echo(connection)),
                _ => tokio::spawn(serve_connection(connection)),
            };
        }
        Ok(())
    })
}

fn server(spec: &ServerSpec, tls: s2n_tls::Server) -> Result<Server, Box<dyn Error>> {
    Ok(Server::builder()
        .with_io(io(&spec.path, spec.listen)?)?
        .with_tls(tls)?
        .with_limits(limits()?)?
        .with_datagram(datagrams(&spec.path)?)?
        .start()?)
}

fn tls(path: &PathSpec) -> Result<s2n_tls::Server, Box<dyn Error>> {
    let mut builder = s2n_tls::Server::builder()
        .with_application_protocols([perf::ALPN])?
        .with_certificate(&*path.certificate(), &*path.key())?;
    if path.work == Work::Resumed {
        tickets::give(builder.config_mut())?;
    }
    Ok(builder.build()?)
}

async fn serve_connection(mut connection: Connection) {
    while let Ok(Some(stream)) = connection.accept_bidirectional_stream().await {
        tokio::spawn(answer(stream));
    }
}

/// Reads a request to its end, then sends as many bytes as it asks for, or until nobody wants more.
async fn answer(mut stream: BidirectionalStream) {
    let mut header = Vec::with_capacity(8);
    loop {
        match stream.receive().await {
            Ok(Some(chunk)) => {
                let wanted = (8 - header.len()).min(chunk.len());
                header.extend_from_slice(&chunk[..wanted]);
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let Ok(header) = <[u8; 8]>::try_from(header) else {
        return;
    };
    let mut left = u64::from_be_bytes(header);
    while left > 0 {
        let piece = left.min(ZEROES.len() as u64);
        if stream
            .send(Bytes::from_static(&ZEROES[..piece as usize]))
            .await
            .is_err()
        {
            return;
        }
        left -= piece;
    }
    let _ = stream.finish(); // Fails only if it has ended.
}

async fn echo(connection: Connection) {
    let handle = connection.handle();
    while let Ok(datagram) = receive(&handle).await {
        // What the peer does not take, or a connection that has ended, shows at the client.
        let _ = send(&handle, datagram);
    }
}
