//! The built-in protected API: checks every bearer token (RFC 6750) and tells what it saw.
//!
//! | path | answer |
//! |---|---|
//! | `/status/204` | this status; 204 and 304 without content |
//! | `/bytes/1000000` | so many bytes, streamed |
//! | `/echo` | the request's content, streamed |
//! | `/always401` | 401, whatever the token |
//! | `/insufficient_scope` | 403 with that error |
//! | `/slow` | what any other path gives, once the gate is open |
//! | any other | 200 with JSON about the request; the token is masked |

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::{HeaderMap, Method, Uri};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::gate::Gate;
use super::issuer::Tokens;
use super::serving::Serving;

mod answers;

/// How many requests are remembered.
const REMEMBERED: usize = 100;

/// A running API; ends when dropped.
#[derive(Debug)]
pub struct Api {
    serving: Serving,
    shared: Arc<Shared>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// Its header section; the authorization field is marked sensitive, so that `Debug` does not show it.
    pub headers: HeaderMap,
    /// Whether its token was good.
    pub accepted: bool,
}

#[derive(Debug)]
struct Shared {
    tokens: Tokens,
    gate: Gate,
    refuse_early: AtomicBool,
    asked: watch::Sender<u64>,
    seen: Mutex<VecDeque<Seen>>,
}

impl Api {
    /// Listens on `address` (loopback; port 0 takes a free one), serves on the current runtime, accepts `tokens`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(address: SocketAddr, tokens: Tokens) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            tokens,
            gate: Gate::new(),
            refuse_early: AtomicBool::new(false),
            asked: watch::Sender::new(0),
            seen: Mutex::default(),
        });
        let serving = Serving::start(address, answers::Answers(Arc::clone(&shared))).await?;
        Ok(Self { serving, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Requests for `/slow` wait here.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Whether a bad token is refused before the request's content is read; at first it is read to its end.
    pub fn refuse_early(&self, early: bool) {
        self.shared.refuse_early.store(early, Relaxed);
    }

    /// How many requests came, good token or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        *self.shared.asked.borrow()
    }

    /// Returns once at least `count` requests came.
    pub async fn requests_reach(&self, count: u64) {
        // The sender lives as long as `self`.
        let _ = self.shared.asked.subscribe().wait_for(|asked| *asked >= count).await;
    }

    /// The last requests, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().iter().cloned().collect()
    }
}

impl Shared {
    fn saw(&self, seen: Seen) {
        let mut all = self.seen.lock();
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(seen);
        drop(all);
        self.asked.send_modify(|asked| *asked += 1);
    }
}

#[cfg(test)]
mod tests;
