//! The configuration as written: one struct per table, one field per key, nothing checked but the kind of each value.
//!
//! The key names are those of these fields; what is expected of a value is said in `expecting`, as `WHAT; HELP`.

mod caller;
mod external;
mod limit;
mod named;

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

pub(crate) use self::caller::{Caller, CallerCertificate, CallerJwt, CallerUnix, Id};
pub(crate) use self::external::{
    Assertion, Authentication, Encoding, ExpiresUnit, ExternalCredential, Flow, Inject, JsonRule, Method, OneOrMany,
    Parameters, Principal, RefreshRule, RenewAhead, Status, Texts,
};
pub(crate) use self::limit::{CredentialLimits, Rate, RateTable};
pub(crate) use self::named::{
    Allowance, Forwarded, HeaderEntry, Http, Match, NamedCredential, Path, Replay, Streams, Timeouts, Url, UrlFromToken,
};
use super::field::{Entries, Field};
use super::quantity::{Count, Size, Span};
use crate::secret::Secret;

/// The whole file.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Document {
    pub(crate) listeners: Field<Entries<Listener>>,
    pub(crate) admin: Field<Admin>,
    pub(crate) callers: Field<Entries<Caller>>,
    pub(crate) log: Field<Log>,
    pub(crate) limits: Field<Limits>,
    pub(crate) drain: Field<Drain>,
    pub(crate) workers: Field<Count>,
    pub(crate) http_proxy: Field<HttpProxy>,
    pub(crate) named_credentials: Field<Entries<NamedCredential>>,
    pub(crate) external_credentials: Field<Entries<ExternalCredential>>,
}

/// `[listeners.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Listener {
    pub(crate) address: Field<String>,
    pub(crate) allowed_origins: Field<Vec<Field<String>>>,
    pub(crate) callers: Field<Vec<Field<String>>>,
    pub(crate) forward_proxy: Field<ForwardProxy>,
    pub(crate) tls: Field<ListenerTls>,
    pub(crate) dangerous: Field<ListenerDangers>,
}

/// `tls` of a listener.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write tls = { certificate = \"server.pem\", key = \"server.key\" }")]
pub(crate) struct ListenerTls {
    pub(crate) certificate: Field<String>,
    pub(crate) key: Field<String>,
    pub(crate) client_ca: Field<String>,
    pub(crate) client_certificate: Field<ClientCertificate>,
}

/// `client_certificate`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificate {
    Required,
    Optional,
}

/// `dangerous` of a listener.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct ListenerDangers {
    pub(crate) anonymous_callers: Field<bool>,
    pub(crate) private: Field<bool>,
    pub(crate) link_local: Field<bool>,
}

/// `forward_proxy`
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "true or false, or a table; write forward_proxy = { passthrough = [\"*.example.com\"] }"
)]
pub(crate) enum ForwardProxy {
    Boolean(bool),
    Table(ForwardProxyTable),
}

/// `forward_proxy` as a table.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct ForwardProxyTable {
    pub(crate) passthrough: Field<Vec<Field<String>>>,
    pub(crate) tunnel: Field<Vec<Field<String>>>,
}

/// `[admin]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Admin {
    pub(crate) address: Field<String>,
    pub(crate) callers: Field<Vec<Field<String>>>,
}

/// `[log]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Log {
    pub(crate) level: Field<String>,
    pub(crate) format: Field<LogFormat>,
    pub(crate) access: Field<AccessLog>,
}

/// `log.format`
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// `log.access`
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a place for the access log; write \"stdout\", \"stderr\", \"off\" or { file = \"access.log\" }"
)]
pub(crate) enum AccessLog {
    Text(AccessLogWord),
    Table(AccessLogFile),
}

/// `log.access` as a word.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccessLogWord {
    Stdout,
    Stderr,
    Off,
}

/// `log.access` as a file.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct AccessLogFile {
    pub(crate) file: Field<String>,
}

/// `[limits]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Limits {
    pub(crate) target: Field<Size>,
    pub(crate) header: Field<Size>,
    pub(crate) header_fields: Field<Count>,
    pub(crate) body: Field<Size>,
    pub(crate) connections: Field<Count>,
    pub(crate) connections_per_caller: Field<Count>,
    pub(crate) requests: Field<Count>,
    pub(crate) tunnels: Field<Count>,
    pub(crate) tunnel_idle_timeout: Field<Span>,
    pub(crate) header_timeout: Field<Span>,
    pub(crate) idle_timeout: Field<Span>,
    pub(crate) body_timeout: Field<Span>,
    pub(crate) body_rate: Field<Size>,
    pub(crate) replay_memory: Field<Size>,
    pub(crate) token_answer: Field<Size>,
    pub(crate) metric_credentials: Field<Count>,
    pub(crate) h2_streams: Field<Count>,
    pub(crate) h2_resets: Field<Count>,
    pub(crate) h2_pings: Field<Count>,
    pub(crate) h2_settings: Field<Count>,
    pub(crate) h2_priorities: Field<Count>,
    pub(crate) h2_window_updates: Field<Count>,
    pub(crate) h2_tiny_data: Field<Count>,
    pub(crate) h2_unknown: Field<Count>,
}

/// `[drain]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Drain {
    pub(crate) delay: Field<Span>,
    pub(crate) deadline: Field<Span>,
}

/// `tls` of a credential.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write tls = { ca = \"ca.pem\" } or tls = { certificate = \"…\", key = \"…\" }")]
pub(crate) struct Tls {
    pub(crate) ca: Field<String>,
    pub(crate) certificate: Field<String>,
    pub(crate) key: Field<String>,
}

/// `dangerous` of a credential.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct CredentialDangers {
    pub(crate) plain_http: Field<bool>,
    pub(crate) link_local: Field<bool>,
    pub(crate) private: Field<bool>,
}

/// `http_proxy`
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a proxy on the way out; write http_proxy = { url = \"http://proxy.example:3128\" }, \"environment\" or \
                 false"
)]
pub(crate) enum HttpProxy {
    Text(HttpProxyWord),
    Boolean(bool),
    Table(Box<HttpProxyTable>),
}

/// `http_proxy` as a word.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HttpProxyWord {
    Environment,
}

/// `http_proxy` as a table.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct HttpProxyTable {
    pub(crate) url: Field<String>,
    pub(crate) username: Field<TextOrSecret>,
    pub(crate) password: Field<SecretReference>,
    pub(crate) no_proxy: Field<Vec<Field<String>>>,
}

/// Where a secret comes from.
#[derive(Deserialize, Default)]
#[serde(
    default,
    expecting = "a reference to a secret; write { env = \"NAME\" }, { file = \"/run/secrets/name\" } or \
                 { command = [\"op\", \"read\", \"…\"] }, or, where the secret may stand in this file, \
                 { dangerous_literal = \"…\" }"
)]
pub(crate) struct SecretReference {
    pub(crate) env: Field<String>,
    pub(crate) file: Field<String>,
    pub(crate) command: Field<Vec<Field<String>>>,
    pub(crate) dangerous_literal: Field<Literal>,
}

/// A value that may be written here or come from a secret.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a text or a reference to a secret; write \"…\" or { env = \"NAME\" }"
)]
pub(crate) enum TextOrSecret {
    Text(String),
    Table(SecretReference),
}

/// A value that may be written here, come from a secret, or be computed.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a text, a reference to a secret or a formula; write \"…\", { env = \"NAME\" } or { formula = \"…\" }"
)]
pub(crate) enum Value {
    Text(String),
    Table(ValueReference),
}

/// Where a value comes from that may also be computed.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct ValueReference {
    pub(crate) env: Field<String>,
    pub(crate) file: Field<String>,
    pub(crate) command: Field<Vec<Field<String>>>,
    pub(crate) dangerous_literal: Field<Literal>,
    pub(crate) formula: Field<String>,
}

/// A formula alone.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write { formula = \"…\" }")]
pub(crate) struct FormulaTable {
    pub(crate) formula: Field<String>,
}

/// A value of any kind: it is looked at where it is resolved.
pub(crate) struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// A secret written in the file.
pub(crate) struct Literal(pub(crate) Secret);

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(LiteralVisitor)
    }
}

struct LiteralVisitor;

impl Visitor<'_> for LiteralVisitor {
    type Value = Literal;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text; put the secret in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Literal, E> {
        Ok(Literal(Secret::new(text.to_owned())))
    }
}
