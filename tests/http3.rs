//! HTTP/3 by the `h3` crate over the asynchronous interface: one engine, both ends of its link.

use std::future::poll_fn;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3::error::{Code, ConnectionError, StreamError};
use h3::quic::ConnectionErrorIncoming;
use h3::server::RequestStream;
use http::{HeaderMap, HeaderValue, Request, Response};
use stoq::h3::{ALPN, BidiStream, OpenStreams, Payload};
use stoq::handle::HandleLimits;
use stoq::transport::TransportSettings;
use stoq::{ClientConfig, Connection, Engine, Identity, ServerConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// As in a program that copies nothing: h3 then gets packet memory.
#[global_allocator]
static ALLOCATOR: hugepages::PacketAlloc = hugepages::PacketAlloc;

type Server = h3::server::Connection<stoq::h3::Connection, Payload>;
type ServerStream = RequestStream<BidiStream<Payload>, Payload>;
type Client = SendRequest<OpenStreams, Payload>;

/// More than every window of the transport.
const LARGE: usize = 40 << 20;

/// Requests at a time that servers allow.
const STREAMS: u32 = 4;

/// Nothing here takes a tenth of it.
const TOO_LONG: Duration = Duration::from_secs(60);

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::builder().link().start().expect("starts"));

/// Runs a test, for so long as is bearable: one that is never woken fails.
fn within(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("starts");
    let result = runtime.block_on(async { tokio::time::timeout(TOO_LONG, test).await });
    result.expect("it does not end");
}

/// A connection over the link: its client's end, its server's end.
async fn connections() -> (Connection, Connection) {
    connections_with(|config| config).await
}

async fn connections_with(
    client: impl FnOnce(ClientConfig) -> ClientConfig,
) -> (Connection, Connection) {
    static PORT: AtomicU16 = AtomicU16::new(4433);
    let udp_port = PORT.fetch_add(1, Ordering::Relaxed);
    let identity = Identity::self_signed(["localhost"]).expect("makes one");
    let few = TransportSettings {
        bidi_streams: STREAMS,
        ..TransportSettings::default()
    };
    let config = ServerConfig::new(&identity, [ALPN])
        .expect("valid")
        .transport(few);
    let listener = ENGINE
        .handle()
        .listen(udp_port, config)
        .await
        .expect("the port is free");
    let config = client(ClientConfig::new(&identity.trust(), [ALPN]).expect("valid"));
    let right = SocketAddrV6::new(
        Ipv6Addr::new(0xfd00, 0x5701, 0, 0, 0, 0, 0, 2),
        udp_port,
        0,
        0,
    );
    let connecting = ENGINE
        .handle()
        .connect_with(config, right, "localhost")
        .expect("a route");
    let (client, server) = tokio::join!(connecting, listener.accept());
    (client.expect("connected"), server.expect("accepted"))
}

/// HTTP/3 on both ends: the client, the end of its connection, and the server.
async fn pair() -> (Client, JoinHandle<ConnectionError>, Server) {
    pair_of(connections().await).await
}

async fn pair_of(
    (client, server): (Connection, Connection),
) -> (Client, JoinHandle<ConnectionError>, Server) {
    let mut builder = h3::client::builder();
    let (client, server) = tokio::join!(
        builder.build::<_, _, Payload>(stoq::h3::Connection::new(client)),
        h3::server::Connection::new(stoq::h3::Connection::new(server)),
    );
    let (mut driver, requests) = client.expect("HTTP/3 starts");
    let driver = tokio::spawn(async move { driver.wait_idle().await });
    (requests, driver, server.expect("HTTP/3 starts"))
}

/// Serves every request with `serve`, until the connection ends.
fn serve<F>(
    mut server: Server,
    serve: impl Fn(Request<()>, ServerStream) -> F + Send + 'static,
) -> JoinHandle<ConnectionError>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match server.accept().await {
                Ok(Some(request)) => {
                    let (request, stream) = request.resolve_request().await.expect("a request");
                    tokio::spawn(serve(request, stream));
                }
                Ok(None) => panic!("nobody shuts the server down"),
                Err(error) => return error,
            }
        }
    })
}

fn get() -> Request<()> {
    Request::get("https://localhost/").body(()).expect("valid")
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(
        "checksum".parse().expect("valid"),
        HeaderValue::from_static("1234"),
    )])
}

fn content(length: usize) -> Bytes {
    (0..length)
        .map(|i| (i ^ i >> 8 ^ i >> 16) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    within(async {
        let (mut client, _driver, server) = pair().await;
        serve(server, |request, mut stream| async move {
            assert_eq!(request.method(), "POST");
            let mut body = Vec::new();
            while let Some(mut piece) = stream.recv_data().await.expect("a body") {
                body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
            let trailers = stream
                .recv_trailers()
                .await
                .expect("an end")
                .expect("trailers");
            stream.send_response(Response::new(())).await.expect("open");
            for piece in body.chunks(100_000) {
                stream
                    .send_data(Payload::from(piece.to_vec()))
                    .await
                    .expect("open");
            }
            stream.send_trailers(trailers).await.expect("open");
            stream.finish().await.expect("open");
        });
        let sent = content(3 << 20);
        let request = Request::post("https://localhost/").body(()).expect("valid");
        let mut stream = client.send_request(request).await.expect("open");
        for piece in [&sent[..1], &sent[1..700], &sent[700..]] {
            stream
                .send_data(Payload::from(sent.slice_ref(piece)))
                .await
                .expect("open");
        }
        stream.send_trailers(trailers()).await.expect("open");
        stream.finish().await.expect("open");
        assert_eq!(
            stream.recv_response().await.expect("a response").status(),
            200
        );
        let mut received = Vec::new();
        while let Some(mut piece) = stream.recv_data().await.expect("a body") {
            received.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        assert!(sent == received);
        assert_eq!(
            stream.recv_trailers().await.expect("an end"),
            Some(trailers())
        );
    });
}

#[test]
fn a_frame_larger_than_every_window_arrives() {
    within(async {
        let (mut client, _driver, server) = pair().await;
        let body = content(LARGE);
        let sent = body.clone();
        serve(server, move |_, mut stream| {
            let body = body.clone();
            async move {
                stream.send_response(Response::new(())).await.expect("open");
                stream.send_data(Payload::from(body)).await.expect("open");
                stream.finish().await.expect("open");
            }
        });
        let mut stream = client.send_request(get()).await.expect("open");
        stream.finish().await.expect("open");
        stream.recv_response().await.expect("a response");
        let mut received = 0;
        while let Some(mut piece) = stream.recv_data().await.expect("a body") {
            let bytes = piece.copy_to_bytes(piece.remaining());
            assert!(
                sent[received..].starts_with(&bytes),
                "after {received} bytes"
            );
            received += bytes.len();
        }
        assert_eq!(received, LARGE);
    });
}

/// More requests than streams are allowed, from clones of one client.
#[test]
fn requests_wait_for_streams() {
    within(async {
        const REQUESTS: usize = 1000;
        let (client, _driver, server) = pair().await;
        serve(server, |_, mut stream| async move {
            stream.send_response(Response::new(())).await.expect("open");
            stream.finish().await.expect("open");
        });
        let requests: tokio::task::JoinSet<_> = (0..REQUESTS)
            .map(|_| {
                let mut client = client.clone();
                async move {
                    let mut stream = client.send_request(get()).await.expect("open");
                    stream.finish().await.expect("open");
                    assert_eq!(
                        stream.recv_response().await.expect("a response").status(),
                        200
                    );
                }
            })
            .collect();
        assert_eq!(requests.join_all().await.len(), REQUESTS);
    });
}

/// A request that nobody waits for any more must not take the stream that another one waits for.
#[test]
fn a_request_given_up_while_it_waits_holds_nobody_up() {
    within(async {
        let (client, _driver, server) = pair().await;
        serve(server, |_, mut stream| async move {
            // A request that is not finished keeps its stream.
            assert!(stream.recv_data().await.expect("an end").is_none());
            stream.send_response(Response::new(())).await.expect("open");
            stream.finish().await.expect("open");
        });
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(client.clone().send_request(get()).await.expect("open"));
        }
        let mut given_up = client.clone();
        {
            let request = pin!(given_up.send_request(get()));
            assert!(poll_once(request).await.is_pending(), "all are taken");
        }
        let mut patient = client.clone();
        let patient = tokio::spawn(async move { patient.send_request(get()).await.map(drop) });
        tokio::task::yield_now().await;
        assert!(!patient.is_finished(), "all are taken");

        let mut first = streams.swap_remove(0);
        first.finish().await.expect("open");
        assert_eq!(
            first.recv_response().await.expect("a response").status(),
            200
        );
        drop(first);
        let sent = patient.await.expect("no panic");
        sent.expect("a stream of its own");
        // All the while it could have gone on.
        drop(given_up);
    });
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Tells when it is dropped.
struct Watched(Vec<u8>, Option<oneshot::Sender<()>>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.1.take().map(|dropped| dropped.send(()));
    }
}

/// More than the client takes while nobody reads, so that the rest is still needed when all of it
/// was handed over; unless it was copied.
#[test]
fn a_payload_is_not_copied() {
    within(async {
        const WINDOW: usize = 64 << 10;
        let limits = HandleLimits::default();
        let size = WINDOW + limits.read_ahead + limits.write_ahead / 2;
        let narrow = TransportSettings {
            stream_receive_window: WINDOW as u64,
            ..TransportSettings::default()
        };
        let ends = connections_with(|config| config.transport(narrow)).await;
        let (mut client, _driver, mut server) = pair_of(ends).await;
        let mut stream = client.send_request(get()).await.expect("open");
        let request = server
            .accept()
            .await
            .expect("connected")
            .expect("a request");
        let (_, mut answer) = request.resolve_request().await.expect("a request");
        answer.send_response(Response::new(())).await.expect("open");
        let (dropped, mut was_dropped) = oneshot::channel();
        let body = Bytes::from_owner(Watched(vec![7; size], Some(dropped)));
        answer.send_data(Payload::from(body)).await.expect("open");
        assert!(was_dropped.try_recv().is_err(), "copied");
        answer.finish().await.expect("open");
        stream.recv_response().await.expect("a response");
        let mut received = 0;
        while let Some(piece) = stream.recv_data().await.expect("a body") {
            received += piece.remaining();
        }
        assert_eq!(received, size);
        was_dropped.await.expect("dropped when it was acknowledged");
    });
}

#[test]
fn a_server_that_goes_away_serves_what_it_accepted() {
    within(async {
        let (mut client, driver, mut server) = pair().await;
        let mut early = client.send_request(get()).await.expect("open");
        early.finish().await.expect("open");
        let accepted = server
            .accept()
            .await
            .expect("connected")
            .expect("a request");
        server.shutdown(0).await.expect("connected");
        let rest =
            tokio::spawn(async move { server.accept().await.map(|request| request.is_some()) });

        // GOAWAY is on its way; until it is here, requests are sent, and rejected.
        loop {
            let Ok(mut late) = client.send_request(get()).await else {
                break;
            };
            let _ = late.finish().await;
            let refused = late.recv_response().await.expect_err("rejected");
            let rejected = matches!(
                refused,
                StreamError::RemoteTerminate { code, .. } if code == Code::H3_REQUEST_REJECTED
            );
            assert!(
                rejected || matches!(refused, StreamError::RemoteClosing { .. }),
                "{refused:?}"
            );
        }
        assert!(matches!(
            client.send_request(get()).await,
            Err(StreamError::RemoteClosing { .. })
        ));

        let (_, mut stream) = accepted.resolve_request().await.expect("a request");
        stream.send_response(Response::new(())).await.expect("open");
        stream.finish().await.expect("open");
        assert_eq!(
            early.recv_response().await.expect("a response").status(),
            200
        );
        // A client that is told to go goes when it is done.
        drop((early, client));
        match rest.await.expect("no panic") {
            Ok(more) => assert!(!more, "accepted after all"),
            Err(end) => assert!(end.is_h3_no_error(), "{end:?}"),
        }
        assert!(driver.await.expect("no panic").is_h3_no_error());
    });
}

#[test]
fn a_reset_carries_its_code() {
    within(async {
        let (mut client, _driver, server) = pair().await;
        serve(server, |_, mut stream| async move {
            stream.send_response(Response::new(())).await.expect("open");
            stream.stop_stream(Code::H3_EXCESSIVE_LOAD);
        });
        let mut stream = client.send_request(get()).await.expect("open");
        stream.finish().await.expect("open");
        // The reset may overtake the response.
        let error = match stream.recv_response().await {
            Ok(_) => stream
                .recv_data()
                .await
                .map(|data| data.is_some())
                .expect_err("reset"),
            Err(error) => error,
        };
        assert_terminated(&error, Code::H3_EXCESSIVE_LOAD);
    });
}

#[test]
fn a_receiver_that_stops_is_heard_with_its_code() {
    within(async {
        let (mut client, _driver, mut server) = pair().await;
        let mut stream = client.send_request(get()).await.expect("open");
        stream.stop_sending(Code::H3_VERSION_FALLBACK);
        let request = server
            .accept()
            .await
            .expect("connected")
            .expect("a request");
        let (_, mut answer) = request.resolve_request().await.expect("a request");
        assert_terminated(
            &send_until_error(&mut answer).await,
            Code::H3_VERSION_FALLBACK,
        );
    });
}

#[test]
fn a_receiver_that_is_dropped_has_no_error() {
    within(async {
        let (mut client, _driver, mut server) = pair().await;
        let (send, recv) = client.send_request(get()).await.expect("open").split();
        drop(recv);
        let request = server
            .accept()
            .await
            .expect("connected")
            .expect("a request");
        let (_, mut answer) = request.resolve_request().await.expect("a request");
        assert_terminated(&send_until_error(&mut answer).await, Code::H3_NO_ERROR);
        drop(send);
    });
}

async fn send_until_error(stream: &mut ServerStream) -> StreamError {
    loop {
        if let Err(error) = stream.send_data(Payload::from(vec![0; 100_000])).await {
            return error;
        }
    }
}

/// Half a frame and then the end would be an error of the connection.
#[test]
fn a_sender_dropped_within_a_frame_resets_its_stream() {
    within(async {
        let (mut client, _driver, mut server) = pair().await;
        let mut stream = client.send_request(get()).await.expect("open");
        let request = server
            .accept()
            .await
            .expect("connected")
            .expect("a request");
        let (_, mut answer) = request.resolve_request().await.expect("a request");
        answer.send_response(Response::new(())).await.expect("open");
        // Nobody reads yet, so it does not end by itself.
        let sending =
            tokio::spawn(async move { answer.send_data(Payload::from(content(LARGE))).await });
        stream.recv_response().await.expect("a response");
        assert!(stream.recv_data().await.expect("a body").is_some());
        sending.abort();
        assert!(sending.await.expect_err("it was sending").is_cancelled());
        let error = loop {
            match stream.recv_data().await {
                Ok(data) => assert!(data.is_some(), "an end"),
                Err(error) => break error,
            }
        };
        assert_terminated(&error, Code::H3_REQUEST_CANCELLED);
        client
            .send_request(get())
            .await
            .expect("the connection lives");
    });
}

#[test]
fn the_code_of_a_close_is_told_to_both_drivers_and_streams() {
    within(async {
        let (client, server) = connections().await;
        let other_end = server.clone();
        let (client, server) = tokio::join!(
            h3::client::new(stoq::h3::Connection::new(client)),
            h3::server::Connection::<_, Bytes>::new(stoq::h3::Connection::new(server)),
        );
        let ((mut driver, mut requests), _server) =
            (client.expect("starts"), server.expect("starts"));
        let mut stream = requests.send_request(get()).await.expect("open");
        other_end.close(0x4242_u32.into(), b"for a test");
        let error = driver.wait_idle().await;
        assert!(closed_with(&error, 0x4242), "{error:?}");
        match stream.recv_response().await.expect_err("closed") {
            StreamError::ConnectionError { 0: error, .. } => {
                assert!(closed_with(&error, 0x4242), "{error:?}")
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_client_that_is_done_closes_without_error() {
    within(async {
        let (client, driver, mut server) = pair().await;
        let end =
            tokio::spawn(async move { server.accept().await.map(|request| request.is_some()) });
        drop(client);
        assert!(driver.await.expect("no panic").is_h3_no_error());
        let end = end.await.expect("no panic").expect_err("closed");
        assert!(end.is_h3_no_error(), "{end:?}");
    });
}

fn closed_with(error: &ConnectionError, code: u64) -> bool {
    matches!(
        error,
        ConnectionError::Remote { 0: ConnectionErrorIncoming::ApplicationClose { error_code }, .. }
            if *error_code == code
    )
}

fn assert_terminated(error: &StreamError, wanted: Code) {
    match error {
        StreamError::RemoteTerminate { code, .. } => assert_eq!(*code, wanted),
        other => panic!("{other:?}"),
    }
}
