//! When to renew: status codes, and rules on status, fields and body.

use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::{answer, claim};
use crate::config::document::{ExternalCredential, JsonRule as WrittenJson, RefreshRule, Status};
use crate::config::field::{Entries, Field};
use crate::config::quantity::Count;
use crate::config::resolve::context::Context;
use crate::config::resolve::named;
use crate::config::tree::NodeId;
use crate::token::{JsonRule, RejectionRules, Rule, StatusPattern};

/// The rules; what is wrong with them has been reported.
pub(super) fn resolve(context: &Context<'_>, written: &ExternalCredential) -> RejectionRules {
    let rules = |list: &Field<Vec<Field<RefreshRule>>>| {
        let rules = list.value().into_iter().flatten().filter_map(Field::get);
        rules.filter_map(|(node, written)| rule(context, node, written)).collect()
    };
    for field in written.refresh_unless.value().into_iter().flatten() {
        if let Some(node) = field.value().and_then(|rule| rule.replay.node()) {
            let help = "leave it out: what is no rejection is not sent again";
            context.findings.key_error(node, "`replay` belongs to `refresh_when`", help);
        }
    }
    RejectionRules {
        additional_status_codes: status_codes(context, &written.additional_refresh_status_codes),
        when: rules(&written.refresh_when),
        unless: rules(&written.refresh_unless),
    }
}

fn status_codes(context: &Context<'_>, list: &Field<Vec<Field<Count>>>) -> Vec<StatusCode> {
    let mut codes = Vec::new();
    for (node, count) in list.value().into_iter().flatten().filter_map(Field::get) {
        match code(count.0).filter(|code| code.as_u16() >= 400) {
            Some(StatusCode::UNAUTHORIZED) => {
                context.findings.warning(node, "401 always means that the token is no longer good", "leave it out");
            }
            Some(code) => codes.push(code),
            None => {
                let help = "write codes from 400 to 999, such as [403]; for others, or for some answers with a code \
                            only, write rules in `refresh_when`";
                context.findings.error(node, "this status code cannot mean that a token is no longer good", help);
            }
        }
    }
    Context::unique(codes)
}

/// The code of a final answer (RFC 9110 15).
fn code(number: u64) -> Option<StatusCode> {
    let number = u16::try_from(number).ok().filter(|number| *number >= 200)?;
    StatusCode::from_u16(number).ok()
}

fn rule(context: &Context<'_>, node: NodeId, written: &RefreshRule) -> Option<Rule> {
    let has_part =
        [written.status.node(), written.header_contains.node(), written.body_contains.node(), written.json.node()]
            .iter()
            .any(Option::is_some);
    let parts = ["status", "header_contains", "body_contains", "json"];
    if !has_part && !parts.iter().any(|key| context.findings.is_misspelt(node, key)) {
        let help = "write at least one of `status`, `header_contains`, `body_contains` and `json`";
        context.findings.error(node, "this rule has no part that an answer could match", help);
        return None;
    }
    let status = statuses(context, &written.status);
    let header_contains = header_contains(context, &written.header_contains);
    let body_contains = match written.body_contains.get() {
        Some((node, text)) => Some(wanted(context, node, text)?),
        None => None,
    };
    let json = match &written.json {
        Field::Missing => None,
        Field::Wrong(_) => return None,
        Field::Set(node, json) => Some(json_rule(context, *node, json)?),
    };
    let replay = written.replay.value().map(|_| named::replay(&written.replay));
    Some(Rule { status, header_contains, body_contains, json, replay })
}

fn statuses(context: &Context<'_>, list: &Field<Vec<Field<Status>>>) -> Vec<StatusPattern> {
    let Some((node, items)) = list.get() else { return Vec::new() };
    if items.is_empty() {
        context.findings.error(node, "this list holds no status", "leave the key out to let any status match");
    }
    let mut patterns = Vec::new();
    for (node, status) in items.iter().filter_map(Field::get) {
        let pattern = match status {
            Status::Integer(count) => code(count.0).map(StatusPattern::Code),
            Status::Text(text) => class(text).map(StatusPattern::Class),
        };
        if pattern.is_none() {
            let help = "write a number from 200 to 999, or a class such as \"4xx\"";
            context.findings.error(node, "this is not a status code or a class of them", help);
        }
        patterns.extend(pattern);
    }
    Context::unique(patterns)
}

/// The first digit of `4xx`.
fn class(text: &str) -> Option<u16> {
    let digit = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"))?;
    digit.parse().ok().filter(|digit| digit_is_class(*digit) && text.len() == 3)
}

fn digit_is_class(digit: u16) -> bool {
    (2..=9).contains(&digit)
}

fn header_contains(context: &Context<'_>, field: &Field<Entries<String>>) -> Vec<(HeaderName, String)> {
    let Some((node, entries)) = field.get() else { return Vec::new() };
    if entries.iter().next().is_none() {
        let help = "write header_contains = { www-authenticate = \"expired\" }";
        context.findings.error(node, "this table names no field", help);
    }
    let mut parts = Vec::new();
    for (name, field) in entries.iter() {
        let Some((node, text)) = field.get() else { continue };
        let header = name.parse::<HeaderName>().ok();
        if header.is_none() {
            let help = "write it like www-authenticate = \"expired\"";
            context.findings.key_error(node, "this is not the name of a header field", help);
        }
        parts.extend(header.zip(wanted(context, node, text)));
    }
    parts
}

/// A text to look for.
fn wanted(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    if text.is_empty() {
        context.findings.error(node, "every answer contains this empty text", "write what is to be looked for");
        return None;
    }
    Some(text.to_owned())
}

fn json_rule(context: &Context<'_>, node: NodeId, written: &WrittenJson) -> Option<JsonRule> {
    let help = "write json = { pointer = \"/errors/0/code\", in = [601, \"601\"] }";
    let pointer = context.findings.required(&written.pointer, node, "pointer", help);
    let pointer = pointer.and_then(|(at, text)| answer::pointer(context, at, text));
    let mut values: Vec<Value> = Vec::new();
    if let Some((at, items)) = written.r#in.get() {
        if items.is_empty() {
            context.findings.error(at, "this list holds no value", "leave the key out to let any value match");
        }
        values =
            Context::unique(items.iter().filter_map(|item| claim::scalar(context, item.node()?)).collect::<Vec<_>>());
    }
    Some(JsonRule { pointer: pointer?, values })
}
