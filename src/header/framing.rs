//! The framing of an answer whose fields somebody else has read, judged a second time (RFC 9112 6.1, 6.3).
//!
//! hyper resolves what can be read in two ways: of a `Content-Length` that is a list of equal lengths it takes one, and
//! the list would be passed on to a caller that may read it in another way. None of this is ours to repair. Answers over
//! HTTP/1 are held to the same rules where their head is read (`upstream`).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Version};

/// Whether the length of an answer with these fields can be read in one way only.
#[must_use]
pub fn is_framed_once(version: Version, headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || !length.is_none_or(is_one_length) {
        return false;
    }
    if !headers.contains_key(TRANSFER_ENCODING) {
        return true;
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none() && length.is_none() && version == Version::HTTP_11
}

/// What is too long for a number, whoever read the fields has refused.
fn is_one_length(value: &HeaderValue) -> bool {
    !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::is_framed_once;
    use crate::header::tests::map;

    /// B21: one length, or chunks, and nothing beside it.
    #[test]
    fn one_length_or_chunks_and_never_both() {
        for (version, lines, expected) in [
            (Version::HTTP_11, vec![], true),
            (Version::HTTP_11, vec!["content-length: 5"], true),
            (Version::HTTP_2, vec!["content-length: 5"], true),
            (Version::HTTP_11, vec!["transfer-encoding: Chunked"], true),
            (Version::HTTP_11, vec!["content-length: 5", "content-length: 5"], false),
            (Version::HTTP_11, vec!["content-length: 5, 5"], false),
            (Version::HTTP_2, vec!["content-length: "], false),
            (Version::HTTP_11, vec!["content-length: 5", "transfer-encoding: chunked"], false),
            (Version::HTTP_11, vec!["transfer-encoding: chunked", "transfer-encoding: chunked"], false),
            (Version::HTTP_11, vec!["transfer-encoding: gzip, chunked"], false),
            (Version::HTTP_11, vec!["transfer-encoding: gzip"], false),
            (Version::HTTP_11, vec!["transfer-encoding: "], false),
            (Version::HTTP_10, vec!["transfer-encoding: chunked"], false),
        ] {
            assert_eq!(is_framed_once(version, &map(&lines)), expected, "{version:?} {lines:?}");
        }
    }
}
