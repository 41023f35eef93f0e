//! The layers of the configuration, put together by figment: defaults, presets, the file, and a fixed list of scalar
//! settings from the environment.
//!
//! figment's own environment source is not used: it guesses types (a secret `0123` becomes a number), lower-cases
//! names, and takes every variable with the prefix.

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use toml::de::{DeInteger, DeTable, DeValue};

use super::preset;
use super::tree::{Aside, PRESETS, Tree};

/// Variables that set one scalar key each; every other `KEYBEARER_*` name is ignored.
pub const ENVIRONMENT: [(&str, &[&str]); 6] = [
    ("KEYBEARER_LISTEN", &["listeners", "default", "address"]),
    ("KEYBEARER_ADMIN", &["admin", "address"]),
    ("KEYBEARER_LOG", &["log", "level"]),
    ("KEYBEARER_LOG_FORMAT", &["log", "format"]),
    ("KEYBEARER_ACCESS_LOG", &["log", "access"]),
    ("KEYBEARER_WORKERS", &["workers"]),
];

/// Scalar defaults. Those of the credentials, which have names we cannot know, are filled in where they are resolved.
const DEFAULTS: [(&[&str], &str); 14] = [
    (&["admin", "address"], "127.0.0.1:9901"),
    (&["log", "level"], "info"),
    (&["log", "format"], "text"),
    (&["log", "access"], "stdout"),
    (&["limits", "target"], "8KiB"),
    (&["limits", "header"], "32KiB"),
    (&["limits", "header_timeout"], "10s"),
    (&["limits", "idle_timeout"], "90s"),
    (&["limits", "body_timeout"], "60s"),
    (&["limits", "tunnel_idle_timeout"], "1h"),
    (&["limits", "body_rate"], "64B"),
    (&["limits", "replay_memory"], "64MiB"),
    (&["limits", "token_answer"], "64KiB"),
    (&["drain", "deadline"], "25s"),
];

/// The same for keys that take a number.
const NUMBERS: [(&[&str], i32); 5] = [
    (&["limits", "header_fields"], 100),
    (&["limits", "connections"], 10_000),
    (&["limits", "requests"], 8192),
    (&["limits", "tunnels"], 1000),
    (&["limits", "metric_credentials"], 1000),
];

/// The tables of credentials. There may be a hundred thousand of each, so they are not carried through every layer.
const ASIDE: [Aside; 2] = [
    Aside { key: "named_credentials", beneath: |_| None },
    Aside { key: "external_credentials", beneath: over_preset },
];

/// Merges the layers over `written`, the file's table. `variable` looks an environment variable up.
pub(crate) fn merge(written: &DeTable<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Tree {
    let mut over = Figment::from(Layer { name: FILE.to_owned(), dict: without_aside(written) });
    for (name, path) in ENVIRONMENT {
        if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
            over = over.merge(Layer { name: name.to_owned(), dict: nested(path, scalar(path, text)) });
        }
    }
    let wants_listener = wants_default_listener(&over);
    let mut figment = over;
    for (path, text) in DEFAULTS {
        figment = figment.join(Layer { name: "defaults".to_owned(), dict: nested(path, Value::from(text)) });
    }
    for (path, number) in NUMBERS {
        figment = figment.join(Layer { name: "defaults".to_owned(), dict: nested(path, Value::from(number)) });
    }
    if wants_listener {
        let path = ["listeners", "default", "address"];
        figment =
            figment.join(Layer { name: "defaults".to_owned(), dict: nested(&path, Value::from("127.0.0.1:8080")) });
    }
    // Our layers cannot fail, so neither can their sum.
    let value = figment.find_value("").unwrap_or_else(|_| Value::from(Dict::new()));
    Tree::build(&figment, &value, written, &ASIDE)
}

/// The listener named `default` has a default address, and it is there when no other is.
fn wants_default_listener(over: &Figment) -> bool {
    match over.find_value("listeners") {
        Ok(Value::Dict(_, dict)) => dict.is_empty() || dict.contains_key("default"),
        Ok(_) => false,
        Err(_) => true,
    }
}

/// A variable's text; where the key takes a number, as a number when it is one.
fn scalar(path: &[&str], text: String) -> Value {
    match text.parse::<i64>() {
        Ok(number) if path == ["workers"] => Value::from(number),
        Ok(_) | Err(_) => Value::from(text),
    }
}

fn nested(path: &[&str], value: Value) -> Dict {
    let mut dict = Dict::new();
    if let Some((first, rest)) = path.split_first() {
        let below = if rest.is_empty() { value } else { Value::from(nested(rest, value)) };
        dict.insert((*first).to_owned(), below);
    }
    dict
}

/// One layer for figment.
struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// The layer of the file.
const FILE: &str = "file";

/// An external credential over the preset it names.
fn over_preset(credential: &DeTable<'_>) -> Option<Figment> {
    let presets = Layer { name: PRESETS.to_owned(), dict: preset::layer(credential)? };
    Some(Figment::from(Layer { name: FILE.to_owned(), dict: table(credential) }).join(presets))
}

fn without_aside(written: &DeTable<'_>) -> Dict {
    let is_aside = |key: &str| ASIDE.iter().any(|aside| aside.key == key);
    let entries = written.iter().filter(|(key, _)| !is_aside(key.get_ref()));
    entries.map(|(key, item)| (key.get_ref().clone().into_owned(), value(item.get_ref()))).collect()
}

fn table(written: &DeTable<'_>) -> Dict {
    written.iter().map(|(key, item)| (key.get_ref().clone().into_owned(), value(item.get_ref()))).collect()
}

fn value(written: &DeValue<'_>) -> Value {
    match written {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or_else(|_| empty(), Value::from),
        DeValue::Boolean(flag) => Value::from(*flag),
        // The tree knows from the file that this is no text.
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(items) => Value::from(items.iter().map(|item| value(item.get_ref())).collect::<Vec<_>>()),
        DeValue::Table(items) => Value::from(table(items)),
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| empty(), Value::from)
}

/// Stands for a number that fits no type of ours.
fn empty() -> Value {
    Value::Empty(figment::value::Tag::Default, figment::value::Empty::Unit)
}
