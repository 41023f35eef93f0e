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
/// finds an answer, or the end of the stream.
#[derive(Debug)]
pub(super) struct UpstreamStream<IO> {
    io: IO,
    broken: bool,
    /// Whom to tell of the first bytes that come.
    greeting: Option<oneshot::Sender<()>>,
    _counted: Counted,
}

impl<IO> UpstreamStream<IO> {
    /// A stream that one exchange uses at a time.
    pub(super) fn new(io: IO, counted: Counted) -> Self {
        Self { io, broken: false, greeting: None, _counted: counted }
    }

    /// A stream that many share; `greeting` is told when the first bytes come.
    pub(super) fn greeting(io: IO, counted: Counted, greeting: oneshot::Sender<()>) -> Self {
        Self { greeting: Some(greeting), ..Self::new(io, counted) }
    }

    /// Whether something that was written went nowhere.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
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
        Poll::Ready(this.outcome(written, bytes.len()))
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
        Poll::Ready(this.outcome(written, all))
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
        let mut stream = UpstreamStream::new(ours, Counted::none());
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
