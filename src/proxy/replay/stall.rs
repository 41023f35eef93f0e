//! How slowly a caller may send its body over HTTP/2, where the guard does not keep that time.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::server::{Connection, LeastPace, Pace, Watch};

/// How long a caller may pause within a body, where the guard does not keep that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Pause {
    /// As long as any caller.
    Usual,
    /// Its messages come when it pleases (gRPC): so long, or for ever.
    Stream(Option<Duration>),
}

/// How slow the caller may be, where the guard does not see to it.
#[derive(Debug)]
pub(super) struct Stall {
    connection: Arc<Connection>,
    least: LeastPace,
    watch: Watch<()>,
    pace: Pace,
}

impl Stall {
    pub(super) fn of(connection: &Arc<Connection>, pause: Pause) -> Option<Box<Self>> {
        let usual = connection.body_pace?;
        let least = match pause {
            Pause::Usual => usual,
            Pause::Stream(limit) => LeastPace { over: limit?, rate: 0 },
        };
        let connection = Arc::clone(connection);
        Some(Box::new(Self { connection, least, watch: Watch::default(), pace: Pace::default() }))
    }

    /// Ready once the caller has sent nothing for too long although it was asked.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.watch.poll_expired(cx, (), self.least.over));
        self.connection.body_stalled();
        Poll::Ready(())
    }

    /// Called when bytes have come: whether they come too slowly.
    pub(super) fn crawls(&mut self, bytes: usize) -> bool {
        let waited = self.watch.waited();
        let crawls = self.pace.is_too_slow(bytes, waited, self.least);
        if crawls {
            self.connection.body_stalled();
        }
        crawls
    }
}
