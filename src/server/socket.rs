//! A caller's socket, TCP or Unix, on its way from the accepting thread to a worker and there, with TLS around it or
//! without.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::peer::Peer;

use crate::tls;

/// Bytes of an answer that the kernel may hold for one caller beyond what is on its way.
const UNSENT: u32 = 128 * 1024;

/// An accepted socket that no runtime knows yet.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// A socket registered with the runtime of its worker.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// What was read to find out what is spoken; read once more, and gone with its last byte.
    ahead: BytesMut,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed, so that a connection without TLS does not pay for it.
    Secure(Box<tls::Stream<Socket>>),
}

impl Socket {
    fn new(stream: Stream) -> Self {
        Self { stream, ahead: BytesMut::new() }
    }

    /// What is inside TLS.
    pub(super) fn inside(stream: tls::Stream<Self>) -> Self {
        Self::new(Stream::Secure(Box::new(stream)))
    }

    /// Has `bytes`, which were read before, read once more.
    pub(super) fn rewind(&mut self, bytes: BytesMut) {
        self.ahead = bytes;
    }

    /// Reads what is ahead.
    #[cold]
    fn read_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        let step = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..step).unwrap_or_default());
        self.ahead.advance(step);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }
}

impl Accepted {
    /// The caller's IP address, IPv4-mapped ones as IPv4; none for a Unix socket.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, address) => Some(address.ip().to_canonical()),
            Self::Unix(_) => None,
        }
    }

    /// Registers the socket with the current runtime.
    pub(super) fn register(self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(stream, address) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                // Otherwise the kernel takes whole answers for callers that do not read, and nobody notices that they
                // do not. Not every system has this option.
                let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
                Ok((Socket::new(Stream::Tcp(TcpStream::from_std(stream)?)), Peer::Tcp(address)))
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(true)?;
                let stream = UnixStream::from_std(stream)?;
                let credentials = stream.peer_cred().ok();
                let peer = Peer::Unix {
                    uid: credentials.as_ref().map(tokio::net::unix::UCred::uid),
                    gid: credentials.as_ref().map(tokio::net::unix::UCred::gid),
                };
                Ok((Socket::new(Stream::Unix(stream)), peer))
            }
        }
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Secure($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            self.read_ahead(buf);
            return Poll::Ready(Ok(()));
        }
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            Stream::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
