//! A stream's task, given up when its caller stops reading the answer: a piece that waits for the flow-control window
//! longer than `body_timeout` resets the stream, and the others go on.
//!
//! hyper asks for the next piece of a body once the last one was sent. So a body that is not asked waits for the
//! caller, and one that was asked and has nothing waits for the upstream, which has deadlines of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::server::Watch;

tokio::task_local! {
    /// That of the stream whose task is running.
    static READING: Arc<Reading>;
}

/// How far the caller has read one answer: pieces handed out and asked for.
#[derive(Debug, Default)]
pub(super) struct Reading {
    handed: AtomicU64,
    asked: AtomicU64,
}

impl Reading {
    /// That of the task at hand; one of its own outside of a stream's task.
    pub(super) fn current() -> Arc<Self> {
        READING.try_with(Arc::clone).unwrap_or_default()
    }

    /// The next piece is asked for.
    pub(super) fn ask(&self) {
        self.asked.store(self.handed.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A piece is handed out.
    pub(super) fn hand(&self) {
        self.handed.fetch_add(1, Ordering::Relaxed);
    }

    /// The piece that waits for the caller.
    fn waiting(&self) -> Option<u64> {
        let handed = self.handed.load(Ordering::Relaxed);
        (handed > self.asked.load(Ordering::Relaxed)).then_some(handed)
    }
}

/// Where hyper's tasks run, one for each stream.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) tasks: TaskTracker,
    /// How long a piece may wait for the caller.
    pub(super) patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let reading = Arc::new(Reading::default());
        let task = Bounded { stream, reading: Arc::clone(&reading), watch: Watch::default(), patience: self.patience };
        self.tasks.spawn(READING.scope(reading, task));
    }
}

pin_project_lite::pin_project! {
    struct Bounded<F> {
        #[pin]
        stream: F,
        reading: Arc<Reading>,
        watch: Watch<u64>,
        patience: Duration,
    }
}

impl<F: Future<Output = ()>> Future for Bounded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(piece) = this.reading.waiting() else {
            this.watch.rest();
            return Poll::Pending;
        };
        ready!(this.watch.poll_expired(cx, piece, *this.patience));
        tracing::debug!("a caller stopped reading its answer");
        Poll::Ready(())
    }
}
