//! `http_proxy`, of a credential or of all: the proxy on the way out.

use std::sync::Arc;

use super::context::Context;
use super::secret;
use crate::config::document::{Document, HttpProxy as Written, HttpProxyTable};
use crate::config::field::Field;
use crate::config::tree::NodeId;
use crate::config::url::Url;
use crate::connect::{HttpProxies, HttpProxy};
use crate::secret::Secret;

/// The one for all credentials that say nothing about it. What is wrong with it has been reported and counts as none.
pub(super) fn global(context: &Context<'_>, document: &Document) -> HttpProxies {
    resolve(context, &document.http_proxy).flatten().unwrap_or_default()
}

/// The one that a credential uses for a URL; none where something was reported.
pub(super) fn of(context: &Context<'_>, field: &Field<Written>, is_https: bool) -> Option<Option<Arc<HttpProxy>>> {
    let own = resolve(context, field)?;
    Some(own.as_ref().unwrap_or(&context.http_proxies).of(is_https))
}

/// What the key says; the inner none: it is not there.
fn resolve(context: &Context<'_>, field: &Field<Written>) -> Option<Option<HttpProxies>> {
    match field {
        Field::Missing => Some(None),
        Field::Wrong(_) => None,
        Field::Set(node, proxy) => match &**proxy {
            Written::Boolean(true) => {
                let help = "write \"environment\", or http_proxy = { url = \"http://proxy.example:3128\" }";
                context.findings.error(*node, "this does not say which proxy", help);
                None
            }
            Written::Boolean(false) => Some(Some(HttpProxies::default())),
            Written::Text(_) => environment(context, *node).map(Some),
            Written::Table(table) => Some(Some(HttpProxies::both(written(context, *node, table)?))),
        },
    }
}

/// `"environment"`
fn environment(context: &Context<'_>, node: NodeId) -> Option<HttpProxies> {
    match HttpProxies::from_environment(context.variable) {
        Ok(proxies) => Some(proxies),
        Err(error) => {
            let help = "write it as in http://user:password@proxy.example:3128";
            context.findings.error(node, error.to_string(), help);
            None
        }
    }
}

fn written(context: &Context<'_>, node: NodeId, written: &HttpProxyTable) -> Option<HttpProxy> {
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
    Some(HttpProxy::new(url.authority.host(), port, username, password, no_proxy))
}

fn proxy_url(context: &Context<'_>, node: NodeId, text: &str) -> Option<Url> {
    let url = Url::parse(text).map_err(|(message, help)| context.findings.error(node, message, help)).ok()?;
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
fn login(context: &Context<'_>, written: &HttpProxyTable) -> Option<Option<(Secret, Secret)>> {
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
