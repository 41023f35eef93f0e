//! The minter of one cell: a task on the control runtime that mints when asked, one mint at a time.
//!
//! The mint runs in the task itself, so that a caller who goes away cannot cancel it, and all who wait share its
//! outcome. How a mint is made is behind [`Mint`](super::source::Mint); how long to leave an endpoint alone is `backoff`'s.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::access_token::Token;
use super::backoff::{self, Pace};
use super::cell::{Due, Outcome, Shared};
use super::failure::{MintError, MintFailure, MintFailureKind};
use super::lifetime::{Lines, Origin};
use super::minted::Minted;
use super::source::{Kind, Source};
use crate::metrics::MintOutcome;

/// A mint at start happens within this time, spread so that many cells and replicas do not ask at once.
pub(super) const START_SPREAD: Duration = Duration::from_secs(2);
/// What is given to a mint beyond its own time-out before it is abandoned.
const GRACE: Duration = Duration::from_millis(250);
/// A server that gives the same token again is not asked sooner than this, however near the end.
const SAME_TOKEN_REST: Duration = Duration::from_secs(30);

/// When the first token is minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// When somebody asks.
    OnDemand,
    /// Soon, without being asked.
    Soon,
}

/// Mints whenever asked and due, until the cell is gone.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut asks: mpsc::Receiver<()>,
    outcomes: watch::Sender<Outcome>,
    start: Start,
) {
    let mut minter = Minter { shared, outcomes, warned_of_lifetime: false };
    if start == Start::Soon {
        tokio::time::sleep(START_SPREAD.mul_f64(backoff::chance())).await;
        minter.answer().await;
    }
    while asks.recv().await.is_some() {
        minter.answer().await;
    }
}

struct Minter {
    shared: Arc<Shared>,
    outcomes: watch::Sender<Outcome>,
    warned_of_lifetime: bool,
}

impl Minter {
    /// Answers one ask. Without a usable token it always ends in an outcome: somebody may be waiting for it.
    async fn answer(&mut self) {
        match self.shared.due() {
            Due::Nothing => {}
            Due::Blocked(failure) => {
                self.shared.restore(failure.retry_after);
                self.outcomes.send_replace(Outcome::Failed(failure));
            }
            Due::Mint => self.mint().await,
        }
    }

    async fn mint(&mut self) {
        let source = self.shared.source();
        self.shared.begin();
        let started = Instant::now();
        // A panic must not leave the cell without its minter for the rest of the process's life.
        let attempt = AssertUnwindSafe(source.mint.mint()).catch_unwind();
        let minted = match tokio::time::timeout(source.patience.saturating_add(GRACE), attempt).await {
            Ok(Ok(minted)) => minted,
            Ok(Err(_)) => Err(unavailable("a defect in keybearer")),
            Err(_) => Err(unavailable("timed out")),
        };
        let took = started.elapsed();
        let outcome = match minted {
            Ok(minted) => {
                self.succeeded(&source, &minted, started, took);
                Outcome::Minted
            }
            Err(error) => Outcome::Failed(self.failed(&source, &error, took)),
        };
        self.outcomes.send_replace(outcome);
    }

    fn succeeded(&mut self, source: &Source, minted: &Minted, started: Instant, took: Duration) {
        let lifetime = minted.lifetime();
        let lines = match source.kind {
            Kind::Minted => lifetime.lines(&source.lifetime, backoff::chance()),
            Kind::Fixed => Lines { renew_ahead: None, unusable: lifetime.span },
        };
        let mut same = false;
        let token = self.shared.install(|predecessor| {
            let token = Token::new(minted, started, lines, predecessor);
            same = predecessor.is_some_and(|predecessor| predecessor.id() == token.id());
            token
        });
        if same {
            token.put_off(Instant::now() + SAME_TOKEN_REST);
        }
        let (external_credential, principal) = (&source.external_credential, &source.principal);
        if source.kind == Kind::Fixed {
            // No server was asked, and there is no end to count down to.
            debug!(%external_credential, %principal, same_token = same, "the configured token is used");
            return;
        }
        self.shared.watchers.minted(MintOutcome::Ok, took);
        self.shared.watchers.lives_until(Some(token.end()));
        info!(
            %external_credential,
            %principal,
            lifetime_seconds = lifetime.span.as_secs(),
            took_ms = milliseconds(took),
            same_token = same,
            "minted a token"
        );
        self.warn_of_oddities(source, minted);
    }

    fn warn_of_oddities(&mut self, source: &Source, minted: &Minted) {
        let (external_credential, principal) = (&source.external_credential, &source.principal);
        let lifetime_seconds = minted.lifetime().span.as_secs();
        let oddity = match minted.lifetime().origin {
            Origin::Endpoint => None,
            Origin::Default => Some("the token endpoint names no usable lifetime; default_lifetime is used"),
            Origin::Maximum => Some("the token endpoint names too long a lifetime; max_lifetime is used"),
        };
        // Once per cell: a server that never names a lifetime is common, and the operator has read it.
        if let Some(oddity) = oddity.filter(|_| !self.warned_of_lifetime) {
            self.warned_of_lifetime = true;
            warn!(%external_credential, %principal, lifetime_seconds, "{oddity}");
        }
        let missing = minted.missing_scopes();
        if !missing.is_empty() {
            warn!(%external_credential, %principal, missing = missing.join(" "), "the token has less scope than asked for");
        }
    }

    fn failed(&self, source: &Source, error: &MintError, took: Duration) -> MintFailure {
        let mut failure = error.failure();
        failure.retry_after = self.shared.backoff_of(error.concerns).lock().failed(
            Instant::now(),
            error.pace,
            &failure,
            backoff::chance(),
        );
        let token_left = self.shared.restore(failure.retry_after);
        if source.kind == Kind::Minted {
            self.shared.watchers.minted(outcome(error.kind()), took);
        }
        if !token_left {
            self.shared.watchers.lives_until(None);
        }
        warn!(
            external_credential = %source.external_credential,
            principal = %source.principal,
            took_ms = milliseconds(took),
            next_try_ms = milliseconds(failure.retry_after),
            live_token = token_left,
            "minting failed: {error}"
        );
        failure
    }
}

fn unavailable(cause: &str) -> MintError {
    MintError::new(MintFailureKind::Unavailable, Pace::Transient, cause)
}

fn outcome(kind: MintFailureKind) -> MintOutcome {
    match kind {
        MintFailureKind::Refused => MintOutcome::Refused,
        MintFailureKind::Unusable => MintOutcome::Unusable,
        MintFailureKind::Unavailable | MintFailureKind::OverCapacity => MintOutcome::Unavailable,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
