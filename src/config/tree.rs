//! The merged configuration as a tree of nodes, each of which knows where it was written.
//!
//! figment decides which layer's value holds; the TOML tree tells the place of what came from the file. The tables of
//! credentials, of which there may be very many, have no layer over them and are read from the file as they are; one
//! that names a preset is laid over it by figment, alone. What the values mean is no concern of this file.

use std::ops::Range;

use figment::Figment;
use figment::value::{Num, Tag, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Index of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

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

/// A table at the root that no layer of the whole configuration touches.
pub(crate) struct Aside {
    pub(crate) key: &'static str,
    pub(crate) beneath: Beneath,
}

/// The figment of an entry that is laid over something; none: the entry is only what is written.
pub(crate) type Beneath = fn(&DeTable<'_>) -> Option<Figment>;

/// An entry of a table before it is in the tree.
struct Entry<'a, 'i> {
    key: String,
    /// Where the key was written; none: nowhere in the file.
    span: Option<Range<usize>>,
    grown: Grown<'a, 'i>,
}

enum Grown<'a, 'i> {
    Merged { value: &'a Value, written: Written<'a, 'i> },
    Written { written: &'a Spanned<DeValue<'i>>, beneath: Beneath },
}

/// The entries of a merged table, with what of them was written.
fn entries<'a, 'i>(dict: &'a figment::value::Dict, written: Option<&'a DeTable<'i>>) -> Vec<Entry<'a, 'i>> {
    let entries = dict.iter().map(|(key, value)| {
        let found = written.and_then(|table| table.get_key_value(key.as_str()));
        let grown = Grown::Merged { value, written: found.map(|(_, value)| value) };
        Entry { key: key.clone(), span: found.map(|(key, _)| key.span()), grown }
    });
    entries.collect()
}

impl Tree {
    /// The id of the root table.
    pub(crate) const ROOT: NodeId = NodeId(0);

    /// Joins the merged `value` with the places in `written`, the file's tree. `figment` tells which layer a value
    /// came from. Tables in `aside` are not in `value`: what stands in one of them is only what was written, laid over
    /// what `beneath` says of the entry.
    pub(crate) fn build(figment: &Figment, value: &Value, written: &DeTable<'_>, aside: &[Aside]) -> Self {
        let mut tree = Self { nodes: Vec::new() };
        let root = tree.add(None, Step::Root, Place::Default);
        let mut entries = match value {
            Value::Dict(_, dict) => entries(dict, Some(written)),
            Value::String(..)
            | Value::Char(..)
            | Value::Bool(..)
            | Value::Num(..)
            | Value::Empty(..)
            | Value::Array(..) => Vec::new(),
        };
        for Aside { key, beneath } in aside {
            let Some((written_key, written)) = written.get_key_value(*key) else { continue };
            let grown = Grown::Written { written, beneath: *beneath };
            entries.push(Entry { key: (*key).to_owned(), span: Some(written_key.span()), grown });
        }
        let entries = tree.grow_entries(figment, root, entries);
        tree.fill(root, Content::Table(entries));
        tree
    }

    fn add(&mut self, parent: Option<NodeId>, step: Step, place: Place) -> NodeId {
        // A text has far fewer values than bytes, and nobody writes one of 4 GiB.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { parent, step, place, content: Content::Other("nothing") });
        id
    }

    fn fill(&mut self, id: NodeId, content: Content) {
        if let Some(node) = self.nodes.get_mut(id.index()) {
            node.content = content;
        }
    }

    /// Adds the entries of a table in the order of the file, those that are not written there last.
    fn grow_entries(
        &mut self,
        figment: &Figment,
        parent: NodeId,
        mut entries: Vec<Entry<'_, '_>>,
    ) -> Vec<(String, NodeId)> {
        entries.sort_by_key(|entry| entry.span.as_ref().map_or(usize::MAX, |span| span.start));
        let mut grown = Vec::with_capacity(entries.len());
        for Entry { key, span, grown: what } in entries {
            let step = Step::Key(key.clone());
            let id = match what {
                Grown::Merged { value, written } => {
                    let id = self.add(Some(parent), step, place(figment, value.tag(), span, written));
                    self.grow(figment, id, value, written);
                    id
                }
                Grown::Written { written, beneath } => {
                    let id = self.add(Some(parent), step, Place::File { key: span, value: written.span() });
                    self.grow_aside(id, written.get_ref(), beneath);
                    id
                }
            };
            grown.push((key, id));
        }
        grown
    }

    /// A table whose entries are laid over what `beneath` says of them.
    fn grow_aside(&mut self, id: NodeId, written: &DeValue<'_>, beneath: Beneath) {
        let DeValue::Table(table) = written else { return self.grow_written(id, written) };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut grown = Vec::with_capacity(entries.len());
        for (key, item) in entries {
            let entry = self.add_written(id, key, item);
            match item.get_ref().as_table().and_then(|table| Some((table, beneath(table)?))) {
                Some((table, figment)) => self.grow_layered(&figment, entry, table),
                None => self.grow_written(entry, item.get_ref()),
            }
            grown.push((key.get_ref().clone().into_owned(), entry));
        }
        self.fill(id, Content::Table(grown));
    }

    /// A table that `figment` has laid over another.
    fn grow_layered(&mut self, figment: &Figment, id: NodeId, table: &DeTable<'_>) {
        // Our layers cannot fail, so neither can their sum.
        let merged = figment.find_value("").unwrap_or_else(|_| Value::from(figment::value::Dict::new()));
        let entries = merged.as_dict().map_or_else(Vec::new, |dict| entries(dict, Some(table)));
        let entries = self.grow_entries(figment, id, entries);
        self.fill(id, Content::Table(entries));
    }

    fn add_written(
        &mut self,
        parent: NodeId,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        item: &Spanned<DeValue<'_>>,
    ) -> NodeId {
        let step = Step::Key(key.get_ref().clone().into_owned());
        self.add(Some(parent), step, Place::File { key: Some(key.span()), value: item.span() })
    }

    /// What stands in the file and has nothing beneath or above it.
    fn grow_written(&mut self, id: NodeId, written: &DeValue<'_>) {
        let content = match written {
            DeValue::String(text) => Content::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Content::Other("a number out of range"), Content::Integer),
            DeValue::Float(number) => {
                number.as_str().parse::<f64>().map_or(Content::Other("a number out of range"), Content::Float)
            }
            DeValue::Boolean(flag) => Content::Boolean(*flag),
            DeValue::Datetime(_) => Content::Other("a date or time"),
            DeValue::Array(items) => {
                let mut ids = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let place = Place::File { key: None, value: item.span() };
                    let item_id = self.add(Some(id), Step::Index(index), place);
                    self.grow_written(item_id, item.get_ref());
                    ids.push(item_id);
                }
                Content::List(ids)
            }
            DeValue::Table(table) => {
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(key, _)| key.span().start);
                let mut grown = Vec::with_capacity(entries.len());
                for (key, item) in entries {
                    let entry = self.add_written(id, key, item);
                    self.grow_written(entry, item.get_ref());
                    grown.push((key.get_ref().clone().into_owned(), entry));
                }
                Content::Table(grown)
            }
        };
        self.fill(id, content);
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
                let entries = entries(dict, table);
                Content::Table(self.grow_entries(figment, id, entries))
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
        self.nodes.get(id.index()).map_or(&Content::Other("nothing"), |node| &node.content)
    }

    /// The entry `key` of the table at `id`.
    pub(crate) fn entry(&self, id: NodeId, key: &str) -> Option<NodeId> {
        let Content::Table(entries) = self.content(id) else { return None };
        entries.iter().find(|(other, _)| other == key).map(|(_, entry)| *entry)
    }

    /// The table that `id` stands in, or the list.
    pub(crate) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.nodes.get(id.index())?.parent
    }

    /// Where `id` was written.
    pub(crate) fn place(&self, id: NodeId) -> &Place {
        self.nodes.get(id.index()).map_or(&Place::Default, |node| &node.place)
    }

    /// The way to `id` as one would write it: `named_credentials.orders.headers[0].name`.
    pub(crate) fn path(&self, id: NodeId) -> String {
        let Some(node) = self.nodes.get(id.index()) else { return String::new() };
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
