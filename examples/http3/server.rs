//! The server: GET and HEAD of the files in a folder.
//!
//! Browsers look for HTTP/3 where TCP has told them to, and there is none here; so one has to insist, and to believe the
//! key by the hash that the server prints: `chromium --origin-to-force-quic-on=localhost:4433
//! --host-resolver-rules='MAP localhost [ADDRESS]' --ignore-certificate-errors-spki-list=HASH --user-data-dir=FOLDER
//! https://localhost:4433/`.

use std::path::PathBuf;
use std::sync::Arc;

use h3::error::{Code, ConnectionError, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use stoq::h3::{BidiStream, Payload};
use stoq::{Connection, Engine, Identity, Listener, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use super::files::{File, Root};
use super::{Result, key};

type Request = RequestResolver<stoq::h3::Connection, Payload>;
type Stream = RequestStream<BidiStream<Payload>, Payload>;

/// Serves a folder by HTTP/3 until SIGINT or SIGTERM
#[derive(clap::Args)]
pub struct Serve {
    /// Ports and shards, in the YAML of the engine
    #[arg(long)]
    config: PathBuf,
    /// UDP port, on all ports of the engine
    #[arg(long, default_value_t = 4433)]
    udp_port: u16,
    /// PEM file with the certificate chain; without, one for `localhost` is made
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with its key
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// The folder
    folder: PathBuf,
}

pub async fn run(arguments: Serve) -> Result {
    let root = Arc::new(Root::open(&arguments.folder)?);
    let identity = match arguments.certificate.zip(arguments.key) {
        Some((certificate, key)) => Identity::from_files(&certificate, &key)?,
        None => Identity::self_signed(["localhost"])?,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let engine = Engine::builder().config_file(arguments.config).start()?;
    let config = ServerConfig::new(&identity, [stoq::h3::ALPN])?;
    let listener = engine.handle().listen(arguments.udp_port, config).await?;
    eprintln!("ready; the hash of the key is {}", key::hash(&identity)?);
    tokio::select! {
        () = serve(listener, root) => {}
        _ = terminate.recv() => {}
        interrupt = tokio::signal::ctrl_c() => interrupt?,
    }
    println!("{}", engine.shutdown()?.to_json());
    Ok(())
}

/// Serves every connection, until the listener or the engine ends.
pub async fn serve(listener: Listener, root: Arc<Root>) {
    while let Some(connection) = listener.accept().await {
        let (peer, root) = (connection.remote_address(), root.clone());
        tokio::spawn(async move {
            let end = converse(connection, root).await;
            if let Some(error) = end.err().filter(|error| !error.is_h3_no_error()) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn converse(connection: Connection, root: Arc<Root>) -> Result<(), ConnectionError> {
    let peer = connection.remote_address();
    let mut http = h3::server::Connection::new(stoq::h3::Connection::new(connection)).await?;
    while let Some(request) = http.accept().await? {
        let root = root.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(request, root).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
    Ok(())
}

async fn answer(request: Request, root: Arc<Root>) -> Result<(), StreamError> {
    let (request, mut stream) = request.resolve_request().await?;
    let (method, path) = (request.method(), request.uri().path());
    if method != Method::GET && method != Method::HEAD {
        return refuse(stream, method, StatusCode::METHOD_NOT_ALLOWED).await;
    }
    let path = if path == "/" { "/index.html" } else { path }.to_owned();
    // What asks the file system goes to threads that may wait for it.
    let open = tokio::task::spawn_blocking(move || root.file(&path));
    let file = match open.await.expect("opening does not panic") {
        Ok(file) => file,
        Err(status) => return refuse(stream, method, status).await,
    };
    let response = Response::builder()
        .header(CONTENT_TYPE, file.media_type())
        .header(CONTENT_LENGTH, file.length());
    let response = response.body(()).expect("valid fields");
    stream.send_response(response).await?;
    if method == Method::GET {
        send(&mut stream, file).await?;
    }
    stream.finish().await
}

/// Sends a file; while one piece of it leaves, the next one is read.
async fn send(stream: &mut Stream, file: File) -> Result<(), StreamError> {
    let file = Arc::new(file);
    let read = |offset| {
        let file = file.clone();
        tokio::task::spawn_blocking(move || file.piece(offset))
    };
    let (mut offset, mut next) = (0, read(0));
    while offset < file.length() {
        let Ok(piece) = next.await.expect("reading does not panic") else {
            // The file shrank or its disk failed, and its length is out: no good end is left.
            stream.stop_stream(Code::H3_INTERNAL_ERROR);
            return Ok(());
        };
        offset += piece.len() as u64;
        next = read(offset);
        stream.send_data(Payload::from(piece)).await?;
    }
    Ok(())
}

/// Says why there is no file: in the body, too, except to HEAD (RFC 9110 §9.3.2).
async fn refuse(mut stream: Stream, method: &Method, why: StatusCode) -> Result<(), StreamError> {
    let response = Response::builder()
        .status(why)
        .header(CONTENT_TYPE, "text/plain")
        .header(ALLOW, "GET, HEAD");
    let response = response.body(()).expect("valid fields");
    stream.send_response(response).await?;
    if method != Method::HEAD {
        let text = format!("{why}\n").into_bytes();
        stream.send_data(text.into()).await?;
    }
    stream.finish().await
}
