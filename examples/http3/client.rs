//! The client: fetches files from one server, all at once, over one connection.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
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
    let server = arguments.urls[0]
        .authority()
        .ok_or("the URL names no server")?
        .clone();
    if arguments
        .urls
        .iter()
        .any(|url| url.authority() != Some(&server))
    {
        return Err("the URLs must be of one server".into());
    }
    let (name, udp_port) = (server.host(), server.port_u16().unwrap_or(443));
    let address = match arguments.address {
        Some(address) => address,
        None => look_up(name, udp_port).await?,
    };
    let engine = Engine::builder().config_file(arguments.config).start()?;
    let trust = Trust::Anchors(Anchors::from_files(&[arguments.trust])?);
    let config = ClientConfig::new(&trust, [stoq::h3::ALPN])?;
    let remote = SocketAddrV6::new(address, udp_port, 0, 0);
    let connection = engine.handle().connect_with(config, remote, name)?.await?;
    fetch_all(connection, arguments.urls, &arguments.output).await?;
    println!("{}", engine.shutdown()?.to_json());
    Ok(())
}

async fn look_up(name: &str, udp_port: u16) -> Result<Ipv6Addr> {
    let addresses = tokio::net::lookup_host((name, udp_port)).await?;
    let six = |address: std::net::SocketAddr| match address.ip() {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    };
    let address = addresses.filter_map(six).next();
    Ok(address.ok_or_else(|| format!("{name} has no IPv6 address"))?)
}

/// Fetches all URLs into a folder, and closes the connection.
pub async fn fetch_all(
    connection: Connection,
    urls: impl IntoIterator<Item = Uri>,
    output: &Path,
) -> Result {
    std::fs::create_dir_all(output)?;
    let connection = stoq::h3::Connection::new(connection);
    let (mut driver, requests) = h3::client::new(connection).await?;
    let driver = tokio::spawn(async move { driver.wait_idle().await });
    let mut downloads = JoinSet::new();
    for url in urls {
        let name = Path::new(url.path())
            .file_name()
            .ok_or("a URL names no file")?;
        downloads.spawn(fetch(requests.clone(), url.clone(), output.join(name)));
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

async fn fetch(mut requests: SendRequest<OpenStreams, Bytes>, url: Uri, file: PathBuf) -> Result {
    let mut stream = requests.send_request(Request::get(&url).body(())?).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    if !response.status().is_success() {
        return Err(format!("{url}: {}", response.status()).into());
    }
    let length = response.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut progress = Progress::new(url.path(), length);
    let mut output = File::create(file)?;
    while let Some(mut piece) = stream.recv_data().await? {
        while piece.has_remaining() {
            let count = output.write(piece.chunk())?;
            piece.advance(count);
            progress.add(count);
        }
    }
    progress.end()
}

/// How far a download is: told now and then on a terminal, and at its end.
struct Progress<'a> {
    path: &'a str,
    length: Option<u64>,
    bytes: u64,
    started: Instant,
    told: Instant,
}

impl<'a> Progress<'a> {
    fn new(path: &'a str, length: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            path,
            length,
            bytes: 0,
            started: now,
            told: now,
        }
    }

    fn add(&mut self, count: usize) {
        self.bytes += count as u64;
        if self.told.elapsed() > Duration::from_millis(200) && std::io::stderr().is_terminal() {
            self.told = Instant::now();
            let percent = self
                .length
                .map_or(0, |length| self.bytes * 100 / length.max(1));
            eprint!("{}: {percent} %\r", self.path);
        }
    }

    fn end(self) -> Result {
        let (path, bytes, seconds) = (self.path, self.bytes, self.started.elapsed().as_secs_f64());
        eprintln!(
            "{path}: {bytes} bytes, {:.0} Mbit/s",
            bytes as f64 * 8e-6 / seconds
        );
        match self.length {
            Some(length) if length != bytes => {
                Err(format!("{path}: {length} were promised").into())
            }
            _ => Ok(()),
        }
    }
}
