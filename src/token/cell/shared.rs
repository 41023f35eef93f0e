//! What a cell and its minter both see: which token is live, which is held back, and what stands against another mint.
//!
//! All changes of what is live and what is held back are made under one lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::token::access_token::Token;
use crate::token::allowance::Allowance;
use crate::token::backoff::Backoff;
use crate::token::dpop::Dpop;
use crate::token::failure::{Concerns, MintFailure};
use crate::token::source::Source;
use crate::token::watchers::Watchers;

/// What the cell and its minter both see.
pub(in crate::token) struct Shared {
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
    pub(in crate::token) watchers: Watchers,
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
pub(super) enum Rejection {
    /// It is held back; a mint is due or underway.
    Held,
    /// Another one is live.
    Late(Arc<Token>),
    Exhausted(Duration),
    Blocked(MintFailure),
}

/// What a minter that was asked has to do.
pub(in crate::token) enum Due {
    Nothing,
    Mint,
    /// A back-off is running.
    Blocked(MintFailure),
}

impl Shared {
    pub(in crate::token) fn new(
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

    pub(in crate::token) fn source(&self) -> Arc<Source> {
        self.source.load_full()
    }

    pub(in crate::token) fn replace_source(&self, source: Source) {
        self.source.store(Arc::new(source));
    }

    /// The key that tokens are bound to, where they are.
    pub(in crate::token) fn dpop(&self) -> Option<&Arc<Dpop>> {
        self.dpop.as_ref()
    }

    pub(super) fn usable(&self, now: Instant) -> Option<Arc<Token>> {
        self.live.load_full().filter(|token| token.usable(now))
    }

    fn blocked(&self, now: Instant) -> Option<MintFailure> {
        let client = self.client_backoff.lock().blocks(now);
        client.or_else(|| self.backoff.lock().blocks(now))
    }

    /// The reason not to wait, while a back-off runs and no mint is underway that began before it.
    pub(super) fn fails_fast(&self) -> Option<MintFailure> {
        let failure = self.blocked(Instant::now())?;
        self.renewal.lock().held.is_none().then_some(failure)
    }

    /// Takes `rejected` out of use, if it is the live one and the allowance has a renewal for it.
    pub(super) fn drop_rejected(&self, rejected: &Token) -> Rejection {
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
    pub(in crate::token) fn begin(&self) {
        self.renewal.lock().minting = true;
    }

    pub(in crate::token) fn due(&self) -> Due {
        let now = Instant::now();
        if self.usable(now).is_some_and(|live| !live.asked_ahead()) {
            return Due::Nothing;
        }
        self.blocked(now).map_or(Due::Mint, Due::Blocked)
    }

    /// Makes a minted token live. `make` is given the token before it, to tell the same value from another.
    pub(in crate::token) fn install(&self, make: impl FnOnce(Option<&Token>) -> Token) -> Arc<Token> {
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
    pub(in crate::token) fn restore(&self, retry_after: Duration) -> bool {
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
    pub(in crate::token) fn backoff_of(&self, concerns: Concerns) -> &Mutex<Backoff> {
        match concerns {
            Concerns::Client => &self.client_backoff,
            Concerns::Request => &self.backoff,
        }
    }

    /// The replay with `token` was refused too.
    pub(super) fn replay_refused(&self, token: &Token) {
        self.renewal.lock().allowance.refused(token.id(), Instant::now());
    }

    /// The replay with `token` was accepted.
    pub(super) fn replay_accepted(&self, token: &Token) {
        self.renewal.lock().allowance.accepted(token.id());
    }

    /// Counts one who waits, unless `most` do already.
    pub(super) fn let_in(&self, most: usize) -> bool {
        let is_let_in = self.waiting.fetch_add(1, Ordering::Relaxed) < most;
        if !is_let_in {
            self.let_out();
        }
        is_let_in
    }

    /// One who waited does no more.
    pub(super) fn let_out(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("live", &*self.live.load()).finish_non_exhaustive()
    }
}
