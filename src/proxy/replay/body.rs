//! The body of one attempt, as the upstream connection reads it: first the copy, then on from the caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::{CallerBodyFailed, Gate, SharedSource};

/// The body of one attempt.
#[derive(Debug)]
pub(in crate::proxy) enum AttemptBody {
    /// The caller sent none.
    Empty,
    /// The caller's, from the first byte.
    Caller {
        /// Which attempt this is.
        attempt: u32,
        /// The body they share.
        source: SharedSource,
    },
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = CallerBodyFailed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallerBodyFailed>>> {
        let Self::Caller { attempt, source } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let mut source = source.0.lock();
        if source.attempt != *attempt {
            // An error here would abort the connection and lose the answer's own body, which may still be wanted.
            return Poll::Pending;
        }
        // Whatever is kept, what the caller did not finish is no request.
        if source.failed {
            return Poll::Ready(Some(Err(CallerBodyFailed)));
        }
        if let Some(frame) = source.copy() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if source.ended {
            return Poll::Ready(None);
        }
        if let Gate::Shut(waker) = &mut source.gate {
            // Pending for as long as the answer may be wanted, for the same reason.
            waker.replace(cx.waker().clone());
            return Poll::Pending;
        }
        match ready!(source.poll_incoming(cx)) {
            None => {
                source.ended = true;
                source.progress = Instant::now();
                Poll::Ready(None)
            }
            Some(Ok(mut frame)) => {
                source.note(&mut frame);
                if source.is_too_large() {
                    // What is over the limit is not sent, and what was sent is no request: its connection ends.
                    source.failed = true;
                    return Poll::Ready(Some(Err(CallerBodyFailed)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(CallerBodyFailed)) => {
                source.failed = true;
                Poll::Ready(Some(Err(CallerBodyFailed)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Caller { attempt, source } => {
                let source = source.0.lock();
                source.attempt == *attempt
                    && source.ended
                    && source.sent >= source.kept.len()
                    && (source.trailers.is_none() || source.trailers_sent)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Caller { attempt, source } => {
                let source = source.0.lock();
                let rest = source.incoming.size_hint();
                let kept = source.kept.len().saturating_sub(source.sent) as u64;
                match rest.exact() {
                    Some(exact) if source.attempt == *attempt => SizeHint::with_exact(exact + kept),
                    _ => SizeHint::default(),
                }
            }
        }
    }
}
