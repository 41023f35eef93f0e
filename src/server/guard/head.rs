//! The strict check of one request head on its raw bytes (RFC 9112 2 to 6, RFC 9110 5).
//!
//! hyper's parser forgives what a safe intermediary must refuse: bare LF, folded lines, `Transfer-Encoding` beside
//! `Content-Length`, a repeated `Content-Length`, two `Host` fields, a fragment in the target. Nothing is forwarded
//! that was not found unambiguous here first.

mod alphabet;
mod fields;

use self::alphabet::{HOST, METHOD, TARGET, TOKEN};
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

/// Judges the head at the start of `bytes`, of which the first `scanned` were searched for its end before; none while its
/// end is missing.
///
/// # Errors
/// The failure that the caller is answered with; the connection cannot go on after it. Of a head that is not complete
/// only its length is judged, so that it does not matter in which pieces it comes.
pub(crate) fn judge(bytes: &[u8], scanned: usize, limits: HeadLimits) -> Result<Option<Head>, Failure> {
    // Nearly every head comes whole, is good, and is shorter than any limit. Such a one is gone through once.
    if scanned == 0
        && let Ok(head) = check(bytes, limits)
        && head.length <= limits.target.min(limits.header)
    {
        return Ok(Some(head));
    }
    let Some(end) = end(bytes, scanned) else {
        return check_length(bytes, limits).map(|()| None);
    };
    let head = bytes.get(..end).unwrap_or_default();
    check_length(head, limits)?;
    check(head, limits).map(Some)
}

/// Finds the end of the head in `bytes`: the index after its empty line. `scanned` bytes were searched before.
///
/// A bare LF counts as a line end here, so that a head using it is found complete and then refused, not waited for.
fn end(bytes: &[u8], scanned: usize) -> Option<usize> {
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

/// Whether a head, complete or not, is too long.
fn check_length(bytes: &[u8], limits: HeadLimits) -> Result<(), Failure> {
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
    /// Its length, with its empty line and with one that may precede it.
    pub(crate) length: usize,
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Whether another protocol is to follow.
    pub(crate) upgrade: Upgrade,
    /// Whether the caller says that no request follows (RFC 9112 9.6).
    pub(crate) is_last: bool,
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

/// Checks the head at the start of `bytes`, line by line up to its empty one. Where that is missing, the last line fails.
fn check(bytes: &[u8], limits: HeadLimits) -> Result<Head, Failure> {
    // RFC 9112 2.2: one empty line before a request line is ignored.
    let (line, mut rest) = request_line(bytes.strip_prefix(b"\r\n").unwrap_or(bytes), limits.target)?;
    let mut fields = Fields::default();
    loop {
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            return fields.head(line, bytes.len() - behind.len());
        }
        rest = fields.read(rest, limits.fields)?;
    }
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

/// RFC 9112 3: `method SP request-target SP HTTP-version CRLF`, single spaces, nothing repaired. Gives what follows too.
fn request_line(bytes: &[u8], target_limit: usize) -> Result<(RequestLine, &[u8]), Failure> {
    let (method, rest) = bytes.split_at(alphabet::run(bytes, METHOD));
    let rest = rest.strip_prefix(b" ").ok_or(Failure::BadRequest)?;
    let plain = alphabet::run(rest, TARGET);
    let (target, rest) = split_word(rest, plain).ok_or(Failure::BadRequest)?;
    let (version, rest) = match rest.strip_prefix(b"HTTP/1.1\r\n") {
        Some(behind) => (&b"HTTP/1.1"[..], behind),
        None => split_line(rest).ok_or(Failure::BadRequest)?,
    };
    if !(1..=METHOD_LIMIT).contains(&method.len()) {
        return Err(Failure::BadRequest);
    }
    if target.len() > target_limit {
        let is_request_line = !version.contains(&b' ');
        return Err(if is_request_line { Failure::TargetTooLong } else { Failure::BadRequest });
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
        check_authority(target)?;
    } else if plain < target.len() || !target.starts_with(b"/") {
        check_target(method, target)?;
    }
    Ok((RequestLine { version, is_connect }, rest))
}

/// The first word of a line, which is `from` bytes long or longer, and what follows its space.
fn split_word(bytes: &[u8], from: usize) -> Option<(&[u8], &[u8])> {
    let end = from + bytes.get(from..)?.iter().position(|byte| matches!(byte, b' ' | b'\n'))?;
    Some((bytes.get(..end)?, bytes.get(end..)?.strip_prefix(b" ")?))
}

/// The first line without its CRLF, and what follows it; none where it ends otherwise.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let newline = memchr::memchr(b'\n', bytes)?;
    Some((bytes.get(..newline)?.strip_suffix(b"\r")?, bytes.get(newline + 1..)?))
}

/// RFC 9110 9.1: a token in which case counts. Servers that take `get` for GET would be told something else than was
/// matched here, and strict ones refuse it.
pub(crate) fn check_method(method: &[u8]) -> bool {
    (1..=METHOD_LIMIT).contains(&method.len()) && alphabet::are(method, METHOD)
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
        Some(b'/') if alphabet::are(target, TARGET) => Ok(()),
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
    alphabet::are(host, HOST)
}

/// RFC 9110 5.6.2 `tchar`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    alphabet::are(&[byte], TOKEN)
}

#[cfg(test)]
mod tests;
