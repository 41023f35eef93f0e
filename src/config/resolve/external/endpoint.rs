//! The token endpoint, or the issuer that names it, and the way there.

use crate::config::document::ExternalCredential;
use crate::config::resolve::context::Context;
use crate::config::resolve::{http_proxy, tls};
use crate::config::tree::NodeId;
use crate::config::url::Url;
use crate::connect::Addresses;
use crate::token::Endpoint;

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, node: NodeId, written: &ExternalCredential) -> Option<Endpoint> {
    const HELP: &str = "write the URL that gives out tokens: token_endpoint = \"https://…\"; or issuer = \"https://…\", \
                        where the issuer publishes its metadata";
    let findings = context.findings;
    let timeout = context.positive_or(&written.timeout, 10);
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
    let addresses = context.addresses(node, &written.dangerous, Addresses::CONFIGURED);
    for (at, url) in [&issuer, &token_endpoint].into_iter().flatten() {
        context.judge_address(*at, url.as_ref(), addresses);
    }
    if written.issuer.is_wrong() || written.token_endpoint.is_wrong() {
        return None;
    }
    let asked = token_endpoint.as_ref().or(issuer.as_ref()).and_then(|(at, url)| Some((*at, url.as_ref()?)));
    let is_https = asked.is_none_or(|(_, first)| first.is_https);
    let http_proxy = http_proxy::of(context, &written.http_proxy, is_https);
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
        http_proxy: http_proxy?,
        addresses,
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
