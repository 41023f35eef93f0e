//! One mint as it goes over the wire. The `oauth2` crate builds a client-credentials exchange and reads its answer;
//! here stands what is between it and the wire: the request that the configuration means, made anew for each attempt,
//! and the answer, judged and in canonical form.
//!
//! There is more than one attempt in two cases only, each once: the server wants a nonce in the DPoP proof
//! (RFC 9449 8), or it no longer knows the stored refresh token. The crate's errors may hold a whole answer, so they
//! are converted without their bytes.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, HttpRequest, HttpResponse, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::telltales::telltales;
use super::{TokenRequest, view};
use crate::fetch::{Limits, fetch};
use crate::formula::Activation;
use crate::secret::Secret;
use crate::token::answer::{self, Answer};
use crate::token::assertion::About;
use crate::token::failure::{Concerns, MintError};
use crate::token::lifetime::Lifetime;
use crate::token::members::Members;
use crate::token::minted::Minted;
use crate::token::observation::Recorder;
use crate::token::settings::{ClientAuthentication, GrantKind};
use crate::token::wire::{self, Form};
use crate::token::{authentication, grant};

/// Servers disagree on what Basic credentials are before base64, and no answer tells which kind a server is. Trying
/// both would look like guessing and can lock a client out, so the operator is told.
pub(super) const ENCODING_HINT: &str = "id or secret holds characters that servers encode differently; if both are right, try another basic_encoding or client_secret_post";

/// RFC 9449 5: the token is a bearer token that anybody could use.
const NOT_BOUND: &str = "the token is not bound to the DPoP key";

/// Whom to ask, and how to prove who asks.
pub(super) struct Target {
    pub(super) url: Uri,
    pub(super) authentication: ClientAuthentication,
    /// What an assertion is made for where nothing else is configured: the issuer, otherwise the endpoint's URL
    /// without its query (RFC 7523 3, RFC 10070).
    pub(super) audience: String,
}

/// One mint on its way.
pub(super) struct Exchange<'a> {
    pub(super) request: &'a TokenRequest,
    pub(super) target: &'a Target,
    /// Bound on everything together.
    pub(super) deadline: Instant,
    pub(super) recorder: Option<&'a Recorder>,
}

/// What the crate calls, and what its own reading of the answer does not keep.
struct Adaptor<'a> {
    exchange: Exchange<'a>,
    kept: Mutex<Kept>,
}

/// What of an answer goes around the crate.
#[derive(Default)]
struct Kept {
    /// The type as written.
    token_type: Option<String>,
    members: Members,
}

/// What is sent, with all that its answer must not repeat.
struct Prepared {
    request: Request<Bytes>,
    secrets: Vec<Secret>,
}

/// An attempt without a token.
struct Failed {
    error: MintError,
    /// The server asked for a nonce, and gave one that was not known when the proof was made.
    nonce: NonceWanted,
    /// What replaces the refresh token that was sent, although there is no access token to use.
    rotated: Option<Secret>,
}

#[derive(PartialEq, Eq)]
enum NonceWanted {
    Yes,
    No,
}

impl<'c> AsyncHttpClient<'c> for Adaptor<'_> {
    type Error = MintError;
    type Future = BoxFuture<'c, Result<HttpResponse, MintError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        async move {
            let mut answer = self.exchange.answer(&Form::parse(request.body())).await?;
            *self.kept.lock() =
                Kept { token_type: answer.token_type.take(), members: std::mem::take(&mut answer.members) };
            canonical(answer)
        }
        .boxed()
    }
}

impl Exchange<'_> {
    /// Has the crate build the exchange, send it through us, and read the answer.
    pub(super) async fn run(self) -> Result<Minted, MintError> {
        let request = self.request;
        let unreadable = |_| MintError::misconfigured("the URL cannot be read");
        let url = TokenUrl::new(self.target.url.to_string()).map_err(unreadable)?;
        // No secret for the crate: who asks is added later, in the way that the server wants.
        let client = BasicClient::new(ClientId::new(request.principal.client_id.clone()))
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(url);
        let mut exchange = client.exchange_client_credentials();
        if let Some(scope) = &request.values.scope {
            exchange = exchange.add_scope(Scope::new(scope.clone()));
        }
        for (name, values) in [("audience", &request.values.audience), ("resource", &request.settings.resource)] {
            for value in values.iter().filter(|value| !value.is_empty()) {
                exchange = exchange.add_extra_param(name, value.as_str());
            }
        }
        let adaptor = Adaptor { exchange: self, kept: Mutex::default() };
        let response = exchange.request_async(&adaptor).await.map_err(converted)?;
        Ok(minted(request, &response, adaptor.kept.into_inner()))
    }

    /// The judged answer to what the crate built.
    async fn answer(&self, form: &Form) -> Result<Answer, MintError> {
        let Some(tokens) = &self.request.refresh_tokens else {
            return self.ask(form, None).await.map_err(|failed| failed.error);
        };
        let turn = self.in_time(async { Ok(tokens.turn().await) }).await?;
        let mut token = turn.token();
        let mut outcome = self.ask(form, Some(&token)).await;
        if let Err(failed) = &outcome
            && failed.error.cause() == "invalid_grant"
            && let Some(configured) = turn.configured()
        {
            token = configured;
            outcome = self.ask(form, Some(&token)).await;
        }
        match outcome {
            Ok(answer) => {
                turn.succeeded(token, answer.refresh_token.clone()).await;
                Ok(answer)
            }
            Err(failed) => {
                if failed.rotated.is_some() {
                    turn.succeeded(token, failed.rotated).await;
                }
                Err(failed.error)
            }
        }
    }

    async fn ask(&self, form: &Form, refresh_token: Option<&Secret>) -> Result<Answer, Failed> {
        let outcome = match self.attempt(form, refresh_token).await {
            Err(failed) if failed.nonce == NonceWanted::Yes => self.attempt(form, refresh_token).await,
            outcome => outcome,
        };
        outcome.map_err(|failed| Failed { error: self.concerning(self.hinted(failed.error)), ..failed })
    }

    async fn attempt(&self, form: &Form, refresh_token: Option<&Secret>) -> Result<Answer, Failed> {
        let Prepared { request, secrets } = self.in_time(self.prepared(form.clone(), refresh_token)).await?;
        let endpoint = &self.request.settings.endpoint;
        let way = endpoint.way();
        // RFC 6749 5.1 bounds no token.
        let timeout = self.deadline.saturating_duration_since(Instant::now());
        let limits = Limits { timeout, body: endpoint.longest_answer };
        let sent = self.recorder.map(|recorder| (recorder, request.clone()));
        let received = fetch(request, way, limits).await;
        if let Some((recorder, sent)) = sent {
            recorder.note(&sent, &received, &secrets);
        }
        let received = received.map_err(|error| MintError::unanswered(&error))?;
        let is_new = self.note_nonce(received.headers());
        let answer = answer::judge(&received, &self.request.response, &secrets);
        match answer.and_then(|answer| self.bound(answer)) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let nonce = nonce_wanted(received.status(), &error, is_new);
                Err(Failed { nonce, rotated: answer::rotated(&received, &self.request.response), error })
            }
        }
    }

    /// Everything about one attempt, made afresh: no assertion and no proof is sent twice.
    async fn prepared(&self, mut form: Form, refresh_token: Option<&Secret>) -> Result<Prepared, MintError> {
        let (settings, principal) = (&self.request.settings, &self.request.principal);
        let about = About {
            client_id: &principal.client_id,
            client_secret: principal.client_secret.as_ref(),
            audience: &self.target.audience,
            activation: Activation {
                callers: &[],
                principal: Some(view(principal)),
                request: None,
                secrets: &principal.secrets,
            },
        };
        form.remove("client_id");
        grant::fill(&mut form, &settings.grant, principal, &about, refresh_token).await?;
        for (name, value) in &settings.parameters.body {
            form.put(name, value.clone());
        }
        let credentials = authentication::prove(&self.target.authentication, &about, &mut form).await?;
        let secrets = telltales(self.request, &form, credentials.as_ref().map(|(_, credentials)| credentials));
        let layout = authentication::layout(&self.target.authentication, &settings.method);
        let mut request = wire::request(&settings.method, &self.target.url, layout, &settings.parameters.query, form)?;
        self.add_fields(request.headers_mut(), credentials)?;
        Ok(Prepared { request, secrets })
    }

    fn add_fields(&self, headers: &mut HeaderMap, credentials: Option<(&str, Secret)>) -> Result<(), MintError> {
        let user_agent = concat!("keybearer/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        for (name, value) in &self.request.settings.parameters.headers {
            headers.insert(name, sensitive(value.expose())?);
        }
        if let Some((scheme, credentials)) = credentials {
            if headers.contains_key(AUTHORIZATION) {
                // RFC 6749 2.3: one method for each request.
                return Err(MintError::misconfigured("parameters.headers and client_authentication both authenticate"));
            }
            headers.insert(AUTHORIZATION, sensitive(&format!("{scheme} {}", credentials.expose()))?);
        }
        if let Some(dpop) = &self.request.dpop {
            let proof = dpop.proof(&self.request.settings.method, &self.origin(), self.target.url.path(), None);
            headers.insert(HeaderName::from_static("dpop"), proof.map_err(|error| grant::no_assertion(&error))?);
        }
        Ok(())
    }

    /// Scheme and authority of the endpoint.
    fn origin(&self) -> String {
        let (scheme, authority) = (self.target.url.scheme_str(), self.target.url.authority());
        format!("{}://{}", scheme.unwrap_or_default(), authority.map_or("", |authority| authority.as_str()))
    }

    fn note_nonce(&self, headers: &HeaderMap) -> bool {
        self.request.dpop.as_ref().is_some_and(|dpop| dpop.note(&self.origin(), headers))
    }

    /// With DPoP a bearer token is none: it would work for whoever finds it, and not with the proofs we send.
    fn bound(&self, answer: Answer) -> Result<Answer, MintError> {
        let said = answer.token_type.as_deref();
        if self.request.dpop.is_none() || said.is_some_and(|said| !said.eq_ignore_ascii_case("bearer")) {
            return Ok(answer);
        }
        let said = if said.is_none() { "there is no token_type" } else { "token_type: Bearer" };
        Err(MintError::unusable(NOT_BOUND)
            .with_detail(format!("{said}; does the server support DPoP for this client?")))
    }

    fn hinted(&self, error: MintError) -> MintError {
        let basic = matches!(self.target.authentication, ClientAuthentication::ClientSecretBasic(_));
        let plain = |text: &str| authentication::form_encoded(text) == text;
        if !basic || !matches!(error.cause(), "invalid_client" | "unauthorized_client") {
            return error;
        }
        let principal = &self.request.principal;
        if plain(&principal.client_id) && principal.client_secret.as_ref().is_none_or(|secret| plain(secret.expose())) {
            return error;
        }
        let detail = error.detail().map_or_else(|| ENCODING_HINT.to_owned(), |said| format!("{said}; {ENCODING_HINT}"));
        error.with_detail(detail)
    }

    /// A grant that brings evidence of its own may be dead while the client, with the grants of others, is well. Not so
    /// a password: trying it again under each scope locks its user out.
    fn concerning(&self, mut error: MintError) -> MintError {
        let has_evidence = match self.request.settings.grant.kind {
            GrantKind::JwtBearer(_) | GrantKind::RefreshToken { .. } | GrantKind::TokenExchange(_) => true,
            GrantKind::ClientCredentials | GrantKind::Password => false,
        };
        if has_evidence && error.cause() == "invalid_grant" {
            error.concerns = Concerns::Request;
        }
        error
    }

    /// The time for the whole mint holds for what is read and signed, too.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, MintError>>) -> Result<T, MintError> {
        tokio::time::timeout_at(self.deadline, work).await.unwrap_or_else(|_| Err(MintError::timed_out()))
    }
}

impl From<MintError> for Failed {
    fn from(error: MintError) -> Self {
        Self { error, nonce: NonceWanted::No, rotated: None }
    }
}

/// RFC 9449 8: the error, and a nonce that the proof did not carry.
fn nonce_wanted(status: StatusCode, error: &MintError, is_new: bool) -> NonceWanted {
    let refused = status == StatusCode::BAD_REQUEST || status == StatusCode::UNAUTHORIZED;
    if refused && is_new && error.cause() == "use_dpop_nonce" { NonceWanted::Yes } else { NonceWanted::No }
}

fn sensitive(text: &str) -> Result<HeaderValue, MintError> {
    let unfit = |_| MintError::misconfigured("a value cannot be in a header field");
    let mut value = HeaderValue::try_from(text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

fn minted(request: &TokenRequest, response: &BasicTokenResponse, kept: Kept) -> Minted {
    let scope = response.scopes().map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "));
    Minted {
        value: Secret::new(response.access_token().secret().clone()),
        token_type: kept.token_type,
        scope,
        asked_scope: request.values.scope.clone(),
        lifetime: Lifetime::new(response.expires_in(), &request.lifetime),
        members: kept.members,
    }
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
