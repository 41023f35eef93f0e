//! The record of one exchange, and the log that gets one JSON line for each.
//!
//! Not `tracing` events: those cost six times as much, and a line that tells of traffic must not depend on a filter.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::Method;

use crate::name::Name;

mod line;
mod request_id;
mod sink;
mod writer;

pub use request_id::RequestId;
pub use sink::OpenError;
pub use writer::{AccessLog, Writer};

/// `log.access`: `"stdout"` (default), `"stderr"`, `"off"`, or `{ file = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

/// Everything worth telling about one exchange. Secrets, tokens and queries are never in it.
#[derive(Debug)]
pub struct Record {
    /// How long the exchange took, from the end of the request's head to that of the answer.
    pub took: Duration,
    /// The request id, also sent to the upstream and the caller.
    pub id: RequestId,
    /// Who asked for what. Only the log tells it, so nobody fills it in where there is none.
    pub asked: Option<Box<Asked>>,
    /// Status sent to the caller; 0 until one is known, and when the caller went away before.
    pub status: u16,
    /// Status of the upstream's last answer.
    pub upstream_status: Option<u16>,
    /// Whether an upstream answer counted as a rejection of the token.
    pub rejected: bool,
    /// Whether a rejected token was renewed for this exchange.
    pub renewed: bool,
    /// Whether the request was sent again with the new token.
    pub replayed: bool,
    /// Why a rejected request was not sent again, or why sending it again did not help.
    pub not_replayed_reason: Option<NotReplayed>,
    /// Request body bytes read from the caller.
    pub bytes_in: u64,
    /// Answer body bytes handed to the caller.
    pub bytes_out: u64,
    /// A failure of ours, by the name `Proxy-Status` gives it, or how the exchange ended early.
    pub error: Option<&'static str>,
}

/// The part of a [`Record`] that is known before the request is sent on.
#[derive(Debug)]
pub struct Asked {
    /// Wall-clock time at which the request's head was read.
    pub time: SystemTime,
    /// Listener that took the request.
    pub listener: Name,
    /// The caller, when one was recognised.
    pub caller: Option<Name>,
    /// The named credential, when one matched.
    pub named_credential: Option<Name>,
    /// Its external credential.
    pub external_credential: Option<Name>,
    /// The principal whose token was attached.
    pub principal: Option<Name>,
    /// Request method; without a path it is not known, whatever stands here.
    pub method: Method,
    /// Request path without its query; empty when the head could not be read.
    pub path: String,
}

/// Why a rejected request was not replayed; the same word in `Proxy-Status`, log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotReplayed {
    /// The body was longer than `replay_limit`.
    BodyTooLarge,
    /// The process-wide memory for copies was used up.
    Budget,
    /// The method is not replayed after this status.
    Method,
    /// The named credential is refused: fresh tokens did not help, or the renewal allowance is used up.
    Refused,
    /// The mint returned the token that was just rejected.
    SameToken,
    /// No new token could be had.
    MintFailed,
    /// The answer had begun to stream to the caller.
    Streamed,
    /// `replay = "never"`.
    Off,
}

impl NotReplayed {
    /// Every reason, for tables and metrics.
    pub const ALL: [Self; 8] = [
        Self::BodyTooLarge,
        Self::Budget,
        Self::Method,
        Self::Refused,
        Self::SameToken,
        Self::MintFailed,
        Self::Streamed,
        Self::Off,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body_too_large",
            Self::Budget => "budget",
            Self::Method => "method",
            Self::Refused => "refused",
            Self::SameToken => "same_token",
            Self::MintFailed => "mint_failed",
            Self::Streamed => "streamed",
            Self::Off => "off",
        }
    }
}
