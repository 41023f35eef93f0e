//! Our failures as gRPC callers read them: an answer of nothing but trailers, with a status of gRPC's own.

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response};

use super::{Detail, Failure, describe};
use crate::body::{self, AnswerBody};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC's status codes as far as we give them. `UNAUTHENTICATED` is not among them: that is the upstream's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// `DEADLINE_EXCEEDED`
    DeadlineExceeded = 4,
    /// `PERMISSION_DENIED`
    PermissionDenied = 7,
    /// `RESOURCE_EXHAUSTED`
    ResourceExhausted = 8,
    /// `UNIMPLEMENTED`
    Unimplemented = 12,
    /// `INTERNAL`
    Internal = 13,
    /// `UNAVAILABLE`
    Unavailable = 14,
}

impl Code {
    /// Its name in gRPC's documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

impl Failure {
    /// What a gRPC caller is told in place of the status.
    #[must_use]
    pub fn call_code(self) -> Code {
        match self {
            Self::NoMatch | Self::MethodNotAllowed | Self::Misdirected | Self::ProtocolNotAllowed => {
                Code::Unimplemented
            }
            Self::CallerUnknown | Self::CallerNotAllowed | Self::CrossSite => Code::PermissionDenied,
            Self::TargetTooLong
            | Self::HeaderTooLarge
            | Self::TooManyFields
            | Self::BodyTooLarge
            | Self::RateLimited => Code::ResourceExhausted,
            Self::RequestTimeout | Self::UpstreamTimeout => Code::DeadlineExceeded,
            Self::BadRequest
            | Self::BadTarget
            | Self::ExpectationFailed
            | Self::UnknownTransferCoding
            | Self::UnsupportedVersion
            | Self::Loop
            | Self::FormulaFailed
            | Self::Internal => Code::Internal,
            Self::Disabled
            | Self::TokenRefused
            | Self::TokenUnavailable
            | Self::DestinationNotAllowed
            | Self::UpstreamForbidden
            | Self::HttpProxy
            | Self::UpstreamDns
            | Self::UpstreamUnreachable
            | Self::UpstreamTls
            | Self::UpstreamClosed
            | Self::UpstreamProtocol
            | Self::UpstreamConnectTimeout
            | Self::OverCapacity => Code::Unavailable,
        }
    }
}

/// Builds the answer for `failure` of a gRPC call.
#[must_use]
pub fn call_failure(failure: Failure, detail: &Detail, request_id: &str) -> Response<AnswerBody> {
    let (_, _, title) = failure.row();
    let mut answer = Response::new(body::empty());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(failure.call_code() as u16));
    let mut message = percent_encoded(title);
    if let Some(text) = &detail.text {
        message.push_str(": ");
        message.push_str(&percent_encoded(text));
    }
    if let Ok(value) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, value);
    }
    describe(headers, failure, detail, request_id);
    answer
}

/// gRPC's `Percent-Encoded`: printable ASCII but `%` stands for itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_message_is_printable() {
        assert_eq!(percent_encoded("50 % \u{fc}ber\n~"), "50 %25 %C3%BCber%0A~");
    }

    /// B51: never UNAUTHENTICATED for a failure of ours, and no 5xx is taken for a fault of the caller's.
    #[test]
    fn every_failure_has_a_code_that_fits_its_status() {
        for failure in Failure::ALL {
            let (status, ..) = failure.row();
            let expected: &[Code] = match status.as_u16() {
                403 => &[Code::PermissionDenied],
                404 | 405 | 421 | 501 => &[Code::Unimplemented, Code::Internal],
                413 | 414 | 429 | 431 => &[Code::ResourceExhausted],
                408 | 504 => &[Code::DeadlineExceeded, Code::Unavailable],
                502 | 503 => &[Code::Unavailable],
                _ => &[Code::Internal],
            };
            assert!(expected.contains(&failure.call_code()), "{failure:?}: {}", failure.call_code().name());
        }
    }

    #[test]
    fn a_call_gets_trailers_only() {
        let detail = Detail { text: Some("a \"reason\"".to_owned()), ..Detail::default() };
        let answer = call_failure(Failure::TokenRefused, &detail, "id-1");
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(http_body::Body::is_end_stream(answer.body()));
        let field = |name: &str| answer.headers()[name].to_str().unwrap();
        assert_eq!((field("content-type"), field("grpc-status")), ("application/grpc", "14"));
        assert_eq!(field("grpc-message"), "The token endpoint gave no usable token: a \"reason\"");
        assert_eq!(field("proxy-status"), "keybearer; error=token_refused; details=\"a reason\"");
        assert_eq!(field("x-request-id"), "id-1");
        assert!(!answer.headers().contains_key("connection"));
    }
}
