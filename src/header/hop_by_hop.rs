//! Fields for one hop only (RFC 9110 7.6.1): they and whatever `Connection` names end here.

use http::header::{CONNECTION, Entry, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Presence;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Those other than `Connection`, the usual ones first. `Trailer` is not among them: trailers are passed on, so what
/// announces them is too.
static HOP_BY_HOP: [HeaderName; 7] =
    [TRANSFER_ENCODING, KEEP_ALIVE, TE, UPGRADE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];

/// End-to-end fields that say who asks, for what, or how the message is read. A sender must not list such fields in
/// `Connection`; proxies that obeyed lost their own safety fields (CVE-2024-45410, CVE-2026-29054).
const END_TO_END: [&str; 24] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "dpop",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "location",
    "origin",
    "proxy-status",
    "sec-fetch-site",
    "set-cookie",
    "traceparent",
    "tracestate",
    "via",
    "www-authenticate",
    "x-api-key",
    "x-real-ip",
    "x-request-id",
];

/// The caller's `Connection` names a field that is not for one hop (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection field names {0}, which is not for one hop only")]
pub struct ForbiddenOption(pub &'static str);

/// Removes from a request the fields meant for us alone: those that any `Connection` line names, and the known ones.
///
/// Any other named field is removed, as the RFC wants, one that we attach afterwards included: it is attached after.
/// What is not `present` is not looked for.
///
/// # Errors
/// [`ForbiddenOption`] when `Connection` names an end-to-end field; no named field is removed then.
pub fn strip_hop_by_hop((headers, present): (&mut HeaderMap, Presence)) -> Result<(), ForbiddenOption> {
    if present.has(Presence::CONNECTION) {
        let lines = take_connection(headers);
        if let Some(name) = lines.iter().flat_map(options).find_map(end_to_end) {
            return Err(ForbiddenOption(name));
        }
        for option in lines.iter().flat_map(options) {
            headers.remove(option);
        }
    }
    if present.has(Presence::HOP_BY_HOP) {
        strip_known(headers);
    }
    Ok(())
}

/// Removes from an answer the fields meant for us alone, and tells what there was. An upstream that names an end-to-end
/// field is not obeyed in that, and its answer goes on.
pub fn strip_response_hop_by_hop(headers: &mut HeaderMap) -> Presence {
    let present = Presence::of(headers);
    if !present.has(Presence::CONNECTION.or(Presence::HOP_BY_HOP)) {
        return present;
    }
    for option in take_connection(headers).iter().flat_map(options) {
        if end_to_end(option).is_none() {
            headers.remove(option);
        }
    }
    strip_known(headers);
    present
}

/// Takes `Connection` out. The result is its lines, where one of them says more than nearly every message's
/// `keep-alive` or `close`.
fn take_connection(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let Entry::Occupied(connection) = headers.entry(CONNECTION) else { return Vec::new() };
    let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
    let lines = match connection.iter().all(|value| is_plain(value.as_bytes())) {
        true => Vec::new(),
        false => connection.iter().cloned().collect(),
    };
    connection.remove();
    lines
}

/// Whether it is one of [`HOP_BY_HOP`]. Names that the library knows are compared by their number.
fn is_known(name: &&HeaderName) -> bool {
    let [_, keep_alive, _, _, proxy_connection, ..] = &HOP_BY_HOP;
    **name == TE
        || **name == TRANSFER_ENCODING
        || **name == UPGRADE
        || **name == PROXY_AUTHENTICATE
        || **name == PROXY_AUTHORIZATION
        || *name == keep_alive
        || *name == proxy_connection
}

/// Removes the known ones. They are counted first, so that no more are looked for than there are.
fn strip_known(headers: &mut HeaderMap) {
    let mut left = headers.keys().filter(is_known).count();
    for name in &HOP_BY_HOP {
        if left == 0 {
            return;
        }
        if headers.remove(name).is_some() {
            left -= 1;
        }
    }
}

/// The options of one line. What is no text names no field.
fn options(line: &HeaderValue) -> impl Iterator<Item = &str> {
    line.as_bytes()
        .split(|byte| *byte == b',')
        .filter_map(|option| str::from_utf8(option.trim_ascii()).ok())
        .filter(|option| !option.is_empty())
}

fn end_to_end(option: &str) -> Option<&'static str> {
    if option.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("x-forwarded-")) {
        return Some("x-forwarded-*");
    }
    END_TO_END.into_iter().find(|name| option.eq_ignore_ascii_case(name))
}

/// Whether a field frames the message or belongs to one hop (RFC 9110 7.6.1), or is `Host`: never the configuration's to
/// set.
#[must_use]
pub fn is_ours_alone(name: &HeaderName) -> bool {
    const OURS: [&str; 13] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    OURS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::super::tests::{lines, map};
    use super::{ForbiddenOption, Presence, strip_response_hop_by_hop};

    fn strip_hop_by_hop(headers: &mut HeaderMap) -> Result<(), ForbiddenOption> {
        let present = Presence::of(headers);
        super::strip_hop_by_hop((headers, present))
    }

    /// B30, B32: the known fields and the named ones are removed.
    #[test]
    fn the_known_fields_and_the_named_ones_are_removed() {
        for (given, expected) in [
            (vec!["accept: a"], vec!["accept: a"]),
            (vec!["connection: keep-alive", "keep-alive: 5", "accept: a"], vec!["accept: a"]),
            (vec!["connection: Close", "x-a: 1"], vec!["x-a: 1"]),
            (vec!["connection: X-A , x-b", "x-a: 1", "x-a: 2", "x-b: 1", "x-c: 1"], vec!["x-c: 1"]),
            (vec!["connection: x-a", "connection: close, ,X-B", "x-a: 1", "x-b: 1"], vec![]),
            (vec!["connection: x-gone"], vec![]),
            (vec!["connection: Upgrade", "upgrade: websocket", "te: trailers", "x-a: 1"], vec!["x-a: 1"]),
            (vec!["connection: trailer, TE", "trailer: x", "te: x"], vec![]),
            (vec!["trailer: x", "transfer-encoding: chunked"], vec!["trailer: x"]),
            (vec!["proxy-connection: x", "proxy-authorization: x", "proxy-authenticate: x"], vec![]),
            (vec!["connection: \"x-a\", x a, \u{e9}, x-c:", "x-a: 1"], vec!["x-a: 1"]),
            (vec!["connection: ", "x-a: 1"], vec!["x-a: 1"]),
        ] {
            let mut request = map(&given);
            assert_eq!(strip_hop_by_hop(&mut request), Ok(()), "{given:?}");
            assert_eq!(lines(&request), expected, "{given:?}");
            let mut answer = map(&given);
            strip_response_hop_by_hop(&mut answer);
            assert_eq!(lines(&answer), expected, "{given:?}");
        }
    }

    /// B31: a request that names an end-to-end field is refused.
    #[test]
    fn a_request_that_names_an_end_to_end_field_is_refused() {
        for (value, name) in [
            ("authorization", "authorization"),
            ("close, HOST", "host"),
            ("x-a, Content-Length", "content-length"),
            ("Cookie,x", "cookie"),
            ("via", "via"),
            ("forwarded", "forwarded"),
            ("X-Forwarded-For", "x-forwarded-*"),
            ("X-Request-Id", "x-request-id"),
            ("x-api-key", "x-api-key"),
        ] {
            let line = format!("connection: {value}");
            let mut request = map(&["connection: close", &line]);
            assert_eq!(strip_hop_by_hop(&mut request), Err(ForbiddenOption(name)), "{value}");
        }
    }

    #[test]
    fn an_answer_that_names_an_end_to_end_field_keeps_it() {
        let mut answer = map(&["connection: content-length, x-a", "content-length: 3", "x-a: 1"]);
        strip_response_hop_by_hop(&mut answer);
        assert_eq!(lines(&answer), ["content-length: 3"]);
    }

    proptest! {
        #[test]
        fn nothing_that_connection_names_is_left(options in proptest::collection::vec("[xX]-[a-cA-C]|close|TE", 0..6)) {
            let line = format!("connection: {}", options.join(", "));
            let mut request = map(&[&line, "x-a: 1", "x-b: 2", "x-c: 3", "te: t"]);
            prop_assert_eq!(strip_hop_by_hop(&mut request), Ok(()));
            for option in &options {
                prop_assert!(!request.contains_key(option.as_str()));
            }
            prop_assert!(!request.contains_key("connection"));
            for kept in ["x-a", "x-b", "x-c"] {
                let named = options.iter().any(|option| option.eq_ignore_ascii_case(kept));
                prop_assert_eq!(request.contains_key(kept), !named);
            }
        }
    }
}
