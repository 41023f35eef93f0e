//! A stream's task, given up when its caller reads the answer too slowly: a piece that waits for the flow-control window
//! longer than `body_timeout`, or pieces that come to fewer bytes than `body_rate` over waits that add up to as much,
//! reset the stream, and the others go on.
//!
//! hyper asks for the next piece of a body once the last one was sent. So a body that is not asked waits for the
//! caller, and one that was asked and has nothing waits for the upstream, which has deadlines of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::server::{LeastPace, Pace, Watch};

/// Bytes of the longest piece, one frame of h2: how far a caller has read cannot be told within a piece.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// That of the stream whose task is running.
    static READING: Arc<Reading>;
}

/// How far the caller has read one answer, in bytes: handed out, and taken when the next were asked for.
#[derive(Debug, Default)]
pub(super) struct Reading {
    handed: AtomicU64,
    taken: AtomicU64,
}

impl Reading {
    /// That of the task at hand; one of its own outside of a stream's task.
    pub(super) fn current() -> Arc<Self> {
        READING.try_with(Arc::clone).unwrap_or_default()
    }

    /// The next piece is asked for.
    pub(super) fn ask(&self) {
        self.taken.store(self.handed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The piece of `data` to hand out now; the rest stays there.
    pub(super) fn hand(&self, data: &mut Bytes) -> Bytes {
        let piece = data.split_to(data.len().min(PIECE));
        self.handed.fetch_add(piece.len() as u64, Ordering::Relaxed);
        piece
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether a piece waits for the caller.
    fn is_waiting(&self) -> bool {
        self.handed.load(Ordering::Relaxed) > self.taken()
    }
}

/// Where hyper's tasks run, one for each stream.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    /// How fast the caller has to read each answer.
    pub(super) least: LeastPace,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let reading = Arc::new(Reading::default());
        let task = Bounded {
            stream,
            reading: Arc::clone(&reading),
            watch: Watch::default(),
            pace: Pace::default(),
            judged: 0,
            least: self.least,
        };
        self.tasks.spawn(READING.scope(reading, task));
    }
}

pin_project_lite::pin_project! {
    struct Bounded<F> {
        #[pin]
        stream: F,
        reading: Arc<Reading>,
        watch: Watch<()>,
        pace: Pace,
        // Bytes that had been taken when the last wait ended.
        judged: u64,
        least: LeastPace,
    }
}

impl<F: Future<Output = ()>> Future for Bounded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let taken = this.reading.taken();
        if taken > *this.judged {
            let bytes = usize::try_from(taken - *this.judged).unwrap_or(usize::MAX);
            *this.judged = taken;
            if this.pace.is_too_slow(bytes, this.watch.waited(), *this.least) {
                tracing::debug!("a caller read its answer too slowly");
                return Poll::Ready(());
            }
        }
        if !this.reading.is_waiting() {
            return Poll::Pending;
        }
        ready!(this.watch.poll_expired(cx, (), this.least.over));
        tracing::debug!("a caller stopped reading its answer");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
