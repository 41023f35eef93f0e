//! What hyper's errors over HTTP/2 say about the fate of a request. hyper tells only that an exchange failed; the reason
//! is in the cause, which is an `h2::Error`. That this is so is no promise of hyper's, hence this file and its tests.

use std::error::Error;

use h2::Reason;

/// What became of a request whose stream ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server did not process it, and says so: its stream was refused, or is above the last one that a GOAWAY names
    /// (RFC 9113 8.7).
    Refused,
    /// What the server answered breaks the protocol.
    Broken,
    /// Nobody knows.
    Lost,
}

/// Reads `error`.
pub(super) fn fate(error: &hyper::Error) -> Fate {
    let Some(cause) = cause(error) else { return Fate::Lost };
    // A GOAWAY reaches only streams above the one it names, and those that were not opened after it.
    if cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(Reason::REFUSED_STREAM)) {
        return Fate::Refused;
    }
    if cause.is_library() { Fate::Broken } else { Fate::Lost }
}

/// Whether `error` says that the connection is of no further use, and not only one stream of it.
pub(super) fn ends_connection(error: &hyper::Error) -> bool {
    // A refused stream is no reason to close, but to give the next one to another connection.
    cause(error).is_none_or(|cause| !cause.is_reset() || cause.reason() == Some(Reason::REFUSED_STREAM))
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        cause = current.source();
    }
    None
}

#[cfg(test)]
mod tests;
