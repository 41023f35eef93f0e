//! Counters of tokens: one set per principal of an external credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::families::Families;
use super::handles::Lazy;
use super::histogram::Histogram;
use crate::name::Name;

/// How a call of the token endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MintOutcome {
    /// A usable token.
    Ok,
    /// The token endpoint refuses permanently.
    Refused,
    /// An answer without a token that could be used.
    Unusable,
    /// The token endpoint is unreachable, slow, failing or limiting us.
    Unavailable,
}

impl MintOutcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Refused, Self::Unusable, Self::Unavailable];

    /// The word in the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unusable => "unusable",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counts what happens to the tokens of one principal, in counters made with its first mint. Cloning costs one atomic
/// increment.
#[derive(Clone, Debug)]
pub struct ExternalCredentialMetrics(Arc<Own>);

#[derive(Debug)]
struct Own {
    /// The external credential and the principal.
    names: (Name, Name),
    families: Arc<Families>,
    tokens: Lazy<Tokens>,
}

impl ExternalCredentialMetrics {
    pub(super) fn new(names: (Name, Name), families: Arc<Families>) -> Self {
        Self(Arc::new(Own { names, families, tokens: Lazy::default() }))
    }

    fn tokens(&self) -> &Tokens {
        let own = &*self.0;
        own.tokens.get(|| own.families.tokens.resolve(own.names.clone()))
    }

    /// Counts one call of the token endpoint.
    pub fn minted(&self, outcome: MintOutcome, took: Duration) {
        let tokens = self.tokens();
        let [ok, refused, unusable, unavailable] = &tokens.mints;
        let count = match outcome {
            MintOutcome::Ok => ok,
            MintOutcome::Refused => refused,
            MintOutcome::Unusable => unusable,
            MintOutcome::Unavailable => unavailable,
        };
        count.fetch_add(1, Relaxed);
        tokens.duration.observe(took);
    }

    /// From now on there is a token that is good until `end`; with none there is no token. Called for every new token.
    pub fn lives_until(&self, end: Option<Instant>) {
        match (end, self.0.tokens.made()) {
            (Some(end), _) => *self.tokens().life.lock() = Some(Life { since: Instant::now(), end }),
            (None, Some(tokens)) => *tokens.life.lock() = None,
            (None, None) => {}
        }
    }

    /// Counts a rejected token that was not renewed because the renewal allowance is used up.
    pub fn renewal_exhausted(&self) {
        self.tokens().exhausted.fetch_add(1, Relaxed);
    }
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    mints: [AtomicU64; MintOutcome::ALL.len()],
    exhausted: AtomicU64,
    pub(super) duration: Histogram,
    /// Written once a mint and read once a scrape.
    life: Mutex<Option<Life>>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    since: Instant,
    end: Instant,
}

impl Tokens {
    /// Calls of the token endpoint by outcome, zeroes too.
    pub(super) fn mints(&self) -> impl Iterator<Item = (&'static str, u64)> {
        MintOutcome::ALL.into_iter().map(MintOutcome::as_str).zip(self.mints.iter().map(|count| count.load(Relaxed)))
    }

    pub(super) fn exhausted(&self) -> u64 {
        self.exhausted.load(Relaxed)
    }

    /// Seconds since the token came and seconds to its end, never below 0; none while there is no token.
    pub(super) fn age_and_rest(&self, now: Instant) -> Option<(f64, f64)> {
        let life = (*self.life.lock())?;
        let seconds = |later: Instant, earlier| later.saturating_duration_since(earlier).as_secs_f64();
        Some((seconds(now, life.since), seconds(life.end, now)))
    }
}
