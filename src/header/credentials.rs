//! The caller's own credentials end here; the upstream sees exactly one, ours.

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Presence;

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Which fields of a request carry credentials, besides those that always do.
#[derive(Clone, Copy, Debug)]
pub struct CredentialFields<'a> {
    /// The field that will carry our credential.
    pub injected: &'a HeaderName,
    /// The fields that go with our credential.
    pub attached: &'a [HeaderName],
    /// The fields that the configuration sets. What a caller sends under these names is replaced later, once formulas
    /// have read it; other spellings of them must not stand beside ours.
    pub set: &'a [HeaderName],
    /// The fields that carry callers' API keys.
    pub api_key: &'a [HeaderName],
    /// Whether the caller's cookies travel on.
    pub keep_cookies: bool,
}

impl CredentialFields<'_> {
    /// Whether one of the names has a character that some server takes for a hyphen: then a name of the caller's that has
    /// none may be an alias of it.
    #[must_use]
    pub fn may_be_folded_onto(&self) -> bool {
        let folds = |name: &HeaderName| name.as_str().bytes().any(|byte| matches!(byte, b'_' | b'.'));
        folds(self.injected) || self.api_key.iter().chain(self.set).any(folds)
    }
}

/// Removes every credential of the caller, and what would stand beside ours in the injected field. `present` is what the
/// header section may hold.
pub fn strip_caller_credentials((headers, present): (&mut HeaderMap, Presence), fields: CredentialFields<'_>) {
    if present.has(Presence::CREDENTIALS) {
        headers.remove(AUTHORIZATION);
        headers.remove(PROXY_AUTHORIZATION);
        headers.remove(DPOP);
        if !fields.keep_cookies {
            headers.remove(COOKIE);
        }
    }
    for name in fields.api_key {
        headers.remove(name);
    }
    for name in fields.attached {
        headers.remove(name);
    }
    if *fields.injected != AUTHORIZATION || present.has(Presence::CREDENTIALS) {
        headers.remove(fields.injected);
    }
}

/// Whether a request logs its connection in, and not itself alone: whatever comes over that connection afterwards counts
/// as the same user's (RFC 4559 6).
#[must_use]
pub fn authenticates_connection(headers: &HeaderMap) -> bool {
    let scheme = |value: &HeaderValue| {
        let scheme =
            value.as_bytes().trim_ascii().split(|byte| *byte == b' ' || *byte == b'\t').next().unwrap_or_default();
        [&b"ntlm"[..], b"negotiate", b"kerberos"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    };
    headers.get_all(AUTHORIZATION).iter().any(scheme)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::tests::{lines, map};
    use super::{CredentialFields, Presence, authenticates_connection, strip_caller_credentials};

    #[test]
    fn some_schemes_log_a_connection_in() {
        for (line, expected) in [
            ("authorization: NTLM TlRMTVNTUAAD", true),
            ("authorization: negotiate YIIJ", true),
            ("authorization: Negotiate", true),
            ("authorization: Bearer NTLM", false),
            ("authorization: Basic TlRMTQ==", false),
            ("x-authorization: NTLM x", false),
        ] {
            assert_eq!(authenticates_connection(&map(&[line])), expected, "{line}");
        }
    }

    /// C28: no credential of the caller is left.
    #[test]
    fn no_credential_of_the_caller_is_left() {
        let given = map(&[
            "authorization: a",
            "authorization: b",
            "proxy-authorization: a",
            "dpop: a",
            "cookie: a",
            "cookie: b",
            "x-api-key: a",
            "x-key-2: a",
            "x-token: a",
            "x-signature: a",
            "accept: a",
        ]);
        let api_key = [HeaderName::from_static("x-api-key"), HeaderName::from_static("x-key-2")];
        let injected = HeaderName::from_static("x-token");
        let attached = [HeaderName::from_static("x-signature")];
        for (keep_cookies, expected) in
            [(false, vec!["accept: a"]), (true, vec!["accept: a", "cookie: a", "cookie: b"])]
        {
            let mut headers = given.clone();
            let fields = CredentialFields {
                injected: &injected,
                attached: &attached,
                set: &[],
                api_key: &api_key,
                keep_cookies,
            };
            strip_caller_credentials((&mut headers, Presence::ANY), fields);
            assert_eq!(lines(&headers), expected);
        }
    }

    #[test]
    fn a_cookie_that_we_inject_is_not_the_callers_even_where_cookies_are_kept() {
        let mut headers = map(&["cookie: a"]);
        let fields = CredentialFields {
            injected: &http::header::COOKIE,
            attached: &[],
            set: &[],
            api_key: &[],
            keep_cookies: true,
        };
        strip_caller_credentials((&mut headers, Presence::ANY), fields);
        assert!(headers.is_empty());
    }
}
