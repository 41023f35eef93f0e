//! Who hears of a cell's mints: the metrics of every external credential and principal that shares it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::{ExternalCredentialMetrics, MintOutcome};
use crate::name::Name;

/// The metrics of a cell.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Vec<Watcher>>);

struct Watcher {
    external_credential: Name,
    principal: Name,
    metrics: ExternalCredentialMetrics,
}

impl Watchers {
    /// Adds one, in place of an older one of the same names.
    pub(super) fn add(&self, external_credential: &Name, principal: &Name, metrics: ExternalCredentialMetrics) {
        let mut watchers = self.0.lock();
        watchers.retain(|known| known.external_credential != *external_credential || known.principal != *principal);
        // Nearly always there is one.
        watchers.reserve_exact(1);
        watchers.push(Watcher {
            external_credential: external_credential.clone(),
            principal: principal.clone(),
            metrics,
        });
    }

    /// A mint is one call of the token endpoint, so it is counted once, under the first name.
    pub(super) fn minted(&self, outcome: MintOutcome, took: Duration) {
        if let Some(first) = self.0.lock().first() {
            first.metrics.minted(outcome, took);
        }
    }

    pub(super) fn renewal_exhausted(&self) {
        if let Some(first) = self.0.lock().first() {
            first.metrics.renewal_exhausted();
        }
    }

    /// All who share the token share its end.
    pub(super) fn lives_until(&self, end: Option<Instant>) {
        for watcher in self.0.lock().iter() {
            watcher.metrics.lives_until(end.map(Instant::into_std));
        }
    }
}
