//! A connection to an upstream whose answer can be read even when the request can no longer be written.
//!
//! A server that refuses an upload early may answer, close, and reset what still arrives (RFC 9112 9.6 tells servers to
//! close in stages because of this; not all do). hyper gives the connection up at the first failed write, and the
//! answer that was there to be read, a 401 perhaps, would be lost with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::sync::oneshot;

use super::opener::Counted;
use crate::body::Valve;

/// Plain connections of the process. A stalled caller holds one piece of its answer, and hyper room for the next.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Most bytes of one read: the more connections there are, the less, so that many stalled callers take little memory and
/// few busy ones are served in large pieces. hyper doubles its buffer whenever a read fills it; one byte less than a
/// power of two keeps it from that.
fn most(open: usize) -> u64 {
    let piece = match open {
        0..=64 => 256,
        65..=128 => 128,
        129..=256 => 64,
        257..=512 => 32,
        513..=1024 => 16,
        _ => 8,
    };
    piece * 1024 - 1
}

/// Who takes what comes over a connection: the valve of the exchange at hand.
#[derive(Clone, Debug, Default)]
pub(super) struct Taker(Arc<Mutex<Option<Arc<Valve>>>>);

impl Taker {
    /// From now on the connection reads for this one.
    pub(super) fn set(&self, valve: &Arc<Valve>) {
        *self.0.lock() = Some(Arc::clone(valve));
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&self) {
        if let Some(valve) = self.0.lock().take() {
            valve.leave();
        }
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.lock().as_ref().map_or(Poll::Ready(()), |valve| valve.poll_open(cx))
    }
}

/// A stream that swallows what can no longer be written. How the exchange ends is then for the reading side to say: it
/// finds an answer, or the end of the stream.
#[derive(Debug)]
pub(super) struct UpstreamStream<IO> {
    io: Take<IO>,
    broken: bool,
    /// Whether it reads in pieces that are bounded here. TLS has records.
    is_plain: bool,
    /// Whether something was read since the last write.
    has_read: bool,
    taker: Taker,
    /// Whom to tell of the first bytes that come.
    greeting: Option<oneshot::Sender<()>>,
    _counted: Counted,
}

impl<IO: AsyncRead> UpstreamStream<IO> {
    /// A stream that is read for whoever `taker` says; in pieces of a bounded size where it `is_plain`.
    pub(super) fn new((io, is_plain): (IO, bool), taker: Taker, counted: Counted) -> Self {
        OPEN.fetch_add(usize::from(is_plain), Ordering::Relaxed);
        Self { io: io.take(0), broken: false, is_plain, has_read: false, taker, greeting: None, _counted: counted }
    }

    /// A stream that many share; `greeting` is told when the first bytes come.
    pub(super) fn greeting(io: IO, counted: Counted, greeting: oneshot::Sender<()>) -> Self {
        let mut stream = Self::new((io, false), Taker::default(), counted);
        stream.greeting = Some(greeting);
        stream
    }

    /// `otherwise` in place of the error of a peer that is gone, from now on.
    fn outcome<T>(&mut self, result: io::Result<T>, otherwise: T) -> io::Result<T> {
        match result {
            Err(error) if is_gone(&error) => {
                tracing::debug!(%error, "the upstream takes no more of a request");
                self.broken = true;
                Ok(otherwise)
            }
            other => other,
        }
    }
}

impl<IO> Drop for UpstreamStream<IO> {
    fn drop(&mut self) {
        OPEN.fetch_sub(usize::from(self.is_plain), Ordering::Relaxed);
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<IO: AsyncRead + Unpin> AsyncRead for UpstreamStream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The first piece is the answer's head, for which the caller's socket need not be ready.
        if this.has_read {
            ready!(this.taker.poll_open(cx));
        }
        this.io.set_limit(if this.is_plain { most(OPEN.load(Ordering::Relaxed)) } else { u64::MAX });
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        this.has_read |= read.is_ready();
        if this.greeting.is_some()
            && matches!(read, Poll::Ready(Ok(())))
            && !buf.filled().is_empty()
            && let Some(greeting) = this.greeting.take()
        {
            // Who waited for it may have gone.
            let _ = greeting.send(());
        }
        read
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for UpstreamStream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.has_read = false;
        if this.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(this.io.get_mut()).poll_write(cx, bytes));
        Poll::Ready(this.outcome(written, bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.has_read = false;
        let all = bytes.iter().map(|part| part.len()).sum();
        if this.broken {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(this.io.get_mut()).poll_write_vectored(cx, bytes));
        Poll::Ready(this.outcome(written, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(this.io.get_mut()).poll_flush(cx));
        Poll::Ready(this.outcome(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().io.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{Counted, Taker, UpstreamStream, Valve, most};

    /// After the first piece of an answer, nothing is read for a caller that has to take that first.
    #[tokio::test]
    async fn nothing_is_read_ahead_of_a_caller_that_is_behind() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        let (valve, taker) = (Arc::new(Valve::default()), Taker::default());
        let mut stream = UpstreamStream::new((ours, true), taker.clone(), Counted::none());
        let mut piece = [0; 4];
        taker.set(&valve);
        assert!(valve.set_shut(true));
        stream.write_all(b"GET").await.unwrap();
        theirs.write_all(b"headbodymoremore").await.unwrap();
        stream.read_exact(&mut piece).await.unwrap();
        assert_eq!(&piece, b"head", "an answer to whose request the caller is behind still begins");
        assert!(stream.read_exact(&mut piece).now_or_never().is_none());
        let reading = tokio::spawn(async move {
            stream.read_exact(&mut piece).await.unwrap();
            (stream, piece)
        });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        assert!(valve.set_shut(false));
        let (mut stream, piece) = reading.await.unwrap();
        assert_eq!(&piece, b"body");
        valve.set_shut(true);
        let reading = tokio::spawn(async move { stream.read_u32().await.unwrap() });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        taker.clear();
        assert_eq!(reading.await.unwrap().to_be_bytes(), *b"more", "who is gone keeps nobody waiting");
    }

    /// Pieces are smaller the more connections there are, and none fills a buffer of hyper's.
    #[tokio::test]
    async fn pieces_are_bounded() {
        let largest = [262_143, 262_143, 131_071, 32_767, 16_383, 8_191];
        assert_eq!([1, 64, 65, 512, 513, 100_000].map(most), largest);
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut stream = UpstreamStream::new((ours, true), Taker::default(), Counted::none());
        let mut buffer = vec![0; 1 << 20];
        theirs.write_all(&buffer).await.unwrap();
        for _ in 0..3 {
            assert!(stream.read(&mut buffer).await.unwrap() < 1 << 18);
        }
    }

    /// B58: what came is read after writing has failed.
    #[tokio::test]
    async fn what_came_is_read_after_writing_has_failed() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = UpstreamStream::new((ours, true), Taker::default(), Counted::none());
        theirs.write_all(b"401").await.unwrap();
        drop(theirs);
        for _ in 0..3 {
            stream.write_all(b"more of the request").await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "401");
    }
}
