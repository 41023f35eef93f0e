//! Tokens that were verified a moment ago, by their SHA-256: a token that comes again costs a hash and no signature.
//!
//! Read without a lock. Only good tokens come in, so nobody without one can fill it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::name::Name;

/// How many tokens are known at a time.
const CAPACITY: usize = 1024;

/// How long a token is believed at most before it is verified again.
const LONGEST: Duration = Duration::from_secs(5 * 60);

type Known = HashMap<[u8; 32], Entry>;

/// Verified tokens.
#[derive(Default)]
pub(super) struct Cache(ArcSwap<Known>);

#[derive(Clone)]
struct Entry {
    callers: Arc<[Name]>,
    /// The state of the key sets at the time.
    revision: u64,
    ends: Instant,
}

impl Cache {
    /// The callers that the token proved.
    pub(super) fn get(&self, token: &[u8; 32], revision: u64, now: Instant) -> Option<Arc<[Name]>> {
        let known = self.0.load();
        let entry = known.get(token).filter(|entry| entry.revision == revision && now < entry.ends)?;
        Some(Arc::clone(&entry.callers))
    }

    /// Keeps what a token proved. `left`: until it expires, counted from `now`.
    pub(super) fn insert(&self, token: [u8; 32], callers: &[Name], revision: u64, (now, left): (Instant, Duration)) {
        if left.is_zero() {
            return;
        }
        let entry = Entry { callers: callers.into(), revision, ends: now + left.min(LONGEST) };
        self.0.rcu(|known| {
            let mut known = Known::clone(known);
            if known.len() >= CAPACITY {
                known.retain(|_, entry| entry.revision == revision && now < entry.ends);
            }
            if known.len() >= CAPACITY {
                let first = known.iter().min_by_key(|(_, entry)| entry.ends).map(|(token, _)| *token);
                first.and_then(|first| known.remove(&first));
            }
            known.insert(token, entry.clone());
            known
        });
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{CAPACITY, Cache, LONGEST};
    use crate::name::Name;

    fn numbered(number: usize) -> [u8; 32] {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&number.to_be_bytes());
        token
    }

    #[test]
    fn a_token_is_known_until_it_expires_or_the_keys_change() {
        let (cache, now) = (Cache::default(), Instant::now());
        let names = [Name::parse("billing").unwrap()];
        cache.insert(numbered(1), &names, 7, (now, Duration::from_secs(60)));
        cache.insert(numbered(2), &names, 7, (now, Duration::from_secs(3600)));
        cache.insert(numbered(3), &names, 7, (now, Duration::ZERO));
        let at = |token, revision, seconds| {
            cache.get(&numbered(token), revision, now + Duration::from_secs(seconds)).is_some()
        };
        assert!(at(1, 7, 0) && at(1, 7, 59) && !at(1, 7, 60));
        assert!(!at(1, 8, 0), "another key set");
        assert!(at(2, 7, LONGEST.as_secs() - 1) && !at(2, 7, LONGEST.as_secs()));
        assert!(!at(3, 7, 0) && !at(4, 7, 0));
    }

    #[test]
    fn the_cache_is_bounded_and_what_ends_first_gives_way() {
        let (cache, now) = (Cache::default(), Instant::now());
        for number in 0..=CAPACITY {
            let left = Duration::from_millis(10_000 + u64::try_from(number).unwrap());
            cache.insert(numbered(number), &[], 0, (now, left));
        }
        assert_eq!(cache.0.load().len(), CAPACITY);
        assert!(cache.get(&numbered(0), 0, now).is_none());
        assert!(cache.get(&numbered(1), 0, now).is_some() && cache.get(&numbered(CAPACITY), 0, now).is_some());
    }
}
