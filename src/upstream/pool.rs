//! A worker's connections to one upstream: which one an exchange gets, and when another is opened.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{Carrier, Lease};
use super::form::Form;
use super::http1::{Link, Room};
use super::idle::{Stack, Sweeping};
use super::multiplex::{Found, Trunks};
use super::opener::{CheckoutError, Opener};
use super::{Endpoint, Http, Key, Protocol};
use crate::connect::ConnectError;
use crate::metrics::Metrics;

/// With more pools than this, those that hold nothing are given up before another is made.
const POOLS: usize = 512;

/// How often idle connections are looked through for those that a server has closed.
const SWEEP: Duration = Duration::from_secs(5);

/// Bounds of every pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// An idle connection older than this is not used again. Many servers close after 60 s, and no value removes the
    /// race with them altogether (hyper issue 2136); the retry rule covers the rest.
    pub idle: Duration,
    /// Idle connections kept.
    pub idle_connections: usize,
    /// A connection older than this gets no further exchange, so that a name or a balancer that points elsewhere is
    /// followed.
    pub age: Duration,
    /// Open HTTP/1 connections.
    pub connections: usize,
    /// Open HTTP/2 connections.
    pub http2_connections: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(55),
            idle_connections: 1024,
            age: Duration::from_secs(10 * 60),
            connections: 8192,
            http2_connections: 32,
        }
    }
}

/// All pools of a worker.
#[derive(Debug)]
pub struct Pools<B> {
    pools: Mutex<Maps<B>>,
    /// Of upstreams that are not written in the configuration.
    foreign: Mutex<Maps<B>>,
    limits: PoolLimits,
    metrics: Metrics,
}

#[derive(Debug)]
struct Maps<B> {
    http1: Map<B>,
    http2: Map<B>,
}

type Map<B> = HashMap<Key, Arc<Pool<B>>, BuildHasherDefault<Prehashed>>;

/// A [`Key`] is a digest, so its beginning is as good a hash as any made of it.
#[derive(Debug, Default)]
struct Prehashed(u64);

impl Hasher for Prehashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(beginning) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*beginning);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<B> Maps<B> {
    /// Gives up pools that hold nothing where there are many; whether there is room then.
    fn make_room(&mut self) -> bool {
        if self.http1.len() + self.http2.len() >= POOLS {
            self.http1.retain(|_, pool| pool.is_wanted());
            self.http2.retain(|_, pool| pool.is_wanted());
        }
        self.http1.len() + self.http2.len() < POOLS
    }
}

impl<B> Pool<B> {
    /// Whether somebody holds it, or it holds connections.
    fn is_wanted(self: &Arc<Self>) -> bool {
        let is_empty = match &self.connections {
            Connections::Http1(stack) => stack.is_empty(),
            Connections::Http2(trunks) => trunks.is_empty(),
        };
        !is_empty || Arc::strong_count(self) > 1
    }
}

/// The pool of one upstream and one version of HTTP.
#[derive(Debug)]
pub struct Pool<B> {
    opener: Opener,
    form: Form,
    pub(super) connections: Connections<B>,
    /// For an upstream that turns out to speak HTTP/2 only; there where that is allowed and can be noticed.
    otherwise: Option<Arc<Pool<B>>>,
    speaks_http2_only: AtomicBool,
}

#[derive(Debug)]
pub(super) enum Connections<B> {
    Http1(Stack<B>),
    Http2(Trunks<B>),
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// No pools yet.
    #[must_use]
    pub fn new(limits: PoolLimits, metrics: Metrics) -> Self {
        let none = || Mutex::new(Maps { http1: Map::default(), http2: Map::default() });
        Self { pools: none(), foreign: none(), limits, metrics }
    }

    /// The pool of `key`, which is that of `endpoint`, for `protocol`; made on first use.
    pub fn pool(&self, key: &Key, endpoint: &Endpoint, protocol: Protocol) -> Arc<Pool<B>> {
        let mut pools = self.pools.lock();
        let known = match protocol {
            Protocol::Http1 => pools.http1.get(key),
            Protocol::Http2 => pools.http2.get(key),
        };
        match known {
            Some(pool) => Arc::clone(pool),
            None => {
                pools.make_room();
                self.make(&mut pools, (key, endpoint), protocol, endpoint.authority.as_str())
            }
        }
    }

    /// As [`Self::pool`], of an upstream that a caller or a token endpoint names. It is counted under `label` with all
    /// of its kind. Where there are too many pools in use, the connection serves one exchange.
    pub fn foreign(&self, (key, endpoint): (&Key, &Endpoint), protocol: Protocol, label: &str) -> Arc<Pool<B>> {
        let mut pools = self.foreign.lock();
        let known = match protocol {
            Protocol::Http1 => pools.http1.get(key),
            Protocol::Http2 => pools.http2.get(key),
        };
        if let Some(pool) = known {
            return Arc::clone(pool);
        }
        if pools.make_room() {
            self.make(&mut pools, (key, endpoint), protocol, label)
        } else {
            let alone = PoolLimits { idle_connections: 0, ..self.limits };
            let opener = Opener::new(endpoint.clone(), protocol, alone, self.metrics.upstream(label));
            Arc::new(Pool::new(opener, None))
        }
    }

    fn make(
        &self,
        pools: &mut Maps<B>,
        (key, endpoint): (&Key, &Endpoint),
        protocol: Protocol,
        label: &str,
    ) -> Arc<Pool<B>> {
        let new = |protocol, otherwise| {
            let metrics = self.metrics.upstream(label);
            Arc::new(Pool::new(Opener::new(endpoint.clone(), protocol, self.limits, metrics), otherwise))
        };
        if protocol == Protocol::Http2 {
            return Arc::clone(pools.http2.entry(*key).or_insert_with(|| new(protocol, None)));
        }
        let has_choice = endpoint.http == Http::Auto && endpoint.tls.is_some();
        let otherwise =
            has_choice.then(|| Arc::clone(pools.http2.entry(*key).or_insert_with(|| new(Protocol::Http2, None))));
        Arc::clone(pools.http1.entry(*key).or_insert_with(|| new(protocol, otherwise)))
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn new(opener: Opener, otherwise: Option<Arc<Self>>) -> Self {
        let connections = match opener.protocol {
            Protocol::Http1 => Connections::Http1(Stack::new()),
            Protocol::Http2 => Connections::Http2(Trunks::new(opener.open())),
        };
        let form = Form::of(&opener.endpoint, opener.protocol);
        Self { opener, form, connections, otherwise, speaks_http2_only: AtomicBool::new(false) }
    }

    /// A connection that was ready a moment before `now`, or a new one, made for an answer that has `room`.
    ///
    /// # Errors
    /// When a new one was needed and could not be opened within `connect`.
    pub async fn checkout(
        self: &Arc<Self>,
        now: Instant,
        connect: Duration,
        room: Room,
    ) -> Result<Lease<B>, CheckoutError> {
        if let Connections::Http1(stack) = &self.connections
            && let Some(link) = stack.pop(now, &self.opener.limits)
        {
            self.opener.metrics.reused();
            return Ok(Lease::new(Carrier::Http1(link), (Arc::clone(self), room), true));
        }
        self.open(connect, room).await
    }

    /// A connection that is none of the idle ones, for a request that such a one lost. Of HTTP/2: any that did not lose
    /// or refuse one.
    ///
    /// # Errors
    /// When one was needed and could not be opened within `connect`.
    pub async fn open(self: &Arc<Self>, connect: Duration, room: Room) -> Result<Lease<B>, CheckoutError> {
        match &self.connections {
            Connections::Http1(_) => Box::pin(self.open_link(connect, room)).await,
            Connections::Http2(trunks) => Box::pin(self.take_stream(trunks, connect)).await,
        }
    }

    async fn open_link(self: &Arc<Self>, connect: Duration, room: Room) -> Result<Lease<B>, CheckoutError> {
        let deadline = Instant::now() + connect;
        if let Some(otherwise) = &self.otherwise
            && self.speaks_http2_only.load(Ordering::Relaxed)
        {
            return self.open_otherwise(otherwise, connect).await;
        }
        if !self.opener.may_open() {
            return Err(CheckoutError::Busy);
        }
        match (self.opener.http1(connect, room).await, &self.otherwise) {
            (Ok(link), _) => Ok(Lease::new(Carrier::Http1(Box::new(link)), (Arc::clone(self), room), false)),
            (Err(error), Some(otherwise)) if is_other_protocol(&error) => {
                self.speaks_http2_only.store(true, Ordering::Relaxed);
                self.open_otherwise(otherwise, deadline.saturating_duration_since(Instant::now())).await
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn open_otherwise(&self, otherwise: &Arc<Self>, connect: Duration) -> Result<Lease<B>, CheckoutError> {
        let Connections::Http2(trunks) = &otherwise.connections else { return Err(CheckoutError::NotHttp2) };
        let opened = Box::pin(otherwise.take_stream(trunks, connect)).await;
        if opened.as_ref().is_err_and(is_other_protocol) {
            // The next exchange asks again for HTTP/1.
            self.speaks_http2_only.store(false, Ordering::Relaxed);
        }
        opened
    }

    async fn take_stream(self: &Arc<Self>, trunks: &Trunks<B>, connect: Duration) -> Result<Lease<B>, CheckoutError> {
        let deadline = Instant::now() + connect;
        loop {
            // Listening begins before looking, so that nothing is missed in between.
            let freed = trunks.freed();
            let opening = match trunks.find(&self.opener.limits, || self.opener.may_open()) {
                Found::Stream(stream) => {
                    self.opener.metrics.reused();
                    return Ok(Lease::new(Carrier::Http2(stream), (Arc::clone(self), Room::Wide), true));
                }
                Found::Open(opening) => {
                    let opened = self.opener.http2(deadline.saturating_duration_since(Instant::now())).await;
                    let trunk = match opened {
                        Ok(trunk) => trunk,
                        Err(error) => {
                            opening.failed(&error);
                            return Err(error);
                        }
                    };
                    let (stream, sweeping) = opening.opened(trunk);
                    self.sweep(sweeping);
                    return Ok(Lease::new(Carrier::Http2(stream), (Arc::clone(self), Room::Wide), false));
                }
                Found::Wait(opening) => opening,
            };
            let Some(mut opening) = opening else {
                tokio::time::timeout_at(deadline, freed).await.map_err(|_| CheckoutError::Busy)?;
                continue;
            };
            let waited = async {
                tokio::select! {
                    changed = opening.changed() => changed.is_ok(),
                    () = freed => false,
                }
            };
            let waited = tokio::time::timeout_at(deadline, waited).await;
            let has_failed = waited.map_err(|_| CheckoutError::from(ConnectError::Timeout))?;
            if has_failed && let Some(error) = &*opening.borrow() {
                return Err(error.clone());
            }
        }
    }

    /// Counts a request that is sent again because the pooled connection it found was dead.
    pub fn stale(&self) {
        self.opener.metrics.retried_stale();
    }

    /// How requests are sent.
    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// See [`Opener::note_proxy`].
    pub(super) fn note_proxy(&self, refusal: Option<u16>) {
        self.opener.note_proxy(refusal);
    }

    /// Takes back a connection whose exchange is complete, and which is idle from `now`.
    pub(super) fn put(self: &Arc<Self>, link: Box<Link<B>>, now: Instant) {
        if let Connections::Http1(stack) = &self.connections {
            self.sweep(stack.push(link, now, &self.opener.limits));
        }
    }

    fn sweep(self: &Arc<Self>, sweeping: Sweeping) {
        if sweeping == Sweeping::Start {
            tokio::spawn(Arc::clone(self).swept());
        }
    }

    /// Closes what idles too long; ends when nothing is left.
    async fn swept(self: Arc<Self>) {
        let limits = &self.opener.limits;
        loop {
            tokio::time::sleep(SWEEP.min(limits.idle / 2)).await;
            let has_more = match &self.connections {
                Connections::Http1(stack) => stack.sweep(limits.idle),
                Connections::Http2(trunks) => trunks.sweep(limits),
            };
            if !has_more {
                return;
            }
        }
    }
}

fn is_other_protocol(error: &CheckoutError) -> bool {
    matches!(error, CheckoutError::Connect(error) if matches!(**error, ConnectError::OtherProtocol))
}
