//! What the process counts, and its exposition as OpenMetrics text.
//!
//! Handles are made when a configuration is loaded, and the counters behind them when the first exchange is counted;
//! counting is then one atomic addition, without a lock, a lookup or an allocation. Labels are names of the configuration, status codes and words from fixed lists: nothing a
//! caller or an upstream sends becomes a label.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::name::Name;

mod callers;
mod exchanges;
mod families;
mod floods;
mod handles;
mod histogram;
mod limited;
mod reloads;
mod tokens;
mod upstream;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;

pub use callers::{CallerDecision, CallerDecisions};
pub use exchanges::NamedCredentialMetrics;
pub use floods::{Flood, Floods};
pub use limited::Limited;
pub use reloads::{Reloaded, Reloads};
pub use tokens::{ExternalCredentialMetrics, MintOutcome};
pub use upstream::UpstreamMetrics;

use families::Families;

/// The media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process. Cloning costs one atomic increment.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Arc<Families>,
    connections: Gauge,
    in_flight: Gauge,
    tunnels: Gauge,
    replay_memory: Gauge,
    access_log_dropped: Counter,
    caller_decisions: CallerDecisions,
    reloads: Reloads,
}

impl Metrics {
    /// Metrics that start from zero; the process counts as started now.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (connections, in_flight, tunnels) = (Gauge::default(), Gauge::default(), Gauge::default());
        let replay_memory = Gauge::default();
        let access_log_dropped = Counter::default();
        let families = Arc::new(Families::default());
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        // The library appends `_info` and `_total` itself, and a full stop to each help text.
        registry.register(
            "keybearer_build",
            "Version of keybearer",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("process_start_time_seconds", "Start of the process, Unix time", ConstGauge::new(started));
        registry.register("keybearer_connections", "Open connections of callers", connections.clone());
        registry.register("keybearer_requests_in_flight", "Requests being served", in_flight.clone());
        registry.register("keybearer_tunnels", "Open tunnels of callers", tunnels.clone());
        registry.register("keybearer_replay_memory_bytes", "Request bodies kept for replays", replay_memory.clone());
        registry.register(
            "keybearer_access_log_dropped_lines",
            "Access log lines that could not be written",
            access_log_dropped.clone(),
        );
        let caller_decisions = CallerDecisions::register(&mut registry);
        let reloads = Reloads::register(&mut registry);
        registry.register_collector(Box::new(Arc::clone(&families)));
        Self(Arc::new(Inner {
            registry,
            families,
            connections,
            in_flight,
            tunnels,
            replay_memory,
            access_log_dropped,
            caller_decisions,
            reloads,
        }))
    }

    /// How many named credentials, principals and upstreams are told apart, each kind for itself; those beyond are
    /// counted together. What has counters by then keeps them.
    pub fn limit(&self, most: usize) {
        self.0.families.exchanges.limit(most);
        self.0.families.tokens.limit(most);
        self.0.families.upstreams.limit(most);
    }

    /// The handle for exchanges of the named credential `name`. Two handles of one name have the same counters.
    ///
    /// A named credential's series are exposed from its first exchange on, for as long as somebody holds a handle, and
    /// one scrape longer.
    #[must_use]
    pub fn named_credential(&self, name: &Name) -> NamedCredentialMetrics {
        NamedCredentialMetrics::new(Some(name.clone()), Arc::clone(&self.0.families))
    }

    /// The handle for exchanges that belong to no named credential; their label is empty, which no name can be.
    #[must_use]
    pub fn unmatched(&self) -> NamedCredentialMetrics {
        NamedCredentialMetrics::new(None, Arc::clone(&self.0.families))
    }

    /// The handle for the tokens of one principal.
    #[must_use]
    pub fn external_credential(&self, external: &Name, principal: &Name) -> ExternalCredentialMetrics {
        ExternalCredentialMetrics::new((external.clone(), principal.clone()), Arc::clone(&self.0.families))
    }

    /// The handle for the connections to `authority`, as the configuration writes it.
    #[must_use]
    pub fn upstream(&self, authority: &str) -> UpstreamMetrics {
        UpstreamMetrics::new(self.0.families.upstreams.resolve(authority.to_owned()))
    }

    /// Open connections of callers, all listeners together.
    #[must_use]
    pub fn connections(&self) -> Gauge {
        self.0.connections.clone()
    }

    /// Requests being served. Its own value is what `limits.requests` is held against.
    #[must_use]
    pub fn in_flight(&self) -> Gauge {
        self.0.in_flight.clone()
    }

    /// Open tunnels. Its own value is what `limits.tunnels` is held against.
    #[must_use]
    pub fn tunnels(&self) -> Gauge {
        self.0.tunnels.clone()
    }

    /// Counts limits that were reached.
    #[must_use]
    pub fn limited(&self) -> Limited {
        self.0.families.limited.clone()
    }

    /// Bytes of request bodies kept for replays.
    #[must_use]
    pub fn replay_memory(&self) -> Gauge {
        self.0.replay_memory.clone()
    }

    /// What was decided about callers, all listeners together.
    #[must_use]
    pub fn caller_decisions(&self) -> CallerDecisions {
        self.0.caller_decisions.clone()
    }

    /// Readings of the configuration after the start.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.0.reloads.clone()
    }

    /// HTTP/2 connections of callers that were ended for flooding us.
    #[must_use]
    pub fn floods(&self) -> Floods {
        self.0.families.floods.clone()
    }

    /// Access log lines that were given up.
    #[must_use]
    pub fn access_log_dropped(&self) -> Counter {
        self.0.access_log_dropped.clone()
    }

    /// Writes everything as OpenMetrics text ([`CONTENT_TYPE`]). Takes milliseconds where there are thousands of named
    /// credentials, so call it off the runtime's threads.
    ///
    /// # Errors
    /// Those of `out` alone.
    pub fn write(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        prometheus_client::encoding::text::encode(out, &self.0.registry)
    }

    /// The same as one text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match self.write(&mut text) {
            Ok(()) => text,
            // Writing to a `String` does not fail; an exposition without `# EOF` would be refused by the scraper.
            Err(std::fmt::Error) => "# EOF\n".to_owned(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
