//! Which fields of weight a header section may have, found in one pass over its names.
//!
//! Most requests have none of them, and asking a map a dozen times costs more than reading eight names once. What is
//! said here is "may": a field that was removed since still counts, and one that was added since must not matter.

use http::HeaderMap;

/// A set of fields that may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence(u16);

impl Default for Presence {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Self::ANY
    }
}

impl Presence {
    /// Nothing was looked at: all may be there.
    pub const ANY: Self = Self(u16::MAX);
    /// `Origin`.
    pub const ORIGIN: Self = Self(1);
    /// `Sec-Fetch-Site`.
    pub const SEC_FETCH_SITE: Self = Self(1 << 1);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 2);
    /// `TE`.
    pub const TE: Self = Self(1 << 3);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(1 << 4);
    /// `Via`.
    pub const VIA: Self = Self(1 << 5);
    /// `Trailer`.
    pub const TRAILER: Self = Self(1 << 6);
    /// `Content-Type`.
    pub const CONTENT_TYPE: Self = Self(1 << 7);
    /// `Authorization`, `Proxy-Authorization`, `DPoP`, `Cookie`.
    pub const CREDENTIALS: Self = Self(1 << 8);
    /// `Forwarded`, `X-Forwarded-*`, `X-Real-IP`.
    pub const FORWARDED: Self = Self(1 << 9);
    /// A field for one hop only, other than `Connection`.
    pub const HOP_BY_HOP: Self = Self(1 << 10);
    /// A name with a character that some server takes for a hyphen.
    pub const FOLDING: Self = Self(1 << 11);
    /// `Connection`.
    pub const CONNECTION: Self = Self(1 << 12);

    /// What there is.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self(0), |found, name| found.or(field(name.as_str())))
    }

    /// Whether one of `fields` may be there.
    #[must_use]
    pub const fn has(self, fields: Self) -> bool {
        self.0 & fields.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What one name, in lower case, stands for.
fn field(name: &str) -> Presence {
    match (name.len(), name) {
        (2, "te") => Presence::TE.or(Presence::HOP_BY_HOP),
        (3, "via") => Presence::VIA,
        (4, "dpop") | (6, "cookie") | (13, "authorization") => Presence::CREDENTIALS,
        (6, "expect") => Presence::EXPECT,
        (6, "origin") => Presence::ORIGIN,
        (7, "trailer") => Presence::TRAILER,
        (7, "upgrade") => Presence::UPGRADE.or(Presence::HOP_BY_HOP),
        (9, "forwarded" | "x-real-ip") => Presence::FORWARDED,
        (10, "connection") => Presence::CONNECTION,
        (10, "keep-alive") => Presence::HOP_BY_HOP,
        (12, "content-type") => Presence::CONTENT_TYPE,
        (14, "sec-fetch-site") => Presence::SEC_FETCH_SITE,
        (16, "proxy-connection") | (17, "transfer-encoding") | (18, "proxy-authenticate") => Presence::HOP_BY_HOP,
        (19, "proxy-authorization") => Presence::CREDENTIALS.or(Presence::HOP_BY_HOP),
        // Nearly every request has these, and they need no second look.
        (4, "host") | (6, "accept") | (10, "user-agent") | (14, "content-length") | (15, "accept-encoding") => {
            Presence(0)
        }
        _ if name.starts_with("x-forwarded-") => Presence::FORWARDED.or(folding(name)),
        _ => folding(name),
    }
}

fn folding(name: &str) -> Presence {
    let folds = name.bytes().fold(false, |folds, byte| folds | (byte == b'_') | (byte == b'.') | (byte == b' '));
    if folds { Presence::FOLDING } else { Presence(0) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};
    use proptest::prelude::*;

    use super::super::{CredentialFields, ambiguous_name, strip_caller_credentials, strip_forwarded, strip_hop_by_hop};
    use super::Presence;

    /// Names that are of weight, look like it, or are not.
    const NAMES: [&str; 40] = [
        "te",
        "via",
        "dpop",
        "cookie",
        "authorization",
        "proxy-authorization",
        "expect",
        "origin",
        "trailer",
        "upgrade",
        "forwarded",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-",
        "x-forwarded",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "proxy-authenticate",
        "content-type",
        "content-length",
        "sec-fetch-site",
        "sec-fetch-mode",
        "host",
        "accept",
        "x-api-key",
        "x_api_key",
        "x.api.key",
        "content_length",
        "x_forwarded_for",
        "x-custom",
        "x_custom",
        "dpop2",
        "cookies",
        "tea",
        "vias",
        "set-cookie",
        "if-match",
        "date",
    ];

    fn map(names: &[&str]) -> HeaderMap {
        names.iter().map(|name| (HeaderName::from_bytes(name.as_bytes()).unwrap(), "a".parse().unwrap())).collect()
    }

    fn fields(keep_cookies: bool) -> CredentialFields<'static> {
        static API_KEY: [HeaderName; 1] = [HeaderName::from_static("x-api-key")];
        let injected = &http::header::AUTHORIZATION;
        CredentialFields { injected, attached: &[], set: &[], api_key: &API_KEY, keep_cookies }
    }

    proptest! {
        /// B30, B31, B36, C28: what is not seen would not have been touched.
        #[test]
        fn what_is_not_seen_would_not_have_been_touched(
            names in proptest::collection::vec(prop_oneof![3 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => "[a-z_.-]{1,20}"], 0..8),
            keep_cookies: bool,
        ) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let headers = map(&names);
            let present = Presence::of(&headers);
            let (mut seen, mut whole) = (headers.clone(), headers.clone());
            strip_caller_credentials((&mut seen, present), fields(keep_cookies));
            strip_caller_credentials((&mut whole, Presence::ANY), fields(keep_cookies));
            prop_assert_eq!(seen, whole);
            let (mut seen, mut whole) = (headers.clone(), headers.clone());
            prop_assert!(strip_hop_by_hop((&mut seen, present)).is_ok());
            prop_assert!(strip_hop_by_hop((&mut whole, Presence::ANY)).is_ok());
            prop_assert_eq!(seen, whole);
            let untouched = |field: Presence, strip: fn(&mut HeaderMap)| {
                let mut stripped = headers.clone();
                strip(&mut stripped);
                present.has(field) || stripped == headers
            };
            prop_assert!(untouched(Presence::FORWARDED, strip_forwarded));
            prop_assert!(!fields(keep_cookies).may_be_folded_onto());
            prop_assert!(present.has(Presence::FOLDING) || ambiguous_name(&headers, fields(keep_cookies)).is_none());
            for (field, name) in [
                (Presence::ORIGIN, "origin"),
                (Presence::SEC_FETCH_SITE, "sec-fetch-site"),
                (Presence::EXPECT, "expect"),
                (Presence::TE, "te"),
                (Presence::UPGRADE, "upgrade"),
                (Presence::VIA, "via"),
                (Presence::TRAILER, "trailer"),
                (Presence::CONTENT_TYPE, "content-type"),
                (Presence::CONNECTION, "connection"),
            ] {
                prop_assert_eq!(present.has(field), headers.contains_key(name), "{}", name);
            }
        }
    }
}
