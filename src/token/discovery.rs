//! Authorization server metadata (RFC 8414, OpenID Connect Discovery 4): fetched at start and in the background, never
//! for a request.
//!
//! `metadata` asks once and judges what comes; here is the handle that minters share, and the schedule behind it.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::metadata::discover_token_endpoint;
pub(super) use self::metadata::{Metadata, discover};
use super::backoff::{self, Pace};
use super::failure::{MintError, MintFailureKind};
use super::key::{self, Digest};
use super::settings::Endpoint;

mod metadata;

/// Good metadata are asked for again after this, a tenth more or less.
const REFRESH: Duration = Duration::from_secs(60 * 60);
/// The wait after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A `Retry-After` is believed up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10 * 60);

/// The metadata of one issuer, for all who need them. Dropping the last handle ends the task that keeps them fresh.
pub(super) struct Discovery {
    /// Bound on how long somebody waits for first metadata.
    patience: Duration,
    supply: Supply,
}

enum Supply {
    /// Kept fresh by a task.
    Watched { state: watch::Receiver<State>, task: JoinHandle<()> },
    /// Fetched when first needed, and kept.
    Once { endpoint: Box<Endpoint>, found: OnceCell<Arc<Metadata>> },
}

struct State {
    /// The last good ones, whatever failed since.
    good: Option<Arc<Metadata>>,
    /// The last failure, and when the next attempt begins.
    failure: Option<(MintError, Instant)>,
    /// Whether an attempt is on its way.
    underway: bool,
}

impl Discovery {
    /// Metadata of `endpoint`'s issuer, fetched at once and kept fresh by a task on `control`.
    pub(super) fn start(endpoint: Endpoint, control: &Handle) -> Arc<Self> {
        let issuer = endpoint.issuer.clone().unwrap_or_default();
        let patience = endpoint.timeout;
        let endpoint = Arc::new(endpoint);
        let attempt = move || {
            let endpoint = Arc::clone(&endpoint);
            async move { discover(&endpoint).await }.boxed()
        };
        Self::watched(issuer, patience, attempt, control)
    }

    /// Metadata that are fetched when they are first asked for: for commands, which look and leave.
    pub(super) fn once(endpoint: Endpoint) -> Arc<Self> {
        let patience = endpoint.timeout;
        let supply = Supply::Once { endpoint: Box::new(endpoint), found: OnceCell::new() };
        Arc::new(Self { patience, supply })
    }

    fn watched(
        issuer: String,
        patience: Duration,
        attempt: impl Fn() -> BoxFuture<'static, Result<Metadata, MintError>> + Send + Sync + 'static,
        control: &Handle,
    ) -> Arc<Self> {
        let (sender, state) = watch::channel(State { good: None, failure: None, underway: true });
        let watcher = Watcher { issuer, patience, state: sender, failures: 0, warned: None };
        let task = control.spawn(watcher.run(attempt));
        Arc::new(Self { patience, supply: Supply::Watched { state, task } })
    }

    /// The last good metadata, at once. Where none ever came, waits for the attempt that is under way.
    ///
    /// # Errors
    /// That of the last attempt, or [`MintError`] of its own when the wait takes longer than the endpoint's time-out.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, MintError> {
        match &self.supply {
            Supply::Watched { state, .. } => {
                let settled = settled(state.clone());
                tokio::time::timeout(self.patience, settled).await.unwrap_or_else(|_| Err(unavailable("timed out")))
            }
            Supply::Once { endpoint, found } => {
                found.get_or_try_init(|| async { discover(endpoint).await.map(Arc::new) }).await.cloned()
            }
        }
    }
}

/// What is known once no first attempt is on its way any more.
async fn settled(mut state: watch::Receiver<State>) -> Result<Arc<Metadata>, MintError> {
    let gone = || unavailable("the issuer's metadata are not watched any more");
    let state = state.wait_for(|state| state.good.is_some() || !state.underway).await.map_err(|_| gone())?;
    match (&state.good, &state.failure) {
        (Some(good), _) => Ok(Arc::clone(good)),
        (None, Some((failure, next))) => {
            let mut failure = failure.clone();
            let left = next.saturating_duration_since(Instant::now());
            failure.retry_after = Some(failure.retry_after.unwrap_or_default().max(left));
            Err(failure)
        }
        (None, None) => Err(gone()),
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Supply::Watched { task, .. } = &self.supply {
            task.abort();
        }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Discovery").finish_non_exhaustive()
    }
}

/// The task's side.
struct Watcher {
    issuer: String,
    /// Bound on one attempt.
    patience: Duration,
    state: watch::Sender<State>,
    failures: u32,
    /// The failure that the operator has read of last.
    warned: Option<String>,
}

impl Watcher {
    async fn run(mut self, attempt: impl Fn() -> BoxFuture<'static, Result<Metadata, MintError>>) {
        loop {
            self.state.send_modify(|state| state.underway = true);
            // A panic must not leave the issuer unwatched for the rest of the process's life.
            let found = AssertUnwindSafe(attempt()).catch_unwind();
            let found = match tokio::time::timeout(self.patience, found).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => Err(unavailable("a defect in keybearer")),
                Err(_) => Err(unavailable("timed out")),
            };
            let pause = match found {
                Ok(metadata) => self.found(metadata),
                Err(error) => self.failed(error),
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn found(&mut self, metadata: Metadata) -> Duration {
        let (issuer, token_endpoint) = (&self.issuer, &metadata.token_endpoint);
        let former = self.state.borrow().good.clone();
        match former {
            None => info!(%issuer, %token_endpoint, "discovered the token endpoint"),
            Some(former) if former.token_endpoint != *token_endpoint => {
                warn!(%issuer, %token_endpoint, former = %former.token_endpoint, "the issuer names another token endpoint");
            }
            Some(_) if self.warned.is_some() => info!(%issuer, "the issuer's metadata can be had again"),
            Some(_) => {}
        }
        self.warned = None;
        self.failures = 0;
        let metadata = Arc::new(metadata);
        self.state.send_modify(|state| *state = State { good: Some(metadata), failure: None, underway: false });
        pause(0, Duration::ZERO, backoff::chance())
    }

    fn failed(&mut self, error: MintError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = pause(self.failures, error.retry_after.unwrap_or_default(), backoff::chance());
        let text = error.to_string();
        if self.warned.as_ref() != Some(&text) {
            let last_good_in_use = self.state.borrow().good.is_some();
            warn!(issuer = %self.issuer, last_good_in_use, "the issuer's metadata cannot be had: {text}");
            self.warned = Some(text);
        }
        let next = Instant::now() + pause;
        self.state.send_modify(|state| {
            state.failure = Some((error, next));
            state.underway = false;
        });
        pause
    }
}

/// How long to wait after `failures` in a row, 0 of them after a success. `chance` (0 to 1) keeps replicas out of step.
fn pause(failures: u32, retry_after: Duration, chance: f64) -> Duration {
    let chance = chance.clamp(0.0, 1.0);
    let Some(doublings) = failures.checked_sub(1) else { return REFRESH.mul_f64(0.9 + chance / 5.0) };
    let whole = (FIRST_RETRY * 2_u32.pow(doublings.min(10))).min(LONGEST_RETRY);
    whole.mul_f64(0.75 + chance / 4.0).max(retry_after.min(LONGEST_RETRY_AFTER))
}

fn unavailable(cause: &str) -> MintError {
    MintError::new(MintFailureKind::Unavailable, Pace::Transient, cause)
}

/// All issuers that are watched; equal ones, asked in the same way, are watched once.
#[derive(Default)]
pub(super) struct Discoveries {
    all: HashMap<Digest, Weak<Discovery>>,
    /// With more than this, those that nobody holds any more are looked for.
    crowded: usize,
}

impl Discoveries {
    /// The metadata of `endpoint`'s issuer; a task on `control` is started if none watches them yet.
    pub(super) fn get(&mut self, endpoint: &Endpoint, control: &Handle) -> Arc<Discovery> {
        if self.all.len() > self.crowded {
            self.all.retain(|_, known| known.strong_count() > 0);
            self.crowded = 64.max(2 * self.all.len());
        }
        let key = key::issuer(endpoint);
        if let Some(known) = self.all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let started = Discovery::start(endpoint.clone(), control);
        self.all.insert(key, Arc::downgrade(&started));
        started
    }
}

#[cfg(test)]
mod tests;
