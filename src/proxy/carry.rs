//! Bytes both ways between a caller and a far end once HTTP is no longer spoken: a tunnel, or another protocol.
//!
//! Each side may end its half on its own. The record of the exchange stays open until both have. Not here: how it came
//! to that, which is `tunnel`'s and `upgrade`'s part.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::Instant;

use super::record::OpenRecord;
use crate::server::{Distrust, Watch};

/// One buffer for each direction.
const BUFFER: usize = 8 * 1024;

/// How long bytes are carried.
#[derive(Debug, Default)]
pub(super) struct Until {
    /// Longest pause while both sides may still speak.
    pub(super) idle: Option<Duration>,
    /// Longest pause once one side has said that it will say no more.
    pub(super) half_closed: Option<Duration>,
    /// When the exchange is over, whatever passes.
    pub(super) end: Option<Instant>,
    /// When nobody vouches for the caller any more.
    pub(super) distrust: Option<Distrust>,
}

/// The record of what is carried.
pub(super) struct Carriage {
    open: OpenRecord,
    passed: Arc<Passed>,
}

/// What passed the caller's end.
#[derive(Debug, Default)]
struct Passed {
    from_caller: AtomicU64,
    to_caller: AtomicU64,
    /// Whether one side has ended its half.
    is_half_closed: AtomicBool,
}

impl Passed {
    fn all(&self) -> u64 {
        self.from_caller.load(Ordering::Relaxed) + self.to_caller.load(Ordering::Relaxed)
    }
}

impl Carriage {
    /// Nothing carried yet.
    pub(super) fn new(open: OpenRecord) -> Self {
        Self { open, passed: Arc::default() }
    }

    /// Carries bytes until both sides have ended, one fails, or a limit is reached. `early` is what the far end said
    /// before the caller could hear it.
    pub(super) async fn carry<N, F>(&mut self, near: N, (far, early): (F, Bytes), until: Until)
    where
        N: AsyncRead + AsyncWrite + Unpin,
        F: AsyncRead + AsyncWrite + Unpin,
    {
        let near = Metered { io: near, passed: Arc::clone(&self.passed) };
        let error = carry(near, (far, early), until).await;
        self.ended(error);
    }

    /// Notes why it is over; none: both sides have ended.
    pub(super) fn ended(&mut self, error: Option<&'static str>) {
        self.open.record.error = error;
    }
}

/// The result is why it is over, if not because both sides have ended.
async fn carry<N, F>(mut near: Metered<N>, (mut far, early): (F, Bytes), until: Until) -> Option<&'static str>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let meter = Arc::clone(&near.passed);
    let mut copying = pin!(async {
        near.write_all(&early).await?;
        copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await
    });
    let mut watch = Watch::default();
    let mut seen = 0;
    let carrying = poll_fn(|cx| {
        if let Poll::Ready(copied) = copying.as_mut().poll(cx) {
            return Poll::Ready(copied.err().map(|_| "connection_terminated"));
        }
        let is_half_closed = meter.is_half_closed.load(Ordering::Relaxed);
        let Some(idle) = (if is_half_closed { until.half_closed } else { until.idle }) else {
            return Poll::Pending;
        };
        let passed = meter.all();
        if passed != seen {
            seen = passed;
            watch.rest();
        }
        watch.poll_expired(cx, is_half_closed, idle).map(|()| Some("connection_read_timeout"))
    });
    let end = async {
        match until.end {
            None => std::future::pending().await,
            Some(end) => tokio::time::sleep_until(end).await,
        }
    };
    let distrusted = async {
        match until.distrust {
            None => std::future::pending().await,
            Some(distrust) => distrust.over().await,
        }
    };
    tokio::select! {
        biased;
        error = carrying => error,
        () = end => Some("http_response_timeout"),
        () = distrusted => Some("http_request_denied"),
    }
}

impl Drop for Carriage {
    fn drop(&mut self) {
        self.open.record.bytes_in = self.passed.from_caller.load(Ordering::Relaxed);
        self.open.record.bytes_out = self.passed.to_caller.load(Ordering::Relaxed);
    }
}

/// The caller's end, counting.
struct Metered<IO> {
    io: IO,
    passed: Arc<Passed>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        this.passed.from_caller.fetch_add(came as u64, Ordering::Relaxed);
        if came == 0 && matches!(read, Poll::Ready(Ok(()))) {
            this.passed.is_half_closed.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
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

    /// The far end has nothing more to say.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.passed.is_half_closed.store(true, Ordering::Relaxed);
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    /// The two ends of what is carried, and what it came to.
    fn carried(until: Until, early: &'static [u8]) -> (DuplexStream, DuplexStream, JoinHandle<Option<&'static str>>) {
        let ((caller, near), (far, upstream)) = (duplex(64), duplex(64));
        let near = Metered { io: near, passed: Arc::default() };
        let carrying = tokio::spawn(carry(near, (far, Bytes::from_static(early)), until));
        (caller, upstream, carrying)
    }

    fn tunnel() -> Until {
        Until { idle: Some(HOUR), half_closed: Some(MINUTE), ..Until::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_within_the_limit_ends_nothing_and_a_longer_one_does() {
        let (mut caller, mut upstream, carrying) = carried(tunnel(), b"");
        let mut bytes = [0; 1];
        for _ in 0..3 {
            sleep(HOUR - MINUTE).await;
            caller.write_all(b"a").await.unwrap();
            upstream.read_exact(&mut bytes).await.unwrap();
            sleep(HOUR - MINUTE).await;
            upstream.write_all(b"b").await.unwrap();
            caller.read_exact(&mut bytes).await.unwrap();
        }
        let last = Instant::now();
        assert_eq!(carrying.await.unwrap(), Some("connection_read_timeout"));
        assert_eq!(last.elapsed().as_secs(), HOUR.as_secs());
        assert_eq!(caller.read(&mut bytes).await.unwrap(), 0);
        assert_eq!(upstream.read(&mut bytes).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whichever_side_ends_its_half_the_other_has_a_minute_between_two_pieces() {
        for is_caller_first in [true, false] {
            let (mut caller, mut upstream, carrying) = carried(tunnel(), b"");
            sleep(MINUTE).await;
            let (ending, speaking) =
                if is_caller_first { (&mut caller, &mut upstream) } else { (&mut upstream, &mut caller) };
            ending.shutdown().await.unwrap();
            let mut bytes = [0; 1];
            for _ in 0..5 {
                sleep(MINUTE / 2).await;
                speaking.write_all(b"x").await.unwrap();
                ending.read_exact(&mut bytes).await.unwrap();
            }
            let last = Instant::now();
            assert_eq!(carrying.await.unwrap(), Some("connection_read_timeout"), "{is_caller_first}");
            assert_eq!(last.elapsed().as_secs(), MINUTE.as_secs(), "{is_caller_first}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_does_not_read_what_came_early_has_no_more_time() {
        let (_caller, _upstream, carrying) = carried(tunnel(), &[b'x'; 100]);
        let began = Instant::now();
        assert_eq!(carrying.await.unwrap(), Some("connection_read_timeout"));
        assert_eq!(began.elapsed().as_secs(), HOUR.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_pause_may_last() {
        let (mut caller, mut upstream, carrying) = carried(Until::default(), b"");
        sleep(24 * HOUR).await;
        upstream.write_all(b"b").await.unwrap();
        upstream.shutdown().await.unwrap();
        sleep(24 * HOUR).await;
        let mut bytes = [0; 1];
        caller.read_exact(&mut bytes).await.unwrap();
        drop((caller, upstream));
        assert_eq!(carrying.await.unwrap(), None);
    }
}
