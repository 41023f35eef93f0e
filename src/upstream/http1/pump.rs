//! An answer that came before its request was written: both go on by themselves, in a task, because whoever takes the
//! answer may stop for a while and the request must not.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::super::TransferError;
use super::super::pool::Pool;
use super::Link;

/// How long the rest of a request may take once its answer was read: nobody waits for it any more.
const FINISHING: Duration = Duration::from_secs(60);

/// The rest of such an answer. Dropped, the connection closes.
#[derive(Debug)]
pub(in crate::upstream) struct Pump {
    frames: mpsc::Receiver<Result<Frame<Bytes>, TransferError>>,
    /// How much of the answer's content is to come, where that is known.
    left: Option<u64>,
    task: Option<AbortHandle>,
}

impl Pump {
    /// Goes on with both; the connection returns to `pool`, if there is one, when both have ended.
    pub(in crate::upstream) fn new<B>(link: Box<Link<B>>, pool: Option<Arc<Pool<B>>>) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let left = link.left();
        let (frames, taken) = mpsc::channel(1);
        let task = tokio::spawn(run(link, frames, pool));
        Self { frames: taken, left, task: Some(task.abort_handle()) }
    }

    /// How much of the answer's content is to come, where that is known.
    pub(in crate::upstream) fn left(&self) -> Option<u64> {
        self.left
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        let frame = ready!(self.frames.poll_recv(cx));
        match (&frame, &mut self.left) {
            (None, left) => *left = Some(0),
            (Some(Ok(frame)), Some(left)) => *left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(*left),
            (Some(_), _) => {}
        }
        Poll::Ready(frame)
    }

    /// The answer was taken, and the request has been read: what is left to write, the task writes.
    pub(in crate::upstream) fn release(mut self) {
        self.task = None;
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run<B>(
    mut link: Box<Link<B>>,
    frames: mpsc::Sender<Result<Frame<Bytes>, TransferError>>,
    pool: Option<Arc<Pool<B>>>,
) where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut is_writing = true;
    let mut write = |link: &mut Link<B>, cx: &mut Context<'_>| {
        let written = if is_writing { link.poll_written(cx) } else { Poll::Pending };
        is_writing &= written.is_pending();
        match written {
            // The caller has failed. That the connection takes no more is no reason to keep its answer back.
            Poll::Ready(Err(error @ TransferError::RequestBody(_))) => Some(error),
            Poll::Ready(_) | Poll::Pending => None,
        }
    };
    let mut failed = None;
    while !link.is_read() {
        let mut waiting = pin!(frames.reserve());
        let room = poll_fn(|cx| {
            failed = failed.take().or_else(|| write(&mut link, cx));
            waiting.as_mut().poll(cx)
        });
        let Ok(room) = room.await else { return };
        let frame = poll_fn(|cx| match failed.take().or_else(|| write(&mut link, cx)) {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => link.poll_frame(cx),
        });
        let Some(frame) = frame.await else { break };
        let is_last = frame.is_err();
        room.send(frame);
        if is_last {
            return;
        }
    }
    drop(frames);
    finish(link, pool).await;
}

/// Writes the rest of a request whose answer was read: all of it was taken from the caller, who counts on it. Then the
/// connection returns to `pool`, if there is one.
pub(in crate::upstream) async fn finish<B>(mut link: Box<Link<B>>, pool: Option<Arc<Pool<B>>>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let written = tokio::time::timeout(FINISHING, poll_fn(|cx| link.poll_written(cx))).await;
    if let (Ok(Ok(())), Some(pool)) = (written, pool)
        && link.rest()
    {
        pool.put(link, Instant::now());
    }
}
