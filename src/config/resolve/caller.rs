//! `[callers.NAME]`: by which one proof a caller is known.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};

use super::context::Context;
use super::header;
use crate::caller::{Proof, Settings};
use crate::config::document::{Caller, Document};
use crate::config::field::Field;
use crate::config::findings::Findings;
use crate::config::tree::NodeId;

mod certificate;
mod jwt;
mod user;

const PROOFS: &str = "write exactly one of `api_key_sha256` (and, where it is not x-api-key, the `header`), `mtls`, \
                      `jwt`, `networks` and `unix`";

/// Every caller that is described well.
pub(super) fn resolve(context: &Context<'_>, document: &Document) -> Vec<Settings> {
    let mut settings: Vec<(NodeId, Settings)> = Vec::new();
    for (name, field) in document.callers.value().into_iter().flat_map(|entries| entries.iter()) {
        let Some((node, caller)) = field.get() else { continue };
        let name = context.name(node, name);
        let Some((at, proof)) = proof(context, node, caller) else { continue };
        let Some(name) = name else { continue };
        if let Some((other, _)) = settings.iter().find(|(_, other)| same_key(&other.proof, &proof)) {
            let message = "two callers have the same API key".to_owned();
            context.findings.conflict(at, (*other, "the other caller"), message, "give each caller a key of its own");
        }
        settings.push((at, Settings { name, proof }));
    }
    settings.into_iter().map(|(_, settings)| settings).collect()
}

/// Warns of callers who cannot give their proof.
pub(super) fn advise(document: &Document, findings: &Findings<'_>) {
    let mut listeners = document.listeners.value().into_iter().flat_map(|entries| entries.iter());
    let asks = listeners.any(|(_, listener)| {
        let tls = listener.value().and_then(|listener| listener.tls.value());
        tls.is_some_and(|tls| tls.client_ca.node().is_some())
    });
    if asks {
        return;
    }
    for (_, caller) in document.callers.value().into_iter().flat_map(|entries| entries.iter()) {
        let Some(at) = caller.value().and_then(|caller| caller.mtls.node()) else { continue };
        let message = "nobody can be this caller: no listener asks for certificates";
        let help = "name the authority that signs them: tls = { certificate = \"…\", key = \"…\", client_ca = \"…\" } in \
                    a table [listeners.NAME]";
        findings.key_warning(at, message, help);
    }
}

fn proof(context: &Context<'_>, node: NodeId, caller: &Caller) -> Option<(NodeId, Proof)> {
    let findings = context.findings;
    let proofs = [
        ("api_key_sha256", caller.api_key_sha256.node()),
        ("mtls", caller.mtls.node()),
        ("jwt", caller.jwt.node()),
        ("networks", caller.networks.node()),
        ("unix", caller.unix.node()),
    ];
    let mut given = proofs.iter().filter_map(|(key, node)| node.map(|node| (*key, node)));
    let Some((kind, at)) = given.next() else {
        if !proofs.iter().any(|(key, _)| findings.is_misspelt(node, key)) {
            findings.key_error(node, "this caller has no proof", PROOFS);
        }
        return None;
    };
    if let Some((_, second)) = given.next() {
        findings.key_error(second, "a caller has one proof, not two", PROOFS);
        return None;
    }
    if let Some(header) = caller.header.node().filter(|_| kind != "api_key_sha256") {
        let help = if kind == "jwt" { "write it into the table: jwt = { header = \"…\" }" } else { "leave it out" };
        findings.key_error(header, "`header` belongs to `api_key_sha256`", help);
    }
    if let Some(dangerous) = caller.dangerous.node().filter(|_| kind != "jwt") {
        findings.key_error(dangerous, "`dangerous` belongs to `jwt`", "leave it out");
    }
    match kind {
        "api_key_sha256" => api_key(context, caller),
        "mtls" => certificate::resolve(context, &caller.mtls).map(|rule| (at, Proof::Certificate(rule))),
        "jwt" => jwt::resolve(context, node, caller).map(|settings| (at, Proof::Jwt(Box::new(settings)))),
        "unix" => user::resolve(context, &caller.unix).map(|proof| (at, proof)),
        _ => networks(context, &caller.networks).map(|proof| (at, proof)),
    }
}

fn api_key(context: &Context<'_>, caller: &Caller) -> Option<(NodeId, Proof)> {
    let header = match &caller.header {
        Field::Missing => Some(HeaderName::from_static("x-api-key")),
        Field::Wrong(_) => None,
        Field::Set(node, text) => header::name(context, *node, text),
    };
    let (node, text) = caller.api_key_sha256.get()?;
    let Some(sha256) = hash(text) else {
        let help = "make it with `printf %s \"$KEY\" | sha256sum`; the key itself must not stand here";
        context.findings.error(node, "this is not a SHA-256 hash: 64 hexadecimal digits", help);
        return None;
    };
    Some((node, Proof::ApiKey { sha256, header: header? }))
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut sha256 = [0; 32];
    if text.len() != 64 {
        return None;
    }
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    for (byte, [high, low]) in sha256.iter_mut().zip(pairs) {
        let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(sha256)
}

fn networks(context: &Context<'_>, list: &Field<Vec<Field<String>>>) -> Option<Proof> {
    let (node, items) = list.get()?;
    if items.is_empty() {
        context.findings.error(node, "this list holds no network", "write networks = [\"10.0.0.0/8\"]");
        return None;
    }
    let networks = Context::texts(list).filter_map(|(node, text)| {
        let network = network(text);
        if network.is_none() {
            let help = "write it like \"10.0.0.0/8\", \"fd00::/8\" or \"10.1.2.3\"";
            context.findings.error(node, "this is not a network or an address", help);
        }
        network
    });
    Some(Proof::Networks(Context::unique(networks.collect::<Vec<_>>())))
}

/// A range or a single address. IPv4 ranges written as IPv6 become IPv4, because peers' addresses do too.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let IpNet::V6(range) = network else { return Some(network) };
    let mapped = range.addr().to_ipv4_mapped().zip(range.prefix_len().checked_sub(96));
    match mapped {
        Some((address, length)) => ipv4(address, length),
        None => Some(network),
    }
}

fn ipv4(address: Ipv4Addr, length: u8) -> Option<IpNet> {
    Ipv4Net::new(address, length).ok().map(|network| IpNet::V4(network.trunc()))
}

fn same_key(one: &Proof, other: &Proof) -> bool {
    match (one, other) {
        (Proof::ApiKey { sha256: one, header: first }, Proof::ApiKey { sha256: other, header: second }) => {
            one == other && first == second
        }
        (Proof::ApiKey { .. } | Proof::Jwt(_) | Proof::Certificate(_) | Proof::Networks(_) | Proof::Unix { .. }, _) => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{hash, network};

    #[test]
    fn a_network_is_a_range_or_an_address_and_mapped_ones_are_ipv4() {
        for (text, expected) in [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("fd00::/8", Some("fd00::/8")),
            ("::1", Some("::1/128")),
            ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/33", None),
            ("10.1.2", None),
            ("example.com", None),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits() {
        assert_eq!(hash(&"0aF1".repeat(16)).map(|sha256| sha256[1]), Some(0xf1));
        for bad in ["", "0", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"ä".repeat(32)] {
            assert_eq!(hash(bad), None, "{bad}");
        }
    }
}
