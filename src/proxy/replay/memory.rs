//! What copies of request bodies may take of the process's memory.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Gauge;

/// Process-wide memory for copies of request bodies.
#[derive(Debug)]
pub struct ReplayMemory {
    used: AtomicUsize,
    limit: usize,
    gauge: Gauge,
}

impl ReplayMemory {
    /// A budget of `limit` bytes; `gauge` shows how much of it is in use.
    #[must_use]
    pub fn new(limit: usize, gauge: Gauge) -> Self {
        Self { used: AtomicUsize::new(0), limit, gauge }
    }

    pub(super) fn take(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        if taken.is_ok() {
            self.gauge.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        taken.is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
