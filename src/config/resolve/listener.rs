//! `[listeners.NAME]` and `[admin]`: where we listen, and who may come.

use std::net::SocketAddr;
use std::sync::Arc;

use super::context::Context;
use super::{host, tls};
use crate::config::AdminSettings;
use crate::config::document::{Document, ForwardProxy as WrittenForwardProxy, ForwardProxyTable, Listener};
use crate::config::field::Field;
use crate::config::findings::Findings;
use crate::config::tree::NodeId;
use crate::connect::Addresses;
use crate::server::{Address, ForwardProxy, ListenerSettings};

const ADDRESS_HELP: &str =
    "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\", or \"unix:./keybearer.sock\"";

/// Every listener that is described well.
pub(super) fn resolve(context: &Context<'_>, document: &Document) -> Vec<ListenerSettings> {
    let mut taken = Vec::new();
    let admin = document.admin.value().and_then(|admin| admin.address.get());
    let admin = admin.and_then(|(node, text)| Some((node, parse(context, node, text)?)));
    let mut listeners = Vec::new();
    for (name, field) in document.listeners.value().into_iter().flat_map(|entries| entries.iter()) {
        let Some((node, listener)) = field.get() else { continue };
        let name = context.name(node, name);
        let address = address(context, node, listener);
        let tls = tls::terminator(context, &listener.tls);
        let allowed_origins = origins(context, &listener.allowed_origins);
        let callers = context.callers(&listener.callers);
        let Some((at, address)) = address else { continue };
        claim(context, &mut taken, at, &address);
        let anonymous =
            context.accepts(node, &listener.dangerous, "anonymous_callers", |dangers| &dangers.anonymous_callers);
        if !address.is_local() && !anonymous && !context.names_callers() {
            let message = "others can reach this listener, and no callers are named";
            let help = "name them in [callers.NAME] tables, listen on 127.0.0.1, or accept everyone with \
                        dangerous = { anonymous_callers = true }";
            context.findings.error(at, message, help);
        }
        let forward_proxy = forward_proxy(context, node, listener);
        let Some(name) = name else { continue };
        let settings = ListenerSettings {
            allowed_origins,
            dangerous_anonymous_callers: anonymous,
            callers,
            forward_proxy: forward_proxy.flatten().map(Arc::new),
            tls,
            ..ListenerSettings::new(name, address)
        };
        listeners.push(settings);
    }
    if let Some((node, address)) = admin {
        claim(context, &mut taken, node, &address);
    }
    listeners
}

/// `forward_proxy`; none where something was reported.
fn forward_proxy(context: &Context<'_>, node: NodeId, listener: &Listener) -> Option<Option<ForwardProxy>> {
    let missing = ForwardProxyTable::default();
    if listener.forward_proxy.is_wrong() {
        return None;
    }
    let (at, written) = match listener.forward_proxy.get() {
        None | Some((_, WrittenForwardProxy::Boolean(false))) => {
            if let Some(dangers) = listener.dangerous.value() {
                for danger in [&dangers.private, &dangers.link_local] {
                    let help = "leave it out, or set forward_proxy: what callers name is what it is about";
                    context.has_no_effect(danger.node(), "this has no effect without forward_proxy", help);
                }
            }
            return Some(None);
        }
        Some((at, WrittenForwardProxy::Boolean(true))) => (at, &missing),
        Some((at, WrittenForwardProxy::Table(table))) => (at, table),
    };
    let addresses = Addresses {
        private: context.accepts(node, &listener.dangerous, "private", |dangers| &dangers.private),
        link_local: context.accepts(node, &listener.dangerous, "link_local", |dangers| &dangers.link_local),
    };
    let passthrough = host::rules(context, &written.passthrough);
    let tunnel = host::rules(context, &written.tunnel);
    let tls = tls::profile(context, at, &Field::Missing)?;
    let http_proxies = context.http_proxies.clone();
    Some(Some(ForwardProxy { passthrough, tunnel, tls, addresses, http_proxies }))
}

/// Warns of what is allowed, but probably not what was meant.
pub(super) fn advise(document: &Document, findings: &Findings<'_>) {
    for (_, field) in document.listeners.value().into_iter().flat_map(|entries| entries.iter()) {
        let Some(listener) = field.value() else { continue };
        let Some((node, written)) = listener.forward_proxy.get() else { continue };
        if matches!(written, WrittenForwardProxy::Boolean(false)) {
            continue;
        }
        let address = listener.address.value().and_then(|text| text.parse::<SocketAddr>().ok());
        if address.is_some_and(|address| !Address::Tcp(address).is_local()) {
            let message = "others can reach this listener and use it as their proxy";
            let help = "listen on 127.0.0.1 where only this machine is to use it; see that [callers.*] name who may, and \
                        that passthrough and tunnel list no more than they need";
            findings.key_warning(node, message, help);
        }
    }
}

/// `[admin]`. Its address has been judged together with those of the listeners.
pub(super) fn admin(context: &Context<'_>, document: &Document) -> Option<AdminSettings> {
    let (_, admin) = document.admin.get()?;
    let callers = context.callers(&admin.callers);
    let (node, text) = admin.address.get()?;
    Some(AdminSettings { address: read(context, node, text)?, callers })
}

fn address(context: &Context<'_>, node: NodeId, listener: &Listener) -> Option<(NodeId, Address)> {
    let (node, text) = context.findings.required(&listener.address, node, "address", ADDRESS_HELP)?;
    parse(context, node, text).map(|address| (node, address))
}

fn parse(context: &Context<'_>, node: NodeId, text: &str) -> Option<Address> {
    let address = read(context, node, text);
    if address.is_none() {
        context.findings.error(node, "this is not an address to listen on", ADDRESS_HELP);
    }
    address
}

fn read(context: &Context<'_>, node: NodeId, text: &str) -> Option<Address> {
    match text.strip_prefix("unix:") {
        Some("") => None,
        Some(path) => Some(Address::Unix(context.path(node, path))),
        None => text.parse::<SocketAddr>().ok().map(Address::Tcp),
    }
}

/// Says so when an address is taken already. Port 0 is a different port each time.
fn claim(context: &Context<'_>, taken: &mut Vec<(NodeId, Address)>, node: NodeId, address: &Address) {
    let is_any_port = matches!(address, Address::Tcp(address) if address.port() == 0);
    let other = taken.iter().find(|(_, other)| other == address && !is_any_port);
    if let Some((other, _)) = other {
        let message = "two listeners cannot have the same address".to_owned();
        context.findings.conflict(node, (*other, "the other one"), message, "change the port of one of them");
    }
    taken.push((node, address.clone()));
}

fn origins(context: &Context<'_>, list: &Field<Vec<Field<String>>>) -> Vec<String> {
    let origins = Context::texts(list).filter_map(|(node, text)| {
        let origin = origin(text);
        if origin.is_none() {
            let help =
                "write scheme, host and, where it is not the default, port: \"https://app.example\"; no path, no `*`";
            context.findings.error(node, "this is not an origin", help);
        }
        origin
    });
    Context::unique(origins.collect::<Vec<_>>())
}

/// An origin as browsers write it (RFC 6454 6.2): lower case, without the scheme's default port.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let authority = host.parse::<http::uri::Authority>().ok()?;
    if !is_scheme || host.contains(['@', '*', '/', '?', '#']) {
        return None;
    }
    let default_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let has_port = authority.as_str() != authority.host();
    match authority.port_u16() {
        None if has_port => None,
        port if port.is_some() && port == default_port => Some(format!("{scheme}://{}", authority.host())),
        _ => Some(format!("{scheme}://{authority}")),
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, expected) in [
            ("https://App.Example", Some("https://app.example")),
            ("https://app.example:443", Some("https://app.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("chrome-extension://abc", Some("chrome-extension://abc")),
            ("https://app.example/", None),
            ("https://*.example", None),
            ("*", None),
            ("null", None),
            ("https://", None),
            ("https://a:", None),
            ("https://u@a", None),
        ] {
            assert_eq!(origin(text).as_deref(), expected, "{text}");
        }
    }
}
