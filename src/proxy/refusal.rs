//! Whether a named credential is *refused*: its upstream says no to fresh tokens too, so that renewing is pointless.
//!
//! The state belongs to the named credential and not to the token, because others that share the token may be fine.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// The refused state of one named credential, shared by all workers.
#[derive(Debug, Default)]
pub struct Refusal(Mutex<Option<Refused>>);

#[derive(Debug, Clone, Copy)]
struct Refused {
    /// The token that was refused last.
    token: u64,
    until: Instant,
    interval: Duration,
}

/// Whether the state changed; a change is worth one line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It had been fine, or refused before.
    None,
    /// Now refused.
    Refused,
    /// Now fine again.
    Cleared,
}

impl Refusal {
    /// The same state, from now on apart.
    pub(super) fn copy(&self) -> Self {
        Self(Mutex::new(*self.0.lock()))
    }

    /// Whether a rejection is to pass through without a renewal.
    pub fn is_active(&self, now: Instant) -> bool {
        self.0.lock().is_some_and(|refused| now < refused.until)
    }

    /// Notes that `token`, fresh as it was, did not help; the interval grows each time it is noted again.
    pub fn note(&self, token: u64, now: Instant, at_least: Duration) -> Change {
        let mut state = self.0.lock();
        let interval = state.map_or(FIRST, |refused| (refused.interval * 2).min(LONGEST)).max(at_least.min(LONGEST));
        let change = if state.is_none() { Change::Refused } else { Change::None };
        *state = Some(Refused { token, until: now + interval, interval });
        change
    }

    /// Notes a success with `token`; one minted later than the refused one clears the state.
    pub fn accepted(&self, token: u64) -> Change {
        let mut state = self.0.lock();
        match *state {
            Some(refused) if token > refused.token => {
                *state = None;
                Change::Cleared
            }
            _ => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_and_a_later_token_clears_it() {
        let refusal = Refusal::default();
        let start = Instant::now();
        assert!(!refusal.is_active(start));
        assert_eq!(refusal.note(7, start, Duration::ZERO), Change::Refused);
        assert!(refusal.is_active(start + Duration::from_secs(29)));
        assert!(!refusal.is_active(start + Duration::from_secs(30)));
        assert_eq!(refusal.note(8, start, Duration::ZERO), Change::None);
        assert!(refusal.is_active(start + Duration::from_secs(59)));
        for _ in 0..10 {
            refusal.note(8, start, Duration::ZERO);
        }
        assert!(!refusal.is_active(start + LONGEST));
        assert_eq!(refusal.accepted(8), Change::None, "the refused token proves nothing");
        assert_eq!(refusal.accepted(9), Change::Cleared);
        assert!(!refusal.is_active(start));
    }
}
