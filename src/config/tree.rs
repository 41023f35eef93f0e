//! The merged configuration as a tree of nodes, each of which knows where it was written.
//!
//! figment decides which layer's value holds; the TOML tree tells the place of what came from the file. What the
//! values mean is no concern of this file.

use std::ops::Range;

use figment::Figment;
use figment::value::{Num, Tag, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Index of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) usize);

/// The name of the layer that holds what presets fill in.
pub(crate) const PRESETS: &str = "presets";

/// Every key and value of the merged configuration.
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// One value, and the way to it.
struct Node {
    parent: Option<NodeId>,
    step: Step,
    place: Place,
    content: Content,
}

/// The last step of the way from the root to a node.
enum Step {
    Root,
    Key(String),
    Index(usize),
}

/// Where a node was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file; byte ranges of the key (none for an element of a list) and of the value.
    File { key: Option<Range<usize>>, value: Range<usize> },
    /// In this environment variable.
    Environment(String),
    /// In the preset that the external credential it belongs to names.
    Preset,
    /// Nowhere: a default.
    Default,
}

/// A value with the nodes below it.
pub(crate) enum Content {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// Something no key takes; the text says what.
    Other(&'static str),
    List(Vec<NodeId>),
    /// In the order of the file.
    Table(Vec<(String, NodeId)>),
}

/// A value as the parser left it.
type Written<'a, 'i> = Option<&'a Spanned<DeValue<'i>>>;

impl Tree {
    /// The id of the root table.
    pub(crate) const ROOT: NodeId = NodeId(0);

    /// Joins the merged `value` with the places in `written`, the file's tree. `figment` tells which layer a value
    /// came from.
    pub(crate) fn build(figment: &Figment, value: &Value, written: &DeTable<'_>) -> Self {
        let mut tree = Self { nodes: Vec::new() };
        let root = tree.add(None, Step::Root, Place::Default);
        let entries = match value {
            Value::Dict(_, dict) => tree.grow_table(figment, root, dict, Some(written)),
            Value::String(..)
            | Value::Char(..)
            | Value::Bool(..)
            | Value::Num(..)
            | Value::Empty(..)
            | Value::Array(..) => Vec::new(),
        };
        tree.fill(root, Content::Table(entries));
        tree
    }

    fn add(&mut self, parent: Option<NodeId>, step: Step, place: Place) -> NodeId {
        self.nodes.push(Node { parent, step, place, content: Content::Other("nothing") });
        NodeId(self.nodes.len() - 1)
    }

    fn fill(&mut self, id: NodeId, content: Content) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.content = content;
        }
    }

    fn grow_table(
        &mut self,
        figment: &Figment,
        parent: NodeId,
        dict: &figment::value::Dict,
        written: Option<&DeTable<'_>>,
    ) -> Vec<(String, NodeId)> {
        let mut entries: Vec<_> = dict
            .iter()
            .map(|(key, value)| {
                let found = written.and_then(|table| table.get_key_value(key.as_str()));
                (found.map(|(key, _)| key.span()), key, value, found.map(|(_, value)| value))
            })
            .collect();
        entries.sort_by_key(|(span, ..)| span.as_ref().map_or(usize::MAX, |span| span.start));
        entries
            .into_iter()
            .map(|(span, key, value, written)| {
                let place = place(figment, value.tag(), span, written);
                let id = self.add(Some(parent), Step::Key(key.clone()), place);
                self.grow(figment, id, value, written);
                (key.clone(), id)
            })
            .collect()
    }

    fn grow(&mut self, figment: &Figment, id: NodeId, value: &Value, written: Written<'_, '_>) {
        let from_file = matches!(self.place(id), Place::File { .. });
        let written = written.map(Spanned::get_ref).filter(|_| from_file || matches!(value, Value::Dict(..)));
        let content = match value {
            Value::String(..) if matches!(written, Some(DeValue::Datetime(_))) => Content::Other("a date or time"),
            Value::String(_, text) => Content::Text(text.clone()),
            Value::Bool(_, flag) => Content::Boolean(*flag),
            Value::Num(_, Num::F64(number)) => Content::Float(*number),
            Value::Num(_, number) => number
                .to_i128()
                .and_then(|number| i64::try_from(number).ok())
                .map_or(Content::Other("a number out of range"), Content::Integer),
            Value::Char(..) | Value::Empty(..) => Content::Other("a number out of range"),
            Value::Dict(_, dict) => {
                let table = match written {
                    Some(DeValue::Table(table)) => Some(table),
                    _ => None,
                };
                Content::Table(self.grow_table(figment, id, dict, table))
            }
            Value::Array(_, items) => Content::List(self.grow_list(figment, id, items, written)),
        };
        self.fill(id, content);
    }

    fn grow_list(
        &mut self,
        figment: &Figment,
        parent: NodeId,
        items: &[Value],
        written: Option<&DeValue<'_>>,
    ) -> Vec<NodeId> {
        let written = match written {
            Some(DeValue::Array(written)) => Some(written),
            _ => None,
        };
        let mut ids = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let written = written.and_then(|list| list.get(index));
            let id = self.add(Some(parent), Step::Index(index), place(figment, item.tag(), None, written));
            self.grow(figment, id, item, written);
            ids.push(id);
        }
        ids
    }

    /// What stands at `id`.
    pub(crate) fn content(&self, id: NodeId) -> &Content {
        self.nodes.get(id.0).map_or(&Content::Other("nothing"), |node| &node.content)
    }

    /// The entry `key` of the table at `id`.
    pub(crate) fn entry(&self, id: NodeId, key: &str) -> Option<NodeId> {
        let Content::Table(entries) = self.content(id) else { return None };
        entries.iter().find(|(other, _)| other == key).map(|(_, entry)| *entry)
    }

    /// The table that `id` stands in, or the list.
    pub(crate) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.nodes.get(id.0)?.parent
    }

    /// Where `id` was written.
    pub(crate) fn place(&self, id: NodeId) -> &Place {
        self.nodes.get(id.0).map_or(&Place::Default, |node| &node.place)
    }

    /// The way to `id` as one would write it: `named_credentials.orders.headers[0].name`.
    pub(crate) fn path(&self, id: NodeId) -> String {
        let Some(node) = self.nodes.get(id.0) else { return String::new() };
        let mut path = node.parent.map_or_else(String::new, |parent| self.path(parent));
        match &node.step {
            Step::Root => {}
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&written_key(key));
            }
        }
        path
    }
}

/// A key as TOML wants it written: bare where that is possible, quoted otherwise.
fn written_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// The place of a value whose figment tag is `tag`.
fn place(figment: &Figment, tag: Tag, key: Option<Range<usize>>, written: Written<'_, '_>) -> Place {
    let layer = figment.get_metadata(tag).map(|metadata| metadata.name.as_ref());
    match (layer, written) {
        (Some(variable), _) if variable.starts_with("KEYBEARER_") => Place::Environment(variable.to_owned()),
        (_, Some(written)) => Place::File { key, value: written.span() },
        (Some(PRESETS), None) => Place::Preset,
        (_, None) => Place::Default,
    }
}
