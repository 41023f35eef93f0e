//! Back-pressure from a caller's socket to the upstream's.
//!
//! hyper's two connections pass pieces of a body through a channel, and each holds one more than the other asked for.
//! Without this, every caller that does not read would cost us the largest two pieces that its upstream sends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// Shut while a reader has to take what it was given before it is given more. One writer at a time waits for it.
#[derive(Debug, Default)]
pub struct Valve {
    is_shut: AtomicBool,
    waiting: AtomicWaker,
}

impl Valve {
    /// Shuts or opens it; whether that is a change.
    pub fn set_shut(&self, is_shut: bool) -> bool {
        if self.is_shut() == is_shut {
            return false;
        }
        self.is_shut.store(is_shut, Ordering::SeqCst);
        if !is_shut {
            self.waiting.wake();
        }
        true
    }

    /// Whether the reader is behind.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// Ready when it is open.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_shut() {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        // It may have been opened in between.
        if self.is_shut.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Has whoever waits look again.
    pub fn leave(&self) {
        self.waiting.wake();
    }
}
