//! One request over one leased connection, its answer, and what became of both.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::{FutureExt as _, TryFutureExt as _};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::http1::{self, Link, Pump, Room};
use super::multiplex::Stream;
use super::pool::Pool;
use super::{Protocol, RequestHead, TransferError};

/// A connection taken out of its pool, or a place on a shared one; and, once the head of an answer was had from it, the
/// answer's content. Dropped, the connection closes, or the stream on the shared one is reset; only
/// [`Lease::give_back`] returns it.
#[derive(Debug)]
pub struct Lease<B> {
    carrier: Carrier<B>,
    pool: Arc<Pool<B>>,
    /// What the answer has.
    room: Room,
    reused: bool,
    /// It is somebody's own.
    is_spent: bool,
}

#[derive(Debug)]
pub(super) enum Carrier<B> {
    Http1(Box<Link<B>>),
    /// One whose answer came before its request was written.
    Pumped(Pump),
    Http2(Stream<B>),
    /// Nothing any more.
    Gone,
}

/// What became of a request that got no answer. The variant says who may send it again.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing of it was sent that could have been read.
    #[error("the connection closed before the request was sent")]
    Unsent,
    /// It was sent, and the upstream says that it did not process it (RFC 9113 8.7): any method may be sent again.
    #[error("the upstream refused the stream")]
    Refused(#[source] TransferError),
    /// The connection ended after sending had begun and before an answer's head came.
    #[error("the connection ended before an answer came")]
    Lost(#[source] TransferError),
    /// An answer came that is no HTTP.
    #[error("the answer was broken")]
    Broken(#[source] TransferError),
    /// The request body failed on our side.
    #[error("the request body ended early")]
    RequestBody(#[source] TransferError),
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
    pub(super) fn new(carrier: Carrier<B>, (pool, room): (Arc<Pool<B>>, Room), reused: bool) -> Self {
        Self { carrier, pool, room, reused, is_spent: false }
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
            Carrier::Http2(_) => Protocol::Http2,
            Carrier::Http1(_) | Carrier::Pumped(_) | Carrier::Gone => Protocol::Http1,
        }
    }

    /// Sends a request and waits for the head of its answer; the content is the lease itself. `interim` is told of each 1xx before it, over HTTP/1: over HTTP/2 hyper tells of none.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send<'l, F>(
        &'l mut self,
        head: RequestHead<'_>,
        body: B,
        mut interim: F,
    ) -> impl Future<Output = Result<Response<()>, SendError>> + Send + use<'l, B, F>
    where
        F: FnMut(StatusCode, HeaderMap) + Send,
    {
        let Self { carrier, pool, .. } = self;
        let pool = &**pool;
        let form = pool.form();
        // Not an async function, nor a block: their futures keep the room of whatever was moved through them.
        let sending = match carrier {
            Carrier::Http1(link) => {
                link.begin(head, form, body);
                Either::Left(poll_fn(move |cx| link.poll_answer(cx, &mut interim)).map_err(fate))
            }
            Carrier::Http2(stream) => Either::Right(Either::Left(Box::pin(stream.send(form.pseudo(head, body))))),
            Carrier::Pumped(_) | Carrier::Gone => {
                Either::Right(Either::Right(std::future::ready(Err(SendError::Unsent))))
            }
        };
        sending.map(move |answer| {
            let answer = answer?;
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
        })
    }

    /// Has a task send the rest of the request where the answer came before it: whoever takes the answer may stop for a
    /// while, and the request must not. Over HTTP/2 there is one anyway.
    pub fn detach_request(&mut self) {
        if let Carrier::Http1(link) = &self.carrier
            && !link.is_written()
            && !link.is_read()
            && let Carrier::Http1(link) = std::mem::replace(&mut self.carrier, Carrier::Gone)
        {
            let pool = self.is_to_return(&link).then(|| Arc::clone(&self.pool));
            self.carrier = Carrier::Pumped(Pump::new(link, pool));
        }
    }

    /// Whether the connection may serve others: one that is somebody's own does not, nor one that was made for little
    /// and whose caller is known to read, for then it keeps whoever comes next waiting.
    fn is_to_return(&self, link: &Link<B>) -> bool {
        !self.is_spent && (link.room == Room::Wide || self.room == Room::Narrow)
    }

    /// Keeps the connection from everyone else: it closes after this exchange. On a shared one nothing changes.
    pub fn spend(&mut self) {
        self.is_spent = true;
    }

    /// Returns the connection, which is idle from `now`. Call this only when the answer has ended and all of the request
    /// was taken from the caller.
    pub fn give_back(self, now: Instant) {
        let is_to_return = matches!(&self.carrier, Carrier::Http1(link) if self.is_to_return(link));
        let Self { carrier, pool, .. } = self;
        match carrier {
            Carrier::Http1(link) if link.is_read() && !link.is_written() => {
                tokio::spawn(http1::finish(link, is_to_return.then_some(pool)));
            }
            Carrier::Http1(mut link) => {
                if is_to_return && link.rest() {
                    pool.put(link, now);
                }
            }
            Carrier::Pumped(pump) => pump.release(),
            // Its stream has ended; the connection stays where it is.
            Carrier::Http2(_) | Carrier::Gone => {}
        }
    }

    /// The connection, and what came over it already, after an answer that switches protocols (RFC 9110 7.8). It belongs
    /// to what takes it, closes with it, and never returns to the pool.
    #[must_use]
    pub fn into_switched(self) -> Option<(impl AsyncRead + AsyncWrite + Unpin + Send + use<B>, Bytes)> {
        match self.carrier {
            Carrier::Http1(link) => link.into_switched(),
            Carrier::Pumped(_) | Carrier::Http2(_) | Carrier::Gone => None,
        }
    }
}

/// The content of the answer whose head [`Lease::send`] gave.
impl<B> Body for Lease<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = TransferError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        let this = self.get_mut();
        match &mut this.carrier {
            Carrier::Http1(link) => link.poll_frame(cx),
            Carrier::Pumped(pump) => pump.poll_frame(cx),
            Carrier::Http2(stream) => match stream.answer_mut() {
                Some(answer) => Pin::new(answer).poll_frame(cx).map_err(TransferError::Http2),
                None => Poll::Ready(None),
            },
            Carrier::Gone => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.carrier {
            Carrier::Http1(link) => link.is_read(),
            Carrier::Pumped(pump) => pump.left() == Some(0),
            Carrier::Http2(stream) => stream.answer().is_none_or(Body::is_end_stream),
            Carrier::Gone => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.carrier {
            Carrier::Http1(link) => link.left(),
            Carrier::Pumped(pump) => pump.left(),
            Carrier::Http2(stream) => return stream.answer().map_or_else(SizeHint::default, Body::size_hint),
            Carrier::Gone => Some(0),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What an error says about a request over HTTP/1.
fn fate(error: TransferError) -> SendError {
    match error {
        TransferError::RequestBody(_) => SendError::RequestBody(error),
        TransferError::Malformed(_) => SendError::Broken(error),
        TransferError::Unsent => SendError::Unsent,
        TransferError::Http2(_) | TransferError::Io(_) | TransferError::Ended => SendError::Lost(error),
    }
}
