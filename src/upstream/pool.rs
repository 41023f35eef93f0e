//! A worker's connections to one upstream: idle ones in a stack, so that few stay warm and the rest can age out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{Lease, Link};
use super::stream::UpstreamStream;
use super::{Endpoint, Key};
use crate::connect::{self, ConnectError};
use crate::metrics::{Metrics, UpstreamMetrics};

/// Longest head of an answer: what an upstream can make us hold before anything is judged; hyper's own bound is four
/// times this. More than 100 fields are too many for hyper's parser, and to set that number costs an allocation each.
pub const LONGEST_HEAD: usize = 128 * 1024;

/// Bounds of every pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// An idle connection older than this is not used again. Many servers close after 60 s, and no value removes the
    /// race with them altogether (hyper issue 2136); the retry rule covers the rest.
    pub idle: Duration,
    /// Idle connections kept.
    pub idle_connections: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(55), idle_connections: 1024 }
    }
}

/// Most pools of upstreams that others name. They are made at the pace of foreign texts, so they cannot all be kept.
const MOST_FOREIGN: usize = 256;

/// All pools of a worker.
#[derive(Debug)]
pub struct Pools<B> {
    pools: Mutex<HashMap<Key, Arc<Pool<B>>>>,
    /// Of upstreams that are not written in the configuration.
    foreign: Mutex<HashMap<Key, Arc<Pool<B>>>>,
    limits: PoolLimits,
    metrics: Metrics,
}

/// The pool of one upstream.
#[derive(Debug)]
pub struct Pool<B> {
    endpoint: Endpoint,
    limits: PoolLimits,
    idle: Mutex<Vec<Idle<B>>>,
    sweeping: AtomicBool,
    metrics: UpstreamMetrics,
}

#[derive(Debug)]
struct Idle<B> {
    link: Link<B>,
    since: Instant,
}

/// No connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// It could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was open and did not speak HTTP.
    #[error("the HTTP handshake failed")]
    Handshake(#[source] hyper::Error),
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No pools yet.
    #[must_use]
    pub fn new(limits: PoolLimits, metrics: Metrics) -> Self {
        Self { pools: Mutex::default(), foreign: Mutex::default(), limits, metrics }
    }

    /// The pool of `key`, made on first use.
    pub fn pool(&self, key: &Key, endpoint: &Endpoint) -> Arc<Pool<B>> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(key) {
            return Arc::clone(pool);
        }
        let pool = self.make(endpoint, self.limits, endpoint.authority.as_str());
        pools.insert(*key, Arc::clone(&pool));
        pool
    }

    /// The pool of an upstream that a caller or a token endpoint names. It is counted under `label` with all of its
    /// kind, and goes when nothing of it is in use or idle and others need its place. Where none goes, the connection
    /// serves one exchange.
    pub fn foreign(&self, key: &Key, endpoint: &Endpoint, label: &str) -> Arc<Pool<B>> {
        let mut pools = self.foreign.lock();
        if let Some(pool) = pools.get(key) {
            return Arc::clone(pool);
        }
        if pools.len() >= MOST_FOREIGN {
            // Leases and the task that looks after idle connections hold it too.
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        if pools.len() >= MOST_FOREIGN {
            return self.make(endpoint, PoolLimits { idle_connections: 0, ..self.limits }, label);
        }
        let pool = self.make(endpoint, self.limits, label);
        pools.insert(*key, Arc::clone(&pool));
        pool
    }

    fn make(&self, endpoint: &Endpoint, limits: PoolLimits, label: &str) -> Arc<Pool<B>> {
        Arc::new(Pool {
            endpoint: endpoint.clone(),
            limits,
            idle: Mutex::new(Vec::new()),
            sweeping: AtomicBool::new(false),
            metrics: self.metrics.upstream(label),
        })
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A connection that was ready a moment ago, or a new one.
    ///
    /// # Errors
    /// When a new one was needed and could not be opened within `connect`.
    pub async fn checkout(self: &Arc<Self>, connect: Duration) -> Result<Lease<B>, CheckoutError> {
        while let Some(mut link) = self.pop() {
            // Its last answer has been read to the end, so it becomes ready with the next turn of its task, or fails.
            if link.sender.is_ready() || link.sender.ready().await.is_ok() {
                self.metrics.reused();
                return Ok(Lease::new(link, Arc::clone(self), true));
            }
        }
        self.open(connect).await
    }

    /// A new connection, whatever is idle.
    ///
    /// # Errors
    /// When it could not be opened within `connect`.
    pub async fn open(self: &Arc<Self>, connect: Duration) -> Result<Lease<B>, CheckoutError> {
        let endpoint = &self.endpoint;
        let stream = connect::dial(endpoint.host(), endpoint.port(), endpoint.tls.as_deref(), connect).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LONGEST_HEAD)
            .handshake(TokioIo::new(UpstreamStream::new(stream)))
            .await
            .map_err(CheckoutError::Handshake)?;
        let open = Open::new(&self.metrics);
        let task = tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an upstream connection ended early");
            }
        });
        Ok(Lease::new(Link::new(sender, task.abort_handle()), Arc::clone(self), false))
    }

    fn pop(&self) -> Option<Link<B>> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.link.sender.is_closed() {
                continue;
            }
            if connection.since.elapsed() < self.limits.idle {
                return Some(connection.link);
            }
            // A stack: what lies below has been idle for even longer.
            idle.clear();
        }
        None
    }

    /// Counts a request that is sent again because the pooled connection it found was dead.
    pub fn stale(&self) {
        self.metrics.retried_stale();
    }

    /// Takes back a connection whose exchange is complete.
    pub(super) fn put(self: &Arc<Self>, link: Link<B>) {
        let mut idle = self.idle.lock();
        if idle.len() >= self.limits.idle_connections {
            return;
        }
        idle.push(Idle { link, since: Instant::now() });
        drop(idle);
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes connections that nobody asked for in time; ends when none is idle.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.limits.idle / 2).await;
            let mut idle = self.idle.lock();
            idle.retain(|connection| {
                !connection.link.sender.is_closed() && connection.since.elapsed() < self.limits.idle
            });
            if idle.is_empty() {
                self.sweeping.store(false, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Counts an open connection for as long as its task lives, however that ends.
struct Open(UpstreamMetrics);

impl Open {
    fn new(metrics: &UpstreamMetrics) -> Self {
        metrics.opened();
        Self(metrics.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;

    use super::{MOST_FOREIGN, PoolLimits, Pools};
    use crate::metrics::Metrics;
    use crate::upstream::Endpoint;

    #[test]
    fn pools_of_foreign_upstreams_are_bounded_in_number() {
        let pools: Pools<Empty<Bytes>> = Pools::new(PoolLimits::default(), Metrics::default());
        let endpoint = |number: usize| Endpoint::new(None, format!("host-{number}.example").parse().unwrap());
        let pool = |number: usize| pools.foreign(&endpoint(number).key(), &endpoint(number), "passthrough");
        let busy: Vec<_> = (0..MOST_FOREIGN).map(pool).collect();
        assert!(std::sync::Arc::ptr_eq(&busy[7], &pool(7)));
        let extra = pool(MOST_FOREIGN);
        assert_eq!((pools.foreign.lock().len(), extra.limits.idle_connections), (MOST_FOREIGN, 0), "all are in use");
        drop(busy);
        for number in 0..4 * MOST_FOREIGN {
            pool(number);
            assert!(pools.foreign.lock().len() <= MOST_FOREIGN);
        }
        assert_eq!(pool(5000).limits.idle_connections, PoolLimits::default().idle_connections);
        assert!(pools.pools.lock().is_empty());
    }
}
