//! What is known of one caller's connection: shared between the guard, which sees the bytes, and the service, which
//! answers the requests.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::ListenerSettings;
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
    /// Heads that the guard let hyper see.
    heads: AtomicU64,
    /// Requests that reached the service; hyper serves them in order, one at a time.
    calls: AtomicU64,
    /// Which head was replaced by the harmless one, and why. It is always the last of its connection.
    refused: OnceLock<(u64, Failure)>,
    body_failure: OnceLock<Failure>,
    serving: AtomicUsize,
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
            heads: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            refused: OnceLock::new(),
            body_failure: OnceLock::new(),
            serving: AtomicUsize::new(0),
        }
    }

    /// The certificate that the caller proved to own.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.secured.as_ref()?.certificate.as_deref()
    }

    /// Why the caller's request body could not be read to its end, when it was the caller's doing.
    #[must_use]
    pub fn body_failure(&self) -> Option<Failure> {
        self.body_failure.get().copied()
    }

    pub(super) fn head_released(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.serving.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, failure: Failure) {
        let _ = self.refused.set((self.heads.load(Ordering::Relaxed), failure));
        self.head_released();
    }

    pub(super) fn body_failed(&self, failure: Failure) {
        let _ = self.body_failure.set(failure);
    }

    /// Takes the next request in order; the failure to answer with when its head was refused.
    pub(super) fn called(&self) -> Option<Failure> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.refused.get().filter(|(head, _)| *head == call).map(|(_, failure)| *failure)
    }

    pub(super) fn answered(&self) {
        self.serving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request is being answered.
    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed) > 0
    }

    /// Whether no request came yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.heads.load(Ordering::Relaxed) == 0
    }
}
