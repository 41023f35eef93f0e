//! Limits that are counted: rates, what is in flight, what may be tried again, and the word for each limit.
//!
//! Not here: what a limit protects, and what the caller is told. Each part holds its own limit and reports the word.
//! governor (rates) and its types stay in this room. Buckets and counters are one atomic each; none of them grows with
//! what callers send.

mod rate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

pub use self::rate::{Bucket, Rate};

/// Everything that can be used up, by the word in `keybearer_limited_total` and docs/limits.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `limits.target`
    Target,
    /// `limits.header`
    Header,
    /// `limits.header_fields`
    HeaderFields,
    /// `limits.body`, of the process or of a named credential
    Body,
    /// `limits.header_timeout`
    HeaderTimeout,
    /// `limits.body_timeout`, within a request
    BodyTimeout,
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_caller`
    ConnectionsPerCaller,
    /// `limits.requests`, of the process
    Requests,
    /// `limits.tunnels`
    Tunnels,
    /// `limits.requests` of a named credential
    CredentialRequests,
    /// `rate` of a caller
    CallerRate,
    /// `limits.rate` of a named credential
    CredentialRate,
    /// Callers that wait for one token
    Waiters,
    /// `limits.replay_memory`
    ReplayMemory,
    /// Requests sent again over a fresh connection
    Retries,
}

impl Limit {
    /// Every limit, in the order of docs/limits.md.
    pub const ALL: [Self; 16] = [
        Self::Target,
        Self::Header,
        Self::HeaderFields,
        Self::Body,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::Connections,
        Self::ConnectionsPerCaller,
        Self::Requests,
        Self::Tunnels,
        Self::CredentialRequests,
        Self::CallerRate,
        Self::CredentialRate,
        Self::Waiters,
        Self::ReplayMemory,
        Self::Retries,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Header => "header",
            Self::HeaderFields => "header_fields",
            Self::Body => "body",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::Connections => "connections",
            Self::ConnectionsPerCaller => "connections_per_caller",
            Self::Requests => "requests",
            Self::Tunnels => "tunnels",
            Self::CredentialRequests => "credential_requests",
            Self::CallerRate => "caller_rate",
            Self::CredentialRate => "credential_rate",
            Self::Waiters => "waiters",
            Self::ReplayMemory => "replay_memory",
            Self::Retries => "retries",
        }
    }
}

/// How many may be there at a time.
#[derive(Debug)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One place of [`Places`], free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// All free.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Takes one; none when all are taken.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        // Whoever finds all taken holds one for a moment itself, so under a crush a place may be refused that just
        // became free; never is one given too many.
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.taken));
        (taken < self.most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one exchange earns towards a retry, which costs [`PRICE`]: one retry for five exchanges.
const EARNED: u32 = 1;
const PRICE: u32 = 5;

/// Retries that may always be made at once: as many connections as a pool keeps and an upstream's restart can kill.
pub const RETRIES_IN_RESERVE: u32 = 1024;

const RESERVE: u32 = RETRIES_IN_RESERVE * PRICE;

/// How many requests may be sent again because a connection was lost: a fifth of all, and a reserve.
///
/// Each worker has its own, so the counter is never contended.
#[derive(Debug)]
pub struct RetryBudget(AtomicU32);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(RESERVE))
    }
}

impl RetryBudget {
    /// An exchange came.
    pub fn earn(&self) {
        let saved = self.0.load(Ordering::Relaxed);
        // Two workers that share a budget may lose one of two additions here; that costs a fifth of a retry.
        if saved < RESERVE {
            self.0.store(saved + EARNED, Ordering::Relaxed);
        }
    }

    /// Takes one retry, if there is one.
    #[must_use]
    pub fn spend(&self) -> bool {
        let spent = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(PRICE));
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_is_given_and_the_next_one_is_not_until_one_is_free() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some());
        assert!(places.take().is_none());
        assert!(places.take().is_none(), "a refusal takes no place");
        drop(first);
        assert!(places.take().is_some());
    }

    /// B50: beyond the reserve, one request in five may be sent again.
    #[test]
    fn retries_are_a_fifth_of_the_exchanges_once_the_reserve_is_gone() {
        let budget = RetryBudget::default();
        let reserve = (0..).take_while(|_| budget.spend()).count();
        assert_eq!(reserve, (RESERVE / PRICE) as usize);
        let mut retries = 0;
        for _ in 0..1000 {
            budget.earn();
            retries += usize::from(budget.spend());
        }
        assert_eq!(retries, 200);
    }

    #[test]
    fn the_reserve_does_not_grow() {
        let budget = RetryBudget::default();
        for _ in 0..10 * RESERVE {
            budget.earn();
        }
        assert_eq!((0..).take_while(|_| budget.spend()).count(), (RESERVE / PRICE) as usize);
    }
}
