//! The stream under an HTTP/2 connection, watched in both directions: floods are ended, deadlines are kept, and no
//! connection holds its worker for long. hyper has none of this (RFC 9113 10.5).
//!
//! Only frame headers are looked at, where they are; nothing is copied or held back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::State;
use super::census::{Census, ENHANCE_YOUR_CALM, Wait};
use crate::metrics::{Flood, Floods};
use crate::server::{Limits, Pace, Watch};

/// So many frames in a row, and it is another connection's turn.
const BURST: u32 = 1024;

/// After a flood the connection is read on for this long, so that the kernel does not answer what still comes with a
/// reset that takes our GOAWAY along.
const FAREWELL: Duration = Duration::from_millis(250);
const FAREWELL_BYTES: usize = 4 * 1024 * 1024;

/// An IO stream that carries HTTP/2, watched.
pub(super) struct Watched<IO> {
    io: IO,
    state: Arc<State>,
    limits: Limits,
    census: Census,
    floods: Floods,
    burst: u32,
    read_watch: Watch<Wait>,
    write_watch: Watch<()>,
    write_pace: Pace,
    ending: Option<Ending>,
}

/// A connection that is being ended.
struct Ending {
    left: usize,
    sleep: Pin<Box<Sleep>>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Watched<IO> {
    pub(super) fn new(io: IO, state: Arc<State>, limits: Limits, floods: Floods) -> Self {
        Self {
            io,
            state,
            limits,
            census: Census::new(&limits),
            floods,
            burst: 0,
            read_watch: Watch::default(),
            write_watch: Watch::default(),
            write_pace: Pace::default(),
            ending: None,
        }
    }

    /// Called when a read finds nothing: an error when the time for it is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wait) = self.census.waits_for(self.state.is_serving()) else {
            self.read_watch.rest();
            return Poll::Pending;
        };
        let limit = match wait {
            Wait::Opening => self.limits.header_timeout.saturating_sub(self.census.age()),
            Wait::Block(_) | Wait::Frame(_) => self.limits.header_timeout,
            Wait::Data(_) => self.limits.body_timeout,
            Wait::Idle(_) => self.limits.idle_timeout,
        };
        ready!(self.read_watch.poll_expired(cx, wait, limit));
        if matches!(wait, Wait::Idle(_)) {
            // Whoever serves the connection says goodbye; what is read meanwhile is served.
            self.state.ended_idle();
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stopped in the middle of a frame")))
    }

    fn count(&self, flood: Flood) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.floods.ended(flood, now) {
            let kind = flood.word();
            tracing::warn!(kind, "a caller's HTTP/2 connection was ended: too many frames of one kind");
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        if self.census.send(bytes) {
            self.count(Flood::Other);
        }
    }

    /// Ends the connection: GOAWAY where it fits, no more writing, and what still comes is dropped for a while.
    fn end(&mut self, cx: &mut Context<'_>, flood: Flood) -> Poll<io::Result<()>> {
        self.count(flood);
        if let Some(last_stream) = self.census.farewell() {
            // Best effort: what the socket does not take at once is not sent.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway(last_stream));
            let _ = Pin::new(&mut self.io).poll_flush(cx);
        }
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        self.ending = Some(Ending { left: FAREWELL_BYTES, sleep: Box::pin(tokio::time::sleep(FAREWELL)) });
        self.poll_ending(cx)
    }

    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(ending) = &mut self.ending else { return Poll::Pending };
        let mut scratch = [0_u8; 16 * 1024];
        for _ in 0..8 {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && ending.left > 0 => {
                    ending.left = ending.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Err(flooded())),
                Poll::Pending => {
                    ready!(ending.sleep.as_mut().poll(cx));
                    return Poll::Ready(Err(flooded()));
                }
            }
        }
        if ending.sleep.is_elapsed() {
            return Poll::Ready(Err(flooded()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Called with every write: a caller that reads nothing is given `body_timeout` for every step, and has to keep to
    /// `body_rate` where it makes us wait.
    fn poll_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &written {
            let waited = self.write_watch.waited();
            let bytes = *result.as_ref().unwrap_or(&0);
            if !waited.is_zero() && self.write_pace.is_too_slow(bytes, waited, self.limits.body_pace()) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller reads too slowly")));
            }
            return written;
        }
        ready!(self.write_watch.poll_expired(cx, (), self.limits.body_timeout));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stopped reading")))
    }
}

fn flooded() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "too many frames of one kind")
}

/// RFC 9113 6.8.
fn goaway(last_stream: u32) -> [u8; 17] {
    let [s0, s1, s2, s3] = last_stream.to_be_bytes();
    let [e0, e1, e2, e3] = ENHANCE_YOUR_CALM.to_be_bytes();
    [0, 0, 8, 7, 0, 0, 0, 0, 0, s0, s1, s2, s3, e0, e1, e2, e3]
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return this.poll_ending(cx);
        }
        if this.burst >= BURST {
            this.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
            this.burst = 0;
            return this.poll_deadline(cx);
        }
        let fresh = buf.filled().get(before..).unwrap_or_default();
        match this.census.receive(fresh, Instant::now()) {
            Ok(frames) => {
                this.burst += frames;
                Poll::Ready(Ok(()))
            }
            Err(flood) => {
                buf.set_filled(before);
                this.end(cx, flood)
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &written {
            this.sent(buf.get(..*written).unwrap_or_default());
        }
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending.is_some() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut left)) = written {
            for buf in bufs {
                let step = left.min(buf.len());
                this.sent(buf.get(..step).unwrap_or_default());
                left -= step;
            }
        }
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_some() { Poll::Ready(Ok(())) } else { Pin::new(&mut this.io).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
