//! One live access token as the workers see it: its value, its two lines, and a name by which a rejection means it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::lifetime::Lines;
use super::members::Members;
use super::minted::Minted;
use crate::secret::Secret;

/// A live access token. Two tokens with one id have one value.
pub struct Token {
    id: u64,
    value: Secret,
    /// Taken before the token request was sent, so that what the request took is not added to the lifetime.
    started: Instant,
    end: Instant,
    unusable: Instant,
    /// Milliseconds after `started` at which a renewal ahead is due, or one of the two values below.
    ahead: AtomicU64,
    /// What the endpoint said beside it.
    members: Members,
}

/// No renewal ahead for this token.
const NEVER: u64 = u64::MAX - 1;
/// It has been asked for.
const ASKED: u64 = u64::MAX;

impl Token {
    /// A token with an id of its own, unless it is the value of `predecessor` again.
    pub(super) fn new(minted: &Minted, started: Instant, lines: Lines, predecessor: Option<&Self>) -> Self {
        let value = minted.value().clone();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = match predecessor {
            Some(predecessor) if predecessor.value.expose() == value.expose() => predecessor.id,
            Some(_) | None => NEXT.fetch_add(1, Ordering::Relaxed),
        };
        Self {
            id,
            value,
            started,
            end: started + minted.lifetime().span,
            unusable: started + lines.unusable,
            ahead: AtomicU64::new(lines.renew_ahead.map_or(NEVER, milliseconds)),
            members: minted.members().clone(),
        }
    }

    /// What a rejection names: unique among all values that were ever live in this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whole seconds until the end of its life; 0 after it.
    #[must_use]
    pub fn seconds_left(&self) -> u64 {
        self.end.saturating_duration_since(Instant::now()).as_secs()
    }

    /// What the endpoint said beside it, where a named credential asks for that.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn value(&self) -> &Secret {
        &self.value
    }

    pub(super) fn end(&self) -> Instant {
        self.end
    }

    pub(super) fn usable(&self, now: Instant) -> bool {
        now < self.unusable
    }

    /// Whether a renewal ahead is due; `true` once only, to whoever looks first.
    pub(super) fn ask_ahead(&self, now: Instant) -> bool {
        let due = self.ahead.load(Ordering::Relaxed);
        milliseconds(now.saturating_duration_since(self.started)) >= due
            && due < NEVER
            && self.ahead.compare_exchange(due, ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether somebody asked for a renewal ahead that has not been made.
    pub(super) fn asked_ahead(&self) -> bool {
        self.ahead.load(Ordering::Relaxed) == ASKED
    }

    /// Puts the renewal ahead off to `until` at the earliest, asked for or not, unless this token has none.
    pub(super) fn put_off(&self, until: Instant) {
        let earliest = milliseconds(until.saturating_duration_since(self.started));
        let _ = self.ahead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| match due {
            NEVER => None,
            ASKED => Some(earliest),
            due => Some(due.max(earliest)),
        });
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER).min(NEVER)
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Minted, Token};
    use crate::token::lifetime::Lines;
    use std::time::Duration;
    use tokio::time::Instant;

    fn token(value: &str, renew_ahead: Option<u64>, predecessor: Option<&Token>) -> Token {
        let lines = Lines { renew_ahead: renew_ahead.map(Duration::from_secs), unusable: Duration::from_secs(90) };
        let mut minted = Minted::sample(value, None, None);
        minted.lifetime.span = Duration::from_secs(100);
        Token::new(&minted, Instant::now(), lines, predecessor)
    }

    #[test]
    fn the_same_value_keeps_its_id() {
        let first = token("a", None, None);
        assert_eq!(token("a", None, Some(&first)).id(), first.id());
        assert_ne!(token("b", None, Some(&first)).id(), first.id());
        assert_ne!(token("a", None, None).id(), first.id());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_ahead_is_asked_for_once() {
        let second = Duration::from_secs(1);
        let token = token("a", Some(80), None);
        let never = super::tests::token("a", None, None);
        let at = |seconds: u32| Instant::now() + second * seconds;
        assert!(!token.ask_ahead(at(79)) && !token.asked_ahead());
        assert!(token.ask_ahead(at(80)) && token.asked_ahead());
        assert!(!token.ask_ahead(at(81)));
        token.put_off(at(85));
        assert!(!token.ask_ahead(at(84)) && token.ask_ahead(at(85)));
        never.put_off(at(1));
        assert!(!never.ask_ahead(at(99)));
        assert_eq!(token.seconds_left(), 100);
    }

    #[test]
    fn debug_does_not_show_the_value() {
        assert!(!format!("{:?}", token("canary", None, None)).contains("canary"));
    }
}
