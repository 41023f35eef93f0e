//! A small HTTP/2 caller that sends exactly the frames it is told to: fields as literals, neither indexed nor
//! compressed (RFC 7541 6.2.2), so that anything can be said in them.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PATIENCE, within};

/// What a connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The reason of a GOAWAY that ends a flood.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// One frame that came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The reason in a RST_STREAM or GOAWAY.
    pub(crate) fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status in an answer's HEADERS.
    pub(crate) fn status(&self) -> u16 {
        status(&self.payload)
    }
}

/// What a request came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) body: Vec<u8>,
    /// The reason of a RST_STREAM.
    pub(crate) reset: Option<u32>,
    /// The reason of a GOAWAY.
    pub(crate) goaway: Option<u32>,
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block.
pub(crate) fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value);
    }
    block
}

/// RFC 7541 5.2, 5.1: a length with a prefix of seven bits, then the bytes.
fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).unwrap() | 0x80);
            length /= 128;
        }
        block.push(u8::try_from(length).unwrap());
    }
    block.extend_from_slice(bytes);
}

/// Fields in their order.
pub(crate) type Fields<'a> = Vec<(&'a str, &'a [u8])>;

/// The pseudo-fields of a request to `localhost`.
pub(crate) fn pseudo<'a>(method: &'a str, path: &'a str) -> Fields<'a> {
    vec![(":method", method.as_bytes()), (":scheme", b"http"), (":authority", b"localhost"), (":path", path.as_bytes())]
}

/// A connection to the proxy.
pub(crate) struct Frames {
    pub(crate) stream: TcpStream,
    pending: Vec<u8>,
}

impl Frames {
    /// Connects and says nothing yet.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, pending: Vec::new() }
    }

    /// Connects, and begins with the preface and empty SETTINGS.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    /// Connects, and begins with the preface and SETTINGS with this payload.
    pub(crate) async fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        let mut frames = Self::silent(address).await;
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, settings), &frame(SETTINGS, ACK, 0, b"")].concat();
        frames.stream.write_all(&begin).await.unwrap();
        frames
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await
    }

    /// Sends a request's head.
    pub(crate) async fn request(&mut self, stream: u32, fields: &[(&str, &[u8])], flags: u8) {
        self.send(HEADERS, END_HEADERS | flags, stream, &block(fields)).await.unwrap();
    }

    /// The next frame; none when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        within("a frame or the end", PATIENCE, self.read()).await.ok()
    }

    /// The next frame, however long it takes.
    pub(crate) async fn read(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(frame);
            }
            let mut buffer = [0; 16 * 1024];
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            self.pending.extend_from_slice(&buffer[..read]);
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let header = self.pending.get(..9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = self.pending.get(9..9 + length)?.to_vec();
        let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
        let frame = Frame { kind: header[3], flags: header[4], stream, payload };
        self.pending.drain(..9 + length);
        Some(frame)
    }

    /// Reads until `stream` has its answer, was reset, or the connection was given up.
    pub(crate) async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(frame) = self.next().await {
            match frame.kind {
                GOAWAY => {
                    outcome.goaway = Some(frame.reason());
                    if frame.reason() != 0 {
                        break;
                    }
                }
                RST_STREAM if frame.stream == stream => {
                    outcome.reset = Some(frame.reason());
                    break;
                }
                HEADERS if frame.stream == stream && outcome.status.is_none() => {
                    outcome.status = Some(frame.status());
                }
                DATA if frame.stream == stream => outcome.body.extend_from_slice(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                break;
            }
        }
        outcome
    }

    /// Reads to the end of the connection; the reason of the last GOAWAY.
    pub(crate) async fn ended(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                reason = Some(frame.reason());
            }
        }
        reason
    }
}

/// The status in an answer's header block, which it begins with.
fn status(block: &[u8]) -> u16 {
    // RFC 7541 6.3: the size of the table may be said first.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block[0] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        0x08 | 0x48 if block[1] & 0x80 != 0 => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
        0x08 | 0x48 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
        other => panic!("no :status first but {other:#x}"),
    }
}

/// RFC 7541 appendix B, as far as digits go: 0 to 2 in five bits, the others in six.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u16> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let value = |bits: &[u16]| bits.iter().fold(0, |value, bit| value * 2 + bit);
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let five = value(&bits[at..at + 5]);
        let digit = if five <= 2 { five } else { value(&bits[at..at + 6]) - 0x19 + 3 };
        at += if five <= 2 { 5 } else { 6 };
        number = number * 10 + digit;
    }
    number
}
