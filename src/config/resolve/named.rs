//! `[named_credentials.NAME]`: where to call, and the callout's options.

use std::collections::HashMap;
use std::path::PathBuf;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method};

use super::context::{Context, suggestion};
use super::external::Externals;
use super::formula::{Sight, When};
use super::{header, limit, matching, tls};
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
use crate::token::{self, ClientAuthentication, RejectionRules, Rule};
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
            let Some(external) = externals.find(external.as_str()) else { continue };
            if admits_post(&named.matching) && replays_any_method(&external.rejection, named.replay) {
                let message = "a POST or PATCH may be carried out twice: additional status codes and rules cause a \
                               replay, and an API may answer so after it has done its work";
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
    let settings = external.as_ref().and_then(|name| externals.find(name.as_str()));
    let attached = settings.filter(|_| generate);
    let url = upstream(context, node, written, attached);
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
        limits: limits?,
    })
}

/// The field that carries the token. Others that the external credential sets may be set again: the named credential's
/// is the one that is sent, as in Salesforce.
fn taken(external: Option<&token::Settings>) -> Vec<(&HeaderName, &'static str)> {
    let Some(settings) = external else { return Vec::new() };
    let has_token = !matches!(settings.flow, token::Flow::None);
    Some((&settings.inject.header, "carries the token")).filter(|_| has_token).into_iter().collect()
}

/// The upstream, and the path that matched paths are appended to.
fn upstream(
    context: &Context<'_>,
    node: NodeId,
    written: &Written,
    external: Option<&token::Settings>,
) -> Option<(Endpoint, String)> {
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
        true => Some(tls::profile_as(context, at, &written.tls, bound_to(context, written, external))?),
        false => tls::none(context, &written.tls).and(None),
    };
    let base_path = url.path.strip_suffix('/').unwrap_or(&url.path).to_owned();
    Some((Endpoint::new(tls, url.authority), base_path))
}

/// The certificate and key that the tokens may be bound to (RFC 8705 3): what proves the client to the token endpoint is
/// shown to the API too.
fn bound_to<'a>(
    context: &Context<'_>,
    written: &Written,
    external: Option<&'a token::Settings>,
) -> Option<&'a (PathBuf, PathBuf)> {
    let request = external?.request()?;
    let is_by_certificate = matches!(request.client_authentication, Some(ClientAuthentication::TlsClientAuth));
    let identity = request.endpoint.tls.settings().identity.as_ref().filter(|_| is_by_certificate)?;
    let own = written.tls.value().and_then(|tls| tls.certificate.get());
    if let Some((at, path)) = own
        && context.path(at, path) != identity.0
    {
        let message = "the external credential proves itself with another certificate: an API that checks to which \
                       certificate a token is bound will refuse it (RFC 8705 3)";
        let help = "leave out `certificate` and `key`: those of the external credential are used";
        context.findings.warning(at, message, help);
    }
    Some(identity)
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
    let connect = context.positive_or(&written.connect, 5);
    let first_byte = context.positive_or(&written.first_byte, 60);
    let idle = context.positive_or(&written.idle, 60);
    let total = context.positive(&written.total);
    Some(Timeouts { connect: connect?, first_byte: first_byte?, idle: idle?, total })
}
