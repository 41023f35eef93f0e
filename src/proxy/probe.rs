//! The request that `keybearer doctor` sends to an upstream: its head is made by the same code as a caller's, so that
//! what is tried is what would be sent.

use std::sync::Arc;

use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Request};

use super::fields::Parties;
use super::plan::{NamedCredential, Plan};
use super::prepare::{self, Context};
use crate::access_log::RequestId;
use crate::header::{Presence, Pseudonym};
use crate::name::Name;
use crate::server::Connection;
use crate::target;
use crate::token::Principal;

/// A request head that lacks nothing but the token.
#[derive(Debug)]
pub struct Probe {
    /// `GET`, or `HEAD` where the match admits no other safe method.
    pub method: Method,
    /// The upstream's scheme and authority, as in `https://api.example.com`.
    pub origin: String,
    /// Path and query.
    pub target: String,
    /// Header section.
    pub headers: HeaderMap,
    /// The field that carries the token, and the scheme before it; none: no token is attached.
    pub credential: Option<(HeaderName, Option<String>)>,
}

/// The head of a request of `callers` to `name`, as `principal`; `path` (and query) is what follows the matched prefix,
/// empty for the URL itself.
///
/// # Errors
/// Why there is no such request, as one clause.
pub fn probe(
    plan: &Plan,
    connection: &Connection,
    name: &Name,
    callers: &[Name],
    (principal, path): (Option<&Name>, &str),
) -> Result<Probe, String> {
    let named = plan.routes.values().find(|named| named.settings.name == *name);
    let named = Arc::clone(named.ok_or("there is no such named credential")?);
    let method = method(&named)?;
    let principal = principal.and_then(|wanted| {
        let all = named.external.as_ref().map(|external| external.principals()).unwrap_or_default();
        all.iter().find(|principal| principal.name() == wanted)
    });
    let prefix = named.settings.matching.path.trim_end_matches('/');
    let (asked, cut) = match format!("{prefix}{path}") {
        // The URL itself, behind a match of everything.
        asked if !asked.starts_with('/') => (format!("/{asked}"), 1),
        asked => (asked, prefix.len()),
    };
    let request = Request::builder().method(method.clone()).uri(asked.as_str());
    let request = request.header(ACCEPT, "*/*").header(USER_AGENT, concat!("keybearer/", env!("CARGO_PKG_VERSION")));
    let parts = request.body(()).map_err(|_| "the path cannot be sent")?.into_parts().0;
    let path = parts.uri.path();
    let judged = target::inspect(path).and_then(|inspected| named.settings.path.judge(path, inspected));
    judged.map_err(|error| error.to_string())?;
    let pseudonym = Pseudonym::default();
    let id = RequestId::fixed("doctor");
    let context = Context { connection, pseudonym: &pseudonym, id: &id, has_secrets: true };
    let parties = Parties { named: &named, principal, callers, has_secrets: true };
    let prepared = prepare::prepare((parts, Presence::ANY), cut, parties, plan, &context);
    let prepared = prepared.map_err(|stop| stop.detail.text.unwrap_or_else(|| stop.failure.row().2.to_owned()))?;
    let attached = principal.filter(|_| named.attaches_token());
    Ok(Probe {
        method,
        origin: named.origin.clone(),
        target: prepared.target.to_string(),
        headers: prepared.headers,
        credential: attached.map(|principal| (named.injected().clone(), scheme(principal))),
    })
}

fn method(named: &NamedCredential) -> Result<Method, String> {
    let Some(admitted) = &named.settings.matching.methods else { return Ok(Method::GET) };
    let safe = [Method::GET, Method::HEAD].into_iter().find(|method| admitted.contains(method));
    safe.ok_or_else(|| "match.methods admits neither GET nor HEAD, and nothing else is sent on trial".to_owned())
}

fn scheme(principal: &Principal) -> Option<String> {
    principal.scheme().map(str::to_owned)
}
