//! A serde deserialiser over the merged tree that gathers mistakes instead of stopping at the first.
//!
//! Every error text is made here, of kinds and of what a key expects; a value is never in it. What visitors expect is
//! written `WHAT; HELP`: the first half goes into the message, the second says what to do.

use std::fmt::{self, Display};

use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, U32Deserializer};
use serde::de::{self, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected};
use serde::de::{VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::field::{BY_KIND, FIELD, Field};
use super::findings::Findings;
use super::nearest::nearest;
use super::tree::{Content, NodeId, Tree};

/// Reads the whole tree as a `T`; mistakes go to `findings`.
pub(crate) fn read<'de, T: Deserialize<'de> + Default>(findings: &Findings<'de>) -> T {
    T::deserialize(Reader { findings, node: Tree::ROOT }).unwrap_or_default()
}

/// Reads what stands at one node as a `T`, where that could not be decided before; mistakes go to `findings`.
pub(crate) fn read_at<'de, T: Deserialize<'de>>(findings: &Findings<'de>, node: NodeId) -> Field<T> {
    Field::deserialize(Reader { findings, node }).unwrap_or(Field::Wrong(node))
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'f, 'de> {
    findings: &'f Findings<'de>,
    node: NodeId,
}

impl<'de> Reader<'_, 'de> {
    fn content(self) -> &'de Content {
        self.findings.tree().content(self.node)
    }

    fn at(self, node: NodeId) -> Self {
        Self { node, ..self }
    }

    /// Writes a mistake down, once, at the innermost node that knows of it.
    fn noted<T>(self, result: Result<T, Mismatch>) -> Result<T, Mismatch> {
        result.map_err(|mut mismatch| {
            if !mismatch.noted {
                self.findings.error(self.node, std::mem::take(&mut mismatch.message), mismatch.help.clone());
                mismatch.noted = true;
            }
            mismatch
        })
    }

    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.content() {
            Content::Boolean(flag) => visitor.visit_bool(*flag),
            Content::Integer(number) => visitor.visit_i64(*number),
            Content::Float(number) => visitor.visit_f64(*number),
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::Other(kind) => Err(de::Error::invalid_type(Unexpected::Other(kind), &visitor)),
            Content::List(items) => visitor.visit_seq(Items { reader: self, items: items.iter() }),
            Content::Table(entries) => {
                visitor.visit_map(Table { reader: self, entries: entries.iter(), fields: None, value: None })
            }
        }
    }

    /// Says which keys of a table are unknown.
    fn judge_keys(self, entries: &[(String, NodeId)], fields: &'static [&'static str]) {
        for (key, node) in entries.iter().filter(|(key, _)| !fields.contains(&key.as_str())) {
            let key = written(key);
            let message = format!("unknown key `{key}`");
            match nearest(&key, fields.iter().copied()) {
                Some(meant) => {
                    self.findings.misspelt(self.node, meant);
                    self.findings.key_error(*node, message, format!("did you mean `{meant}`?"));
                }
                None => self.findings.key_error(*node, message, format!("the keys known here are {}", list(fields))),
            }
        }
    }

    fn choose<V: Visitor<'de>>(self, variants: &'static [&'static str], visitor: V) -> Result<V::Value, Mismatch> {
        let Content::Text(text) = self.content() else {
            return Err(Mismatch {
                message: format!("expected one of {}, found {}", list(variants), kind(self.content())),
                help: "write one of these words in double quotes".to_owned(),
                noted: false,
            });
        };
        match variants.iter().find(|variant| **variant == text.as_str()) {
            Some(variant) => visitor.visit_enum(Choice { reader: self, variant }),
            None => Err(de::Error::unknown_variant(text, variants)),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.noted(self.visit(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Content::Table(entries) = self.content() else { return self.deserialize_any(visitor) };
        self.judge_keys(entries, fields);
        let table = Table { reader: self, entries: entries.iter(), fields: Some(fields), value: None };
        self.noted(visitor.visit_map(table))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        if name == FIELD {
            visitor.visit_seq(FieldParts { reader: self, next: Part::Node })
        } else {
            self.noted(visitor.visit_newtype_struct(self))
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let result = if name == BY_KIND {
            match variant_of(self.content()).filter(|kind| variants.contains(kind)) {
                Some(variant) => visitor.visit_enum(Choice { reader: self, variant }),
                None => Err(de::Error::invalid_type(Unexpected::Other(kind(self.content())), &visitor)),
            }
        } else {
            self.choose(variants, visitor)
        };
        self.noted(result)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

/// The elements of a list.
struct Items<'f, 'de> {
    reader: Reader<'f, 'de>,
    items: std::slice::Iter<'de, NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mismatch;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        self.items.next().map(|node| seed.deserialize(self.reader.at(*node))).transpose()
    }
}

/// The entries of a table; with `fields`, only those.
struct Table<'f, 'de> {
    reader: Reader<'f, 'de>,
    entries: std::slice::Iter<'de, (String, NodeId)>,
    fields: Option<&'static [&'static str]>,
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for Table<'_, 'de> {
    type Error = Mismatch;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let fields = self.fields;
        let wanted = |key: &str| fields.is_none_or(|fields| fields.contains(&key));
        let Some((key, node)) = self.entries.find(|(key, _)| wanted(key)) else { return Ok(None) };
        self.value = Some(*node);
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        match self.value.take() {
            Some(node) => seed.deserialize(self.reader.at(node)),
            None => Err(de::Error::custom("a value without a key")),
        }
    }
}

/// The two parts of a [`super::field::Field`]: its node's id, and its value.
struct FieldParts<'f, 'de> {
    reader: Reader<'f, 'de>,
    next: Part,
}

enum Part {
    Node,
    Value,
    End,
}

impl<'de> SeqAccess<'de> for FieldParts<'_, 'de> {
    type Error = Mismatch;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        match std::mem::replace(&mut self.next, Part::End) {
            Part::Node => {
                self.next = Part::Value;
                let id: U32Deserializer<Mismatch> = self.reader.node.0.into_deserializer();
                seed.deserialize(id).map(Some)
            }
            Part::Value => seed.deserialize(self.reader).map(Some),
            Part::End => Ok(None),
        }
    }
}

/// A chosen variant of an enum; what it holds is read from the same node.
struct Choice<'f, 'de> {
    reader: Reader<'f, 'de>,
    variant: &'static str,
}

impl<'de> EnumAccess<'de> for Choice<'_, 'de> {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Mismatch> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Mismatch>::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_, 'de> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        Ok(())
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.reader.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.reader.deserialize_struct("", fields, visitor)
    }
}

/// A value that is not what its key expects. Holds no part of the value.
#[derive(Debug)]
pub(crate) struct Mismatch {
    message: String,
    help: String,
    noted: bool,
}

impl Mismatch {
    fn new(expected: &dyn Expected, message: impl FnOnce(&str) -> String) -> Self {
        let expected = expected.to_string();
        let (what, help) = match expected.split_once("; ") {
            Some(parts) => parts,
            None => plain(&expected),
        };
        Self { message: message(what), help: help.to_owned(), noted: false }
    }
}

/// serde's own words for what it expects, in ours.
fn plain(expected: &str) -> (&str, &str) {
    match expected {
        "a string" => ("a text", "put the value in double quotes"),
        "a boolean" => ("true or false", "write `true` or `false`, without quotes"),
        "a sequence" => ("a list", "put the values in square brackets, separated by commas"),
        "a table" => ("a table", "write `{ key = value }`, or a `[section]` of its own"),
        other => (other, ""),
    }
}

impl Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    /// Foreign texts may hold the value, so they are dropped.
    fn custom<T: Display>(_message: T) -> Self {
        Self { message: "this value cannot be read".to_owned(), help: String::new(), noted: false }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Other(kind) => kind,
            Unexpected::Bool(_) => "true or false",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a number with a fraction",
            Unexpected::Char(_) | Unexpected::Str(_) => "a text",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            Unexpected::Bytes(_)
            | Unexpected::Unit
            | Unexpected::Option
            | Unexpected::NewtypeStruct
            | Unexpected::Enum
            | Unexpected::UnitVariant
            | Unexpected::NewtypeVariant
            | Unexpected::TupleVariant
            | Unexpected::StructVariant => "something else",
        };
        Self::new(expected, |what| format!("expected {what}, found {found}"))
    }

    fn invalid_value(_unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(expected, |what| format!("this is not {what}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(variant, expected.iter().copied()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "write one of these words".to_owned(),
        };
        Self { message: format!("expected one of {}", list(expected)), help, noted: false }
    }
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Boolean(_) => "true or false",
        Content::Integer(_) => "a number",
        Content::Float(_) => "a number with a fraction",
        Content::Text(_) => "a text",
        Content::Other(kind) => kind,
        Content::List(_) => "a list",
        Content::Table(_) => "a table",
    }
}

fn variant_of(content: &Content) -> Option<&'static str> {
    match content {
        Content::Boolean(_) => Some("boolean"),
        Content::Integer(_) => Some("integer"),
        Content::Text(_) => Some("text"),
        Content::List(_) => Some("list"),
        Content::Table(_) => Some("table"),
        Content::Float(_) | Content::Other(_) => None,
    }
}

/// A key with nothing in it that could garble a terminal.
fn written(key: &str) -> String {
    key.escape_debug().to_string()
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
