//! HTTP/2 connections to one upstream, each shared by many exchanges.
//!
//! How many streams a server allows is a hint here, h2 keeps it strictly: an exchange beyond it would wait behind
//! others. So we count, and open a further connection when all are full, one at a time, whoever waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::time::Instant;

use super::PoolLimits;
use super::connection::SendError;
use super::idle::Sweeping;
use super::opener::{CheckoutError, Open};
use super::refusal::{self, Fate};
use super::stoppable::{Off, Stoppable};

/// The connections of one pool.
#[derive(Debug)]
pub(super) struct Trunks<B> {
    held: Mutex<Held<B>>,
    open: Arc<Open>,
    sweeping: AtomicBool,
}

#[derive(Debug)]
struct Held<B> {
    trunks: Vec<Trunk<B>>,
    /// There while a connection is being opened; how that fails.
    opening: Option<watch::Receiver<Option<CheckoutError>>>,
}

/// What there is for an exchange.
#[derive(Debug)]
pub(super) enum Found<'a, B> {
    /// A stream of a connection that was there before.
    Stream(Stream<B>),
    /// Nothing: open a connection.
    Open(Opening<'a, B>),
    /// Nothing: wait for this, or until a stream ends.
    Wait(Option<watch::Receiver<Option<CheckoutError>>>),
}

/// The right to open a connection. Dropped without one, it goes to the next who waits.
#[derive(Debug)]
pub(super) struct Opening<'a, B> {
    trunks: &'a Trunks<B>,
    outcome: watch::Sender<Option<CheckoutError>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Trunk<B> {
    sender: http2::SendRequest<Stoppable<B>>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    streams: AtomicUsize,
    limit: Arc<AtomicUsize>,
    /// No exchange is given to it any more; those on it go on.
    is_left: AtomicBool,
    opened: Instant,
    idle_since: Mutex<Instant>,
}

/// One exchange's place on a connection. Dropped, it resets its stream, if that has not ended, and no other.
#[derive(Debug)]
pub(super) struct Stream<B> {
    sender: http2::SendRequest<Stoppable<B>>,
    state: Arc<State>,
    open: Arc<Open>,
    body: Option<Arc<Off>>,
    answer: Option<Incoming>,
}

impl<B> Trunks<B> {
    pub(super) fn new(open: Arc<Open>) -> Self {
        let held = Mutex::new(Held { trunks: Vec::new(), opening: None });
        Self { held, open, sweeping: AtomicBool::new(false) }
    }

    /// A stream where there is room. `may_open`: whether there may be another connection.
    pub(super) fn find(&self, limits: &PoolLimits, may_open: impl FnOnce() -> bool) -> Found<'_, B> {
        let mut held = self.held.lock();
        let now = Instant::now();
        held.trunks.retain(|trunk| trunk.takes_more(now, limits));
        if let Some(trunk) = held.trunks.iter().find(|trunk| trunk.has_room()) {
            return Found::Stream(trunk.stream(&self.open));
        }
        if let Some(opening) = &held.opening {
            return Found::Wait(Some(opening.clone()));
        }
        if !may_open() {
            return Found::Wait(None);
        }
        let (outcome, opening) = watch::channel(None);
        held.opening = Some(opening);
        Found::Open(Opening { trunks: self, outcome })
    }

    /// Ready once a stream has ended, or a connection closed, after this call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.open.freed.notified()
    }

    /// Closes connections without exchanges that nobody asked for in time; false when none is left.
    pub(super) fn sweep(&self, limits: &PoolLimits) -> bool {
        let mut held = self.held.lock();
        let now = Instant::now();
        held.trunks.retain(|trunk| trunk.takes_more(now, limits) && !trunk.is_idle(now, limits));
        if held.trunks.is_empty() {
            self.sweeping.store(false, Ordering::Relaxed);
        }
        !held.trunks.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        let held = self.held.lock();
        held.trunks.is_empty() && held.opening.is_none()
    }
}

impl<B> Opening<'_, B> {
    /// It is open; its first stream.
    pub(super) fn opened(self, trunk: Trunk<B>) -> (Stream<B>, Sweeping) {
        let stream = trunk.stream(&self.trunks.open);
        self.trunks.held.lock().trunks.push(trunk);
        let is_swept = self.trunks.sweeping.swap(true, Ordering::Relaxed);
        (stream, if is_swept { Sweeping::Fine } else { Sweeping::Start })
    }

    /// It could not be opened, and all who wait for it learn why.
    pub(super) fn failed(self, error: &CheckoutError) {
        self.outcome.send_replace(Some(error.clone()));
    }
}

impl<B> Drop for Opening<'_, B> {
    fn drop(&mut self) {
        // Before the sender goes, whose end tells those who wait to look again.
        self.trunks.held.lock().opening = None;
    }
}

impl<B> Trunk<B> {
    pub(super) fn new(sender: http2::SendRequest<Stoppable<B>>) -> Self {
        let now = Instant::now();
        let state = State {
            streams: AtomicUsize::new(0),
            limit: Arc::new(AtomicUsize::new(1)),
            is_left: AtomicBool::new(false),
            opened: now,
            idle_since: Mutex::new(now),
        };
        Self { sender, state: Arc::new(state) }
    }

    /// Where the number of streams that the server allows is published.
    pub(super) fn limit(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.state.limit)
    }

    fn stream(&self, open: &Arc<Open>) -> Stream<B> {
        self.state.streams.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&self.state);
        Stream { sender: self.sender.clone(), state, open: Arc::clone(open), body: None, answer: None }
    }

    fn takes_more(&self, now: Instant, limits: &PoolLimits) -> bool {
        !self.sender.is_closed()
            && !self.state.is_left.load(Ordering::Relaxed)
            && now.saturating_duration_since(self.state.opened) < limits.age
    }

    fn has_room(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) < self.state.limit.load(Ordering::Relaxed)
    }

    fn is_idle(&self, now: Instant, limits: &PoolLimits) -> bool {
        self.state.streams.load(Ordering::Relaxed) == 0
            && now.saturating_duration_since(*self.state.idle_since.lock()) >= limits.idle
    }
}

impl<B> Stream<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// As [`Lease::send`](super::Lease::send).
    pub(super) async fn send(&mut self, request: Request<B>) -> Result<Response<()>, SendError> {
        let (head, body) = request.into_parts();
        let (body, off) = Stoppable::new(body);
        self.body = off;
        let sent = self.sender.try_send_request(Request::from_parts(head, body)).await;
        let answer = sent.map_err(|mut error| {
            if error.take_message().is_some() {
                self.leave();
                return SendError::Unsent;
            }
            let error = error.into_error();
            if refusal::ends_connection(&error) {
                self.leave();
            }
            match refusal::fate(&error) {
                Fate::Refused => SendError::Refused(error.into()),
                Fate::Broken => SendError::Broken(error.into()),
                Fate::Lost => SendError::Lost(error.into()),
            }
        })?;
        let (head, answer) = answer.into_parts();
        self.answer = Some(answer);
        Ok(Response::from_parts(head, ()))
    }

    /// The content of its answer, once the head is there.
    pub(super) fn answer(&self) -> Option<&Incoming> {
        self.answer.as_ref()
    }

    /// The same, to be read.
    pub(super) fn answer_mut(&mut self) -> Option<&mut Incoming> {
        self.answer.as_mut()
    }

    fn leave(&self) {
        self.state.is_left.store(true, Ordering::Relaxed);
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        if let Some(body) = &self.body {
            body.call();
        }
        if self.state.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.state.idle_since.lock() = Instant::now();
        }
        self.open.freed.notify_one();
    }
}
