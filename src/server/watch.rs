//! One deadline for many waits, at the price of one timer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// One deadline with one timer that is made once and moved seldom: a wait that ends in time leaves the timer where it
/// is, and a timer that fires early looks up what is due now. (A timer per wait would cost more than the head check.)
#[derive(Debug)]
pub struct Watch<K> {
    since: Option<(K, Instant)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<K> Default for Watch<K> {
    fn default() -> Self {
        Self { since: None, sleep: None }
    }
}

impl<K: Copy + PartialEq> Watch<K> {
    /// The wait is over.
    pub fn rest(&mut self) {
        self.since = None;
    }

    /// The wait is over; tells how long it lasted.
    pub fn waited(&mut self) -> Duration {
        self.since.take().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Waits for `kind` from now on, unless it does already; the task is woken once that has lasted `limit`.
    pub fn begin(&mut self, cx: &mut Context<'_>, kind: K, limit: Duration) {
        let is_waiting = self.since.is_some_and(|(waiting_for, _)| waiting_for == kind);
        if !is_waiting && self.poll_expired(cx, kind, limit).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Waits on for `kind`; ready once that has lasted `limit`.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>, kind: K, limit: Duration) -> Poll<()> {
        let since = match self.since {
            Some((waiting_for, since)) if waiting_for == kind => since,
            _ => {
                let now = Instant::now();
                self.since = Some((kind, now));
                now
            }
        };
        let deadline = since + limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                self.since = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
