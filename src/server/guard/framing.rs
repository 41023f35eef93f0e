//! Follows a request body by its length or its chunks, so that the guard knows where the next head begins
//! (RFC 9112 6.3, 7.1).

use super::head::is_token_byte;

/// Longest chunk extension and longest trailer section looked at, in bytes.
const LINE_LIMIT: usize = 4096;
const TRAILER_LIMIT: usize = 8192;

/// How a body is delimited, and how far it was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Framing(State);

/// The chunk framing is broken; nothing after it can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokenFraming;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    /// Reading the size line: the value so far, how many digits.
    Size(u64, u8),
    /// In a chunk extension: the value, how many bytes of it.
    Extension(u64, usize),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the first byte of a trailer line; bytes of trailers so far.
    TrailerStart(usize),
    TrailerName(usize),
    Trailer(usize),
    TrailerLf(usize),
    LastLf,
}

impl Framing {
    /// No body.
    pub(crate) fn none() -> Self {
        Self(State::Done)
    }

    /// A body of `length` bytes.
    pub(crate) fn length(length: u64) -> Self {
        Self(if length == 0 { State::Done } else { State::Length(length) })
    }

    /// A chunked body.
    pub(crate) fn chunked() -> Self {
        Self(State::Size(0, 0))
    }

    /// Whether a body is to come in chunks; asked before the first of its bytes.
    pub(crate) fn is_chunked(&self) -> bool {
        self.0 == State::Size(0, 0)
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Goes on once a run of data is used up.
    fn turn(&mut self) {
        if self.0 == State::Length(0) {
            self.0 = State::Done;
        } else if self.0 == State::Data(0) {
            self.0 = State::DataCr;
        }
    }

    /// Follows `bytes`; tells how many of them belong to this body.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other state reads one byte of syntax")]
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, BrokenFraming> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            match &mut self.0 {
                State::Done => break,
                State::Length(left) | State::Data(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= step as u64;
                    used += step;
                    self.turn();
                }
                _ => {
                    let byte = rest.first().copied().ok_or(BrokenFraming)?;
                    self.0 = self.0.step(byte)?;
                    used += 1;
                }
            }
        }
        Ok(used)
    }
}

impl State {
    /// One byte of chunk syntax.
    fn step(&self, byte: u8) -> Result<Self, BrokenFraming> {
        Ok(match (self, byte) {
            (Self::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if *digits < 15 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size(size * 16 + digit, digits + 1)
            }
            (Self::Size(size, 1..), b'\r') => Self::SizeLf(*size),
            (Self::Size(size, 1..), b';') => Self::Extension(*size, 0),
            (Self::Extension(size, _), b'\r') => Self::SizeLf(*size),
            (Self::Extension(size, length), b'\t' | b' '..=b'~') if *length < LINE_LIMIT => {
                Self::Extension(*size, length + 1)
            }
            (Self::SizeLf(0), b'\n') => Self::TrailerStart(0),
            (Self::SizeLf(size), b'\n') => Self::Data(*size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::TrailerStart(_), b'\r') => Self::LastLf,
            (Self::TrailerName(length), b':') => Self::Trailer(length + 1),
            (Self::TrailerStart(length) | Self::TrailerName(length), _)
                if is_token_byte(byte) && *length < TRAILER_LIMIT =>
            {
                Self::TrailerName(length + 1)
            }
            (Self::Trailer(length), b'\r') => Self::TrailerLf(*length),
            (Self::Trailer(length), b'\t' | b' '..=b'~' | 0x80..) if *length < TRAILER_LIMIT => {
                Self::Trailer(length + 1)
            }
            (Self::TrailerLf(length), b'\n') => Self::TrailerStart(*length),
            (Self::LastLf, b'\n') => Self::Done,
            _ => return Err(BrokenFraming),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn follow(bytes: &[u8]) -> Result<(usize, bool), BrokenFraming> {
        let mut framing = Framing::chunked();
        let used = framing.advance(bytes)?;
        Ok((used, framing.is_done()))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let mut framing = Framing::length(5);
        assert_eq!(framing.advance(b"abc"), Ok(3));
        assert!(!framing.is_done());
        assert_eq!(framing.advance(b"deGET /"), Ok(2));
        assert!(framing.is_done());
        assert_eq!(follow(b"3\r\nabc\r\n0\r\n\r\nGET /"), Ok((13, true)));
        assert_eq!(follow(b"3;a=\"b\"\r\nabc\r\n0;x\r\nA: b\r\nC: d\r\n\r\nrest"), Ok((33, true)));
        assert_eq!(follow(b"00a\r\n0123456789\r\n"), Ok((17, false)));
    }

    /// B23: chunks are read strictly.
    #[test]
    fn rfc_9112_7_1_chunks_are_read_strictly() {
        for bad in [
            &b"\r\n"[..],
            b"g\r\n",
            b" 3\r\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\rabc",
            b"0x3\r\n",
            b"+3\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n : x\r\n",
            b"0\r\n:\r\n",
            b"0\r\nx\r\n",
            b"0\r\nx : y\r\n",
            b"0\r\nx(y): z\r\n",
            b"0\r\n\n",
            b"3;\x00\r\n",
        ] {
            assert!(follow(bad).is_err(), "{}", bad.escape_ascii());
        }
        let mut long = b"3;".to_vec();
        long.resize(5000, b'a');
        assert!(follow(&long).is_err());
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_anywhere_changes_nothing(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
            cut in 0_usize..200,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let (first, second) = wire.split_at(cut.min(wire.len()));
            let mut framing = Framing::chunked();
            prop_assert_eq!(framing.advance(first), Ok(first.len()));
            prop_assert_eq!(framing.advance(second), Ok(second.len()));
            prop_assert!(framing.is_done());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = follow(&bytes);
        }
    }
}
