//! The principals of an external credential: the long form, or the short form of one named `default`.

use super::context::Context;
use super::secret;
use crate::config::document::{ExternalCredential, Principal, SecretReference, TextOrSecret};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::name::Name;
use crate::secret::Secret;
use crate::token::PrincipalSettings;

const SECRET_HELP: &str = "write client_secret = { env = \"NAME\" }, or another reference to where the secret is";

/// A principal with its sequence number and the node that number stands at, where it is written.
type Placed = (u64, Option<NodeId>, PrincipalSettings);

/// The principals in order of their sequence numbers.
pub(super) fn resolve(
    context: &Context<'_>,
    node: NodeId,
    written: &ExternalCredential,
) -> Option<Vec<PrincipalSettings>> {
    let findings = context.findings;
    let is_short = written.client_id.node().is_some() || written.client_secret.node().is_some();
    match written.principals.node() {
        Some(at) if is_short => {
            let help = "move `client_id` and `client_secret` into one of the principals, or remove the principals";
            findings.key_error(at, "an external credential has either `principals` or a client of its own", help);
            None
        }
        Some(at) => {
            let principals = written.principals.value()?;
            if principals.is_empty() {
                findings.error(at, "this list holds no principal", "add a `client_id` and a `client_secret`");
                return None;
            }
            several(context, principals)
        }
        None if findings.is_misspelt(node, "principals") => None,
        None => {
            let (id, secret) = client(context, node, &written.client_id, &written.client_secret);
            let name = Name::parse("default").ok()?;
            Some(vec![PrincipalSettings { name, client_id: id?, client_secret: secret?, callers: None }])
        }
    }
}

fn several(context: &Context<'_>, written: &[Field<Principal>]) -> Option<Vec<PrincipalSettings>> {
    let mut names: Vec<(NodeId, &str)> = Vec::new();
    let mut placed: Vec<Placed> = Vec::new();
    for (position, (node, principal)) in (1..).zip(written.iter().filter_map(Field::get)) {
        if let Some((at, name)) = principal.name.get() {
            if let Some((other, _)) = names.iter().find(|(_, other)| *other == name.as_str()) {
                let message = "two principals have the same name".to_owned();
                context.findings.conflict(at, (*other, "the other one"), message, "give each a name of its own");
            }
            names.push((at, name));
        }
        placed.extend(one(context, node, principal, position));
    }
    for (index, (sequence, at, _)) in placed.iter().enumerate() {
        let earlier = placed.iter().take(index).find(|(other, at, _)| other == sequence && at.is_some());
        if let (Some(at), Some((_, Some(other), _))) = (at, earlier) {
            let message = "two principals have the same sequence number".to_owned();
            context.findings.conflict(*at, (*other, "the other one"), message, "give each a number of its own");
        }
    }
    placed.sort_by_key(|(sequence, ..)| *sequence);
    Some(placed.into_iter().map(|(.., settings)| settings).collect())
}

/// One principal; without a sequence number its place in the list is its number.
fn one(context: &Context<'_>, node: NodeId, written: &Principal, position: u64) -> Option<Placed> {
    let name = context.findings.required(&written.name, node, "name", "write name = \"default\"");
    let name = name.and_then(|(at, text)| {
        let name = Name::parse(text);
        if let Err(error) = &name {
            context.findings.error(at, "this name is not valid", error.to_string());
        }
        name.ok()
    });
    let (client_id, client_secret) = client(context, node, &written.client_id, &written.client_secret);
    let callers = context.callers(&written.callers);
    let sequence = written.sequence.get();
    let settings = PrincipalSettings { name: name?, client_id: client_id?, client_secret: client_secret?, callers };
    Some((sequence.map_or(position, |(_, count)| count.0), sequence.map(|(at, _)| at), settings))
}

/// The id and secret of one client.
fn client(
    context: &Context<'_>,
    node: NodeId,
    id: &Field<TextOrSecret>,
    secret: &Field<SecretReference>,
) -> (Option<String>, Option<Secret>) {
    let findings = context.findings;
    let has_id = id.node().is_some() || findings.is_misspelt(node, "client_id");
    let has_secret = secret.node().is_some() || findings.is_misspelt(node, "client_secret");
    if !has_id && !has_secret {
        let help = "add `client_id` and `client_secret`";
        findings.key_error(node, "the client is missing", help);
        return (None, None);
    }
    findings.required(id, node, "client_id", "write client_id = \"…\"");
    findings.required(secret, node, "client_secret", SECRET_HELP);
    let text = secret::text_or_secret(context, id);
    if let (Some((at, TextOrSecret::Text(_))), Some(text)) = (id.get(), &text)
        && text.expose().is_empty()
    {
        findings.error(at, "the client id is empty", "write the id that the identity provider gave you");
    }
    let secret = secret.get().and_then(|(at, reference)| secret::read(context, at, reference));
    (text.map(|text| text.expose().to_owned()), secret)
}
