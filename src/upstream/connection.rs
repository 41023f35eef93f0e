//! One request over one leased connection, and what became of it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::{FutureExt as _, TryFutureExt as _};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Protocol;
use super::multiplex::Stream;
use super::pool::Pool;
use super::stream::Taker;
use crate::body::Valve;

/// A connection taken out of its pool, or a place on a shared one. Dropped, the connection closes, or the stream on the
/// shared one is reset; only [`Lease::give_back`] returns it.
///
/// After an answer that switches protocols, await `hyper::upgrade::on(answer)` before the lease is dropped: from then on
/// the connection belongs to what that gives, and closes with it. It never returns to the pool.
#[derive(Debug)]
pub struct Lease<B> {
    carrier: Carrier<B>,
    pool: Arc<Pool<B>>,
    reused: bool,
    /// It became something else than HTTP, or somebody's own.
    is_spent: bool,
}

#[derive(Debug)]
pub(super) enum Carrier<B> {
    Http1(Link<B>),
    Http2(Stream<B>),
}

/// An open connection and the task that drives it. Dropped, it closes at once, whatever is still on its way: a request
/// body that nobody reads any more must not keep a connection for as long as the upstream is patient.
#[derive(Debug)]
pub(super) struct Link<B> {
    pub(super) sender: http1::SendRequest<B>,
    pub(super) opened: Instant,
    taker: Taker,
    task: AbortHandle,
}

impl<B> Link<B> {
    pub(super) fn new(sender: http1::SendRequest<B>, taker: Taker, task: AbortHandle) -> Self {
        Self { sender, opened: Instant::now(), taker, task }
    }
}

impl<B> Drop for Link<B> {
    fn drop(&mut self) {
        // After an upgrade the task has ended, and this does nothing.
        self.task.abort();
    }
}

/// What became of a request that got no answer. The variant says who may send it again.
#[derive(Debug, thiserror::Error)]
pub enum SendError<B> {
    /// Not a byte of it was sent; here it is again.
    #[error("the connection closed before the request was sent")]
    Unsent(Box<Request<B>>),
    /// It was sent, and the upstream says that it did not process it (RFC 9113 8.7): any method may be sent again.
    #[error("the upstream refused the stream")]
    Refused(#[source] hyper::Error),
    /// The connection ended after sending had begun and before an answer's head came.
    #[error("the connection ended before an answer came")]
    Lost(#[source] hyper::Error),
    /// An answer came that is no HTTP.
    #[error("the answer was broken")]
    Broken(#[source] hyper::Error),
    /// The request body failed on our side.
    #[error("the request body ended early")]
    RequestBody(#[source] hyper::Error),
    /// The proxy on the way answered in place of the upstream: it wants (other) credentials.
    #[error("the proxy refused the request with status {status}")]
    Proxy {
        /// The status.
        status: u16,
    },
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(carrier: Carrier<B>, pool: Arc<Pool<B>>, reused: bool) -> Self {
        Self { carrier, pool, reused, is_spent: false }
    }

    /// Whether the connection was open before, and may have died unnoticed.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The version of HTTP that is spoken.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.carrier {
            Carrier::Http1(_) => Protocol::Http1,
            Carrier::Http2(_) => Protocol::Http2,
        }
    }

    /// Reads no more of the answer while `valve` is shut. On a shared connection windows see to that.
    pub fn read_for(&self, valve: &Arc<Valve>) {
        if let Carrier::Http1(link) = &self.carrier {
            link.taker.set(valve);
        }
    }

    /// Sends `request`, which is in origin-form and has a `Host`, and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(
        &mut self,
        mut request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError<B>>> + Send {
        let Self { carrier, pool, is_spent, reused: _ } = self;
        let pool = &**pool;
        let form = pool.form();
        form.fit(&mut request);
        // Not an async function, nor a block: their futures keep the room of whatever was moved through them.
        let sending = match carrier {
            Carrier::Http1(link) => link.sender.try_send_request(request).map_err(fate),
            Carrier::Http2(stream) => return Either::Right(Box::pin(stream.send(request))),
        };
        Either::Left(sending.map(move |answer| {
            let answer = answer?;
            *is_spent |= answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            // Only a proxy answers so (RFC 9110 15.5.8): it must not be taken for the upstream's word.
            if form.is_for_proxy() {
                let is_refused = answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
                let status = is_refused.then_some(answer.status().as_u16());
                pool.note_proxy(status);
                if let Some(status) = status {
                    return Err(SendError::Proxy { status });
                }
            }
            Ok(answer)
        }))
    }

    /// Keeps the connection from everyone else: it closes after this exchange. On a shared one nothing changes.
    pub fn spend(&mut self) {
        self.is_spent = true;
    }

    /// Returns the connection. Call this only when request and answer have both ended.
    pub fn give_back(self) {
        let Self { carrier, pool, reused: _, is_spent } = self;
        match carrier {
            Carrier::Http1(link) if !is_spent && !link.sender.is_closed() => {
                link.taker.clear();
                pool.put(link);
            }
            // Its stream has ended; the connection stays where it is.
            Carrier::Http1(_) | Carrier::Http2(_) => {}
        }
    }
}

/// What hyper's error says about a request over HTTP/1.
fn fate<B>(mut error: TrySendError<Request<B>>) -> SendError<B> {
    if let Some(request) = error.take_message() {
        return SendError::Unsent(Box::new(request));
    }
    let error = error.into_error();
    if error.is_user() {
        SendError::RequestBody(error)
    } else if error.is_parse() {
        SendError::Broken(error)
    } else {
        SendError::Lost(error)
    }
}
