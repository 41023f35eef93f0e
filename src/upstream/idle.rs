//! HTTP/1 connections that nobody uses at the moment: a stack, so that few stay warm and the rest can age out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::PoolLimits;
use super::http1::Link;

/// The stack.
#[derive(Debug)]
pub(super) struct Stack<B> {
    idle: Mutex<Vec<Idle<B>>>,
    sweeping: AtomicBool,
}

#[derive(Debug)]
struct Idle<B> {
    link: Box<Link<B>>,
    since: Instant,
}

/// Whether a task has to be started that calls [`Stack::sweep`] from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweeping {
    /// One runs, or there is nothing to sweep.
    Fine,
    /// It has to be started.
    Start,
}

impl<B> Stack<B> {
    pub(super) fn new() -> Self {
        Self { idle: Mutex::new(Vec::new()), sweeping: AtomicBool::new(false) }
    }

    /// The one that was used last and is still open, if it is young enough.
    pub(super) fn pop(&self, now: Instant, limits: &PoolLimits) -> Option<Box<Link<B>>> {
        let mut idle = self.idle.lock();
        while let Some(mut connection) = idle.pop() {
            if now.saturating_duration_since(connection.since) >= limits.idle {
                // A stack: what lies below has been idle for even longer.
                idle.clear();
            } else if !connection.link.is_dead() {
                return Some(connection.link);
            }
        }
        None
    }

    /// Takes a connection whose exchange is complete; one that is too old, or too many, closes.
    pub(super) fn push(&self, link: Box<Link<B>>, now: Instant, limits: &PoolLimits) -> Sweeping {
        let mut idle = self.idle.lock();
        if idle.len() >= limits.idle_connections || now.duration_since(link.opened) >= limits.age {
            return Sweeping::Fine;
        }
        idle.push(Idle { link, since: now });
        drop(idle);
        if self.sweeping.swap(true, Ordering::Relaxed) { Sweeping::Fine } else { Sweeping::Start }
    }

    /// Closes connections that nobody asked for in time, or that the server has closed; false when none is left.
    pub(super) fn sweep(&self, longest: Duration) -> bool {
        let mut idle = self.idle.lock();
        idle.retain_mut(|connection| connection.since.elapsed() < longest && !connection.link.is_dead());
        if idle.is_empty() {
            self.sweeping.store(false, Ordering::Relaxed);
        }
        !idle.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.idle.lock().is_empty()
    }
}
