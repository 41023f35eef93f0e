//! One HTTP/1 connection of a caller, behind its guard, to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::drain::{Drain, Phase};
use super::guard::Guard;
use super::{Arrival, Connection, Service};
use crate::body::AnswerBody;

/// Serves one connection to its end.
pub(super) async fn serve<IO, S>(io: TokioIo<Guard<IO>>, service: Arc<S>, connection: Arc<Connection>, mut drain: Drain)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let looking = drain.clone();
    let calls = hyper::service::service_fn(move |request| {
        let arrival = match connection.called() {
            None => Arrival::Request(request),
            Some(failure) => Arrival::Refused(failure),
        };
        let connection = Arc::clone(&connection);
        // Nothing behind a refused head is ever read, so no answer may promise that the connection goes on.
        let is_last = matches!(arrival, Arrival::Refused(_));
        let answer = Arc::clone(&service).call(arrival, Arc::clone(&connection));
        let looking = looking.clone();
        async move {
            let mut answer = answer.await;
            if is_last || looking.phase() >= Phase::LameDuck {
                answer.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(answer.map(|body| Answering { body, connection }))
        }
    });
    // No timer and no header limit here: the guard keeps both.
    let mut served = std::pin::pin!(http1::Builder::new().serve_connection(io, calls));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = drain.reached(Phase::Closing) => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = served.as_mut() => ended,
                () = drain.reached(Phase::Forced) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller's connection ended early");
    }
}

pin_project_lite::pin_project! {
    /// An answer's body that tells its connection when the answer has ended.
    struct Answering {
        #[pin]
        body: AnswerBody,
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
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
