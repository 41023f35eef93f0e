//! Opens connections to one upstream and speaks the beginning of HTTP on them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{Notify, oneshot};

use super::http1::{Link, Room};
use super::multiplex::Trunk;
use super::stoppable::Stoppable;
use super::stream::UpstreamStream;
use super::{Endpoint, PoolLimits, Protocol};
use crate::connect::{self, ConnectError, Destination, Route};
use crate::metrics::UpstreamMetrics;

/// What an HTTP/2 connection may receive before we have read it: one answer, and all of a connection together. Large,
/// so that one slow reader neither holds up the others nor fills the room for small frames (h2 counts those against the
/// connection's window).
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Largest header section of an answer over HTTP/2; hyper's 16 KiB are too few for some servers' cookies and policies.
const HEADER_LIST: u32 = 256 * 1024;

/// How much of a request body hyper takes ahead of what the server lets it send.
const SEND_BUFFER: usize = 256 * 1024;

/// No connection could be had. Who waited for one that others were opening gets the same error as they.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    /// It could not be opened.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// It was open and did not speak HTTP.
    #[error("the HTTP handshake failed")]
    Handshake(#[source] Arc<hyper::Error>),
    /// It was open and ended before it had spoken HTTP/2.
    #[error("the upstream did not speak HTTP/2")]
    NotHttp2,
    /// There are as many connections as there may be, all of them in use.
    #[error("all connections to the upstream are in use")]
    Busy,
}

impl From<ConnectError> for CheckoutError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

/// The open connections of one pool.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: AtomicUsize,
    /// Told whenever a connection closes, or a stream of one ends.
    pub(super) freed: Notify,
}

/// Opens the connections of one pool.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) endpoint: Endpoint,
    pub(super) protocol: Protocol,
    pub(super) limits: PoolLimits,
    pub(super) metrics: UpstreamMetrics,
    open: Arc<Open>,
    /// Whether the proxy on the way out refused the last connection, which is said once.
    is_refused: AtomicBool,
}

impl Opener {
    pub(super) fn new(endpoint: Endpoint, protocol: Protocol, limits: PoolLimits, metrics: UpstreamMetrics) -> Self {
        Self { endpoint, protocol, limits, metrics, open: Arc::default(), is_refused: AtomicBool::new(false) }
    }

    /// What tells that a connection has closed.
    pub(super) fn open(&self) -> Arc<Open> {
        Arc::clone(&self.open)
    }

    /// Whether another connection may be opened.
    pub(super) fn may_open(&self) -> bool {
        let limit = match self.protocol {
            Protocol::Http1 => self.limits.connections,
            Protocol::Http2 => self.limits.http2_connections,
        };
        self.open.count.load(Ordering::Relaxed) < limit
    }

    /// A connection that carries one exchange at a time.
    pub(super) async fn http1<B>(&self, connect: Duration, room: Room) -> Result<Link<B>, CheckoutError> {
        let room = room.now();
        let stream = self.stream(connect, room.held_at_most()).await?;
        let all_or_none = stream.all_or_none();
        Ok(Link::new(UpstreamStream::new((stream, all_or_none), self.counted()), room))
    }

    /// A connection that carries many exchanges at once. The server has spoken first, so its limits are known.
    pub(super) async fn http2<B>(&self, connect: Duration) -> Result<Trunk<B>, CheckoutError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let opening = async {
            let (greeting, greeted) = oneshot::channel();
            let stream = UpstreamStream::greeting(self.stream(connect, None).await?, self.counted(), greeting);
            let handshake = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEADER_LIST)
                .max_send_buf_size(SEND_BUFFER)
                .handshake::<_, Stoppable<B>>(TokioIo::new(stream))
                .await;
            let (sender, connection) = handshake.map_err(|error| CheckoutError::Handshake(Arc::new(error)))?;
            let (spoken, speaks) = oneshot::channel();
            let trunk = Trunk::new(sender);
            tokio::spawn(drive(connection, trunk.limit(), greeted, spoken));
            speaks.await.map_err(|_| CheckoutError::NotHttp2)?;
            Ok(trunk)
        };
        let timed = tokio::time::timeout(connect, opening).await;
        timed.unwrap_or_else(|_| Err(ConnectError::Timeout.into()))
    }

    async fn stream(&self, connect: Duration, held_at_most: Option<u32>) -> Result<connect::Stream, CheckoutError> {
        let destination = Destination { held_at_most, ..self.endpoint.destination(self.protocol) };
        let route = self.endpoint.route(&destination, self.protocol);
        let opened = route.open(&destination, connect).await;
        match (&opened, route) {
            (Err(ConnectError::Proxy { status }), _) => self.note_proxy(Some(*status)),
            (Ok(_), Route::Tunnel(_)) => self.note_proxy(None),
            // Whether it lets this through, it says to each request.
            (Ok(_) | Err(_), Route::Direct | Route::Tunnel(_) | Route::InTheOpen(_)) => {}
        }
        Ok(opened?)
    }

    /// Notes with which status the proxy on the way out refused, if it did. The first of several in a row is logged.
    pub(super) fn note_proxy(&self, refusal: Option<u16>) {
        if self.is_refused.load(Ordering::Relaxed) == refusal.is_some() {
            return;
        }
        self.is_refused.store(refusal.is_some(), Ordering::Relaxed);
        let (Some(status), Some(proxy)) = (refusal, self.endpoint.proxy()) else { return };
        tracing::warn!(
            upstream = %self.endpoint.authority,
            proxy = %format_args!("{}:{}", proxy.host, proxy.port),
            status,
            "the proxy on the way out refuses"
        );
    }

    fn counted(&self) -> Counted {
        self.metrics.opened();
        self.open.count.fetch_add(1, Ordering::Relaxed);
        Counted { metrics: self.metrics.clone(), open: Arc::clone(&self.open) }
    }
}

/// Counts an open connection for as long as its stream lives, whoever holds it by then.
#[derive(Debug)]
pub(super) struct Counted {
    metrics: UpstreamMetrics,
    open: Arc<Open>,
}

#[cfg(any(test, fuzzing))]
impl Counted {
    /// Counts for nobody.
    pub(super) fn none() -> Self {
        let metrics = crate::metrics::Metrics::new().upstream("nobody");
        Self { metrics, open: Arc::default() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.closed();
        self.open.count.fetch_sub(1, Ordering::Relaxed);
        self.open.freed.notify_one();
    }
}

/// Drives what hands requests to an HTTP/2 connection, and publishes how many streams the server allows: hyper tells
/// only here. It is woken by every request and by the server's first bytes, its settings.
async fn drive<B>(
    mut connection: http2::Connection<TokioIo<UpstreamStream<connect::Stream>>, Stoppable<B>, TokioExecutor>,
    limit: Arc<AtomicUsize>,
    mut greeted: oneshot::Receiver<()>,
    spoken: oneshot::Sender<()>,
) where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut spoken = Some(spoken);
    let ended = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        limit.store(connection.current_max_send_streams(), Ordering::Relaxed);
        if spoken.is_some()
            && ended.is_pending()
            && greeted.poll_unpin(cx).is_ready()
            && let Some(spoken) = spoken.take()
        {
            // Who opened it may have gone.
            let _ = spoken.send(());
        }
        match ended {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        }
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "an upstream connection ended early");
    }
}
