//! `url` and `path` of a named credential: where it leads, and which paths may lead there.

use std::path::PathBuf;

use super::context::Context;
use super::{host, http_proxy, tls};
use crate::config::document::{
    Allowance as WrittenAllowance, Http as WrittenHttp, NamedCredential as Written, Path as WrittenPath,
    Url as WrittenUrl, UrlFromToken,
};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::config::url::{Url, path_fault};
use crate::connect::Addresses;
use crate::proxy::settings::FromToken;
use crate::target::{Allowance, PathRules};
use crate::token::{self, ClientAuthentication};
use crate::upstream::{Endpoint, Http};

const ALLOW_HELP: &str = "list the hosts that may stand there: allow = [\"*.my.salesforce.com\"]";

/// Where a named credential leads.
pub(super) struct Upstream {
    pub(super) endpoint: Endpoint,
    pub(super) from_token: Option<Box<FromToken>>,
    /// The path that matched paths are appended to.
    pub(super) base_path: String,
}

/// The upstream; `attached` is the external credential whose token is sent there.
pub(super) fn resolve(
    context: &Context<'_>,
    node: NodeId,
    written: &Written,
    attached: Option<&token::Settings>,
) -> Option<Upstream> {
    let help = "write where the API is: url = \"https://api.example.com/v1\"";
    let (at, url) = context.findings.required(&written.url, node, "url", help)?;
    match url {
        WrittenUrl::Text(text) => fixed(context, (node, at), text, written, attached),
        WrittenUrl::Table(table) => from_token(context, (node, at), table, written, attached),
    }
}

fn fixed(
    context: &Context<'_>,
    (node, at): (NodeId, NodeId),
    text: &str,
    written: &Written,
    attached: Option<&token::Settings>,
) -> Option<Upstream> {
    let findings = context.findings;
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
    if !url.is_https && !url.is_loopback() && !accepts_plain_http(context, node, written) {
        let message = "the token would travel over plain HTTP to another machine";
        findings.error(at, message, "write https://, or accept it with dangerous = { plain_http = true }");
    }
    let tls = match url.is_https {
        true => Some(tls::profile_as(context, at, &written.tls, bound_to(context, written, attached))?),
        false => tls::none(context, &written.tls).and(None),
    };
    let addresses = context.addresses(node, &written.dangerous, Addresses::CONFIGURED);
    context.judge_address(at, Some(&url), addresses);
    let http_proxy = http_proxy::of(context, &written.http_proxy, url.is_https)?;
    let base_path = url.path.strip_suffix('/').unwrap_or(&url.path).to_owned();
    let endpoint = Endpoint { http: http(&written.http), http_proxy, addresses, ..Endpoint::new(tls, url.authority) };
    if let Some((at, _)) = written.http.get()
        && endpoint.http == Http::Http2
        && endpoint.tls.is_none()
        && endpoint.proxy().is_some()
    {
        let help = "write https://, leave out `http`, or name the host in http_proxy.no_proxy";
        findings.error(at, "HTTP/2 without TLS does not go through an HTTP proxy", help);
    }
    Some(Upstream { endpoint, from_token: None, base_path })
}

fn http(field: &Field<WrittenHttp>) -> Http {
    match field.value() {
        Some(WrittenHttp::Auto) | None => Http::Auto,
        Some(WrittenHttp::Http1) => Http::Http1,
        Some(WrittenHttp::Http2) => Http::Http2,
    }
}

fn from_token(
    context: &Context<'_>,
    (node, at): (NodeId, NodeId),
    table: &UrlFromToken,
    written: &Written,
    attached: Option<&token::Settings>,
) -> Option<Upstream> {
    let findings = context.findings;
    let help = "name the place in the token endpoint's answer: from_token = \"/instance_url\"";
    let pointer = findings.required(&table.from_token, at, "from_token", help);
    let pointer = pointer.and_then(|(at, text)| pointer_to(context, at, text, attached));
    let allow = findings.required(&table.allow, at, "allow", ALLOW_HELP).map(|(at, items)| {
        if items.is_empty() {
            findings.error(at, "this list allows no host", ALLOW_HELP);
        }
        host::rules(context, &table.allow)
    });
    let base_path = match table.path.get() {
        None if table.path.is_wrong() => None,
        None => Some(String::new()),
        Some((at, text)) => base_path(context, at, text),
    };
    is_asked(context, at, written, attached)?;
    let tls = tls::profile_as(context, at, &written.tls, bound_to(context, written, attached));
    let addresses = context.addresses(node, &written.dangerous, Addresses::FOREIGN);
    let http_proxy = http_proxy::of(context, &written.http_proxy, true)?;
    let from_token = FromToken {
        pointer: pointer?,
        allow: allow?,
        dangerous_plain_http: accepts_plain_http(context, node, written),
    };
    let endpoint = Endpoint {
        http: http(&written.http),
        http_proxy,
        addresses,
        ..Endpoint::new(Some(tls?), FromToken::AUTHORITY.parse().ok()?)
    };
    Some(Upstream { endpoint, from_token: Some(Box::new(from_token)), base_path: base_path? })
}

/// Only where a token endpoint is asked is there an answer to look into.
fn is_asked(context: &Context<'_>, at: NodeId, written: &Written, attached: Option<&token::Settings>) -> Option<()> {
    let message = match attached {
        Some(settings) if settings.request().is_some() => return Some(()),
        Some(_) => "the flow of the external credential asks no token endpoint, so there is no answer to look into",
        None if written.external_credential.node().is_none() => "there is no token, so nothing says where to call",
        None if written.generate_authorization_header.value() == Some(&false) => {
            "without the token nothing says where to call"
        }
        // The external credential is wrong or not there, which has been said.
        None => return None,
    };
    let help = "write the URL itself: url = \"https://api.example.com/v1\"";
    context.findings.error(at, message, help);
    None
}

fn pointer_to(context: &Context<'_>, at: NodeId, text: &str, attached: Option<&token::Settings>) -> Option<String> {
    let pointer = super::external::pointer(context, at, text)?;
    let is_secret = |name: &str| ["access_token", "refresh_token", "id_token"].contains(&name);
    let token = attached.and_then(token::Settings::request).map(|request| request.response.token.as_str());
    if pointer.is_empty() || token == Some(&*pointer) || pointer.rsplit('/').next().is_some_and(is_secret) {
        let help = "name the member that holds the URL: from_token = \"/instance_url\"";
        context.findings.error(at, "a token is no URL", help);
        return None;
    }
    Some(pointer)
}

fn base_path(context: &Context<'_>, at: NodeId, text: &str) -> Option<String> {
    let fault = match text.starts_with('/') {
        true => path_fault(text),
        false => Some(("a path begins with a slash", "write it like \"/services/data\"")),
    };
    match fault {
        Some((message, help)) => {
            context.findings.error(at, message, help);
            None
        }
        None => Some(text.strip_suffix('/').unwrap_or(text).to_owned()),
    }
}

fn accepts_plain_http(context: &Context<'_>, node: NodeId, written: &Written) -> bool {
    context.accepts(node, &written.dangerous, "plain_http", |dangers| &dangers.plain_http)
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

/// `path`
pub(super) fn path(field: &Field<WrittenPath>) -> Option<PathRules> {
    let written = match field {
        Field::Missing => return Some(PathRules::default()),
        Field::Wrong(_) => return None,
        Field::Set(_, written) => written,
    };
    let usual = PathRules::default();
    Some(PathRules {
        encoded_slash: allowance(&written.encoded_slash, usual.encoded_slash),
        semicolon: allowance(&written.semicolon, usual.semicolon),
        double_slash: allowance(&written.double_slash, usual.double_slash),
    })
}

fn allowance(field: &Field<WrittenAllowance>, usual: Allowance) -> Allowance {
    match field.value() {
        None => usual,
        Some(WrittenAllowance::Pass) => Allowance::Pass,
        Some(WrittenAllowance::Refuse) => Allowance::Refuse,
    }
}
