//! One call of a token endpoint: everything that it needs, and the ways to make it, in a cell or for a command that
//! looks on.
//!
//! `exchange` is the call itself. What is asked for is the business of `grant`, who asks of `authentication`, how that
//! is laid out of `wire`, and what the answer means of `answer`.

mod exchange;
mod telltales;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use tokio::time::Instant;

use self::exchange::{Exchange, Target};
use super::discovery::Discovery;
use super::failure::MintError;
use super::key;
use super::minted::Minted;
use super::observation::{Observed, Recorder};
use super::own;
use super::refresh::{Grants, RefreshTokens};
use super::settings::{ClientAuthentication, Endpoint, GrantKind, ResponseRules};
use super::source::Mint;
use super::{Dpop, LifetimeRules, PrincipalSettings, RequestSettings, Settings, Values, authentication};
use crate::formula::{Activation, PrincipalView};
use crate::name::Name;
use crate::secret::Secret;

/// Longer than any token request: what is added to the clock must not overflow it.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Everything one token request needs.
pub(super) struct TokenRequest {
    endpoint: EndpointSource,
    settings: RequestSettings,
    /// As in `settings`, and fit for judging whether a token is bound.
    response: Arc<ResponseRules>,
    principal: PrincipalSettings,
    values: Values,
    lifetime: LifetimeRules,
    dpop: Option<Arc<Dpop>>,
    refresh_tokens: Option<Arc<RefreshTokens>>,
}

/// Where the token endpoint is.
enum EndpointSource {
    /// As configured.
    Fixed(Uri),
    /// Where the issuer's metadata say.
    Discovered(Arc<Discovery>),
}

/// Mints one token outside any cell, as for `callers`, with all that was sent and received, masked: for the commands
/// that look at a token and leave.
pub async fn mint_observed(settings: &Settings, principal: &PrincipalSettings, callers: &[Name]) -> Observed {
    let recorder = Recorder::new(settings.request());
    let (outcome, dpop) = match binding(settings) {
        Ok(dpop) => (mint(settings, principal, callers, dpop.clone(), Some(&recorder)).await, dpop),
        Err(error) => (Err(error), None),
    };
    Observed { sightings: recorder.sightings(), outcome, dpop }
}

/// A key of ours for one token, where the configuration wants tokens bound to one.
fn binding(settings: &Settings) -> Result<Option<Arc<Dpop>>, MintError> {
    let key = settings.request().is_some_and(|request| request.dpop).then(Dpop::generate).transpose();
    Ok(key.map_err(|error| MintError::misconfigured(&error.to_string()))?.map(Arc::new))
}

async fn mint(
    settings: &Settings,
    principal: &PrincipalSettings,
    callers: &[Name],
    dpop: Option<Arc<Dpop>>,
    recorder: Option<&Recorder>,
) -> Result<Minted, MintError> {
    let Some(request) = settings.request() else {
        let own = own::source(settings, principal);
        return own.ok_or_else(|| MintError::misconfigured("the flow has no token"))?.mint.mint().await;
    };
    let activation =
        Activation { callers, principal: Some(view(principal)), request: None, secrets: &principal.secrets };
    let values = Values::evaluate(request, &activation);
    let values = values.map_err(|error| MintError::misconfigured(&error.to_string()))?;
    TokenRequest::new(settings, request, principal, values, dpop).send(recorder).await
}

impl Mint for Arc<TokenRequest> {
    fn mint(&self) -> BoxFuture<'static, Result<Minted, MintError>> {
        let request = Self::clone(self);
        async move { request.send(None).await }.boxed()
    }
}

impl TokenRequest {
    /// `dpop` is the key of the cell that the tokens are for.
    pub(super) fn new(
        settings: &Settings,
        request: &RequestSettings,
        principal: &PrincipalSettings,
        values: Values,
        dpop: Option<Arc<Dpop>>,
    ) -> Self {
        let mut response = Arc::clone(&request.response);
        if dpop.is_some() {
            // Not to accept them, but to say what they mean here.
            Arc::make_mut(&mut response).accept_token_types.extend(["bearer".to_owned(), String::new()]);
        }
        Self {
            endpoint: EndpointSource::of(&request.endpoint),
            settings: request.clone(),
            response,
            principal: principal.clone(),
            values,
            lifetime: settings.lifetime.clone(),
            dpop,
            refresh_tokens: refresh_tokens(settings, request, principal),
        }
    }

    /// Draws on the refresh token that others of the same grant use, now and before a reload.
    pub(super) fn share_refresh_tokens(&mut self, grants: &Grants) {
        if let Some(made) = self.refresh_tokens.take() {
            let key = key::refresh_grant(&self.settings, &self.principal);
            self.refresh_tokens = Some(grants.share(key, made));
        }
    }

    /// Asks metadata that others keep fresh, where the endpoint is discovered; `find` is given the endpoint.
    pub(super) fn share_discovery(&mut self, find: impl FnOnce(&Endpoint) -> Arc<Discovery>) {
        if let EndpointSource::Discovered(discovery) = &mut self.endpoint {
            *discovery = find(&self.settings.endpoint);
        }
    }

    async fn send(&self, recorder: Option<&Recorder>) -> Result<Minted, MintError> {
        let deadline = Instant::now() + self.settings.endpoint.timeout.min(LONGEST);
        let target = tokio::time::timeout_at(deadline, self.target());
        let target = target.await.unwrap_or_else(|_| Err(MintError::timed_out()))?;
        Exchange { request: self, target: &target, deadline, recorder }.run().await
    }

    async fn target(&self) -> Result<Target, MintError> {
        let configured = self.settings.client_authentication.as_ref();
        let (url, authentication) = match &self.endpoint {
            EndpointSource::Fixed(url) => (url.clone(), authentication::choose(configured, &self.principal, None)?),
            EndpointSource::Discovered(discovery) => {
                let metadata = discovery.metadata().await?;
                let authentication = authentication::choose(configured, &self.principal, Some(&metadata))?;
                // RFC 8705 5: whoever means to show a certificate asks at the alias.
                let shows_certificate = matches!(authentication, ClientAuthentication::TlsClientAuth)
                    || self.settings.endpoint.tls.settings().identity.is_some();
                let alias = metadata.mtls_token_endpoint.as_ref().filter(|_| shows_certificate);
                (alias.unwrap_or(&metadata.token_endpoint).clone(), authentication)
            }
        };
        let without_query = || url.to_string().split('?').next().unwrap_or_default().to_owned();
        let audience = self.settings.endpoint.issuer.clone().unwrap_or_else(without_query);
        Ok(Target { url, authentication, audience })
    }
}

impl EndpointSource {
    fn of(endpoint: &Endpoint) -> Self {
        match &endpoint.url {
            Some(url) => Self::Fixed(url.clone()),
            None => Self::Discovered(Discovery::once(endpoint.clone())),
        }
    }
}

fn refresh_tokens(
    settings: &Settings,
    request: &RequestSettings,
    principal: &PrincipalSettings,
) -> Option<Arc<RefreshTokens>> {
    let GrantKind::RefreshToken { store } = &request.grant.kind else { return None };
    let configured = principal.refresh_token.clone().unwrap_or_else(|| Secret::new(String::new()));
    let names = (settings.name.clone(), principal.name.clone());
    Some(Arc::new(RefreshTokens::new(names.0, names.1, configured, store.clone())))
}

/// What formulas see of `principal`.
fn view(principal: &PrincipalSettings) -> PrincipalView<'_> {
    PrincipalView { name: &principal.name, client_id: &principal.client_id, username: principal.username.as_deref() }
}

#[cfg(test)]
mod tests;
