//! The engine that tests share, and what they do with it.

use std::future::Future;
use std::net::SocketAddrV6;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use stoq::app::{Application, Connection as Borrowed, Dir};
use stoq::{
    ClientConfig, Connection, Engine, Handle, Identity, Listener, ServerConfig, StreamId, VarInt,
};

/// Nothing here takes a tenth of it.
const TOO_LONG: Duration = Duration::from_secs(60);

/// The UDP port on `right` of the application that panics.
pub const PANICS: u16 = 7_000;
pub const ALPN: &str = "test";
pub const NAME: &str = "localhost";

pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::self_signed([NAME]).unwrap())
}

/// The engine of tests that leave it as it is.
pub fn handle() -> Handle {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let start = || {
        Engine::builder()
            .link()
            .serve("right", PANICS, server_config(), |_| Panics)
            .start()
            .unwrap()
    };
    ENGINE.get_or_init(start).handle()
}

pub fn server_config() -> ServerConfig {
    ServerConfig::new(identity(), [ALPN]).unwrap()
}

pub fn client_config() -> ClientConfig {
    ClientConfig::new(&identity().trust(), [ALPN]).unwrap()
}

/// An address of the end that servers are on.
pub fn right(udp_port: u16) -> SocketAddrV6 {
    SocketAddrV6::new("fd00:5701::2".parse().unwrap(), udp_port, 0, 0)
}

/// Runs a future with tokio, for so long as is bearable.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(TOO_LONG, future).await });
    result.expect("it does not end")
}

/// A connection: the server's end, the client's, and the listener.
pub async fn connect(handle: &Handle) -> (Connection, Connection, Listener) {
    // Tests run at the same time.
    static UDP_PORT: AtomicU16 = AtomicU16::new(10_000);
    let udp_port = UDP_PORT.fetch_add(1, Ordering::Relaxed);
    let listener = handle.listen(udp_port, server_config()).await.unwrap();
    let connecting = handle.connect_with(client_config(), right(udp_port), NAME);
    let client = connecting.unwrap().await.unwrap();
    let server = listener.accept().await.unwrap();
    (server, client, listener)
}

/// Streams of it are echoed, unless they begin with `!`: then it panics.
pub struct Panics;

impl Application for Panics {
    fn opened(&mut self, connection: &mut Borrowed<'_>, dir: Dir) {
        while let Some(id) = connection.accept(dir) {
            self.readable(connection, id);
        }
    }

    fn readable(&mut self, connection: &mut Borrowed<'_>, id: StreamId) {
        let mut all = Vec::new();
        let end = connection.read_with(id, usize::MAX, |chunk| all.extend_from_slice(&chunk));
        assert!(!all.starts_with(b"!"), "as asked for");
        let _ = connection.write(id, &all);
        if matches!(end, Ok(stoq::app::ReadEnd::Finished)) {
            connection.finish(id);
        }
    }
}

pub const fn code(code: u32) -> VarInt {
    VarInt::from_u32(code)
}
