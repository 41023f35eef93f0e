//! The counters of one kind, by key. Locked when a handle is resolved and when a scrape collects, never to count.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Shared counters by key, in the key's order.
#[derive(Debug)]
pub(super) struct Handles<K, V>(Mutex<BTreeMap<K, Arc<V>>>);

impl<K, V> Default for Handles<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, V: Default> Handles<K, V> {
    /// The counters of `key`, made at first use.
    pub(super) fn resolve(&self, key: K) -> Arc<V> {
        Arc::clone(self.0.lock().entry(key).or_default())
    }

    /// All counters. Those that nobody else holds any more are in the answer for the last time: what a reload removed
    /// leaves, and its final values still reach one scrape.
    pub(super) fn collect(&self) -> Vec<(K, Arc<V>)> {
        let mut all = self.0.lock();
        let collected = all.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect();
        // One count is the map's own, one the copy just made.
        all.retain(|_, value| Arc::strong_count(value) > 2);
        collected
    }
}
