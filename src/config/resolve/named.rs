//! `[named_credentials.NAME]`: where to call, and the callout's options.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};

use super::context::{Context, suggestion};
use super::external::Externals;
use super::formula::{Sight, When};
use super::upstream::{self, Upstream};
use super::{header, limit, matching};
use crate::config::document::{
    Document, ForwardProxy, Forwarded as WrittenForwarded, Listener, NamedCredential as Written,
    Replay as WrittenReplay, Streams as WrittenStreams, Timeouts as WrittenTimeouts,
};
use crate::config::field::{Entries, Field};
use crate::config::findings::Findings;
use crate::config::tree::NodeId;
use crate::name::Name;
use crate::proxy::forward_match;
use crate::proxy::settings::{Forwarded, HostHeader, NamedCredential, Replay, Streams, Timeouts};
use crate::route::{HostPattern, Match};
use crate::token::{self, RejectionRules, Rule};

/// How much of a body is kept for a replay.
const REPLAY_LIMIT: usize = 256 * 1024;

/// Every named credential that is described well.
pub(super) struct NamedCredentials {
    resolved: Vec<(NodeId, Arc<NamedCredential>)>,
}

impl NamedCredentials {
    pub(super) fn resolve(context: &Context<'_>, document: &Document, externals: &Externals<'_>) -> Self {
        let mut taken = HashMap::new();
        let mut resolved = Vec::new();
        for (name, field) in document.named_credentials.value().into_iter().flat_map(Entries::iter) {
            let Some((node, written)) = field.get() else { continue };
            let matching = matching::resolve(context, name, &written.r#match);
            if let Some(matching) = &matching {
                claim(context, &mut taken, written.r#match.node().unwrap_or(node), matching);
            }
            let Some(settings) = resolve(context, (node, name), written, externals) else { continue };
            resolved.extend(matching.map(|matching| (node, Arc::new(NamedCredential { matching, ..settings }))));
        }
        Self { resolved }
    }

    /// What the others are asked for beside their tokens: the external credential, and where to look in its answers.
    pub(super) fn members(&self) -> impl Iterator<Item = (NodeId, &Name, &str)> {
        self.resolved.iter().filter_map(|(node, named)| {
            let from = named.from_token.as_ref()?;
            Some((*node, named.external_credential.as_ref()?, from.pointer.as_str()))
        })
    }

    /// Says so when a caller that uses us as its proxy could mean two of them: see [`Forward`](crate::proxy).
    pub(super) fn judge_forward_proxy(&self, context: &Context<'_>, document: &Document) {
        let is_proxy = |listener: &Field<Listener>| {
            listener.value().is_some_and(|listener| match listener.forward_proxy.value() {
                Some(ForwardProxy::Boolean(is_proxy)) => *is_proxy,
                Some(ForwardProxy::Table(_)) => true,
                None => false,
            })
        };
        let mut listeners = document.listeners.value().into_iter().flat_map(Entries::iter);
        if !listeners.any(|(_, listener)| is_proxy(listener)) {
            return;
        }
        let mut taken = HashMap::new();
        for (node, named) in &self.resolved {
            let Some(matching) = forward_match(named) else { continue };
            let Some(other) = taken.insert((matching.host, matching.path), *node) else { continue };
            let message = "callers that use keybearer as their proxy could mean two named credentials: both are \
                           reached at the same host and path"
                .to_owned();
            let help = "give one of them a match.host, or another path in its url; or turn forward_proxy off";
            context.findings.conflict(*node, (other, "the other one"), message, help);
        }
    }

    /// The external credentials that they use.
    pub(super) fn used_externals(&self) -> HashSet<&Name> {
        self.resolved.iter().filter_map(|(_, named)| named.external_credential.as_ref()).collect()
    }

    /// Warns of what is allowed, but probably not what was meant.
    pub(super) fn advise(&self, findings: &Findings<'_>, externals: &Externals<'_>) {
        for (node, named) in &self.resolved {
            let Some(external) = &named.external_credential else {
                if named.generate_authorization_header {
                    let help = "add `external_credential`, or say so with generate_authorization_header = false";
                    findings.key_warning(*node, "requests are forwarded without a credential", help);
                }
                continue;
            };
            let Some(external) = externals.find(external) else { continue };
            if admits_post(&named.matching) && replays_any_method(&external.rejection, named.replay) {
                let message = "a POST or PATCH may be carried out twice: additional status codes and rules cause a \
                               replay, and an API may answer so after it has done its work";
                let help = "remove replay = \"always\" (after a 401 any method is replayed anyway), or keep it where \
                            the API refuses before it does anything";
                findings.key_warning(*node, message, help);
            }
        }
    }

    pub(super) fn into_settings(self) -> Vec<Arc<NamedCredential>> {
        self.resolved.into_iter().map(|(_, settings)| settings).collect::<Box<[_]>>().into_vec()
    }
}

/// Whether any method is sent again after an answer other than a 401. A rule's own word counts first.
fn replays_any_method(rejection: &RejectionRules, replay: Replay) -> bool {
    let by_rule = |rule: &Rule| rule.replay.unwrap_or(replay) == Replay::Always;
    rejection.when.iter().any(by_rule) || (replay == Replay::Always && !rejection.additional_status_codes.is_empty())
}

fn admits_post(matching: &Match) -> bool {
    matching
        .methods
        .as_ref()
        .is_none_or(|methods| methods.iter().any(|method| *method == Method::POST || *method == Method::PATCH))
}

/// Says so when a request would belong to two named credentials.
fn claim(
    context: &Context<'_>,
    taken: &mut HashMap<(Option<HostPattern>, String), NodeId>,
    node: NodeId,
    matching: &Match,
) {
    let key = (matching.host.clone(), matching.path.clone());
    let Some(other) = taken.insert(key, node) else { return };
    let message = "two named credentials match the same host and path".to_owned();
    let help = "give one of them another match.path or match.host; methods do not tell them apart";
    context.findings.conflict(node, (other, "the other one"), message, help);
}

/// All but the match rule, in whose place the default stands.
fn resolve(
    context: &Context<'_>,
    (node, name): (NodeId, &str),
    written: &Written,
    externals: &Externals<'_>,
) -> Option<NamedCredential> {
    let matching = Match { host: None, path: String::new(), methods: None };
    let name = context.name(node, name);
    let external = written.external_credential.get().and_then(|(at, text)| external(context, at, text, externals));
    let generate = written.generate_authorization_header.value().copied().unwrap_or(true);
    let settings = external.as_ref().and_then(|name| externals.find(name));
    let attached = settings.filter(|_| generate);
    let url = upstream::resolve(context, node, written, attached);
    let path = upstream::path(&written.path);
    let has_none =
        written.external_credential.node().is_none() && !context.findings.is_misspelt(node, "external_credential");
    let sight = Sight {
        when: When::Exchange,
        principals: settings.map(|settings| settings.principals.as_slice()).or(has_none.then_some(&[])),
    };
    let help = "leave it out, or set generate_authorization_header = false";
    let headers = header::fields(context, &written.headers, (&taken(attached), help), sight);
    let host_header = host_header(context, &written.host_header);
    let callers = context.callers(&written.callers);
    let timeouts = timeouts(context, &written.timeouts);
    let limits = limit::of_credential(context, &written.limits);
    let streams = streams(context, &written.streams);
    let Upstream { endpoint, from_token, base_path } = url?;
    Some(NamedCredential {
        name: name?,
        label: written.label.value().cloned(),
        enabled: written.enabled.value().copied().unwrap_or(true),
        matching,
        callers,
        endpoint,
        from_token,
        base_path,
        path: path?,
        host_header: host_header?,
        external_credential: external,
        generate_authorization_header: generate,
        headers,
        remove_headers: removed(context, &written.remove_headers),
        keep_cookies: written.keep_cookies.value().copied().unwrap_or(false),
        forwarded: forwarded(&written.forwarded),
        replay: replay(&written.replay),
        replay_limit: written.replay_limit.value().map_or(REPLAY_LIMIT, |size| size.0),
        timeouts: timeouts?,
        limits: limits?,
        streams: streams?,
    })
}

/// The field that carries the token. Others that the external credential sets may be set again: the named credential's
/// is the one that is sent, as in Salesforce.
fn taken(external: Option<&token::Settings>) -> Vec<(&HeaderName, &'static str)> {
    let Some(settings) = external else { return Vec::new() };
    let has_token = !matches!(settings.flow, token::Flow::None);
    Some((&settings.inject.header, "carries the token")).filter(|_| has_token).into_iter().collect()
}

fn external(context: &Context<'_>, node: NodeId, text: &str, externals: &Externals<'_>) -> Option<Name> {
    if let Some(known) = externals.names().filter(|known| !known.contains(text)) {
        let help = suggestion(text, known, "external_credentials");
        context.findings.error(node, "there is no external credential of this name", help);
        return None;
    }
    Name::parse(text).ok()
}

fn host_header(context: &Context<'_>, field: &Field<String>) -> Option<HostHeader> {
    let (node, text) = match field {
        Field::Missing => return Some(HostHeader::Upstream),
        Field::Wrong(_) => return None,
        Field::Set(node, text) => (*node, text.as_str()),
    };
    match text {
        "upstream" => Some(HostHeader::Upstream),
        "caller" => Some(HostHeader::Caller),
        _ => {
            let authority = text.parse::<Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
            if authority.is_none() {
                let help = "write \"upstream\", \"caller\", or a host and, where it is needed, a port";
                context.findings.error(node, "this is not a host", help);
            }
            authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()).map(HostHeader::Text)
        }
    }
}

fn removed(context: &Context<'_>, list: &Field<Vec<Field<String>>>) -> Vec<HeaderName> {
    Context::unique(
        Context::texts(list).filter_map(|(node, text)| header::name(context, node, text)).collect::<Vec<_>>(),
    )
}

fn forwarded(field: &Field<WrittenForwarded>) -> Forwarded {
    match field.value() {
        Some(WrittenForwarded::None) | None => Forwarded::None,
        Some(WrittenForwarded::XForwarded) => Forwarded::XForwarded,
        Some(WrittenForwarded::Rfc7239) => Forwarded::Rfc7239,
    }
}

/// `replay`, here or in a refresh rule.
pub(super) fn replay(field: &Field<WrittenReplay>) -> Replay {
    match field.value() {
        None => Replay::Unset,
        Some(WrittenReplay::Always) => Replay::Always,
        Some(WrittenReplay::Idempotent) => Replay::Idempotent,
        Some(WrittenReplay::Never) => Replay::Never,
    }
}

fn timeouts(context: &Context<'_>, field: &Field<WrittenTimeouts>) -> Option<Timeouts> {
    let missing = WrittenTimeouts::default();
    let written = match field {
        Field::Missing => &missing,
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let usual = Timeouts::default();
    let connect = context.positive_or(&written.connect, usual.connect.as_secs());
    let first_byte = context.positive_or(&written.first_byte, usual.first_byte.as_secs());
    let idle = context.positive_or(&written.idle, usual.idle.as_secs());
    let total = context.positive(&written.total);
    let continue_ = context.positive_or(&written.r#continue, 1);
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle?, total, continue_: continue_? })
}

fn streams(context: &Context<'_>, field: &Field<WrittenStreams>) -> Option<Streams> {
    let written = match field {
        Field::Missing => return Some(Streams::default()),
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let upgrades = match &written.upgrades {
        Field::Missing => Streams::default().upgrades,
        list @ (Field::Wrong(_) | Field::Set(..)) => {
            Context::unique(Context::texts(list).filter_map(|(node, text)| upgrade(context, node, text))).into()
        }
    };
    Some(Streams { upgrades, idle: context.positive(&written.idle) })
}

/// A protocol to switch to (RFC 9110 7.8).
fn upgrade(context: &Context<'_>, node: NodeId, text: &str) -> Option<HeaderValue> {
    let lower = text.to_ascii_lowercase();
    let (message, help) = match lower.split('/').next().unwrap_or_default() {
        "h2c" | "http" | "tls" => (
            "switching to another HTTP, or to TLS, would take every later request past keybearer's checks",
            "leave it out; `http` chooses the version that is spoken with the upstream",
        ),
        // Its name and version are tokens, as names of fields are.
        _ if lower.splitn(2, '/').all(|part| part.parse::<HeaderName>().is_ok()) => {
            return HeaderValue::try_from(lower).ok();
        }
        _ => ("this is not the name of a protocol", "write upgrades = [\"websocket\"], or [] to allow none"),
    };
    context.findings.error(node, message, help);
    None
}
