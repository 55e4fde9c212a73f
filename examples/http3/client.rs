//! The client: fetches files from one server, all at once, over one connection.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use http::header::CONTENT_LENGTH;
use http::{Request, Uri};
use stoq::h3::OpenStreams;
use stoq::tls::Anchors;
use stoq::{ClientConfig, Connection, Engine, Trust};
use tokio::task::JoinSet;

use super::Result;

/// Between two words on how far a download is.
const TELL: Duration = Duration::from_millis(200);

/// Fetches files by HTTP/3
#[derive(clap::Args)]
pub struct Fetch {
    /// Ports and shards, in the YAML of the engine
    #[arg(long)]
    config: PathBuf,
    /// IPv6 address of the server, for names that need not be looked up
    #[arg(long)]
    address: Option<Ipv6Addr>,
    /// PEM file with the authorities that are believed
    #[arg(long)]
    trust: PathBuf,
    /// Folder for the files
    #[arg(long, default_value = ".")]
    output: PathBuf,
    /// What to fetch, all from one server: https://NAME:PORT/PATH
    #[arg(required = true)]
    urls: Vec<Uri>,
}

pub async fn run(arguments: Fetch) -> Result {
    let server = arguments.urls[0].authority();
    let server = server.ok_or("the URL names no server")?.clone();
    let elsewhere = |url: &Uri| url.authority() != Some(&server);
    if arguments.urls.iter().any(elsewhere) {
        return Err("the URLs must be of one server".into());
    }
    // An address stands in brackets in a URL (RFC 3986 §3.2.2), and nowhere else.
    let name = server.host().trim_matches(['[', ']']);
    let udp_port = server.port_u16().unwrap_or(443);
    let remote = match arguments.address {
        Some(address) => SocketAddrV6::new(address, udp_port, 0, 0),
        None => look_up(name, udp_port).await?,
    };
    let engine = Engine::builder().config_file(arguments.config).start()?;
    let trust = Trust::Anchors(Anchors::from_files(&[arguments.trust])?);
    let config = ClientConfig::new(&trust, [stoq::h3::ALPN])?;
    let connection = engine.handle().connect_with(config, remote, name)?.await?;
    fetch_all(connection, arguments.urls, &arguments.output).await?;
    println!("{}", engine.shutdown()?.to_json());
    Ok(())
}

async fn look_up(name: &str, udp_port: u16) -> Result<SocketAddrV6> {
    let addresses = tokio::net::lookup_host((name, udp_port)).await;
    let mut addresses = addresses.map_err(|error| format!("{name}: {error}"))?;
    let address = addresses.find_map(|address| match address {
        SocketAddr::V6(address) => Some(address),
        SocketAddr::V4(_) => None,
    });
    Ok(address.ok_or_else(|| format!("{name} has no IPv6 address"))?)
}

/// Fetches all URLs into a folder, and closes the connection.
pub async fn fetch_all(
    connection: Connection,
    urls: impl IntoIterator<Item = Uri>,
    output: &Path,
) -> Result {
    let mut files = BTreeMap::new();
    for url in urls {
        let name = Path::new(url.path()).file_name();
        let file = output.join(name.ok_or_else(|| format!("{url} names no file"))?);
        if let Some(other) = files.insert(file, url.clone()) {
            return Err(format!("{other} and {url} would be the same file").into());
        }
    }
    std::fs::create_dir_all(output)?;
    let connection = stoq::h3::Connection::new(connection);
    let (mut driver, requests) = h3::client::new(connection).await?;
    let driver = tokio::spawn(async move { driver.wait_idle().await });
    let mut downloads = JoinSet::new();
    for (file, url) in files {
        let requests = requests.clone();
        downloads.spawn(async move {
            let fetched = fetch(requests, &url, &file).await;
            fetched.map_err(|error| format!("{url}: {error}"))
        });
    }
    drop(requests);
    while let Some(finished) = downloads.join_next().await {
        finished??;
    }
    // The last of the requests is gone, so the connection closes.
    match driver.await? {
        end if end.is_h3_no_error() => Ok(()),
        end => Err(end.into()),
    }
}

/// Says how far it is, now and then on a terminal, and at the end.
async fn fetch(mut requests: SendRequest<OpenStreams, Bytes>, url: &Uri, file: &Path) -> Result {
    let mut stream = requests.send_request(Request::get(url).body(())?).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    let length = response.headers().get(CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let in_file = |error| format!("{}: {error}", file.display());
    let mut output = File::create(file).map_err(in_file)?;
    let started = Instant::now();
    let (mut told, mut bytes) = (started, 0);
    while let Some(mut piece) = stream.recv_data().await? {
        while piece.has_remaining() {
            let count = output.write(piece.chunk()).map_err(in_file)?;
            piece.advance(count);
            bytes += count as u64;
        }
        if told.elapsed() > TELL && std::io::stderr().is_terminal() {
            told = Instant::now();
            let percent = length.map_or(0, |length| bytes * 100 / length.max(1));
            eprint!("{url}: {percent} %\r");
        }
    }
    let rate = bytes as f64 * 8e-6 / started.elapsed().as_secs_f64();
    eprintln!("{url}: {bytes} bytes, {rate:.0} Mbit/s");
    match length {
        Some(length) if length != bytes => Err(format!("{length} were promised").into()),
        _ => Ok(()),
    }
}
