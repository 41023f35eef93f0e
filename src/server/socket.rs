//! A caller's socket, TCP or Unix, on its way from whoever accepts to a worker and there, with TLS around it or
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
pub(super) const UNSENT: u32 = 128 * 1024;

/// The same for a caller that has to show that it reads: to fill more for thousands that do not keeps others waiting.
const UNSENT_TO_STRANGERS: u32 = 4 * 1024;

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
    /// Bytes that the caller has to take before the kernel may hold as much for it as for others.
    unproven: usize,
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
        Self { stream, unproven: 0, ahead: BytesMut::new() }
    }

    /// Has the kernel hold little of an answer until the caller has taken so many bytes.
    pub(super) fn distrust(&mut self, bytes: usize) {
        self.unproven = bytes;
        self.limit_unsent(UNSENT_TO_STRANGERS);
    }

    /// Notes what the kernel took.
    fn took(&mut self, written: &Poll<io::Result<usize>>) {
        if self.unproven > 0
            && let Poll::Ready(Ok(bytes)) = written
        {
            self.unproven = self.unproven.saturating_sub(*bytes);
            if self.unproven == 0 {
                self.limit_unsent(UNSENT);
            }
        }
    }

    /// Not every system has this option.
    fn limit_unsent(&self, most: u32) {
        if let Stream::Tcp(stream) = &self.stream {
            let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(most);
        }
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
    ($socket:expr, $stream:ident => $call:expr) => {
        match &mut $socket.stream {
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
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = each!(this, stream => Pin::new(stream).poll_write(cx, buf));
        this.took(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = each!(this, stream => Pin::new(stream).poll_write_vectored(cx, bufs));
        this.took(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            Stream::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// For a caller that reads, the kernel may hold more again.
    #[tokio::test]
    async fn a_caller_that_takes_its_answer_is_trusted_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().unwrap();
        let (mut socket, _) = Accepted::Tcp(stream, peer).register().unwrap();
        let most = |socket: &Socket| {
            let Stream::Tcp(stream) = &socket.stream else { panic!() };
            SockRef::from(stream).tcp_notsent_lowat().unwrap()
        };
        socket.distrust(10_000);
        for _ in 0..10 {
            assert_eq!(most(&socket), UNSENT_TO_STRANGERS);
            socket.write_all(&[b'x'; 1000]).await.unwrap();
            caller.read_exact(&mut [0; 1000]).await.unwrap();
        }
        assert_eq!(most(&socket), UNSENT);
    }
}
