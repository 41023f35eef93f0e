//! The token endpoint, or the issuer that names it, and the way there.

use std::sync::Arc;

use crate::config::document::{ExternalCredential, HttpProxy as Written};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::resolve::{secret, tls};
use crate::config::tree::NodeId;
use crate::config::url::Url;
use crate::connect::HttpProxy;
use crate::secret::Secret;
use crate::token::Endpoint;

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Option<Endpoint> {
    const HELP: &str = "write the URL that gives out tokens: token_endpoint = \"https://…\"; or issuer = \"https://…\", \
                        where the issuer publishes its metadata";
    let findings = context.findings;
    let timeout = context.positive_or(&written.timeout, 10);
    let http_proxy = http_proxy(context, &written.http_proxy);
    let accepted = context.accepts(node, &written.dangerous, "plain_http", |dangers| &dangers.plain_http);
    let issuer = written.issuer.get().map(|(at, text)| (at, self::issuer(context, at, text)));
    if written.issuer.node().is_none() && !findings.is_misspelt(node, "issuer") {
        findings.required(&written.token_endpoint, node, "token_endpoint", HELP);
    }
    let token_endpoint = written.token_endpoint.get().map(|(at, text)| (at, url(context, at, text)));
    for (at, url) in [&issuer, &token_endpoint].into_iter().flatten() {
        if url.as_ref().is_some_and(|url| !url.is_https && !url.is_loopback()) && !accepted {
            let message = "the client secret would travel over plain HTTP to another machine";
            findings.error(*at, message, "write https://, or accept it with dangerous = { plain_http = true }");
        }
    }
    if written.issuer.is_wrong() || written.token_endpoint.is_wrong() {
        return None;
    }
    let asked = token_endpoint.as_ref().or(issuer.as_ref()).and_then(|(at, url)| Some((*at, url.as_ref()?)));
    let (at, first) = asked?;
    let tls = if first.is_https { tls::profile(context, at, &written.tls) } else { tls::none(context, &written.tls) };
    let url = match &token_endpoint {
        Some((_, url)) => Some(url.as_ref()?.to_uri()?),
        None => None,
    };
    // As it is written: it is compared byte for byte (RFC 8414 3.3).
    let issuer = match issuer {
        Some((_, Some(_))) => written.issuer.value().cloned(),
        Some((_, None)) => return None,
        None => None,
    };
    Some(Endpoint {
        url,
        issuer,
        dangerous_plain_http: accepted,
        tls: tls?,
        http_proxy: http_proxy?.map(Arc::new),
        timeout: timeout?,
        longest_answer: context.longest_answer,
    })
}

fn url(context: &Context<'_>, node: NodeId, text: &str) -> Option<Url> {
    Url::parse(text).map_err(|(message, help)| context.findings.error(node, message, help)).ok()
}

/// RFC 8414 2: no query and no fragment.
fn issuer(context: &Context<'_>, node: NodeId, text: &str) -> Option<Url> {
    let url = url(context, node, text)?;
    if url.query.is_some() {
        let help = "leave out `?` and what comes after it; a token endpoint with a query is `token_endpoint`";
        context.findings.error(node, "an issuer has no query", help);
        return None;
    }
    Some(url)
}

/// None where something was reported.
fn http_proxy(context: &Context<'_>, field: &Field<Written>) -> Option<Option<HttpProxy>> {
    let (node, written) = match field {
        Field::Missing => return Some(None),
        Field::Wrong(_) => return None,
        Field::Set(node, written) => (*node, written),
    };
    let help = "write http_proxy = { url = \"http://proxy.example:3128\" }";
    let url = context.findings.required(&written.url, node, "url", help);
    let url = url.and_then(|(at, text)| proxy_url(context, at, text));
    let login = login(context, written);
    let hosts: Vec<_> = Context::texts(&written.no_proxy).collect();
    for (at, host) in &hosts {
        if host.is_empty()
            || host.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == ',')
            || host.contains("://")
        {
            let help = "write a name, a suffix such as \".internal\", an address, a network such as \"10.0.0.0/8\", or \
                        \"*\"";
            context.findings.error(*at, "this is not a host to reach without the proxy", help);
        }
    }
    let url = url?;
    let port = url.authority.port_u16().unwrap_or(80);
    let no_proxy = hosts.into_iter().map(|(_, host)| host.to_owned()).collect();
    let login = login?;
    let username = login.as_ref().map(|(username, _)| username.expose());
    let password = login.as_ref().map(|(_, password)| password);
    Some(Some(HttpProxy::new(url.authority.host(), port, username, password, no_proxy)))
}

fn proxy_url(context: &Context<'_>, node: NodeId, text: &str) -> Option<Url> {
    let url = url(context, node, text)?;
    let fault = if url.is_https {
        Some((
            "a proxy is spoken to over plain HTTP",
            "write http://; what goes through it to an https URL is encrypted",
        ))
    } else if url.path != "/" || url.query.is_some() {
        Some(("the URL of a proxy is a host and a port", "leave out the path and the query"))
    } else {
        None
    };
    match fault {
        Some((message, help)) => {
            context.findings.error(node, message, help);
            None
        }
        None => Some(url),
    }
}

/// User name and password for the proxy; none where something was reported.
fn login(context: &Context<'_>, written: &Written) -> Option<Option<(Secret, Secret)>> {
    let findings = context.findings;
    let username = match &written.username {
        Field::Missing => {
            if let Some(at) = written.password.node() {
                findings.key_error(at, "a password needs its user name", "add `username`");
            }
            return Some(None);
        }
        Field::Wrong(_) => return None,
        Field::Set(..) => secret::text_or_secret(context, &written.username)?,
    };
    let at = written.username.node()?;
    if written.password.node().is_none() {
        findings.key_error(at, "a user name needs its password", "add password = { env = \"NAME\" }");
        return None;
    }
    let password = secret::field(context, &written.password)?;
    if username.expose().contains(':') {
        findings.error(
            at,
            "a user name holds no colon (RFC 7617 2)",
            "write the name alone; the rest is the `password`",
        );
        return None;
    }
    Some(Some((username, password)))
}
