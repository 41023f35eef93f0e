//! What became of the configuration when it was read again.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What one reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Something had changed and is in use.
    Applied,
    /// Nothing had changed.
    Unchanged,
    /// It is no good; the last good one stays.
    Failed,
}

/// The counters of all results, and when there was a good one.
#[derive(Clone, Debug)]
pub struct Reloads {
    applied: Counter,
    unchanged: Counter,
    failed: Counter,
    last_success: Gauge,
}

impl Reloads {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counter = |result| family.get_or_create_owned(&[("result", result)]);
        let reloads = Self {
            applied: counter("applied"),
            unchanged: counter("unchanged"),
            failed: counter("failed"),
            last_success: Gauge::default(),
        };
        reloads.succeeded();
        registry.register("keybearer_config_reloads", "Readings of the configuration after the start", family);
        registry.register(
            "keybearer_config_last_reload_success_timestamp_seconds",
            "Last good reading of the configuration, the one at the start too, Unix time",
            reloads.last_success.clone(),
        );
        reloads
    }

    /// Counts one reading.
    pub fn count(&self, result: Reloaded) {
        let counter = match result {
            Reloaded::Applied => &self.applied,
            Reloaded::Unchanged => &self.unchanged,
            Reloaded::Failed => &self.failed,
        };
        counter.inc();
        if result != Reloaded::Failed {
            self.succeeded();
        }
    }

    fn succeeded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }
}
