//! A connection to an upstream whose answer can be read even when the request can no longer be written.
//!
//! A server that refuses an upload early may answer, close, and reset what still arrives (RFC 9112 9.6 tells servers to
//! close in stages because of this; not all do). hyper gives the connection up at the first failed write, and the
//! answer that was there to be read, a 401 perhaps, would be lost with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::opener::Counted;

/// A stream that swallows what can no longer be written. How the exchange ends is then for the reading side to say: it
/// finds an answer, or the end of the stream. Only where nothing of the request went out there is nothing to be found,
/// and the error is told.
#[derive(Debug)]
pub(super) struct UpstreamStream<IO> {
    io: IO,
    /// Most bytes of a write that fails of which the peer can have read none.
    all_or_none: usize,
    broken: bool,
    /// The peer may have read some of what was written since the exchange began.
    has_sent: bool,
    /// Whom to tell of the first bytes that come.
    greeting: Option<oneshot::Sender<()>>,
    _counted: Counted,
}

impl<IO> UpstreamStream<IO> {
    /// A stream that one exchange uses at a time. Of a write of at most `all_or_none` bytes that fails, the peer can
    /// have read none.
    pub(super) fn new((io, all_or_none): (IO, usize), counted: Counted) -> Self {
        Self { io, all_or_none, broken: false, has_sent: false, greeting: None, _counted: counted }
    }

    /// A stream that many share; `greeting` is told when the first bytes come.
    pub(super) fn greeting(io: IO, counted: Counted, greeting: oneshot::Sender<()>) -> Self {
        Self { greeting: Some(greeting), ..Self::new((io, 0), counted) }
    }

    /// An exchange begins.
    pub(super) fn begin(&mut self) {
        self.has_sent = false;
    }

    /// Whether all that was written since the exchange began went nowhere.
    pub(super) fn has_lost_all(&self) -> bool {
        self.broken && !self.has_sent
    }

    /// Whether something that was written went nowhere.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// What became of a write of `length` bytes: that of a peer that is gone counts as done, from now on, if anything
    /// was written before.
    fn wrote(&mut self, length: usize, result: io::Result<usize>) -> io::Result<usize> {
        self.has_sent |= result.is_ok() || length > self.all_or_none;
        if !self.has_sent {
            self.broken = true;
            return result;
        }
        self.outcome(result, length)
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

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<IO: AsyncRead + Unpin> AsyncRead for UpstreamStream<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
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
        if this.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes));
        Poll::Ready(this.wrote(bytes.len(), written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = bytes.iter().map(|part| part.len()).sum();
        if this.broken {
            return Poll::Ready(Ok(all));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bytes));
        Poll::Ready(this.wrote(all, written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.io).poll_flush(cx));
        Poll::Ready(this.outcome(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{Counted, UpstreamStream};

    /// B58: what came is read after writing has failed.
    #[tokio::test]
    async fn what_came_is_read_after_writing_has_failed() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = UpstreamStream::new((ours, 0), Counted::none());
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

    /// Only what was written at once, and is no more than the peer reads as a whole, is known to be lost.
    #[tokio::test]
    async fn what_went_nowhere_is_known() {
        for (before, length, has_lost_all) in [(0, 4, true), (0, 5, false), (1, 4, false)] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut stream = UpstreamStream::new((ours, 4), Counted::none());
            stream.write_all(b"the exchange before").await.unwrap();
            stream.begin();
            stream.write_all(&b"x"[..before]).await.unwrap();
            theirs.read_exact(&mut [0; 19]).await.unwrap();
            drop(theirs);
            assert!(!stream.has_lost_all());
            assert_eq!(stream.write_all(&b"xxxxx"[..length]).await.is_err(), has_lost_all, "{before} and {length}");
            assert_eq!(stream.has_lost_all(), has_lost_all, "{before} and {length}");
        }
    }
}
