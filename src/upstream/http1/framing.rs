//! How the content of an answer over HTTP/1 is delimited, and how far it was read (RFC 9112 6.3, 7.1).

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;

use super::super::TransferError;
use super::head;

/// Longest line with a chunk's size, and longest trailer section, in bytes.
const LONGEST_LINE: usize = 4 * 1024;
const LONGEST_TRAILERS: usize = 32 * 1024;

/// What is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing.
    Done,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Whatever comes before the connection is closed.
    UntilClose,
}

/// Where in its chunks a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before the size of a chunk.
    Size,
    /// So many bytes of a chunk are to come, at least one.
    Data(u64),
    /// Before the line end behind a chunk's data.
    End,
    /// In the trailer section, whose end was not found in so many bytes.
    Trailers(usize),
}

const BROKEN: TransferError = TransferError::Malformed("the chunks of the answer are broken");

impl Framing {
    /// A body of `length` bytes.
    pub(super) fn length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// A chunked body.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked::Size)
    }

    /// How many bytes are to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Done => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// The next frame that is there as a whole, or a piece of it; none: more bytes are needed, or it is done.
    ///
    /// # Errors
    /// When the chunks are broken: nothing after that can be trusted.
    pub(super) fn next(&mut self, held: &mut BytesMut) -> Result<Option<Frame<Bytes>>, TransferError> {
        loop {
            let state = match self {
                Self::Done => return Ok(None),
                Self::UntilClose => return Ok(data(held, u64::MAX)),
                Self::Length(left) => {
                    let piece = data(held, *left);
                    *left -= length(&piece);
                    if *left == 0 {
                        *self = Self::Done;
                    }
                    return Ok(piece);
                }
                Self::Chunked(state) => state,
            };
            match state {
                Chunked::Data(left) => {
                    let piece = data(held, *left);
                    *left -= length(&piece);
                    if *left == 0 {
                        *state = Chunked::End;
                    }
                    return Ok(piece);
                }
                Chunked::Size => {
                    let Some(line) = line(held)? else { return Ok(None) };
                    *state = match size(&line)? {
                        0 => Chunked::Trailers(0),
                        size => Chunked::Data(size),
                    };
                }
                Chunked::End => {
                    let Some(line) = line(held)? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(BROKEN);
                    }
                    *state = Chunked::Size;
                }
                Chunked::Trailers(searched) => {
                    let Some(end) = section_end(held, *searched)? else {
                        *searched = held.len();
                        return Ok(None);
                    };
                    let fields = head::trailers(&held.split_to(end).freeze())?;
                    *self = Self::Done;
                    return Ok((!fields.is_empty()).then(|| Frame::trailers(fields)));
                }
            }
        }
    }
}

fn length(piece: &Option<Frame<Bytes>>) -> u64 {
    piece.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64)
}

/// At most so many of the bytes that are there.
fn data(held: &mut BytesMut, most: u64) -> Option<Frame<Bytes>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(held.len());
    (most > 0).then(|| Frame::data(held.split_to(most).freeze()))
}

/// Takes a line, without its end, once all of it is there. A line feed alone ends none: others count it as data.
fn line(held: &mut BytesMut) -> Result<Option<BytesMut>, TransferError> {
    let Some(newline) = memchr::memchr(b'\n', held.get(..held.len().min(LONGEST_LINE)).unwrap_or_default()) else {
        return if held.len() < LONGEST_LINE { Ok(None) } else { Err(BROKEN) };
    };
    let mut line = held.split_to(newline);
    held.advance(1);
    match line.split_last() {
        Some((b'\r', rest)) => line.truncate(rest.len()),
        Some(_) | None => return Err(BROKEN),
    }
    Ok(Some(line))
}

/// RFC 9112 7.1: hexadecimal digits, then an extension, which means nothing to us. Old servers fill up with spaces.
fn size(line: &[u8]) -> Result<u64, TransferError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let extension = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    if !matches!(extension, None | Some(b';')) || rest.contains(&b'\r') {
        return Err(BROKEN);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BROKEN)?;
    u64::from_str_radix(text, 16).map_err(|_| BROKEN)
}

/// The index behind the empty line that ends a trailer section, which may be all there is of it.
fn section_end(held: &[u8], searched: usize) -> Result<Option<usize>, TransferError> {
    let end = if held.starts_with(b"\r\n") { Some(2) } else { empty_line(held, searched) };
    if end.unwrap_or(held.len()) > LONGEST_TRAILERS { Err(BROKEN) } else { Ok(end) }
}

/// The index behind the first empty line after another one; `searched` bytes have none.
pub(super) fn empty_line(bytes: &[u8], searched: usize) -> Option<usize> {
    let mut from = searched.saturating_sub(2);
    loop {
        let newline = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
        match bytes.get(newline + 1..)? {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => from = newline + 1,
        }
    }
}
