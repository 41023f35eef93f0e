//! The table of failures: what the caller gets when it is our failure and not the upstream's answer.
//!
//! RFC 9457 `application/problem+json`, a `Proxy-Status` field (RFC 9209) and the request id; never a cause that names
//! secrets, tokens or the insides of hosts. The README's table is checked against [`Failure::ALL`].

mod grpc;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{self, AnswerBody};

pub use self::grpc::{Code, call_failure};

/// `Proxy-Status`, RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// `X-Request-Id`, the field's habit for correlating logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every way in which an exchange can fail on our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No named credential matches.
    NoMatch,
    /// The named credential does not let the method through, or it is TRACE or CONNECT.
    MethodNotAllowed,
    /// `enabled = false`.
    Disabled,
    /// The caller is not known to this listener.
    CallerUnknown,
    /// The caller may not use this named credential or any of its principals.
    CallerNotAllowed,
    /// A browser's cross-site request.
    CrossSite,
    /// An authority that is not ours.
    Misdirected,
    /// Malformed or ambiguous request framing, head or body.
    BadRequest,
    /// A target that could leave its prefix, or that cannot be represented.
    BadTarget,
    /// The caller was too slow with its head or body.
    RequestTimeout,
    /// Request target too long.
    TargetTooLong,
    /// Header section too large.
    HeaderTooLarge,
    /// More fields in the header section than the limit.
    TooManyFields,
    /// The request's body is longer than the limit.
    BodyTooLarge,
    /// More requests in a time than the caller or the named credential may make.
    RateLimited,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// Unknown transfer coding.
    UnknownTransferCoding,
    /// A protocol to switch to that is not allowed here, or cannot be had.
    ProtocolNotAllowed,
    /// A protocol version that this listener does not speak.
    UnsupportedVersion,
    /// Our own pseudonym stands in `Via`.
    Loop,
    /// The token endpoint refuses permanently, redirects, or gives a token that cannot be used.
    TokenRefused,
    /// The token endpoint is unreachable, slow, failing or limiting us, or a back-off is running.
    TokenUnavailable,
    /// The token endpoint names an upstream that the configuration does not allow, or none.
    DestinationNotAllowed,
    /// The upstream's name does not resolve.
    UpstreamDns,
    /// The upstream refused or reset the connection.
    UpstreamUnreachable,
    /// The upstream's name leads to an address that is not admitted.
    UpstreamForbidden,
    /// The proxy on the way out cannot be reached, or refuses.
    HttpProxy,
    /// TLS with the upstream failed.
    UpstreamTls,
    /// The upstream closed the connection before it answered.
    UpstreamClosed,
    /// The upstream's answer was broken.
    UpstreamProtocol,
    /// Connecting to the upstream took too long.
    UpstreamConnectTimeout,
    /// The upstream's answer took too long.
    UpstreamTimeout,
    /// More connections or waiting callers than the limits allow.
    OverCapacity,
    /// A formula of the configuration gives no value, or none that can be sent.
    FormulaFailed,
    /// A defect of ours.
    Internal,
}

impl Failure {
    /// Every failure, in the order of the table.
    pub const ALL: [Self; 35] = [
        Self::NoMatch,
        Self::MethodNotAllowed,
        Self::Disabled,
        Self::CallerUnknown,
        Self::CallerNotAllowed,
        Self::CrossSite,
        Self::Misdirected,
        Self::BadRequest,
        Self::BadTarget,
        Self::RequestTimeout,
        Self::TargetTooLong,
        Self::HeaderTooLarge,
        Self::TooManyFields,
        Self::BodyTooLarge,
        Self::RateLimited,
        Self::ExpectationFailed,
        Self::UnknownTransferCoding,
        Self::ProtocolNotAllowed,
        Self::UnsupportedVersion,
        Self::Loop,
        Self::TokenRefused,
        Self::TokenUnavailable,
        Self::DestinationNotAllowed,
        Self::UpstreamDns,
        Self::UpstreamUnreachable,
        Self::UpstreamForbidden,
        Self::HttpProxy,
        Self::UpstreamTls,
        Self::UpstreamClosed,
        Self::UpstreamProtocol,
        Self::UpstreamConnectTimeout,
        Self::UpstreamTimeout,
        Self::OverCapacity,
        Self::FormulaFailed,
        Self::Internal,
    ];

    /// Status, `Proxy-Status` error token (RFC 9209 2.3, ours where the registry has none) and title.
    #[must_use]
    pub fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::NoMatch => (S::NOT_FOUND, "destination_not_found", "No named credential matches this request"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "http_request_denied", "The method is not allowed here"),
            Self::Disabled => (S::SERVICE_UNAVAILABLE, "destination_unavailable", "This named credential is disabled"),
            Self::CallerUnknown => (S::FORBIDDEN, "http_request_denied", "The caller is not known here"),
            Self::CallerNotAllowed => {
                (S::FORBIDDEN, "http_request_denied", "The caller may not use this named credential")
            }
            Self::CrossSite => (S::FORBIDDEN, "http_request_denied", "Cross-site requests of web pages are refused"),
            Self::Misdirected => (S::MISDIRECTED_REQUEST, "http_request_denied", "This authority is not served here"),
            Self::BadRequest => (S::BAD_REQUEST, "http_request_error", "The request is malformed or ambiguous"),
            Self::BadTarget => (S::BAD_REQUEST, "http_request_error", "The request target is not safe to forward"),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "http_request_error", "The request took too long to arrive"),
            Self::TargetTooLong => (S::URI_TOO_LONG, "http_request_error", "The request target is too long"),
            Self::HeaderTooLarge => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error", "The header section is too large")
            }
            Self::TooManyFields => {
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error", "The header section has too many fields")
            }
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "http_request_error", "The request's body is too large"),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::ExpectationFailed => (S::EXPECTATION_FAILED, "http_request_error", "The expectation is not known"),
            Self::UnknownTransferCoding => {
                (S::NOT_IMPLEMENTED, "http_request_error", "The transfer coding is not known")
            }
            Self::ProtocolNotAllowed => {
                (S::NOT_IMPLEMENTED, "http_request_denied", "Switching to this protocol is not possible here")
            }
            Self::UnsupportedVersion => {
                (S::HTTP_VERSION_NOT_SUPPORTED, "http_request_error", "This protocol version is not spoken here")
            }
            Self::Loop => (S::LOOP_DETECTED, "proxy_loop_detected", "The request already passed through here"),
            Self::TokenRefused => (S::BAD_GATEWAY, "token_refused", "The token endpoint gave no usable token"),
            Self::TokenUnavailable => {
                (S::SERVICE_UNAVAILABLE, "token_unavailable", "No token can be had at the moment")
            }
            Self::DestinationNotAllowed => {
                (S::BAD_GATEWAY, "destination_not_allowed", "The token came without an upstream that may be called")
            }
            Self::UpstreamDns => (S::BAD_GATEWAY, "dns_error", "The upstream's name does not resolve"),
            Self::UpstreamUnreachable => (S::BAD_GATEWAY, "connection_refused", "The upstream cannot be reached"),
            Self::UpstreamForbidden => {
                (S::BAD_GATEWAY, "destination_ip_prohibited", "The upstream's address is not allowed")
            }
            Self::HttpProxy => {
                (S::BAD_GATEWAY, "http_proxy_refused", "The proxy on the way out cannot be reached or refuses")
            }
            Self::UpstreamTls => (S::BAD_GATEWAY, "tls_protocol_error", "TLS with the upstream failed"),
            Self::UpstreamClosed => {
                (S::BAD_GATEWAY, "connection_terminated", "The upstream closed the connection before it answered")
            }
            Self::UpstreamProtocol => (S::BAD_GATEWAY, "http_protocol_error", "The upstream's answer was broken"),
            Self::UpstreamConnectTimeout => {
                (S::GATEWAY_TIMEOUT, "connection_timeout", "Connecting to the upstream took too long")
            }
            Self::UpstreamTimeout => {
                (S::GATEWAY_TIMEOUT, "http_response_timeout", "The upstream's answer took too long")
            }
            Self::OverCapacity => (S::SERVICE_UNAVAILABLE, "connection_limit_reached", "Over capacity"),
            Self::FormulaFailed => (
                S::INTERNAL_SERVER_ERROR,
                "proxy_configuration_error",
                "A formula of the configuration gives no value for this request",
            ),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "proxy_internal_error", "A defect in keybearer"),
        }
    }

    /// Whether the connection cannot be used after this answer.
    #[must_use]
    fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::BadTarget
                | Self::RequestTimeout
                | Self::TargetTooLong
                | Self::HeaderTooLarge
                | Self::TooManyFields
                | Self::BodyTooLarge
                | Self::UnknownTransferCoding
                | Self::UnsupportedVersion
        )
    }
}

/// What an answer tells beyond its row: all of it is ours or configured, none of it from a foreign error.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    /// One clause on what happened; must be safe to show to the caller.
    pub text: Option<String>,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
    /// The value of `Allow` for a 405.
    pub allow: Option<HeaderValue>,
}

/// Builds the answer for `failure`.
#[must_use]
pub fn failure(failure: Failure, detail: &Detail, request_id: &str) -> Response<AnswerBody> {
    let (status, error, title) = failure.row();
    let mut problem = serde_json::json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "error": error,
        "request_id": request_id,
    });
    if let (Some(text), Some(object)) = (&detail.text, problem.as_object_mut()) {
        object.insert("detail".to_owned(), serde_json::Value::from(text.as_str()));
    }
    let mut answer = Response::new(body::full(Bytes::from(problem.to_string())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    describe(headers, failure, detail, request_id);
    if let Some(allow) = &detail.allow {
        headers.insert(ALLOW, allow.clone());
    }
    if failure.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// What every failure tells beside its content: whose it is (RFC 9209), in which exchange, and when to try again.
fn describe(headers: &mut HeaderMap, failure: Failure, detail: &Detail, request_id: &str) {
    let (_, error, _) = failure.row();
    let mut proxy_status = format!("keybearer; error={error}");
    if let Some(text) = &detail.text {
        // A structured-field string holds printable ASCII; `"` and `\` would need escapes (RFC 8941 3.3.3).
        let safe: String = text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let _ = write!(proxy_status, "; details=\"{safe}\"");
    }
    if let Ok(value) = HeaderValue::try_from(proxy_status) {
        headers.insert(PROXY_STATUS, value);
    }
    if let Ok(value) = HeaderValue::try_from(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(wait) = detail.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
}
