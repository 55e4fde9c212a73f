//! The HTTP server of the metrics: one thread of the control plane, and few connections.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::Observed;

/// Connections at a time. With one more, the oldest is cut off: a scrape takes milliseconds, so it is one that dawdles.
const CONNECTIONS: usize = 16;
/// How long one connection may last, which is long for one request. There is one request to a connection.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long to wait after the system had no descriptor for a connection.
const RETRY: Duration = Duration::from_millis(100);
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 * 1024;

const TEXT: HeaderValue = HeaderValue::from_static(prometheus::TEXT_FORMAT);
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Why the metrics cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error(
        "metrics.listen: nothing can listen on {address}: {source}; choose another address or TCP \
         port, or end what has it"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gave no thread or no way to wait for connections.
    #[error("metrics: the system gave no thread to serve them on: {0}")]
    Thread(io::Error),
}

/// The running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// The server ends when the other end is gone.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Takes `address`, and serves what `observed` counts from a thread of its own, which calls `on_start` first.
    ///
    /// # Errors
    /// The address is taken or not this machine's, or the system is out of threads or descriptors.
    pub fn start(
        address: SocketAddr,
        observed: Observed,
        on_start: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ServerError> {
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ServerError::Thread)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(ServerError::Thread)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                on_start();
                runtime.block_on(async {
                    tokio::spawn(serve(listener, Arc::new(observed)));
                    // Either way it is over, and the runtime ends all tasks with it.
                    let _ = stopped.await;
                });
            })
            .map_err(ServerError::Thread)?;
        info!("metrics at http://{address}/metrics");
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens: with port 0 in the configuration, the port that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that serves the metrics panicked");
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, observed: Arc<Observed>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a connection to the metrics was not accepted");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        open.retain(|task| !task.is_finished());
        if open.len() == CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let task = tokio::spawn(connection(stream, Arc::clone(&observed)));
        open.push_back(task.abort_handle());
    }
}

async fn connection(stream: TcpStream, observed: Arc<Observed>) {
    let service = service_fn(|request| {
        let response = answer(&request, &observed);
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIFETIME)
        .keep_alive(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LIFETIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the metrics broke off"),
        Err(_) => debug!("a connection to the metrics took too long"),
    }
}

fn answer(request: &Request<Incoming>, observed: &Observed) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path != "/" && path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "Not found: see /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    // The answer to HEAD is the same; hyper leaves its body out.
    match path {
        "/" => plain(
            StatusCode::OK,
            "The STOQ engine. Its counters for Prometheus: /metrics\n",
        ),
        _ => response(StatusCode::OK, TEXT, super::text(observed)),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, PLAIN, text)
}

fn response(
    status: StatusCode,
    kind: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
