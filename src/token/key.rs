//! Which token requests are equal: SHA-256 over everything that reaches the token endpoint, secrets and signing keys
//! included, and over how a token is found in the answer.
//!
//! Left out is what does not change the token: names, lifetime rules, time-outs, how the token is attached, and what
//! is made for each attempt (`jti`, `iat`, nonces). Digests stay in memory and are never shown: that of a weak secret
//! could be guessed. Every enum is taken apart by hand: no text of `Debug` is what a cell hangs on.

use aws_lc_rs::digest::{self, Context};

use super::assertion::{Assertion, AssertionKey, AssertionSource, Claim};
use super::authentication::assertions;
use super::settings::{
    BasicEncoding, ClientAuthentication, Endpoint, ExpiryUnit, Grant, GrantKind, Parameters, ResponseRules,
    TokenExchange,
};
use super::{PrincipalSettings, RequestSettings, Values};
use crate::connect::Addresses;
use crate::secret::{Secret, SecretSource};
use crate::sign::HmacAlgorithm;

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// The key of a token cell.
pub(super) fn token_request(settings: &RequestSettings, principal: &PrincipalSettings, values: &Values) -> Digest {
    let mut fields = Fields::new("token request");
    fields.endpoint(&settings.endpoint);
    fields.text(settings.method.as_str());
    fields.grant(&settings.grant);
    fields.client_authentication(settings.client_authentication.as_ref());
    fields.optional(values.scope.as_deref());
    fields.list(values.audience.iter().map(String::as_str));
    fields.list(settings.resource.iter().map(String::as_str));
    fields.parameters(&settings.parameters);
    fields.response(&settings.response);
    fields.flag(settings.dpop);
    fields.principal(principal);
    fields.seen_by_claims(settings, principal);
    fields.finish()
}

/// The key of a client's back-off: who it says it is, and with what it proves that. Another secret or signing key begins
/// afresh: the operator who corrected one must not wait for the old one's penalty to end, and where a right one and a
/// wrong one are in use side by side, neither decides when the other is tried. A refresh token proves no client.
pub(super) fn client(settings: &RequestSettings, principal: &PrincipalSettings) -> Digest {
    let mut fields = Fields::new("client");
    fields.optional(settings.endpoint.url.as_ref().map(ToString::to_string).as_deref());
    fields.optional(settings.endpoint.issuer.as_deref());
    fields.text(&principal.client_id);
    fields.optional(principal.username.as_deref());
    for secret in [&principal.client_secret, &principal.password] {
        fields.optional(secret.as_ref().map(Secret::expose));
    }
    for assertion in assertions(settings) {
        fields.optional(assertion.issuer.as_deref());
        fields.optional(assertion.subject.as_deref());
        fields.assertion_key(&assertion.key);
    }
    fields.seen_by_claims(settings, principal);
    fields.finish()
}

/// The key of an issuer's metadata: the issuer, the way to it, and what of its answer is accepted.
pub(super) fn issuer(endpoint: &Endpoint) -> Digest {
    let mut fields = Fields::new("issuer");
    fields.text(endpoint.issuer.as_deref().unwrap_or_default());
    fields.bytes(endpoint.tls.fingerprint());
    fields.bytes(&[u8::from(endpoint.dangerous_plain_http)]);
    fields.bytes(&endpoint.timeout.as_nanos().to_be_bytes());
    fields.addresses(endpoint.addresses);
    if let Some(proxy) = &endpoint.http_proxy {
        fields.text(&proxy.host);
        fields.bytes(&proxy.port.to_be_bytes());
        fields.text(proxy.authorization.as_ref().map_or("", Secret::expose));
        fields.list(proxy.no_proxy.iter().map(String::as_str));
    }
    fields.finish()
}

/// The grant that a refresh token stands for, whatever is asked for with it.
pub(super) fn refresh_grant(settings: &RequestSettings, principal: &PrincipalSettings) -> Digest {
    let mut fields = Fields::new("refresh grant");
    fields.optional(settings.endpoint.url.as_ref().map(ToString::to_string).as_deref());
    fields.optional(settings.endpoint.issuer.as_deref());
    fields.text(&principal.client_id);
    fields.optional(principal.refresh_token.as_ref().map(Secret::expose));
    fields.finish()
}

fn claims(assertion: &Assertion) -> impl Iterator<Item = &Claim> {
    assertion.claims.iter().chain(&assertion.header).map(|(_, claim)| claim)
}

/// Fields with their lengths, so that no two different sequences run together to the same bytes.
struct Fields(Context);

impl Fields {
    fn new(purpose: &str) -> Self {
        let mut fields = Self(Context::new(&digest::SHA256));
        fields.text(purpose);
        fields
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.update(&[u8::from(flag)]);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        self.text(text.unwrap_or(""));
    }

    fn list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let mut count = 0_usize;
        for text in texts {
            self.text(text);
            count += 1;
        }
        self.0.update(&count.to_be_bytes());
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.optional(endpoint.url.as_ref().map(ToString::to_string).as_deref());
        self.optional(endpoint.issuer.as_deref());
        // Decides whether metadata may lead to a URL that is not TLS; a configured one was judged before.
        self.flag(endpoint.url.is_none() && endpoint.dangerous_plain_http);
        self.bytes(endpoint.tls.fingerprint());
        self.addresses(endpoint.addresses);
        self.flag(endpoint.http_proxy.is_some());
        if let Some(proxy) = &endpoint.http_proxy {
            self.text(&proxy.host);
            self.bytes(&proxy.port.to_be_bytes());
            self.optional(proxy.authorization.as_ref().map(Secret::expose));
            self.list(proxy.no_proxy.iter().map(String::as_str));
        }
    }

    fn addresses(&mut self, Addresses { link_local, private }: Addresses) {
        self.flag(link_local);
        self.flag(private);
    }

    fn grant(&mut self, grant: &Grant) {
        self.optional(grant.grant_type.as_deref());
        match &grant.kind {
            GrantKind::ClientCredentials => self.text("client_credentials"),
            GrantKind::JwtBearer(source) => {
                self.text("jwt_bearer");
                self.assertion_source(source);
            }
            GrantKind::Password => self.text("password"),
            // Where it is kept never reaches the endpoint.
            GrantKind::RefreshToken { store: _ } => self.text("refresh_token"),
            GrantKind::TokenExchange(exchange) => {
                self.text("token_exchange");
                self.token_exchange(exchange);
            }
        }
    }

    fn token_exchange(&mut self, exchange: &TokenExchange) {
        self.secret_source(&exchange.subject_token);
        self.text(&exchange.subject_token_type);
        self.flag(exchange.actor_token.is_some());
        if let Some((source, token_type)) = &exchange.actor_token {
            self.secret_source(source);
            self.text(token_type);
        }
        self.optional(exchange.requested_token_type.as_deref());
    }

    /// Where it leads and not what is there: that is read for every mint.
    fn secret_source(&mut self, source: &SecretSource) {
        match source {
            SecretSource::Env(name) => self.list(["env", name.as_str()].into_iter()),
            SecretSource::File(path) => {
                self.text("file");
                self.bytes(path.as_os_str().as_encoded_bytes());
            }
            SecretSource::Command(words) => {
                self.text("command");
                self.list(words.iter().map(String::as_str));
            }
            SecretSource::DangerousLiteral(secret) => self.list(["literal", secret.expose()].into_iter()),
        }
    }

    fn client_authentication(&mut self, authentication: Option<&ClientAuthentication>) {
        match authentication {
            None => self.text("as the issuer says"),
            Some(ClientAuthentication::ClientSecretBasic(encoding)) => self.text(match encoding {
                BasicEncoding::Form => "client_secret_basic, form",
                BasicEncoding::Raw => "client_secret_basic, raw",
                BasicEncoding::Percent => "client_secret_basic, percent",
            }),
            Some(ClientAuthentication::ClientSecretPost) => self.text("client_secret_post"),
            Some(ClientAuthentication::Query) => self.text("query"),
            Some(ClientAuthentication::Json) => self.text("json"),
            Some(ClientAuthentication::ClientSecretJwt(assertion)) => {
                self.text("client_secret_jwt");
                self.assertion(assertion);
            }
            Some(ClientAuthentication::PrivateKeyJwt(source)) => {
                self.text("private_key_jwt");
                self.assertion_source(source);
            }
            Some(ClientAuthentication::TlsClientAuth) => self.text("tls_client_auth"),
            Some(ClientAuthentication::BearerJwt(assertion)) => {
                self.text("bearer_jwt");
                self.assertion(assertion);
            }
            Some(ClientAuthentication::None) => self.text("none"),
        }
    }

    fn assertion_source(&mut self, source: &AssertionSource) {
        match source {
            AssertionSource::Signed(assertion) => {
                self.text("signed");
                self.assertion(assertion);
            }
            AssertionSource::File(path) => {
                self.text("file");
                self.bytes(path.as_os_str().as_encoded_bytes());
            }
        }
    }

    fn assertion(&mut self, assertion: &Assertion) {
        self.assertion_key(&assertion.key);
        self.optional(assertion.issuer.as_deref());
        self.optional(assertion.subject.as_deref());
        self.list(assertion.audience.iter().map(String::as_str));
        self.bytes(&assertion.lifetime.as_nanos().to_be_bytes());
        for members in [&assertion.claims, &assertion.header] {
            self.list(members.iter().map(|(name, _)| name.as_str()));
            members.iter().for_each(|(_, claim)| self.claim(claim));
        }
    }

    fn assertion_key(&mut self, key: &AssertionKey) {
        match key {
            AssertionKey::Signer(signer) => self.bytes(signer.fingerprint()),
            AssertionKey::ClientSecret(algorithm) => self.text(match algorithm {
                HmacAlgorithm::Hs256 => "HS256",
                HmacAlgorithm::Hs384 => "HS384",
                HmacAlgorithm::Hs512 => "HS512",
            }),
        }
    }

    fn claim(&mut self, claim: &Claim) {
        match claim {
            Claim::Json(value) => self.list(["json", value.to_string().as_str()].into_iter()),
            Claim::Secret(secret) => self.list(["secret", secret.expose()].into_iter()),
            Claim::Formula(formula) => self.list(["formula", formula.source()].into_iter()),
        }
    }

    fn parameters(&mut self, parameters: &Parameters) {
        for pairs in [&parameters.body, &parameters.query] {
            self.list(pairs.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]));
        }
        self.list(parameters.headers.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]));
    }

    /// Two readings of one answer are two tokens, or two lifetimes.
    fn response(&mut self, response: &ResponseRules) {
        self.list([&response.token, &response.expires_in, &response.token_type].into_iter().map(String::as_str));
        self.text(match response.expires_unit {
            ExpiryUnit::Seconds => "s",
            ExpiryUnit::Milliseconds => "ms",
            ExpiryUnit::Epoch => "epoch",
            ExpiryUnit::EpochMilliseconds => "epoch_ms",
            ExpiryUnit::Rfc3339 => "rfc3339",
        });
        self.list(response.error.iter().map(String::as_str));
        self.list(response.accept_token_types.iter().map(String::as_str));
        // A token that was minted without them is of no use to whoever asks for them.
        self.list(response.members.iter().map(String::as_str));
    }

    /// What formulas of claims see of a principal beside what always counts.
    fn seen_by_claims(&mut self, settings: &RequestSettings, principal: &PrincipalSettings) {
        if assertions(settings).flat_map(claims).any(|claim| matches!(claim, Claim::Formula(_))) {
            self.text(principal.name.as_str());
            self.list(principal.secrets.iter().flat_map(|(name, secret)| [name.as_str(), secret.expose()]));
        }
    }

    fn principal(&mut self, principal: &PrincipalSettings) {
        self.text(&principal.client_id);
        self.optional(principal.username.as_deref());
        for secret in [&principal.client_secret, &principal.password, &principal.refresh_token] {
            self.optional(secret.as_ref().map(Secret::expose));
        }
    }

    fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

#[cfg(test)]
mod tests;
