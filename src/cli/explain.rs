//! `keybearer explain METHOD URL`: what would become of a request; no network, no secrets needed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use clap::Args;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::{FAILURE, Format, Global, failed};
use crate::app;
use crate::config::{Config, Secrets};
use crate::connect::is_loopback;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::proxy::explain::{self, Explanation, Outgoing, Refused};
use crate::server::{Address, Connection, ListenerSettings};
use crate::token::Minters;
use crate::upstream::Protocol;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Request method
    method: Method,
    /// What the caller would ask for: http://127.0.0.1:8080/orders/42, or only /orders/42
    url: Uri,
    /// A field of the caller's request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The address that the caller comes from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    from: IpAddr,
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| "the name is no field name")?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| "the value cannot be a field value")?;
    Ok((name, value))
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> u8 {
    let config = match global.load(Secrets::Leave) {
        Ok(loaded) => loaded.config,
        Err(status) => return status,
    };
    // The token cells need a runtime to belong to; it is never driven, so nothing is minted.
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let metrics = Metrics::new();
    let mut minters = Minters::new(runtime.handle().clone(), metrics.clone());
    let externals: Vec<_> =
        config.external_credentials.iter().map(|settings| minters.external_credential(settings)).collect();
    let plan = match app::plan(&config, &externals, &metrics) {
        Ok(plan) => plan,
        Err(error) => return failed(&error),
    };
    let Some(listener) = listener(&config, &arguments.url) else {
        return FAILURE;
    };
    let parts = match request(arguments, &listener) {
        Ok(parts) => parts,
        Err(error) => return failed(&error),
    };
    let connection = Connection::new(Peer::Tcp(SocketAddr::new(arguments.from, 0)), listener);
    let explanation = explain::explain(parts, &plan, &connection);
    match global.format {
        Format::Text => anstream::print!("{}", text(&explanation)),
        Format::Json => anstream::println!("{:#}", json(&explanation)),
    }
    if explanation.outcome.is_ok() { 0 } else { FAILURE }
}

/// The listener that the URL's port names; for the URL of another host the first that callers may use as their proxy;
/// otherwise the first.
fn listener(config: &Config, url: &Uri) -> Option<Arc<ListenerSettings>> {
    let port = url.port_u16();
    let named = config.listeners.iter().find(|listener| match &listener.address {
        Address::Tcp(address) => Some(address.port()) == port,
        Address::Unix(_) => false,
    });
    let is_elsewhere = url.host().is_some_and(|host| !is_loopback(host));
    let proxy = || config.listeners.iter().find(|listener| is_elsewhere && listener.forward_proxy.is_some());
    named.or_else(proxy).or_else(|| config.listeners.first()).cloned().map(Arc::new)
}

fn request(arguments: &Arguments, listener: &ListenerSettings) -> Result<Parts, http::Error> {
    let target = arguments.url.path_and_query().map_or("/", |target| target.as_str());
    let host = match (arguments.url.authority(), &listener.address) {
        (Some(authority), _) => authority.to_string(),
        (None, Address::Tcp(address)) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()).to_string(),
        (None, Address::Unix(_)) => "localhost".to_owned(),
    };
    let is_own = arguments.url.port_u16().is_some_and(|port| match &listener.address {
        Address::Tcp(address) => address.port() == port,
        Address::Unix(_) => false,
    });
    let mut request = Request::builder().method(arguments.method.clone()).header("host", host);
    request = match listener.forward_proxy.is_some() && arguments.url.authority().is_some() && !is_own {
        true => request.uri(arguments.url.clone()),
        false => request.uri(target),
    };
    for (name, value) in &arguments.headers {
        request = request.header(name, value);
    }
    Ok(request.body(())?.into_parts().0)
}

fn text(explanation: &Explanation) -> String {
    let mut lines = Vec::new();
    let or_none = |name: Option<String>| name.unwrap_or_else(|| "none".to_owned());
    let callers: Vec<String> = explanation.callers.iter().map(ToString::to_string).collect();
    lines.push(format!("listener             {}", explanation.listener));
    lines.push(format!("caller               {}", or_none((!callers.is_empty()).then(|| callers.join(", ")))));
    if !explanation.unverified.is_empty() {
        let names: Vec<String> = explanation.unverified.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "not verified         {}: the keys of the token's issuer are not asked for here",
            names.join(", ")
        ));
    }
    lines.push(format!(
        "named credential     {}",
        or_none(explanation.named_credential.as_ref().map(ToString::to_string))
    ));
    lines.push(format!(
        "external credential  {}",
        or_none(explanation.external_credential.as_ref().map(ToString::to_string))
    ));
    lines.push(format!("principal            {}", or_none(explanation.principal.as_ref().map(ToString::to_string))));
    lines.push(String::new());
    match &explanation.outcome {
        Ok(outgoing) => head(outgoing, &mut lines),
        Err(Refused { failure: None, detail: Some(detail) }) => lines.push(detail.clone()),
        Err(Refused { failure: None, detail: None }) => {
            lines.push("answered by keybearer itself, nothing is sent on".to_owned())
        }
        Err(Refused { failure: Some(failure), detail }) => {
            let (status, _, title) = failure.row();
            let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            lines.push(format!("refused: {} {title}{detail}", status.as_u16()));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn head(outgoing: &Outgoing, lines: &mut Vec<String>) {
    let way = outgoing.http_proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    lines.push(format!("to {}{way}", outgoing.origin));
    lines.push(String::new());
    lines.push(format!("  {} {} HTTP/{}", outgoing.method, outgoing.target, version(outgoing)));
    for (name, value) in fields(outgoing) {
        lines.push(format!("  {name}: {value}"));
    }
}

fn version(outgoing: &Outgoing) -> &'static str {
    match outgoing.protocol {
        Protocol::Http1 => "1.1",
        Protocol::Http2 => "2",
    }
}

/// Names and values as they are sent: over HTTP/2 the host has another name (RFC 9113 8.3.1).
fn fields(outgoing: &Outgoing) -> impl Iterator<Item = (&str, String)> {
    outgoing.headers.iter().map(|(name, value)| {
        let is_authority = *name == HOST && outgoing.protocol == Protocol::Http2;
        let name = if is_authority { ":authority" } else { name.as_str() };
        (name, String::from_utf8_lossy(value.as_bytes()).into_owned())
    })
}

fn json(explanation: &Explanation) -> serde_json::Value {
    let name = |name: &Option<crate::name::Name>| name.as_ref().map(ToString::to_string);
    let callers: Vec<String> = explanation.callers.iter().map(ToString::to_string).collect();
    let unverified: Vec<String> = explanation.unverified.iter().map(ToString::to_string).collect();
    let (request, refused) = match &explanation.outcome {
        Ok(outgoing) => {
            let headers: Vec<[String; 2]> = fields(outgoing).map(|(name, value)| [name.to_owned(), value]).collect();
            let request = serde_json::json!({
                "origin": outgoing.origin,
                "http_proxy": outgoing.http_proxy,
                "http_version": version(outgoing),
                "method": outgoing.method.as_str(),
                "target": outgoing.target,
                "headers": headers,
            });
            (Some(request), None)
        }
        Err(refused) => {
            let row = refused.failure.map(|failure| failure.row());
            let refused = serde_json::json!({
                "status": row.map(|(status, _, _)| status.as_u16()),
                "error": row.map(|(_, error, _)| error),
                "title": row.map(|(_, _, title)| title),
                "detail": refused.detail,
            });
            (None, Some(refused))
        }
    };
    serde_json::json!({
        "listener": explanation.listener.as_str(),
        "callers": callers,
        "unverified_callers": unverified,
        "named_credential": name(&explanation.named_credential),
        "external_credential": name(&explanation.external_credential),
        "principal": name(&explanation.principal),
        "request": request,
        "refused": refused,
    })
}
