//! Claims and JOSE header members: any value, a secret, or a formula.

use serde_json::{Map, Number, Value};

use crate::config::document::{Anything, ValueReference};
use crate::config::field::{Entries, Field};
use crate::config::reader;
use crate::config::resolve::context::Context;
use crate::config::resolve::formula::{self, Sight};
use crate::config::resolve::secret;
use crate::config::tree::{Content, NodeId};
use crate::token::Claim;

/// A table with one of these keys and no other is no JSON object.
const REFERENCES: [&str; 5] = ["command", "dangerous_literal", "env", "file", "formula"];

/// Every claim of a table.
pub(super) fn resolve(
    context: &Context<'_>,
    field: &Field<Entries<Anything>>,
    sight: Sight<'_>,
) -> Vec<(String, Claim)> {
    let entries = field.value().into_iter().flat_map(Entries::iter);
    let claims = entries.filter_map(|(name, field)| Some((name.to_owned(), claim(context, field.node()?, sight)?)));
    claims.collect()
}

fn claim(context: &Context<'_>, node: NodeId, sight: Sight<'_>) -> Option<Claim> {
    if !is_reference(context.findings.tree().content(node)) {
        return json(context, node).map(Claim::Json);
    }
    let read = reader::read_at::<ValueReference>(context.findings, node);
    let (node, written) = read.get()?;
    match &written.formula {
        Field::Missing => secret::read(context, node, written).map(Claim::Secret),
        Field::Wrong(_) => None,
        Field::Set(at, text) => formula::compile(context, *at, text, sight).map(Claim::Formula),
    }
}

fn is_reference(content: &Content) -> bool {
    match content {
        Content::Table(entries) => {
            matches!(entries.as_slice(), [(key, _)] if REFERENCES.contains(&key.as_str()))
        }
        Content::Boolean(_)
        | Content::Integer(_)
        | Content::Float(_)
        | Content::Text(_)
        | Content::Other(_)
        | Content::List(_) => false,
    }
}

/// What is written at `node`, as JSON.
fn json(context: &Context<'_>, node: NodeId) -> Option<Value> {
    let content = context.findings.tree().content(node);
    match content {
        Content::Table(entries) => {
            let members: Map<_, _> = entries.iter().filter_map(|(key, node)| part(context, key, *node)).collect();
            Some(Value::Object(members)).filter(|object| object.as_object().is_some_and(|it| it.len() == entries.len()))
        }
        Content::List(items) => items.iter().map(|item| inner(context, *item)).collect::<Option<_>>().map(Value::Array),
        Content::Boolean(_) | Content::Integer(_) | Content::Float(_) | Content::Text(_) | Content::Other(_) => {
            scalar(context, node)
        }
    }
}

fn part(context: &Context<'_>, key: &str, node: NodeId) -> Option<(String, Value)> {
    inner(context, node).map(|value| (key.to_owned(), value))
}

/// A value within a claim. A secret or a formula there would go out as it is written.
fn inner(context: &Context<'_>, node: NodeId) -> Option<Value> {
    if is_reference(context.findings.tree().content(node)) {
        let help = "make the whole claim a formula: { formula = '{\"a\": secrets.NAME}' }";
        context.findings.error(node, "a secret or a formula is a whole claim, not a part of one", help);
        return None;
    }
    json(context, node)
}

/// A value that is no list and no table, as JSON.
pub(super) fn scalar(context: &Context<'_>, node: NodeId) -> Option<Value> {
    let message = match context.findings.tree().content(node) {
        Content::Boolean(flag) => return Some(Value::Bool(*flag)),
        Content::Integer(number) => return Some(Value::from(*number)),
        Content::Text(text) => return Some(Value::from(text.as_str())),
        Content::Float(number) => match Number::from_f64(*number) {
            Some(number) => return Some(Value::Number(number)),
            None => "JSON has no such number".to_owned(),
        },
        Content::Other(kind) => format!("JSON has no {}", kind.trim_start_matches("a ")),
        Content::List(_) => "expected one value, found a list".to_owned(),
        Content::Table(_) => "expected one value, found a table".to_owned(),
    };
    context.findings.error(node, message, "write a text, a number, true or false; a date goes in quotes");
    None
}
