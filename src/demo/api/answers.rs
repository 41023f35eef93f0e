//! What the API answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::{Map, Value, json};

use super::{Seen, Shared};
use crate::body::{self, AnswerBody, BodyError};
use crate::demo::issuer::Grant;
use crate::demo::serving::{Disconnect, Service};

/// A text of at most this many bytes is echoed in the answer.
const SMALL: usize = 4096;

/// The API as a service.
#[derive(Clone)]
pub(super) struct Answers(pub(super) Arc<Shared>);

/// RFC 6750 3.1, as far as a token alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No authentication at all: the challenge carries no error.
    NoToken,
    /// Unknown, over or revoked.
    InvalidToken,
    /// Good, but not for this.
    InsufficientScope,
}

impl Service for Answers {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Disconnect> {
        let (mut head, body) = request.into_parts();
        let grant = self.check(&head);
        let credentials = head.headers.iter_mut().filter(|(name, _)| **name == AUTHORIZATION);
        credentials.for_each(|(_, value)| value.set_sensitive(true));
        let (method, uri, headers) = (head.method.clone(), head.uri.clone(), head.headers.clone());
        self.0.saw(Seen { method, uri, headers, accepted: grant.is_ok() });
        let grant = match grant {
            Ok(grant) => grant,
            Err(refusal) => {
                if !self.0.refuse_early.load(Relaxed) {
                    Digest::of(body).await?;
                }
                return Ok(refusal.answer());
            }
        };
        if head.uri.path() == "/slow" {
            self.0.gate.pass().await;
        }
        match parameter(head.uri.path()) {
            Some(("status", number)) => {
                Digest::of(body).await?;
                Ok(status(u16::try_from(number).ok()))
            }
            Some(("bytes", count)) => Ok(Response::new(Zeros(count).boxed_unsync())),
            _ if head.uri.path() == "/echo" => Ok(echo(&head, body)),
            _ => Ok(report(&head, &grant, &Digest::of(body).await?)),
        }
    }
}

impl Answers {
    fn check(&self, head: &Parts) -> Result<Grant, Refusal> {
        let mut values = head.headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::NoToken)?;
        let credentials = value.to_str().ok().filter(|_| values.next().is_none()).and_then(|text| text.split_once(' '));
        let (scheme, token) = credentials.ok_or(Refusal::InvalidToken)?;
        let grant = self.0.tokens.active(token).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
        match head.uri.path() {
            "/always401" => Err(Refusal::InvalidToken),
            "/insufficient_scope" if grant.is_some() => Err(Refusal::InsufficientScope),
            _ => grant.ok_or(Refusal::InvalidToken),
        }
    }
}

impl Refusal {
    fn answer(self) -> Response<AnswerBody> {
        let (status, challenge) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "Bearer realm=\"keybearer demo\""),
            Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, "Bearer realm=\"keybearer demo\", error=\"invalid_token\"")
            }
            Self::InsufficientScope => {
                (StatusCode::FORBIDDEN, "Bearer realm=\"keybearer demo\", error=\"insufficient_scope\"")
            }
        };
        let error = challenge.split('"').rev().nth(1).filter(|_| self != Self::NoToken);
        let mut answer = made(status, &json!({ "error": error.unwrap_or("no_token") }));
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        answer
    }
}

/// `/word/number`
fn parameter(path: &str) -> Option<(&str, u64)> {
    let (word, number) = path.strip_prefix('/')?.split_once('/')?;
    Some((word, number.parse().ok()?))
}

fn status(code: Option<u16>) -> Response<AnswerBody> {
    // An answer below 200 would not be the last one.
    let code = code.filter(|code| *code >= 200).and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = code else {
        return made(StatusCode::NOT_FOUND, &json!({ "error": "no such status" }));
    };
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = status;
        return answer;
    }
    made(status, &json!({ "status": status.as_u16() }))
}

fn echo(head: &Parts, body: Incoming) -> Response<AnswerBody> {
    let mut answer = Response::new(body.map_err(|error| BodyError::Upstream(error.into())).boxed_unsync());
    if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    answer
}

fn report(head: &Parts, grant: &Grant, digest: &Digest) -> Response<AnswerBody> {
    made(
        StatusCode::OK,
        &json!({
            "method": head.method.as_str(),
            "path": head.uri.path(),
            "query": head.uri.query(),
            "headers": fields(&head.headers),
            "body": { "bytes": digest.bytes, "sha256": digest.sha256, "text": digest.text },
            "token": { "client_id": grant.client_id, "scope": grant.scope, "expires_in": grant.rest.as_secs() },
        }),
    )
}

/// The fields as one text each, repeated ones as a list; credentials masked.
fn fields(headers: &HeaderMap) -> Map<String, Value> {
    let shown = |value: &HeaderValue| {
        if value.is_sensitive() {
            let scheme = value.to_str().ok().and_then(|text| text.split_once(' ')).map_or("", |(scheme, _)| scheme);
            return Value::from(format!("{scheme} [token]"));
        }
        Value::from(String::from_utf8_lossy(value.as_bytes()))
    };
    let field = |name| {
        let mut values: VecDeque<Value> = headers.get_all(name).iter().map(shown).collect();
        if values.len() == 1 { values.pop_front().unwrap_or_default() } else { Value::from(Vec::from(values)) }
    };
    headers.keys().map(|name| (name.to_string(), field(name))).collect()
}

fn made(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    let mut answer = Response::new(body::full(format!("{value:#}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What there is to say about a request's content, which is not kept.
#[derive(Debug)]
struct Digest {
    bytes: usize,
    sha256: String,
    /// The content itself where it is a short text.
    text: Option<String>,
}

impl Digest {
    async fn of(mut body: Incoming) -> Result<Self, Disconnect> {
        let mut context = digest::Context::new(&digest::SHA256);
        let (mut bytes, mut start) = (0, Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Disconnect)?.into_data() else { continue };
            context.update(&data);
            bytes += data.len();
            if bytes <= SMALL {
                start.extend_from_slice(&data);
            }
        }
        let sha256 = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = if bytes <= SMALL { String::from_utf8(start).ok() } else { None };
        Ok(Self { bytes, sha256, text })
    }
}

/// So many zero bytes in pieces, made as they are asked for.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static PIECE: [u8; 16 * 1024] = [0; 16 * 1024];
        let length = usize::try_from(self.0).unwrap_or(usize::MAX).min(PIECE.len());
        self.0 -= u64::try_from(length).unwrap_or(self.0);
        let piece = PIECE.get(..length).filter(|piece| !piece.is_empty());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
