//! A future that is awaited beside a busy one, in the same task: it is polled when it was woken itself, and not whenever
//! the task is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

pin_project_lite::pin_project! {
    /// Such a future.
    pub(super) struct Seldom<F> {
        #[pin]
        future: F,
        signal: Option<Arc<Signal>>,
    }
}

/// What the future wakes.
struct Signal {
    task: Waker,
    /// Whether the future is to be polled.
    is_due: AtomicBool,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<F> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future, signal: None }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let signal = match this.signal {
            Some(signal) if signal.task.will_wake(cx.waker()) => signal,
            none_or_other => {
                let signal = Signal { task: cx.waker().clone(), is_due: AtomicBool::new(true) };
                none_or_other.insert(Arc::new(signal))
            }
        };
        // Nearly always it is not, and reading costs less than taking.
        if !signal.is_due.load(Ordering::Relaxed) || !signal.is_due.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        this.future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(signal))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_when_it_was_woken_and_when_the_task_is_another() {
        let (notify, mut polled) = (Notify::new(), 0);
        let mut notified = Box::pin(notify.notified());
        let counting = std::future::poll_fn(|cx| {
            polled += 1;
            notified.as_mut().poll(cx)
        });
        let mut seldom = Box::pin(Seldom::new(counting));
        let (first, second) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let mut poll = |woken: &Arc<Woken>| {
            let waker = Waker::from(Arc::clone(woken));
            seldom.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!(!poll(&first) && !poll(&first) && !poll(&second) && !poll(&second));
        notify.notify_waiters();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
        assert!(poll(&second));
        drop(seldom);
        assert_eq!(polled, 3, "by each task once, and once it was woken");
    }
}
