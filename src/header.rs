//! What an intermediary owes to the header sections it passes on (RFC 9110 7.6, RFC 9112, RFC 7239).
//!
//! Order is security here. On the way out: [`strip_hop_by_hop`], [`ambiguous_name`], [`strip_caller_credentials`],
//! [`strip_forwarded`], then what is ours is attached ([`set_forwarded`], [`append_via`], the credential): a name in
//! the caller's `Connection` can then never take away what we attach. Which values are attached is decided elsewhere.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

mod alias;
mod challenge;
mod credentials;
mod forwarded;
mod framing;
mod hop_by_hop;
mod host;
mod max_forwards;
mod presence;
mod scrub;
mod trailers;
mod upgrade;
mod via;

pub use alias::{ambiguous_name, is_ambiguous_name};
pub use challenge::{Challenge, challenge_errors, challenges};
pub use credentials::{CredentialFields, authenticates_connection, strip_caller_credentials};
pub use forwarded::{Asked, Forwarded, set_forwarded, strip_forwarded};
pub use framing::is_framed_once;
pub use hop_by_hop::{ForbiddenOption, is_ours_alone, strip_hop_by_hop, strip_response_hop_by_hop};
pub use host::host_without_port;
pub use max_forwards::ends_here;
pub use presence::Presence;
pub use scrub::{scrub, scrub_words};
pub use trailers::{accepts_trailers, announce_trailers, strip_answer_trailers, strip_trailers};
pub use upgrade::{switches_to, upgrade};
pub use via::{InvalidPseudonym, Pseudonym, append_via, via_names};

/// The length that `Content-Length` declares; none when it is absent, repeated, or not digits alone.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?;
    // `parse` alone would take a plus sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::content_length;

    /// A map from lines `name: value`.
    pub(super) fn map(lines: &[&str]) -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    /// The names left in a map, sorted, with `=value`.
    pub(super) fn lines(map: &http::HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            map.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_content_length_is_one_line_of_digits() {
        for (given, expected) in [
            (vec![], None),
            (vec!["content-length: 0"], Some(0)),
            (vec!["content-length: 18446744073709551615"], Some(u64::MAX)),
            (vec!["content-length: 18446744073709551616"], None),
            (vec!["content-length: +5"], None),
            (vec!["content-length: -5"], None),
            (vec!["content-length: 5, 5"], None),
            (vec!["content-length: 0x5"], None),
            (vec!["content-length: "], None),
            (vec!["content-length: 5", "content-length: 5"], None),
        ] {
            assert_eq!(content_length(&map(&given)), expected, "{given:?}");
        }
    }
}
