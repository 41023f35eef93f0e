//! `[external_credentials.NAME]`: how to authenticate.
//!
//! First the `choice` of flow and client authentication, then everything that is held against it.

mod answer;
mod attach;
mod authentication;
mod choice;
mod claim;
mod effect;
mod endpoint;
mod grant;
mod needs;
mod principal;
mod rejection;
mod request;
mod signing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) use self::answer::pointer;
use self::choice::Choice;
use self::needs::Needs;
use self::signing::Signing;
use super::context::{Context, Names, names};
use super::formula::{Sight, When};
use super::named::NamedCredentials;
use crate::config::document::{Document, ExternalCredential, Flow as WrittenFlow};
use crate::config::field::Entries;
use crate::config::findings::Findings;
use crate::config::tree::NodeId;
use crate::name::Name;
use crate::token::{Flow, GrantKind, MOST_MEMBERS, Settings};

/// Every external credential.
pub(super) struct Externals<'a> {
    /// The names that are written; none: the table itself is wrong.
    names: Option<Names<'a>>,
    resolved: Vec<(NodeId, Arc<Settings>)>,
    /// Where each stands in `resolved`.
    places: HashMap<Name, usize>,
}

impl<'a> Externals<'a> {
    pub(super) fn resolve(context: &Context<'_>, document: &'a Document) -> Self {
        let entries = document.external_credentials.value().into_iter().flat_map(Entries::iter);
        let (mut resolved, mut places) = (Vec::new(), HashMap::new());
        let mut stores = HashMap::new();
        for (name, field) in entries {
            let Some((node, written)) = field.get() else { continue };
            let Some(settings) = resolve(context, node, name, written) else { continue };
            claim_store(context, &mut stores, written, &settings);
            places.insert(settings.name.clone(), resolved.len());
            resolved.push((node, Arc::new(settings)));
        }
        let names = names(context.findings, &document.external_credentials, "external_credentials");
        Self { names, resolved, places }
    }

    /// The names that are written; none when nothing can be said about them.
    pub(super) fn names(&self) -> Option<&Names<'a>> {
        self.names.as_ref()
    }

    /// The external credential of this name, if there is nothing wrong with it.
    pub(super) fn find(&self, name: &Name) -> Option<&Settings> {
        self.resolved.get(*self.places.get(name)?).map(|(_, settings)| &**settings)
    }

    /// Warns of external credentials that nothing uses.
    pub(super) fn advise(&self, findings: &Findings<'_>, named: &NamedCredentials) {
        let used = named.used_externals();
        for (node, settings) in self.resolved.iter().filter(|(_, settings)| !used.contains(&settings.name)) {
            let help = format!("set external_credential = \"{}\" in a named credential, or remove it", settings.name);
            findings.key_warning(*node, "no named credential uses this external credential", help);
        }
    }

    /// Has what named credentials look for in an answer kept beside the token.
    pub(super) fn keep_members(&mut self, findings: &Findings<'_>, named: &NamedCredentials) {
        for (node, external, pointer) in named.members() {
            let place = self.places.get(external).and_then(|place| self.resolved.get_mut(*place));
            let settings = place.and_then(|(_, settings)| Arc::get_mut(settings));
            let Some(request) = settings.and_then(Settings::request_mut) else { continue };
            let members = &mut Arc::make_mut(&mut request.response).members;
            if members.iter().any(|known| known == pointer) {
                continue;
            }
            members.push(pointer.to_owned());
            if members.len() > MOST_MEMBERS {
                let message = format!("more than {MOST_MEMBERS} places of one token endpoint's answers are looked at");
                findings.key_error(node, message, "use the same `from_token` in several named credentials");
            }
        }
    }

    pub(super) fn into_settings(self) -> Vec<Arc<Settings>> {
        self.resolved.into_iter().map(|(_, settings)| settings).collect::<Box<[_]>>().into_vec()
    }
}

/// Says so when two refresh tokens would be kept in one file.
fn claim_store(
    context: &Context<'_>,
    taken: &mut HashMap<PathBuf, NodeId>,
    written: &ExternalCredential,
    settings: &Settings,
) {
    let Some(GrantKind::RefreshToken { store: Some(path) }) = settings.request().map(|request| &request.grant.kind)
    else {
        return;
    };
    let Some(node) = written.refresh_token_store.node() else { return };
    if let Some(other) = taken.insert(path.clone(), node) {
        let message = "two external credentials keep their refresh tokens in the same file".to_owned();
        context.findings.conflict(node, (other, "the other one"), message, "give each a file of its own");
    }
}

fn resolve(context: &Context<'_>, node: NodeId, name: &str, written: &ExternalCredential) -> Option<Settings> {
    let name = context.name(node, name);
    let choice = Choice::of(context, node, written);
    let needs = choice.map_or(Needs::UNCLEAR, |choice| Needs::of(choice, written));
    let principals = principal::resolve(context, node, written, needs);
    let per = |when| Sight { when, principals: principals.as_deref() };
    let flow = choice.and_then(|choice| flow(context, (node, written), choice, [When::Exchange, When::Mint].map(per)));
    let lifetime = answer::lifetime(context, written);
    let rejection = rejection::resolve(context, written);
    let inject = attach::inject(context, written, choice);
    let headers = attach::headers(context, written, (choice, inject.as_ref()), per(When::Exchange));
    Some(Settings {
        name: name?,
        flow: flow?,
        lifetime: lifetime?,
        mint_at_start: written.mint.value().is_some(),
        required_for_readiness: written.readiness.value().is_some(),
        rejection,
        inject: inject?,
        headers,
        principals: principals?,
    })
}

/// Where a token comes from; formulas see what they see for an exchange, and for a mint.
fn flow(
    context: &Context<'_>,
    (node, written): (NodeId, &ExternalCredential),
    choice: Choice,
    [exchange, mint]: [Sight<'_>; 2],
) -> Option<Flow> {
    effect::judge(context, written, choice);
    signing::judge(context, written, choice);
    let signing = Signing::new(context, (node, written), choice, mint);
    match choice.flow {
        WrittenFlow::ClientCredentials
        | WrittenFlow::JwtBearer
        | WrittenFlow::Password
        | WrittenFlow::RefreshToken
        | WrittenFlow::TokenExchange => {
            let request = request::resolve(context, (node, written), choice, &signing, exchange)?;
            Some(Flow::Request(Box::new(request)))
        }
        WrittenFlow::SignedJwt => signing.token().map(Flow::SignedJwt),
        WrittenFlow::Basic => Some(Flow::Basic),
        WrittenFlow::Static => Some(Flow::Static),
        WrittenFlow::None => Some(Flow::None),
    }
}
