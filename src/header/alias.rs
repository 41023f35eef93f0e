//! Names that some server reads as another name.
//!
//! CGI, WSGI and their heirs turn `-`, `_`, `.` and space into one character, so `X_Api_Key` or `Content.Length` arrives
//! there as the field we removed or checked (CVE-2025-64484, CVE-2026-88011). Only names that fold onto a field of
//! weight are refused; any other underscore is the caller's business.

use http::{HeaderMap, HeaderName};

use super::CredentialFields;

/// Framing, hop-by-hop, credential and forwarding names with a hyphen; one without has no alias.
const WEIGHTY: [&str; 10] = [
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "x-api-key",
    "x-real-ip",
    "x-request-id",
];

/// Families of names, by how they begin.
const WEIGHTY_FAMILIES: [&str; 1] = ["x-forwarded-"];

/// Whether the name is not itself a framing, hop-by-hop, credential or forwarding name, but becomes one when `_`, `.`
/// and space turn into `-`.
#[must_use]
pub fn is_ambiguous_name(name: &str) -> bool {
    // Nearly every name ends here.
    if !name.bytes().any(|byte| matches!(byte, b'_' | b'.' | b' ')) {
        return false;
    }
    let in_family = |family: &&str| name.get(..family.len()).is_some_and(|start| folds_onto(start, family));
    WEIGHTY.iter().any(|weighty| folds_onto(name, weighty)) || WEIGHTY_FAMILIES.iter().any(in_family)
}

/// The first name in the map that is ambiguous, or that folds onto one of these fields without being it.
#[must_use]
pub fn ambiguous_name<'h>(headers: &'h HeaderMap, fields: CredentialFields<'_>) -> Option<&'h HeaderName> {
    let is_alias = |name: &str, ours: &HeaderName| name != ours.as_str() && folds_onto(name, ours.as_str());
    headers.keys().find(|name| {
        let name = name.as_str();
        is_ambiguous_name(name)
            || is_alias(name, fields.injected)
            || fields.api_key.iter().any(|ours| is_alias(name, ours))
            || fields.set.iter().any(|ours| is_alias(name, ours))
    })
}

/// Whether two names are one to a server that folds; case never counts.
fn folds_onto(name: &str, other: &str) -> bool {
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| fold(a) == fold(b))
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' | b' ' => b'-',
        _ => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::tests::map;
    use super::{CredentialFields, ambiguous_name, is_ambiguous_name};

    /// B14: a name is ambiguous when it folds onto one of weight.
    #[test]
    fn a_name_is_ambiguous_when_it_folds_onto_one_of_weight() {
        for name in [
            "content_length",
            "Content.Length",
            "transfer_encoding",
            "TRANSFER ENCODING",
            "x_api_key",
            "x-api_key",
            "x.api-key",
            "proxy_authorization",
            "keep.alive",
            "x_forwarded_for",
            "x-forwarded.anything",
            "x_forwarded-proto",
            "x_real_ip",
        ] {
            assert!(is_ambiguous_name(name), "{name}");
        }
        for name in [
            "content-length",
            "Transfer-Encoding",
            "x-api-key",
            "x-forwarded-for",
            "x_custom",
            "api_key",
            "content_lengths",
            "x_forwarded",
            "contentlength",
            "",
            "_",
        ] {
            assert!(!is_ambiguous_name(name), "{name}");
        }
    }

    #[test]
    fn an_alias_of_the_injected_or_the_key_field_is_found_in_a_map() {
        let injected = HeaderName::from_static("x-auth-token");
        let api_key = [HeaderName::from_static("our_key")];
        let set = [HeaderName::from_static("x-caller-name")];
        let fields =
            CredentialFields { injected: &injected, attached: &[], set: &set, api_key: &api_key, keep_cookies: false };
        for (lines, found) in [
            (["accept: a", "x_custom: 1"], None),
            (["x-auth-token: a", "our_key: 1"], None),
            (["accept: a", "x_auth-token: 1"], Some("x_auth-token")),
            (["accept: a", "x.auth.token: 1"], Some("x.auth.token")),
            (["accept: a", "our-key: 1"], Some("our-key")),
            (["accept: a", "x-caller-name: 1"], None),
            (["accept: a", "x_caller_name: 1"], Some("x_caller_name")),
            (["accept: a", "content_length: 1"], Some("content_length")),
        ] {
            assert_eq!(ambiguous_name(&map(&lines), fields).map(HeaderName::as_str), found, "{lines:?}");
        }
    }
}
