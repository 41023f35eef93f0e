//! The outgoing request head, made from the caller's: what may travel on, and what must not (RFC 9110 7).
//!
//! The order is security: what the caller lists in `Connection` is removed first, its credentials next, and only then
//! is anything of ours added, so that nothing a caller sends can remove or double it.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, TE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::expect;
use super::fields::{self, Parties};
use super::plan::{NamedCredential, Plan};
use super::settings::HostHeader;
use super::stop::Stop;
use super::upgrade::Upgrade;
use super::{grpc, interim, upgrade};
use crate::access_log::RequestId;
use crate::answer::{self, Failure};
use crate::header::{self, CredentialFields, Forwarded, Presence, Pseudonym};
use crate::server::Connection;
use crate::target;
use crate::token::Cell;
use crate::upstream::{Http, Protocol, RequestHead};

/// A request head ready to be sent any number of times, the credential aside.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    /// The values of configured fields that are secrets, or made from some.
    pub(super) secrets: Vec<HeaderValue>,
    /// Where the tokens for this exchange are; none: there is no token to attach.
    pub(super) cell: Option<Arc<Cell>>,
    /// The version of HTTP that is spoken with the upstream.
    pub(super) protocol: Protocol,
    /// Whether the caller waits to be asked for its body.
    pub(super) expects: bool,
    /// Whether the caller can be sent interim answers.
    pub(super) passes_interims: bool,
    /// Whether the caller reads trailers.
    pub(super) reads_trailers: bool,
    /// Whether this is a gRPC call.
    pub(super) is_grpc: bool,
    /// The protocol that the caller switches to if the upstream does.
    pub(super) upgrade: Option<Box<Upgrade>>,
}

/// How one request is sent.
#[derive(Clone, Copy)]
pub(super) struct Hop {
    /// The version of HTTP on the connection.
    pub(super) protocol: Protocol,
    /// Whether its body is held back until the upstream asks for it.
    pub(super) expects: bool,
}

/// `DPoP` (RFC 9449 4.1).
pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What the head is made with.
pub(super) struct Context<'a> {
    pub(super) connection: &'a Connection,
    /// Our name in `Via`.
    pub(super) pseudonym: &'a Pseudonym,
    pub(super) id: &'a RequestId,
    /// Whether secrets were read; without them, no formula that uses one is evaluated.
    pub(super) has_secrets: bool,
}

/// Makes the outgoing head of a request, which may have what is `present` of the fields of weight; `prefix` bytes of the
/// path were matched and are cut. It is boxed because it passes through many hands.
pub(super) fn prepare(
    (mut parts, present): (Parts, Presence),
    prefix: usize,
    parties: Parties<'_>,
    plan: &Plan,
    context: &Context<'_>,
) -> Result<Box<Prepared>, Stop> {
    let named = parties.named;
    let settings = &named.settings;
    let outgoing = target::outgoing(&settings.base_path, parts.uri.path(), prefix, parts.uri.query())
        .map_err(|error| Stop::with(Failure::BadTarget, error.to_string()))?;

    let asks = present.has(Presence::UPGRADE);
    let upgrade = if asks { Upgrade::asked(&mut parts, &settings.streams.upgrades)? } else { None };
    let headers = &mut parts.headers;
    let expects = present.has(Presence::EXPECT) && expect::take(headers, parts.version)?;
    let is_grpc = present.has(Presence::CONTENT_TYPE) && grpc::is_call(headers);
    let reads_trailers = (present.has(Presence::TE) && header::accepts_trailers(headers)) || is_grpc;
    if is_grpc && parts.version != Version::HTTP_2 {
        return Err(Stop::with(Failure::UnsupportedVersion, "gRPC needs HTTP/2"));
    }
    let protocol = protocol(named, is_grpc, upgrade.as_deref())?;
    if present.has(Presence::VIA) && header::via_names(headers, context.pseudonym) {
        return Err(Stop::new(Failure::Loop));
    }
    let credentials = credentials(named, plan);
    if (present.has(Presence::FOLDING) || credentials.may_be_folded_onto())
        && header::ambiguous_name(headers, credentials).is_some()
    {
        return Err(Stop::with(Failure::BadRequest, "a field name could be taken for one that keybearer sets"));
    }
    header::strip_hop_by_hop((headers, present))
        .map_err(|error| Stop::with(Failure::BadRequest, format!("Connection names {}", error.0)))?;
    strip_credentials((headers, present), named, credentials)?;
    if present.has(Presence::FORWARDED) {
        header::strip_forwarded(headers);
    }
    if present.has(Presence::TRAILER) {
        header::announce_trailers(headers, |trailers: &mut HeaderMap| strip_trailers(trailers, named, plan));
    }
    // A field may be there for a formula only, and be removed after it was read.
    let mut computed = fields::compute(parties, &parts.method, parts.uri.path_and_query(), headers)?;
    for name in &settings.remove_headers {
        headers.remove(name);
    }

    if settings.forwarded != Forwarded::None {
        let host = headers.get(HOST).cloned();
        let Connection { peer, .. } = context.connection;
        let asked = header::Asked { peer, host: host.as_ref(), scheme: context.connection.scheme() };
        header::set_forwarded(headers, settings.forwarded, asked);
    }
    let secrets = computed.apply(named, headers);
    if settings.host_header != HostHeader::Caller || !headers.contains_key(HOST) {
        headers.insert(HOST, named.host.clone());
    }
    header::append_via(headers, parts.version, context.pseudonym);
    headers.insert(answer::REQUEST_ID, context.id.field());
    Ok(Box::new(Prepared {
        method: parts.method,
        target: origin_form(outgoing),
        headers: parts.headers,
        secrets,
        cell: computed.cell,
        protocol,
        expects,
        passes_interims: interim::are_for(context.connection, parts.version),
        reads_trailers,
        is_grpc,
        upgrade,
    }))
}

/// The version for the upstream. Protocols are switched on a connection of HTTP/1.1 alone.
fn protocol(named: &NamedCredential, is_grpc: bool, asked: Option<&Upgrade>) -> Result<Protocol, Stop> {
    let endpoint = &named.settings.endpoint;
    match asked {
        Some(_) if endpoint.http == Http::Http2 => Err(upgrade::impossible()),
        Some(_) => Ok(Protocol::Http1),
        None => Ok(endpoint.protocol(is_grpc)),
    }
}

/// Removes what the caller sent to prove itself, unless it did so to a host that it named itself.
fn strip_credentials(
    (headers, present): (&mut HeaderMap, Presence),
    named: &NamedCredential,
    credentials: CredentialFields<'_>,
) -> Result<(), Stop> {
    if !named.passes_through {
        header::strip_caller_credentials((headers, present), credentials);
        return Ok(());
    }
    let own = own_credentials(headers, credentials.api_key)?;
    header::strip_caller_credentials((headers, present), credentials);
    headers.extend(own);
    Ok(())
}

/// What a caller sends to prove itself to a host that it named itself: that is between the two of them. What proves it
/// to us is not.
fn own_credentials(headers: &HeaderMap, ours: &[HeaderName]) -> Result<Vec<(HeaderName, HeaderValue)>, Stop> {
    let mut own = Vec::new();
    for name in [AUTHORIZATION, DPOP].into_iter().filter(|name| !ours.contains(name)) {
        let mut values = headers.get_all(&name).iter();
        let (value, another) = (values.next().cloned(), values.next());
        if another.is_some() {
            return Err(Stop::with(Failure::BadRequest, format!("more than one {name}")));
        }
        own.extend(value.map(|value| (name, value)));
    }
    Ok(own)
}

fn credentials<'a>(named: &'a NamedCredential, plan: &'a Plan) -> CredentialFields<'a> {
    CredentialFields {
        injected: named.injected(),
        attached: named.attached(),
        set: named.set(),
        api_key: plan.callers.key_headers(),
        keep_cookies: named.settings.keep_cookies,
    }
}

/// What may travel on in a caller's trailer section, which comes long after its head was prepared.
#[derive(Debug)]
pub(super) struct TrailerRule {
    pub(super) named: Arc<NamedCredential>,
    pub(super) plan: Arc<Plan>,
}

impl TrailerRule {
    /// Removes the rest.
    pub(super) fn apply(&self, trailers: &mut HeaderMap) {
        strip_trailers(trailers, &self.named, &self.plan);
    }
}

fn strip_trailers(trailers: &mut HeaderMap, named: &NamedCredential, plan: &Plan) {
    header::strip_trailers(trailers, credentials(named, plan));
    let set = named.fields().iter().map(|(name, _)| name);
    for name in named.settings.remove_headers.iter().chain(set) {
        trailers.remove(name);
    }
}

impl Prepared {
    /// Whether the caller asked for another protocol with an extended CONNECT.
    pub(super) fn switches_over_http2(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_asked_over_http2())
    }

    /// The head, with what is `set` for one sending of it.
    pub(super) fn head<'a>(&'a self, set: &'a [(HeaderName, HeaderValue)]) -> RequestHead<'a> {
        RequestHead { method: &self.method, target: &self.target, headers: &self.headers, set }
    }

    /// What we say to the upstream for this one hop (RFC 9110 7.6.1, 7.8, 10.1.1, 10.1.4).
    pub(super) fn say(&self, hop: Hop) -> Vec<(HeaderName, HeaderValue)> {
        let mut said = Vec::new();
        if hop.expects {
            said.push((EXPECT, expect::CONTINUE));
        }
        if let Some(upgrade) = &self.upgrade {
            said.extend(upgrade.ask());
        } else if self.reads_trailers {
            said.push((TE, HeaderValue::from_static("trailers")));
            if hop.protocol == Protocol::Http1 {
                said.push((CONNECTION, HeaderValue::from_static("te")));
            }
        }
        said
    }
}

fn origin_form(target: PathAndQuery) -> Uri {
    Uri::from(target)
}
