//! The keys of one issuer: fetched by a task at the start, every hour, and when a token names one that is not known; the
//! last good ones are kept whatever fails. `fetched` asks once; here are the handle that workers share, and the pace.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::fetched::{KeyOrigin, KeySource};
use super::jose::KeySet;
use crate::caller::sha256;

mod fetched;

/// Good keys are asked for again after this, a tenth more or less.
const REFRESH: Duration = Duration::from_secs(60 * 60);
/// The wait after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// However many tokens name unknown keys, they make us ask the issuer once in this time.
const PACE: Duration = Duration::from_secs(10);

/// The keys of one issuer, for all who need them. Dropping the last handle ends the task that keeps them fresh.
pub(super) struct Supply {
    shared: Arc<Shared>,
    task: OnceLock<JoinHandle<()>>,
}

struct Shared {
    issuer: String,
    source: KeySource,
    keys: ArcSwap<KeySet>,
    /// Told that a token names a key that is not known.
    wanted: Notify,
    progress: watch::Sender<Progress>,
    /// Counted up after every change of keys.
    revision: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    /// How often keys were fetched, or could not be.
    fetches: u64,
    /// Whether they are being fetched, or about to be.
    underway: bool,
    /// When a token made us ask last.
    asked: Option<Instant>,
}

/// Keys that are being fetched, or will be.
pub(super) struct Renewal {
    progress: watch::Receiver<Progress>,
    /// Something new is there after more fetches than this.
    seen: u64,
    /// Nobody fetches here.
    is_unwatched: bool,
}

impl Renewal {
    /// Returns when the fetch has ended, well or not.
    pub(super) async fn ended(mut self) {
        if !self.is_unwatched {
            let _ = self.progress.wait_for(|progress| progress.fetches > self.seen).await;
        }
    }
}

impl Supply {
    /// Keys that nobody has asked for yet; those of a file are read at once.
    pub(super) fn new(issuer: String, source: KeySource, revision: Arc<AtomicU64>) -> Self {
        let keys = match &source.origin {
            // What is wrong with it was said when the configuration was read, and will be by the task.
            KeyOrigin::File(path) => {
                fetched::read_file(path).and_then(|document| Ok(KeySet::parse(&document)?)).unwrap_or_default()
            }
            KeyOrigin::Discovery | KeyOrigin::Url(_) => KeySet::default(),
        };
        let (wanted, progress) = (Notify::new(), watch::Sender::new(Progress::default()));
        let shared = Shared { issuer, source, keys: ArcSwap::from_pointee(keys), wanted, progress, revision };
        Self { shared: Arc::new(shared), task: OnceLock::new() }
    }

    /// Whether these are the keys of `issuer` from `source`.
    pub(super) fn is_of(&self, issuer: &str, source: &KeySource) -> bool {
        self.shared.issuer == issuer && self.shared.source == *source
    }

    /// Whether they are read from a file.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self.shared.source.origin, KeyOrigin::File(_))
    }

    /// Starts the task that keeps the keys fresh, once.
    pub(super) fn watch(&self, control: &Handle) {
        self.task.get_or_init(|| {
            self.shared.progress.send_modify(|progress| progress.underway = true);
            let fetcher = Fetcher { shared: Arc::clone(&self.shared), failures: 0, warned: None, known: None };
            control.spawn(fetcher.run())
        });
    }

    /// Takes keys without asking for them.
    #[cfg(any(test, fuzzing))]
    pub(super) fn take(&self, keys: KeySet) {
        self.shared.keys.store(Arc::new(keys));
    }

    /// The last good ones.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.shared.keys.load_full()
    }

    /// How often keys were fetched.
    pub(super) fn fetches(&self) -> u64 {
        self.shared.progress.borrow().fetches
    }

    /// What to wait for when a token's key was not among those that were there after `seen` fetches; none: it was asked
    /// for a moment ago, and nothing better will come.
    pub(super) fn renewal(&self, seen: u64) -> Option<Renewal> {
        let is_unwatched = self.task.get().is_none();
        let renewal = Renewal { progress: self.shared.progress.subscribe(), seen, is_unwatched };
        if is_unwatched {
            return Some(renewal);
        }
        let (mut is_worth_waiting, mut is_ours_to_ask) = (false, false);
        // Several workers may come here at once: one asks, all wait.
        self.shared.progress.send_if_modified(|progress| {
            is_ours_to_ask = !progress.underway
                && progress.fetches <= seen
                && progress.asked.is_none_or(|asked| asked.elapsed() >= PACE);
            if is_ours_to_ask {
                (progress.underway, progress.asked) = (true, Some(Instant::now()));
            }
            is_worth_waiting = progress.underway || progress.fetches > seen;
            false
        });
        if is_ours_to_ask {
            self.shared.wanted.notify_one();
        }
        is_worth_waiting.then_some(renewal)
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// The task's side.
struct Fetcher {
    shared: Arc<Shared>,
    failures: u32,
    /// The failure that the operator has read of last.
    warned: Option<String>,
    /// SHA-256 of the key set in use.
    known: Option<[u8; 32]>,
}

impl Fetcher {
    async fn run(mut self) {
        loop {
            self.shared.progress.send_modify(|progress| progress.underway = true);
            // A panic must not leave the issuer unwatched for the rest of the process's life.
            let fetched = AssertUnwindSafe(self.shared.source.fetch(&self.shared.issuer)).catch_unwind().await;
            let fetched = fetched.unwrap_or_else(|_| Err("a defect in keybearer".into()));
            let fetched = fetched.and_then(|document| Ok((KeySet::parse(&document)?, sha256(&[&document]))));
            let pause = match fetched {
                Ok((keys, digest)) => self.found(keys, digest),
                Err(problem) => self.failed(&problem),
            };
            self.shared.progress.send_modify(|progress| {
                progress.fetches += 1;
                progress.underway = false;
            });
            let _ = tokio::time::timeout(pause, self.shared.wanted.notified()).await;
        }
    }

    fn found(&mut self, keys: KeySet, digest: [u8; 32]) -> Duration {
        let issuer = &self.shared.issuer;
        match self.known {
            None => info!(%issuer, keys = keys.len(), "the issuer's keys are known"),
            Some(known) if known != digest => info!(%issuer, keys = keys.len(), "the issuer has other keys"),
            Some(_) if self.warned.is_some() => info!(%issuer, "the issuer's keys can be had again"),
            Some(_) => {}
        }
        if self.known != Some(digest) {
            self.shared.keys.store(Arc::new(keys));
            self.shared.revision.fetch_add(1, Ordering::Release);
        }
        (self.known, self.warned, self.failures) = (Some(digest), None, 0);
        pause(0, chance())
    }

    fn failed(&mut self, problem: &str) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.warned.as_deref() != Some(problem) {
            let last_good_in_use = self.known.is_some();
            warn!(issuer = %self.shared.issuer, last_good_in_use, "the issuer's keys cannot be had: {problem}");
            self.warned = Some(problem.to_owned());
        }
        pause(self.failures, chance())
    }
}

/// How long to wait after `failures` in a row, 0 of them after a success. `chance` (0 to 1) keeps replicas out of step.
fn pause(failures: u32, chance: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return REFRESH.mul_f64(0.9 + chance / 5.0) };
    (FIRST_RETRY * 2_u32.pow(doublings.min(10))).min(LONGEST_RETRY).mul_f64(0.75 + chance / 4.0)
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    let mut byte = [0];
    // Without randomness replicas keep step, which is no reason to fail.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

impl fmt::Debug for Supply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Supply").field("issuer", &self.shared.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Renewal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
