//! `match` of a named credential: which requests belong to it.

use http::Method;

use super::context::Context;
use crate::config::document::Match as Written;
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::config::url::path_fault;
use crate::route::{HostPattern, Match};

/// The match rule of the named credential `name`, with its defaults filled in.
pub(super) fn resolve(context: &Context<'_>, name: &str, field: &Field<Written>) -> Option<Match> {
    let written = match field {
        Field::Missing => return Some(Match { host: None, path: format!("/{name}"), methods: None }),
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let host = match &written.host {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(node, text) => host(context, *node, text).map(Some),
    };
    let path = match &written.path {
        Field::Missing if host.as_ref().is_some_and(Option::is_some) => Some("/".to_owned()),
        Field::Missing => Some(format!("/{name}")),
        Field::Wrong(_) => None,
        Field::Set(node, text) => path(context, *node, text),
    };
    let methods = methods(context, &written.methods);
    Some(Match { host: host?, path: path?, methods })
}

fn host(context: &Context<'_>, node: NodeId, text: &str) -> Option<HostPattern> {
    let pattern = HostPattern::parse(text);
    if pattern.is_none() {
        let help = "write a host without scheme, port and path: \"orders.internal\" or \"*.example.com\"";
        context.findings.error(node, "this is not a host to match", help);
    }
    pattern
}

fn path(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    if !text.starts_with('/') {
        let help = "write it like \"/orders\"; \"/\" takes all that is left";
        context.findings.error(node, "a path to match begins with a slash", help);
        return None;
    }
    if let Some((message, help)) = path_fault(text) {
        context.findings.error(node, message, help);
        return None;
    }
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    Some(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

fn methods(context: &Context<'_>, list: &Field<Vec<Field<String>>>) -> Option<Vec<Method>> {
    let (node, items) = list.get()?;
    if items.is_empty() {
        context.findings.error(node, "this list lets no method through", "leave the key out to let all through");
    }
    let methods = Context::texts(list).filter_map(|(node, text)| method(context, node, text));
    Some(Context::unique(methods.collect::<Vec<_>>()))
}

/// A method; its case counts (RFC 9110 9.1), so that `get` would match nothing.
fn method(context: &Context<'_>, node: NodeId, text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok();
    let is_refused = method.as_ref().is_some_and(|method| *method == Method::TRACE || *method == Method::CONNECT);
    if is_refused {
        context.findings.error(node, "TRACE and CONNECT are never forwarded", "leave it out");
        return None;
    }
    let upper = text.to_ascii_uppercase();
    if method.is_none() || upper != text {
        let help =
            if method.is_some() { format!("write \"{upper}\": case counts") } else { "write \"GET\"".to_owned() };
        context.findings.error(node, "this is not a method", help);
        return None;
    }
    method
}
