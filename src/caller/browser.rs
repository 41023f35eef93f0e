//! Web pages are no callers: a browser on this machine, or one that reaches the listener, must not lend a page our
//! tokens (Fetch metadata, WHATWG Fetch 3.2 for CORS, and DNS rebinding).
//!
//! Judged before a caller is identified, because a preflight carries no key, and before a token is touched.

use std::net::IpAddr;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, REFERER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::header::{self, Presence};

#[cfg(test)]
mod tests;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// What a listener demands of authorities and origins.
#[derive(Clone, Copy)]
pub struct BrowserRules<'a> {
    /// `http` or `https`: that of the listener's own origin, or of what its caller asks a proxy for.
    pub scheme: &'static str,
    /// Which authorities it answers to.
    pub hosts: Hosts<'a>,
    /// Serialised origins (`https://app.example`) whose pages may call; lower case.
    pub allowed_origins: &'a [String],
}

/// Which authorities a listener answers to.
#[derive(Clone, Copy)]
pub enum Hosts<'a> {
    /// A loopback listener: loopback literals, `localhost`, and hosts that a match names (the predicate gets the
    /// authority as the caller sent it). A page whose name was rebound to 127.0.0.1 still sends that name.
    Loopback(&'a dyn Fn(&str) -> bool),
    /// Any: a listener that others reach by names we cannot know, and a Unix socket, which no browser can reach.
    Any,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No page, or a page of the listener's own origin.
    Pass,
    /// A page of an allowed origin: the answer, ours or the upstream's, must say so.
    CrossOrigin(AllowedOrigin),
    /// A page of an allowed origin asks whether it may send a request: answer 204 with these fields, forward nothing.
    Preflight(HeaderMap),
    /// Another site's page: 403.
    CrossSite,
    /// An authority that is not ours: 421.
    Misdirected,
}

/// The origin of a page that may read the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin(HeaderValue);

impl AllowedOrigin {
    /// Lets the page read the answer: the upstream's own word on who may read it was meant for other origins.
    pub fn apply(self, answer: &mut HeaderMap) {
        // Cookies are no proof here, so no page needs to send them.
        answer.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        answer.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// Judges a request by what a browser cannot help saying about the page behind it.
///
/// `present` is what `headers` may hold. `authority` is that of an absolute-form target, else the `Host` field; none only in HTTP/1.0, which no browser
/// speaks. A caller that is no browser sends neither `Origin` nor `Sec-Fetch-Site` and meets only the authority rule.
#[must_use]
pub fn judge(
    method: &Method,
    authority: Option<&str>,
    (headers, present): (&HeaderMap, Presence),
    rules: BrowserRules<'_>,
) -> Verdict {
    if authority.is_some_and(|authority| !rules.hosts.include(authority)) {
        return Verdict::Misdirected;
    }
    if !present.has(Presence::ORIGIN.or(Presence::SEC_FETCH_SITE)) {
        return Verdict::Pass;
    }
    match origin(headers, authority, rules) {
        Origin::Refused => Verdict::CrossSite,
        Origin::Allowed(origin) if is_preflight(method, headers) => Verdict::Preflight(preflight(origin, headers)),
        Origin::Allowed(origin) => Verdict::CrossOrigin(AllowedOrigin(origin.clone())),
        Origin::Absent | Origin::Own if is_from_other_site(headers) => Verdict::CrossSite,
        Origin::Absent | Origin::Own => Verdict::Pass,
    }
}

/// Whether a page of another origin stands behind a request to a proxy, and says so in `Referer` alone.
///
/// A browser that has us as its proxy sends what every page loads through us, and to plain HTTP it adds no
/// `Sec-Fetch-Site` and, with a simple GET, no `Origin`. A page can see to it that no `Referer` is sent either.
#[must_use]
pub fn refers_from_elsewhere(authority: Option<&str>, headers: &HeaderMap, rules: BrowserRules<'_>) -> bool {
    // An `Origin` was judged, and is the better word.
    let is_judged = headers.contains_key(ORIGIN);
    !is_judged && headers.get_all(REFERER).iter().any(|value| is_another_page(value, authority, rules))
}

/// A relative reference (RFC 9110 10.1.3) is relative to the target; no browser sends one.
fn is_another_page(referer: &HeaderValue, authority: Option<&str>, rules: BrowserRules<'_>) -> bool {
    let Ok(text) = referer.to_str() else { return true };
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some(origin) = text.get(..scheme.len() + "://".len() + host.len()) else { return true };
    let is_own = authority.is_some_and(|authority| is_own(origin, rules.scheme, authority));
    !is_own && !rules.allowed_origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed))
}

impl Hosts<'_> {
    fn include(self, authority: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Loopback(names_host) => is_loopback(header::host_without_port(authority)) || names_host(authority),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    // What nearly all send is known without being parsed.
    host == "127.0.0.1"
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

enum Origin<'h> {
    Absent,
    Own,
    Allowed(&'h HeaderValue),
    /// Another one, `null`, or more than one.
    Refused,
}

fn origin<'h>(headers: &'h HeaderMap, authority: Option<&str>, rules: BrowserRules<'_>) -> Origin<'h> {
    let mut values = headers.get_all(ORIGIN).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Origin::Absent,
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Origin::Refused,
    };
    let Ok(text) = value.to_str() else { return Origin::Refused };
    if authority.is_some_and(|authority| is_own(text, rules.scheme, authority)) {
        Origin::Own
    } else if text != "null" && rules.allowed_origins.iter().any(|origin| text.eq_ignore_ascii_case(origin)) {
        Origin::Allowed(value)
    } else {
        Origin::Refused
    }
}

/// Whether an origin is this scheme and the authority that was asked for; the scheme's default port may be left out on
/// either side.
fn is_own(origin: &str, scheme: &str, authority: &str) -> bool {
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let without_default_port =
        |text: &'_ str| text.len() - if text.ends_with(default_port) { default_port.len() } else { 0 };
    let Some((of, host)) = origin.split_once("://") else { return false };
    let host = host.get(..without_default_port(host)).unwrap_or(host);
    let authority = authority.get(..without_default_port(authority)).unwrap_or(authority);
    of.eq_ignore_ascii_case(scheme) && !host.is_empty() && host.eq_ignore_ascii_case(authority)
}

/// `same-origin` is our own page and `none` is a person's doing (a typed address, a bookmark). Whatever else stands
/// there, also twice or unknown, is taken for another site.
fn is_from_other_site(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Grants what is asked for: the origin is trusted, and what the page may do is decided when it does it.
fn preflight(origin: &HeaderValue, headers: &HeaderMap) -> HeaderMap {
    let mut answer = HeaderMap::new();
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    for (asked, granted) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        (REQUEST_PRIVATE_NETWORK, ALLOW_PRIVATE_NETWORK),
    ] {
        if let Some(value) = headers.get(asked) {
            answer.insert(granted, value.clone());
        }
    }
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer.insert(
        VARY,
        HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
    );
    answer
}
