//! Limits of callers and named credentials as written.

use serde::Deserialize;

use crate::config::field::Field;
use crate::config::quantity::{Count, Size};

/// A rate.
#[derive(Deserialize)]
#[serde(
    rename = "$by_kind",
    rename_all = "lowercase",
    expecting = "a rate; write \"100/s\", \"600/m\" or { per_second = 100, burst = 200 }"
)]
pub(crate) enum Rate {
    Text(String),
    Table(RateTable),
}

/// A rate with a burst of its own.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table")]
pub(crate) struct RateTable {
    pub(crate) per_second: Field<Count>,
    pub(crate) per_minute: Field<Count>,
    pub(crate) burst: Field<Count>,
}

/// `limits` of a named credential.
#[derive(Deserialize, Default)]
#[serde(default, expecting = "a table; write limits = { rate = \"100/s\", requests = 50, body = \"10MiB\" }")]
pub(crate) struct CredentialLimits {
    pub(crate) rate: Field<Rate>,
    pub(crate) requests: Field<Count>,
    pub(crate) body: Field<Size>,
}
