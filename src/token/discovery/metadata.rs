//! Asking an issuer for its metadata once, and judging them.
//!
//! Two places: RFC 8414 3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery 4.1 after it.
//! Metadata that name another issuer are not used (RFC 8414 3.3), nor is a URL that would carry a secret in the clear.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use tokio::time::Instant;

use crate::connect::is_loopback;
use crate::fetch::{Limits, fetch};
use crate::token::answer::{Node, printable};
use crate::token::backoff::Pace;
use crate::token::failure::{MintError, MintFailureKind};
use crate::token::settings::Endpoint;

/// Longest document; those of large providers have a few KiB.
const LONGEST_DOCUMENT: usize = 64 * 1024;

/// What is used of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) struct Metadata {
    /// `token_endpoint`
    pub(in crate::token) token_endpoint: Uri,
    /// `mtls_endpoint_aliases.token_endpoint` (RFC 8705 5)
    pub(in crate::token) mtls_token_endpoint: Option<Uri>,
    /// `token_endpoint_auth_methods_supported`; RFC 8414 2: `client_secret_basic` where it is absent.
    pub(in crate::token) authentication_methods: Vec<String>,
}

/// Why one place gave no metadata.
enum Miss {
    /// No document is there, or none can be had.
    Nothing(MintError),
    /// A document is there, and it is not to be used.
    Wrong(MintError),
}

/// Asks for the metadata once, within the endpoint's time-out.
///
/// # Errors
/// [`MintError`] when they cannot be had, or name another issuer (RFC 8414 3.3).
pub(in crate::token) async fn discover(endpoint: &Endpoint) -> Result<Metadata, MintError> {
    let issuer = endpoint.issuer.as_deref().ok_or_else(|| misconfigured("no issuer"))?;
    let [oauth, openid] = places(issuer, endpoint.dangerous_plain_http)?;
    let deadline = Instant::now() + endpoint.timeout;
    // A server that lets unknown paths hang must not take the second place's time as well.
    let first = match ask(endpoint, issuer, oauth, endpoint.timeout / 2).await {
        Ok(metadata) => return Ok(metadata),
        Err(miss) => miss,
    };
    let left = deadline.saturating_duration_since(Instant::now());
    ask(endpoint, issuer, openid, left).await.map_err(|second| more_telling(first, second))
}

/// The token endpoint that the issuer's metadata name, asked for at once: for the commands that explain a failure.
///
/// # Errors
/// [`MintError`] as for any discovery.
pub async fn discover_token_endpoint(endpoint: &Endpoint) -> Result<Uri, MintError> {
    let metadata = discover(endpoint).await?;
    // RFC 8705 5: a client with a certificate goes to the alias.
    let alias = metadata.mtls_token_endpoint.filter(|_| endpoint.tls.settings().identity.is_some());
    Ok(alias.unwrap_or(metadata.token_endpoint))
}

/// Where metadata may stand, in the order in which they are asked for.
fn places(issuer: &str, dangerous_plain_http: bool) -> Result<[Uri; 2], MintError> {
    let url =
        safe_url(issuer, dangerous_plain_http).map_err(|problem| misconfigured(&format!("the issuer {problem}")))?;
    if issuer.contains('?') {
        return Err(misconfigured("the issuer has a query"));
    }
    let path = url.path().trim_end_matches('/');
    let at = |path: String| {
        let mut parts = url.clone().into_parts();
        parts.path_and_query = path.try_into().ok();
        Uri::from_parts(parts).map_err(|_| misconfigured("the issuer cannot be asked"))
    };
    Ok([
        at(format!("/.well-known/oauth-authorization-server{path}"))?,
        at(format!("{path}/.well-known/openid-configuration"))?,
    ])
}

async fn ask(endpoint: &Endpoint, issuer: &str, place: Uri, timeout: Duration) -> Result<Metadata, Miss> {
    let request = Request::get(place)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("keybearer/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::new())
        .map_err(|_| Miss::Nothing(misconfigured("the issuer cannot be asked")))?;
    let way = endpoint.way();
    let limits = Limits { timeout, body: LONGEST_DOCUMENT };
    let answer = fetch(request, way, limits).await.map_err(|error| Miss::Nothing(MintError::unanswered(&error)))?;
    if !answer.status().is_success() {
        return Err(Miss::Nothing(refused(&answer)));
    }
    read(answer.body(), issuer, endpoint.dangerous_plain_http).map_err(Miss::Wrong)
}

fn refused(answer: &Response<Bytes>) -> MintError {
    let status = answer.status();
    let later =
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
    let kind = if later { MintFailureKind::Unavailable } else { MintFailureKind::Unusable };
    let redirect = if status.is_redirection() { ", and a redirect is not followed" } else { "" };
    let cause = format!("no issuer metadata: status {}{redirect}", status.as_u16());
    MintError::new(kind, Pace::Transient, cause)
}

/// A document that is wrong says more than one that is not there, and a failure that may pass more than a refusal.
fn more_telling(first: Miss, second: Miss) -> MintError {
    let ranked = |miss| match miss {
        Miss::Wrong(error) => (2, error),
        Miss::Nothing(error) if error.kind() == MintFailureKind::Unavailable => (1, error),
        Miss::Nothing(error) => (0, error),
    };
    let ((first, earlier), (second, later)) = (ranked(first), ranked(second));
    if first > second { earlier } else { later }
}

/// Judges a document.
fn read(body: &[u8], issuer: &str, dangerous_plain_http: bool) -> Result<Metadata, MintError> {
    let wrong = |problem: &str| MintError::unusable(format!("the issuer's metadata {problem}"));
    let document = Node::from_json(body).ok_or_else(|| wrong("are not JSON"))?;
    let at = |pointer: &str| document.at(pointer).map_err(|_| wrong("hold a member more than once"));
    let named = at("/issuer")?.and_then(Node::text).ok_or_else(|| wrong("name no issuer"))?;
    if named != issuer {
        let detail = format!("configured: {issuer:?}, in the metadata: {:?}", printable(named, 200));
        return Err(wrong("name another issuer").with_detail(detail));
    }
    let url = |pointer: &str| match at(pointer)? {
        None => Ok(None),
        Some(node) => {
            let text = node.text().ok_or_else(|| wrong("have a token endpoint that is not a text"))?;
            let judged = safe_url(text, dangerous_plain_http);
            let url = judged.map_err(|problem| wrong(&format!("have a token endpoint that {problem}")))?;
            Ok::<_, MintError>(Some(url))
        }
    };
    let methods = match at("/token_endpoint_auth_methods_supported")? {
        Some(Node::List(list)) => list.iter().filter_map(Node::text).map(str::to_owned).collect(),
        Some(_) | None => vec!["client_secret_basic".to_owned()],
    };
    Ok(Metadata {
        token_endpoint: url("/token_endpoint")?.ok_or_else(|| wrong("name no token endpoint"))?,
        mtls_token_endpoint: url("/mtls_endpoint_aliases/token_endpoint")?,
        authentication_methods: methods,
    })
}

/// An absolute URL to which a secret may be sent: `https`, or `http` on this machine or where that is allowed; without
/// user name and fragment (RFC 6749 3.2). The error goes on after a subject.
fn safe_url(text: &str, dangerous_plain_http: bool) -> Result<Uri, &'static str> {
    // The parser would drop a fragment and let some bytes pass.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['#', '\\', '"', '<', '>']) {
        return Err("is not a URL, or has a fragment");
    }
    let url: Uri = text.parse().map_err(|_| "is not a URL")?;
    let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else { return Err("is not an absolute URL") };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err("has a user name, or no host");
    }
    let is_safe = *scheme == Scheme::HTTPS
        || (*scheme == Scheme::HTTP && (dangerous_plain_http || is_loopback(authority.host())));
    if is_safe { Ok(url) } else { Err("is not https") }
}

fn misconfigured(problem: &str) -> MintError {
    MintError::new(MintFailureKind::Refused, Pace::Permanent, format!("misconfigured: {problem}"))
}

#[cfg(test)]
mod tests;
