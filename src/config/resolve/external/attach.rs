//! How the credential is attached to a request: the field of the token, and the fields that go with it.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::choice::Choice;
use crate::config::document::{ExternalCredential, Flow, Inject as Written};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::resolve::formula::Sight;
use crate::config::resolve::header;
use crate::config::tree::NodeId;
use crate::token::{HeaderValueSource, Inject};

/// None where something was reported.
pub(super) fn inject(context: &Context<'_>, written: &ExternalCredential, choice: Option<Choice>) -> Option<Inject> {
    let is_basic = choice.is_some_and(|choice| choice.flow == Flow::Basic);
    let is_dpop = written.dpop.value().copied().unwrap_or(false);
    let usual = match (is_basic, is_dpop) {
        (true, _) => "Basic",
        (false, true) => "DPoP",
        (false, false) => "Bearer",
    };
    let missing = Written::default();
    let written = match &written.inject {
        Field::Missing => &missing,
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let header = match &written.header {
        Field::Missing => Some(AUTHORIZATION),
        Field::Wrong(_) => None,
        Field::Set(node, text) => header::name(context, *node, text),
    };
    let scheme = match &written.scheme {
        Field::Missing => Some(usual.to_owned()).filter(|_| header.as_ref().is_some_and(|name| name == AUTHORIZATION)),
        Field::Wrong(_) => return None,
        Field::Set(node, text) => scheme(context, *node, text),
    };
    Some(Inject { header: header?, scheme })
}

/// A scheme is a token (RFC 9110 11.1), and so is a field's name. An empty one means none.
fn scheme(context: &Context<'_>, node: NodeId, text: &str) -> Option<String> {
    if !text.is_empty() && text.parse::<HeaderName>().is_err() {
        let help = "write one word such as \"Bearer\", or \"\" to send the token alone";
        context.findings.error(node, "this is not an authentication scheme", help);
    }
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// `headers`; without a token, no field is taken by one.
pub(super) fn headers(
    context: &Context<'_>,
    written: &ExternalCredential,
    (choice, inject): (Option<Choice>, Option<&Inject>),
    sight: Sight<'_>,
) -> Vec<(HeaderName, HeaderValueSource)> {
    let has_token = choice.is_none_or(|choice| choice.flow != Flow::None);
    let taken: Vec<_> =
        inject.filter(|_| has_token).into_iter().map(|inject| (&inject.header, "carries the token")).collect();
    let help = "leave it out; `inject` says how the token is attached";
    header::fields(context, &written.headers, (&taken, help), sight)
}
