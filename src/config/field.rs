//! What the document's structs are made of: fields that never fail to deserialise, so that one mistake does not hide
//! the next, and that remember which node of the tree they came from.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::tree::NodeId;

/// The name by which the reader knows that it is asked for a [`Field`].
pub(crate) const FIELD: &str = "$field";

/// The name of enums whose variant the reader chooses by the kind of the value: `text`, `boolean`, `integer`, `list`
/// or `table`.
pub(crate) const BY_KIND: &str = "$by_kind";

/// The value of one key.
#[derive(Default)]
pub(crate) enum Field<T> {
    /// The key is not there.
    #[default]
    Missing,
    /// It is there, but is not what it should be. The reader has said so.
    Wrong(NodeId),
    /// It is there and good. Boxed: most of the many keys of a table are missing.
    Set(NodeId, Box<T>),
}

impl<T> Field<T> {
    /// The value and its node, when there is a good one.
    pub(crate) fn get(&self) -> Option<(NodeId, &T)> {
        match self {
            Self::Set(node, value) => Some((*node, value)),
            Self::Missing | Self::Wrong(_) => None,
        }
    }

    /// The value, when there is a good one.
    pub(crate) fn value(&self) -> Option<&T> {
        self.get().map(|(_, value)| value)
    }

    /// The node, when the key is there.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Self::Missing => None,
            Self::Wrong(node) | Self::Set(node, _) => Some(*node),
        }
    }

    /// Whether the key is there with a value of the wrong kind.
    pub(crate) fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a node and its value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let node = parts.next_element::<u32>()?.map(NodeId);
        let value = parts.next_element::<Attempt<T>>()?;
        match (node, value) {
            (Some(node), Some(Attempt(Some(value)))) => Ok(Field::Set(node, Box::new(value))),
            (Some(node), Some(Attempt(None)) | None) => Ok(Field::Wrong(node)),
            (None, _) => Err(de::Error::invalid_length(0, &self)),
        }
    }
}

/// A value, or none when it could not be read.
struct Attempt<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).ok()))
    }
}

/// The entries of a table whose keys the user chooses, in the order of the file.
pub(crate) struct Entries<T>(Vec<(String, Field<T>)>);

impl<T> Entries<T> {
    /// Every key and its field.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Field<T>)> {
        self.0.iter().map(|(key, field)| (key.as_str(), field))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}
