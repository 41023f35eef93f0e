//! Live tokens: one cell per distinct token request, minted on the control thread, read without a lock by the workers.
//!
//! Here stand the settings; below, `cell` is what a worker holds, `minter` the task that fills it, `mint` and `answer`
//! the exchange with the endpoint, and `lifetime`, `backoff` and `allowance` the rules, each pure. Whether a request
//! is sent again is the proxy's decision.

mod access_token;
mod allowance;
mod answer;
mod backoff;
mod cell;
mod credential;
mod failure;
mod key;
mod lifetime;
mod mint;
mod minted;
mod minter;
mod minters;
mod source;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, Uri};

use crate::name::Name;
use crate::secret::Secret;
use crate::tls;

pub use access_token::Token;
pub use cell::{Cell, Renewal};
pub use credential::{ExternalCredential, Principal};
pub use failure::{MintError, MintFailure, MintFailureKind};
pub use lifetime::{Lifetime, Origin};
pub use mint::mint_once;
pub use minted::Minted;
pub use minters::Minters;

/// An external credential as resolved: how to authenticate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: Name,
    /// Where tokens come from.
    pub endpoint: Endpoint,
    /// How the client proves itself to the token endpoint.
    pub client_authentication: ClientAuthentication,
    /// `scope`, space-separated, as sent.
    pub scope: Option<String>,
    /// `audience` values, one parameter each.
    pub audience: Vec<String>,
    /// `resource` values (RFC 8707), one parameter each.
    pub resource: Vec<String>,
    /// Further parameters of the token request.
    pub parameters: Parameters,
    /// How the lifetime of a token is read and bounded.
    pub lifetime: LifetimeRules,
    /// Accepted `token_type` values, lower case; empty, null and absent are in the list as `""`.
    pub accept_token_types: Vec<String>,
    /// Mint when the process starts instead of at first use.
    pub mint_at_start: bool,
    /// Whether `/readyz` waits for a first token.
    pub required_for_readiness: bool,
    /// Status codes besides 401 that mean the token is no longer good.
    pub additional_refresh_status_codes: Vec<StatusCode>,
    /// How the token is attached to a request.
    pub inject: Inject,
    /// The principals in order of their sequence numbers; never empty.
    pub principals: Vec<PrincipalSettings>,
}

/// A token endpoint and the way to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Absolute `http` or `https` URL; a query is kept.
    pub url: Uri,
    /// Trust roots and client certificate.
    pub tls: Arc<tls::Profile>,
    /// Bound on the whole token request, and on how long a caller waits for a token.
    pub timeout: Duration,
}

/// RFC 6749 2.3.1, and what servers made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAuthentication {
    /// `client_secret_basic`: id and secret in the `Authorization` field.
    ClientSecretBasic(BasicEncoding),
    /// `client_secret_post`: id and secret in the form body.
    ClientSecretPost,
}

/// What is done to id and secret before base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BasicEncoding {
    /// Form-encoded, as RFC 6749 2.3.1 demands.
    Form,
    /// As they are: some servers never decode.
    Raw,
}

/// `parameters = { body = {…}, query = {…}, headers = {…} }`
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Added to the form body.
    pub body: Vec<(String, Secret)>,
    /// Added to the query of the token endpoint.
    pub query: Vec<(String, Secret)>,
    /// Added to the header section of the token request.
    pub headers: Vec<(HeaderName, Secret)>,
}

/// How long a token counts as good.
#[derive(Clone, Debug)]
pub struct LifetimeRules {
    /// Used when the answer names no usable lifetime (default 15 min).
    pub default: Duration,
    /// Longest lifetime believed (default 24 h).
    pub max: Duration,
    /// When a new token is minted ahead of the end of the old one.
    pub renew_ahead: RenewAhead,
    /// Not usable any more this long before its end; bounded by a share of the lifetime.
    pub expiry_margin: Duration,
}

/// `renew_ahead`
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RenewAhead {
    /// A share of the lifetime, 0 to 1.
    Share(f64),
    /// This long before the end.
    Before(Duration),
    /// Never: mint when a request finds no usable token.
    Off,
}

/// `inject = { header = "authorization", scheme = "Bearer" }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inject {
    /// The field that carries the token.
    pub header: HeaderName,
    /// The scheme before the token; none: the token alone.
    pub scheme: Option<String>,
}

/// One identity under an external credential.
#[derive(Clone, Debug)]
pub struct PrincipalSettings {
    /// Its name; `default` in the short form.
    pub name: Name,
    /// `client_id`
    pub client_id: String,
    /// `client_secret`
    pub client_secret: Secret,
    /// The callers that may use it; none: everyone.
    pub callers: Option<Vec<Name>>,
}
