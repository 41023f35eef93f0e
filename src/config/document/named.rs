//! Named credentials as written.

use serde::Deserialize;

use super::{CredentialDangers, CredentialLimits, HttpProxy, Tls, Value};
use crate::config::field::Field;
use crate::config::quantity::{Size, Span};

/// `[named_credentials.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct NamedCredential {
    pub(crate) label: Field<String>,
    pub(crate) description: Field<String>,
    pub(crate) enabled: Field<bool>,
    pub(crate) r#match: Field<Match>,
    pub(crate) callers: Field<Vec<Field<String>>>,
    pub(crate) url: Field<Url>,
    pub(crate) path: Field<Path>,
    pub(crate) external_credential: Field<String>,
    pub(crate) generate_authorization_header: Field<bool>,
    pub(crate) host_header: Field<String>,
    pub(crate) tls: Field<Tls>,
    pub(crate) http: Field<Http>,
    pub(crate) http_proxy: Field<HttpProxy>,
    pub(crate) headers: Field<Vec<Field<HeaderEntry>>>,
    pub(crate) remove_headers: Field<Vec<Field<String>>>,
    pub(crate) keep_cookies: Field<bool>,
    pub(crate) forwarded: Field<Forwarded>,
    pub(crate) replay: Field<Replay>,
    pub(crate) replay_limit: Field<Size>,
    pub(crate) timeouts: Field<Timeouts>,
    pub(crate) limits: Field<CredentialLimits>,
    pub(crate) streams: Field<Streams>,
    pub(crate) dangerous: Field<CredentialDangers>,
}

/// `url`
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a URL, or where it comes from; write \"https://api.example.com/v1\" or { from_token = \
                 \"/instance_url\", allow = [\"*.example.com\"] }"
)]
pub(crate) enum Url {
    Text(String),
    Table(UrlFromToken),
}

/// `url` as a table.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct UrlFromToken {
    pub(crate) from_token: Field<String>,
    pub(crate) path: Field<String>,
    pub(crate) allow: Field<Vec<Field<String>>>,
}

/// `path`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write path = { encoded_slash = \"pass\" }")]
pub(crate) struct Path {
    pub(crate) encoded_slash: Field<Allowance>,
    pub(crate) semicolon: Field<Allowance>,
    pub(crate) double_slash: Field<Allowance>,
}

/// One key of `path`.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Allowance {
    Pass,
    Refuse,
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
    pub(crate) value: Field<Value>,
}

/// `http`
#[derive(Deserialize, Clone, Copy)]
pub(crate) enum Http {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "1.1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
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

/// `replay`, of a named credential or of a refresh rule
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
    pub(crate) r#continue: Field<Span>,
}

/// `streams`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write streams = { upgrades = [\"websocket\"], idle = \"10m\" }")]
pub(crate) struct Streams {
    pub(crate) upgrades: Field<Vec<Field<String>>>,
    pub(crate) idle: Field<Span>,
}
