//! What can go wrong with a mint, told twice: to the operator ([`MintError`]) and to the caller ([`MintFailure`]).
//!
//! Neither holds a byte of a foreign error or answer that was not looked at first.

use std::fmt;
use std::time::Duration;

use super::backoff::Pace;

/// Why a mint failed, for those who wait for a token. Safe to show to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintFailure {
    /// Decides the status.
    pub kind: MintFailureKind,
    /// One clause such as `invalid_client` or `timed out`; names no host and no secret.
    pub cause: String,
    /// When it makes sense to ask again.
    pub retry_after: Duration,
}

/// The kinds of failure that callers are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MintFailureKind {
    /// The token endpoint refuses and would do so again (502).
    Refused,
    /// It answered without a token that can be used (502).
    Unusable,
    /// It is unreachable, slow, failing or limiting us, or a back-off is running (503).
    Unavailable,
    /// Too many callers wait for this token already (503).
    OverCapacity,
}

/// Why a mint failed, for the operator: with what is known of the reason, never with a secret or a token.
#[derive(Clone, Debug)]
pub struct MintError {
    pub(super) kind: MintFailureKind,
    pub(super) pace: Pace,
    pub(super) concerns: Concerns,
    pub(super) cause: String,
    pub(super) detail: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

/// Whose next request would fail in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concerns {
    /// Every request of this client.
    Client,
    /// This very request: what it asks for, not who asks.
    Request,
}

impl MintError {
    pub(super) fn new(kind: MintFailureKind, pace: Pace, cause: impl Into<String>) -> Self {
        Self { kind, pace, concerns: Concerns::Client, cause: cause.into(), detail: None, retry_after: None }
    }

    pub(super) fn unusable(cause: impl Into<String>) -> Self {
        Self::new(MintFailureKind::Unusable, Pace::Transient, cause)
    }

    pub(super) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The kind, which decides what a caller would be answered.
    #[must_use]
    pub fn kind(&self) -> MintFailureKind {
        self.kind
    }

    /// One clause, safe to show to a caller.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What else is known, for the operator: the server's own words, or the causes of a failed connection.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub(super) fn failure(&self) -> MintFailure {
        MintFailure {
            kind: self.kind,
            cause: self.cause.clone(),
            retry_after: self.retry_after.unwrap_or(Duration::ZERO),
        }
    }
}

impl fmt::Display for MintError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            MintFailureKind::Refused => "the token endpoint refuses",
            MintFailureKind::Unusable => "the token endpoint's answer cannot be used",
            MintFailureKind::Unavailable | MintFailureKind::OverCapacity => "no token can be had at the moment",
        };
        write!(formatter, "{verb}: {}", self.cause)?;
        match &self.detail {
            Some(detail) => write!(formatter, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for MintError {}
