//! Callers as written.

use serde::Deserialize;

use super::{CredentialDangers, OneOrMany, Rate, Tls};
use crate::config::field::{Entries, Field};
use crate::config::quantity::Count;

/// `[callers.NAME]`
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct Caller {
    pub(crate) api_key_sha256: Field<String>,
    pub(crate) header: Field<String>,
    pub(crate) mtls: Field<CallerCertificate>,
    pub(crate) jwt: Field<CallerJwt>,
    pub(crate) networks: Field<Vec<Field<String>>>,
    pub(crate) unix: Field<CallerUnix>,
    pub(crate) rate: Field<Rate>,
    pub(crate) dangerous: Field<CredentialDangers>,
}

/// `mtls` of a caller.
#[derive(Deserialize, Default)]
#[serde(
    default,
    expecting = "a table; write mtls = { subject = \"CN=billing,O=Example\" } or mtls = { uri = \"spiffe://…\" }"
)]
pub(crate) struct CallerCertificate {
    pub(crate) subject: Field<String>,
    pub(crate) dns: Field<String>,
    pub(crate) uri: Field<String>,
    pub(crate) email: Field<String>,
}

/// `jwt` of a caller.
#[derive(Deserialize, Default)]
#[serde(
    default,
    expecting = "a table; write jwt = { issuer = \"https://…\", audience = \"keybearer\", claims = { \"/sub\" = \"…\" } }"
)]
pub(crate) struct CallerJwt {
    pub(crate) issuer: Field<String>,
    pub(crate) jwks: Field<String>,
    pub(crate) jwks_file: Field<String>,
    pub(crate) audience: Field<OneOrMany>,
    pub(crate) claims: Field<Entries<OneOrMany>>,
    pub(crate) header: Field<String>,
    pub(crate) algorithms: Field<Vec<Field<String>>>,
    pub(crate) tls: Field<Tls>,
    pub(crate) bearer_token_file: Field<String>,
}

/// `unix` of a caller.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write unix = { uid = 1000 } or unix = { gid = \"billing\" }")]
pub(crate) struct CallerUnix {
    pub(crate) uid: Field<Id>,
    pub(crate) gid: Field<Id>,
}

/// A user or a group.
#[derive(Deserialize)]
#[serde(rename = "$by_kind", rename_all = "lowercase", expecting = "a number or a name; write 1000 or \"billing\"")]
pub(crate) enum Id {
    Integer(Count),
    Text(String),
}
