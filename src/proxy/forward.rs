//! Forward-proxy mode: callers that have us as their proxy (`HTTP_PROXY`) ask for targets in absolute-form (RFC 9112
//! 3.2.2) and for tunnels (RFC 9110 9.3.6).
//!
//! Such a caller names the upstream itself, so what it names is held against the named credentials, and what none of
//! them covers is refused unless the listener lists it. A credential goes to the upstream of its named credential and
//! never to what the caller named; no tunnel carries one, because nobody could attach it inside.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method};

use super::plan::{NamedCredential, Plan};
use super::settings::NamedCredential as Settings;
use super::stop::Stop;
use crate::answer::{Detail, Failure};
use crate::connect::{self, NamedBy};
use crate::metrics::NamedCredentialMetrics;
use crate::route::{Match, Route, Router};
use crate::server::{Address, Connection, ForwardProxy, Protocol};
use crate::target::{Host, HostPattern, HostRule};
use crate::upstream::Endpoint;

const UNLISTED: &str = "no named credential covers this host and path; add one whose url or match.host names it, or list \
                        the host under forward_proxy.passthrough of this listener";
const NO_TUNNEL: &str = "a credential cannot be attached inside a tunnel; ask for the http:// URL through this proxy \
                         instead, and keybearer speaks TLS to the upstream, or list the host under forward_proxy.tunnel \
                         of this listener";

/// What callers that use us as their proxy are matched with.
#[derive(Debug)]
pub(super) struct Forward {
    routes: Router<ForwardRoute>,
    /// Where requests are counted that no named credential covers.
    unmatched: NamedCredentialMetrics,
}

/// One of the named credentials.
#[derive(Debug)]
struct ForwardRoute {
    named: Arc<NamedCredential>,
    /// Whether its own `url` is what it is matched by.
    by_url: bool,
}

/// What a caller asked its proxy for.
#[derive(Debug)]
pub(super) struct Asked {
    rules: Arc<ForwardProxy>,
    is_https: bool,
    host: Host,
}

/// What covers a request in absolute-form.
pub(super) enum Covered<'a> {
    /// A named credential, and how many bytes of the path it takes.
    Named(&'a Arc<NamedCredential>, usize),
    /// None; the listener lets the host through as it is.
    PassThrough(Arc<NamedCredential>),
    /// We ourselves: as if the target were in origin-form.
    Ourselves,
}

impl Forward {
    /// Of all `named` that such callers can mean: see [`forward_match`].
    pub(super) fn new<'a>(
        named: impl Iterator<Item = &'a Arc<NamedCredential>>,
        unmatched: NamedCredentialMetrics,
    ) -> Result<Self, crate::route::Conflict> {
        let routes = named.filter_map(|named| {
            let by_url = named.settings.matching.host.is_none();
            Some((forward_match(&named.settings)?, ForwardRoute { named: Arc::clone(named), by_url }))
        });
        Ok(Self { routes: Router::build(routes.collect())?, unmatched })
    }
}

/// By what callers that use us as their proxy mean a named credential: its `match` with a host, otherwise host and path
/// of its `url`; none where the token endpoint's answer says what that is.
#[must_use]
pub fn forward_match(named: &Settings) -> Option<Match> {
    if named.matching.host.is_some() {
        return Some(named.matching.clone());
    }
    let host = Host::parse(&named.endpoint.authority).filter(|_| named.from_token.is_none())?;
    let path = if named.base_path.is_empty() { "/".to_owned() } else { named.base_path.clone() };
    let host = Some(HostPattern::Exact(host.name().to_owned()));
    Some(Match { host, path, methods: named.matching.methods.clone() })
}

impl Asked {
    /// What the target asks a proxy for; none on a listener that is none, and where the target is in origin-form. Over
    /// HTTP/2 every request names an authority, and there are no tunnels here.
    pub(super) fn of(parts: &Parts, connection: &Connection) -> Result<Option<Self>, Stop> {
        let Some(rules) = &connection.listener.forward_proxy else { return Ok(None) };
        let Some(authority) = parts.uri.authority().filter(|_| connection.protocol == Protocol::Http1) else {
            return Ok(None);
        };
        let host = Host::parse(authority).ok_or_else(|| Stop::new(Failure::BadTarget))?;
        let is_https = match parts.uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            // Authority-form: there is no default port (RFC 9110 9.3.6).
            None if parts.method == Method::CONNECT && host.port().is_some() => true,
            _ => return Err(Stop::new(Failure::BadTarget)),
        };
        Ok(Some(Self { rules: Arc::clone(rules), is_https, host }))
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// What covers it.
    pub(super) fn covered<'a>(
        &self,
        parts: &Parts,
        plan: &'a Plan,
        connection: &Connection,
    ) -> Result<Covered<'a>, Stop> {
        let Some(forward) = &plan.forward else { return Err(Stop::new(Failure::Internal)) };
        match forward.routes.route(Some(self.host.name()), parts.uri.path(), &parts.method) {
            Route::Found { value, prefix } if self.means(value) => {
                return Ok(Covered::Named(&value.named, prefix));
            }
            Route::MethodNotAllowed { value, allow } if self.means(value) => {
                return Err(Stop::not_allowed(allow.clone()));
            }
            Route::Found { .. } | Route::MethodNotAllowed { .. } | Route::NotFound => {}
        }
        if self.is_listed(&self.rules.passthrough) {
            let endpoint = self.endpoint().ok_or_else(|| Stop::new(Failure::BadTarget))?;
            let named =
                NamedCredential::passing_through(&connection.listener.name, endpoint, forward.unmatched.clone());
            return Ok(Covered::PassThrough(Arc::new(named)));
        }
        if self.is_ourselves(&connection.listener.address) {
            return Ok(Covered::Ourselves);
        }
        Err(Stop::with(Failure::NoMatch, UNLISTED))
    }

    /// Where the tunnel leads that was asked for.
    pub(super) fn tunnel(&self) -> Result<Endpoint, Stop> {
        if !self.is_listed(&self.rules.tunnel) {
            return Err(no_tunnel(NO_TUNNEL));
        }
        let authority = self.host.authority(0).ok_or_else(|| Stop::new(Failure::BadTarget))?;
        // Mostly TLS is spoken in it, and a proxy lets the same `CONNECT` through that it would get for an https URL.
        let http_proxy = self.rules.http_proxies.of(true);
        Ok(Endpoint {
            http_proxy,
            addresses: self.rules.addresses,
            named_by: NamedBy::Others,
            ..Endpoint::new(None, authority)
        })
    }

    /// What was asked for, without path and query: for the access log.
    pub(super) fn told(&self, method: &Method) -> String {
        let text = |default| self.host.authority(default).map_or_else(String::new, |authority| authority.to_string());
        match (method == Method::CONNECT, self.is_https) {
            (true, _) => text(0),
            (false, true) => format!("https://{}", text(443)),
            (false, false) => format!("http://{}", text(80)),
        }
    }

    fn usual_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }

    fn is_listed(&self, rules: &[HostRule]) -> bool {
        rules.iter().any(|rule| rule.admits(&self.host, self.usual_port()))
    }

    /// Whether the port is one by which the upstream may be meant: none, the usual one of the scheme, or that of the
    /// `url`. With a host of its own to match, ports do not count, as in the `Host` field.
    fn means(&self, route: &ForwardRoute) -> bool {
        let own = || route.named.settings.endpoint.port();
        !route.by_url || self.host.port().is_none_or(|port| port == self.usual_port() || port == own())
    }

    fn endpoint(&self) -> Option<Endpoint> {
        let tls = self.is_https.then(|| Arc::clone(&self.rules.tls));
        let authority = self.host.authority(self.usual_port())?;
        let http_proxy = self.rules.http_proxies.of(self.is_https);
        Some(Endpoint {
            http_proxy,
            addresses: self.rules.addresses,
            named_by: NamedBy::Others,
            ..Endpoint::new(tls, authority)
        })
    }

    /// Whether a caller means the listener that it reached, and sent that through its proxy, too.
    fn is_ourselves(&self, address: &Address) -> bool {
        let Address::Tcp(address) = address else { return false };
        let name = self.host.name();
        let is_here = name.trim_matches(['[', ']']).parse() == Ok(address.ip())
            || (connect::is_loopback(name) && (address.ip().is_loopback() || address.ip().is_unspecified()));
        is_here && !self.is_https && self.host.port().unwrap_or(80) == address.port()
    }
}

/// 405 to `CONNECT`, with a word to the caller.
pub(super) fn no_tunnel(text: &str) -> Stop {
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    let detail = Detail { text: Some(text.to_owned()), allow: Some(allow), ..Detail::default() };
    Stop { failure: Failure::MethodNotAllowed, detail }
}
