//! The way of a request's head through this room, for the fuzz targets.

use http::request::Parts;
use http::{HeaderValue, Request};

use super::decide::{self, Arrived, Decision, Found};
use super::plan::Plan;
use super::prepare::{Context, Hop};
use crate::access_log::RequestId;
use crate::header::Pseudonym;
use crate::server::Connection;
use crate::upstream::{Endpoint, Protocol};

/// The head that would be sent for one that came over `connection`, with `token` where it belongs, and where to; none
/// when the request goes nowhere.
pub fn outgoing(
    mut parts: Parts,
    plan: &Plan,
    connection: &Connection,
    token: &HeaderValue,
) -> Option<(Request<()>, Endpoint, Protocol)> {
    let mut found = Found::default();
    let pseudonym = Pseudonym::default();
    let id = RequestId::fixed("fuzzed");
    let context = Context { connection, pseudonym: &pseudonym, id: &id, has_secrets: true };
    let Ok(Arrived::Known) = decide::arrive(&mut parts, plan, connection, &mut found) else { return None };
    let Ok(Decision::Forward(prepared)) = decide::decide(parts, plan, &context, &mut found) else { return None };
    let named = found.named?;
    let (mut request, hop) = (Request::new(()), Hop { protocol: prepared.protocol, expects: prepared.expects });
    *request.method_mut() = prepared.method.clone();
    *request.uri_mut() = prepared.target.clone();
    *request.headers_mut() = prepared.headers.clone();
    prepared.say(hop, request.headers_mut());
    request.headers_mut().insert(named.injected(), token.clone());
    Some((request, named.settings.endpoint.clone(), hop.protocol))
}
