//! What must be done before the process takes traffic, as named tasks, and the end of taking it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Whether the process is ready. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<u64, String>,
    next: u64,
    draining: bool,
}

impl Readiness {
    /// Nothing is pending. Take the tasks before anybody can ask.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process is not ready until the task is dropped. Names need not be unique; they are shown to operators.
    #[must_use = "dropping the task says that it is done"]
    pub fn task(&self, name: impl Into<String>) -> Task {
        let mut state = self.0.lock();
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, name.into());
        Task { readiness: self.clone(), id }
    }

    /// From now on the process is not ready, for good.
    pub fn drain(&self) {
        self.0.lock().draining = true;
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.lock().draining
    }

    /// Whether every task is done and the process is not draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.0.lock();
        state.pending.is_empty() && !state.draining
    }

    /// Names of the tasks that are not done, in the order in which they were taken.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.0.lock().pending.values().cloned().collect()
    }
}

/// Something that is not done yet; done when dropped.
#[derive(Debug)]
pub struct Task {
    readiness: Readiness,
    id: u64,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.readiness.0.lock().pending.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[test]
    fn it_is_ready_once_every_task_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let listeners = readiness.task("listeners");
        let token = readiness.task("first token of apigee");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["listeners", "first token of apigee"]);
        drop(listeners);
        assert_eq!(readiness.pending(), ["first token of apigee"]);
        drop(token);
        assert!(readiness.is_ready());
    }

    #[test]
    fn draining_ends_readiness_for_good() {
        let readiness = Readiness::new();
        let task = readiness.task("listeners");
        readiness.clone().drain();
        drop(task);
        assert!(!readiness.is_ready());
        assert!(readiness.is_draining());
        assert!(readiness.pending().is_empty());
    }
}
