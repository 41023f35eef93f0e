//! A request on its way out over HTTP/1: its head, then its body in the framing that the head says (RFC 9112 3, 6, 7.1).

use std::fmt::{self, Write as _};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::super::form::Form;
use super::super::{RequestHead, TransferError};

/// A piece up to this long is copied behind what goes before it, so that both are one write.
const SMALL: usize = 4 * 1024;

/// With this much in hand, nothing more is taken from the body before it is written.
const ENOUGH: usize = 16 * 1024;

/// The room that is made for a head at first; a token has some hundred bytes, or a few thousand.
const ROOM: usize = 4 * 1024;

/// A request, as far as it is not written.
pub(super) struct Outgoing<B> {
    /// Heads, framing, and small pieces of the body.
    text: BytesMut,
    /// A large piece behind them, and what ends its chunk.
    piece: Bytes,
    end: &'static [u8],
    /// None: all of it was taken.
    body: Option<B>,
    framing: Framing,
    is_flushed: bool,
    /// The body is not what the head says, or has failed.
    is_broken: bool,
}

/// Without what is written: a credential is in it.
impl<B> fmt::Debug for Outgoing<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}

/// How the body is delimited.
enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

impl<B> Outgoing<B> {
    /// Nothing to write.
    pub(super) fn new() -> Self {
        Self {
            text: BytesMut::new(),
            piece: Bytes::new(),
            end: b"",
            body: None,
            framing: Framing::Length(0),
            is_flushed: true,
            is_broken: false,
        }
    }

    /// Whether all of it was written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written() && self.is_flushed && !self.is_broken
    }

    fn is_written(&self) -> bool {
        self.text.is_empty() && self.piece.is_empty() && self.end.is_empty()
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.text.extend_from_slice(name.as_str().as_bytes());
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value.as_bytes());
        self.text.extend_from_slice(b"\r\n");
    }
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Begins with a request, in the form that its connection needs.
    pub(super) fn begin(&mut self, head: RequestHead<'_>, form: &Form, body: B) {
        let exact = body.size_hint().exact();
        let body = (!body.is_end_stream()).then_some(body);
        self.is_flushed = false;
        self.text.reserve(ROOM);
        self.text.extend_from_slice(head.method.as_str().as_bytes());
        self.text.extend_from_slice(b" ");
        if let Some(authority) = form.origin() {
            self.text.extend_from_slice(b"http://");
            self.text.extend_from_slice(authority.as_str().as_bytes());
        }
        self.text.extend_from_slice(head.target.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes());
        self.text.extend_from_slice(b" HTTP/1.1\r\n");
        let mut known = None;
        for (name, value) in head.fields() {
            // How the body is framed is said below, and by us alone.
            if *name == TRANSFER_ENCODING || (*name == PROXY_AUTHORIZATION && form.is_for_proxy()) {
                continue;
            }
            if *name == CONTENT_LENGTH {
                known = value.to_str().ok().and_then(|length| length.parse().ok());
                continue;
            }
            self.field(name, value);
        }
        if let Some(credentials) = form.credentials() {
            self.field(&PROXY_AUTHORIZATION, credentials);
        }
        let length = match &body {
            None => known,
            Some(_) => known.or(exact),
        };
        self.framing = match length {
            Some(length) => {
                put(&mut self.text, format_args!("content-length: {length}\r\n"));
                Framing::Length(length)
            }
            None if body.is_none() => Framing::Length(0),
            None => {
                self.text.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Framing::Chunked
            }
        };
        // Never sent: the next request on the connection would be taken for what is missing.
        self.is_broken = body.is_none() && !matches!(self.framing, Framing::Length(0));
        self.text.extend_from_slice(b"\r\n");
        self.body = body;
    }

    /// Writes what can be written; ready when nothing is left.
    ///
    /// # Errors
    /// When the body fails or is not as long as the head says, or the connection fails.
    pub(super) fn poll<IO: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut IO,
    ) -> Poll<Result<(), TransferError>> {
        if self.is_broken {
            return Poll::Ready(Err(not_as_long("shorter")));
        }
        loop {
            self.gather(cx).inspect_err(|_| self.is_broken = true)?;
            if !self.is_written() {
                ready!(self.poll_write(cx, io)).map_err(TransferError::Io)?;
                continue;
            }
            if !self.is_flushed {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(TransferError::Io)?;
                self.is_flushed = true;
            }
            return if self.body.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }

    /// Takes from the body what is there, as far as there is room for it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), TransferError> {
        while let Some(body) = &mut self.body
            && self.piece.is_empty()
            && self.end.is_empty()
            && self.text.len() < ENOUGH
        {
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.finish(None)?,
                Poll::Ready(Some(Err(error))) => return Err(TransferError::RequestBody(error.into())),
                Poll::Ready(Some(Ok(frame))) => self.add(frame)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, frame: Frame<Bytes>) -> Result<(), TransferError> {
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => return self.finish(frame.into_trailers().ok()),
        };
        if !piece.is_empty() {
            self.is_flushed = false;
            match &mut self.framing {
                Framing::Length(left) => {
                    let length = piece.len() as u64;
                    *left = left.checked_sub(length).ok_or_else(|| not_as_long("longer"))?;
                }
                Framing::Chunked => {
                    put(&mut self.text, format_args!("{:x}\r\n", piece.len()));
                    self.end = b"\r\n";
                }
            }
            if piece.len() <= SMALL {
                self.text.extend_from_slice(&piece);
                self.text.extend_from_slice(self.end);
                self.end = b"";
            } else {
                self.piece = piece;
            }
        }
        // Asked here, the end goes out with the last piece.
        if self.body.as_ref().is_some_and(Body::is_end_stream) { self.finish(None) } else { Ok(()) }
    }

    /// The body has ended.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), TransferError> {
        self.body = None;
        self.is_flushed = false;
        match (&self.framing, trailers) {
            (Framing::Length(0), _) => {}
            (Framing::Length(_), _) => return Err(not_as_long("shorter")),
            (Framing::Chunked, None) if self.end.is_empty() => self.text.extend_from_slice(b"0\r\n\r\n"),
            (Framing::Chunked, None) => self.end = b"\r\n0\r\n\r\n",
            // They come as a frame of their own, when the last piece is written.
            (Framing::Chunked, Some(trailers)) => {
                self.text.extend_from_slice(b"0\r\n");
                for (name, value) in &trailers {
                    self.field(name, value);
                }
                self.text.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn poll_write<IO: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, io: &mut IO) -> Poll<io::Result<()>> {
        let io = Pin::new(io);
        let mut written = if self.piece.is_empty() && self.end.is_empty() {
            ready!(io.poll_write(cx, &self.text))?
        } else {
            let parts = [&self.text[..], &self.piece, self.end].map(IoSlice::new);
            ready!(io.poll_write_vectored(cx, &parts))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let step = written.min(self.text.len());
        self.text.advance(step);
        written -= step;
        let step = written.min(self.piece.len());
        self.piece.advance(step);
        written -= step;
        self.end = self.end.get(written..).unwrap_or_default();
        if self.text.is_empty() {
            // What was written holds a credential: nothing of it is kept longer than the connection needs it.
            self.text = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

fn not_as_long(how: &'static str) -> TransferError {
    TransferError::RequestBody(format!("the body is {how} than its head says").into())
}

fn put(text: &mut BytesMut, arguments: std::fmt::Arguments<'_>) {
    // Room is made as it is needed, so writing to memory does not fail.
    let _ = text.write_fmt(arguments);
}
