//! The guard: an IO wrapper between socket and hyper that sees every byte a caller sends.
//!
//! It finds each request head, checks it strictly, follows the body only by length or chunk state, and lets hyper see
//! one message at a time. A head that fails the check is replaced by a fixed harmless one, and the reason is left with
//! the connection, so that the service answers it in order, in our format and with a line in the log. After a request
//! for another protocol it lets nothing through until the answer agrees to it, and everything from then on. The guard
//! also keeps the time: hyper has one knob for slow heads and idle connections and none for slow bodies. In the other
//! direction it writes interim answers, which hyper's server cannot.
//!
//! Not here: what a request means. That is the service's part.

mod framing;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod head;
mod linger;
mod reading;
mod writing;

use std::sync::Arc;

use bytes::BytesMut;

use self::framing::Framing;
pub(super) use self::head::{check_host, check_method, check_target};
use self::linger::Linger;
use self::reading::ReadWait;
use super::connection::Connection;
use super::pace::Pace;
use super::worker::Counted;
use super::{Limits, Watch};

/// An IO stream with the guard before it.
pub(crate) struct Guard<IO> {
    io: IO,
    connection: Arc<Connection>,
    limits: Limits,
    phase: Phase,
    /// Bytes read from the socket that hyper may not see yet; the first `approved` of them it may.
    held: BytesMut,
    approved: usize,
    /// Bytes of `held` searched for the end of a head before.
    scanned: usize,
    /// The body of the message at hand, until hyper has read all of it.
    body: Body,
    /// Interim answers that are being written.
    interim: BytesMut,
    /// Whether hyper has written everything it had: what it writes next begins a message, or goes on with a body.
    at_boundary: bool,
    /// Whether something was written since the connection was last idle.
    has_written: bool,
    /// Whether the caller said that the request at hand is its last.
    is_last: bool,
    read_watch: Watch<ReadWait>,
    write_watch: Watch<()>,
    read_pace: Pace,
    write_pace: Pace,
    linger: Option<Linger>,
    /// Goes with the socket, which another protocol may keep longer than HTTP does.
    _counted: Option<Counted>,
}

#[derive(Debug)]
enum Phase {
    Head,
    Body(Framing),
    Refused,
    /// The request at hand asks for another protocol; what comes is not for hyper.
    Switching,
    /// Another protocol is spoken.
    Through,
}

/// A body that hyper has not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Sized,
    Chunked,
}

impl<IO> Guard<IO> {
    /// Guards `io`, leaving what it finds with `connection`.
    pub(crate) fn new(io: IO, connection: Arc<Connection>, limits: Limits) -> Self {
        Self {
            io,
            connection,
            limits,
            phase: Phase::Head,
            held: BytesMut::new(),
            approved: 0,
            scanned: 0,
            body: Body::None,
            interim: BytesMut::new(),
            at_boundary: true,
            has_written: false,
            is_last: false,
            read_watch: Watch::default(),
            write_watch: Watch::default(),
            read_pace: Pace::default(),
            write_pace: Pace::default(),
            linger: None,
            _counted: None,
        }
    }

    /// The longest head that is let through, with its request line and line ends.
    pub(crate) fn longest_head(&self) -> usize {
        self.limits.target + self.limits.header + 1024
    }

    /// Counts the connection for as long as the socket is open.
    pub(crate) fn counting(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }
}

#[cfg(test)]
mod tests;
