//! The strict check of one request head on its raw bytes (RFC 9112 2 to 6, RFC 9110 5).
//!
//! hyper's parser forgives what a safe intermediary must refuse: bare LF, folded lines, `Transfer-Encoding` beside
//! `Content-Length`, a repeated `Content-Length`, two `Host` fields, a fragment in the target. Nothing is forwarded
//! that was not found unambiguous here first.

mod fields;

use self::fields::Fields;
use super::framing::Framing;
use crate::answer::Failure;

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

/// What a head that passed says about what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Whether another protocol is to follow.
    pub(crate) upgrade: Upgrade,
}

/// Whether a request asks for another protocol (RFC 9110 7.8, 9.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// It does not.
    None,
    /// It does, and may get it.
    Asked,
    /// There are `Upgrade` fields that mean nothing: in HTTP/1.0, without `Connection: upgrade`, with a body, which
    /// would have to be read first, or for `h2c`, which nobody here speaks. hyper must not see them: it believes any.
    Void,
}

/// Checks a complete head, its empty line included, and tells what follows it.
///
/// # Errors
/// The failure that the caller is answered with; the connection cannot go on after it.
pub(crate) fn check(head: &[u8], limits: HeadLimits) -> Result<Head, Failure> {
    check_length(head, limits)?;
    // RFC 9112 2.2: one empty line before a request line is ignored.
    let mut lines = Lines(head.strip_prefix(b"\r\n").unwrap_or(head));
    let line = request_line(lines.next().ok_or(Failure::BadRequest)??, limits.target)?;
    let mut fields = Fields::default();
    for field in lines {
        fields.read(field?, limits.fields)?;
    }
    fields.head(line)
}

/// Removes the `Upgrade` fields from the head at the start of `bytes`, moving up what follows; tells how many bytes are
/// left.
pub(crate) fn remove_upgrade(bytes: &mut [u8]) -> usize {
    let (mut length, mut from, mut in_fields) = (bytes.len(), 0, false);
    while let Some(rest) = bytes.get(from..length)
        && let Some(newline) = memchr::memchr(b'\n', rest)
    {
        let (line, next) = (rest.get(..newline).unwrap_or_default(), from + newline + 1);
        let is_empty = line == b"\r";
        if in_fields && is_empty {
            break;
        }
        if in_fields && line.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"upgrade:")) {
            bytes.copy_within(next..length, from);
            length -= next - from;
        } else {
            from = next;
        }
        in_fields |= !is_empty;
    }
    length
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// What a request line says about the rest.
#[derive(Clone, Copy)]
struct RequestLine {
    version: Version,
    is_connect: bool,
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
fn request_line(line: &[u8], target_limit: usize) -> Result<RequestLine, Failure> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::BadRequest);
    };
    if !check_method(method) {
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
    let is_connect = method == b"CONNECT";
    if is_connect {
        check_authority(target)?
    } else {
        check_target(method, target)?
    }
    Ok(RequestLine { version, is_connect })
}

/// RFC 9110 9.1: a token in which case counts. Servers that take `get` for GET would be told something else than was
/// matched here, and strict ones refuse it.
pub(crate) fn check_method(method: &[u8]) -> bool {
    let is_method = |byte: u8| is_token_byte(byte) && !byte.is_ascii_lowercase();
    (1..=METHOD_LIMIT).contains(&method.len()) && method.iter().copied().all(is_method)
}

/// RFC 9112 3.2.3: CONNECT names a host and a port, and nothing else.
fn check_authority(target: &[u8]) -> Result<(), Failure> {
    let authority = http::uri::Authority::try_from(target).map_err(|_| Failure::BadRequest)?;
    let (host, port) = authority.as_str().rsplit_once(':').ok_or(Failure::BadRequest)?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty() && check_host(host.as_bytes()) && (host.starts_with('[') || !host.contains(':'));
    // What hyper makes of it must be the same.
    let uri = http::Uri::try_from(target).map_err(|_| Failure::BadRequest)?;
    let is_same = uri.authority() == Some(&authority) && uri.scheme().is_none() && uri.path().is_empty();
    if is_host && is_port && is_same { Ok(()) } else { Err(Failure::BadRequest) }
}

/// Lets through only targets that `http::Uri` keeps byte for byte, so that what is matched is what came on the wire.
pub(crate) fn check_target(method: &[u8], target: &[u8]) -> Result<(), Failure> {
    match target.first() {
        Some(b'/') if target.iter().copied().all(is_plain_target_byte) => Ok(()),
        Some(b'*') if target.len() == 1 && method == b"OPTIONS" => Ok(()),
        Some(b'/' | b'h' | b'H') => {
            let visible = target.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'#');
            let uri = http::Uri::try_from(target).ok().filter(|_| visible).ok_or(Failure::BadTarget)?;
            // It takes the place of `Host`, so the same holds for it. There is no user in it.
            let is_host = uri.authority().is_none_or(|authority| check_host(authority.as_str().as_bytes()));
            let known_form = target.starts_with(b"/") || matches!(uri.scheme_str(), Some("http" | "https"));
            if known_form && is_host { Ok(()) } else { Err(Failure::BadTarget) }
        }
        _ => Err(Failure::BadRequest),
    }
}

/// Whether an authority holds nothing but what names, addresses and ports are made of.
pub(crate) fn check_host(host: &[u8]) -> bool {
    host.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
    })
}

/// RFC 9110 5.6.2 `tchar`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// RFC 9110 5.5: visible bytes, space, tab and obs-text; every other control byte is refused. Without an early end, so
/// that many bytes are judged at once.
fn is_value(bytes: &[u8]) -> bool {
    let is_control = |byte: u8| ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f);
    bytes.iter().fold(0, |found, byte| found | u8::from(is_control(*byte))) == 0
}

fn is_plain_target_byte(byte: u8) -> bool {
    TARGET.get(usize::from(byte)).copied().unwrap_or(false)
}

const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
const TARGET: [bool; 256] = table(b"-._~/%?=&+,:;@!$'()*");

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
mod tests;
