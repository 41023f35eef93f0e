//! The principals of an external credential: the long form, or the short form of one named `default`.

use super::needs::{Need, Needs};
use crate::config::document::{ExternalCredential, Principal, SecretReference, TextOrSecret};
use crate::config::field::{Entries, Field};
use crate::config::resolve::context::Context;
use crate::config::resolve::secret;
use crate::config::tree::NodeId;
use crate::name::Name;
use crate::secret::Secret;
use crate::token::PrincipalSettings;

const ID_HELP: &str = "write client_id = \"…\"";
const SECRET_HELP: &str = "write client_secret = { env = \"NAME\" }, or another reference to where the secret is; where \
                           the token endpoint asks for no client, say so with client_authentication = \"none\"";

/// A principal with its sequence number and the node that number stands at, where it is written.
type Placed = (u64, Option<NodeId>, PrincipalSettings);

/// The keys by which a principal is known, in the short form or the long.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    /// The table they stand in.
    pub(super) node: NodeId,
    pub(super) client_id: &'a Field<TextOrSecret>,
    pub(super) client_secret: &'a Field<SecretReference>,
    username: &'a Field<TextOrSecret>,
    password: &'a Field<SecretReference>,
    refresh_token: &'a Field<SecretReference>,
    token: &'a Field<SecretReference>,
    secrets: &'a Field<Entries<SecretReference>>,
}

impl<'a> Identity<'a> {
    fn short(node: NodeId, written: &'a ExternalCredential) -> Self {
        Self {
            node,
            client_id: &written.client_id,
            client_secret: &written.client_secret,
            username: &written.username,
            password: &written.password,
            refresh_token: &written.refresh_token,
            token: &written.token,
            secrets: &written.secrets,
        }
    }

    fn long(node: NodeId, written: &'a Principal) -> Self {
        Self {
            node,
            client_id: &written.client_id,
            client_secret: &written.client_secret,
            username: &written.username,
            password: &written.password,
            refresh_token: &written.refresh_token,
            token: &written.token,
            secrets: &written.secrets,
        }
    }

    /// Whether there is one at all. Named secrets alone make none: they are for all principals.
    fn is_there(&self) -> bool {
        let texts = [self.client_id, self.username].into_iter().filter_map(Field::node);
        let secrets = [self.client_secret, self.password, self.refresh_token, self.token];
        texts.chain(secrets.into_iter().filter_map(Field::node)).next().is_some()
    }
}

/// Every identity that is written.
pub(super) fn identities(node: NodeId, written: &ExternalCredential) -> impl Iterator<Item = Identity<'_>> {
    let long = written.principals.value().into_iter().flatten().filter_map(Field::get);
    let long = long.map(|(node, principal)| Identity::long(node, principal));
    std::iter::once(Identity::short(node, written)).chain(long)
}

/// The principals in order of their sequence numbers.
pub(super) fn resolve(
    context: &Context<'_>,
    node: NodeId,
    written: &ExternalCredential,
    needs: Needs,
) -> Option<Vec<PrincipalSettings>> {
    let findings = context.findings;
    let short = Identity::short(node, written);
    match written.principals.node() {
        Some(at) if short.is_there() => {
            let help = "move `client_id`, `client_secret` and their like into one of the principals, or remove the \
                        principals";
            findings.key_error(at, "an external credential has either `principals` or a client of its own", help);
            None
        }
        Some(at) => {
            let principals = written.principals.value()?;
            if principals.is_empty() {
                findings.error(at, "this list holds no principal", "add a `client_id` and a `client_secret`");
                return None;
            }
            let shared = secrets(context, &written.secrets);
            several(context, principals, &shared, needs)
        }
        None if findings.is_misspelt(node, "principals") => None,
        None => {
            let name = Name::parse("default").ok()?;
            identity(context, name, short, needs).map(|principal| vec![principal])
        }
    }
}

fn several(
    context: &Context<'_>,
    written: &[Field<Principal>],
    shared: &[(String, Secret)],
    needs: Needs,
) -> Option<Vec<PrincipalSettings>> {
    let mut names: Vec<(NodeId, &str)> = Vec::new();
    let mut placed: Vec<Option<Placed>> = Vec::new();
    for (position, field) in (1..).zip(written) {
        let Some((node, principal)) = field.get() else {
            placed.push(None);
            continue;
        };
        if let Some((at, name)) = principal.name.get() {
            if let Some((other, _)) = names.iter().find(|(_, other)| *other == name.as_str()) {
                let message = "two principals have the same name".to_owned();
                context.findings.conflict(at, (*other, "the other one"), message, "give each a name of its own");
            }
            names.push((at, name));
        }
        placed.push(one(context, (node, principal), position, needs));
    }
    judge_sequence(context, &placed.iter().flatten().collect::<Vec<_>>());
    let mut placed: Vec<Placed> = placed.into_iter().collect::<Option<_>>()?;
    placed.sort_by_key(|(sequence, ..)| *sequence);
    Some(placed.into_iter().map(|(.., settings)| with_shared(settings, shared)).collect())
}

fn judge_sequence(context: &Context<'_>, placed: &[&Placed]) {
    for (index, (sequence, at, _)) in placed.iter().enumerate() {
        let earlier = placed.iter().take(index).find(|(other, at, _)| other == sequence && at.is_some());
        if let (Some(at), Some((_, Some(other), _))) = (at, earlier) {
            let message = "two principals have the same sequence number".to_owned();
            context.findings.conflict(*at, (*other, "the other one"), message, "give each a number of its own");
        }
    }
}

/// The secrets of all, and over them the principal's own.
fn with_shared(mut settings: PrincipalSettings, shared: &[(String, Secret)]) -> PrincipalSettings {
    let own = std::mem::take(&mut settings.secrets);
    let others = shared.iter().filter(|(name, _)| !own.iter().any(|(other, _)| other == name));
    settings.secrets = others.cloned().collect();
    settings.secrets.extend(own);
    settings
}

/// One principal; without a sequence number its place in the list is its number.
fn one(context: &Context<'_>, (node, written): (NodeId, &Principal), position: u64, needs: Needs) -> Option<Placed> {
    let name = context.findings.required(&written.name, node, "name", "write name = \"default\"");
    let name = name.and_then(|(at, text)| {
        let name = Name::parse(text);
        if let Err(error) = &name {
            context.findings.error(at, "this name is not valid", error.to_string());
        }
        name.ok()
    });
    let callers = context.callers(&written.callers);
    let sequence = written.sequence.get();
    // Its mistakes are wanted even where the name is one.
    let stand_in = Name::parse("default").ok()?;
    let settings = identity(context, stand_in, Identity::long(node, written), needs);
    let settings = PrincipalSettings { name: name?, callers, ..settings? };
    Some((sequence.map_or(position, |(_, count)| count.0), sequence.map(|(at, _)| at), settings))
}

/// One identity, held against what is needed.
fn identity(context: &Context<'_>, name: Name, who: Identity<'_>, needs: Needs) -> Option<PrincipalSettings> {
    if !is_complete(context, who, needs) {
        return None;
    }
    let client_id = text(context, who.client_id, "client id");
    let client_secret = optional(who.client_secret, |field| secret::field(context, field));
    let username = text(context, who.username, "user name");
    let password = optional(who.password, |field| secret::field(context, field));
    let refresh_token = optional(who.refresh_token, |field| secret::field(context, field));
    let token = optional(who.token, |field| secret::field(context, field));
    let secrets = secrets(context, who.secrets);
    let settings = PrincipalSettings {
        name,
        client_id: client_id?.unwrap_or_default(),
        client_secret: client_secret?,
        username: username?,
        password: password?,
        refresh_token: refresh_token?,
        token: token?,
        secrets,
        callers: None,
    };
    Some(if needs.is_account { as_account(settings) } else { settings })
}

/// The flow `basic` knows user name and password only.
fn as_account(settings: PrincipalSettings) -> PrincipalSettings {
    let id = settings.client_id.clone();
    let username = settings.username.or(Some(id));
    // An API key goes as user name with an empty password (RFC 7617 2 allows that).
    let password = settings.password.or(settings.client_secret).or_else(|| Some(Secret::new(String::new())));
    PrincipalSettings { username, password, client_secret: None, ..settings }
}

/// Whether all that is needed is there. Each key that is missing, or there for nothing, is reported.
fn is_complete(context: &Context<'_>, who: Identity<'_>, needs: Needs) -> bool {
    let keys = [
        (needs.client_id, "client_id", who.client_id.node(), ID_HELP),
        (needs.client_secret, "client_secret", who.client_secret.node(), SECRET_HELP),
        (needs.username, "username", who.username.node(), "write username = \"…\""),
        (needs.password, "password", who.password.node(), "write password = { env = \"NAME\" }"),
        (needs.refresh_token, "refresh_token", who.refresh_token.node(), "write refresh_token = { env = \"NAME\" }"),
        (needs.token, "token", who.token.node(), "write token = { env = \"NAME\" }"),
    ];
    let is_missing = |key: &str, node: Option<NodeId>| node.is_none() && !context.findings.is_misspelt(who.node, key);
    let has_no_client =
        [&keys[0], &keys[1]].into_iter().all(|(need, key, node, _)| *need == Need::Required && is_missing(key, *node));
    if has_no_client {
        let help = "add `client_id` and `client_secret`; where the token endpoint asks for no client, because \
                    `parameters` carry what it wants to see, say so with client_authentication = \"none\"";
        context.findings.key_error(who.node, "the client is missing", help);
    }
    let mut is_complete = !has_no_client;
    for (need, key, node, help) in keys.into_iter().skip(if has_no_client { 2 } else { 0 }) {
        match need {
            Need::Required if node.is_none() => {
                if is_missing(key, node) {
                    context.findings.key_error(who.node, format!("the key `{key}` is missing"), help);
                }
                is_complete = false;
            }
            Need::Useless(why) => context.has_no_effect(node, format!("`{key}` has no effect here"), why),
            Need::Required | Need::Optional => {}
        }
    }
    is_complete && (!needs.is_account || is_account(context, who))
}

/// Whether there is one user name, and the password it needs.
fn is_account(context: &Context<'_>, who: Identity<'_>) -> bool {
    let findings = context.findings;
    let pairs = [
        (("username", who.username.node()), ("client_id", who.client_id.node())),
        (("password", who.password.node()), ("client_secret", who.client_secret.node())),
    ];
    for ((name, node), (alias, other)) in pairs {
        if let (Some(_), Some(at)) = (node, other) {
            let help = "leave one of them out";
            findings.key_error(at, format!("with flow = \"basic\", `{alias}` is another name for `{name}`"), help);
            return false;
        }
    }
    let is_there = |node: Option<NodeId>, keys: [&str; 2]| {
        node.is_some() || keys.iter().any(|key| findings.is_misspelt(who.node, key))
    };
    let user = who.username.node().or(who.client_id.node());
    if !is_there(user, ["username", "client_id"]) {
        findings.key_error(who.node, "the key `username` is missing", "write username = \"…\"");
        return false;
    }
    let is_secret =
        [who.username, who.client_id].into_iter().any(|field| matches!(field.value(), Some(TextOrSecret::Table(_))));
    let has_password = is_there(who.password.node().or(who.client_secret.node()), ["password", "client_secret"]);
    if !has_password && !is_secret {
        let help = "write password = { env = \"NAME\" }; it may be left out where the user name is an API key, that is, \
                    a reference to a secret";
        findings.key_error(who.node, "the key `password` is missing", help);
    }
    user.is_some() && (has_password || is_secret)
}

/// A text or secret that may be left out, but not empty; none where something was reported.
fn text(context: &Context<'_>, field: &Field<TextOrSecret>, what: &str) -> Option<Option<String>> {
    if let Some((at, TextOrSecret::Text(text))) = field.get()
        && text.is_empty()
    {
        context.findings.error(at, format!("the {what} is empty"), "write the one that the identity provider gave you");
        return None;
    }
    optional(field, |field| secret::text_or_secret(context, field))
        .map(|text| text.map(|text| text.expose().to_owned()))
}

/// None where something was reported.
fn optional<T, U>(field: &Field<T>, read: impl FnOnce(&Field<T>) -> Option<U>) -> Option<Option<U>> {
    match field {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(..) => read(field).map(Some),
    }
}

/// Named secrets.
fn secrets(context: &Context<'_>, field: &Field<Entries<SecretReference>>) -> Vec<(String, Secret)> {
    let mut secrets = Vec::new();
    for (name, field) in field.value().into_iter().flat_map(Entries::iter) {
        let Some(node) = field.node() else { continue };
        if Name::parse(name).is_err() {
            let help = "formulas refer to it as secrets.NAME: letters, digits and single underscores";
            context.findings.key_error(node, "this is not a name for a secret", help);
        }
        secrets.extend(secret::field(context, field).map(|secret| (name.to_owned(), secret)));
    }
    secrets
}
