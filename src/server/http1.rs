//! One HTTP/1 connection of a caller, behind its guard, to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::connection::Switch;
use super::drain::{Drain, Phase};
use super::guard::Guard;
use super::{Arrival, Connection, Service};
use crate::body::{self, AnswerBody};

/// Bytes of a request or an answer that hyper may hold for a connection.
const BUFFER: usize = 64 * 1024;

/// Bytes of an answer that are worth a write of their own while it is not known whether the caller reads.
const MUCH: usize = 4 * 1024;

/// Serves one connection until it ends, or until another protocol took over its socket.
pub(super) async fn serve<IO, S>(io: TokioIo<Guard<IO>>, service: Arc<S>, connection: Arc<Connection>, mut drain: Drain)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let looking = Arc::new(drain.clone());
    let own = Arc::clone(&connection);
    let calls = hyper::service::service_fn(move |request| {
        let is_connect = request.method() == Method::CONNECT;
        let arrival = arrive(request, &own);
        let connection = Arc::clone(&own);
        // Nothing behind a refused head is ever read, so no answer may promise that the connection goes on.
        let is_last = matches!(arrival, Arrival::Refused(_));
        let answer = Arc::clone(&service).call(arrival, Arc::clone(&connection));
        let looking = Arc::clone(&looking);
        async move {
            let mut answer = answer.await;
            begin(&mut answer, &connection, is_connect, is_last || looking.phase() >= Phase::LameDuck);
            Ok::<_, Infallible>(answer.map(|body| Answering { body, must_be_written: false, connection }))
        }
    });
    // No timer and no header limit here: the guard keeps both. What hyper may hold has room for the longest head; by
    // itself it would keep 400 KiB of an answer for every caller that does not read.
    let buffer = BUFFER.max(io.inner().longest_head());
    let mut served =
        std::pin::pin!(http1::Builder::new().max_buf_size(buffer).serve_connection(io, calls).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = drain.reached(Phase::Closing) => {
            let mut is_told = false;
            let last = std::future::poll_fn(|cx| loop {
                if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                // hyper would write `close` into a 101, and hand the socket over before it has written all of an answer
                // that agreed to nothing. Either way such a connection ends by itself.
                if is_told || connection.switch() != Switch::None {
                    return Poll::Pending;
                }
                is_told = true;
                served.as_mut().graceful_shutdown();
            });
            tokio::select! {
                biased;
                ended = last => ended,
                () = drain.reached(Phase::Forced) => return,
            }
        }
    };
    match ended {
        Ok(()) => close_declined(&connection).await,
        Err(error) => tracing::debug!(%error, "a caller's connection ended early"),
    }
}

/// Takes the next request of the connection.
fn arrive(request: Request<Incoming>, connection: &Connection) -> Arrival {
    // RFC 9110 15.2: HTTP/1.0 knows no interim answers.
    connection.interims().open(request.version() != Version::HTTP_10);
    if let Some(failure) = connection.called() {
        return Arrival::Refused(failure);
    }
    if connection.may_switch() {
        *connection.pending().lock() = request.extensions().get::<OnUpgrade>().cloned();
    }
    Arrival::Request(request)
}

/// Completes an answer before its first byte is written: what becomes of the connection after it.
fn begin(answer: &mut Response<AnswerBody>, connection: &Connection, is_connect: bool, is_last: bool) {
    connection.interims().close();
    let status = answer.status();
    // RFC 9112 9.3: a body that was not read to its end is not stepped over, and the caller is told. Only a success that
    // streams may still have the rest read while it does.
    let may_read_on = || status.is_success() && !answer.body().is_end_stream();
    let mut closes = is_last || (connection.leaves_body() && !may_read_on());
    if connection.may_switch() {
        let agrees = if is_connect { status.is_success() } else { status == StatusCode::SWITCHING_PROTOCOLS };
        connection.settle(agrees);
        if agrees {
            return;
        }
        closes = true;
    }
    if status.is_informational() {
        tracing::error!(%status, "an interim answer cannot end an exchange");
        *answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
    }
    if closes {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Once another protocol was asked for, hyper hands the socket over at the end instead of closing it, whatever the
/// answer was. If it agreed to nothing, the end is made here.
async fn close_declined(connection: &Connection) {
    let pending = connection.pending().lock().take();
    if let Some(pending) = pending
        && let Ok(socket) = pending.await
        && let Err(error) = TokioIo::new(socket).shutdown().await
    {
        tracing::debug!(%error, "a caller's connection was not closed in order");
    }
}

pin_project_lite::pin_project! {
    /// An answer's body that tells its connection when the answer has ended.
    struct Answering {
        #[pin]
        body: AnswerBody,
        // Whether hyper was given a piece and is to write it first.
        must_be_written: bool,
        connection: Arc<Connection>,
    }

    impl PinnedDrop for Answering {
        fn drop(this: Pin<&mut Self>) {
            this.connection.answered();
        }
    }
}

impl http_body::Body for Answering {
    type Data = bytes::Bytes;
    type Error = crate::body::BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        // hyper would take more of the answer until its buffer is full. The guard wakes the connection when its socket
        // takes bytes again.
        if this.connection.is_behind() {
            return Poll::Pending;
        }
        // It writes only once its buffer is full or there is nothing more to take.
        if std::mem::take(this.must_be_written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = ready!(this.body.poll_frame(cx));
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, bytes::Bytes::len);
        *this.must_be_written = this.connection.must_take(length) && length >= MUCH;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
