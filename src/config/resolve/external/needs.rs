//! What a flow and a client authentication need of each principal.

use super::choice::{Choice, Client};
use crate::config::document::{Authentication, ExternalCredential, Flow};

/// Whether a principal has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It must.
    Required,
    /// It may.
    Optional,
    /// It would have no effect; the text says why, and what to do.
    Useless(&'static str),
}

/// The keys of a principal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) client_id: Need,
    pub(super) client_secret: Need,
    pub(super) username: Need,
    pub(super) password: Need,
    pub(super) refresh_token: Need,
    pub(super) token: Need,
    /// The flow takes user name and password, or client id and secret in their place.
    pub(super) is_account: bool,
}

impl Needs {
    /// Nothing can be said.
    pub(super) const UNCLEAR: Self = Self {
        client_id: Need::Optional,
        client_secret: Need::Optional,
        username: Need::Optional,
        password: Need::Optional,
        refresh_token: Need::Optional,
        token: Need::Optional,
        is_account: false,
    };

    pub(super) fn of(choice: Choice, written: &ExternalCredential) -> Self {
        let (username, password) = match choice.flow {
            Flow::Password => (Need::Required, Need::Required),
            // Which of its two names each goes by is for the principal to say.
            Flow::Basic => (Need::Optional, Need::Optional),
            Flow::ClientCredentials
            | Flow::JwtBearer
            | Flow::RefreshToken
            | Flow::TokenExchange
            | Flow::SignedJwt
            | Flow::Static
            | Flow::None => {
                let why = "leave it out, or choose flow = \"password\" or \"basic\"";
                (Need::Useless(why), Need::Useless(why))
            }
        };
        Self {
            client_id: client_id(choice, written),
            client_secret: client_secret(choice, written),
            username,
            password,
            refresh_token: refresh_token(choice, written),
            token: match choice.flow == Flow::Static {
                true => Need::Required,
                false => Need::Useless("leave it out, or choose flow = \"static\", for which it is the token"),
            },
            is_account: choice.flow == Flow::Basic,
        }
    }
}

fn client_id(choice: Choice, written: &ExternalCredential) -> Need {
    let signs_for_itself = choice.grant_signs() && choice.flow == Flow::JwtBearer;
    let is_issuer = (signs_for_itself || choice.is_by(Authentication::BearerJwt)) && !names_issuer(written);
    match choice.client {
        Client::Unclear => Need::Optional,
        Client::By(Authentication::Json) if is_json_alone(written) => Need::Optional,
        Client::Negotiated
        | Client::By(
            Authentication::ClientSecretBasic
            | Authentication::ClientSecretPost
            | Authentication::ClientSecretJwt
            | Authentication::Query
            | Authentication::Json
            | Authentication::PrivateKeyJwt
            | Authentication::TlsClientAuth,
        ) => Need::Required,
        Client::By(Authentication::None | Authentication::BearerJwt) if is_issuer => Need::Required,
        // Formulas may refer to it.
        Client::By(Authentication::None | Authentication::BearerJwt) => Need::Optional,
    }
}

fn client_secret(choice: Choice, written: &ExternalCredential) -> Need {
    if choice.signs_with_secret() {
        return Need::Required;
    }
    match (choice.flow, choice.client) {
        (Flow::Basic, _) | (_, Client::Unclear) => Need::Optional,
        (_, Client::By(Authentication::Json)) if is_json_alone(written) => Need::Optional,
        (
            _,
            Client::Negotiated
            | Client::By(
                Authentication::ClientSecretBasic
                | Authentication::ClientSecretPost
                | Authentication::ClientSecretJwt
                | Authentication::Query
                | Authentication::Json,
            ),
        ) => Need::Required,
        (_, Client::By(Authentication::PrivateKeyJwt)) => {
            Need::Useless("leave it out: with private_key_jwt the signed assertion proves the client")
        }
        (_, Client::By(Authentication::TlsClientAuth)) => {
            Need::Useless("leave it out: with tls_client_auth the certificate proves the client")
        }
        (_, Client::By(Authentication::BearerJwt)) => {
            Need::Useless("leave it out: with bearer_jwt the signed JWT proves the client")
        }
        (_, Client::By(Authentication::None)) if choice.asks() => {
            Need::Useless("leave it out, or choose another client_authentication than \"none\"")
        }
        (_, Client::By(Authentication::None)) => {
            Need::Useless("leave it out: this flow asks no token endpoint, to which a client would prove itself")
        }
    }
}

fn refresh_token(choice: Choice, written: &ExternalCredential) -> Need {
    match choice.flow == Flow::RefreshToken {
        true if in_body(written, "refresh_token") => {
            Need::Useless("leave it out: parameters.body.refresh_token is sent")
        }
        true => Need::Required,
        false => Need::Useless("leave it out, or choose flow = \"refresh_token\""),
    }
}

/// Whether `parameters.body` has this key.
fn in_body(written: &ExternalCredential, key: &str) -> bool {
    let body = written.parameters.value().and_then(|parameters| parameters.body.value());
    body.is_some_and(|body| body.iter().any(|(name, _)| name == key))
}

/// Whether the JSON object may do without a client: the parameters carry what proves it.
fn is_json_alone(written: &ExternalCredential) -> bool {
    let body = written.parameters.value().and_then(|parameters| parameters.body.value());
    let has_client = written.client_id.node().is_some()
        || written.client_secret.node().is_some()
        || written
            .principals
            .value()
            .into_iter()
            .flatten()
            .filter_map(|principal| principal.value())
            .any(|principal| principal.client_id.node().is_some() || principal.client_secret.node().is_some());
    !has_client && body.is_some_and(|body| body.iter().next().is_some())
}

/// Whether the assertion's issuer is written, so that it need not be the client id.
fn names_issuer(written: &ExternalCredential) -> bool {
    written.assertion.value().is_some_and(|assertion| {
        let claims = assertion.claims.value();
        assertion.issuer.node().is_some() || claims.is_some_and(|claims| claims.iter().any(|(name, _)| name == "iss"))
    })
}
