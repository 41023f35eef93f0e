//! One HTTP/2 connection of a caller, to its end (RFC 9113): hyper's server on a watched stream.
//!
//! Every request is judged by the same rules as in HTTP/1 before the service sees it.

mod census;
mod frames;
mod head;
mod reading;
mod watched;

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing {
    //! What the fuzz targets reach.

    pub use super::census::fuzzing::frame_stream;
    use crate::server::Limits;

    /// Whether a head is let through by the default limits.
    pub(in crate::server) fn passes(request: &mut http::Request<()>) -> bool {
        super::head::check(request, &Limits::default()).is_ok()
    }
}

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::reading::{Reading, Streams};
use self::watched::Watched;
use super::drain::{Drain, Phase};
use super::{Arrival, Connection, Limits, Service};
use crate::answer::Failure;
use crate::body::{AnswerBody, BodyError};
use crate::metrics::Floods;

/// h2 answers a header list over its limit itself, and bare. This much more than ours lets us answer: 32 bytes for
/// each field and the pseudo-fields are counted there and not here (RFC 9113 10.5.1).
const HEADER_ALLOWANCE: usize = 8 * 1024;

/// What a caller may send of a body before it is read.
const STREAM_WINDOW: u32 = 64 * 1024 - 1;

/// What a caller may send of all bodies before they are read: sixteen whose upstreams do not read leave room for none
/// of the others. h2 ends a connection whose unread DATA frames cost half of this besides, each counted as 256 bytes at
/// least: that is after 2,000 messages of two bytes, as gRPC frames them.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What serving an HTTP/2 connection takes besides the connection.
pub(super) struct Surroundings {
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    pub(super) floods: Floods,
    /// Where the tasks of streams run.
    pub(super) tasks: TaskTracker,
}

/// What the watched stream and those who serve it know of each other.
#[derive(Debug, Default)]
struct State {
    requests: AtomicU64,
    serving: AtomicUsize,
    first: Notify,
    idle: Notify,
}

impl State {
    fn begin(&self) {
        self.serving.fetch_add(1, Ordering::Relaxed);
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.notify_one();
        }
    }

    fn end(&self) {
        self.serving.fetch_sub(1, Ordering::Relaxed);
    }

    fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed) > 0
    }

    /// The time without a request is over.
    fn ended_idle(&self) {
        self.idle.notify_one();
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<IO, S>(io: IO, service: Arc<S>, mut connection: Connection, around: Surroundings)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let Surroundings { limits, mut drain, floods, tasks } = around;
    let state = Arc::new(State::default());
    connection.body_pace = Some(limits.body_pace());
    let calls = {
        let (state, looking) = (Arc::clone(&state), drain.clone());
        hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            let open = Open::new(&state);
            let arrival = match head::check(&mut request, &limits) {
                // The caller was told to go and may be slow to hear it, or not want to: 421 sends it to another
                // connection (RFC 9110 15.5.20), where it has to show a certificate that counts.
                Ok(()) if looking.is_distrusted() => Arrival::Refused(Failure::Misdirected),
                Ok(()) => Arrival::Request(request),
                Err(failure) => Arrival::Refused(failure),
            };
            let answer = Arc::clone(&service).call(arrival, Arc::new(connection.stream()));
            async move {
                let mut answer = answer.await;
                clean(&mut answer);
                Ok::<_, std::convert::Infallible>(answer.map(|body| Answering::new(body, open)))
            }
        })
    };
    let watched = TokioIo::new(Watched::new(io, Arc::clone(&state), limits, floods));
    let streams = Streams { tasks, least: limits.body_pace() };
    let header_list = limits.header + limits.target + HEADER_ALLOWANCE;
    let mut served = std::pin::pin!(
        http2::Builder::new(streams)
            .max_concurrent_streams(limits.http2.streams)
            .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(1024)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_connect_protocol()
            .serve_connection(watched, calls)
    );
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        reason = leaving(&state, &mut drain) => {
            served.as_mut().graceful_shutdown();
            let unheard = async {
                match reason {
                    Leaving::Drain => std::future::pending().await,
                    Leaving::Idle => unheard(&state, limits.header_timeout).await,
                }
            };
            let cut = async {
                tokio::select! {
                    () = unheard => {}
                    () = drain.reached(Phase::Forced) => {}
                }
            };
            tokio::select! {
                biased;
                ended = served.as_mut() => ended,
                () = cut => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller's HTTP/2 connection ended early");
    }
}

/// Why a connection is told to end.
enum Leaving {
    Drain,
    Idle,
}

/// Resolves when the connection is to say goodbye. A lame duck serves what a new connection came with first.
async fn leaving(state: &State, drain: &mut Drain) -> Leaving {
    let mut closing = drain.clone();
    let lame = async {
        drain.reached(Phase::LameDuck).await;
        if state.requests.load(Ordering::Relaxed) == 0 {
            state.first.notified().await;
        }
    };
    tokio::select! {
        () = lame => Leaving::Drain,
        () = closing.reached(Phase::Closing) => Leaving::Drain,
        () = state.idle.notified() => Leaving::Idle,
    }
}

/// Resolves once a GOAWAY has not been answered for so long, and no request came in its way: all that is waited for
/// then is a frame that says that it was read, or that the caller takes what h2 still holds of an answer's last piece.
async fn unheard(state: &State, patience: Duration) {
    loop {
        tokio::time::sleep(patience).await;
        if !state.is_serving() {
            return;
        }
    }
}

/// RFC 9113 8.2.2: fields of a connection have no meaning here.
fn clean(answer: &mut Response<AnswerBody>) {
    let headers = answer.headers_mut();
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// A request that is being answered.
struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.begin();
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.end();
    }
}

pin_project_lite::pin_project! {
    /// An answer's body that tells how far the caller has read it.
    struct Answering {
        #[pin]
        body: AnswerBody,
        // What of the body's last piece was not handed out yet.
        rest: Bytes,
        reading: Arc<Reading>,
        _open: Open,
    }
}

impl Answering {
    fn new(body: AnswerBody, open: Open) -> Self {
        Self { body, rest: Bytes::new(), reading: Reading::current(), _open: open }
    }
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        this.reading.ask();
        if this.rest.is_empty() {
            let Some(frame) = ready!(this.body.poll_frame(cx)?) else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(data) => *this.rest = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.reading.hand(this.rest)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}
