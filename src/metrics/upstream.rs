//! Counters of connections to upstreams: one set per authority, shared by the pools of all workers.

use std::sync::Arc;

use super::{Counter, Gauge};

/// Counts the connections to one upstream. Cloning costs one atomic increment.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics(Arc<Connections>);

impl UpstreamMetrics {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self(connections)
    }

    /// A connection was opened.
    pub fn opened(&self) {
        self.0.opened.inc();
        self.0.open.inc();
    }

    /// A connection that [`opened`](Self::opened) counted was closed.
    pub fn closed(&self) {
        self.0.open.dec();
    }

    /// A request found a pooled connection.
    pub fn reused(&self) {
        self.0.reused.inc();
    }

    /// A request was sent again because the pooled connection it found had been closed meanwhile.
    pub fn retried_stale(&self) {
        self.0.retried.inc();
    }
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) opened: Counter,
    pub(super) open: Gauge,
    pub(super) reused: Counter,
    pub(super) retried: Counter,
}
