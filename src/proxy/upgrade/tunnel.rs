//! Bytes both ways between a caller and an upstream that have switched to another protocol.
//!
//! Each side may end its half on its own. The record of the exchange stays open until both have.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::super::record::OpenRecord;
use super::super::relay::RelayLimits;
use super::super::replay::AttemptBody;
use crate::server::Watch;
use crate::upstream::Lease;

/// One buffer for each direction.
const BUFFER: usize = 8 * 1024;

/// Opens a tunnel as soon as both sides have switched, in a task of its own: it begins where the exchange's answer ends.
pub(super) fn open(
    (caller, upstream): (OnUpgrade, OnUpgrade),
    lease: Lease<AttemptBody>,
    mut open: OpenRecord,
    limits: RelayLimits,
) {
    open.body = None;
    let mut tunnel = Tunnel { open, passed: Arc::default() };
    tokio::spawn(async move {
        let (caller, upstream) = tokio::join!(caller, upstream);
        // Switched, the connection belongs to the tunnel, and the lease to nobody.
        drop(lease);
        match (caller, upstream) {
            (Ok(caller), Ok(upstream)) => tunnel.carry(caller, upstream, limits).await,
            (Err(_), _) => tunnel.ended(Some("caller_gone")),
            (Ok(_), Err(_)) => tunnel.ended(Some("connection_terminated")),
        }
    });
}

/// The record of a tunnel, and what it has carried.
struct Tunnel {
    open: OpenRecord,
    passed: Arc<Passed>,
}

/// Bytes that passed the caller's end.
#[derive(Default)]
struct Passed {
    from_caller: AtomicU64,
    to_caller: AtomicU64,
}

impl Passed {
    fn all(&self) -> u64 {
        self.from_caller.load(Ordering::Relaxed) + self.to_caller.load(Ordering::Relaxed)
    }
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one fails, or a limit is reached.
    async fn carry(&mut self, caller: Upgraded, upstream: Upgraded, limits: RelayLimits) {
        let mut caller = Metered { io: TokioIo::new(caller), passed: Arc::clone(&self.passed) };
        let mut upstream = TokioIo::new(upstream);
        let mut copying = pin!(copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER));
        let mut watch = Watch::default();
        let mut seen = 0;
        let carrying = poll_fn(|cx| {
            if let Poll::Ready(copied) = copying.as_mut().poll(cx) {
                return Poll::Ready(copied.err().map(|_| "connection_terminated"));
            }
            let Some(idle) = limits.stream_idle else { return Poll::Pending };
            let passed = self.passed.all();
            if passed != seen {
                seen = passed;
                watch.rest();
            }
            watch.poll_expired(cx, (), idle).map(|()| Some("connection_read_timeout"))
        });
        let error = match limits.end {
            None => carrying.await,
            Some(end) => tokio::time::timeout_at(end, carrying).await.unwrap_or(Some("http_response_timeout")),
        };
        self.ended(error);
    }

    fn ended(&mut self, error: Option<&'static str>) {
        self.open.record.error = error;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.open.record.bytes_in = self.passed.from_caller.load(Ordering::Relaxed);
        self.open.record.bytes_out = self.passed.to_caller.load(Ordering::Relaxed);
    }
}

/// The caller's end, counting.
struct Metered {
    io: TokioIo<Upgraded>,
    passed: Arc<Passed>,
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        this.passed.from_caller.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &written {
            this.passed.to_caller.fetch_add(*written as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
