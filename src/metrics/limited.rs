//! How often each limit was reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limit::Limit;

/// Counts what was refused or cut off because a limit was reached. Cloning costs one atomic increment.
#[derive(Clone, Debug, Default)]
pub struct Limited(Arc<[AtomicU64; Limit::ALL.len()]>);

impl Limited {
    /// Counts one more.
    pub fn count(&self, limit: Limit) {
        if let Some(count) = self.0.get(limit as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Every limit and how often it was reached, zeroes too: an alert needs the series before the first refusal.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_count_of_its_own() {
        let limited = Limited::default();
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, times, "{limit:?} stands in the order of its declaration");
            for _ in 0..times {
                limited.count(limit);
            }
        }
        for (times, (limit, count)) in limited.counts().enumerate() {
            assert_eq!(count, times as u64, "{limit:?}");
        }
    }
}
