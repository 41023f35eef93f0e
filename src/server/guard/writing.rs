//! What is written to a caller: hyper's bytes as they are, interim answers between its messages, and the end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::linger::Linger;
use super::{Guard, Phase};

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// A caller that does not read its answer is given `body_timeout` for every step.
    fn poll_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        // hyper asks for more of the answer only when it is polled, and nothing else need come to do that.
        if self.connection.set_behind(written.is_pending()) && written.is_ready() {
            cx.waker().wake_by_ref();
        }
        if let Poll::Ready(result) = &written {
            let waited = self.write_watch.waited();
            let bytes = *result.as_ref().unwrap_or(&0);
            if !waited.is_zero() && self.write_pace.is_too_slow(bytes, waited, self.limits.body_pace()) {
                let late = io::Error::new(io::ErrorKind::TimedOut, "the caller reads its answer too slowly");
                return Poll::Ready(Err(late));
            }
            return written;
        }
        ready!(self.write_watch.poll_expired(cx, (), self.limits.body_timeout));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stopped reading its answer")))
    }

    /// Called before bytes of hyper's: whether interim answers are to go first. If so, they belong to the message that
    /// hyper begins, because an exchange can queue them only before its own answer. Later messages in hyper's buffer
    /// find the boundary gone.
    fn must_write_interims(&mut self) -> bool {
        if self.at_boundary {
            self.at_boundary = false;
            self.has_written = true;
            if self.connection.interims().is_queued() {
                self.interim.unsplit(self.connection.interims().take());
            }
        }
        !self.interim.is_empty()
    }

    /// Writes what was taken from the queue.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = Pin::new(&mut self.io).poll_write(cx, &self.interim);
            let length = ready!(self.poll_written(cx, written))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(length);
        }
        Poll::Ready(Ok(()))
    }

    /// Called when hyper has nothing left to write: its exchange, if it has not begun to answer, may have queued some.
    fn poll_queued(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let interims = self.connection.interims();
        if interims.is_open() {
            self.interim.unsplit(interims.take());
            self.has_written = true;
        } else {
            // The answer was begun before they could be written.
            interims.clear();
        }
        self.poll_interims(cx)
    }

    /// Whether the caller may still be sending what nobody will read. On an idle connection it is not: it was told
    /// nothing that a reset could take away. Nor behind a whole request that it said was its last.
    fn should_linger(&self) -> bool {
        match &self.phase {
            Phase::Head => (self.has_written && !self.is_last) || !self.held.is_empty(),
            Phase::Body(_) | Phase::Refused | Phase::Switching => true,
            Phase::Through => false,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.must_write_interims() {
            ready!(this.poll_interims(cx))?;
        }
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.must_write_interims() {
            ready!(this.poll_interims(cx))?;
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.at_boundary = true;
        if !this.interim.is_empty() || this.connection.interims().is_queued() {
            ready!(this.poll_queued(cx))?;
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.begin_idling(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.should_linger() {
                return Poll::Ready(Ok(()));
            }
        }
        this.linger.get_or_insert_with(Linger::new).poll(&mut this.io, cx).map(Ok)
    }
}
