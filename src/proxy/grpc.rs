//! gRPC (its "HTTP/2 transport mapping"): what is a call, and where an answer says that its token is not accepted.
//!
//! A call's outcome is `grpc-status`, in the trailers, or in the head of an answer that is nothing but trailers. 16
//! (UNAUTHENTICATED) says as much as a 401: the call was not carried out.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;

use super::look::UpstreamBody;
use crate::token::{RejectionRules, Verdict};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `UNAUTHENTICATED`
const UNAUTHENTICATED: &[u8] = b"16";

/// How long an answer's head is held up for what comes first behind it. A server that refuses a call sends its trailers
/// with the head or right behind it; one that sends its head early and messages later must not look slow.
const FIRST_FRAME: Duration = Duration::from_millis(100);

/// Whether a request is a call: its content is `application/grpc` in any format. gRPC-Web is another protocol.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let (name, rest) = value.as_bytes().split_at_checked(b"application/grpc".len()).unwrap_or_default();
        name.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// What the head of an answer says about the token, where the rules say nothing.
pub(super) fn head(answer: &Response<UpstreamBody>, rules: &RejectionRules) -> Verdict {
    if answer.headers().contains_key(STATUS) {
        return refusal(answer, answer.headers(), rules);
    }
    match answer.status() == StatusCode::OK && !answer.body().is_end_stream() {
        true => Verdict::Look,
        false => Verdict::Accepted,
    }
}

/// What the answer says once its first frame was waited for; it is handed on as it came.
pub(super) async fn look(
    mut answer: Response<UpstreamBody>,
    rules: &RejectionRules,
    end: Option<Instant>,
) -> (Response<UpstreamBody>, Verdict) {
    let latest = Instant::now() + FIRST_FRAME;
    let latest = end.map_or(latest, |end| end.min(latest));
    let _ = tokio::time::timeout_at(latest, answer.body_mut().keep_next()).await;
    let verdict = match answer.body().only_trailers() {
        Some(trailers) => refusal(&answer, trailers, rules),
        None => Verdict::Accepted,
    };
    (answer, verdict)
}

/// Whether the answer says, as far as it was seen, that the call was not carried out for want of a good token.
pub(super) fn is_unauthenticated(answer: &Response<UpstreamBody>) -> bool {
    let says_so = |fields: &HeaderMap| fields.get(STATUS).is_some_and(|status| status == UNAUTHENTICATED);
    says_so(answer.headers()) || answer.body().only_trailers().is_some_and(says_so)
}

fn refusal(answer: &Response<UpstreamBody>, fields: &HeaderMap, rules: &RejectionRules) -> Verdict {
    match fields.get(STATUS).is_some_and(|status| status == UNAUTHENTICATED) {
        true => rules.refused(answer.status(), answer.headers()),
        false => Verdict::Accepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=x", true),
            ("application/grpc+json", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_call(&headers), expected, "{value}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }
}
