//! The way of a request's head through this room, for the fuzz targets.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};

use super::decide::{self, Arrived, Decision, Found};
use super::plan::Plan;
use super::prepare::{Context, Hop};
use crate::access_log::RequestId;
use crate::header::Pseudonym;
use crate::server::Connection;
use crate::upstream::{Endpoint, Protocol};

/// A head that would be sent, and where to.
pub struct Outgoing {
    /// In origin-form, without the token.
    pub request: Request<()>,
    /// What is set for the sending, the token with it.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// The version of HTTP that is spoken there.
    pub protocol: Protocol,
}

/// The head that would be sent for one that came over `connection`, with `token` where it belongs; none when the request
/// goes nowhere.
pub fn outgoing(mut parts: Parts, plan: &Plan, connection: &Connection, token: &HeaderValue) -> Option<Outgoing> {
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
    let mut set = prepared.say(hop);
    set.push((named.injected().clone(), token.clone()));
    Some(Outgoing { request, set, endpoint: named.settings.endpoint.clone(), protocol: hop.protocol })
}
