//! What would become of a request, without sending anything: for `keybearer explain`.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::decide::{self, Arrived, Decision, Found};
use super::grpc;
use super::plan::{NamedCredential, Plan};
use super::prepare::{Context, DPOP, Hop, Prepared};
use super::settings::HostHeader;
use crate::access_log::RequestId;
use crate::answer::Failure;
use crate::header::Pseudonym;
use crate::name::Name;
use crate::server::Connection;
use crate::token::Principal;
use crate::upstream::Protocol;

/// What stands in place of a secret.
const MASK: &str = "********";

/// What was found out about a request.
#[derive(Debug)]
pub struct Explanation {
    /// The listener asked about.
    pub listener: Name,
    /// The callers that the request proves to come from.
    pub callers: Vec<Name>,
    /// The callers that a token in the request would prove, were its signature good: to verify it, its issuer's keys
    /// would have to be fetched.
    pub unverified: Vec<Name>,
    /// The named credential that matches.
    pub named_credential: Option<Name>,
    /// Its external credential.
    pub external_credential: Option<Name>,
    /// The principal whose token would be attached.
    pub principal: Option<Name>,
    /// The outgoing request, or why there is none.
    pub outcome: Result<Outgoing, Refused>,
}

/// A request as it would leave, secrets masked.
#[derive(Debug)]
pub struct Outgoing {
    /// The upstream's scheme and authority.
    pub origin: String,
    /// Host and port of the proxy on the way, where there is one.
    pub http_proxy: Option<String>,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The version of HTTP that is spoken with the upstream.
    pub protocol: Protocol,
    /// Header section, with what is said for this hop alone.
    pub headers: HeaderMap,
}

/// A request that we would answer ourselves.
#[derive(Debug)]
pub struct Refused {
    /// The failure; none when it is not one, such as a CORS preflight.
    pub failure: Option<Failure>,
    /// Why, where there is more to say than the failure's title.
    pub detail: Option<String>,
}

/// Explains a request that came over `connection`.
#[must_use]
pub fn explain(parts: Parts, plan: &Plan, connection: &Connection) -> Explanation {
    let mut found = Found::default();
    let pseudonym = Pseudonym::default();
    let id = RequestId::fixed("explained");
    let context = Context { connection, pseudonym: &pseudonym, id: &id, has_secrets: false };
    let mut parts = parts;
    if grpc::is_call(&parts.headers) {
        // It comes over HTTP/2, or not at all.
        parts.version = Version::HTTP_2;
    }
    let mut unverified = Vec::new();
    let decided = match decide::arrive(&mut parts, plan, connection, &mut found) {
        Ok(Arrived::Answer(answer)) => Ok(Decision::Answer(answer)),
        Ok(Arrived::Known) => decide::decide(parts, plan, &context, &mut found),
        Ok(Arrived::Pending(pending)) => {
            unverified = pending.candidates().to_vec();
            decide::decide(parts, plan, &context, &mut found)
        }
        Err(stop) => Err(stop),
    };
    let outcome = match (decided, &found.named) {
        (Ok(Decision::Forward(prepared)), Some(named)) => {
            Ok(outgoing(*prepared, named, decide::principal(named, &found.callers)))
        }
        (Ok(Decision::PassThrough(prepared, named)), _) => Ok(outgoing(*prepared, &named, None)),
        (Ok(Decision::Tunnel(_)), _) => {
            Err(Refused { failure: None, detail: Some("a tunnel is opened, and nothing in it is read".to_owned()) })
        }
        (Ok(_), _) => Err(Refused { failure: None, detail: None }),
        (Err(stop), _) => Err(Refused { failure: Some(stop.failure), detail: stop.detail.text }),
    };
    let named = found.named.as_deref();
    Explanation {
        listener: connection.listener.name.clone(),
        named_credential: named.map(|named| named.settings.name.clone()),
        external_credential: named.and_then(|named| named.external.as_ref()).map(|external| external.name().clone()),
        principal: named
            .and_then(|named| decide::principal(named, &found.callers))
            .map(|principal| principal.name().clone()),
        callers: found.callers,
        unverified,
        outcome,
    }
}

fn outgoing(prepared: Prepared, named: &NamedCredential, principal: Option<&Principal>) -> Outgoing {
    let protocol = prepared.protocol;
    let expects = prepared.expects && protocol == Protocol::Http1;
    let mut headers = prepared.headers.clone();
    for (name, value) in prepared.say(Hop { protocol, expects }) {
        headers.insert(name, value);
    }
    if let Some(principal) = principal.filter(|principal| named.attaches_token() && principal.has_tokens()) {
        let masked = principal.scheme().map_or_else(|| MASK.to_owned(), |scheme| format!("{scheme} {MASK}"));
        if let Ok(value) = HeaderValue::try_from(masked) {
            headers.insert(named.injected().clone(), value);
        }
        if prepared.cell.is_some_and(|cell| cell.dpop().is_some()) {
            headers.insert(DPOP, HeaderValue::from_static(MASK));
        }
    }
    // Fields that the operator configured may hold keys of their own. A formula may have left its field out.
    for (name, _) in named.fields() {
        if let Some(value) = headers.get_mut(name) {
            *value = HeaderValue::from_static(MASK);
        }
    }
    let endpoint = &named.settings.endpoint;
    let origin = match &named.settings.from_token {
        Some(from) => {
            if named.settings.host_header == HostHeader::Upstream {
                headers.insert(HOST, HeaderValue::from_static("(from the token endpoint's answer)"));
            }
            format!("the upstream at {} of the token endpoint's answer", from.pointer)
        }
        None => format!("{}://{}", endpoint.scheme(), endpoint.authority),
    };
    Outgoing {
        origin,
        http_proxy: endpoint.proxy().map(|proxy| format!("{}:{}", proxy.host, proxy.port)),
        protocol,
        method: prepared.method,
        target: prepared.target.to_string(),
        headers,
    }
}
