//! The cell of one token: read without a lock by the workers, filled by its minter on the control runtime.
//!
//! What must hold: a live token is read without lock or allocation; whoever has to wait subscribes first and reads
//! again after, so that no outcome is missed; all changes of what is live and what is held back are made under one
//! lock, and an outcome is published after them; a dead minter is an error for those who wait, never a hang. Whether
//! to send a request again is not decided here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::access_token::Token;
use super::allowance::Allowance;
use super::backoff::Backoff;
use super::dpop::Dpop;
use super::failure::{Concerns, MintFailure, MintFailureKind};
use super::minter::Start;
use super::seed::Seed;
use super::source::Source;
use super::watchers::Watchers;
use crate::sign::SignError;

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

/// What the cell and its minter both see.
pub(super) struct Shared {
    live: ArcSwapOption<Token>,
    renewal: Mutex<Renewing>,
    /// Failures that only this very request would meet again.
    backoff: Mutex<Backoff>,
    /// Failures that every request of this client would meet again; shared among its cells.
    client_backoff: Arc<Mutex<Backoff>>,
    /// How to mint; replaced when the configuration is, while the cell lives on.
    source: ArcSwap<Source>,
    waiting: AtomicUsize,
    /// Lives as long as the cell: a token is worth nothing without the key that it is bound to.
    dpop: Option<Arc<Dpop>>,
    pub(super) watchers: Watchers,
}

/// The part of a cell that rejections change.
struct Renewing {
    allowance: Allowance,
    /// The rejected token while its successor is being minted; live again if that fails.
    held: Option<Arc<Token>>,
    /// Whether holding it back was taken from the allowance.
    charged: bool,
    /// Whether a mint is underway.
    minting: bool,
}

/// What was done about a rejected token.
enum Rejection {
    /// It is held back; a mint is due or underway.
    Held,
    /// Another one is live.
    Late(Arc<Token>),
    Exhausted(Duration),
    Blocked(MintFailure),
}

/// What a minter that was asked has to do.
pub(super) enum Due {
    Nothing,
    Mint,
    /// A back-off is running.
    Blocked(MintFailure),
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
        let made = self.made.get()?;
        let now = Instant::now();
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
            made.shared.renewal.lock().allowance.refused(token.id(), Instant::now());
        }
    }

    /// The replay with `token` was accepted.
    pub fn replay_accepted(&self, token: &Token) {
        if let Some(made) = self.made.get() {
            made.shared.renewal.lock().allowance.accepted(token.id());
        }
    }

    /// The key that its tokens are bound to, where they are (RFC 9449).
    #[must_use]
    pub fn dpop(&self) -> Option<&Arc<Dpop>> {
        self.made()?.shared.dpop.as_ref()
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

impl Shared {
    pub(super) fn new(
        source: Source,
        client_backoff: Arc<Mutex<Backoff>>,
        dpop: Option<Arc<Dpop>>,
        watchers: Watchers,
    ) -> Self {
        Self {
            live: ArcSwapOption::empty(),
            renewal: Mutex::new(Renewing {
                allowance: Allowance::new(Instant::now()),
                held: None,
                charged: false,
                minting: false,
            }),
            backoff: Mutex::new(Backoff::default()),
            client_backoff,
            source: ArcSwap::from_pointee(source),
            waiting: AtomicUsize::new(0),
            dpop,
            watchers,
        }
    }

    pub(super) fn source(&self) -> Arc<Source> {
        self.source.load_full()
    }

    pub(super) fn replace_source(&self, source: Source) {
        self.source.store(Arc::new(source));
    }

    /// The key that tokens are bound to, where they are.
    pub(super) fn dpop(&self) -> Option<&Arc<Dpop>> {
        self.dpop.as_ref()
    }

    fn usable(&self, now: Instant) -> Option<Arc<Token>> {
        self.live.load_full().filter(|token| token.usable(now))
    }

    fn blocked(&self, now: Instant) -> Option<MintFailure> {
        let client = self.client_backoff.lock().blocks(now);
        client.or_else(|| self.backoff.lock().blocks(now))
    }

    /// The reason not to wait, while a back-off runs and no mint is underway that began before it.
    fn fails_fast(&self) -> Option<MintFailure> {
        let failure = self.blocked(Instant::now())?;
        self.renewal.lock().held.is_none().then_some(failure)
    }

    fn drop_rejected(&self, rejected: &Token) -> Rejection {
        let now = Instant::now();
        let mut renewing = self.renewal.lock();
        let Some(live) = self.usable(now) else {
            return Rejection::Held;
        };
        if live.id() != rejected.id() {
            return Rejection::Late(live);
        }
        // A mint underway costs no further one: it is the renewal. Where a new token ends the old one (Zoom), every
        // renewal ahead looks like this to those who still hold the old token when the endpoint has issued the new.
        if renewing.minting {
            renewing.held = Some(live);
            renewing.charged = false;
            self.live.store(None);
            return Rejection::Held;
        }
        // With a back-off running nothing could replace it, and for others it may be good.
        if let Some(failure) = self.blocked(now) {
            return Rejection::Blocked(failure);
        }
        if let Err(retry_after) = renewing.allowance.take(now) {
            drop(renewing);
            self.watchers.renewal_exhausted();
            return Rejection::Exhausted(retry_after);
        }
        renewing.held = Some(live);
        renewing.charged = true;
        self.live.store(None);
        Rejection::Held
    }

    /// A mint begins; it ends with [`install`](Self::install) or [`restore`](Self::restore).
    pub(super) fn begin(&self) {
        self.renewal.lock().minting = true;
    }

    pub(super) fn due(&self) -> Due {
        let now = Instant::now();
        if self.usable(now).is_some_and(|live| !live.asked_ahead()) {
            return Due::Nothing;
        }
        self.blocked(now).map_or(Due::Mint, Due::Blocked)
    }

    /// Makes a minted token live. `make` is given the token before it, to tell the same value from another.
    pub(super) fn install(&self, make: impl FnOnce(Option<&Token>) -> Token) -> Arc<Token> {
        self.client_backoff.lock().clear();
        self.backoff.lock().clear();
        let now = Instant::now();
        let mut renewing = self.renewal.lock();
        renewing.minting = false;
        let held = renewing.held.take();
        let predecessor = held.clone().or_else(|| self.live.load_full());
        let token = Arc::new(make(predecessor.as_deref()));
        if held.is_some_and(|held| held.id() == token.id()) {
            renewing.allowance.same_again(token.id(), now);
        }
        self.live.store(Some(Arc::clone(&token)));
        token
    }

    /// No token came: what was held back is live again if it still can be used, and nobody asks ahead before
    /// `retry_after` is over. Whether a usable token is left is the result.
    pub(super) fn restore(&self, retry_after: Duration) -> bool {
        let now = Instant::now();
        let mut renewing = self.renewal.lock();
        renewing.minting = false;
        if let Some(held) = renewing.held.take() {
            if renewing.charged {
                renewing.allowance.give_back();
            }
            self.live.store(Some(held));
        }
        let live = self.usable(now);
        if let Some(live) = &live {
            live.put_off(now + retry_after);
        }
        live.is_some()
    }

    /// The back-off that a failure belongs to.
    pub(super) fn backoff_of(&self, concerns: Concerns) -> &Mutex<Backoff> {
        match concerns {
            Concerns::Client => &self.client_backoff,
            Concerns::Request => &self.backoff,
        }
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = self.made.get().map(|made| &made.shared);
        formatter.debug_struct("Cell").field("shared", &shared).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("live", &*self.live.load()).finish_non_exhaustive()
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
        if cell.shared.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            cell.shared.waiting.fetch_sub(1, Ordering::Relaxed);
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
        let patience = self.cell.shared.source.load().patience.saturating_add(SLACK);
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
        self.cell.shared.waiting.fetch_sub(1, Ordering::Relaxed);
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
