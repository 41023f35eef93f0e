//! `Max-Forwards` of an OPTIONS request (RFC 9110 7.6.2). TRACE, the other method that has it, is never forwarded.

use http::header::MAX_FORWARDS;
use http::{HeaderMap, HeaderValue};

/// Counts a hop; true when the request must not go further and is answered here. What is no number means nothing.
#[must_use]
pub fn ends_here(headers: &mut HeaderMap) -> bool {
    let left = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(next) = left.and_then(|left| left.checked_sub(1)) {
        headers.insert(MAX_FORWARDS, HeaderValue::from(next));
    }
    left == Some(0)
}
