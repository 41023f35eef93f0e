//! What became of a preset in one external credential: what it asks the user for, and which keys it filled in.

use super::layer::TOGETHER;
use super::{Preset, is_same_key};
use crate::config::document::{Document, ExternalCredential};
use crate::config::field::{Entries, Field};
use crate::config::findings::Findings;
use crate::config::tree::{Content, NodeId, Place, Tree};

/// A preset in use.
#[derive(Clone, Debug)]
pub struct PresetUse {
    /// The external credential that names it.
    pub credential: String,
    /// Its name.
    pub preset: &'static str,
    /// Whom it is for.
    pub provider: String,
    /// What is odd about this provider.
    pub about: String,
    /// Every key of the preset, in alphabetical order.
    pub keys: Vec<PresetKey>,
}

/// One key of a preset in use.
#[derive(Clone, Debug)]
pub struct PresetKey {
    /// The way to it within the external credential, such as `parameters.body.f`.
    pub key: String,
    /// The preset's value as TOML; a list of tables has a line for each of them. No secret: presets hold none.
    pub value: String,
    /// Whose value holds.
    pub origin: PresetOrigin,
}

/// Whose value of a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresetOrigin {
    /// The preset's.
    Preset,
    /// The user's, who wrote the key.
    Yours,
    /// Nobody's: the user wrote another key, without whose preset value this one means nothing.
    Unused,
}

impl PresetOrigin {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preset => "preset",
            Self::Yours => "yours",
            Self::Unused => "unused",
        }
    }
}

/// Keys that a preset whose name is not known might have set.
const PERHAPS_SET: [&str; 5] = ["client_id", "client_secret", "issuer", "principals", "token_endpoint"];

/// Every preset in use. What a preset needs and does not find goes to `findings`.
pub(crate) fn resolve(document: &Document, findings: &Findings<'_>) -> Vec<PresetUse> {
    let credentials = document.external_credentials.value().into_iter().flat_map(Entries::iter);
    credentials.filter_map(|(name, field)| usage(findings, name, field)).collect()
}

fn usage(findings: &Findings<'_>, name: &str, field: &Field<ExternalCredential>) -> Option<PresetUse> {
    let (credential, written) = field.get()?;
    let (line, text) = match &written.preset {
        Field::Set(line, text) => (*line, text.as_str()),
        Field::Wrong(_) => {
            forgive(findings, credential);
            return None;
        }
        Field::Missing => return None,
    };
    let meant = Preset::meant(text);
    if meant.is_none_or(|preset| preset.name != text) {
        let nearest = meant.map_or_else(String::new, |preset| format!("did you mean \"{}\"? ", preset.name));
        let names = Preset::names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        findings.error(line, "there is no preset of this name", format!("{nearest}the presets are {names}"));
    }
    let Some(preset) = meant else {
        forgive(findings, credential);
        return None;
    };
    ask(findings, preset, credential, line);
    advise(findings, preset, credential);
    let keys = preset.keys().into_iter().map(|(path, value)| PresetKey {
        origin: origin(findings.tree(), credential, &path),
        key: path.join("."),
        value: toml_text(value),
    });
    Some(PresetUse {
        credential: name.to_owned(),
        preset: preset.name,
        keys: keys.collect(),
        provider: preset.provider.clone(),
        about: preset.about.clone(),
    })
}

/// Says nothing about keys that the preset might have set, had we known which it is.
fn forgive(findings: &Findings<'_>, credential: NodeId) {
    for key in PERHAPS_SET {
        findings.asked_for(credential, key);
    }
}

/// Says which of the keys that the preset needs are missing.
fn ask(findings: &Findings<'_>, preset: &Preset, credential: NodeId, line: NodeId) {
    for (needed, reason) in &preset.needs {
        let ways: Vec<Vec<&str>> = needed.split(" or ").map(|way| way.split('.').collect()).collect();
        let missing = ways.iter().filter_map(|way| match find(findings.tree(), credential, way) {
            Found::Missing(table, key) => Some((table, key)).filter(|_| !findings.is_misspelt(table, key)),
            Found::Node(_) | Found::Hidden => None,
        });
        let missing: Vec<(NodeId, &str)> = missing.collect();
        if missing.len() < ways.len() {
            continue;
        }
        for (table, key) in missing {
            findings.asked_for(table, key.to_owned());
        }
        let message = format!("the preset `{}` needs `{}`", preset.name, needed.replace(" or ", "` or `"));
        findings.error(line, message, format!("write it in [{}]: {reason}", findings.tree().path(credential)));
    }
}

/// Points out the keys that the provider does not take.
fn advise(findings: &Findings<'_>, preset: &Preset, credential: NodeId) {
    for (avoided, reason) in &preset.avoid {
        let path: Vec<&str> = avoided.split('.').collect();
        if let Found::Node(node) = find(findings.tree(), credential, &path) {
            findings.key_warning(node, reason, "leave it out");
        }
    }
}

/// What a search for a key came to.
enum Found<'k> {
    /// It is there.
    Node(NodeId),
    /// This table on the way does not hold this key.
    Missing(NodeId, &'k str),
    /// What stands on the way is no table.
    Hidden,
}

/// Looks for the key at the end of `path`, beginning at `table`.
fn find<'k>(tree: &Tree, table: NodeId, path: &[&'k str]) -> Found<'k> {
    let (mut at, mut name) = (table, "");
    for key in path {
        let Content::Table(entries) = tree.content(at) else { return Found::Hidden };
        match entries.iter().find(|(other, _)| is_same_key(name, key, other)) {
            Some((_, entry)) => (at, name) = (*entry, key),
            None => return Found::Missing(at, key),
        }
    }
    Found::Node(at)
}

fn origin(tree: &Tree, credential: NodeId, path: &[&str]) -> PresetOrigin {
    let is_unused = |key: &&str| TOGETHER.iter().any(|(depends, _)| depends == key);
    match find(tree, credential, path) {
        Found::Node(node) if *tree.place(node) == Place::Preset => PresetOrigin::Preset,
        Found::Missing(..) if path.first().is_some_and(is_unused) => PresetOrigin::Unused,
        Found::Node(_) | Found::Missing(..) | Found::Hidden => PresetOrigin::Yours,
    }
}

fn toml_text(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            let lines: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("[\n{lines}]")
        }
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_)
        | toml::Value::Array(_) => value.to_string(),
    }
}
