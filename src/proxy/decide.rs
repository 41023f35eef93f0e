//! The part of an exchange that needs no network: who calls, which named credential, and the outgoing head.
//! `keybearer explain` runs the same code.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::fields::Parties;
use super::forward::{self, Asked, Covered};
use super::limits;
use super::plan::{NamedCredential, Plan};
use super::prepare::{self, Context, Prepared};
use super::stop::Stop;
use super::upgrade;
use crate::answer::Failure;
use crate::body::{self, AnswerBody};
use crate::caller::browser::{self, AllowedOrigin, BrowserRules, Hosts, Verdict};
use crate::caller::{Identified, Pending};
use crate::header::{self, Presence};
use crate::limit::{Limit, Place};
use crate::name::Name;
use crate::route::Route;
use crate::server::{Address, Connection};
use crate::target::{self, PathRules, UnsafeTarget};
use crate::token::Principal;
use crate::upstream::Endpoint;

/// What was found out on the way; filled in order, and as far as it went when the exchange stops.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every caller that gave its proof.
    pub(super) callers: Vec<Name>,
    /// The named credential that matched.
    pub(super) named: Option<Arc<NamedCredential>>,
    /// The origin whose page may read the answer.
    pub(super) cors: Option<AllowedOrigin>,
    /// The limit that was reached.
    pub(super) limit: Option<Limit>,
    /// What the exchange takes of its named credential's limits for as long as it lasts.
    pub(super) place: Option<Place>,
    /// Scheme and authority that the caller asked its proxy for.
    pub(super) asked: Option<String>,
    /// The same, as it decides where the request goes.
    proxied: Option<Asked>,
    /// The fields of weight that the request may have.
    present: Presence,
}

/// What the first step came to.
pub(super) enum Arrived {
    /// Everything about the callers that can be known is known.
    Known,
    /// A caller's token waits for its issuer's keys.
    Pending(Box<Pending>),
    /// Answer ourselves.
    Answer(Box<Response<AnswerBody>>),
}

/// What is to be done.
pub(super) enum Decision {
    /// Send this on.
    Forward(Box<Prepared>),
    /// Send this on to the host that the caller named, with nothing of ours.
    PassThrough(Box<Prepared>, Arc<NamedCredential>),
    /// Open a tunnel to where the caller said.
    Tunnel(Box<Endpoint>),
    /// Answer ourselves.
    Answer(Box<Response<AnswerBody>>),
}

/// The first step: whether a web page is behind the request, and who sends it. What is found out about callers without
/// waiting stands in `found` afterwards; what could be found out by waiting is the result, and then [`identify`] has to
/// be asked once more.
pub(super) fn arrive(
    parts: &mut Parts,
    plan: &Plan,
    connection: &Connection,
    found: &mut Found,
) -> Result<Arrived, Stop> {
    upgrade::adopt_extended_connect(parts)?;
    found.proxied = Asked::of(parts, connection)?;
    let asked = found.proxied.as_ref();
    if parts.method == Method::CONNECT && asked.is_none() {
        return Err(forward::no_tunnel("this listener opens no tunnels"));
    }
    adopt_authority(parts, connection, asked)?;
    found.present = Presence::of(&parts.headers);
    match judge((parts, found.present), plan, connection, asked) {
        Verdict::Pass => {}
        Verdict::CrossOrigin(origin) => found.cors = Some(origin),
        Verdict::Preflight(fields) => {
            // Browsers prove nothing with a preflight, but where they come from may tell who it is.
            let _ = identify(parts, plan, connection, found);
            limits::charge_callers(plan, found)?;
            return Ok(Arrived::Answer(Box::new(no_content(fields))));
        }
        Verdict::CrossSite => return Err(Stop::new(Failure::CrossSite)),
        Verdict::Misdirected => return Err(Stop::new(Failure::Misdirected)),
    }
    Ok(match identify(parts, plan, connection, found) {
        None => Arrived::Known,
        Some(pending) => Arrived::Pending(pending),
    })
}

/// Notes every caller that gave its proof; the result is what more could be known after a wait.
pub(super) fn identify(parts: &Parts, plan: &Plan, connection: &Connection, found: &mut Found) -> Option<Box<Pending>> {
    let Identified { names, pending } =
        plan.callers.identify(&connection.peer, connection.certificate(), &parts.headers);
    found.callers = names;
    pending
}

/// Decides about a request that has arrived. Nothing secret is touched before all checks have passed.
pub(super) fn decide(
    mut parts: Parts,
    plan: &Plan,
    context: &Context<'_>,
    found: &mut Found,
) -> Result<Decision, Stop> {
    admit(&found.callers, context.connection)?;
    limits::charge_callers(plan, found)?;
    if parts.method == Method::OPTIONS && (parts.uri.path() == "*" || header::ends_here(&mut parts.headers)) {
        return Ok(Decision::Answer(Box::new(no_content(HeaderMap::new()))));
    }
    let (named, prefix) = match found.proxied.take() {
        None => route(plan, &parts, found)?,
        Some(asked) => match proxied(&asked, &parts, (plan, context), found)? {
            Proxied::Routed(named, prefix) => (named, prefix),
            Proxied::PassThrough(named) => {
                let parties = Parties { named: &named, principal: None, callers: &[], has_secrets: true };
                let prepared = prepare::prepare((parts, found.present), 0, parties, plan, context)?;
                return Ok(Decision::PassThrough(prepared, named));
            }
            Proxied::Tunnel(endpoint) => return Ok(Decision::Tunnel(endpoint)),
        },
    };
    let principal = permit(named, &found.callers)?;
    limits::enter(named, &parts.headers, found)?;
    let parties = Parties { named, principal, callers: &found.callers, has_secrets: context.has_secrets };
    prepare::prepare((parts, found.present), prefix, parties, plan, context).map(Decision::Forward)
}

/// The principal that these callers act as under `named`; none without an external credential.
pub(super) fn principal<'a>(named: &'a NamedCredential, callers: &[Name]) -> Option<&'a Principal> {
    named.external.as_ref().and_then(|external| external.principal(callers))
}

/// What becomes of a request of a caller that uses us as its proxy.
enum Proxied<'a> {
    Routed(&'a Arc<NamedCredential>, usize),
    PassThrough(Arc<NamedCredential>),
    Tunnel(Box<Endpoint>),
}

fn proxied<'a>(
    asked: &Asked,
    parts: &Parts,
    (plan, context): (&'a Plan, &Context<'_>),
    found: &mut Found,
) -> Result<Proxied<'a>, Stop> {
    found.asked = Some(asked.told(&parts.method));
    if parts.method == Method::CONNECT {
        return asked.tunnel().map(|endpoint| Proxied::Tunnel(Box::new(endpoint)));
    }
    refuse_trace(&parts.method)?;
    let covered = asked.covered(parts, plan, context.connection)?;
    // What is passed through has nothing of ours, and pages are made of what other hosts serve.
    if !matches!(covered, Covered::PassThrough(_)) {
        refuse_other_pages(asked, parts, context.connection)?;
    }
    match covered {
        Covered::Named(named, prefix) => {
            found.named = Some(Arc::clone(named));
            inspect(parts.uri.path(), named.settings.path)?;
            if named.settings.enabled { Ok(Proxied::Routed(named, prefix)) } else { Err(Stop::new(Failure::Disabled)) }
        }
        Covered::PassThrough(named) => Ok(Proxied::PassThrough(named)),
        Covered::Ourselves => route(plan, parts, found).map(|(named, prefix)| Proxied::Routed(named, prefix)),
    }
}

/// Our credential is not for a page of another site, where no caller has to prove that it is none.
fn refuse_other_pages(asked: &Asked, parts: &Parts, connection: &Connection) -> Result<(), Stop> {
    let allowed_origins = &connection.listener.allowed_origins;
    let rules = BrowserRules { scheme: asked.scheme(), hosts: Hosts::Any, allowed_origins };
    if admits_everyone(connection) && browser::refers_from_elsewhere(authority(parts), &parts.headers, rules) {
        return Err(Stop::new(Failure::CrossSite));
    }
    Ok(())
}

/// RFC 9112 3.2.2, RFC 9113 8.3.1: the authority of the target, where it has one, replaces `Host`. Where we are no proxy
/// it has to be ours.
fn adopt_authority(parts: &mut Parts, connection: &Connection, asked: Option<&Asked>) -> Result<(), Stop> {
    let Some(authority) = parts.uri.authority() else {
        return Ok(());
    };
    if asked.is_none() && parts.uri.scheme_str() != Some(connection.scheme()) {
        return Err(Stop::new(Failure::Misdirected));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Stop::new(Failure::BadTarget))?;
    parts.headers.insert(HOST, host);
    let target = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    parts.uri = Uri::from(target);
    Ok(())
}

/// Whether a web page is behind the request, and whether this authority is ours.
fn judge((parts, present): (&Parts, Presence), plan: &Plan, connection: &Connection, asked: Option<&Asked>) -> Verdict {
    let names_host = |authority: &str| plan.routes.names_host(authority);
    let listener = &connection.listener;
    let hosts = match listener.address {
        // What a proxy is asked for is no name of its own, and only a browser that was told to asks in absolute-form.
        Address::Tcp(_) | Address::Unix(_) if asked.is_some() => Hosts::Any,
        Address::Tcp(_) if listener.address.is_local() => Hosts::Loopback(&names_host),
        Address::Tcp(_) | Address::Unix(_) => Hosts::Any,
    };
    let scheme = asked.map_or(connection.scheme(), Asked::scheme);
    let rules = BrowserRules { scheme, hosts, allowed_origins: &listener.allowed_origins };
    browser::judge(&parts.method, authority(parts), (&parts.headers, present), rules)
}

fn authority(parts: &Parts) -> Option<&str> {
    parts.headers.get(HOST).and_then(|host| host.to_str().ok())
}

/// Whether the listener lets callers in that prove nothing.
fn admits_everyone(connection: &Connection) -> bool {
    let listener = &connection.listener;
    listener.callers.is_none() && (listener.address.is_local() || listener.dangerous_anonymous_callers)
}

/// An unknown caller passes only where the listener admits everyone; where it names its callers, nobody else passes.
fn admit(callers: &[Name], connection: &Connection) -> Result<(), Stop> {
    let listener = &connection.listener;
    if callers.is_empty() && !listener.address.is_local() && !listener.dangerous_anonymous_callers {
        return Err(Stop::new(Failure::CallerUnknown));
    }
    if let Some(allowed) = &listener.callers
        && !callers.iter().any(|caller| allowed.contains(caller))
    {
        let failure = if callers.is_empty() { Failure::CallerUnknown } else { Failure::CallerNotAllowed };
        return Err(Stop::with(failure, "this listener is for other callers"));
    }
    Ok(())
}

/// RFC 9110 9.3.6, 9.3.8: methods that no named credential can let through.
fn not_here() -> Stop {
    Stop::not_allowed(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
}

fn route<'a>(plan: &'a Plan, parts: &Parts, found: &mut Found) -> Result<(&'a Arc<NamedCredential>, usize), Stop> {
    refuse_trace(&parts.method)?;
    let path = parts.uri.path();
    let inspected = target::inspect(path).map_err(unsafe_target)?;
    let host = if plan.routes.tells_hosts_apart() { authority(parts) } else { None };
    let route = plan.routes.route(host, path, &parts.method);
    if let Route::Found { value, .. } | Route::MethodNotAllowed { value, .. } = &route {
        found.named = Some(Arc::clone(value));
    }
    match route {
        Route::Found { value, .. } if !value.settings.enabled => Err(Stop::new(Failure::Disabled)),
        Route::Found { value, prefix } => {
            value.settings.path.judge(path, inspected).map_err(unsafe_target)?;
            Ok((value, prefix))
        }
        Route::MethodNotAllowed { allow, .. } => Err(Stop::not_allowed(allow.clone())),
        Route::NotFound => {
            PathRules::default().judge(path, inspected).map_err(unsafe_target)?;
            Err(Stop::new(Failure::NoMatch))
        }
    }
}

fn refuse_trace(method: &Method) -> Result<(), Stop> {
    if *method == Method::TRACE { Err(not_here()) } else { Ok(()) }
}

fn inspect(path: &str, rules: PathRules) -> Result<(), Stop> {
    target::inspect(path).and_then(|inspected| rules.judge(path, inspected)).map_err(unsafe_target)
}

fn unsafe_target(error: UnsafeTarget) -> Stop {
    Stop::with(Failure::BadTarget, error.to_string())
}

/// The named credential must admit one of the callers, and so must one of its principals: the result, unless it has no
/// external credential.
fn permit<'a>(named: &'a NamedCredential, callers: &[Name]) -> Result<Option<&'a Principal>, Stop> {
    if let Some(allowed) = &named.settings.callers
        && !callers.iter().any(|caller| allowed.contains(caller))
    {
        return Err(Stop::new(Failure::CallerNotAllowed));
    }
    let principal = principal(named, callers);
    if let (Some(external), None) = (&named.external, principal) {
        let detail = format!("no principal of the external credential {} admits this caller", external.name());
        return Err(Stop::with(Failure::CallerNotAllowed, detail));
    }
    Ok(principal)
}

fn no_content(fields: HeaderMap) -> Response<AnswerBody> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    *answer.headers_mut() = fields;
    answer
}
