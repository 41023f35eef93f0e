//! The counters of one kind, by key. Locked when a handle is resolved and when a scrape collects, never to count.
//!
//! Keys are bounded in number: a scraper and its database pay for every series. Those beyond share one set of counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// Keys of one kind where nobody says how many.
const MOST: usize = 1000;

/// Whose counters they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<K> {
    /// The one of this key.
    Own(K),
    /// All for which there was no room.
    Other,
}

/// The counters of one kind at a scrape.
pub(super) type Collected<K, V> = [(Key<K>, Arc<V>)];

impl<K> Key<K> {
    /// What stands in the label: `own` of the key, or `other`.
    pub(super) fn label<'a>(&'a self, own: impl Fn(&'a K) -> &'a str, other: &'static str) -> &'a str {
        match self {
            Self::Own(key) => own(key),
            Self::Other => other,
        }
    }
}

/// Shared counters by key, in the key's order.
#[derive(Debug)]
pub(super) struct Handles<K, V> {
    all: Mutex<BTreeMap<Key<K>, Arc<V>>>,
    most: AtomicUsize,
}

impl<K, V> Default for Handles<K, V> {
    fn default() -> Self {
        Self { all: Mutex::default(), most: AtomicUsize::new(MOST) }
    }
}

impl<K: Ord + Clone, V: Default> Handles<K, V> {
    /// From now on there is room for this many keys. Those that are there stay.
    pub(super) fn limit(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// The counters of `key`, made at first use; those of all others where there is no more room.
    pub(super) fn resolve(&self, key: K) -> Arc<V> {
        let mut all = self.all.lock();
        let own = Key::Own(key);
        if let Some(known) = all.get(&own) {
            return Arc::clone(known);
        }
        let taken = all.len() - usize::from(all.contains_key(&Key::Other));
        let key = if taken < self.most.load(Relaxed) { own } else { Key::Other };
        Arc::clone(all.entry(key).or_default())
    }

    /// All counters. Those that nobody else holds any more are in the answer for the last time: what a reload removed
    /// leaves, and its final values still reach one scrape.
    pub(super) fn collect(&self) -> Vec<(Key<K>, Arc<V>)> {
        let mut all = self.all.lock();
        let collected = all.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect();
        // One count is the map's own, one the copy just made.
        all.retain(|_, value| Arc::strong_count(value) > 2);
        collected
    }
}

/// Counters of one key, made when something is to be counted: of a hundred thousand credentials most are idle.
#[derive(Debug)]
pub(super) struct Lazy<V>(OnceLock<Arc<V>>);

impl<V> Default for Lazy<V> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<V> Lazy<V> {
    /// The counters; `resolve` finds them the first time.
    pub(super) fn get(&self, resolve: impl FnOnce() -> Arc<V>) -> &V {
        self.0.get_or_init(resolve)
    }

    /// The counters, if something was counted.
    pub(super) fn made(&self) -> Option<&V> {
        self.0.get().map(Arc::as_ref)
    }
}
