//! The head of an answer over HTTP/1 (RFC 9112 4 to 6): strict in whatever frames the message, lenient in line ends, as
//! old servers need it (RFC 9112 2.2).

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::super::TransferError;
use super::framing::{self, Framing};

/// Longest head of an answer in bytes.
pub const LONGEST: usize = 128 * 1024;

/// Most fields of an answer, and of its trailer section.
const MOST_FIELDS: usize = 100;

/// Room for fields that are added on the way to the caller.
const OURS: usize = 4;

/// Most bytes of empty lines before an answer and its interim ones.
const MOST_EMPTY: usize = 64;

/// How far the head at hand was searched for its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Searched {
    /// Bytes that hold no end.
    bytes: usize,
    /// Bytes of empty lines that were left out.
    empty: usize,
}

/// The head of an answer, and what it says about the message and the connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) answer: Response<()>,
    pub(super) framing: Framing,
    /// Whether the server keeps the connection for another exchange (RFC 9112 9.3).
    pub(super) keeps_alive: bool,
}

/// Takes the next head from `held`, once all of it is there; `to_head`: whether it answers a HEAD. `searched` tells
/// how far it was searched.
///
/// # Errors
/// When it is no head of an answer, is too long, or its length can be read in two ways.
pub(super) fn take(held: &mut BytesMut, searched: &mut Searched, to_head: bool) -> Result<Option<Head>, TransferError> {
    if searched.bytes == 0 {
        // RFC 9112 2.2: empty lines before a message are none of it.
        loop {
            let empty = match &held[..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                // Perhaps half of one.
                [b'\r'] => return Ok(None),
                _ => break,
            };
            held.advance(empty);
            searched.empty += empty;
            if searched.empty > MOST_EMPTY {
                return Err(TransferError::Malformed("the answer begins with too many empty lines"));
            }
        }
    }
    // What came in one piece is gone through once.
    let may_be_whole = searched.bytes == 0 || framing::empty_line(held, searched.bytes).is_some();
    let lines = if may_be_whole { Lines::of(held)? } else { None };
    if lines.as_ref().map_or(held.len(), |lines| lines.end) > LONGEST {
        return Err(TransferError::Malformed("the answer's head is too long"));
    }
    let Some(lines) = lines else {
        searched.bytes = held.len();
        return Ok(None);
    };
    searched.bytes = 0;
    read(&held.split_to(lines.end).freeze(), &lines, to_head).map(Some)
}

fn read(head: &Bytes, lines: &Lines, to_head: bool) -> Result<Head, TransferError> {
    let mut fields = HeaderMap::with_capacity(lines.count + OURS);
    let mut lines = lines.all(head);
    let (version, status, reason) = status_line(lines.next().and_then(|(from, to)| head.get(from..to)))?;
    let mut framed = Framed::default();
    let mut closes = false;
    let mut stays = version == Version::HTTP_11;
    for line in lines {
        let (name, value) = field(head, line)?;
        if name == CONNECTION {
            closes |= names(&value, b"close");
            stays |= names(&value, b"keep-alive");
        } else {
            framed.note(&name, &value);
        }
        fields.append(name, value);
    }
    let framing =
        framed.framing(version).ok_or(TransferError::Malformed("the answer's length can be read in two ways"))?;
    // RFC 9112 6.3: these have no content, whatever they say.
    let has_none =
        to_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut answer = Response::new(());
    *answer.version_mut() = version;
    *answer.status_mut() = status;
    *answer.headers_mut() = fields;
    if let Some(reason) = reason {
        answer.extensions_mut().insert(reason);
    }
    Ok(Head { answer, framing: if has_none { Framing::Done } else { framing }, keeps_alive: stays && !closes })
}

/// RFC 9112 4: `HTTP-version SP status-code SP [ reason-phrase ]`; the last space may be missing. The phrase is told where
/// it is not the usual one.
fn status_line(line: Option<&[u8]>) -> Result<(Version, StatusCode, Option<ReasonPhrase>), TransferError> {
    let malformed = || TransferError::Malformed("the answer does not begin with a status line of HTTP/1");
    let (version, rest) = line.and_then(|line| line.split_at_checked(9)).ok_or_else(malformed)?;
    let version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err(malformed()),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or_else(malformed)?;
    let status = StatusCode::from_bytes(code).map_err(|_| malformed())?;
    let reason = match reason {
        [] => &[],
        [b' ', reason @ ..] => reason,
        _ => return Err(malformed()),
    };
    if status.canonical_reason().is_some_and(|usual| usual.as_bytes() == reason) {
        return Ok((version, status, None));
    }
    let reason = ReasonPhrase::try_from(reason).map_err(|_| malformed())?;
    Ok((version, status, Some(reason)))
}

/// RFC 9112 5: `field-name ":" OWS field-value OWS`. A folded line (5.2) begins with a space, which no name does.
fn field(text: &Bytes, (from, to): Line) -> Result<(HeaderName, HeaderValue), TransferError> {
    let malformed = || TransferError::Malformed("the answer has a line that is no field");
    let line = text.get(from..to).ok_or_else(malformed)?;
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
    let (name, value) = line.split_at(colon);
    let name = HeaderName::from_bytes(name).map_err(|_| malformed())?;
    let value = value.get(1..).unwrap_or_default();
    let leading = value.iter().take_while(|byte| is_space(**byte)).count();
    let trailing = value.iter().skip(leading).rev().take_while(|byte| is_space(**byte)).count();
    let value = text.slice(from + colon + 1 + leading..to - trailing);
    Ok((name, HeaderValue::from_maybe_shared(value).map_err(|_| malformed())?))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether a list of options has this one (RFC 9110 7.6.1).
fn names(value: &HeaderValue, option: &[u8]) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(option))
}

/// The fields of a trailer section, empty line included.
///
/// # Errors
/// When a line is no field, or does not end as lines of a chunked body do, or there are too many.
pub(super) fn trailers(text: &Bytes) -> Result<HeaderMap, TransferError> {
    let mut fields = HeaderMap::new();
    let mut ends = memchr::memchr_iter(b'\n', text);
    if ends.any(|end| text.get(..end).is_none_or(|before| !before.ends_with(b"\r"))) {
        return Err(TransferError::Malformed("a trailer line of the answer has no proper end"));
    }
    for line in Lines::of(text)?.iter().flat_map(|lines| lines.all(text)) {
        let (name, value) = field(text, line)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// Where a line begins and ends, its end aside.
type Line = (usize, usize);

/// The lines of a section, up to the empty one.
struct Lines {
    /// Where each begins, and behind the last where the empty one does.
    starts: [u32; MOST_FIELDS + 2],
    count: usize,
    /// The index behind the empty line.
    end: usize,
}

impl Lines {
    /// Those of the section at the start of `text`, once all of it is there.
    fn of(text: &[u8]) -> Result<Option<Self>, TransferError> {
        let mut lines = Self { starts: [0; MOST_FIELDS + 2], count: 0, end: 0 };
        let mut from = 0;
        while let Some(rest) = text.get(from..)
            && let Some(length) = memchr::memchr(b'\n', rest)
        {
            lines.end = from + length + 1;
            if matches!(rest.get(..length), Some([] | [b'\r'])) {
                return Ok(Some(lines));
            }
            from = lines.end;
            let next = lines.starts.get_mut(lines.count + 1).zip(u32::try_from(from).ok());
            let (next, start) = next.ok_or(TransferError::Malformed("the answer has too many fields"))?;
            *next = start;
            lines.count += 1;
        }
        Ok(None)
    }

    fn all(&self, text: &[u8]) -> impl Iterator<Item = Line> {
        let starts = self.starts.get(..=self.count).unwrap_or_default();
        starts.windows(2).map(|ends| {
            let [from, next] = ends else { return (0, 0) };
            let (from, to) = (*from as usize, *next as usize - 1);
            let is_returned = text.get(from..to).is_some_and(|line| line.ends_with(b"\r"));
            (from, to - usize::from(is_returned))
        })
    }
}

/// What the fields say about the length of the message.
#[derive(Default)]
struct Framed {
    length: Option<u64>,
    is_chunked: bool,
    /// It can be read in two ways, or in none (RFC 9112 6.1, 6.3). None of that is ours to repair: two lengths, even equal
    /// ones, a list of them, a length beside a coding, a coding that is not known here, or any in HTTP/1.0.
    is_broken: bool,
}

impl Framed {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == CONTENT_LENGTH {
            self.is_broken |= self.length.is_some();
            self.length = number(value.as_bytes());
            self.is_broken |= self.length.is_none();
        } else if *name == TRANSFER_ENCODING {
            self.is_broken |= self.is_chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked");
            self.is_chunked = true;
        }
    }

    fn framing(&self, version: Version) -> Option<Framing> {
        match (self.is_chunked, self.length) {
            _ if self.is_broken => None,
            (true, None) => (version == Version::HTTP_11).then(Framing::chunked),
            (true, Some(_)) => None,
            (false, Some(length)) => Some(Framing::length(length)),
            (false, None) => Some(Framing::UntilClose),
        }
    }
}

/// RFC 9110 8.6
fn number(digits: &[u8]) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    value.filter(|_| !digits.is_empty())
}
