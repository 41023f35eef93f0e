//! The body of an answer as a tree that remembers which members were written more than once.
//!
//! `serde_json::Value` keeps the last of several members of one name, and another reader may keep the first (RFC 8259 4):
//! an answer with two tokens holds none that is certain. A repetition counts only where a pointer passes it, because
//! what nobody looks at harms nobody. Bounded by serde_json's limit on depth and by the caller's on size.

use std::collections::BTreeMap;
use std::fmt;

use oauth2::url::form_urlencoded;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// A JSON value, or a form as an object of texts. No `Debug`: it holds tokens.
pub(in crate::token) enum Node {
    /// Null, a truth value, a number or a text.
    Scalar(Value),
    /// An array.
    List(Vec<Node>),
    /// An object.
    Object(BTreeMap<String, Node>),
    /// In place of the values of a member that is there more than once.
    Repeated,
}

/// The way to what was looked for passes a member that is there more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token) struct Repeated;

impl Node {
    /// Reads JSON; none when it is something else.
    pub(in crate::token) fn from_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Reads `application/x-www-form-urlencoded`, which every text is.
    pub(super) fn from_form(text: &[u8]) -> Self {
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            add(&mut fields, name.into_owned(), Self::Scalar(Value::from(&*value)));
        }
        Self::Object(fields)
    }

    /// What stands at a JSON pointer (RFC 6901); a null is nothing, and so is what a malformed pointer names.
    ///
    /// # Errors
    /// [`Repeated`]
    pub(in crate::token) fn at(&self, pointer: &str) -> Result<Option<&Self>, Repeated> {
        let mut node = self;
        let mut steps = pointer.split('/');
        if steps.next() != Some("") {
            return Ok(None);
        }
        for step in steps {
            let Some(next) = node.step(&step.replace("~1", "/").replace("~0", "~")) else { return Ok(None) };
            node = next;
            if let Self::Repeated = node {
                return Err(Repeated);
            }
        }
        Ok(Some(node).filter(|node| !matches!(node, Self::Scalar(Value::Null))))
    }

    /// The text at a JSON pointer, if one is there, once.
    pub(in crate::token) fn text_at(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).ok().flatten()?.text()
    }

    /// The value, if it is a text.
    pub(in crate::token) fn text(&self) -> Option<&str> {
        self.scalar()?.as_str()
    }

    /// The value, if it is neither a list nor an object.
    pub(super) fn scalar(&self) -> Option<&Value> {
        match self {
            Self::Scalar(value) => Some(value),
            Self::List(_) | Self::Object(_) | Self::Repeated => None,
        }
    }

    fn step(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            Self::List(items) => {
                // RFC 6901 4: digits alone, and no leading zero.
                let is_index =
                    name == "0" || (!name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()));
                items.get(name.parse::<usize>().ok().filter(|_| is_index)?)
            }
            Self::Scalar(_) | Self::Repeated => None,
        }
    }
}

fn add(members: &mut BTreeMap<String, Node>, name: String, value: Node) {
    members.entry(name).and_modify(|known| *known = Node::Repeated).or_insert(value);
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            add(&mut members, name, value);
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Repeated};

    fn at(text: &str, pointer: &str) -> Result<Option<String>, Repeated> {
        let document = Node::from_json(text.as_bytes()).unwrap();
        document.at(pointer).map(|found| found.map(|node| node.text().unwrap_or("not a text").to_owned()))
    }

    #[test]
    fn pointers_lead_through_objects_and_lists() {
        let text = r#"{"a":{"b/c":{"~":["x",{"d":"y"}]}},"":{"":"z"},"01":"w","n":null,"o":{}}"#;
        for (pointer, found) in [
            ("/a/b~1c/~0/0", Some("x")),
            ("/a/b~1c/~0/1/d", Some("y")),
            ("//", Some("z")),
            ("/01", Some("w")),
            ("", Some("not a text")),
            ("/o", Some("not a text")),
            ("/n", None),
            ("/a/b~1c/~0/2", None),
            ("/a/b~1c/~0/00", None),
            ("/a/b~1c/~0/01", None),
            ("/a/b~1c/~0/+1", None),
            ("/a/b~1c/~0/-", None),
            ("/a/b~1c/~0/", None),
            ("/n/n", None),
            ("a", None),
        ] {
            assert_eq!(at(text, pointer), Ok(found.map(str::to_owned)), "{pointer}");
        }
        assert_eq!(at(r#""bare""#, ""), Ok(Some("bare".to_owned())));
    }

    #[test]
    fn a_repeated_member_counts_where_a_pointer_passes_it() {
        let text = r#"{"a":{"b":"1"},"c":[{"d":"1","\u0064":"2"}],"a":{"b":"2"},"e":"x"}"#;
        assert_eq!(at(text, "/a"), Err(Repeated));
        assert_eq!(at(text, "/a/b"), Err(Repeated));
        assert_eq!(at(text, "/c/0/d"), Err(Repeated));
        assert_eq!(at(text, "/e"), Ok(Some("x".to_owned())));
        assert_eq!(Node::from_form(b"a=1&b=2&a=3").at("/a").err(), Some(Repeated));
        assert_eq!(Node::from_form(b"a=1&b+c=2%26&a=3").text_at("/b c"), Some("2&"));
    }

    #[test]
    fn what_is_too_deep_or_no_json_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Node::from_json(nested(100).as_bytes()).is_some());
        assert!(Node::from_json(nested(200).as_bytes()).is_none());
        assert!(Node::from_json(nested(30_000).as_bytes()).is_none());
        for text in ["", "{", "{}{}", "{\"a\":1e999}", "\"\\ud800\"", "'a'", "\u{feff}{}"] {
            assert!(Node::from_json(text.as_bytes()).is_none(), "{text}");
        }
    }
}
