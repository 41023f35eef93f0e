//! Names and values of header fields that the configuration sets, removes or reads.

use http::{HeaderName, HeaderValue};

use super::context::Context;
use super::formula::{self, Sight};
use super::secret;
use crate::config::document::{HeaderEntry, Value};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::header::is_ours_alone;
use crate::secret::Secret;
use crate::token::HeaderValueSource;

/// A field name that the configuration may use.
pub(super) fn name(context: &Context<'_>, node: NodeId, text: &str) -> Option<HeaderName> {
    let Ok(name) = text.parse::<HeaderName>() else {
        context.findings.error(node, "this is not the name of a header field", "write it like \"x-api-version\"");
        return None;
    };
    if !is_ours_alone(&name) {
        return Some(name);
    }
    let help = match name.as_str() {
        "host" => "use `host_header` of the named credential",
        _ => "leave it out: it frames the message or belongs to one connection, and the proxy sees to it",
    };
    context.findings.error(node, format!("the field `{name}` cannot be used here"), help);
    None
}

/// Fields that are taken, and by what; and what to do about it.
pub(super) type Taken<'a> = (&'a [(&'a HeaderName, &'a str)], &'a str);

/// `headers`, without those that are `taken`.
pub(super) fn fields(
    context: &Context<'_>,
    list: &Field<Vec<Field<HeaderEntry>>>,
    taken: Taken<'_>,
    sight: Sight<'_>,
) -> Vec<(HeaderName, HeaderValueSource)> {
    const HELP: &str = "write { name = \"x-version\", value = \"2\" }";
    let findings = context.findings;
    let mut fields: Vec<(NodeId, HeaderName, HeaderValueSource)> = Vec::new();
    for (node, entry) in list.value().into_iter().flatten().filter_map(Field::get) {
        let name = findings.required(&entry.name, node, "name", HELP);
        let value = findings.required(&entry.value, node, "value", HELP);
        let value = value.and_then(|(at, written)| self::value(context, at, written, sight));
        let Some((at, name)) = name.and_then(|(at, text)| Some((at, self::name(context, at, text)?))) else { continue };
        if let Some((_, by)) = taken.0.iter().find(|(other, _)| **other == name) {
            findings.error(at, format!("the field `{name}` {by}"), taken.1);
        }
        if let Some((other, ..)) = fields.iter().find(|(_, other, _)| *other == name) {
            let message = format!("the field `{name}` is set twice");
            findings.conflict(at, (*other, "set here first"), message, "leave one of them out");
        }
        if let Some(value) = value {
            fields.push((at, name, value));
        }
    }
    fields.into_iter().map(|(_, name, value)| (name, value)).collect()
}

fn value(context: &Context<'_>, node: NodeId, written: &Value, sight: Sight<'_>) -> Option<HeaderValueSource> {
    let (text, source): (_, fn(HeaderValue) -> HeaderValueSource) = match written {
        Value::Text(text) => (Secret::new(text.clone()), HeaderValueSource::Fixed),
        Value::Table(table) => match &table.formula {
            Field::Missing => (secret::read(context, node, table)?, HeaderValueSource::Secret),
            Field::Wrong(_) => return None,
            Field::Set(..) if secret::Keys::from(table).is_any_there() => {
                let help = "keep one of its keys; a formula refers to a secret as secrets.NAME";
                context.findings.error(node, "a value is a formula or a reference to a secret, not both", help);
                return None;
            }
            Field::Set(at, text) => {
                return formula::compile(context, *at, text, sight).map(HeaderValueSource::Formula);
            }
        },
    };
    match HeaderValue::from_str(text.expose()) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Some(source(header))
        }
        Err(_) => {
            let help = "it must be one line of visible characters and spaces";
            context.findings.error(node, "this cannot be the value of a header field", help);
            None
        }
    }
}
