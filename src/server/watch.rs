//! Many deadlines at the price of one timer, which is made once and moved seldom. (A timer for each would cost more than
//! the check of a head.)

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Deadlines one after the other: one that is no longer waited for leaves the timer where it is, and a timer that fires
/// early is moved to what is due now.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `deadline` is over.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            // Who is kept busy by what it waits for must be told of the end too.
            ready!(pin!(tokio::task::unconstrained(sleep.as_mut())).poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// How long one wait after the other lasts.
#[derive(Debug)]
pub struct Watch<K> {
    since: Option<(K, Instant)>,
    alarm: Alarm,
}

impl<K> Default for Watch<K> {
    fn default() -> Self {
        Self { since: None, alarm: Alarm::default() }
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
        self.poll_over(cx, kind, (Some(limit), None))
    }

    /// Waits on for `kind`; ready once that has lasted `limit`, or at `end`.
    pub fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        kind: K,
        (limit, end): (Option<Duration>, Option<Instant>),
    ) -> Poll<()> {
        let since = match self.since {
            Some((waiting_for, since)) if waiting_for == kind => since,
            _ => {
                let now = Instant::now();
                self.since = Some((kind, now));
                now
            }
        };
        let Some(deadline) = limit.map(|limit| since + limit).into_iter().chain(end).min() else {
            return Poll::Pending;
        };
        ready!(self.alarm.poll(cx, deadline));
        self.since = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// However often it is asked in between, and whatever woke it.
    #[tokio::test(start_paused = true)]
    async fn a_wait_lasts_until_its_end() {
        let began = Instant::now();
        let end = began + Duration::from_secs(90);
        let mut watch = Watch::default();
        for seconds in [0, 30, 60, 89] {
            tokio::time::sleep_until(began + Duration::from_secs(seconds)).await;
            let over = poll_fn(|cx| Poll::Ready(watch.poll_over(cx, (), (Some(Duration::from_secs(300)), Some(end)))));
            assert!(over.await.is_pending(), "{seconds}");
        }
        poll_fn(|cx| watch.poll_over(cx, (), (Some(Duration::from_secs(300)), Some(end)))).await;
        assert_eq!(began.elapsed(), Duration::from_secs(90));
    }

    /// What keeps its task busy does not keep the end away.
    #[tokio::test(start_paused = true)]
    async fn an_alarm_fires_where_the_budget_is_used_up() {
        let mut alarm = Alarm::default();
        let deadline = Instant::now() + Duration::from_millis(1);
        let fired = poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let _ = pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            alarm.poll(cx, deadline)
        });
        fired.await;
        assert!(Instant::now() >= deadline);
    }
}
