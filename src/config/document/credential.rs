//! Named and external credentials as written.

use serde::Deserialize;

use super::{CredentialDangers, SecretReference, TextOrSecret, Tls};
use crate::config::field::{Entries, Field};
use crate::config::quantity::{Count, Size, Span};

/// `[named_credentials.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct NamedCredential {
    pub(crate) label: Field<String>,
    pub(crate) description: Field<String>,
    pub(crate) enabled: Field<bool>,
    pub(crate) r#match: Field<Match>,
    pub(crate) callers: Field<Vec<Field<String>>>,
    pub(crate) url: Field<String>,
    pub(crate) external_credential: Field<String>,
    pub(crate) generate_authorization_header: Field<bool>,
    pub(crate) host_header: Field<String>,
    pub(crate) tls: Field<Tls>,
    pub(crate) headers: Field<Vec<Field<HeaderEntry>>>,
    pub(crate) remove_headers: Field<Vec<Field<String>>>,
    pub(crate) keep_cookies: Field<bool>,
    pub(crate) forwarded: Field<Forwarded>,
    pub(crate) replay: Field<Replay>,
    pub(crate) replay_limit: Field<Size>,
    pub(crate) timeouts: Field<Timeouts>,
    pub(crate) dangerous: Field<CredentialDangers>,
}

/// `match`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write match = { path = \"/orders\", host = \"…\", methods = [\"GET\"] }")]
pub(crate) struct Match {
    pub(crate) path: Field<String>,
    pub(crate) host: Field<String>,
    pub(crate) methods: Field<Vec<Field<String>>>,
}

/// One element of `headers`.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write { name = \"x-version\", value = \"2\" }")]
pub(crate) struct HeaderEntry {
    pub(crate) name: Field<String>,
    pub(crate) value: Field<TextOrSecret>,
}

/// `forwarded`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::enum_variant_names, reason = "`x-forwarded` is the beginning of the fields' names")]
pub(crate) enum Forwarded {
    None,
    XForwarded,
    Rfc7239,
}

/// `replay`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Replay {
    Always,
    Idempotent,
    Never,
}

/// `timeouts`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write timeouts = { connect = \"5s\", first_byte = \"60s\" }")]
pub(crate) struct Timeouts {
    pub(crate) connect: Field<Span>,
    pub(crate) first_byte: Field<Span>,
    pub(crate) idle: Field<Span>,
    pub(crate) total: Field<Span>,
}

/// `[external_credentials.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct ExternalCredential {
    pub(crate) flow: Field<Flow>,
    pub(crate) token_endpoint: Field<String>,
    pub(crate) tls: Field<Tls>,
    pub(crate) timeout: Field<Span>,
    pub(crate) client_authentication: Field<Authentication>,
    pub(crate) basic_encoding: Field<Encoding>,
    pub(crate) scope: Field<OneOrMany>,
    pub(crate) audience: Field<OneOrMany>,
    pub(crate) resource: Field<OneOrMany>,
    pub(crate) parameters: Field<Parameters>,
    pub(crate) accept_token_types: Field<Vec<Field<String>>>,
    pub(crate) default_lifetime: Field<Span>,
    pub(crate) max_lifetime: Field<Span>,
    pub(crate) renew_ahead: Field<RenewAhead>,
    pub(crate) expiry_margin: Field<Span>,
    pub(crate) readiness: Field<Readiness>,
    pub(crate) mint: Field<Mint>,
    pub(crate) additional_refresh_status_codes: Field<Vec<Field<Count>>>,
    pub(crate) inject: Field<Inject>,
    pub(crate) client_id: Field<TextOrSecret>,
    pub(crate) client_secret: Field<SecretReference>,
    pub(crate) principals: Field<Vec<Field<Principal>>>,
    pub(crate) dangerous: Field<CredentialDangers>,
}

/// `flow`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Flow {
    ClientCredentials,
}

/// `client_authentication`
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authentication {
    ClientSecretBasic,
    ClientSecretPost,
}

/// `basic_encoding`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoding {
    Form,
    Raw,
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

/// `parameters`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write parameters = { body = { … }, query = { … }, headers = { … } }")]
pub(crate) struct Parameters {
    pub(crate) body: Field<Entries<TextOrSecret>>,
    pub(crate) query: Field<Entries<TextOrSecret>>,
    pub(crate) headers: Field<Entries<TextOrSecret>>,
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
    pub(crate) callers: Field<Vec<Field<String>>>,
}
