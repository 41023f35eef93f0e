//! One call of a token endpoint with client credentials (RFC 6749 4.4).
//!
//! The `oauth2` crate builds the request and reads the answer; between it and the wire stands an adaptor that makes
//! both what real servers need: raw Basic encoding, further fields and parameters on the way out; on the way back the
//! answer is judged by `answer` and handed on in canonical form. The crate's errors may hold a whole answer, so they
//! are converted without their bytes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Response, Uri};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::url::form_urlencoded;
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope,
    TokenResponse, TokenUrl,
};
use parking_lot::Mutex;

use super::answer::{self, Answer};
use super::backoff::Pace;
use super::failure::{MintError, MintFailureKind};
use super::lifetime::Lifetime;
use super::minted::Minted;
use super::source::Mint;
use super::{BasicEncoding, ClientAuthentication, Endpoint, LifetimeRules, Parameters, PrincipalSettings, Settings};
use crate::fetch::{FetchError, Limits, fetch};
use crate::secret::Secret;

/// Longest answer of a token endpoint. RFC 6749 5.1 bounds no token; no server's comes near this.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Servers disagree on what Basic credentials are before base64, and no answer tells which kind a server is. Trying
/// both would look like guessing and can lock a client out, so the operator is told.
const ENCODING_HINT: &str = "id or secret holds characters that servers encode differently; if both are right, try another basic_encoding or client_secret_post";

/// Everything one token request needs.
#[derive(Clone)]
pub(super) struct TokenRequest {
    endpoint: Endpoint,
    client_authentication: ClientAuthentication,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    audience: Vec<String>,
    resource: Vec<String>,
    parameters: Parameters,
    lifetime: LifetimeRules,
    accept_token_types: Vec<String>,
}

/// Mints one token outside any cell: for the commands that look at a token and leave.
///
/// # Errors
/// [`MintError`]
pub async fn mint_once(settings: &Settings, principal: &PrincipalSettings) -> Result<Minted, MintError> {
    TokenRequest::new(settings, principal).send().await
}

impl Mint for Arc<TokenRequest> {
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>> {
        let request = Self::clone(self);
        async move { request.send().await }.boxed()
    }
}

/// What stands between the crate and the wire.
struct Adaptor<'a> {
    request: &'a TokenRequest,
    /// The type as written, which the crate's own reading does not keep.
    token_type: Mutex<Option<String>>,
}

impl<'c> AsyncHttpClient<'c> for Adaptor<'_> {
    type Error = MintError;
    type Future = BoxFuture<'c, Result<HttpResponse, MintError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        async move {
            let answer = self.request.ask(request).await?;
            self.token_type.lock().clone_from(&answer.token_type);
            canonical(answer)
        }
        .boxed()
    }
}

impl TokenRequest {
    pub(super) fn new(settings: &Settings, principal: &PrincipalSettings) -> Self {
        Self {
            endpoint: settings.endpoint.clone(),
            client_authentication: settings.client_authentication,
            client_id: principal.client_id.clone(),
            client_secret: principal.client_secret.clone(),
            // An empty parameter counts as omitted (RFC 6749 3.2), so it is.
            scope: settings.scope.clone().filter(|scope| !scope.trim().is_empty()),
            audience: settings.audience.clone(),
            resource: settings.resource.clone(),
            parameters: settings.parameters.clone(),
            lifetime: settings.lifetime.clone(),
            accept_token_types: settings.accept_token_types.clone(),
        }
    }

    async fn send(&self) -> Result<Minted, MintError> {
        let url = TokenUrl::new(self.endpoint.url.to_string()).map_err(|_| misconfigured("the URL cannot be read"))?;
        let client = BasicClient::new(ClientId::new(self.client_id.clone()))
            .set_client_secret(ClientSecret::new(self.client_secret.expose().to_owned()))
            .set_auth_type(match self.client_authentication {
                ClientAuthentication::ClientSecretBasic(_) => AuthType::BasicAuth,
                ClientAuthentication::ClientSecretPost => AuthType::RequestBody,
            })
            .set_token_uri(url);
        let mut exchange = client.exchange_client_credentials();
        if let Some(scope) = &self.scope {
            exchange = exchange.add_scope(Scope::new(scope.clone()));
        }
        for (name, values) in [("audience", &self.audience), ("resource", &self.resource)] {
            for value in values.iter().filter(|value| !value.is_empty()) {
                exchange = exchange.add_extra_param(name, value.as_str());
            }
        }
        let adaptor = Adaptor { request: self, token_type: Mutex::new(None) };
        let response = exchange.request_async(&adaptor).await.map_err(converted)?;
        Ok(self.minted(&response, adaptor.token_type.into_inner()))
    }

    fn minted(&self, response: &BasicTokenResponse, token_type: Option<String>) -> Minted {
        let scope =
            response.scopes().map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "));
        Minted {
            value: Secret::new(response.access_token().secret().clone()),
            token_type,
            scope,
            asked_scope: self.scope.clone(),
            lifetime: Lifetime::new(response.expires_in(), &self.lifetime),
        }
    }

    /// Sends what the crate built, made as this server needs it, and judges what comes back.
    async fn ask(&self, request: HttpRequest) -> Result<Answer, MintError> {
        let request = self.normalised(request)?;
        let limits = Limits { timeout: self.endpoint.timeout, body: LONGEST_ANSWER };
        let answer = fetch(request, &self.endpoint.tls, limits).await.map_err(|error| unanswered(&error))?;
        answer::judge(&answer, &self.accept_token_types, &self.telltales()).map_err(|error| self.hinted(error))
    }

    fn hinted(&self, error: MintError) -> MintError {
        let basic = matches!(self.client_authentication, ClientAuthentication::ClientSecretBasic(_));
        let plain = |text: &str| form_encoded(text) == text;
        if !basic || !matches!(error.cause(), "invalid_client" | "unauthorized_client") {
            return error;
        }
        if plain(&self.client_id) && plain(self.client_secret.expose()) {
            return error;
        }
        let detail = error.detail().map_or_else(|| ENCODING_HINT.to_owned(), |said| format!("{said}; {ENCODING_HINT}"));
        error.with_detail(detail)
    }

    fn normalised(&self, request: HttpRequest) -> Result<http::Request<Bytes>, MintError> {
        let (mut head, body) = request.into_parts();
        head.uri = self.url()?;
        if self.client_authentication == ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw) {
            let credentials = STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret.expose()));
            let value = HeaderValue::try_from(format!("Basic {credentials}"))
                .map_err(|_| misconfigured("the client's id and secret cannot be sent"))?;
            head.headers.insert(AUTHORIZATION, value);
        }
        if let Some(value) = head.headers.get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        let user_agent = concat!("keybearer/", env!("CARGO_PKG_VERSION"));
        head.headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        for (name, value) in &self.parameters.headers {
            let mut value = HeaderValue::try_from(value.expose())
                .map_err(|_| misconfigured("a value of parameters.headers cannot be in a header"))?;
            value.set_sensitive(true);
            head.headers.insert(name, value);
        }
        debug_assert!(head.headers.contains_key(CONTENT_TYPE), "the crate declares its form");
        Ok(http::Request::from_parts(head, self.form(body)))
    }

    /// The configured URL byte for byte, with `parameters.query` at the end of its query.
    fn url(&self) -> Result<Uri, MintError> {
        let url = &self.endpoint.url;
        if self.parameters.query.is_empty() {
            return Ok(url.clone());
        }
        let added = serialised(&self.parameters.query);
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&{added}"),
            Some(_) | None => added,
        };
        let mut parts = url.clone().into_parts();
        let target = format!("{}?{query}", url.path()).try_into().ok();
        parts.path_and_query = Some(target.ok_or_else(|| misconfigured("parameters.query cannot be in a URL"))?);
        Uri::from_parts(parts).map_err(|_| misconfigured("parameters.query cannot be in a URL"))
    }

    /// The crate's form with `parameters.body`; no name twice (RFC 6749 3.2), so a configured one takes the place of
    /// the crate's.
    fn form(&self, body: Vec<u8>) -> Bytes {
        if self.parameters.body.is_empty() {
            return Bytes::from(body);
        }
        let configured = |name: &str| self.parameters.body.iter().any(|(known, _)| known == name);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(form_urlencoded::parse(&body).filter(|(name, _)| !configured(name)));
        form.extend_pairs(self.parameters.body.iter().map(|(name, value)| (name, value.expose())));
        Bytes::from(form.finish())
    }

    /// What an answer must not say back to us in front of others: the secrets, in each form in which they were sent.
    fn telltales(&self) -> Vec<Secret> {
        let (id, secret) = (self.client_id.as_str(), self.client_secret.expose());
        let parameters = [&self.parameters.body, &self.parameters.query];
        let parameters = parameters.into_iter().flatten().map(|(_, value)| value);
        let headers = self.parameters.headers.iter().map(|(_, value)| value);
        [
            form_encoded(secret),
            STANDARD.encode(secret),
            STANDARD.encode(format!("{id}:{secret}")),
            STANDARD.encode(format!("{}:{}", form_encoded(id), form_encoded(secret))),
        ]
        .into_iter()
        .map(Secret::new)
        .chain([self.client_secret.clone()])
        .chain(parameters.chain(headers).cloned())
        .collect()
    }
}

fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn serialised(pairs: &[(String, Secret)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs.iter().map(|(name, value)| (name, value.expose())));
    form.finish()
}

/// The answer as the crate wants it: status 200, JSON, numbers as numbers, no member it would stumble over.
fn canonical(answer: Answer) -> Result<HttpResponse, MintError> {
    let mut members = serde_json::Map::new();
    members.insert("access_token".to_owned(), answer.access_token.expose().into());
    members.insert("token_type".to_owned(), "bearer".into());
    if let Some(seconds) = answer.expires_in {
        members.insert("expires_in".to_owned(), seconds.into());
    }
    if let Some(scope) = answer.scope {
        members.insert("scope".to_owned(), scope.into());
    }
    let body = serde_json::to_vec(&members).map_err(|_| MintError::unusable("the answer cannot be rewritten"))?;
    Ok(Response::new(body))
}

/// The crate's error without its bytes: its `Parse` holds the raw answer, token included.
fn converted(error: RequestTokenError<MintError, BasicErrorResponse>) -> MintError {
    match error {
        RequestTokenError::Request(error) => error,
        RequestTokenError::ServerResponse(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            MintError::unusable("the answer cannot be read")
        }
    }
}

/// No answer at all. A caller hears what kind of failure it was; the operator also the causes, which name addresses.
fn unanswered(error: &FetchError) -> MintError {
    let unavailable = |pace, cause: &str| MintError::new(MintFailureKind::Unavailable, pace, cause);
    let converted = match error {
        FetchError::Url(problem) => return misconfigured(problem),
        FetchError::TooLarge { limit } => {
            return MintError::unusable(format!("the answer is longer than {limit} bytes"));
        }
        FetchError::Connect(crate::connect::ConnectError::Tls(_)) => {
            unavailable(Pace::Transient, "the TLS handshake failed")
        }
        FetchError::Connect(crate::connect::ConnectError::Timeout) => unavailable(Pace::Unreached, "timed out"),
        FetchError::Connect(error) => unavailable(Pace::Unreached, &error.to_string()),
        FetchError::Http(_) => unavailable(Pace::Transient, "the exchange broke off"),
        FetchError::Timeout => unavailable(Pace::Transient, "timed out"),
    };
    let causes = causes(error);
    if causes.is_empty() { converted } else { converted.with_detail(causes) }
}

/// The texts of all causes below `error`, outermost first.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(current) = cause {
        let text = current.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        cause = current.source();
    }
    texts.join(": ")
}

fn misconfigured(problem: &str) -> MintError {
    MintError::new(MintFailureKind::Refused, Pace::Permanent, format!("misconfigured: {problem}"))
}

#[cfg(test)]
mod tests;
