//! External credentials as written.

use serde::Deserialize;

use super::{
    Anything, CredentialDangers, FormulaTable, HeaderEntry, HttpProxy, Replay, SecretReference, TextOrSecret, Tls,
};
use crate::config::field::{Entries, Field};
use crate::config::quantity::{Count, Span};

/// `[external_credentials.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct ExternalCredential {
    pub(crate) preset: Field<String>,
    pub(crate) flow: Field<Flow>,
    pub(crate) grant_type: Field<String>,
    pub(crate) token_endpoint: Field<String>,
    pub(crate) issuer: Field<String>,
    pub(crate) method: Field<Method>,
    pub(crate) tls: Field<Tls>,
    pub(crate) timeout: Field<Span>,
    pub(crate) http_proxy: Field<HttpProxy>,
    pub(crate) scope: Field<Texts>,
    pub(crate) audience: Field<Texts>,
    pub(crate) resource: Field<OneOrMany>,
    pub(crate) parameters: Field<Parameters>,
    pub(crate) client_authentication: Field<Authentication>,
    pub(crate) basic_encoding: Field<Encoding>,
    pub(crate) signing: Field<Signing>,
    pub(crate) assertion: Field<Assertion>,
    pub(crate) dpop: Field<bool>,
    pub(crate) subject_token: Field<SecretReference>,
    pub(crate) subject_token_type: Field<String>,
    pub(crate) actor_token: Field<SecretReference>,
    pub(crate) actor_token_type: Field<String>,
    pub(crate) requested_token_type: Field<String>,
    pub(crate) response: Field<Response>,
    pub(crate) expires_unit: Field<ExpiresUnit>,
    pub(crate) error: Field<OneOrMany>,
    pub(crate) accept_token_types: Field<Vec<Field<String>>>,
    pub(crate) default_lifetime: Field<Span>,
    pub(crate) max_lifetime: Field<Span>,
    pub(crate) renew_ahead: Field<RenewAhead>,
    pub(crate) expiry_margin: Field<Span>,
    pub(crate) readiness: Field<Readiness>,
    pub(crate) mint: Field<Mint>,
    pub(crate) additional_refresh_status_codes: Field<Vec<Field<Count>>>,
    pub(crate) refresh_when: Field<Vec<Field<RefreshRule>>>,
    pub(crate) refresh_unless: Field<Vec<Field<RefreshRule>>>,
    pub(crate) inject: Field<Inject>,
    pub(crate) headers: Field<Vec<Field<HeaderEntry>>>,
    pub(crate) client_id: Field<TextOrSecret>,
    pub(crate) client_secret: Field<SecretReference>,
    pub(crate) username: Field<TextOrSecret>,
    pub(crate) password: Field<SecretReference>,
    pub(crate) refresh_token: Field<SecretReference>,
    pub(crate) token: Field<SecretReference>,
    pub(crate) secrets: Field<Entries<SecretReference>>,
    pub(crate) refresh_token_store: Field<String>,
    pub(crate) principals: Field<Vec<Field<Principal>>>,
    pub(crate) dangerous: Field<CredentialDangers>,
}

/// `flow`
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flow {
    ClientCredentials,
    JwtBearer,
    Password,
    RefreshToken,
    TokenExchange,
    SignedJwt,
    Basic,
    Static,
    None,
}

impl Flow {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::JwtBearer => "jwt_bearer",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
            Self::TokenExchange => "token_exchange",
            Self::SignedJwt => "signed_jwt",
            Self::Basic => "basic",
            Self::Static => "static",
            Self::None => "none",
        }
    }
}

/// `method`
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Method {
    Post,
    Get,
}

/// `client_authentication`
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authentication {
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    TlsClientAuth,
    None,
    Query,
    Json,
    BearerJwt,
}

impl Authentication {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
            Self::TlsClientAuth => "tls_client_auth",
            Self::None => "none",
            Self::Query => "query",
            Self::Json => "json",
            Self::BearerJwt => "bearer_jwt",
        }
    }
}

/// `basic_encoding`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Form,
    Raw,
    Percent,
}

/// `signing`
#[derive(Deserialize, Default)]
#[serde(
    default,
    expecting = "a table; write signing = { algorithm = \"RS256\", key = { file = \"private-key.pem\" } }"
)]
pub(crate) struct Signing {
    pub(crate) algorithm: Field<String>,
    pub(crate) key: Field<SecretReference>,
    pub(crate) key_id: Field<String>,
    pub(crate) certificate: Field<String>,
}

/// `assertion`
#[derive(Deserialize, Default)]
#[serde(
    default,
    expecting = "a table; write assertion = { subject = \"…\", audience = \"…\" } or assertion = { file = \"…\" }"
)]
pub(crate) struct Assertion {
    pub(crate) issuer: Field<String>,
    pub(crate) subject: Field<String>,
    pub(crate) audience: Field<OneOrMany>,
    pub(crate) lifetime: Field<Span>,
    pub(crate) claims: Field<Entries<Anything>>,
    pub(crate) header: Field<Entries<Anything>>,
    pub(crate) file: Field<String>,
}

/// One value or several.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a text or a list of texts; write \"a\" or [\"a\", \"b\"]"
)]
pub(crate) enum OneOrMany {
    Text(String),
    List(Vec<Field<String>>),
}

/// One value or several, or one that is computed.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a text or a list of texts; write \"a\", [\"a\", \"b\"] or { formula = \"…\" }"
)]
pub(crate) enum Texts {
    Text(String),
    List(Vec<Field<String>>),
    Table(FormulaTable),
}

/// `parameters`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write parameters = { body = { … }, query = { … }, headers = { … } }")]
pub(crate) struct Parameters {
    pub(crate) body: Field<Entries<TextOrSecret>>,
    pub(crate) query: Field<Entries<TextOrSecret>>,
    pub(crate) headers: Field<Entries<TextOrSecret>>,
}

/// `response`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write response = { token = \"/access_token\", expires_in = \"/expires_in\" }")]
pub(crate) struct Response {
    pub(crate) token: Field<String>,
    pub(crate) expires_in: Field<String>,
    pub(crate) token_type: Field<String>,
}

/// `expires_unit`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpiresUnit {
    S,
    Ms,
    Epoch,
    EpochMs,
    Rfc3339,
}

/// `renew_ahead`
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a share, a duration or false; write \"20%\", \"30s\" or false"
)]
pub(crate) enum RenewAhead {
    Text(String),
    Boolean(bool),
}

/// `readiness`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Readiness {
    Required,
}

/// `mint`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mint {
    AtStart,
}

/// One element of `refresh_when` or `refresh_unless`.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write { status = [500], body_contains = \"token expired\" }")]
pub(crate) struct RefreshRule {
    pub(crate) status: Field<Vec<Field<Status>>>,
    pub(crate) header_contains: Field<Entries<String>>,
    pub(crate) body_contains: Field<String>,
    pub(crate) json: Field<JsonRule>,
    pub(crate) replay: Field<Replay>,
}

/// One element of `status` of a rule.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a status code or a class of them; write 500 or \"4xx\""
)]
pub(crate) enum Status {
    Integer(Count),
    Text(String),
}

/// `json` of a rule.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write json = { pointer = \"/errors/0/code\", in = [601, \"601\"] }")]
pub(crate) struct JsonRule {
    pub(crate) pointer: Field<String>,
    pub(crate) r#in: Field<Vec<Field<Anything>>>,
}

/// `inject`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write inject = { header = \"authorization\", scheme = \"Bearer\" }")]
pub(crate) struct Inject {
    pub(crate) header: Field<String>,
    pub(crate) scheme: Field<String>,
}

/// One element of `principals`.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write [[external_credentials.NAME.principals]] above its keys")]
pub(crate) struct Principal {
    pub(crate) name: Field<String>,
    pub(crate) sequence: Field<Count>,
    pub(crate) client_id: Field<TextOrSecret>,
    pub(crate) client_secret: Field<SecretReference>,
    pub(crate) username: Field<TextOrSecret>,
    pub(crate) password: Field<SecretReference>,
    pub(crate) refresh_token: Field<SecretReference>,
    pub(crate) token: Field<SecretReference>,
    pub(crate) secrets: Field<Entries<SecretReference>>,
    pub(crate) callers: Field<Vec<Field<String>>>,
}
