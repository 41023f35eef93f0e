//! What a request's trailer section may not carry on (RFC 9110 6.5.1): a server may read a trailer as if it stood in
//! the header section, so nothing may come in by this door that was turned away at the other.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, VIA};
use http::{HeaderMap, HeaderName};

use super::{CredentialFields, ambiguous_name, strip_caller_credentials, strip_forwarded, strip_response_hop_by_hop};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes credentials, cookies, framing, routing and hop-by-hop fields, and names that fold onto one of them.
pub fn strip_trailers(trailers: &mut HeaderMap, fields: CredentialFields<'_>) {
    strip_response_hop_by_hop(trailers);
    // No route keeps cookies that come at the end: no browser sends such.
    strip_caller_credentials(trailers, CredentialFields { keep_cookies: false, ..fields });
    strip_forwarded(trailers);
    for name in [CONTENT_LENGTH, EXPECT, HOST, VIA, REQUEST_ID] {
        trailers.remove(name);
    }
    while let Some(name) = ambiguous_name(trailers, fields).cloned() {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::tests::{lines, map};
    use super::{CredentialFields, strip_trailers};

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
