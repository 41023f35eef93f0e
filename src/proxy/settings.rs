//! A named credential as resolved: where to call, and how.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use crate::header::Forwarded;
use crate::limit::Rate;
use crate::name::Name;
use crate::route::Match;
use crate::target::{HostRule, PathRules};
pub use crate::token::{HeaderValueSource, Replay};
use crate::upstream::Endpoint;

/// `[named_credentials.NAME]` as resolved.
#[derive(Clone, Debug, PartialEq)]
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
    /// The upstream; with `from_token` all of it but the authority, which then is [`FromToken::AUTHORITY`].
    pub endpoint: Endpoint,
    /// Where scheme and authority are found, if not in the configuration.
    pub from_token: Option<Box<FromToken>>,
    /// The path of `url` without its trailing slash; empty for `/`.
    pub base_path: String,
    /// What a path may hold.
    pub path: PathRules,
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
    /// What goes on for as long as it pleases.
    pub streams: Streams,
}

impl NamedCredential {
    /// Forwards to `endpoint` without anything of ours.
    #[must_use]
    pub fn passing_through(name: Name, endpoint: Endpoint) -> Self {
        Self {
            name,
            label: None,
            enabled: true,
            matching: Match { host: None, path: "/".to_owned(), methods: None },
            callers: None,
            endpoint,
            from_token: None,
            base_path: String::new(),
            path: PathRules::default(),
            host_header: HostHeader::Upstream,
            external_credential: None,
            generate_authorization_header: false,
            headers: Vec::new(),
            remove_headers: Vec::new(),
            keep_cookies: true,
            forwarded: Forwarded::None,
            replay: Replay::Never,
            replay_limit: 0,
            timeouts: Timeouts::default(),
            limits: CredentialLimits::default(),
            streams: Streams::default(),
        }
    }

    /// The URL, as people are told it.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.from_token {
            Some(from) => format!("({} of the token endpoint's answer){}", from.pointer, self.base_path),
            None => format!("{}://{}{}", self.endpoint.scheme(), self.endpoint.authority, self.base_path),
        }
    }
}

/// `url = { from_token = "/instance_url", … }`: the token endpoint's answer says where the upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromToken {
    /// JSON pointer into the answer (RFC 6901).
    pub pointer: String,
    /// The hosts that may stand there; never empty. A port that is not listed is 443.
    pub allow: Vec<HostRule>,
    /// Whether it may be plain HTTP to this machine.
    pub dangerous_plain_http: bool,
}

impl FromToken {
    /// Stands in the place of an authority that is not known yet. It never resolves (RFC 6761 6.4).
    pub const AUTHORITY: &str = "from-token.invalid";
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

impl Default for Timeouts {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect: Duration::from_secs(5),
            first_byte: minute,
            idle: minute,
            total: None,
            continue_: Duration::from_secs(1),
        }
    }
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
    /// How long a body is held back for the upstream's `100 Continue` (default 1 s).
    pub continue_: Duration,
}

/// `streams`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams {
    /// The protocols that callers may switch to (RFC 9110 7.8), as they are sent (default: `websocket`).
    pub upgrades: Arc<[HeaderValue]>,
    /// Longest pause of an upgraded connection, an event stream or a gRPC call; none by default.
    pub idle: Option<Duration>,
}

impl Default for Streams {
    fn default() -> Self {
        static UPGRADES: LazyLock<Arc<[HeaderValue]>> =
            LazyLock::new(|| Arc::new([HeaderValue::from_static("websocket")]));
        Self { upgrades: Arc::clone(&UPGRADES), idle: None }
    }
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
