//! A named credential as resolved: where to call, and how.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use crate::header::Forwarded;
use crate::limit::Rate;
use crate::name::Name;
use crate::route::Match;
pub use crate::token::{HeaderValueSource, Replay};
use crate::upstream::Endpoint;

/// `[named_credentials.NAME]` as resolved.
#[derive(Clone, Debug)]
pub struct NamedCredential {
    /// Its name.
    pub name: Name,
    /// What a person calls it.
    pub label: Option<String>,
    /// `false` answers 503.
    pub enabled: bool,
    /// Which requests belong to it.
    pub matching: Match,
    /// The callers that may use it; none: everyone the listener admits.
    pub callers: Option<Vec<Name>>,
    /// The upstream.
    pub endpoint: Endpoint,
    /// The path of `url` without its trailing slash; empty for `/`.
    pub base_path: String,
    /// What `Host` the upstream sees.
    pub host_header: HostHeader,
    /// The name of the external credential; none forwards without a credential.
    pub external_credential: Option<Name>,
    /// Whether the credential is attached.
    pub generate_authorization_header: bool,
    /// Fields added, replacing those of the same name.
    pub headers: Vec<(HeaderName, HeaderValueSource)>,
    /// Fields removed from the caller's request.
    pub remove_headers: Vec<HeaderName>,
    /// Whether the caller's `Cookie` travels on.
    pub keep_cookies: bool,
    /// Which forwarding fields are sent.
    pub forwarded: Forwarded,
    /// Which requests are sent again after a rejection.
    pub replay: Replay,
    /// How many bytes of a request body are kept for a replay.
    pub replay_limit: usize,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// What its callers may use of it.
    pub limits: CredentialLimits,
}

/// `host_header`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The authority of the upstream's URL.
    Upstream,
    /// What the caller sent.
    Caller,
    /// This text.
    Text(HeaderValue),
}

/// `timeouts`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// DNS, TCP and TLS together (default 5 s).
    pub connect: Duration,
    /// From the request's last byte to the answer's head (default 60 s).
    pub first_byte: Duration,
    /// Between two pieces of the answer's body (default 60 s).
    pub idle: Duration,
    /// The whole exchange; none by default.
    pub total: Option<Duration>,
}

/// `limits` of a named credential
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialLimits {
    /// Requests in a time, of all callers together.
    pub rate: Option<Rate>,
    /// Requests being served at a time.
    pub requests: Option<usize>,
    /// Longest request body in bytes.
    pub body: Option<usize>,
}
