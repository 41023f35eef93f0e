//! How a connection begins: the TLS handshake where the listener has TLS, then the bytes that tell HTTP/2 from HTTP/1
//! (RFC 9113 3.3, 3.4). What was read is read once more by what serves the connection.
//!
//! The deadline is the worker's.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::connection::{Protocol, Secured};
use super::socket::Socket;
use crate::tls::{Agreed, Fault, Terminator, Trust};

/// What an HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that has begun.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) protocol: Protocol,
    pub(super) secured: Option<Secured>,
    /// How long the caller's certificate counts.
    pub(super) trust: Option<Trust>,
}

/// Opens a connection without TLS.
pub(super) async fn plain(mut socket: Socket) -> io::Result<Opened> {
    let protocol = sniff(&mut socket).await?;
    Ok(Opened { socket, protocol, secured: None, trust: None })
}

/// Opens a connection with TLS.
pub(super) async fn secure(socket: Socket, terminator: &Terminator) -> io::Result<Opened> {
    let shaken = match terminator.accept(socket).await {
        Ok(shaken) => shaken,
        Err(error) => {
            tracing::debug!(fault = %Fault::of(&error), "a caller's TLS handshake failed");
            return Err(error);
        }
    };
    let mut socket = Socket::inside(shaken.stream);
    let protocol = match (shaken.alpn, sniff(&mut socket).await?) {
        (Agreed::Http2, Protocol::Http1) => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP/2 although it was agreed on"));
        }
        // The guard refuses a preface as what it is then: a request of an unknown version.
        (Agreed::Http1, _) => Protocol::Http1,
        (Agreed::Http2 | Agreed::None, protocol) => protocol,
    };
    let secured = Some(Secured { certificate: shaken.certificate });
    Ok(Opened { socket, protocol, secured, trust: shaken.trust })
}

/// Reads until the bytes differ from the preface or all of it is there.
async fn sniff(socket: &mut Socket) -> io::Result<Protocol> {
    let mut ahead = BytesMut::new();
    let protocol = poll_fn(|cx| {
        loop {
            // On the stack: a connection that waits for its first request holds no buffer.
            let mut space = [MaybeUninit::<u8>::uninit(); 1024];
            let mut buf = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
            ahead.extend_from_slice(buf.filled());
            if let Some(protocol) = protocol(&ahead) {
                return Poll::Ready(Ok(protocol));
            }
        }
    })
    .await?;
    socket.rewind(ahead);
    Ok(protocol)
}

/// What begins with `bytes`; none when that cannot be told yet.
fn protocol(bytes: &[u8]) -> Option<Protocol> {
    let both = bytes.iter().zip(PREFACE);
    if both.into_iter().any(|(byte, expected)| byte != expected) {
        Some(Protocol::Http1)
    } else if bytes.len() >= PREFACE.len() {
        Some(Protocol::Http2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{PREFACE, protocol};
    use crate::server::Protocol;

    #[test]
    fn the_first_byte_that_differs_from_the_preface_decides() {
        assert_eq!(protocol(b""), None);
        for length in 1..PREFACE.len() {
            assert_eq!(protocol(&PREFACE[..length]), None);
        }
        assert_eq!(protocol(PREFACE), Some(Protocol::Http2));
        assert_eq!(protocol(&[PREFACE, b"\0\0\0\x04"].concat()), Some(Protocol::Http2));
        for bytes in [&b"G"[..], b"PO", b"PRI * HTTP/2.0\r\n\r\nXX", b"PRI * HTTP/1.1\r\n", b"\x16\x03\x01"] {
            assert_eq!(protocol(bytes), Some(Protocol::Http1), "{}", bytes.escape_ascii());
        }
    }
}
