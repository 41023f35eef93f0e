//! Lays the settings of presets beneath the configuration as written.
//!
//! Tables are merged key by key; a list or a single value of the user replaces that of the preset. The merging itself
//! is figment's; here it is only decided what lies beneath.

use figment::value::{Dict, Value};
use toml::de::DeTable;

use super::{Preset, is_same_key};
use crate::config::tree::{Content, NodeId, Place, Tree};

/// Keys that make sense only together with another key. Where the user gives the second another value than the
/// preset, the first is left out: it was said about something that no longer holds. Above all, that plain HTTP is
/// harmless is said of one address, and that no proxy leads there.
pub(super) const TOGETHER: [(&str, &str); 6] = [
    ("basic_encoding", "client_authentication"),
    ("dangerous", "issuer"),
    ("dangerous", "token_endpoint"),
    ("grant_type", "flow"),
    ("http_proxy", "issuer"),
    ("http_proxy", "token_endpoint"),
];

/// What `flow` is where nobody says so.
const DEFAULT_FLOW: &str = "client_credentials";

/// What the preset that an external credential names lays beneath it, if it names one.
pub(crate) fn layer(credential: &DeTable<'_>) -> Option<Dict> {
    let preset = Preset::meant(credential.get("preset")?.get_ref().as_str()?)?;
    let mut settings = preset.settings.clone();
    leave_out(&mut settings, credential);
    // Tables of TOML have a place in figment's values, so this cannot fail.
    Value::serialize(&settings).ok()?.into_dict()
}

/// Takes away what would contradict the user's keys instead of lying beneath them.
fn leave_out(settings: &mut toml::Table, written: &DeTable<'_>) {
    for (key, other) in TOGETHER {
        let Some(theirs) = written.get(other) else { continue };
        let ours = settings.get(other).and_then(toml::Value::as_str);
        let ours = ours.or(Some(DEFAULT_FLOW).filter(|_| other == "flow"));
        if ours.is_none() || theirs.get_ref().as_str() != ours {
            settings.remove(key);
        }
    }
    let headers = written.get("parameters").and_then(|item| item.get_ref().get("headers"));
    let Some(headers) = headers.and_then(|item| item.get_ref().as_table()) else { return };
    let beneath = settings.get_mut("parameters").and_then(|parameters| parameters.get_mut("headers"));
    if let Some(beneath) = beneath.and_then(toml::Value::as_table_mut) {
        beneath.retain(|name, _| !headers.keys().any(|key| is_same_key("headers", name, key.get_ref())));
    }
}

/// Which preset set a value, and the line that names it.
pub(crate) struct Origin {
    /// The preset's name.
    pub(crate) name: &'static str,
    /// The node of the key `preset`.
    pub(crate) line: NodeId,
}

/// Where `node` comes from, when a preset filled it in.
pub(crate) fn origin(tree: &Tree, node: NodeId) -> Option<Origin> {
    if *tree.place(node) != Place::Preset {
        return None;
    }
    let mut credential = node;
    while tree.parent(tree.parent(credential)?)? != Tree::ROOT {
        credential = tree.parent(credential)?;
    }
    let line = tree.entry(credential, "preset")?;
    let Content::Text(text) = tree.content(line) else { return None };
    Preset::meant(text).map(|preset| Origin { name: preset.name, line })
}
