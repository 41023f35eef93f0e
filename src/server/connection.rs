//! What is known of one caller's connection: shared between the guard, which sees the bytes, and the service, which
//! answers the requests.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;

use super::ListenerSettings;
use super::drain::Distrust;
use super::interim::Interims;
use super::pace::LeastPace;
use super::watch::Alarm;
use crate::answer::Failure;
use crate::peer::{Certificate, Peer};

/// What TLS told of a caller.
#[derive(Clone, Debug, Default)]
pub struct Secured {
    /// The certificate that the caller proved to own, verified against the listener's `client_ca`.
    pub certificate: Option<Arc<Certificate>>,
}

/// The version of HTTP on a caller's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Whether the connection is about to speak another protocol (RFC 9110 7.8, 9.3.6). It is asked once at most: after a
/// refusal the connection closes, because hyper keeps the pending switch and would not flush what it writes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// No request asked for it.
    None,
    /// The request at hand asks for it, and is not answered.
    Asked,
    /// It was agreed to: what follows the request's head belongs to the other protocol.
    Agreed,
    /// It was not.
    Declined,
}

/// How much of the body of the request at hand hyper has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyRead {
    /// All of it, or there is none.
    Whole,
    /// Some is still to come.
    Partly,
    /// All of it came. What is left in hyper's buffer it drops in one step, and the connection can go on.
    Arrived,
    /// All of it came, in chunks. hyper does not step over more than one.
    ArrivedInChunks,
}

/// One caller's connection.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub peer: Peer,
    /// The listener that took it.
    pub listener: Arc<ListenerSettings>,
    /// What TLS told of the caller; none on a connection without TLS.
    pub secured: Option<Secured>,
    /// The version of HTTP that is spoken.
    pub protocol: Protocol,
    /// How fast the caller has to send a request body, where the service is to see to it: in HTTP/2, where only who
    /// reads a body knows whether it waits for the caller. None where the guard sees to it.
    pub body_pace: Option<LeastPace>,
    /// When what takes the connection over ends with the trust in its caller. In HTTP/2 that ends with the connection.
    pub distrust: Option<Distrust>,
    /// Bytes of answers that the caller has yet to take before it is given more than one piece at a time.
    pub(super) unproven: AtomicUsize,
    /// Heads that the guard let hyper see.
    heads: AtomicU64,
    /// Requests that reached the service; hyper serves them in order, one at a time.
    calls: AtomicU64,
    /// Which head was replaced by the harmless one, and why. It is always the last of its connection.
    refused: OnceLock<(u64, Failure)>,
    body_failure: OnceLock<Failure>,
    /// Requests whose answer has ended.
    answers: AtomicU64,
    interims: Interims,
    switch: AtomicU8,
    /// hyper's side of the switch, to get the socket back from it when the switch is declined.
    pending: Mutex<Option<OnUpgrade>>,
    body: AtomicU8,
    alarm: Mutex<Alarm>,
    /// Whether the caller has not taken what was last written to it.
    is_behind: AtomicBool,
}

impl Connection {
    /// A connection on which nothing has been read yet.
    #[must_use]
    pub fn new(peer: Peer, listener: Arc<ListenerSettings>) -> Self {
        Self {
            peer,
            listener,
            secured: None,
            protocol: Protocol::Http1,
            body_pace: None,
            distrust: None,
            unproven: AtomicUsize::new(0),
            heads: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            refused: OnceLock::new(),
            body_failure: OnceLock::new(),
            answers: AtomicU64::new(0),
            interims: Interims::default(),
            switch: AtomicU8::new(Switch::None as u8),
            pending: Mutex::new(None),
            body: AtomicU8::new(BodyRead::Whole as u8),
            alarm: Mutex::default(),
            is_behind: AtomicBool::new(false),
        }
    }

    /// The certificate that the caller proved to own.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.secured.as_ref()?.certificate.as_deref()
    }

    /// Sends an interim answer (RFC 9110 15.2) to the caller, in order and before the answer of the exchange at hand:
    /// any 1xx but 101. To be called from the exchange's own future. Dropped where it cannot be sent: to HTTP/1.0, over
    /// HTTP/2, once the answer has begun, and when the caller has left 16 of them, or 16 KiB, unread.
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        self.interims.push(status, headers);
    }

    /// Whether the request at hand asks for another protocol and may get it: a CONNECT, or HTTP/1.1 with `Upgrade` and
    /// `Connection: upgrade`, without a body, and for something else than `h2c`. Then `hyper::upgrade::on` gives the
    /// connection once the answer, 101 or a 2xx to CONNECT, is written; every other answer closes it. A request that
    /// does not qualify has no `Upgrade` field when it arrives.
    #[must_use]
    pub fn may_switch(&self) -> bool {
        self.switch() == Switch::Asked && self.is_latest()
    }

    /// Whether the caller has shown that it reads what it is sent, or need not show it.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.unproven.load(Ordering::Relaxed) == 0
    }

    /// The connection as one stream of HTTP/2 sees it, on which other streams' failures leave no trace.
    pub(super) fn stream(&self) -> Self {
        Self {
            secured: self.secured.clone(),
            protocol: self.protocol,
            body_pace: self.body_pace,
            ..Self::new(self.peer, Arc::clone(&self.listener))
        }
    }

    /// The scheme of what comes over it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.listener.tls.is_some() { "https" } else { "http" }
    }

    /// Notes that the caller sends the body at hand slower than `body_pace`.
    pub fn body_stalled(&self) {
        self.body_failed(Failure::RequestTimeout);
    }

    /// Why the caller's request body could not be read to its end, when it was the caller's doing.
    #[must_use]
    pub fn body_failure(&self) -> Option<Failure> {
        self.body_failure.get().copied()
    }

    pub(super) fn head_released(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, failure: Failure) {
        let _ = self.refused.set((self.heads.load(Ordering::Relaxed), failure));
        self.head_released();
    }

    pub(super) fn body_failed(&self, failure: Failure) {
        let _ = self.body_failure.set(failure);
    }

    /// The interim answers that the guard is to write.
    pub(super) fn interims(&self) -> &Interims {
        &self.interims
    }

    pub(super) fn switch(&self) -> Switch {
        match self.switch.load(Ordering::Relaxed) {
            asked if asked == Switch::Asked as u8 => Switch::Asked,
            agreed if agreed == Switch::Agreed as u8 => Switch::Agreed,
            declined if declined == Switch::Declined as u8 => Switch::Declined,
            _ => Switch::None,
        }
    }

    pub(super) fn set_switch(&self, switch: Switch) {
        self.switch.store(switch as u8, Ordering::Relaxed);
    }

    /// The answer to the request that asked for a switch is there.
    pub(super) fn settle(&self, agrees: bool) {
        self.set_switch(if agrees { Switch::Agreed } else { Switch::Declined });
        if agrees {
            // It would come to hold the socket, and the socket's guard holds this connection.
            *self.pending.lock() = None;
        }
    }

    /// hyper's side of a switch that was asked for and not agreed to.
    pub(super) fn pending(&self) -> &Mutex<Option<OnUpgrade>> {
        &self.pending
    }

    /// What wakes the exchange at hand. Each waits for its upstream, and few until the end.
    #[must_use]
    pub fn alarm(&self) -> &Mutex<Alarm> {
        &self.alarm
    }

    /// Whether the caller has to take what was written before it is given more of its answer: hyper would collect it, and
    /// the next piece would be read from the upstream. Never over HTTP/2, which has windows.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Notes whether it has; whether that is a change.
    pub(super) fn set_behind(&self, is_behind: bool) -> bool {
        let is_change = self.is_behind() != is_behind;
        if is_change {
            self.is_behind.store(is_behind, Ordering::Relaxed);
        }
        is_change
    }

    /// Notes that the caller is given so much of an answer; whether it has to be written before more is taken. A caller
    /// among many that was never seen to read could leave all of it with us.
    pub(super) fn must_take(&self, length: usize) -> bool {
        let unproven = self.unproven.load(Ordering::Relaxed);
        if unproven > 0 {
            self.unproven.store(unproven.saturating_sub(length), Ordering::Relaxed);
        }
        unproven > 0
    }

    pub(super) fn set_body(&self, body: BodyRead) {
        self.body.store(body as u8, Ordering::Relaxed);
    }

    /// Whether hyper will close the connection because the body of the request at hand is left unread.
    pub(super) fn leaves_body(&self) -> bool {
        let body = self.body.load(Ordering::Relaxed);
        (body == BodyRead::Partly as u8 || body == BodyRead::ArrivedInChunks as u8) && self.is_latest()
    }

    /// Whether the request at hand is the last one that hyper was given. If hyper has the next one already, it has read
    /// all of this one, and what the guard notes is about the next.
    fn is_latest(&self) -> bool {
        self.heads.load(Ordering::Relaxed) == self.calls.load(Ordering::Relaxed)
    }

    /// Takes the next request in order; the failure to answer with when its head was refused.
    pub(super) fn called(&self) -> Option<Failure> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.refused.get().filter(|(head, _)| *head == call).map(|(_, failure)| *failure)
    }

    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a request is being answered.
    pub(super) fn is_serving(&self) -> bool {
        self.heads.load(Ordering::Relaxed) > self.answers.load(Ordering::Relaxed)
    }

    /// Whether no request came yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.heads.load(Ordering::Relaxed) == 0
    }
}
