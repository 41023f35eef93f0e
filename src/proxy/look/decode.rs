//! Removes content codings (RFC 9110 8.4.1) from the beginning of a body, piece by piece and within bounds: nothing
//! decodes to more than is asked for, however well it was packed.

use std::borrow::Cow;
use std::io::{Error, ErrorKind, Result, Write};

use brotli_decompressor::{BrotliDecoderParameter, DecompressorWriter};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// Codings one over the other that are removed; nobody means more.
const MOST_CODINGS: usize = 3;
/// What the brotli decoder writes at a time.
const BROTLI_BUFFER: usize = 4 * 1024;

/// Decodes one body.
pub(super) struct Decoder {
    /// The outermost first.
    codings: Vec<Coding>,
    decoded: Vec<u8>,
    most: usize,
    /// Set when there is more than fits, or what came cannot be decoded.
    is_cut: bool,
}

enum Coding {
    Gzip(MultiGzDecoder<Sink>),
    Deflate(Deflate),
    Brotli(Box<DecompressorWriter<Sink>>),
}

/// `deflate` means the zlib format; some send the bare one (RFC 9110 8.4.1.2). The first two bytes tell.
enum Deflate {
    Open { head: Vec<u8>, most: usize },
    Zlib(ZlibDecoder<Sink>),
    Bare(DeflateDecoder<Sink>),
}

impl Decoder {
    /// For a body with these fields: keeps `most` bytes of it, and `most_between` where one coding lies over another.
    /// None for a coding that is not known, and for more codings than anybody means.
    pub(super) fn of(headers: &HeaderMap, most: usize, most_between: usize) -> Option<Self> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let names = value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names.filter(|name| !name.eq_ignore_ascii_case("identity")) {
                // Before a decoder is made, which costs kilobytes: upstreams choose how long the list is.
                if codings.len() == MOST_CODINGS {
                    return None;
                }
                let most = if codings.is_empty() { most } else { most_between };
                codings.push(Coding::of(name, most)?);
            }
        }
        // Listed in the order in which they were applied.
        codings.reverse();
        Some(Self { codings, decoded: Vec::new(), most, is_cut: false })
    }

    /// Decodes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut bytes = Cow::Borrowed(piece);
        for coding in &mut self.codings {
            if bytes.is_empty() {
                return;
            }
            let (decoded, poured) = coding.push(&bytes);
            self.is_cut |= poured.is_err();
            bytes = Cow::Owned(decoded);
        }
        let room = self.most - self.decoded.len();
        self.is_cut |= bytes.len() > room;
        self.decoded.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
    }

    /// What was decoded.
    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// Whether that is all that the pieces hold.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_cut
    }
}

impl Coding {
    /// RFC 9110 8.4.1: names in any case, `x-gzip` for `gzip`.
    fn of(name: &str, most: usize) -> Option<Self> {
        let sink = || Sink { bytes: Vec::new(), left: most };
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(sink()))),
            "deflate" => Some(Self::Deflate(Deflate::Open { head: Vec::new(), most })),
            "br" => {
                let mut decoder = DecompressorWriter::new(sink(), BROTLI_BUFFER);
                // RFC 7932 ends at windows of 16 MiB, which grow as they fill; larger ones would be another coding.
                decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                Some(Self::Brotli(Box::new(decoder)))
            }
            _ => None,
        }
    }

    /// What `piece` decodes to, as far as it does.
    fn push(&mut self, piece: &[u8]) -> (Vec<u8>, Result<()>) {
        match self {
            Self::Gzip(decoder) => {
                let poured = pour(decoder, piece);
                (std::mem::take(&mut decoder.get_mut().bytes), poured)
            }
            Self::Brotli(decoder) => {
                let poured = pour(&mut **decoder, piece);
                (std::mem::take(&mut decoder.get_mut().bytes), poured)
            }
            Self::Deflate(deflate) => deflate.push(piece),
        }
    }
}

impl Deflate {
    fn push(&mut self, piece: &[u8]) -> (Vec<u8>, Result<()>) {
        match self {
            Self::Open { head, most } => {
                head.extend_from_slice(piece);
                let [first, second, ..] = **head else { return (Vec::new(), Ok(())) };
                let sink = Sink { bytes: Vec::new(), left: *most };
                let head = std::mem::take(head);
                // RFC 1950 2.2: the method, and a check over both bytes.
                let is_zlib = first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
                *self =
                    if is_zlib { Self::Zlib(ZlibDecoder::new(sink)) } else { Self::Bare(DeflateDecoder::new(sink)) };
                self.push(&head)
            }
            Self::Zlib(decoder) => {
                let poured = pour(decoder, piece);
                (std::mem::take(&mut decoder.get_mut().bytes), poured)
            }
            Self::Bare(decoder) => {
                let poured = pour(decoder, piece);
                (std::mem::take(&mut decoder.get_mut().bytes), poured)
            }
        }
    }
}

/// Decodes a piece and everything that can be told after it.
fn pour(decoder: &mut impl Write, piece: &[u8]) -> Result<()> {
    decoder.write_all(piece)?;
    decoder.flush()
}

/// Takes what a decoder writes, until it is full: that fails, and ends the decoding.
struct Sink {
    bytes: Vec<u8>,
    left: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let taken = bytes.get(..self.left).unwrap_or(bytes);
        if taken.is_empty() && !bytes.is_empty() {
            return Err(Error::from(ErrorKind::WriteZero));
        }
        self.bytes.extend_from_slice(taken);
        self.left -= taken.len();
        Ok(taken.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
