//! How long to leave a token endpoint alone after it failed.
//!
//! Pure: the clock and the randomness are arguments. Two ladders: *transient* failures (jittered, exponential, short
//! where the endpoint was not even reached, so that a returning one is found within two seconds), and *permanent* ones
//! (at most three tries in the first two minutes, then a minute or more apart: a wrong secret must lock nobody out).

use std::time::Duration;

use tokio::time::Instant;

use super::failure::{MintFailure, MintFailureKind};

/// A `Retry-After` is believed up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST_UNREACHED: Duration = Duration::from_millis(1500);
const LONGEST_TRANSIENT: Duration = Duration::from_secs(30);
/// Seconds after each permanent failure: tries at 0, 5, 30 and 130 s, then the last value.
const PERMANENT: [u64; 7] = [5, 25, 100, 120, 240, 480, 600];

/// Which ladder a failure climbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// No connection could be made.
    Unreached,
    /// It answered, but not now, or not in a way that can be used.
    Transient,
    /// It will say the same again.
    Permanent,
}

/// What is known of the last failures of one client, or of one cell.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    transient: u32,
    permanent: usize,
    until: Option<Instant>,
    last: Option<(MintFailureKind, String)>,
}

impl Backoff {
    /// Records a failure; the result is how long to wait. `chance` is 0 to 1.
    pub(super) fn failed(&mut self, now: Instant, pace: Pace, failure: &MintFailure, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        let wait = match pace {
            Pace::Permanent => {
                let seconds = PERMANENT.get(self.permanent).or(PERMANENT.last()).copied().unwrap_or(600);
                self.permanent = self.permanent.saturating_add(1);
                self.transient = 0;
                // Only ever later: the bound on tries must hold.
                Duration::from_secs(seconds).mul_f64(1.0 + chance / 20.0)
            }
            Pace::Unreached => self.step(LONGEST_UNREACHED, chance),
            Pace::Transient => self.step(LONGEST_TRANSIENT, chance),
        };
        let wait = wait.max(failure.retry_after.min(LONGEST_RETRY_AFTER));
        self.until = Some(now + wait);
        self.last = Some((failure.kind, failure.cause.clone()));
        wait
    }

    /// The last failure with what is left of its wait, while the wait lasts.
    pub(super) fn blocks(&self, now: Instant) -> Option<MintFailure> {
        let left = self.until?.saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        self.last.as_ref().map(|(kind, cause)| MintFailure { kind: *kind, cause: cause.clone(), retry_after: left })
    }

    /// A mint succeeded: begin afresh.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Between a half and the whole of an exponential step.
    fn step(&mut self, longest: Duration, chance: f64) -> Duration {
        let whole = (FIRST * 2_u32.pow(self.transient.min(10))).min(longest);
        self.transient = self.transient.saturating_add(1);
        whole.mul_f64(0.5 + chance / 2.0)
    }
}

/// A number from 0 to 1. Where the system has no randomness it is a half, which spreads nothing and breaks nothing.
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Pace};
    use crate::token::{MintFailure, MintFailureKind};
    use std::time::Duration;
    use tokio::time::Instant;

    fn failure(retry_after: u64) -> MintFailure {
        MintFailure {
            kind: MintFailureKind::Unavailable,
            cause: "status 503".to_owned(),
            retry_after: Duration::from_secs(retry_after),
        }
    }

    fn waits(pace: Pace, chance: f64, times: usize) -> Vec<f64> {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        (0..times).map(|_| backoff.failed(now, pace, &failure(0), chance).as_secs_f64()).collect()
    }

    #[test]
    fn an_unreached_endpoint_is_tried_again_within_two_seconds() {
        assert_eq!(waits(Pace::Unreached, 1.0, 5), [0.5, 1.0, 1.5, 1.5, 1.5]);
        assert_eq!(waits(Pace::Unreached, 0.0, 3), [0.25, 0.5, 0.75]);
    }

    #[test]
    fn a_failing_endpoint_is_tried_again_within_thirty_seconds() {
        assert_eq!(waits(Pace::Transient, 1.0, 8), [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    }

    /// C20: a permanent failure is tried three times in two minutes, then a minute or more apart.
    #[test]
    fn a_permanent_failure_is_tried_three_times_in_two_minutes_then_a_minute_or_more_apart() {
        for chance in [0.0, 1.0] {
            let waits = waits(Pace::Permanent, chance, 12);
            let mut tried = 0.0;
            let mut early = 0;
            for wait in &waits {
                early += usize::from(tried <= 120.0);
                tried += wait;
            }
            assert_eq!(early, 3);
            assert!(waits[2..].iter().all(|wait| (60.0..=630.0).contains(wait)), "{waits:?}");
        }
    }

    #[test]
    fn retry_after_lengthens_a_wait_within_bounds() {
        let now = Instant::now();
        for (asked, waited) in [(0, 0.5), (7, 7.0), (86_400, 600.0)] {
            let mut backoff = Backoff::default();
            assert_eq!(backoff.failed(now, Pace::Transient, &failure(asked), 1.0).as_secs_f64(), waited);
        }
    }

    #[test]
    fn it_blocks_until_the_wait_is_over_and_says_why() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.blocks(now).is_none());
        backoff.failed(now, Pace::Permanent, &failure(0), 0.0);
        let blocked = backoff.blocks(now + Duration::from_secs(2)).unwrap();
        assert_eq!((blocked.cause.as_str(), blocked.retry_after), ("status 503", Duration::from_secs(3)));
        assert!(backoff.blocks(now + Duration::from_secs(5)).is_none());
        backoff.clear();
        assert!(backoff.blocks(now).is_none());
        assert_eq!(backoff.failed(now, Pace::Permanent, &failure(0), 0.0).as_secs(), 5);
    }
}
