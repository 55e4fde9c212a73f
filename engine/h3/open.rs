//! Opening streams, for all who send requests on a connection.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use ::h3::error::Code;
use ::h3::quic::{self, StreamErrorIncoming};
use bytes::Buf;

use super::{BidiStream, SendStream, error};
use crate::ConnectionError;
use crate::handle::waiters::wake;
use crate::handle::{OpenBi, OpenUni};

/// What opens streams on a connection: `h3::quic::OpenStreams`, part of every clone of
/// `h3::client::SendRequest`.
pub struct OpenStreams {
    streams: Arc<Streams>,
    number: u64,
}

/// What the openers of a connection share.
struct Streams {
    connection: crate::Connection,
    bi: Line<OpenBi>,
    uni: Line<OpenUni>,
    /// The number of the next opener.
    next: AtomicU64,
}

impl OpenStreams {
    pub(super) fn new(connection: crate::Connection) -> Self {
        let streams = Streams {
            bi: Line::new(connection.open_bi()),
            uni: Line::new(connection.open_uni()),
            connection,
            next: AtomicU64::new(1),
        };
        Self {
            streams: Arc::new(streams),
            number: 0,
        }
    }

    pub(super) fn connection(&self) -> &crate::Connection {
        &self.streams.connection
    }
}

impl Clone for OpenStreams {
    /// Another one for the same connection; it does not wait for a stream yet.
    fn clone(&self) -> Self {
        Self {
            streams: Arc::clone(&self.streams),
            number: self.streams.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for OpenStreams {
    fn drop(&mut self) {
        self.streams.bi.waiting.leave(self.number);
        self.streams.uni.waiting.leave(self.number);
    }
}

impl<B: Buf> quic::OpenStreams<B> for OpenStreams {
    type BidiStream = BidiStream<B>;
    type SendStream = SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream<B>, StreamErrorIncoming>> {
        let Streams { connection, bi, .. } = &*self.streams;
        let opened = ready!(bi.poll(self.number, cx, || connection.open_bi()));
        Poll::Ready(opened.map(BidiStream::new).map_err(error::stream))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream<B>, StreamErrorIncoming>> {
        let Streams {
            connection, uni, ..
        } = &*self.streams;
        let opened = ready!(uni.poll(self.number, cx, || connection.open_uni()));
        Poll::Ready(opened.map(SendStream::new).map_err(error::stream))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection().close(error::code(code.value()), reason);
    }
}

/// Openers that wait for streams of one direction.
///
/// h3 does not say when it gives up waiting: the request is dropped, and its opener lives on. So
/// they do not stand in line each for itself, where a stream would be offered to one that does not
/// want it any more: all of them share one future, and are all woken when a stream is there.
struct Line<F> {
    future: Mutex<F>,
    waiting: Arc<Waiting>,
}

/// Tasks, by the numbers of their openers.
#[derive(Default)]
struct Waiting(Mutex<BTreeMap<u64, Waker>>);

impl<F, T> Line<F>
where
    F: Future<Output = Result<T, ConnectionError>> + Unpin,
{
    fn new(future: F) -> Self {
        Self {
            future: Mutex::new(future),
            waiting: Arc::default(),
        }
    }

    /// Polls for an opener; `again` makes the future for the next stream.
    fn poll(
        &self,
        number: u64,
        cx: &Context<'_>,
        again: impl FnOnce() -> F,
    ) -> Poll<Result<T, ConnectionError>> {
        let mut future = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the look, so that nothing comes in between.
        self.waiting.wait(number, cx.waker());
        let everybody = Waker::from(Arc::clone(&self.waiting));
        let opened = ready!(Pin::new(&mut *future).poll(&mut Context::from_waker(&everybody)));
        *future = again();
        self.waiting.leave(number);
        Poll::Ready(opened)
    }
}

impl Waiting {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, number: u64, waker: &Waker) {
        let mut tasks = self.tasks();
        match tasks.get_mut(&number) {
            Some(task) => task.clone_from(waker),
            None => _ = tasks.insert(number, waker.clone()),
        }
    }

    fn leave(&self, number: u64) {
        self.tasks().remove(&number);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let tasks = mem::take(&mut *self.tasks());
        tasks.into_values().for_each(wake);
    }
}
