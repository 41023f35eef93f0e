//! A gate that holds answers back until somebody opens it: how tests say "meanwhile" without sleeping.

use std::sync::Arc;

use tokio::sync::watch;

/// Open at first. Clones share one gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { open: watch::Sender::new(true), waiting: watch::Sender::new(0) }))
    }

    /// Holds back whoever comes from now on.
    pub fn close(&self) {
        self.0.open.send_replace(false);
    }

    /// Lets all pass who wait and who come.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Returns once at least `count` wait at the closed gate.
    pub async fn waiting(&self, count: usize) {
        // The sender lives as long as `self`.
        let _ = self.0.waiting.subscribe().wait_for(|waiting| *waiting >= count).await;
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        let mut open = self.0.open.subscribe();
        if *open.borrow_and_update() {
            return;
        }
        let _here = Waiting::at(&self.0);
        let _ = open.wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Counted while it lives: whoever waits may go away.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn at(gate: &'a Inner) -> Self {
        gate.waiting.send_modify(|waiting| *waiting += 1);
        Self(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
