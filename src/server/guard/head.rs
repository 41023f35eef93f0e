//! The strict check of one request head on its raw bytes (RFC 9112 2 to 6, RFC 9110 5).
//!
//! hyper's parser forgives what a safe intermediary must refuse: bare LF, folded lines, `Transfer-Encoding` beside
//! `Content-Length`, a repeated `Content-Length`, two `Host` fields, a fragment in the target. Nothing is forwarded
//! that was not found unambiguous here first.

use super::framing::Framing;
use crate::answer::Failure;
use crate::header;

/// Longest method looked at; the longest registered one has 17 bytes.
const METHOD_LIMIT: usize = 32;

/// The limits of a head, from `[limits]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Longest request target in bytes.
    pub(crate) target: usize,
    /// Longest header section in bytes, the request line aside.
    pub(crate) header: usize,
    /// Most fields.
    pub(crate) fields: usize,
}

/// Finds the end of the head in `bytes`: the index after its empty line. `scanned` bytes were searched before.
///
/// A bare LF counts as a line end here, so that a head using it is found complete and then refused, not waited for.
pub(crate) fn end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let mut from = scanned.saturating_sub(3);
    loop {
        let rest = bytes.get(from..)?;
        let newline = from + memchr::memchr(b'\n', rest)?;
        let after = bytes.get(newline + 1..)?;
        match after {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => from = newline + 1,
        }
    }
}

/// Judges a head that is not complete yet: only whether it is too long already.
pub(crate) fn check_length(bytes: &[u8], limits: HeadLimits) -> Result<(), Failure> {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > limits.target + METHOD_LIMIT + 16 {
        return Err(Failure::TargetTooLong);
    }
    if bytes.len() - line > limits.header {
        return Err(Failure::HeaderTooLarge);
    }
    Ok(())
}

/// Checks a complete head, its empty line included, and tells how the body is delimited.
///
/// # Errors
/// The failure that the caller is answered with; the connection cannot go on after it.
pub(crate) fn check(head: &[u8], limits: HeadLimits) -> Result<Framing, Failure> {
    check_length(head, limits)?;
    // RFC 9112 2.2: one empty line before a request line is ignored.
    let mut lines = Lines(head.strip_prefix(b"\r\n").unwrap_or(head));
    let version = request_line(lines.next().ok_or(Failure::BadRequest)??, limits.target)?;
    let mut fields = Fields::default();
    for line in lines {
        fields.read(line?, limits.fields)?;
    }
    fields.framing(version)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// Lines without their CRLF, up to the empty one; a bare CR or LF is an error.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let newline = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(newline);
        self.0 = rest.get(1..).unwrap_or_default();
        match line.split_last() {
            Some((b'\r', [])) => None,
            Some((b'\r', line)) => Some(Ok(line)),
            _ => Some(Err(Failure::BadRequest)),
        }
    }
}

/// RFC 9112 3: `method SP request-target SP HTTP-version`, single spaces, nothing repaired.
fn request_line(line: &[u8], target_limit: usize) -> Result<Version, Failure> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::BadRequest);
    };
    if method.is_empty() || method.len() > METHOD_LIMIT || !method.iter().copied().all(is_token_byte) {
        return Err(Failure::BadRequest);
    }
    if target.len() > target_limit {
        return Err(Failure::TargetTooLong);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Failure::UnsupportedVersion);
        }
        _ => return Err(Failure::BadRequest),
    };
    if method == b"CONNECT" {
        return Err(Failure::MethodNotAllowed);
    }
    check_target(method, target)?;
    Ok(version)
}

/// Lets through only targets that `http::Uri` keeps byte for byte, so that what is matched is what came on the wire.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Failure> {
    match target.first() {
        Some(b'/') if target.iter().copied().all(is_plain_target_byte) => Ok(()),
        Some(b'*') if target.len() == 1 && method == b"OPTIONS" => Ok(()),
        Some(b'/' | b'h' | b'H') => {
            let visible = target.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'#');
            let uri = http::Uri::try_from(target).ok().filter(|_| visible).ok_or(Failure::BadTarget)?;
            let userinfo = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
            let known_form = target.starts_with(b"/") || matches!(uri.scheme_str(), Some("http" | "https"));
            if known_form && !userinfo { Ok(()) } else { Err(Failure::BadTarget) }
        }
        _ => Err(Failure::BadRequest),
    }
}

/// The fields that decide framing, as far as they were read.
#[derive(Default)]
struct Fields {
    count: usize,
    hosts: usize,
    content_length: Option<u64>,
    transfer_encoding: Option<bool>,
}

impl Fields {
    fn read(&mut self, line: &[u8], most: usize) -> Result<(), Failure> {
        let colon = memchr::memchr(b':', line).ok_or(Failure::BadRequest)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let mut odd = false;
        for byte in name.iter().copied() {
            if !is_token_byte(byte) {
                return Err(Failure::BadRequest);
            }
            odd |= matches!(byte, b'_' | b'.');
        }
        if name.is_empty() || !value.iter().copied().all(is_value_byte) {
            return Err(Failure::BadRequest);
        }
        self.count += 1;
        if self.count > most {
            return Err(Failure::TooManyFields);
        }
        if odd && std::str::from_utf8(name).is_ok_and(header::is_ambiguous_name) {
            return Err(Failure::BadRequest);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value.trim_ascii()),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value.trim_ascii()),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value.trim_ascii()),
            _ => Ok(()),
        }
    }

    /// RFC 9112 3.2: exactly one, and a valid one.
    fn host(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.hosts += 1;
        let known_bytes = value.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
        });
        if self.hosts == 1 && known_bytes { Ok(()) } else { Err(Failure::BadRequest) }
    }

    /// RFC 9112 6.3: digits only, once; even the same value twice is refused.
    fn length(&mut self, value: &[u8]) -> Result<(), Failure> {
        if self.content_length.is_some() || value.is_empty() || value.len() > 19 {
            return Err(Failure::BadRequest);
        }
        let mut length = 0_u64;
        for byte in value {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(Failure::BadRequest);
            }
            length = length * 10 + u64::from(digit);
        }
        self.content_length = Some(length);
        Ok(())
    }

    /// RFC 9112 6.1: `chunked`, once and alone; every other coding is 501.
    fn coding(&mut self, value: &[u8]) -> Result<(), Failure> {
        let again = self.transfer_encoding.replace(true).is_some();
        if again {
            return Err(Failure::BadRequest);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(());
        }
        let tokens = value.iter().all(|byte| is_token_byte(*byte));
        let mentions_chunked = value.to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
        if tokens && !value.is_empty() && !mentions_chunked {
            Err(Failure::UnknownTransferCoding)
        } else {
            Err(Failure::BadRequest)
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Failure> {
        if self.hosts == 0 && version == Version::Http11 {
            return Err(Failure::BadRequest);
        }
        match (self.transfer_encoding, self.content_length) {
            // RFC 9112 6.1: both, or a coding in HTTP/1.0, is how requests are smuggled.
            (Some(_), Some(_)) => Err(Failure::BadRequest),
            (Some(_), None) if version == Version::Http10 => Err(Failure::BadRequest),
            (Some(_), None) => Ok(Framing::chunked()),
            (None, Some(length)) => Ok(Framing::length(length)),
            (None, None) => Ok(Framing::none()),
        }
    }
}

/// RFC 9110 5.6.2 `tchar`.
fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// RFC 9110 5.5: visible bytes, space, tab and obs-text; every other control byte is refused.
fn is_value_byte(byte: u8) -> bool {
    VALUE.get(usize::from(byte)).copied().unwrap_or(false)
}

fn is_plain_target_byte(byte: u8) -> bool {
    TARGET.get(usize::from(byte)).copied().unwrap_or(false)
}

const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
const TARGET: [bool; 256] = table(b"-._~/%?=&+,:;@!$'()*");
#[expect(clippy::indexing_slicing, reason = "evaluated when compiling, where an index out of range is an error")]
const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte == 0x09;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

/// Letters, digits and `also`.
#[expect(clippy::indexing_slicing, reason = "evaluated when compiling, where an index out of range is an error")]
const fn table(also: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_usize;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < also.len() {
        table[also[index] as usize] = true;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { target: 8192, header: 32768, fields: 100 };

    fn judge(head: &str) -> Result<Framing, Failure> {
        assert_eq!(end(head.as_bytes(), 0), Some(head.len()), "{head:?} is one head");
        check(head.as_bytes(), LIMITS)
    }

    #[test]
    fn plain_heads_pass_and_tell_their_framing() {
        assert_eq!(judge("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
        assert_eq!(judge("GET /a?b=%20{x}|^ HTTP/1.1\r\nHost: a:80\r\n\r\n"), Ok(Framing::none()));
        assert_eq!(judge("POST / HTTP/1.1\r\nHost:a\r\nContent-Length: 3 \r\n\r\n"), Ok(Framing::length(3)));
        assert_eq!(judge("POST / HTTP/1.1\r\nhost:a\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok(Framing::chunked()));
        assert_eq!(judge("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::none()));
        assert_eq!(judge("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
        assert_eq!(judge("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
        assert_eq!(judge("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::none()));
    }

    #[test]
    fn rfc_9112_ambiguous_or_malformed_heads_are_refused() {
        for (head, failure) in [
            ("GET / HTTP/1.1\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\nHost: a\n\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", Failure::BadRequest),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET /\r\n\r\n", Failure::BadRequest),
            ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Failure::UnsupportedVersion),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", Failure::BadRequest),
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
            ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
            ("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
            ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Failure::BadTarget),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Failure::MethodNotAllowed),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Failure::BadRequest,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Failure::UnknownTransferCoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", Failure::BadRequest),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Failure::BadRequest,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", Failure::BadRequest),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Failure::BadRequest),
        ] {
            assert_eq!(judge(head), Err(failure), "{head:?}");
        }
    }

    #[test]
    fn lengths_are_bounded_before_a_head_is_complete() {
        assert_eq!(check_length(&[b'a'; 9000], LIMITS), Err(Failure::TargetTooLong));
        let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
        head.resize(head.len() + 33_000, b'a');
        assert_eq!(check_length(&head, LIMITS), Err(Failure::HeaderTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(judge(&many), Err(Failure::TooManyFields));
    }

    proptest! {
        #[test]
        fn an_accepted_target_survives_http_uri_byte_for_byte(target in "/[!-~]{0,40}") {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            if check(head.as_bytes(), LIMITS).is_ok() {
                let uri = http::Uri::try_from(target.as_str()).unwrap();
                prop_assert_eq!(uri.path_and_query().unwrap().as_str(), target);
            }
        }

        #[test]
        fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut head = bytes;
            head.extend_from_slice(b"\r\n\r\n");
            if let Some(end) = end(&head, 0) {
                let _ = check(head.get(..end).unwrap(), LIMITS);
            }
        }

        #[test]
        fn the_end_is_found_wherever_the_search_was_interrupted(cut in 0_usize..40) {
            let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nrest";
            prop_assert!(end(head.get(..cut.min(33)).unwrap(), 0).is_none() || cut >= 33);
            prop_assert_eq!(end(head, cut.min(33)), Some(33));
        }
    }
}
