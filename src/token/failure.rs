//! What can go wrong with a mint, told twice: to the operator ([`MintError`]) and to the caller ([`MintFailure`]).
//!
//! Neither holds a byte of a foreign error or answer that was not looked at first.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::backoff::Pace;
use crate::connect::ConnectError;
use crate::fetch::FetchError;

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
    /// This very request: what it asks for, or the grant that it brings, and not who asks.
    Request,
}

impl MintError {
    pub(super) fn new(kind: MintFailureKind, pace: Pace, cause: impl Into<String>) -> Self {
        Self { kind, pace, concerns: Concerns::Client, cause: cause.into(), detail: None, retry_after: None }
    }

    pub(super) fn unusable(cause: impl Into<String>) -> Self {
        Self::new(MintFailureKind::Unusable, Pace::Transient, cause)
    }

    /// No answer at all. A caller hears what kind of failure it was; the operator also the causes, which name
    /// addresses.
    pub(super) fn unanswered(error: &FetchError) -> Self {
        let unavailable = |pace, cause: &str| Self::new(MintFailureKind::Unavailable, pace, cause);
        let converted = match error {
            FetchError::Url(problem) => {
                return Self::new(MintFailureKind::Refused, Pace::Permanent, format!("misconfigured: {problem}"));
            }
            FetchError::TooLarge { limit } => {
                return Self::unusable(format!("the answer is longer than {limit} bytes"));
            }
            FetchError::Connect(ConnectError::Timeout) => unavailable(Pace::Unreached, "timed out"),
            FetchError::Connect(
                error @ (ConnectError::Dns(_) | ConnectError::Refused(_) | ConnectError::ProxyUnreached(_)),
            ) => unavailable(Pace::Unreached, &error.to_string()),
            FetchError::Connect(error @ ConnectError::Forbidden) => return Self::misconfigured(&error.to_string()),
            FetchError::Connect(
                error @ (ConnectError::Tls(_)
                | ConnectError::OtherProtocol
                | ConnectError::Proxy { .. }
                | ConnectError::ProxyAnswer(_)
                | ConnectError::ProxySpoke),
            ) => unavailable(Pace::Transient, &error.to_string()),
            FetchError::Http(_) => unavailable(Pace::Transient, "the exchange broke off"),
            FetchError::Timeout => unavailable(Pace::Transient, "timed out"),
        };
        let causes = causes(error, &converted.cause);
        if causes.is_empty() { converted } else { converted.with_detail(causes) }
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

/// The texts of all causes below `error`, outermost first, none twice in a row and not `told` again.
fn causes(error: &dyn std::error::Error, told: &str) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(current) = cause {
        let text = current.to_string();
        if texts.last() != Some(&text) && text != told {
            texts.push(text);
        }
        cause = current.source();
    }
    texts.join(": ")
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

impl Error for MintError {}

impl MintError {
    /// Asking again will not help: something is written that cannot be sent.
    pub(super) fn misconfigured(problem: &str) -> Self {
        Self::new(MintFailureKind::Refused, Pace::Permanent, format!("misconfigured: {problem}"))
    }

    /// The time for the whole token request is over.
    pub(super) fn timed_out() -> Self {
        Self::new(MintFailureKind::Unavailable, Pace::Transient, "timed out")
    }
}

/// The texts of an error and of all causes below it, outermost first.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::new();
    let mut cause = Some(error);
    while let Some(current) = cause {
        let text = current.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        cause = current.source();
    }
    texts.join(": ")
}

#[cfg(test)]
impl MintError {
    /// For the tests of other rooms.
    pub(crate) fn sample(cause: &str, detail: Option<&str>) -> Self {
        let error = Self::new(MintFailureKind::Refused, Pace::Permanent, cause);
        match detail {
            Some(detail) => error.with_detail(detail),
            None => error,
        }
    }
}
