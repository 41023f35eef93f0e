//! What a caller sends, on its way to hyper: judged head by head, followed through bodies, held back where it must wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use super::head::{self, HeadLimits, Upgrade};
use super::{Body, Guard, Phase};
use crate::answer::Failure;
use crate::server::Limits;
use crate::server::connection::{BodyRead, Switch};
use crate::server::pace::Pace;

/// What hyper sees in place of a refused head. Only its position among the heads of its connection marks it: a caller
/// that sends the same bytes gets no special treatment.
pub(super) const HARMLESS: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// How much is read from a caller that waits for another protocol, so that its end is noticed.
pub(super) const READ_AHEAD: usize = 16 * 1024;

/// What a read waits for; each has its own limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadWait {
    /// The first byte of the connection.
    First,
    /// The next request on a connection that had one.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
}

/// What the guard found wrong.
enum Fault {
    Head(Failure),
    Body,
}

/// What may be released of the bytes that were judged.
struct Judged {
    /// How many bytes from the start; 0: more are needed.
    approved: usize,
    /// Whether the head in them has `Upgrade` fields that hyper must not see.
    has_void_upgrade: bool,
}

impl<IO> Guard<IO> {
    /// How many bytes at the start of `bytes` belong to the message at hand and may be released.
    fn judge(&mut self, bytes: &[u8], scanned: usize) -> Result<Judged, Fault> {
        let mut judged = Judged { approved: 0, has_void_upgrade: false };
        let is_new = matches!(self.phase, Phase::Head);
        if is_new {
            let Limits { target, header, header_fields: fields, .. } = self.limits;
            let limits = HeadLimits { target, header, fields };
            let Some(head) = head::judge(bytes, scanned, limits).map_err(Fault::Head)? else {
                return Ok(judged);
            };
            self.is_last = head.is_last;
            judged = Judged { approved: head.length, has_void_upgrade: head.upgrade == Upgrade::Void };
            if head.upgrade == Upgrade::Asked {
                self.phase = Phase::Switching;
                self.connection.set_switch(Switch::Asked);
            } else {
                self.phase = Phase::Body(head.framing);
            }
        }
        if let Phase::Body(framing) = &mut self.phase {
            let rest = bytes.get(judged.approved..).unwrap_or_default();
            // While hyper has not seen the head, it can still be refused as a whole.
            let fault = if is_new { Fault::Head(Failure::BadRequest) } else { Fault::Body };
            if is_new && !framing.is_done() {
                self.body = if framing.is_chunked() { Body::Chunked } else { Body::Sized };
            }
            judged.approved += framing.advance(rest).map_err(|_| fault)?;
            if framing.is_done() {
                self.phase = Phase::Head;
            }
        }
        if is_new {
            self.connection.head_released();
            self.read_watch.rest();
            self.read_pace = Pace::default();
        }
        Ok(judged)
    }

    /// Puts the harmless head in place of what the caller sent and says why.
    fn refuse(&mut self, failure: Failure) {
        self.connection.refuse(failure);
        self.phase = Phase::Refused;
        self.body = Body::None;
        self.held = BytesMut::from(HARMLESS);
        self.approved = self.held.len();
    }

    /// A body cannot be followed to its end: nothing after it is ever read.
    fn fail(&mut self, failure: Failure, error: io::Error) -> io::Error {
        self.connection.body_failed(failure);
        self.phase = Phase::Refused;
        self.held = BytesMut::new();
        error
    }

    fn fault(&mut self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Head(failure) => {
                self.refuse(failure);
                Ok(())
            }
            Fault::Body => {
                let broken = io::Error::new(io::ErrorKind::InvalidData, "broken chunk framing");
                Err(self.fail(Failure::BadRequest, broken))
            }
        }
    }

    /// Called when bytes have come. A head has its time as a whole, so what was waited for it counts on; a body may
    /// pause, but not crawl.
    fn keep_pace(&mut self, bytes: usize) -> io::Result<()> {
        if let Phase::Body(_) = self.phase {
            let waited = self.read_watch.waited();
            if self.read_pace.is_too_slow(bytes, waited, self.limits.body_pace()) {
                let late = io::Error::new(io::ErrorKind::TimedOut, "the caller sends its body too slowly");
                return Err(self.fail(Failure::RequestTimeout, late));
            }
        }
        Ok(())
    }

    /// Which deadline runs while no byte comes; none while an exchange without outstanding body bytes is being served,
    /// and none where the service keeps the time.
    fn waits_for(&self) -> Option<ReadWait> {
        match &self.phase {
            Phase::Body(_) => Some(ReadWait::Body),
            Phase::Refused | Phase::Switching | Phase::Through => None,
            // RFC 9112 2.2: an empty line is no beginning of a head; old callers send one behind a body.
            Phase::Head if !matches!(&self.held[..], b"" | b"\r" | b"\r\n") => Some(ReadWait::Head),
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
            ReadWait::Idle => {
                self.has_written = false;
                self.limits.idle_timeout
            }
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
                let late = io::Error::new(io::ErrorKind::TimedOut, "the caller stopped sending its body");
                Poll::Ready(Err(self.fail(Failure::RequestTimeout, late)))
            }
        }
    }

    /// Called when hyper has written all it had. If that ended an answer, the connection idles from now on, and hyper
    /// reads again only when it is woken.
    pub(super) fn begin_idling(&mut self, cx: &mut Context<'_>) {
        if self.waits_for() == Some(ReadWait::Idle) {
            self.read_watch.begin(cx, ReadWait::Idle, self.limits.idle_timeout);
        }
    }

    /// Hands out approved bytes; whether there were any.
    fn release(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.approved == 0 {
            return false;
        }
        let step = self.approved.min(buf.remaining());
        buf.put_slice(self.held.get(..step).unwrap_or_default());
        self.held.advance(step);
        self.approved -= step;
        step > 0
    }

    /// Says how much of a body hyper was given.
    fn note_body(&self) {
        let read = match (&self.phase, self.body) {
            (_, Body::None) => return,
            (Phase::Head, Body::Sized) if self.approved == 0 => BodyRead::Arrived,
            (Phase::Head, Body::Chunked) if self.approved == 0 => BodyRead::ArrivedInChunks,
            _ => BodyRead::Partly,
        };
        self.connection.set_body(read);
    }

    /// hyper reads on only when it has nothing left: of a message that was released to its end, it has read all.
    fn note_body_end(&mut self) {
        if self.body != Body::None && matches!(self.phase, Phase::Head) {
            self.body = Body::None;
            self.connection.set_body(BodyRead::Whole);
        }
    }

    /// Judges what was held back before.
    fn judge_held(&mut self) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        let judged = self.judge(&held, self.scanned);
        if let Ok(Judged { approved, has_void_upgrade: true }) = &judged {
            let removed = held.len() - head::remove_upgrade(&mut held);
            held.truncate(held.len() - removed);
            self.held = held;
            return self.approve_held(approved - removed);
        }
        self.held = held;
        match judged {
            Ok(judged) => self.approve_held(judged.approved),
            Err(fault) => self.fault(fault),
        }
    }

    fn approve_held(&mut self, approved: usize) -> io::Result<()> {
        self.approved = approved;
        self.scanned = if approved == 0 { self.held.len() } else { 0 };
        Ok(())
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
            Ok(Judged { approved, has_void_upgrade }) => {
                if let Some(rest) = fresh.get(approved..).filter(|rest| !rest.is_empty()) {
                    self.held.extend_from_slice(rest);
                }
                self.scanned = if approved == 0 { self.held.len() } else { 0 };
                buf.set_filled(before + approved);
                if has_void_upgrade {
                    let released = buf.filled_mut().get_mut(before..).unwrap_or_default();
                    let left = head::remove_upgrade(released);
                    buf.set_filled(before + left);
                }
                Ok(approved > 0)
            }
            Err(fault) => {
                buf.set_filled(before);
                self.fault(fault).map(|()| false)
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    /// Nothing is released between a request for another protocol and the answer that agrees to it (RFC 9110 7.8). After
    /// an answer that does not, the connection ends.
    fn poll_switching(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.connection.switch() == Switch::Agreed {
            self.phase = Phase::Through;
            self.approved = self.held.len();
            return self.poll_through(cx, buf);
        }
        let mut scratch = [0_u8; 2048];
        while self.held.len() < READ_AHEAD {
            let mut ahead = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(ahead.filled());
        }
        Poll::Pending
    }

    fn poll_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.release(buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.release(buf) {
                this.note_body();
                return Poll::Ready(Ok(()));
            }
            match this.phase {
                Phase::Head | Phase::Body(_) => this.note_body_end(),
                // The answer is on its way and closes the connection; nothing more is read before that.
                Phase::Refused => return Poll::Pending,
                Phase::Switching => return this.poll_switching(cx, buf),
                Phase::Through => return this.poll_through(cx, buf),
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
            this.keep_pace(buf.filled().len() - before)?;
            if this.judge_fresh(buf, before)? {
                this.note_body();
                return Poll::Ready(Ok(()));
            }
        }
    }
}
