//! Live tokens: one cell per distinct token request, minted on the control thread, read without a lock by the workers.
//!
//! `settings` says how to authenticate. Below it, `cell` is what a worker holds and `minter` the task that fills it;
//! `registry` knows all cells, `varying` those that formulas tell apart; `own` makes tokens that no server is asked for.
//! `mint` is the exchange with the endpoint: `grant` says what is asked for, `authentication` who asks, `wire` how
//! that is laid out, `answer` reads what comes back. `lifetime`, `backoff`, `allowance` and `rejection` are the rules,
//! each pure. Whether a request is sent again is the proxy's decision.

mod access_token;
mod allowance;
mod answer;
mod assertion;
mod authentication;
mod backoff;
mod cell;
mod credential;
mod discovery;
mod dpop;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grant;
mod key;
mod lifetime;
mod members;
mod mint;
mod minted;
mod minter;
mod minters;
mod observation;
mod own;
mod refresh;
mod registry;
mod rejection;
mod seed;
mod settings;
mod source;
mod values;
mod varying;
mod watchers;
mod wire;

pub use access_token::Token;
pub use answer::USUAL_DESCRIPTIONS;
pub use assertion::{Assertion, AssertionKey, AssertionSource, Claim};
pub use cell::{Cell, MOST_WAITING, Renewal};
pub use credential::{ExternalCredential, Principal};
pub use discovery::discover_token_endpoint;
pub use dpop::Dpop;
pub use failure::{MintError, MintFailure, MintFailureKind};
pub use lifetime::{Lifetime, Origin};
pub use members::{MOST_MEMBERS, Members};
pub use mint::mint_observed;
pub use minted::Minted;
pub use minters::Minters;
pub use observation::{Observed, Received, Sent, Sighting};
pub use rejection::{JsonRule, RejectionRules, Replay, Rule, Seen, StatusPattern, Verdict};
pub use settings::{
    BasicEncoding, ClientAuthentication, Endpoint, ExpiryUnit, Flow, Grant, GrantKind, HeaderValueSource, Inject,
    LifetimeRules, Parameters, PrincipalSettings, RenewAhead, RequestSettings, ResponseRules, Settings, Text,
    TokenExchange,
};
pub use values::Values;
pub use varying::CellUnavailable;
