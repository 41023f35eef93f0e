//! TOML as people write it: tables in a chosen order, comments, short inline tables. Knows no key of ours.

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    Truth(bool),
    List(Vec<Value>),
    /// `{ key = value, … }`
    Inline(Vec<(String, Value)>),
    /// What JSON text in the metadata says.
    Json(serde_json::Value),
}

/// `[path]` or `[[path]]` with its entries.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The header line without its brackets.
    pub(super) path: Vec<String>,
    /// Whether it is an element of a list of tables.
    pub(super) is_element: bool,
    /// Lines before it.
    pub(super) comments: Vec<String>,
    /// Its entries in order.
    pub(super) entries: Vec<(String, Value)>,
}

impl Value {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// `{ key = "text" }`
    pub(super) fn reference(key: &str, text: impl Into<String>) -> Self {
        Self::Inline(vec![(key.to_owned(), Self::Text(text.into()))])
    }

    /// A list of texts.
    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }
}

/// All of it, tables parted by an empty line.
pub(super) fn render(head: &[String], tables: &[Table]) -> String {
    let mut text = String::new();
    head.iter().for_each(|line| comment(&mut text, line));
    for table in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        table.comments.iter().for_each(|line| comment(&mut text, line));
        let path = table.path.iter().map(|part| key(part)).collect::<Vec<_>>().join(".");
        text.push_str(&if table.is_element { format!("[[{path}]]\n") } else { format!("[{path}]\n") });
        for (name, value) in &table.entries {
            text.push_str(&format!("{} = {}\n", key(name), written(value)));
        }
    }
    text
}

/// One line, whatever is in it: a name from the metadata must not go on as configuration.
fn comment(text: &mut String, line: &str) {
    let line: String = line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    text.push_str(format!("# {line}").trim_end());
    text.push('\n');
}

fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A value at the beginning of a line: a list of tables has one on each line.
fn written(value: &Value) -> String {
    if let Value::List(items) = value
        && items.iter().any(|item| matches!(item, Value::Inline(_)))
    {
        let lines: String = items.iter().map(|item| format!("    {},\n", inline(item))).collect();
        return format!("[\n{lines}]");
    }
    inline(value)
}

fn inline(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Number(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
        Value::List(items) => list(items.iter().map(inline)),
        Value::Inline(entries) => table(entries.iter().map(|(name, value)| (name.as_str(), inline(value)))),
        Value::Json(json) => from_json(json),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn table<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<String> = entries.map(|(name, value)| format!("{} = {value}", key(name))).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// TOML has no null; inside a claim an empty text is the nearest.
fn from_json(json: &serde_json::Value) -> String {
    match json {
        serde_json::Value::Null => quoted(""),
        serde_json::Value::Bool(truth) => truth.to_string(),
        serde_json::Value::Number(number) => {
            if number.is_u64() && number.as_i64().is_none() {
                quoted(&number.to_string())
            } else {
                number.to_string()
            }
        }
        serde_json::Value::String(text) => quoted(text),
        serde_json::Value::Array(items) => list(items.iter().map(from_json)),
        serde_json::Value::Object(members) => {
            table(members.iter().map(|(name, value)| (name.as_str(), from_json(value))))
        }
    }
}

/// A text in single quotes where that saves escapes, in double quotes otherwise.
fn quoted(text: &str) -> String {
    let needs_escapes = text.contains(['"', '\\']);
    if needs_escapes && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Table, Value, render};

    fn table(entries: Vec<(String, Value)>) -> Table {
        Table { path: vec!["a".to_owned()], is_element: false, comments: Vec::new(), entries }
    }

    #[test]
    fn tables_read_as_people_write_them() {
        let headers = Value::List(vec![Value::Inline(vec![
            ("name".to_owned(), Value::text("x-key")),
            ("value".to_owned(), Value::reference("formula", "\"Key \" + secrets.Key")),
        ])]);
        let json = Value::Json(serde_json::json!({ "a": [1, true], "b c": "x" }));
        let mut first = table(vec![("headers".to_owned(), headers), ("odd key".to_owned(), json)]);
        first.comments = vec!["Why".to_owned()];
        let second = Table { is_element: true, ..table(vec![("n".to_owned(), Value::Number(2))]) };
        assert_eq!(
            render(&["Head".to_owned(), String::new()], &[first, second]),
            "# Head\n#\n\n# Why\n[a]\nheaders = [\n    { name = \"x-key\", value = { formula = '\"Key \" + \
             secrets.Key' } },\n]\n\"odd key\" = { a = [1, true], \"b c\" = \"x\" }\n\n[[a]]\nn = 2\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives(text in any::<String>(), name in any::<String>()) {
            let entries = vec![(name.clone(), Value::texts([text.clone()]))];
            let read: toml::Table = render(&[], &[table(entries)]).parse().unwrap();
            prop_assert_eq!(read["a"][&name][0].as_str(), Some(text.as_str()));
        }

        #[test]
        fn a_comment_stays_one(text in "(\\PC|[\r\n\t\u{0}\u{85}]|\\[evil\\])*") {
            let commented = Table { comments: vec![text.clone()], ..table(Vec::new()) };
            let read: toml::Table = render(&[text], &[commented]).parse().unwrap();
            prop_assert_eq!(read.keys().collect::<Vec<_>>(), ["a"]);
        }
    }
}
