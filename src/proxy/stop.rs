//! Why an exchange stops without an answer of the upstream: the failure, and what may be told about it.

use std::time::Duration;

use http::HeaderValue;

use crate::answer::{Detail, Failure};
use crate::connect::ConnectError;
use crate::server::Connection;
use crate::token::{CellUnavailable, MintFailure, MintFailureKind};
use crate::upstream::{CheckoutError, SendError, TransferError};

/// An exchange ends here with an answer of our own.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) failure: Failure,
    pub(super) detail: Detail,
}

impl Stop {
    pub(super) fn new(failure: Failure) -> Self {
        Self { failure, detail: Detail::default() }
    }

    /// With one clause that is safe to show to the caller.
    pub(super) fn with(failure: Failure, text: impl Into<String>) -> Self {
        Self { failure, detail: Detail { text: Some(text.into()), ..Detail::default() } }
    }

    /// A 405 and what would be allowed.
    pub(super) fn not_allowed(allow: HeaderValue) -> Self {
        Self { failure: Failure::MethodNotAllowed, detail: Detail { allow: Some(allow), ..Detail::default() } }
    }
}

/// No token could be had.
pub(super) fn mint(failure: &MintFailure) -> Stop {
    let (kind, retry_after) = match failure.kind {
        MintFailureKind::Refused | MintFailureKind::Unusable => (Failure::TokenRefused, None),
        MintFailureKind::Unavailable => (Failure::TokenUnavailable, Some(failure.retry_after)),
        MintFailureKind::OverCapacity => (Failure::OverCapacity, Some(Duration::from_secs(1))),
    };
    Stop { failure: kind, detail: Detail { text: Some(failure.cause.clone()), retry_after, allow: None } }
}

/// A formula gives nothing that could be sent; `problem` holds no value and no name of a secret.
pub(super) fn formula(what: &str, problem: &str) -> Stop {
    Stop::with(Failure::FormulaFailed, format!("{what}: {problem}"))
}

/// The tokens for this exchange have no place.
pub(super) fn cell(problem: &CellUnavailable) -> Stop {
    let retry_after = match problem {
        CellUnavailable::Formula(error) => return formula("scope or audience", &error.to_string()),
        CellUnavailable::TooManyValues { retry_after } => *retry_after,
        CellUnavailable::Ended => Duration::from_secs(1),
    };
    let detail = Detail { text: Some(problem.to_string()), retry_after: Some(retry_after), allow: None };
    Stop { failure: Failure::OverCapacity, detail }
}

/// No connection to the upstream could be had. What went wrong in detail is for the operator's log alone.
pub(super) fn checkout(error: &CheckoutError) -> Stop {
    tracing::debug!(%error, cause = error_chain(error), "no upstream connection");
    match error {
        CheckoutError::Connect(error) => connect(error),
        CheckoutError::Handshake(_) | CheckoutError::NotHttp2 => Stop::new(Failure::UpstreamProtocol),
        CheckoutError::Busy => {
            let detail = Detail { retry_after: Some(Duration::from_secs(1)), ..Detail::default() };
            Stop { failure: Failure::OverCapacity, detail }
        }
    }
}

fn connect(error: &ConnectError) -> Stop {
    match error {
        ConnectError::Dns(_) => Stop::new(Failure::UpstreamDns),
        ConnectError::Forbidden => Stop::new(Failure::UpstreamForbidden),
        ConnectError::Refused(_) => Stop::new(Failure::UpstreamUnreachable),
        ConnectError::Tls(_) => Stop::new(Failure::UpstreamTls),
        ConnectError::OtherProtocol => Stop::with(Failure::UpstreamProtocol, error.to_string()),
        ConnectError::Timeout => Stop::new(Failure::UpstreamConnectTimeout),
        ConnectError::Proxy { status } => refused_by_proxy(*status),
        ConnectError::ProxyUnreached(_) | ConnectError::ProxyAnswer(_) | ConnectError::ProxySpoke => {
            Stop::with(Failure::HttpProxy, error.to_string())
        }
    }
}

/// The proxy on the way out does not let this through.
fn refused_by_proxy(status: u16) -> Stop {
    Stop::with(Failure::HttpProxy, format!("it answered {status}"))
}

/// The request got no answer.
pub(super) fn send(error: &SendError, connection: &Connection) -> Stop {
    match error {
        SendError::RequestBody(_) => Stop::new(connection.body_failure().unwrap_or(Failure::BadRequest)),
        SendError::Broken(TransferError::Malformed(what)) => Stop::with(Failure::UpstreamProtocol, *what),
        SendError::Broken(_) => Stop::new(Failure::UpstreamProtocol),
        SendError::Proxy { status } => refused_by_proxy(*status),
        SendError::Unsent | SendError::Refused(_) | SendError::Lost(_) => {
            // The caller's body may have been the reason why the connection was given up.
            let failure = connection.body_failure().unwrap_or(Failure::UpstreamClosed);
            Stop::new(failure)
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
