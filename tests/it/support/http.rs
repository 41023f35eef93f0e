//! A small HTTP/1.1 caller that sends exactly the bytes it is told to and shows exactly what came back.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{PATIENCE, within};

/// An answer, interim ones left out.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// The head as it came on the wire.
    pub(crate) head: String,
    /// The body, transfer coding removed.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field, when there is exactly one.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() < 2, "more than one {name} in:\n{}", self.head);
        values.first().copied()
    }

    /// The values of a field, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in: {}", self.text()))
    }

    /// Head and body as text.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }

    /// Whether the connection ends with this answer.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// How the end of a body is found, RFC 9112 6.3.
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// A connection to a server.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub(crate) async fn finish_sending(&mut self) -> Result<()> {
        self.stream.shutdown().await
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.send(request).await?;
        self.answer(!request.starts_with(b"HEAD ")).await
    }

    /// Reads a whole answer; to HEAD it has no body.
    pub(crate) async fn answer(&mut self, may_have_body: bool) -> Result<Answer> {
        let mut answer = self.head().await?;
        if may_have_body {
            let mut body = Vec::new();
            self.body(&answer, |part| body.extend_from_slice(part)).await?;
            answer.body = body;
        }
        Ok(answer)
    }

    /// Reads the head of a final answer and leaves its body on the wire.
    pub(crate) async fn head(&mut self) -> Result<Answer> {
        loop {
            let head = self.any_head().await?;
            let status = head.get(9..12).and_then(|status| status.parse().ok());
            let status: u16 = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, head.clone()))?;
            if status >= 200 {
                return Ok(Answer { status, head, body: Vec::new() });
            }
        }
    }

    /// Reads the next head as it comes, that of an interim answer too.
    pub(crate) async fn any_head(&mut self) -> Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.stream.read_line(&mut head);
            if within("an answer's head comes", PATIENCE, line).await? == 0 {
                return Err(Error::new(ErrorKind::UnexpectedEof, format!("in an answer's head: {head:?}")));
            }
        }
        Ok(head)
    }

    /// Reads so many bytes of what is on the wire.
    pub(crate) async fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        within("bytes come", PATIENCE, self.stream.read_exact(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Reads what is on the wire to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        within("the connection ends", PATIENCE, self.stream.read_to_end(&mut bytes)).await?;
        Ok(bytes)
    }

    /// Reads one line of a body that is being streamed, chunk framing and all.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        Ok(line)
    }

    /// Reads a body piece by piece, keeping none of it; returns its length.
    pub(crate) async fn body(&mut self, head: &Answer, mut sink: impl FnMut(&[u8])) -> Result<u64> {
        match framing(head) {
            Framing::Length(length) => self.part(length, &mut sink).await,
            Framing::Close => {
                let mut total = 0;
                loop {
                    let part = self.stream.fill_buf().await?;
                    let length = part.len();
                    if length == 0 {
                        return Ok(total);
                    }
                    sink(part);
                    self.stream.consume(length);
                    total += length as u64;
                }
            }
            Framing::Chunked => {
                let mut total = 0;
                loop {
                    let line = self.line().await?;
                    let size = u64::from_str_radix(line.trim_end(), 16)
                        .map_err(|_| Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
                    total += self.part(size, &mut sink).await?;
                    while self.line().await?.trim_end() != "" {}
                    if size == 0 {
                        return Ok(total);
                    }
                }
            }
        }
    }

    async fn part(&mut self, length: u64, sink: &mut impl FnMut(&[u8])) -> Result<u64> {
        let mut left = length;
        while left > 0 {
            let part = self.stream.fill_buf().await?;
            if part.is_empty() {
                return Err(Error::new(ErrorKind::UnexpectedEof, format!("{left} bytes of the body are missing")));
            }
            let taken = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&part[..taken]);
            self.stream.consume(taken);
            left -= taken as u64;
        }
        Ok(length)
    }

    /// Whether the other end closes the connection without sending anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let read = within("the connection is closed", PATIENCE, self.stream.read(&mut byte)).await;
        matches!(read, Ok(0) | Err(_))
    }
}

fn framing(head: &Answer) -> Framing {
    if matches!(head.status, 204 | 304) {
        return Framing::Length(0);
    }
    if head.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    head.field("content-length").and_then(|length| length.parse().ok()).map_or(Framing::Close, Framing::Length)
}

/// The values of a field in a head, in order.
pub(crate) fn fields<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

/// The bytes of a request; a body that is not empty, and that of a POST, gets its length.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    Connection::open(address).await?.exchange(&request("GET", target, &[], b"")).await
}

/// One POST on a connection of its own.
pub(crate) async fn post(address: SocketAddr, target: &str, body: &[u8]) -> Result<Answer> {
    Connection::open(address).await?.exchange(&request("POST", target, &[], body)).await
}
