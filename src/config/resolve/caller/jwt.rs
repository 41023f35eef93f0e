//! `jwt` of a caller: whose tokens count, where that issuer's keys are, and which claims they must have.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::caller::jwt::{ALGORITHMS, ClaimRule, ClaimValue, KeyOrigin, KeySource, Settings, count_keys};
use crate::config::Secrets;
use crate::config::document::{Caller, CallerJwt, OneOrMany};
use crate::config::field::Field;
use crate::config::resolve::context::Context;
use crate::config::resolve::{header, tls};
use crate::config::tree::NodeId;
use crate::config::url::Url;
use crate::connect::{Addresses, HttpProxies};
use crate::sign::Algorithm;
use crate::tls::Profile;

/// None where something was reported.
pub(super) fn resolve(context: &Context<'_>, caller: NodeId, written: &Caller) -> Option<Settings> {
    let (node, jwt) = written.jwt.get()?;
    let findings = context.findings;
    let accepted = context.accepts(caller, &written.dangerous, "plain_http", |dangers| &dangers.plain_http);
    let help = "write what `iss` is in the tokens: issuer = \"https://login.example.com\"";
    let issuer = findings.required(&jwt.issuer, node, "issuer", help);
    let issuer = issuer.and_then(|(at, text)| {
        if text.is_empty() {
            findings.error(at, "this issuer is empty", help);
        }
        (!text.is_empty()).then_some((at, text))
    });
    let addresses = context.addresses(caller, &written.dangerous, Addresses::FOREIGN);
    let keys = issuer.and_then(|issuer| keys(context, node, jwt, (issuer, accepted, addresses)));
    let help = "write what `aud` is in the tokens, such as audience = \"keybearer\": without it, tokens made for others \
                would count here";
    let audience = findings.required(&jwt.audience, node, "audience", help);
    let audience = audience.and_then(|(at, written)| texts(context, at, written));
    let claims = claims(context, jwt);
    let header = match &jwt.header {
        Field::Missing => Some(AUTHORIZATION),
        Field::Wrong(_) => None,
        Field::Set(at, text) => header::name(context, *at, text),
    };
    let header: Option<HeaderName> = header;
    let algorithms = algorithms(context, jwt);
    Some(Settings {
        issuer: issuer?.1.clone(),
        keys: keys?,
        audience: audience?,
        claims: claims?,
        header: header?,
        algorithms: algorithms?,
    })
}

fn keys(
    context: &Context<'_>,
    node: NodeId,
    jwt: &CallerJwt,
    ((issuer_at, issuer), accepted, addresses): ((NodeId, &String), bool, Addresses),
) -> Option<KeySource> {
    let findings = context.findings;
    if let (Some(_), Some(file)) = (jwt.jwks.node(), jwt.jwks_file.node()) {
        findings.key_error(file, "the keys come from one place, not two", "leave out `jwks` or `jwks_file`");
        return None;
    }
    if let Field::Set(at, text) = &jwt.jwks_file {
        let help = "the keys are in `jwks_file`: nobody is asked for them";
        context.has_no_effect(jwt.tls.node(), "`tls` has no effect here", help);
        context.has_no_effect(jwt.bearer_token_file.node(), "`bearer_token_file` has no effect here", help);
        let path = key_file(context, *at, text)?;
        let tls = Arc::new(Profile::trusting_nobody().ok()?);
        let origin = KeyOrigin::File(path);
        return Some(KeySource {
            origin,
            tls,
            bearer_token_file: None,
            dangerous_plain_http: false,
            addresses,
            http_proxies: HttpProxies::default(),
        });
    }
    if jwt.jwks_file.is_wrong() || jwt.jwks.is_wrong() {
        return None;
    }
    let (at, text) = jwt.jwks.get().unwrap_or((issuer_at, issuer));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err((message, help)) => {
            let help = match jwt.jwks.node() {
                Some(_) => help,
                None => {
                    "add `jwks`, the URL of the issuer's keys: they cannot be discovered where the issuer is no URL"
                }
            };
            findings.error(at, message, help);
            return None;
        }
    };
    if jwt.jwks.node().is_none() && url.query.is_some() {
        findings.error(at, "an issuer has no query", "leave out `?` and what comes after it, or add `jwks`");
        return None;
    }
    context.judge_address(at, Some(&url), Addresses { private: true, ..addresses });
    if !url.is_https && !url.is_loopback() && !accepted {
        let message = "whoever is on the way could put keys of their own in place of these";
        findings.error(at, message, "write https://, or accept it with dangerous = { plain_http = true }");
    }
    let tls = if url.is_https { tls::profile(context, node, &jwt.tls) } else { tls::none(context, &jwt.tls) };
    let origin = if jwt.jwks.node().is_some() { KeyOrigin::Url(url.to_uri()?) } else { KeyOrigin::Discovery };
    let bearer_token_file = jwt.bearer_token_file.get().map(|(at, text)| context.path(at, text));
    let http_proxies = context.http_proxies.clone();
    Some(KeySource { origin, tls: tls?, bearer_token_file, dangerous_plain_http: accepted, addresses, http_proxies })
}

/// A file that holds keys, now that it is looked at; later it may hold others.
fn key_file(context: &Context<'_>, node: NodeId, text: &str) -> Option<PathBuf> {
    let path = context.file(node, text);
    if context.secrets == Secrets::Leave {
        return Some(path);
    }
    let help = "a JWK set is a JSON object with a list `keys` of public keys";
    let document = std::fs::read(&path);
    let fault = match document {
        Err(error) => Some(format!("cannot read this file: {}", error.kind())),
        Ok(document) => count_keys(&document).err().map(|fault| format!("the document in this file {fault}")),
    };
    match fault {
        None => Some(path),
        Some(fault) => {
            context.findings.error(node, fault, help);
            None
        }
    }
}

/// One text or several, none of them empty; none where something was reported.
fn texts(context: &Context<'_>, node: NodeId, written: &OneOrMany) -> Option<Vec<String>> {
    let texts: Vec<(NodeId, &str)> = match written {
        OneOrMany::Text(text) => vec![(node, text.as_str())],
        OneOrMany::List(items) => {
            if items.iter().any(Field::is_wrong) {
                return None;
            }
            items.iter().filter_map(Field::get).map(|(node, text)| (node, text.as_str())).collect()
        }
    };
    if texts.is_empty() {
        context.findings.error(node, "this list is empty", "write at least one value");
        return None;
    }
    if let Some((node, _)) = texts.iter().find(|(_, text)| text.is_empty()) {
        context.findings.error(*node, "this value is empty", "write what it must be");
        return None;
    }
    Some(texts.into_iter().map(|(_, text)| text.to_owned()).collect())
}

/// None where something was reported.
fn claims(context: &Context<'_>, jwt: &CallerJwt) -> Option<Vec<ClaimRule>> {
    if jwt.claims.is_wrong() {
        return None;
    }
    let mut rules = Vec::new();
    let mut is_good = true;
    for (pointer, field) in jwt.claims.value().into_iter().flat_map(|entries| entries.iter()) {
        let Some((node, written)) = field.get() else {
            is_good = false;
            continue;
        };
        if !is_pointer(pointer) {
            let help = "write it like \"/sub\" or \"/kubernetes.io/namespace\"; a slash within a name is `~1`";
            context.findings.key_error(node, "this is not a JSON pointer to a claim", help);
            is_good = false;
        }
        match texts(context, node, written) {
            Some(any_of) => {
                let any_of = any_of.iter().map(|text| ClaimValue::parse(text)).collect();
                rules.push(ClaimRule { pointer: pointer.to_owned(), any_of });
            }
            None => is_good = false,
        }
    }
    is_good.then_some(rules)
}

/// RFC 6901 3, and not the whole document.
fn is_pointer(text: &str) -> bool {
    let escapes_are_whole = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && escapes_are_whole
}

/// None where something was reported.
fn algorithms(context: &Context<'_>, jwt: &CallerJwt) -> Option<Vec<Algorithm>> {
    let (node, items) = match &jwt.algorithms {
        Field::Missing => return Some(ALGORITHMS.to_vec()),
        Field::Wrong(_) => return None,
        Field::Set(node, items) => (*node, items),
    };
    let names = ALGORITHMS.map(Algorithm::name).join(", ");
    if items.is_empty() {
        context.findings.error(node, "this list is empty", format!("write some of {names}, or leave the key out"));
        return None;
    }
    let mut algorithms = Vec::new();
    for (node, text) in Context::texts(&jwt.algorithms) {
        match Algorithm::parse(text).filter(|algorithm| ALGORITHMS.contains(algorithm)) {
            Some(algorithm) => algorithms.push(algorithm),
            None => context.findings.error(
                node,
                "callers' tokens cannot be signed with this algorithm",
                format!("write some of {names}: only signatures with public keys tell who signed"),
            ),
        }
    }
    (algorithms.len() == items.len()).then(|| Context::unique(algorithms))
}
