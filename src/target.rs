//! The path of a request target, judged and rewritten on its raw bytes as they came on the wire (RFC 3986 3.3,
//! RFC 9110 4.2.3 and 17.3).
//!
//! What is matched is byte for byte what is sent, so a path must mean the same to us and to every server behind us,
//! however often one of them decodes it. Splitting a target into path and query, and routing, happen elsewhere.
//! `host` is the other part of a target: hosts that callers or token endpoints name, held against a list of patterns.

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;

pub use self::host::{Host, HostPattern, HostRule};
pub use self::rules::{Allowance, PathRules};

mod host;
mod rules;
#[cfg(test)]
mod tests;

/// Why a target is not forwarded. The target itself is left out: it may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnsafeTarget {
    /// No leading slash: `*`, or the rest of a path cut inside a segment.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// A segment that is `.` or `..` before its first `;`, in any encoding.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// A slash that appears only by decoding, where that is refused.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// A semicolon, raw or encoded, where that is refused.
    #[error("the path holds a semicolon")]
    Semicolon,
    /// Two slashes in a row, at any level of decoding, where that is refused.
    #[error("the path holds two slashes in a row")]
    DoubleSlash,
    /// A backslash, raw or encoded: many servers read it as a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// A control byte, raw or encoded, or a raw space.
    #[error("the path holds a control byte")]
    ControlByte,
    /// ASCII in more bytes than UTF-8 allows, which lenient decoders take for the plain character.
    #[error("the path holds an overlong encoding")]
    Overlong,
    /// A `#`: no request target has a fragment (RFC 9112 3.2).
    #[error("the target holds a fragment")]
    Fragment,
    /// The outgoing target would begin with `//`, which reads as an authority.
    #[error("the outgoing target begins with two slashes")]
    LeadingDoubleSlash,
    /// A byte that no target may hold, or a target beyond 64 KiB.
    #[error("the target cannot be represented")]
    Unrepresentable,
}

/// What a path holds that is harmless to some servers and not to others: the rules of the named credential decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// A slash appears at some level of decoding that does not stand there raw.
    pub encoded_slash: bool,
}

/// Judges a raw path (no query) by what no server may be sent: however often and by whom an accepted path is decoded,
/// no dot segment and no backslash appears in it, with every slash that comes out taken for one. Which of the slashes
/// and semicolons themselves may pass is for [`PathRules::judge`] to say.
///
/// One pass over the bytes when nothing looks suspicious; memory only for nested escapes, encoded slashes and segments
/// that begin with a dot.
///
/// # Errors
/// The first [`UnsafeTarget`] found.
pub fn inspect(path: &str) -> Result<Inspected, UnsafeTarget> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(UnsafeTarget::NotAbsolute);
    }
    // No early exit: this form compiles to vector instructions.
    let suspicious = bytes
        .iter()
        .fold(false, |found, &byte| found | (byte <= b' ') | matches!(byte, b'%' | b'.' | b'\\' | b'#' | b'?' | 0x7f));
    if suspicious { look_closer(bytes) } else { Ok(Inspected::default()) }
}

/// The outgoing target: `path` less its first `prefix` bytes, put behind `base_path`, with `query` as it came.
///
/// `base_path` has no trailing slash and is empty for `/`; `path` has passed [`inspect`]; `prefix` is what
/// the router says of its match. An empty result is `/`.
///
/// # Errors
/// [`UnsafeTarget::LeadingDoubleSlash`], [`UnsafeTarget::Fragment`], [`UnsafeTarget::NotAbsolute`] when `prefix` ends
/// inside a segment, and [`UnsafeTarget::Unrepresentable`].
pub fn outgoing(base_path: &str, path: &str, prefix: usize, query: Option<&str>) -> Result<PathAndQuery, UnsafeTarget> {
    let rest = path.get(prefix..).ok_or(UnsafeTarget::NotAbsolute)?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return Err(UnsafeTarget::NotAbsolute);
    }
    // `PathAndQuery` would cut a fragment off and take the first `?` for the query's, silently.
    if rest.contains('#') || query.is_some_and(|query| query.contains('#')) {
        return Err(UnsafeTarget::Fragment);
    }
    if rest.contains('?') {
        return Err(UnsafeTarget::Unrepresentable);
    }
    let mut target = BytesMut::with_capacity(base_path.len() + rest.len() + query.map_or(0, str::len) + 2);
    target.put_slice(base_path.as_bytes());
    target.put_slice(rest.as_bytes());
    if begins_with_two_slashes(&target) {
        return Err(UnsafeTarget::LeadingDoubleSlash);
    }
    if target.is_empty() {
        target.put_u8(b'/');
    }
    if let Some(query) = query {
        target.put_u8(b'?');
        target.put_slice(query.as_bytes());
    }
    PathAndQuery::from_maybe_shared::<Bytes>(target.freeze()).map_err(|_| UnsafeTarget::Unrepresentable)
}

/// Whether a server could take the beginning of the target for an authority, now or after decoding.
fn begins_with_two_slashes(target: &[u8]) -> bool {
    match target {
        [b'/', b'/', ..] => true,
        // What cannot be settled was refused before.
        [b'/', b'%', ..] => settle(target).is_ok_and(|settled| settled.starts_with(b"//")),
        _ => false,
    }
}

/// Judges each byte and each escape where it stands, and sends what needs the whole picture on to [`settle`].
fn look_closer(path: &[u8]) -> Result<Inspected, UnsafeTarget> {
    let mut rest = path;
    let mut previous = 0;
    let mut needs_settling = false;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let Some((&[high, low], after)) = rest.split_first_chunk() else {
                    return Err(UnsafeTarget::MalformedEscape);
                };
                let decoded = decode(high, low).ok_or(UnsafeTarget::MalformedEscape)?;
                refuse_decoded(decoded)?;
                needs_settling |= matches!(decoded, b'%' | b'.' | b'/' | 0xc0 | 0xc1 | 0xe0 | 0xf0 | 0xf8 | 0xfc);
                rest = after;
            }
            b'.' => needs_settling |= previous == b'/',
            b'\\' => return Err(UnsafeTarget::Backslash),
            b'#' => return Err(UnsafeTarget::Fragment),
            b'?' => return Err(UnsafeTarget::Unrepresentable),
            0..=b' ' | 0x7f => return Err(UnsafeTarget::ControlByte),
            _ => {}
        }
        previous = byte;
    }
    if !needs_settling {
        return Ok(Inspected::default());
    }
    let settled = settle(path)?;
    judge_settled(&settled)?;
    let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    Ok(Inspected { encoded_slash: slashes(&settled) != slashes(path) })
}

/// Decodes until nothing is left to decode.
///
/// Escapes cannot overlap, so the end result does not depend on the order of decoding: working on the end of what is
/// already decoded reaches it in one pass. Decoding level by level would let `%252525…` cost its length squared.
fn settle(path: &[u8]) -> Result<Vec<u8>, UnsafeTarget> {
    let mut settled = Vec::with_capacity(path.len());
    for &byte in path {
        settled.push(byte);
        while let [.., b'%', high, low] = *settled.as_slice()
            && let Some(decoded) = decode(high, low)
        {
            refuse_decoded(decoded)?;
            settled.truncate(settled.len() - 3);
            settled.push(decoded);
        }
    }
    Ok(settled)
}

/// What would be refused at some level of decoding still stands at the last one: no byte of a dot segment, of what
/// delimits it or of an overlong form can become part of a further escape.
fn judge_settled(settled: &[u8]) -> Result<(), UnsafeTarget> {
    let is_dot_segment = |segment: &[u8]| matches!(segment, b"." | b".." | [b'.', b';', ..] | [b'.', b'.', b';', ..]);
    if settled.split(|byte| *byte == b'/').any(is_dot_segment) {
        return Err(UnsafeTarget::DotSegment);
    }
    let mut rest = settled;
    while let Some((_, after)) = rest.split_first() {
        if begins_overlong(rest) {
            return Err(UnsafeTarget::Overlong);
        }
        rest = after;
    }
    Ok(())
}

/// Whether the bytes begin with ASCII in two to six bytes of the UTF-8 pattern: `/`, `.`, `\`, `%`, controls and NUL
/// have all been smuggled this way. Other ill-formed UTF-8 passes: old callers send Latin-1.
fn begins_overlong(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xc0 | 0xc1, 0x80..=0xbf, ..]
            | [0xe0, 0x80 | 0x81, 0x80..=0xbf, ..]
            | [0xf0, 0x80, 0x80 | 0x81, 0x80..=0xbf, ..]
            | [0xf8, 0x80, 0x80, 0x80 | 0x81, 0x80..=0xbf, ..]
            | [0xfc, 0x80, 0x80, 0x80, 0x80 | 0x81, 0x80..=0xbf, ..]
    )
}

/// Bytes that must not come out of an escape at any level.
fn refuse_decoded(byte: u8) -> Result<(), UnsafeTarget> {
    match byte {
        b'\\' => Err(UnsafeTarget::Backslash),
        0..=0x1f | 0x7f => Err(UnsafeTarget::ControlByte),
        _ => Ok(()),
    }
}

/// The byte of two hexadecimal digits.
fn decode(high: u8, low: u8) -> Option<u8> {
    Some((nibble(high)? << 4) | nibble(low)?)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
