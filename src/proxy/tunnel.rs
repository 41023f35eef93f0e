//! A tunnel that a caller asked for (`CONNECT`, RFC 9110 9.3.6): bytes both ways, unread, until one side has nothing
//! more to say and the other has said the rest. No credential is ever in one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::record::OpenRecord;
use super::settings::Timeouts;
use super::stop::{self, Stop};
use crate::answer::{Failure, REQUEST_ID};
use crate::body::{self, AnswerBody};
use crate::connect::Stream;
use crate::upstream::{CheckoutError, Endpoint};

/// Open at its far end, waiting for the caller to be told.
pub(super) struct Tunnel {
    far: Stream,
    /// What the far end said before the caller could hear it.
    early: Bytes,
    near: OnUpgrade,
}

impl Tunnel {
    /// Opens the far end. `near` becomes the caller's connection once it was answered.
    pub(super) async fn open(endpoint: &Endpoint, near: Option<OnUpgrade>) -> Result<Self, Stop> {
        let near = near.ok_or_else(|| Stop::new(Failure::Internal))?;
        let far = endpoint.tunnel(Timeouts::default().connect).await;
        let (far, early) = far.map_err(|error| stop::checkout(&CheckoutError::from(error)))?;
        Ok(Self { far, early, near })
    }

    /// The answer after which the caller's connection is the tunnel. Its record closes with it.
    pub(super) fn answer(self, mut open: OpenRecord) -> Response<AnswerBody> {
        let mut answer = Response::new(body::empty());
        open.record.status = answer.status().as_u16();
        if let Ok(id) = HeaderValue::from_str(&open.record.id) {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        // It ends with its sockets, of which the worker waits for the caller's.
        tokio::spawn(self.carry(open));
        answer
    }

    async fn carry(self, open: OpenRecord) {
        let Self { mut far, early, near } = self;
        let mut near = match near.await {
            Ok(near) => Counted { io: TokioIo::new(near), open },
            Err(error) => {
                tracing::debug!(%error, "a caller was gone before its tunnel was open");
                return;
            }
        };
        let carrying = async {
            near.write_all(&early).await?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await
        };
        if let Err(error) = carrying.await {
            tracing::debug!(%error, "a tunnel ended early");
        }
    }
}

/// The caller's end, with the record that counts what passes.
struct Counted<IO> {
    io: IO,
    open: OpenRecord,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        this.open.record.bytes_in += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        this.open.record.bytes_out += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
