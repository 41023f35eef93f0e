//! Answers whose fields repeat the credential of their request. The caller must not get it that way; what an upstream
//! puts into a body is its own affair.

use http::{HeaderMap, HeaderValue};
use memchr::memmem;

/// A credential shorter than this may be part of a value by chance, and is left alone.
const LEAST: usize = 16;

/// What stands in its place.
const MASK: &[u8] = b"***";

/// Removes what `attached` carries, without its scheme, from the values of an answer's fields. Looks only into values
/// that have room for it, so the usual answer costs the comparison of a few lengths.
pub fn scrub(headers: &mut HeaderMap, attached: &HeaderValue) {
    let attached = attached.as_bytes();
    // Tokens have hundreds of bytes, and every answer comes by here.
    let from = memchr::memrchr(b' ', attached).map_or(0, |space| space + 1);
    mask(headers, attached.get(from..).unwrap_or_default());
}

/// Removes the words of `secret` from the values of an answer's fields: unlike a token it has no scheme before it, and
/// any part may be the one that counts.
pub fn scrub_words(headers: &mut HeaderMap, secret: &HeaderValue) {
    let secret = secret.as_bytes();
    if secret.contains(&b' ') {
        mask(headers, secret);
    }
    secret.split(|byte| *byte == b' ').for_each(|word| mask(headers, word));
}

fn mask(headers: &mut HeaderMap, credential: &[u8]) {
    if credential.len() < LEAST {
        return;
    }
    for value in headers.values_mut().filter(|value| value.len() >= credential.len()) {
        if memmem::find(value.as_bytes(), credential).is_some() {
            *value = without(value.as_bytes(), credential);
        }
    }
}

fn without(value: &[u8], credential: &[u8]) -> HeaderValue {
    let mut left = Vec::with_capacity(value.len());
    let mut from = 0;
    for at in memmem::find_iter(value, credential) {
        left.extend_from_slice(value.get(from..at).unwrap_or_default());
        left.extend_from_slice(MASK);
        from = at + credential.len();
    }
    left.extend_from_slice(value.get(from..).unwrap_or_default());
    HeaderValue::from_bytes(&left).unwrap_or_else(|_| HeaderValue::from_static("***"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{scrub, scrub_words};
    use crate::header::tests::{lines, map};

    #[test]
    fn a_repeated_credential_is_masked_and_all_else_stays() {
        let mut headers = map(&[
            "x-a: Bearer 0123456789abcdef",
            "x-b: <0123456789abcdef>0123456789abcdef;",
            "x-b: 0123456789abcde",
            "x-c: the text of an answer, long enough to hold it",
        ]);
        scrub(&mut headers, &HeaderValue::from_static("Bearer 0123456789abcdef"));
        let expected = [
            "x-a: Bearer ***",
            "x-b: 0123456789abcde",
            "x-b: <***>***;",
            "x-c: the text of an answer, long enough to hold it",
        ];
        assert_eq!(lines(&headers), expected);

        let mut headers = map(&["x-a: short"]);
        scrub(&mut headers, &HeaderValue::from_static("short"));
        assert_eq!(lines(&headers), ["x-a: short"], "a word that stands there by chance");
    }

    #[test]
    fn of_a_secret_every_word_is_masked_that_is_long_enough() {
        let secret = HeaderValue::from_static("Key id=0123456789abcdef sig=fedcba9876543210 v2");
        let mut headers = map(&[
            "x-a: id=0123456789abcdef",
            "x-b: <sig=fedcba9876543210>",
            "x-c: Key id=0123456789abcdef sig=fedcba9876543210 v2",
            "x-d: v2",
        ]);
        scrub_words(&mut headers, &secret);
        assert_eq!(lines(&headers), ["x-a: ***", "x-b: <***>", "x-c: ***", "x-d: v2"]);

        let mut headers = map(&["x-a: four words of few letters", "x-b: four words of many"]);
        scrub_words(&mut headers, &HeaderValue::from_static("four words of few letters"));
        assert_eq!(lines(&headers), ["x-a: ***", "x-b: four words of many"]);
    }
}
