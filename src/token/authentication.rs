//! How the client proves itself at the token endpoint: RFC 6749 2.3, RFC 7523 2.2, RFC 8705 2, and what servers made
//! of them. Never two ways at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use oauth2::url::form_urlencoded;

use super::assertion::{About, Assertion, AssertionSource, Purpose};
use super::discovery::Metadata;
use super::failure::MintError;
use super::grant::no_assertion;
use super::settings::{BasicEncoding, ClientAuthentication, GrantKind, PrincipalSettings, RequestSettings};
use super::wire::{Form, Layout};
use crate::secret::Secret;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The way that is configured, or the one that the issuer's metadata allow for a client secret.
///
/// # Errors
/// [`MintError`] when the issuer allows none that a client secret is enough for.
pub(super) fn choose(
    configured: Option<&ClientAuthentication>,
    principal: &PrincipalSettings,
    metadata: Option<&Metadata>,
) -> Result<ClientAuthentication, MintError> {
    let basic = ClientAuthentication::ClientSecretBasic(BasicEncoding::Form);
    match (configured, metadata) {
        (Some(configured), _) => Ok(configured.clone()),
        (None, _) if principal.client_secret.is_none() => Ok(ClientAuthentication::None),
        (None, None) => Ok(basic),
        (None, Some(metadata)) => {
            let listed = &metadata.authentication_methods;
            let lists = |method: &str| listed.iter().any(|known| known == method);
            if listed.is_empty() || lists("client_secret_basic") {
                Ok(basic)
            } else if lists("client_secret_post") {
                Ok(ClientAuthentication::ClientSecretPost)
            } else {
                let wanted: String = listed.join(", ").chars().filter(|c| matches!(c, ' '..='~')).take(200).collect();
                let error = MintError::misconfigured("the server takes no client secret as it is");
                Err(error.with_detail(format!("its metadata list {wanted}; set client_authentication")))
            }
        }
    }
}

/// Where the parameters have to be.
pub(super) fn layout(authentication: &ClientAuthentication, method: &Method) -> Layout {
    match authentication {
        _ if method == Method::GET => Layout::Query,
        ClientAuthentication::Query => Layout::Query,
        ClientAuthentication::Json => Layout::Json,
        ClientAuthentication::ClientSecretBasic(_)
        | ClientAuthentication::ClientSecretPost
        | ClientAuthentication::ClientSecretJwt(_)
        | ClientAuthentication::PrivateKeyJwt(_)
        | ClientAuthentication::TlsClientAuth
        | ClientAuthentication::BearerJwt(_)
        | ClientAuthentication::None => Layout::Form,
    }
}

/// Puts the proof into `form`, or gives it as scheme and credentials of the `Authorization` field. A parameter that
/// the configuration already put there stays.
///
/// # Errors
/// [`MintError`] when an assertion cannot be made.
pub(super) async fn prove(
    authentication: &ClientAuthentication,
    about: &About<'_>,
    form: &mut Form,
) -> Result<Option<(&'static str, Secret)>, MintError> {
    let secret = about.client_secret.map_or("", Secret::expose);
    match authentication {
        ClientAuthentication::ClientSecretBasic(encoding) => {
            return Ok(Some(("Basic", basic(about.client_id, secret, *encoding))));
        }
        ClientAuthentication::ClientSecretPost | ClientAuthentication::Query | ClientAuthentication::Json => {
            identify(form, about);
            if let Some(secret) = about.client_secret {
                add(form, "client_secret", secret.clone());
            }
        }
        ClientAuthentication::ClientSecretJwt(assertion) => {
            let source = AssertionSource::Signed(assertion.clone());
            assert(form, about, obtained(&source, Purpose::ClientAuthentication, about).await?);
        }
        ClientAuthentication::PrivateKeyJwt(source) => {
            assert(form, about, obtained(source, Purpose::ClientAuthentication, about).await?);
        }
        ClientAuthentication::BearerJwt(assertion) => {
            let source = AssertionSource::Signed(assertion.clone());
            return Ok(Some(("Bearer", obtained(&source, Purpose::Bearer, about).await?)));
        }
        ClientAuthentication::TlsClientAuth | ClientAuthentication::None => identify(form, about),
    }
    Ok(None)
}

async fn obtained(source: &AssertionSource, purpose: Purpose, about: &About<'_>) -> Result<Secret, MintError> {
    source.obtain(purpose, about).await.map_err(|error| no_assertion(&error))
}

/// The client id, where there is one (RFC 6749 3.2: a parameter without a value is an omitted one).
fn identify(form: &mut Form, about: &About<'_>) {
    if !about.client_id.is_empty() {
        add(form, "client_id", Secret::new(about.client_id.to_owned()));
    }
}

/// RFC 7523 2.2. The client id is optional (RFC 7521 4.2) but some servers look the key up by it.
fn assert(form: &mut Form, about: &About<'_>, assertion: Secret) {
    identify(form, about);
    add(form, "client_assertion_type", Secret::new(JWT_BEARER.to_owned()));
    add(form, "client_assertion", assertion);
}

fn add(form: &mut Form, name: &str, value: Secret) {
    if !form.contains(name) {
        form.put(name, value);
    }
}

fn basic(id: &str, secret: &str, encoding: BasicEncoding) -> Secret {
    let credentials = match encoding {
        BasicEncoding::Form => format!("{}:{}", form_encoded(id), form_encoded(secret)),
        BasicEncoding::Raw => format!("{id}:{secret}"),
        BasicEncoding::Percent => format!("{}:{}", percent_encoded(id), percent_encoded(secret)),
    };
    Secret::new(STANDARD.encode(credentials))
}

/// As in `application/x-www-form-urlencoded`.
pub(super) fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Everything but RFC 3986's unreserved characters as `%` and two digits.
pub(super) fn percent_encoded(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// The assertions that a token request signs.
pub(super) fn assertions(request: &RequestSettings) -> impl Iterator<Item = &Assertion> {
    let grant = match &request.grant.kind {
        GrantKind::JwtBearer(AssertionSource::Signed(assertion)) => Some(assertion),
        GrantKind::JwtBearer(AssertionSource::File(_))
        | GrantKind::ClientCredentials
        | GrantKind::Password
        | GrantKind::RefreshToken { .. }
        | GrantKind::TokenExchange(_) => None,
    };
    let client = match &request.client_authentication {
        Some(
            ClientAuthentication::ClientSecretJwt(assertion)
            | ClientAuthentication::PrivateKeyJwt(AssertionSource::Signed(assertion))
            | ClientAuthentication::BearerJwt(assertion),
        ) => Some(assertion),
        Some(
            ClientAuthentication::PrivateKeyJwt(AssertionSource::File(_))
            | ClientAuthentication::ClientSecretBasic(_)
            | ClientAuthentication::ClientSecretPost
            | ClientAuthentication::Query
            | ClientAuthentication::Json
            | ClientAuthentication::TlsClientAuth
            | ClientAuthentication::None,
        )
        | None => None,
    };
    grant.into_iter().chain(client).map(Box::as_ref)
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::token::discovery::Metadata;
    use crate::token::{BasicEncoding, ClientAuthentication, PrincipalSettings};

    fn metadata(methods: &[&str]) -> Metadata {
        Metadata {
            token_endpoint: "https://issuer.example/token".parse().unwrap(),
            mtls_token_endpoint: None,
            authentication_methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        }
    }

    #[test]
    fn with_discovery_a_secret_is_sent_as_the_server_allows() {
        let principal = PrincipalSettings::sample("one");
        for (methods, basic) in [
            (&[][..], true),
            (&["client_secret_post", "client_secret_basic"], true),
            (&["private_key_jwt", "client_secret_post"], false),
        ] {
            let chosen = choose(None, &principal, Some(&metadata(methods))).unwrap();
            let is_basic = matches!(chosen, ClientAuthentication::ClientSecretBasic(BasicEncoding::Form));
            assert_eq!(is_basic, basic, "{methods:?}");
            assert!(basic || matches!(chosen, ClientAuthentication::ClientSecretPost));
        }
        let error = choose(None, &principal, Some(&metadata(&["private_key_jwt", "tls_client_auth"]))).unwrap_err();
        assert!(error.detail().unwrap().contains("private_key_jwt, tls_client_auth"), "{error}");
    }

    #[test]
    fn what_is_configured_needs_no_permission_and_no_secret_needs_no_proof() {
        let mut principal = PrincipalSettings::sample("one");
        let configured = ClientAuthentication::TlsClientAuth;
        let chosen = choose(Some(&configured), &principal, Some(&metadata(&["client_secret_basic"]))).unwrap();
        assert!(matches!(chosen, ClientAuthentication::TlsClientAuth));
        principal.client_secret = None;
        assert!(matches!(choose(None, &principal, None).unwrap(), ClientAuthentication::None));
    }
}
