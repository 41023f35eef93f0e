//! The flow: what is asked for a token.

use std::path::PathBuf;

use super::choice::Choice;
use super::signing::Signing;
use crate::config::document::{ExternalCredential, Flow};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::resolve::secret;
use crate::config::tree::NodeId;
use crate::secret::SecretSource;
use crate::token::{Grant, GrantKind, TokenExchange};

/// RFC 8693 3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// None where something was reported, or where the flow asks nobody.
pub(super) fn resolve(
    context: &Context<'_>,
    (node, written): (NodeId, &ExternalCredential),
    choice: Choice,
    signing: &Signing<'_>,
) -> Option<Grant> {
    let grant_type = text(context, &written.grant_type, Emptiness::Allowed);
    let kind = match choice.flow {
        Flow::ClientCredentials => GrantKind::ClientCredentials,
        Flow::JwtBearer => GrantKind::JwtBearer(signing.grant()?),
        Flow::Password => {
            warn_of_password(context, &written.flow);
            GrantKind::Password
        }
        Flow::RefreshToken => GrantKind::RefreshToken { store: store(context, written)? },
        Flow::TokenExchange => GrantKind::TokenExchange(Box::new(exchange(context, node, written)?)),
        Flow::SignedJwt | Flow::Basic | Flow::Static | Flow::None => return None,
    };
    Some(Grant { kind, grant_type: grant_type? })
}

fn warn_of_password(context: &Context<'_>, flow: &Field<Flow>) {
    if let Some(node) = flow.node().filter(|node| context.is_written(*node)) {
        let message = "the password grant must not be used (RFC 9700 2.4): it hands the user's password to the client";
        let help = "use it only where the server offers nothing else";
        context.findings.warning(node, message, help);
    }
}

/// None where something was reported.
fn store(context: &Context<'_>, written: &ExternalCredential) -> Option<Option<PathBuf>> {
    let path = text(context, &written.refresh_token_store, Emptiness::Refused)?;
    let Some((path, node)) = path.zip(written.refresh_token_store.node()) else { return Some(None) };
    if written.principals.value().is_some_and(|principals| principals.len() > 1) {
        let help = "make an external credential for each principal, each with a file of its own";
        context.findings.error(node, "one file keeps the refresh token of one principal", help);
    }
    Some(Some(context.path(node, &path)))
}

fn exchange(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Option<TokenExchange> {
    let help = "write subject_token = { file = \"/run/secrets/token\" }, or another reference to where it is";
    let subject = context.findings.required(&written.subject_token, node, "subject_token", help);
    let subject = subject.and_then(|(at, reference)| secret::source(context, at, reference));
    let kind = |field: &Field<String>| text(context, field, Emptiness::Refused);
    let subject_token_type = kind(&written.subject_token_type);
    let actor = actor(context, written);
    let requested_token_type = kind(&written.requested_token_type);
    Some(TokenExchange {
        subject_token: subject?,
        subject_token_type: subject_token_type?.unwrap_or_else(|| ACCESS_TOKEN.to_owned()),
        actor_token: actor?,
        requested_token_type: requested_token_type?,
    })
}

/// None where something was reported.
fn actor(context: &Context<'_>, written: &ExternalCredential) -> Option<Option<(SecretSource, String)>> {
    let actor_token_type = text(context, &written.actor_token_type, Emptiness::Refused);
    match &written.actor_token {
        Field::Missing => {
            let help = "add `actor_token`, or leave it out";
            let message = "`actor_token_type` has no effect without an `actor_token`";
            context.has_no_effect(written.actor_token_type.node(), message, help);
            Some(None)
        }
        Field::Wrong(_) => None,
        Field::Set(node, reference) => {
            let source = secret::source(context, *node, &**reference)?;
            Some(Some((source, actor_token_type?.unwrap_or_else(|| ACCESS_TOKEN.to_owned()))))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Emptiness {
    Allowed,
    Refused,
}

/// A text that goes into the token request; none where something was reported.
fn text(context: &Context<'_>, field: &Field<String>, emptiness: Emptiness) -> Option<Option<String>> {
    let (node, text) = match field {
        Field::Missing => return Some(None),
        Field::Wrong(_) => return None,
        Field::Set(node, text) => (*node, text.as_str()),
    };
    if text.contains(char::is_control) || (text.is_empty() && emptiness == Emptiness::Refused) {
        context.findings.error(node, "this text is empty or holds a control character", "write one line of text");
        return None;
    }
    Some(Some(text.to_owned()))
}
