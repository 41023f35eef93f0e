//! An external credential as resolved: how to authenticate, in the terms of the RFCs. What is built is right; nothing
//! here reads a file or asks a server.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};

use super::assertion::{Assertion, AssertionSource};
use super::rejection::RejectionRules;
use crate::connect::{Addresses, HttpProxy};
use crate::fetch::Way;
use crate::formula::Formula;
use crate::name::Name;
use crate::secret::{Secret, SecretSource};
use crate::tls;

/// How to authenticate.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name.
    pub name: Name,
    /// Where a token comes from.
    pub flow: Flow,
    /// How the lifetime of a token is read and bounded.
    pub lifetime: LifetimeRules,
    /// Mint when the process starts instead of at first use.
    pub mint_at_start: bool,
    /// Whether `/readyz` waits for a first token.
    pub required_for_readiness: bool,
    /// Which answers say that the token is no longer good.
    pub rejection: RejectionRules,
    /// How the token is attached to a request.
    pub inject: Inject,
    /// Further fields that go with the token, in order; each replaces a field of the same name.
    pub headers: Vec<(HeaderName, HeaderValueSource)>,
    /// The principals in order of their sequence numbers; never empty.
    pub principals: Vec<PrincipalSettings>,
}

impl Settings {
    /// Whether both ask the same endpoint for the same thing in the same names, and for the same callers: only the proof,
    /// and what is made of the answer, may differ.
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        let (Some(own), Some(others)) = (self.request(), other.request()) else { return false };
        let asks_the_same = own.endpoint == others.endpoint
            && (&own.scope, &own.audience, &own.resource) == (&others.scope, &others.audience, &others.resource);
        let is_same = |(own, other): (&PrincipalSettings, &PrincipalSettings)| {
            (&own.name, &own.client_id, &own.username, &own.callers)
                == (&other.name, &other.client_id, &other.username, &other.callers)
        };
        asks_the_same
            && self.principals.len() == other.principals.len()
            && self.principals.iter().zip(&other.principals).all(is_same)
    }

    /// The token request, where the flow makes one.
    #[must_use]
    pub fn request(&self) -> Option<&RequestSettings> {
        match &self.flow {
            Flow::Request(request) => Some(request),
            Flow::SignedJwt(_) | Flow::Basic | Flow::Static | Flow::None => None,
        }
    }

    /// The token request, where the flow makes one.
    #[must_use]
    pub fn request_mut(&mut self) -> Option<&mut RequestSettings> {
        match &mut self.flow {
            Flow::Request(request) => Some(request),
            Flow::SignedJwt(_) | Flow::Basic | Flow::Static | Flow::None => None,
        }
    }
}

/// `flow`
#[derive(Clone, Debug, PartialEq)]
pub enum Flow {
    /// A token endpoint is asked.
    Request(Box<RequestSettings>),
    /// `signed_jwt`: the JWT that we sign is the token.
    SignedJwt(Box<Assertion>),
    /// `basic`: user name and password of the principal, RFC 7617; the "token" is their base64.
    Basic,
    /// `static`: the principal's fixed token.
    Static,
    /// `none`: no token; only the extra fields.
    None,
}

/// Everything about the token request that does not depend on the principal.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestSettings {
    /// Where tokens come from.
    pub endpoint: Endpoint,
    /// What is asked for a token.
    pub grant: Grant,
    /// `POST`, or `GET` with all parameters in the query.
    pub method: Method,
    /// How the client proves itself; none: as the issuer's metadata and the principal's credentials allow.
    pub client_authentication: Option<ClientAuthentication>,
    /// `scope` as sent, never empty.
    pub scope: Option<Text>,
    /// `audience` values, one parameter each.
    pub audience: Vec<Text>,
    /// `resource` values (RFC 8707), one parameter each.
    pub resource: Vec<String>,
    /// Further parameters of the token request.
    pub parameters: Parameters,
    /// How the answer is read; mostly the usual way, which all share.
    pub response: Arc<ResponseRules>,
    /// Whether tokens are bound to a key of ours (RFC 9449).
    pub dpop: bool,
}

impl RequestSettings {
    /// The formulas that decide what is asked for.
    pub fn formulas(&self) -> impl Iterator<Item = &Formula> {
        self.scope.iter().chain(&self.audience).filter_map(|text| match text {
            Text::Literal(_) => None,
            Text::Formula(formula) => Some(&**formula),
        })
    }

    /// Whether only a caller's request says what is asked for.
    #[must_use]
    pub fn depends_on_request(&self) -> bool {
        self.formulas().any(|formula| formula.uses().request)
    }
}

/// A text of the configuration, or a formula that gives it for each exchange.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// As written.
    Literal(String),
    /// `{ formula = "…" }`
    Formula(Arc<Formula>),
}

/// A token endpoint and the way to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Absolute `http` or `https` URL, a query is kept; none: what the issuer's metadata name.
    pub url: Option<Uri>,
    /// The issuer identifier exactly as configured (RFC 8414 2); `url` or this is there.
    pub issuer: Option<String>,
    /// Whether discovered URLs may be plain HTTP to another machine.
    pub dangerous_plain_http: bool,
    /// Trust roots and client certificate.
    pub tls: Arc<tls::Profile>,
    /// The proxy on the way out.
    pub http_proxy: Option<Arc<HttpProxy>>,
    /// To which addresses the way may lead.
    pub addresses: Addresses,
    /// Bound on the whole token request, and on how long a caller waits for a token.
    pub timeout: Duration,
    /// Longest answer that is read, in bytes.
    pub longest_answer: usize,
}

impl Endpoint {
    /// The way to it.
    #[must_use]
    pub fn way(&self) -> Way<'_> {
        Way { tls: &self.tls, http_proxy: self.http_proxy.as_deref(), addresses: self.addresses }
    }

    /// The proxy through which the way to the token endpoint, or to the issuer, leads, if it does.
    #[must_use]
    pub fn proxy(&self) -> Option<&HttpProxy> {
        let issuer = self.issuer.as_ref().and_then(|issuer| issuer.parse().ok());
        self.way().proxy(self.url.as_ref().or(issuer.as_ref())?)
    }
}

/// What is asked for a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The flow.
    pub kind: GrantKind,
    /// `grant_type`: its name on the wire instead of the flow's own; an empty one sends none.
    pub grant_type: Option<String>,
}

/// The flows that ask a token endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum GrantKind {
    /// RFC 6749 4.4.
    ClientCredentials,
    /// RFC 7523 2.1.
    JwtBearer(AssertionSource),
    /// RFC 6749 4.3, with the principal's user name and password.
    Password,
    /// RFC 6749 6, with the principal's refresh token.
    RefreshToken {
        /// Where a rotated refresh token is kept over a restart; one file, made with mode 0600.
        store: Option<PathBuf>,
    },
    /// RFC 8693.
    TokenExchange(Box<TokenExchange>),
}

/// RFC 8693 2.1.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenExchange {
    /// Read anew for every mint.
    pub subject_token: SecretSource,
    /// A token type identifier.
    pub subject_token_type: String,
    /// The acting party's token and its type, read anew for every mint.
    pub actor_token: Option<(SecretSource, String)>,
    /// A token type identifier.
    pub requested_token_type: Option<String>,
}

/// `client_authentication`
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuthentication {
    /// Id and secret in the `Authorization` field (RFC 6749 2.3.1, and what servers made of it).
    ClientSecretBasic(BasicEncoding),
    /// Id and secret in the form body.
    ClientSecretPost,
    /// All parameters, id and secret among them, in the query. RFC 6749 2.3.1 forbids it; Marketo demands it.
    Query,
    /// All parameters, id and secret among them, as one JSON object.
    Json,
    /// A JWT with an HMAC of the client secret (OpenID Connect Core 9).
    ClientSecretJwt(Box<Assertion>),
    /// A JWT with a signature, or one that somebody else signed for us (RFC 7523 2.2).
    PrivateKeyJwt(AssertionSource),
    /// The client certificate of the TLS connection (RFC 8705 2).
    TlsClientAuth,
    /// A JWT as bearer token on the token request (GitHub App).
    BearerJwt(Box<Assertion>),
    /// The client id alone, where there is one.
    None,
}

/// What is done to id and secret before base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BasicEncoding {
    /// Form-encoded, as RFC 6749 2.3.1 demands.
    Form,
    /// As they are: some servers never decode.
    Raw,
    /// Percent-encoded: a space is `%20` and not `+`.
    Percent,
}

/// `parameters = { body = {…}, query = {…}, headers = {…} }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Added to the form or JSON body; with `GET` to the query.
    pub body: Vec<(String, Secret)>,
    /// Added to the query of the token endpoint.
    pub query: Vec<(String, Secret)>,
    /// Added to the header section of the token request.
    pub headers: Vec<(HeaderName, Secret)>,
}

/// `response`, `expires_unit`, `error` and `accept_token_types`
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseRules {
    /// JSON pointer to the token (RFC 6901).
    pub token: String,
    /// JSON pointer to the lifetime.
    pub expires_in: String,
    /// JSON pointer to the type.
    pub token_type: String,
    /// What the lifetime is written in.
    pub expires_unit: ExpiryUnit,
    /// JSON pointers to the error code, the first that leads somewhere counts.
    pub error: Vec<String>,
    /// Accepted `token_type` values, lower case; empty, null and absent are in the list as `""`.
    pub accept_token_types: Vec<String>,
    /// JSON pointers to texts that are kept beside the token, at most [`super::MOST_MEMBERS`]: named credentials find
    /// their upstream there.
    pub members: Vec<String>,
}

impl ResponseRules {
    /// The usual ones.
    #[must_use]
    pub fn usual() -> Arc<Self> {
        static USUAL: LazyLock<Arc<ResponseRules>> = LazyLock::new(Arc::default);
        Arc::clone(&USUAL)
    }
}

impl Default for ResponseRules {
    /// RFC 6749 5.1, with what Apigee made of 5.2.
    fn default() -> Self {
        Self {
            token: "/access_token".to_owned(),
            expires_in: "/expires_in".to_owned(),
            token_type: "/token_type".to_owned(),
            expires_unit: ExpiryUnit::Seconds,
            error: ["/error", "/ErrorCode", "/fault/detail/errorcode"].map(str::to_owned).to_vec(),
            // RFC 6749 says `bearer`; the others are what servers made of it.
            accept_token_types: ["bearer", "bearertoken", "application access token", "n_a", ""]
                .map(str::to_owned)
                .to_vec(),
            members: Vec::new(),
        }
    }
}

/// `expires_unit`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExpiryUnit {
    /// `s`: seconds from now.
    #[default]
    Seconds,
    /// `ms`: milliseconds from now.
    Milliseconds,
    /// `epoch`: seconds since 1970.
    Epoch,
    /// `epoch_ms`: milliseconds since 1970.
    EpochMilliseconds,
    /// `rfc3339`: a date and time.
    Rfc3339,
}

/// How long a token counts as good.
#[derive(Clone, Debug, PartialEq)]
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

/// The value of a field that keybearer adds.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValueSource {
    /// The same for every request.
    Fixed(HeaderValue),
    /// Likewise, and a secret.
    Secret(HeaderValue),
    /// `{ formula = "…" }`, evaluated for each exchange.
    Formula(Arc<Formula>),
}

/// One identity under an external credential. What its flow and client authentication need is there.
#[derive(Clone, Debug, PartialEq)]
pub struct PrincipalSettings {
    /// Its name; `default` in the short form.
    pub name: Name,
    /// `client_id`; empty where there is none.
    pub client_id: String,
    /// `client_secret`
    pub client_secret: Option<Secret>,
    /// `username`, for the flows `password` and `basic`.
    pub username: Option<String>,
    /// `password`
    pub password: Option<Secret>,
    /// `refresh_token`: the one to begin with.
    pub refresh_token: Option<Secret>,
    /// `token`, for the flow `static`.
    pub token: Option<Secret>,
    /// `secrets`, by name, for formulas: those of the external credential, then the principal's own over them.
    pub secrets: Vec<(String, Secret)>,
    /// The callers that may use it; none: everyone.
    pub callers: Option<Vec<Name>>,
}

#[cfg(test)]
mod sample;
