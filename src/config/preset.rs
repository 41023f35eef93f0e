//! Presets: the tested settings of one provider, laid beneath what the user writes in an external credential.
//!
//! The data files in `src/presets` are part of the program. This file finds and reads them; `layer` lays them beneath
//! the configuration, `usage` says what is still missing and what became of each key. What a setting means is decided
//! where all settings are resolved: a preset can do nothing that a user could not write.

mod layer;
mod usage;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

pub(crate) use self::layer::{layer, origin};
pub(crate) use self::usage::resolve;
pub use self::usage::{PresetKey, PresetOrigin, PresetUse};
use super::nearest::nearest;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../presets/", $name, ".toml")))),*]
    };
}

/// Name and text of every preset, by name.
const FILES: &[(&str, &str)] = files![
    "adobe",
    "amadeus",
    "anypoint",
    "apigee",
    "arcgis",
    "auth0",
    "azure_imds",
    "box",
    "cognito",
    "databricks",
    "docusign",
    "ebay",
    "entra",
    "entra_v1",
    "entra_workload",
    "fedex",
    "github_app",
    "google",
    "ibm",
    "keycloak",
    "marketo",
    "meta",
    "okta",
    "okta_org",
    "paypal",
    "ping",
    "reddit",
    "salesforce",
    "salesforce_commerce",
    "salesforce_jwt",
    "sap",
    "sap_xsuaa",
    "servicenow",
    "snowflake",
    "sp_api",
    "spotify",
    "twilio",
    "twitch",
    "ups",
    "usps",
    "workday",
    "zoom",
];

/// One data file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preset {
    /// What the file is called, without its ending.
    #[serde(skip)]
    pub(crate) name: &'static str,
    /// Whom it is for.
    pub(crate) provider: String,
    /// What is odd about this provider.
    pub(crate) about: String,
    /// Keys the user must still write, and why. `a.b` is a key of a table; of `a or b` one is enough.
    #[serde(default)]
    pub(crate) needs: BTreeMap<String, String>,
    /// Keys that this provider does not take, and why.
    #[serde(default)]
    pub(crate) avoid: BTreeMap<String, String>,
    /// Keys of `[external_credentials.NAME]`.
    #[serde(default)]
    pub(crate) settings: toml::Table,
}

impl Preset {
    /// The preset of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        static READ: OnceLock<BTreeMap<&str, Preset>> = OnceLock::new();
        // That every file can be read is proven by a test.
        let read = |(name, text): &(&'static str, &str)| {
            let preset: Self = toml::from_str(text).ok()?;
            Some((*name, Self { name, ..preset }))
        };
        READ.get_or_init(|| FILES.iter().filter_map(read).collect()).get(name)
    }

    /// The preset that was probably meant: the one of this name, or else of the name nearest to it.
    pub(crate) fn meant(name: &str) -> Option<&'static Self> {
        Self::find(name).or_else(|| Self::find(nearest(name, Self::names())?))
    }

    /// The names of all presets, in order.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Every setting that is no table: the way to its key, and its value.
    pub(crate) fn keys(&self) -> Vec<(Vec<&str>, &toml::Value)> {
        let mut keys = Vec::new();
        collect(&self.settings, &[], &mut keys);
        keys
    }
}

fn collect<'a>(table: &'a toml::Table, above: &[&'a str], keys: &mut Vec<(Vec<&'a str>, &'a toml::Value)>) {
    for (key, value) in table {
        let path = [above, &[key.as_str()]].concat();
        match value {
            toml::Value::Table(table) => collect(table, &path, keys),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => keys.push((path, value)),
        }
    }
}

/// Whether two keys of the table called `table` are the same. Case does not count in names of header fields.
fn is_same_key(table: &str, one: &str, other: &str) -> bool {
    one == other || (table == "headers" && one.eq_ignore_ascii_case(other))
}
