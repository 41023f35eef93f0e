//! The guard: an IO wrapper between socket and hyper that sees every byte a caller sends.
//!
//! It finds each request head, checks it strictly, follows the body only by length or chunk state, and lets hyper see
//! one message at a time. A head that fails the check is replaced by a fixed harmless one, and the reason is left with
//! the connection, so that the service answers it in order, in our format and with a line in the log. The guard also
//! keeps the time: hyper has one knob for slow heads and idle connections and none for slow bodies.
//!
//! Not here: what a request means. That is the service's part.

mod framing;
mod head;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::framing::Framing;
use self::head::HeadLimits;
use super::connection::Connection;
use super::{Limits, Watch};
use crate::answer::Failure;

/// What hyper sees in place of a refused head. Only its position among the heads of its connection marks it: a caller
/// that sends the same bytes gets no special treatment.
const HARMLESS: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// After a refusal or an early answer, this much of what the caller still sends is read and dropped, so that the
/// kernel does not answer it with a reset that takes our answer along.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// An IO stream with the guard before it.
pub(crate) struct Guard<IO> {
    io: IO,
    connection: Arc<Connection>,
    limits: Limits,
    phase: Phase,
    /// Bytes read from the socket that hyper may not see yet; the first `approved` of them it may.
    held: BytesMut,
    approved: usize,
    /// Bytes of `held` searched for the end of a head before.
    scanned: usize,
    read_watch: Watch<ReadWait>,
    write_watch: Watch<()>,
    linger: Option<Linger>,
}

#[derive(Debug)]
enum Phase {
    Head,
    Body(Framing),
    Refused,
}

/// What a read waits for; each has its own limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadWait {
    /// The first byte of the connection.
    First,
    /// The next request on a connection that had one.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
}

struct Linger {
    left: usize,
    sleep: Pin<Box<Sleep>>,
}

impl<IO> Guard<IO> {
    /// Guards `io`, leaving what it finds with `connection`.
    pub(crate) fn new(io: IO, connection: Arc<Connection>, limits: Limits) -> Self {
        Self {
            io,
            connection,
            limits,
            phase: Phase::Head,
            held: BytesMut::new(),
            approved: 0,
            scanned: 0,
            read_watch: Watch::default(),
            write_watch: Watch::default(),
            linger: None,
        }
    }

    /// How many bytes at the start of `bytes` belong to the message at hand and may be released; 0: more are needed.
    fn judge(&mut self, bytes: &[u8], scanned: usize) -> Result<usize, Fault> {
        let mut end = 0;
        let is_new = matches!(self.phase, Phase::Head);
        if is_new {
            let Limits { target, header, header_fields: fields, .. } = self.limits;
            let limits = HeadLimits { target, header, fields };
            let Some(head_end) = head::end(bytes, scanned) else {
                return head::check_length(bytes, limits).map(|()| 0).map_err(Fault::Head);
            };
            let head = bytes.get(..head_end).unwrap_or_default();
            let framing = head::check(head, limits).map_err(Fault::Head)?;
            self.phase = Phase::Body(framing);
            end = head_end;
        }
        if let Phase::Body(framing) = &mut self.phase {
            let rest = bytes.get(end..).unwrap_or_default();
            // While hyper has not seen the head, it can still be refused as a whole.
            let fault = if is_new { Fault::Head(Failure::BadRequest) } else { Fault::Body };
            end += framing.advance(rest).map_err(|_| fault)?;
            if framing.is_done() {
                self.phase = Phase::Head;
            }
        }
        if is_new {
            self.connection.head_released();
        }
        Ok(end)
    }

    /// Puts the harmless head in place of what the caller sent and says why.
    fn refuse(&mut self, failure: Failure) {
        self.connection.refuse(failure);
        self.phase = Phase::Refused;
        self.held = BytesMut::from(HARMLESS);
        self.approved = self.held.len();
    }

    fn fault(&mut self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Head(failure) => {
                self.refuse(failure);
                Ok(())
            }
            Fault::Body => {
                self.connection.body_failed(Failure::BadRequest);
                Err(io::Error::new(io::ErrorKind::InvalidData, "broken chunk framing"))
            }
        }
    }

    /// Which deadline runs while no byte comes; none while an exchange without outstanding body bytes is being served.
    fn waits_for(&self) -> Option<ReadWait> {
        match &self.phase {
            Phase::Body(_) => Some(ReadWait::Body),
            Phase::Refused => None,
            Phase::Head if !self.held.is_empty() => Some(ReadWait::Head),
            Phase::Head if self.connection.is_serving() => None,
            Phase::Head if self.connection.is_fresh() => Some(ReadWait::First),
            Phase::Head => Some(ReadWait::Idle),
        }
    }

    /// Called when a read finds nothing: `Ready` when the time for it is over.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wait) = self.waits_for() else {
            return Poll::Pending;
        };
        let limit = match wait {
            ReadWait::First | ReadWait::Head => self.limits.header_timeout,
            ReadWait::Idle => self.limits.idle_timeout,
            ReadWait::Body => self.limits.body_timeout,
        };
        ready!(self.read_watch.poll_expired(cx, wait, limit));
        match wait {
            ReadWait::First | ReadWait::Idle => Poll::Ready(Ok(())),
            ReadWait::Head => {
                self.refuse(Failure::RequestTimeout);
                Poll::Ready(Ok(()))
            }
            ReadWait::Body => {
                self.connection.body_failed(Failure::RequestTimeout);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stopped sending its body")))
            }
        }
    }

    /// Whether the caller may still be sending what nobody will read.
    fn should_linger(&self) -> bool {
        !matches!(self.phase, Phase::Head) || !self.held.is_empty()
    }
}

/// What the guard found wrong.
enum Fault {
    Head(Failure),
    Body,
}

impl<IO> Guard<IO> {
    /// Hands out approved bytes; whether there were any.
    fn release(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let step = self.approved.min(buf.remaining());
        buf.put_slice(self.held.get(..step).unwrap_or_default());
        self.held.advance(step);
        self.approved -= step;
        step > 0
    }

    /// Judges what was held back before.
    fn judge_held(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let judged = self.judge(&held, self.scanned);
        self.held = held;
        match judged {
            Ok(approved) => {
                self.approved = approved;
                self.scanned = if approved == 0 { self.held.len() } else { 0 };
                Ok(())
            }
            Err(fault) => self.fault(fault),
        }
    }

    /// Judges what was just read behind `before` and leaves in `buf` what hyper may see; whether that is anything.
    fn judge_fresh(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<bool> {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !self.held.is_empty() {
            self.held.extend_from_slice(fresh);
            buf.set_filled(before);
            return Ok(false);
        }
        // The usual case: whole messages land in hyper's buffer and are judged there, without a copy.
        match self.judge(fresh, 0) {
            Ok(approved) => {
                self.held.extend_from_slice(fresh.get(approved..).unwrap_or_default());
                self.scanned = if approved == 0 { self.held.len() } else { 0 };
                buf.set_filled(before + approved);
                Ok(approved > 0)
            }
            Err(fault) => {
                buf.set_filled(before);
                self.fault(fault).map(|()| false)
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.release(buf) {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.phase, Phase::Refused) {
                // The answer is on its way and closes the connection; nothing more is read before that.
                return Poll::Pending;
            }
            if this.held.len() > this.scanned {
                this.judge_held()?;
                continue;
            }
            let before = buf.filled().len();
            if Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
                ready!(this.poll_deadline(cx))?;
                if this.approved == 0 {
                    // The time for a request is over: the end of the stream.
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.read_watch.rest();
            if this.judge_fresh(buf, before)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// A caller that does not read its answer is given `body_timeout` for every step.
    fn poll_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_watch.rest();
            return written;
        }
        ready!(self.write_watch.poll_expired(cx, (), self.limits.body_timeout));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller stopped reading its answer")))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.poll_written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.should_linger() {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this
            .linger
            .get_or_insert_with(|| Linger { left: LINGER_BYTES, sleep: Box::pin(tokio::time::sleep(LINGER_TIME)) });
        let mut scratch = [0_u8; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && linger.left > 0 => {
                    linger.left = linger.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(linger.sleep.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
