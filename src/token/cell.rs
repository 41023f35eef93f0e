//! The cell of one token: read without a lock by the workers, filled by its minter on the control runtime.
//!
//! What must hold: a live token is read without lock or allocation; whoever has to wait subscribes first and reads
//! again after, so that no outcome is missed; an outcome is published after the changes that it stands for; a dead
//! minter is an error for those who wait, never a hang. What both see, the live token above all, is `shared`. Whether to
//! send a request again is not decided here.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::shared::Rejection;
pub(super) use self::shared::{Due, Shared};
use super::access_token::Token;
use super::dpop::Dpop;
use super::failure::{MintFailure, MintFailureKind};
use super::minter::Start;
use super::seed::Seed;
use crate::sign::SignError;

mod shared;

/// Most callers that may wait for one token.
pub const MOST_WAITING: usize = 4096;
/// Waiting ends this long after the mint itself would have given up.
const SLACK: Duration = Duration::from_millis(500);

/// The token of one distinct token request.
pub struct Cell {
    made: OnceLock<Made>,
    /// There until `made` is. Both are changed under its lock.
    seed: Mutex<Option<Seed>>,
}

/// What a cell needs once somebody asks for its token.
pub(super) struct Made {
    shared: Arc<Shared>,
    /// Capacity one: an ask that finds another underway is answered with it.
    asks: mpsc::Sender<()>,
    outcomes: watch::Receiver<Outcome>,
}

/// What came of naming a rejected token.
#[derive(Debug)]
pub enum Renewal {
    /// A different token is live.
    Renewed(Arc<Token>),
    /// The endpoint gave the rejected value again.
    SameToken,
    /// The renewal allowance is used up.
    Exhausted {
        /// When it holds one again.
        retry_after: Duration,
    },
    /// No token could be minted.
    Failed(MintFailure),
}

/// How the minter's last attempt ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// There was none yet.
    None,
    /// A token was minted.
    Minted,
    /// None was.
    Failed(MintFailure),
}

impl Made {
    pub(super) fn new(shared: Arc<Shared>, asks: mpsc::Sender<()>, outcomes: watch::Receiver<Outcome>) -> Self {
        Self { shared, asks, outcomes }
    }
}

impl From<Made> for Cell {
    fn from(made: Made) -> Self {
        Self { made: OnceLock::from(made), seed: Mutex::new(None) }
    }
}

impl Cell {
    /// A cell that nobody has asked yet.
    pub(super) fn idle(seed: Seed) -> Self {
        Self { made: OnceLock::new(), seed: Mutex::new(Some(seed)) }
    }

    /// Has it ready to be asked, if it is not; none when the minters have ended.
    fn made(&self) -> Option<&Made> {
        self.made.get().or_else(|| self.start(Start::OnDemand))
    }

    /// Gives it a minter, if it has none; none when the minters have ended.
    #[cold]
    pub(super) fn start(&self, start: Start) -> Option<&Made> {
        let mut seed = self.seed.lock();
        if let Some(idle) = &*seed {
            // Only under the lock, so it is not there yet.
            let _ = self.made.set(idle.grow(start)?);
            *seed = None;
        }
        self.made.get()
    }

    /// Gives an idle cell's seed to `idle`, and what others share with their minter to `made`.
    pub(super) fn change(&self, idle: impl FnOnce(&mut Seed), made: impl FnOnce(&Shared)) {
        match (&mut *self.seed.lock(), self.made.get()) {
            (Some(seed), _) => idle(seed),
            (None, Some(cell)) => made(&cell.shared),
            (None, None) => {}
        }
    }

    /// A token that can be used now, without waiting, lock or allocation. Asks, once, for a renewal ahead when that
    /// is due.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Token>> {
        self.live_at(Instant::now())
    }

    /// The same, for whoever knows what time it is.
    #[must_use]
    pub fn live_at(&self, now: Instant) -> Option<Arc<Token>> {
        let made = self.made.get()?;
        let token = made.shared.usable(now)?;
        if token.ask_ahead(now) {
            // Whether the minter is gone will be noticed by whoever finds no token.
            let _ = made.asks.try_send(());
        }
        Some(token)
    }

    /// A token that can be used now; waits for a mint when there is none.
    ///
    /// # Errors
    /// [`MintFailure`] when the mint that was waited for failed, a back-off is running, too many wait already, or
    /// waiting took longer than the token endpoint may.
    pub async fn token(&self) -> Result<Arc<Token>, MintFailure> {
        if let Some(token) = self.live() {
            return Ok(token);
        }
        let made = self.made().ok_or_else(minter_ended)?;
        let mut waiter = Waiter::new(made)?;
        if let Some(failure) = made.shared.fails_fast() {
            return Err(failure);
        }
        waiter.until(|_| made.shared.usable(Instant::now())).await
    }

    /// Says that an upstream refused `rejected` and waits for a different token. When another one is live already,
    /// that is the answer at once: a late 401 drops nothing.
    pub async fn renew(&self, rejected: &Token) -> Renewal {
        let Some(made) = self.made() else { return Renewal::Failed(minter_ended()) };
        let mut waiter = match Waiter::new(made) {
            Ok(waiter) => waiter,
            Err(failure) => return Renewal::Failed(failure),
        };
        match made.shared.drop_rejected(rejected) {
            Rejection::Held => {}
            Rejection::Late(live) => return Renewal::Renewed(live),
            Rejection::Exhausted(retry_after) => return Renewal::Exhausted { retry_after },
            Rejection::Blocked(failure) => return Renewal::Failed(failure),
        }
        let renewed = waiter
            .until(|outcome| {
                let live = made.shared.usable(Instant::now())?;
                if live.id() != rejected.id() {
                    return Some(Renewal::Renewed(live));
                }
                matches!(outcome, Some(Outcome::Minted)).then_some(Renewal::SameToken)
            })
            .await;
        renewed.unwrap_or_else(Renewal::Failed)
    }

    /// Says that an upstream refused `rejected`, without waiting for another one.
    pub fn reject(&self, rejected: &Token) {
        let Some(made) = self.made.get() else { return };
        if matches!(made.shared.drop_rejected(rejected), Rejection::Held) {
            let _ = made.asks.try_send(());
        }
    }

    /// The replay with `token` was refused too.
    pub fn replay_refused(&self, token: &Token) {
        if let Some(made) = self.made.get() {
            made.shared.replay_refused(token);
        }
    }

    /// The replay with `token` was accepted.
    pub fn replay_accepted(&self, token: &Token) {
        if let Some(made) = self.made.get() {
            made.shared.replay_accepted(token);
        }
    }

    /// The key that its tokens are bound to, where they are (RFC 9449).
    #[must_use]
    pub fn dpop(&self) -> Option<&Arc<Dpop>> {
        self.made()?.shared.dpop()
    }

    /// A fresh proof of possession for one request with `token` (RFC 9449 4.2, 7.1); none where tokens are not bound to
    /// a key. `origin` and `path` as for [`Dpop::proof`].
    pub fn proof(
        &self,
        token: &Token,
        method: &Method,
        origin: &str,
        path: &str,
    ) -> Option<Result<HeaderValue, SignError>> {
        let dpop = self.dpop()?;
        Some(dpop.proof(method, origin, path, Some(token.value().expose())))
    }

    /// Keeps the nonce that an answer of `origin` asks for (RFC 9449 8.2). Whether it is another one than before.
    pub fn note_nonce(&self, origin: &str, headers: &HeaderMap) -> bool {
        self.dpop().is_some_and(|dpop| dpop.note(origin, headers))
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = self.made.get().map(|made| &made.shared);
        formatter.debug_struct("Cell").field("shared", &shared).finish_non_exhaustive()
    }
}

/// A place among those who wait; given back when dropped.
struct Waiter<'a> {
    cell: &'a Made,
    outcomes: watch::Receiver<Outcome>,
}

impl<'a> Waiter<'a> {
    fn new(cell: &'a Made) -> Result<Self, MintFailure> {
        let mut outcomes = cell.outcomes.clone();
        outcomes.mark_unchanged();
        if !cell.shared.let_in(MOST_WAITING) {
            return Err(failure(MintFailureKind::OverCapacity, "too many callers wait for this token"));
        }
        Ok(Self { cell, outcomes })
    }

    /// Asks for a token and waits until `decide` finds what it wants, or a mint fails.
    async fn until<T>(&mut self, decide: impl Fn(Option<&Outcome>) -> Option<T>) -> Result<T, MintFailure> {
        if let Some(decided) = decide(None) {
            return Ok(decided);
        }
        if let Err(mpsc::error::TrySendError::Closed(())) = self.cell.asks.try_send(()) {
            return Err(minter_ended());
        }
        let patience = self.cell.shared.source().patience.saturating_add(SLACK);
        let decided = async {
            loop {
                self.outcomes.changed().await.map_err(|_| minter_ended())?;
                let outcome = self.outcomes.borrow_and_update().clone();
                if let Some(decided) = decide(Some(&outcome)) {
                    return Ok(decided);
                }
                if let Outcome::Failed(failure) = outcome {
                    return Err(failure);
                }
            }
        };
        let timed_out = || Err(failure(MintFailureKind::Unavailable, "timed out"));
        tokio::time::timeout(patience, decided).await.unwrap_or_else(|_| timed_out())
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.cell.shared.let_out();
    }
}

fn failure(kind: MintFailureKind, cause: &str) -> MintFailure {
    MintFailure { kind, cause: cause.to_owned(), retry_after: Duration::from_secs(1) }
}

fn minter_ended() -> MintFailure {
    failure(MintFailureKind::Unavailable, "the minter has ended")
}

#[cfg(test)]
mod tests;
