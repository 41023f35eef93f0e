//! `[named_credentials.NAME]`: where to call, and the callout's options.

use std::collections::HashMap;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};

use super::context::{Context, suggestion};
use super::external::Externals;
use super::{header, matching, tls};
use crate::config::document::{
    Document, Forwarded as WrittenForwarded, NamedCredential as Written, Replay as WrittenReplay,
    Timeouts as WrittenTimeouts,
};
use crate::config::field::{Entries, Field};
use crate::config::findings::Findings;
use crate::config::tree::NodeId;
use crate::config::url::{Url, path_fault};
use crate::name::Name;
use crate::proxy::settings::{Forwarded, HostHeader, NamedCredential, Replay, Timeouts};
use crate::route::{HostPattern, Match};
use crate::upstream::Endpoint;

/// How much of a body is kept for a replay.
const REPLAY_LIMIT: usize = 256 * 1024;

/// Every named credential that is described well.
pub(super) struct NamedCredentials {
    resolved: Vec<(NodeId, NamedCredential)>,
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
            resolved.extend(matching.map(|matching| (node, NamedCredential { matching, ..settings })));
        }
        Self { resolved }
    }

    /// Whether one of them uses this external credential.
    pub(super) fn use_external(&self, name: &Name) -> bool {
        self.resolved.iter().any(|(_, named)| named.external_credential.as_ref() == Some(name))
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
            let has_codes = externals
                .find(external.as_str())
                .is_some_and(|external| !external.additional_refresh_status_codes.is_empty());
            if has_codes && named.replay == Replay::Always && admits_post(&named.matching) {
                let message = "a POST or PATCH may be carried out twice: additional status codes cause a replay, and an \
                               API may answer with them after it has done its work";
                let help = "remove replay = \"always\" (after a 401 any method is replayed anyway), or keep it where \
                            the API refuses before it does anything";
                findings.key_warning(*node, message, help);
            }
        }
    }

    pub(super) fn into_settings(self) -> Vec<NamedCredential> {
        self.resolved.into_iter().map(|(_, settings)| settings).collect()
    }
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
    let url = upstream(context, node, written);
    let external = written.external_credential.get().and_then(|(at, text)| external(context, at, text, externals));
    let generate = written.generate_authorization_header.value().copied().unwrap_or(true);
    let injected = external.as_ref().filter(|_| generate).and_then(|name| externals.find(name.as_str()));
    let headers = header::fields(context, &written.headers, injected.map(|external| &external.inject.header));
    let host_header = host_header(context, &written.host_header);
    let callers = context.callers(&written.callers);
    let timeouts = timeouts(context, &written.timeouts);
    let (endpoint, base_path) = url?;
    Some(NamedCredential {
        name: name?,
        label: written.label.value().cloned(),
        enabled: written.enabled.value().copied().unwrap_or(true),
        matching,
        callers,
        endpoint,
        base_path,
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
    })
}

/// The upstream, and the path that matched paths are appended to.
fn upstream(context: &Context<'_>, node: NodeId, written: &Written) -> Option<(Endpoint, String)> {
    let findings = context.findings;
    let help = "write where the API is: url = \"https://api.example.com/v1\"";
    let (at, text) = findings.required(&written.url, node, "url", help)?;
    let fault = match Url::parse(text) {
        Ok(url) if url.query.is_some() => Err(("a URL here has no query", "leave out `?` and what comes after it")),
        Ok(url) => path_fault(&url.path).map_or(Ok(url), Err),
        Err(fault) => Err(fault),
    };
    let url = match fault {
        Ok(url) => url,
        Err((message, help)) => {
            findings.error(at, message, help);
            return None;
        }
    };
    let accepted = context.accepts(node, &written.dangerous, "plain_http", |dangers| &dangers.plain_http);
    if !url.is_https && !url.is_loopback() && !accepted {
        let message = "the token would travel over plain HTTP to another machine";
        findings.error(at, message, "write https://, or accept it with dangerous = { plain_http = true }");
    }
    let tls = match url.is_https {
        true => Some(tls::profile(context, at, &written.tls)?),
        false => tls::none(context, &written.tls).and(None),
    };
    let base_path = url.path.strip_suffix('/').unwrap_or(&url.path).to_owned();
    Some((Endpoint { tls, authority: url.authority }, base_path))
}

fn external(context: &Context<'_>, node: NodeId, text: &str, externals: &Externals<'_>) -> Option<Name> {
    if let Some(known) = externals.names().filter(|known| !known.contains(&text)) {
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

fn replay(field: &Field<WrittenReplay>) -> Replay {
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
    let connect = context.positive_or(&written.connect, 5);
    let first_byte = context.positive_or(&written.first_byte, 60);
    let idle = context.positive_or(&written.idle, 60);
    let total = context.positive(&written.total);
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle?, total })
}
