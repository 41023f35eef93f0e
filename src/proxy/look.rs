//! Looks at the beginning of an answer's body where a renewal rule asks for it, and hands the answer on as it came.
//!
//! Bounds hold in bytes read, bytes decoded, pieces and time, so no answer is held up for long or collected. Answers
//! that stream by their nature are not looked into: for them, rules on the body do not match. What a rule says is
//! decided in `token`.

mod body;
mod decode;

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;

use self::body::Next;
pub(super) use self::body::UpstreamBody;
use self::decode::Decoder;
use crate::token::{RejectionRules, Seen, Verdict};

/// Most bytes of a decoded body that rules see.
const DECODED: usize = 16 * 1024;
/// Most bytes that are read for them; the piece with which this is reached is kept whole.
const READ: usize = 64 * 1024;
/// Most pieces that are read: rules are asked after each.
const PIECES: usize = 512;
/// How long all of it may take. An upstream that pauses longer in the middle of an error is told from its beginning.
const TIME: Duration = Duration::from_secs(2);

/// What the rules say about `answer` to a request with this method once a prefix of its body was seen; never
/// [`Verdict::Look`]. Takes until `end` at most.
pub(super) async fn look<R: Body<Data = Bytes> + Unpin>(
    answer: Response<UpstreamBody<R>>,
    method: &Method,
    rules: &RejectionRules,
    end: Option<Instant>,
) -> (Response<UpstreamBody<R>>, Verdict) {
    let (parts, mut body) = answer.into_parts();
    let judge = |seen: Seen<'_>| rules.body(parts.status, &parts.headers, seen);
    let Some(mut decoder) = decoder(&parts, method) else {
        let verdict = judge(Seen::Cut(&[]));
        return (Response::from_parts(parts, body), verdict);
    };
    let latest = Instant::now() + TIME;
    let latest = end.map_or(latest, |end| end.min(latest));
    let reading = read(&mut body, &mut decoder, judge);
    let verdict = match tokio::time::timeout_at(latest, reading).await {
        Ok(verdict) => verdict,
        Err(_) => judge(Seen::Cut(decoder.decoded())),
    };
    (Response::from_parts(parts, body), verdict)
}

/// Reads until the rules are certain, the body ends, or a bound is reached.
async fn read<R: Body<Data = Bytes> + Unpin>(
    body: &mut UpstreamBody<R>,
    decoder: &mut Decoder,
    judge: impl Fn(Seen<'_>) -> Verdict,
) -> Verdict {
    let mut left = READ;
    for _ in 0..PIECES {
        let piece = match body.keep_next().await {
            Next::Data(piece) => piece,
            Next::End if decoder.is_whole() => return judge(Seen::Whole(decoder.decoded())),
            Next::End | Next::Failed => break,
        };
        decoder.push(piece.get(..left).unwrap_or(&piece));
        if piece.len() > left || !decoder.is_whole() {
            break;
        }
        left -= piece.len();
        let verdict = judge(Seen::Beginning(decoder.decoded()));
        if verdict != Verdict::Look {
            return verdict;
        }
    }
    judge(Seen::Cut(decoder.decoded()))
}

/// What decodes the body; none where it is not looked into.
fn decoder(parts: &Parts, method: &Method) -> Option<Decoder> {
    let has_none = method == Method::HEAD
        || parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_none || streams(&parts.headers) {
        return None;
    }
    Decoder::of(&parts.headers, DECODED, READ)
}

/// Whether an answer of this type comes bit by bit for as long as it pleases, with pauses of any length.
pub(super) fn streams(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let begins_with = |text: &[u8]| essence.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    essence.eq_ignore_ascii_case(b"text/event-stream")
        || essence.eq_ignore_ascii_case(b"multipart/x-mixed-replace")
        || begins_with(b"application/grpc")
}

#[cfg(test)]
mod tests;
