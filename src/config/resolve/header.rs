//! Names and values of header fields that the configuration sets, removes or reads.

use http::{HeaderName, HeaderValue};

use super::context::Context;
use super::secret;
use crate::config::document::HeaderEntry;
use crate::config::field::Field;
use crate::config::tree::NodeId;

/// Fields that frame the message or belong to one hop (RFC 9110 7.6.1), and `Host`: never the configuration's.
const OURS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// A field name that the configuration may use.
pub(super) fn name(context: &Context<'_>, node: NodeId, text: &str) -> Option<HeaderName> {
    let Ok(name) = text.parse::<HeaderName>() else {
        context.findings.error(node, "this is not the name of a header field", "write it like \"x-api-version\"");
        return None;
    };
    if !OURS.contains(&name.as_str()) {
        return Some(name);
    }
    let help = match name.as_str() {
        "host" => "use `host_header` of the named credential",
        _ => "leave it out: it frames the message or belongs to one connection, and the proxy sees to it",
    };
    context.findings.error(node, format!("the field `{name}` cannot be used here"), help);
    None
}

/// `headers`, without the field that carries the token, `injected`.
pub(super) fn fields(
    context: &Context<'_>,
    list: &Field<Vec<Field<HeaderEntry>>>,
    injected: Option<&HeaderName>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields: Vec<(NodeId, HeaderName, HeaderValue)> = Vec::new();
    for (node, entry) in list.value().into_iter().flatten().filter_map(Field::get) {
        let name =
            context.findings.required(&entry.name, node, "name", "write { name = \"x-version\", value = \"2\" }");
        let value =
            context.findings.required(&entry.value, node, "value", "write { name = \"x-version\", value = \"2\" }");
        let value = value.and_then(|(at, _)| self::value(context, at, &entry.value));
        let Some((at, name)) = name.and_then(|(at, text)| Some((at, self::name(context, at, text)?))) else { continue };
        if injected == Some(&name) {
            let help = "leave it out, or set generate_authorization_header = false";
            context.findings.error(at, format!("the field `{name}` carries the token"), help);
        }
        if let Some((other, ..)) = fields.iter().find(|(_, other, _)| *other == name) {
            let message = format!("the field `{name}` is set twice");
            context.findings.conflict(at, (*other, "set here first"), message, "leave one of them out");
        }
        if let Some(value) = value {
            fields.push((at, name, value));
        }
    }
    fields.into_iter().map(|(_, name, value)| (name, value)).collect()
}

fn value(
    context: &Context<'_>,
    node: NodeId,
    field: &Field<crate::config::document::TextOrSecret>,
) -> Option<HeaderValue> {
    let value = secret::text_or_secret(context, field)?;
    match HeaderValue::from_str(value.expose()) {
        Ok(mut header) => {
            header.set_sensitive(true);
            Some(header)
        }
        Err(_) => {
            let help = "it must be one line of visible characters and spaces";
            context.findings.error(node, "this cannot be the value of a header field", help);
            None
        }
    }
}
