//! The caller's request body, kept in part so that it can be sent a second time.
//!
//! A request's body moves into the upstream connection, so the body is a shared object: an attempt borrows it,
//! and the next attempt takes it over. A copy of what was read is kept up to a limit per exchange and a budget of the
//! whole process; beyond either the body streams on and can no longer be replayed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::stall::Stall;
use super::prepare::TrailerRule;
use crate::access_log::NotReplayed;
use crate::limit::Limit;
use crate::server::Connection;

pub(super) use self::body::AttemptBody;
pub use self::memory::ReplayMemory;
pub(super) use self::stall::Pause;

mod body;
mod memory;
mod stall;

/// How long a request body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLengths {
    /// Bytes that are kept for a replay.
    pub(super) kept: usize,
    /// Bytes that are read at all; none: without end.
    pub(super) most: Option<usize>,
    /// How long the caller may pause.
    pub(super) pause: Pause,
}

/// A caller's request body, of which every attempt gets its own [`AttemptBody`].
#[derive(Debug, Clone)]
pub(super) struct CallerBody(Option<SharedSource>);

/// What is read from the caller, and what is kept of it.
#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// Set when the caller's last frame was read.
    ended: bool,
    failed: bool,
    kept: BytesMut,
    dropped: Option<NotReplayed>,
    limit: usize,
    memory: Arc<ReplayMemory>,
    read: u64,
    most: u64,
    /// The attempt that may read; a body of an earlier one waits for ever.
    attempt: u32,
    /// Bytes of the copy that this attempt has sent.
    sent: usize,
    trailers: Option<HeaderMap>,
    trailer_rule: TrailerRule,
    trailers_sent: bool,
    /// No other attempt follows: the copy goes as soon as this one has sent it.
    is_last: bool,
    progress: Instant,
    stall: Option<Box<Stall>>,
    gate: Gate,
}

/// Whether an attempt may read from the caller at once.
#[derive(Debug, Default)]
pub(super) enum Gate {
    /// It may.
    #[default]
    Open,
    /// Not before it is released; until then nothing is read, and the caller is not asked for its body.
    Shut(Option<Waker>),
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Every byte was handed to the upstream connection, the last, if there was one, at this time.
    Ended(Option<Instant>),
    /// Bytes are still to come; the last moved at this time.
    Moving(Instant),
    /// The caller's side failed.
    Failed,
}

impl CallerBody {
    /// Wraps what hyper reads from the caller over its connection; at most `lengths.kept` bytes are kept, within `memory`.
    /// The rule for its trailers is made only where there is a body.
    #[must_use]
    pub(super) fn new(
        (incoming, connection): (Incoming, &Arc<Connection>),
        lengths: BodyLengths,
        memory: &Arc<ReplayMemory>,
        trailer_rule: impl FnOnce() -> TrailerRule,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        let BodyLengths { kept: limit, most, pause } = lengths;
        let too_long = incoming.size_hint().lower() > limit as u64;
        Self(Some(SharedSource(Arc::new(Mutex::new(Source {
            incoming,
            ended: false,
            failed: false,
            kept: BytesMut::new(),
            dropped: too_long.then_some(NotReplayed::BodyTooLarge),
            limit,
            memory: Arc::clone(memory),
            read: 0,
            most: most.map_or(u64::MAX, |most| most as u64),
            attempt: 0,
            sent: 0,
            trailers: None,
            trailer_rule: trailer_rule(),
            trailers_sent: false,
            is_last: false,
            progress: Instant::now(),
            stall: Stall::of(connection, pause),
            gate: Gate::Open,
        })))))
    }

    /// A body for the next attempt: first what was kept, then on from the caller. Earlier attempts read no more.
    #[must_use]
    pub(super) fn attempt(&self, gate: Gate) -> AttemptBody {
        match &self.0 {
            None => AttemptBody::Empty,
            Some(source) => {
                let mut held = source.0.lock();
                held.attempt += 1;
                held.sent = 0;
                held.trailers_sent = false;
                held.gate = gate;
                AttemptBody::Caller { attempt: held.attempt, source: source.clone() }
            }
        }
    }

    /// Why the body cannot be sent again, when it cannot.
    #[must_use]
    pub(super) fn not_replayable(&self) -> Option<NotReplayed> {
        self.0.as_ref().and_then(|source| source.0.lock().lost())
    }

    /// Whether there is a body of which nothing was read.
    #[must_use]
    pub(super) fn is_untouched(&self) -> bool {
        self.0.as_ref().is_some_and(|source| {
            let source = source.0.lock();
            source.read == 0 && !source.ended && !source.failed
        })
    }

    /// Whether the attempt at hand still waits for its release.
    #[must_use]
    pub(super) fn is_held_back(&self) -> bool {
        self.0.as_ref().is_some_and(|source| matches!(source.0.lock().gate, Gate::Shut(_)))
    }

    /// Lets the attempt at hand read; whether it had to wait until now.
    pub(super) fn release(&self) -> bool {
        let Some(source) = &self.0 else { return false };
        let Gate::Shut(waker) = std::mem::take(&mut source.0.lock().gate) else { return false };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Stops the attempt at hand from reading on, so that what is kept stays all there is until the next attempt; or
    /// tells why there can be none. Judging and stopping are one step: in between, the copy could be outgrown.
    pub(super) fn take_over(&self) -> Result<(), NotReplayed> {
        let Some(source) = &self.0 else { return Ok(()) };
        let mut source = source.0.lock();
        if let Some(reason) = source.lost() {
            return Err(reason);
        }
        source.attempt += 1;
        Ok(())
    }

    /// How far it has come.
    #[must_use]
    pub(super) fn progress(&self) -> Progress {
        match &self.0 {
            None => Progress::Ended(None),
            Some(source) => {
                let source = source.0.lock();
                match (source.failed, source.ended) {
                    (true, _) => Progress::Failed,
                    (false, true) => Progress::Ended(Some(source.progress)),
                    (false, false) => Progress::Moving(source.progress),
                }
            }
        }
    }

    /// Bytes read from the caller, and the limit that they reached.
    #[must_use]
    pub(super) fn summary(&self) -> (u64, Option<Limit>) {
        let Some(source) = &self.0 else { return (0, None) };
        let source = source.0.lock();
        let limit = match source.dropped {
            _ if source.is_too_large() => Some(Limit::Body),
            Some(NotReplayed::Budget) => Some(Limit::ReplayMemory),
            _ => None,
        };
        (source.read, limit)
    }

    /// Whether more came than may come.
    #[must_use]
    pub(super) fn is_too_large(&self) -> bool {
        self.0.as_ref().is_some_and(|source| source.0.lock().is_too_large())
    }

    /// Says that nothing will be sent again, so that the copy can go.
    pub(super) fn forget(&self) {
        if let Some(source) = &self.0 {
            let mut source = source.0.lock();
            source.is_last = true;
            source.forget_if_last();
        }
    }
}

impl Source {
    fn is_too_large(&self) -> bool {
        self.read > self.most
    }

    /// Why the body is not here any more as a whole. Of one that nobody has read nothing is lost, however long it is.
    fn lost(&self) -> Option<NotReplayed> {
        self.dropped.filter(|_| self.read > 0)
    }

    fn keep(&mut self, data: &Bytes) {
        self.read += data.len() as u64;
        self.progress = Instant::now();
        if self.dropped.is_some() {
            return;
        }
        if self.kept.len() + data.len() > self.limit || self.is_too_large() {
            self.forget(NotReplayed::BodyTooLarge);
        } else if self.memory.take(data.len()) {
            self.kept.extend_from_slice(data);
        } else {
            self.forget(NotReplayed::Budget);
        }
    }

    fn forget_if_last(&mut self) {
        // A copy that this attempt has not sent yet is still the body.
        if self.is_last && self.sent >= self.kept.len() {
            self.forget(NotReplayed::Streamed);
        }
    }

    /// The next piece of the copy, then its trailers; none when the rest must come from the caller.
    fn copy(&mut self) -> Option<Frame<Bytes>> {
        if self.sent < self.kept.len() {
            let rest = self.kept.get(self.sent..).map(Bytes::copy_from_slice).unwrap_or_default();
            self.sent += rest.len();
            self.progress = Instant::now();
            self.forget_if_last();
            return Some(Frame::data(rest));
        }
        if self.ended && !self.trailers_sent {
            self.trailers_sent = true;
            return self.trailers.clone().map(Frame::trailers);
        }
        None
    }

    /// Notes what came from the caller; what is left of it may travel on.
    fn note(&mut self, frame: &mut Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_mut() {
            self.trailer_rule.apply(trailers);
        }
        if let Some(data) = frame.data_ref() {
            self.keep(data);
            if self.dropped.is_none() {
                self.sent += data.len();
            }
            self.forget_if_last();
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.trailers_sent = true;
        }
        // hyper does not tell that trailers end a body.
        self.ended = frame.is_trailers() || self.incoming.is_end_stream();
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallerBodyFailed>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let Some(stall) = &mut self.stall else { return polled.map(readable) };
        if let Poll::Ready(polled) = polled {
            let data = polled.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            let crawls = data.is_some_and(|data| stall.crawls(data.len()));
            return Poll::Ready(if crawls { Some(Err(CallerBodyFailed)) } else { readable(polled) });
        }
        stall.poll(cx).map(|()| Some(Err(CallerBodyFailed)))
    }

    fn forget(&mut self, why: NotReplayed) {
        self.memory.give_back(self.kept.len());
        self.kept = BytesMut::new();
        self.dropped.get_or_insert(why);
    }
}

fn readable(frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<Result<Frame<Bytes>, CallerBodyFailed>> {
    frame.map(|frame| {
        frame.map_err(|error| {
            tracing::debug!(%error, "a caller's body could not be read");
            CallerBodyFailed
        })
    })
}

impl Drop for Source {
    fn drop(&mut self) {
        self.memory.give_back(self.kept.len());
    }
}

/// The shared part of a [`CallerBody`]; opaque to all others.
#[derive(Debug, Clone)]
pub(super) struct SharedSource(Arc<Mutex<Source>>);

/// The caller's side of a request body failed; who is to blame stands with the connection.
#[derive(Debug, thiserror::Error)]
#[error("the caller's body could not be read")]
pub(super) struct CallerBodyFailed;
