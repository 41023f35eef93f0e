//! What a trailer section may not carry on (RFC 9110 6.5.1): its reader may take a trailer as if it stood in the header
//! section, so nothing may come in by this door that was turned away at the other. And what announces it: `Trailer`,
//! `TE` (RFC 9110 6.6.2, 10.1.4).

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, HOST,
    LOCATION, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    CredentialFields, Presence, ambiguous_name, strip_caller_credentials, strip_forwarded, strip_response_hop_by_hop,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that frame, describe or route a message, and are read before its content (RFC 9110 6.5.1).
static NEVER_LATE: [HeaderName; 11] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    MAX_FORWARDS,
    REQUEST_ID,
    TRAILER,
    VIA,
];

/// What says who someone is, or sends the reader elsewhere.
static NEVER_IN_ANSWERS: [HeaderName; 4] = [AUTHORIZATION, LOCATION, SET_COOKIE, WWW_AUTHENTICATE];

/// Removes from a request's trailers credentials, cookies, framing, routing and hop-by-hop fields, and names that fold
/// onto one of them.
pub fn strip_trailers(trailers: &mut HeaderMap, fields: CredentialFields<'_>) {
    strip_response_hop_by_hop(trailers);
    // No route keeps cookies that come at the end: no browser sends such.
    strip_caller_credentials((trailers, Presence::ANY), CredentialFields { keep_cookies: false, ..fields });
    strip_forwarded(trailers);
    for name in &NEVER_LATE {
        trailers.remove(name);
    }
    while let Some(name) = ambiguous_name(trailers, fields).cloned() {
        trailers.remove(name);
    }
}

/// Removes from an answer's trailers framing, routing, authentication and hop-by-hop fields.
pub fn strip_answer_trailers(trailers: &mut HeaderMap) {
    strip_response_hop_by_hop(trailers);
    for name in NEVER_LATE.iter().chain(&NEVER_IN_ANSWERS) {
        trailers.remove(name);
    }
}

/// Whether a request says that trailers of its answer are read: `TE: trailers`.
#[must_use]
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    let says_so = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    headers.get_all(TE).iter().any(says_so)
}

/// Makes `Trailer` anew from what `strip` leaves of the names in it; without any there is none.
pub fn announce_trailers(headers: &mut HeaderMap, strip: impl FnOnce(&mut HeaderMap)) {
    if !headers.contains_key(TRAILER) {
        return;
    }
    let lines = headers.get_all(TRAILER).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut names: Vec<HeaderName> =
        members.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    let mut fields: HeaderMap = names.iter().map(|name| (name.clone(), HeaderValue::from_static(""))).collect();
    strip(&mut fields);
    names.retain(|name| fields.remove(name).is_some());
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    match HeaderValue::try_from(names.join(", ")) {
        Ok(value) if !value.is_empty() => drop(headers.insert(TRAILER, value)),
        Ok(_) | Err(_) => drop(headers.remove(TRAILER)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::tests::{lines, map};
    use super::{CredentialFields, accepts_trailers, announce_trailers, strip_answer_trailers, strip_trailers};

    #[test]
    fn only_the_token_in_te_accepts_trailers() {
        for (given, expected) in [
            (vec![], false),
            (vec!["te: trailers"], true),
            (vec!["te: gzip;q=0.5 ,\tTrailers"], true),
            (vec!["te: deflate", "te: trailers"], true),
            (vec!["te: trailers;q=0"], false),
            (vec!["te: x-trailers", "trailer: x"], false),
        ] {
            assert_eq!(accepts_trailers(&map(&given)), expected, "{given:?}");
        }
    }

    /// B34: an answer's trailer section carries on neither framing nor routing nor authentication.
    #[test]
    fn an_answers_trailers_are_rid_of_what_must_come_first() {
        let mut trailers = map(&[
            "grpc-status: 0",
            "x-sum: 1",
            "proxy-status: upstream",
            "content-length: 1",
            "transfer-encoding: chunked",
            "content-type: a",
            "set-cookie: a",
            "www-authenticate: a",
            "proxy-authenticate: a",
            "location: a",
            "host: a",
            "trailer: a",
            "via: a",
            "x-request-id: a",
            "connection: x-hop",
            "x-hop: 1",
        ]);
        strip_answer_trailers(&mut trailers);
        assert_eq!(lines(&trailers), ["grpc-status: 0", "proxy-status: upstream", "x-sum: 1"]);
    }

    /// B34: `Trailer` announces what travels on, and nothing else.
    #[test]
    fn trailer_is_made_anew_of_the_names_that_are_left() {
        for (given, expected) in [
            (vec!["x-a: 1"], vec!["x-a: 1"]),
            (vec!["trailer: X-Sum"], vec!["trailer: x-sum"]),
            (
                vec!["trailer: X-Sum, host ,, X-Sum", "trailer: a b, Set-Cookie, grpc-status"],
                vec!["trailer: x-sum, grpc-status"],
            ),
            (vec!["trailer: Content-Length, Host"], vec![]),
            (vec!["trailer: "], vec![]),
        ] {
            let mut headers = map(&given);
            announce_trailers(&mut headers, strip_answer_trailers);
            assert_eq!(lines(&headers), expected, "{given:?}");
        }
    }

    /// B34: a trailer carries nothing that the header section may not.
    #[test]
    fn a_trailer_carries_nothing_that_the_header_section_may_not() {
        let mut trailers = map(&[
            "authorization: a",
            "proxy-authorization: a",
            "dpop: a",
            "cookie: a",
            "cookie: b",
            "x-token: a",
            "x-billing-key: a",
            "x_billing_key: a",
            "x.token: a",
            "x-signature: a",
            "x_signature: a",
            "content_length: 1",
            "content-length: 1",
            "transfer-encoding: chunked",
            "connection: x-named",
            "x-named: a",
            "host: a",
            "via: 1.1 a",
            "forwarded: for=a",
            "x-forwarded-for: a",
            "x-request-id: a",
            "x-checksum: 42",
            "x_custom: 1",
        ]);
        let injected = HeaderName::from_static("x-token");
        let attached = [HeaderName::from_static("x-signature")];
        let api_key = [HeaderName::from_static("x-billing-key")];
        let fields = CredentialFields {
            injected: &injected,
            attached: &attached,
            set: &attached,
            api_key: &api_key,
            keep_cookies: true,
        };
        strip_trailers(&mut trailers, fields);
        assert_eq!(lines(&trailers), ["x-checksum: 42", "x_custom: 1"]);
    }
}
