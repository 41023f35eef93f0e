//! The upstream's answer on its way to the caller: head cleaned, body streamed, connection returned, record closed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::response::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::attempt::Answered;
use super::look::{self, UpstreamBody};
use super::record::OpenRecord;
use super::replay::{CallerBody, Progress};
use super::sent::Kept;
use crate::answer::{PROXY_STATUS, REQUEST_ID};
use crate::body::{AnswerBody, BodyError};
use crate::header::{self, Presence, Pseudonym};
use crate::server::Watch;

/// Turns the upstream's answer into the caller's.
pub(super) fn relay(
    answered: Answered,
    mut open: OpenRecord,
    pseudonym: &Pseudonym,
    limits: RelayLimits,
) -> Response<AnswerBody> {
    let Answered { answer, body: request_body, sent, .. } = answered;
    let (mut parts, incoming) = answer.into_parts();
    open.record.status = parts.status.as_u16();
    let present = clean(&mut parts, &open, pseudonym);
    if present.has(Presence::TRAILER) {
        if limits.trailers {
            header::announce_trailers(&mut parts.headers, header::strip_answer_trailers);
        } else {
            parts.headers.remove(TRAILER);
        }
    }
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let streams = present.has(Presence::CONTENT_TYPE) && look::streams(&parts.headers);
    let idle = if streams { limits.stream_idle } else { Some(limits.idle) };
    if let Some(reason) = open.record.not_replayed_reason {
        let status = format!(
            "keybearer; received-status={}; details=\"not-replayed:{}\"",
            parts.status.as_u16(),
            reason.as_str()
        );
        if let Ok(value) = HeaderValue::try_from(status) {
            parts.headers.append(PROXY_STATUS, value);
        }
    }
    request_body.forget();
    if parts.status.is_success() {
        // An upstream that agrees before it has asked for the body may be waiting for it.
        request_body.release();
    }
    let end = limits.end;
    let (incoming, open, waiting) = (Some(incoming), Some(open), Watch::default());
    let mut relay = Relay { incoming, request_body, sent, open, idle, end, waiting, is_fresh: false, failed: None };
    relay.complete_if_ended();
    Response::from_parts(parts, relay.boxed_unsync())
}

/// Makes an answer's head ours to send: rid of what was for one hop, marked with our name and the request id. Tells what
/// there was in it.
pub(super) fn clean(parts: &mut Parts, open: &OpenRecord, pseudonym: &Pseudonym) -> Presence {
    let present = header::strip_response_hop_by_hop(&mut parts.headers);
    header::append_via(&mut parts.headers, parts.version, pseudonym);
    parts.version = http::Version::HTTP_11;
    parts.headers.insert(REQUEST_ID, open.record.id.field());
    present
}

/// What holds for the answer's body, and for a tunnel in its place.
#[derive(Clone, Copy)]
pub(super) struct RelayLimits {
    /// Longest pause between two pieces.
    pub(super) idle: Duration,
    /// Longest pause of what goes on for as long as it pleases.
    pub(super) stream_idle: Option<Duration>,
    /// Whether the caller reads trailers.
    pub(super) trailers: bool,
    /// When the whole exchange must have ended.
    pub(super) end: Option<Instant>,
}

/// An answer's body on its way.
struct Relay {
    /// None: it has ended, or failed.
    incoming: Option<UpstreamBody>,
    request_body: CallerBody,
    /// What trailers must not repeat.
    sent: Option<Box<Kept>>,
    /// Taken when the body has ended; dropped with the body when the caller goes away before.
    open: Option<OpenRecord>,
    idle: Option<Duration>,
    end: Option<Instant>,
    waiting: Watch<()>,
    /// Whether the last piece may not have been written to the caller.
    is_fresh: bool,
    /// How it failed, behind such a piece.
    failed: Option<BodyError>,
}

impl Relay {
    /// The answer is complete: the connection can serve others, unless the request is still on its way.
    fn complete(&mut self) {
        if let Some(lease) = self.incoming.take().and_then(UpstreamBody::into_rest)
            && matches!(self.request_body.progress(), Progress::Ended(_))
        {
            let now = Instant::now();
            lease.give_back(now);
            if let Some(open) = &mut self.open {
                open.ended = Some(now);
            }
        }
        self.open = None;
    }

    fn complete_if_ended(&mut self) {
        if self.incoming.as_ref().is_some_and(Body::is_end_stream) {
            self.complete();
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.incoming = None;
        if let Some(mut open) = self.open.take() {
            open.record.error = Some(match &error {
                BodyError::Upstream(_) => "http_response_incomplete",
                BodyError::UpstreamIdle => "connection_read_timeout",
                BodyError::TotalTimeout => "http_response_timeout",
            });
        }
        error
    }

    /// Called when no piece is there: ready when the time for it is over.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        ready!(self.waiting.poll_over(cx, (), (self.idle, self.end)));
        let is_end = self.end.is_some_and(|end| end <= Instant::now());
        Poll::Ready(if is_end { BodyError::TotalTimeout } else { BodyError::UpstreamIdle })
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(this.failed.take().map(Err)) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Pending => {
                this.is_fresh = false;
                let error = ready!(this.poll_late(cx));
                Poll::Ready(Some(Err(this.fail(error))))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                this.waiting.rest();
                if let Some(trailers) = frame.trailers_mut() {
                    header::strip_answer_trailers(trailers);
                    if let Some(sent) = &this.sent {
                        sent.scrub(trailers);
                    }
                }
                this.is_fresh = true;
                if let (Some(data), Some(open)) = (frame.data_ref(), &mut this.open) {
                    open.record.bytes_out += data.len() as u64;
                }
                this.complete_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error = this.fail(BodyError::Upstream(error.into()));
                if !this.is_fresh {
                    return Poll::Ready(Some(Err(error)));
                }
                // What came is passed on, and hyper would drop it with the connection: it writes while this waits.
                this.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(open) = &mut self.open {
            open.record.error = Some("caller_gone");
        }
    }
}
