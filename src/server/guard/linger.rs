//! After the last answer: what the caller still sends is read and dropped for a while, so that the kernel does not answer
//! it with a reset that takes our answer along (RFC 9112 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// How much is dropped, and for how long.
const BYTES: usize = 64 * 1024 * 1024;
pub(super) const TIME: Duration = Duration::from_secs(2);

/// What is left of both.
pub(super) struct Linger {
    left: usize,
    sleep: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self { left: BYTES, sleep: Box::pin(tokio::time::sleep(TIME)) }
    }

    /// Ready when the caller has closed its end, or its time is over.
    pub(super) fn poll<IO: AsyncRead + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0_u8; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && self.left > 0 => {
                    self.left = self.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.sleep.as_mut().poll(cx),
            }
        }
    }
}
