//! Where a cell's tokens come from: how one is minted, and the rules and names that go with it.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::LifetimeRules;
use super::failure::MintError;
use super::minted::Minted;
use crate::name::Name;

/// One call of the token endpoint.
pub(super) trait Mint: Send + Sync {
    /// The future owns what it needs.
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>>;
}

/// How a cell's tokens are minted, and what they are called in the log.
pub(super) struct Source {
    pub(super) external_credential: Name,
    pub(super) principal: Name,
    pub(super) mint: Box<dyn Mint>,
    pub(super) kind: Kind,
    pub(super) lifetime: LifetimeRules,
    /// Bound on one mint.
    pub(super) patience: Duration,
}

/// What a cell's tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each is made for us or by us, and has an end.
    Minted,
    /// The configuration holds the only one, and it has no end: handing it out is no mint.
    Fixed,
}
