//! Proofs of every kind but JWTs, which have tests of their own.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Callers, CertificateRule, Proof, Settings, after_scheme};
use crate::name::Name;
use crate::peer::{Certificate, Peer};

fn key(name: &str, header: &'static str, key: &str) -> Settings {
    let sha256 = digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap();
    let header = HeaderName::from_static(header);
    Settings { name: Name::parse(name).unwrap(), proof: Proof::ApiKey { sha256, header } }
}

fn networks(name: &str, ranges: &[&str]) -> Settings {
    let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    Settings { name: Name::parse(name).unwrap(), proof: Proof::Networks(ranges) }
}

fn proven(callers: &Callers, peer: &str, lines: &[(&'static str, &str)]) -> Vec<String> {
    let peer = match peer {
        "unix" => Peer::Unix { uid: Some(1000), gid: Some(100) },
        "unix?" => Peer::Unix { uid: None, gid: None },
        ip => Peer::Tcp((ip.parse::<std::net::IpAddr>().unwrap(), 1).into()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    callers.identify(&peer, None, &headers).names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_caller_is_proven_by_the_key_whose_hash_is_configured() {
    let callers = Callers::new(vec![
        key("billing", "x-api-key", "k-billing"),
        key("crm", "x-crm-key", "k-crm"),
        key("reports", "x-api-key", "k-reports"),
        key("twin", "x-api-key", "k-billing"),
    ]);
    for (lines, expected) in [
        (vec![], vec![]),
        (vec![("x-api-key", "k-reports")], vec!["reports"]),
        (vec![("x-api-key", "k-billing")], vec!["billing", "twin"]),
        (vec![("x-api-key", "k-crm")], vec![]),
        (vec![("x-crm-key", "k-crm")], vec!["crm"]),
        (vec![("x-crm-key", "k-crm"), ("x-api-key", "k-reports")], vec!["reports", "crm"]),
        (vec![("x-api-key", "K-reports")], vec![]),
        (vec![("x-api-key", "")], vec![]),
        (vec![("x-api-key", "k-reports, k-reports")], vec![]),
        (vec![("x-api-key", "k-reports"), ("x-api-key", "k-reports")], vec![]),
        (vec![("x-api-key", "k-reports"), ("x-api-key", "other")], vec![]),
        (vec![("authorization", "k-reports")], vec![]),
    ] {
        assert_eq!(proven(&callers, "192.0.2.1", &lines), expected, "{lines:?}");
    }
    assert_eq!(callers.key_headers(), ["x-api-key", "x-crm-key"]);
}

#[test]
fn a_caller_is_proven_by_the_network_it_connects_from() {
    let callers = Callers::new(vec![
        networks("pods", &["10.0.0.0/8", "2001:db8::/32"]),
        networks("mapped", &["::ffff:192.0.2.0/120"]),
        networks("local", &["127.0.0.1/32", "::1/128"]),
        networks("six", &["::/0"]),
    ]);
    for (peer, expected) in [
        ("10.1.2.3", vec!["pods"]),
        ("::ffff:10.1.2.3", vec!["pods"]),
        ("2001:db8::5", vec!["pods", "six"]),
        ("192.0.2.77", vec!["mapped"]),
        ("::ffff:192.0.2.77", vec!["mapped"]),
        ("192.0.3.1", vec![]),
        ("127.0.0.1", vec!["local"]),
        ("::1", vec!["local", "six"]),
        ("unix", vec![]),
    ] {
        assert_eq!(proven(&callers, peer, &[]), expected, "{peer}");
    }
}

#[test]
fn keys_come_before_networks() {
    let callers = Callers::new(vec![networks("pods", &["10.0.0.0/8"]), key("billing", "x-api-key", "k")]);
    assert_eq!(proven(&callers, "10.0.0.1", &[("x-api-key", "k")]), ["billing", "pods"]);
}

#[test]
fn nothing_configured_is_empty_and_proves_nobody() {
    let callers = Callers::new(vec![]);
    assert!(callers.is_empty() && callers.key_headers().is_empty());
    assert_eq!(proven(&callers, "127.0.0.1", &[("x-api-key", "k")]), Vec::<String>::new());
    assert!(!Callers::new(vec![networks("a", &["10.0.0.0/8"])]).is_empty());
    assert!(!Callers::new(vec![key("a", "x-api-key", "k")]).is_empty());
}

#[test]
fn debug_shows_no_hash() {
    let shown = format!("{:?}", Callers::new(vec![key("billing", "x-api-key", "k")]));
    assert!(shown.contains("billing") && !shown.contains("sha256"), "{shown}");
}

#[test]
fn in_authorization_a_key_may_be_a_bearer_token_or_a_password() {
    let callers = Callers::new(vec![key("billing", "authorization", "k:1"), key("crm", "x-key", "k2")]);
    let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
    for (value, expected) in [
        ("Bearer k:1".to_owned(), vec!["billing"]),
        ("bearer   k:1 ".to_owned(), vec!["billing"]),
        ("k:1".to_owned(), vec!["billing"]),
        (basic("anyone:k:1"), vec!["billing"]),
        (basic(":k:1"), vec!["billing"]),
        (basic("anyone:").replace("Basic", "bAsIc"), vec![]),
        (format!("basic {}", STANDARD_NO_PAD.encode("me:k:1")), vec!["billing"]),
        (basic("k:1"), vec![]),
        (basic("anyone:k:2"), vec![]),
        (basic(""), vec![]),
        (basic(":"), vec![]),
        ("Basic %%%".to_owned(), vec![]),
        ("Basic".to_owned(), vec![]),
        ("Bearer".to_owned(), vec![]),
        ("Bearer ".to_owned(), vec![]),
        ("Bearer Bearer k:1".to_owned(), vec![]),
        ("Token k:1".to_owned(), vec![]),
        ("Bearerk:1".to_owned(), vec![]),
    ] {
        assert_eq!(proven(&callers, "192.0.2.1", &[("authorization", &value)]), expected, "{value}");
    }
    // In a field of its own a key is what it is.
    for value in ["Bearer k2", &basic("me:k2")] {
        assert_eq!(proven(&callers, "192.0.2.1", &[("x-key", value)]), Vec::<String>::new(), "{value}");
    }
    let user = Callers::new(vec![key("billing", "authorization", "sk_live_1")]);
    for (login, expected) in [
        ("sk_live_1:", vec!["billing"]),
        ("sk_live_1", vec!["billing"]),
        ("sk_live_1:x", vec![]),
        ("x:sk_live_1", vec!["billing"]),
    ] {
        assert_eq!(proven(&user, "192.0.2.1", &[("authorization", &basic(login))]), expected, "{login}");
    }
    let twice = [("authorization", "Bearer k:1"), ("authorization", "Bearer k:1")];
    assert_eq!(proven(&callers, "192.0.2.1", &twice), Vec::<String>::new());
}

#[test]
fn a_caller_is_proven_by_the_user_and_group_of_its_process() {
    let user = |name: &str, uid, gid| Settings { name: Name::parse(name).unwrap(), proof: Proof::Unix { uid, gid } };
    let callers = Callers::new(vec![
        user("user", Some(1000), None),
        user("group", None, Some(100)),
        user("both", Some(1000), Some(100)),
        user("other", Some(1000), Some(101)),
        user("root", Some(0), None),
        user("nobody", None, None),
    ]);
    for (peer, expected) in [("unix", vec!["user", "group", "both"]), ("unix?", vec![]), ("127.0.0.1", vec![])] {
        assert_eq!(proven(&callers, peer, &[]), expected, "{peer}");
    }
    assert!(!callers.is_empty() && callers.key_headers().is_empty());
}

#[test]
fn a_caller_is_proven_by_its_verified_certificate_alone() {
    let rule = CertificateRule { dns: Some("billing.internal".to_owned()), ..CertificateRule::default() };
    let callers =
        Callers::new(vec![Settings { name: Name::parse("billing").unwrap(), proof: Proof::Certificate(rule) }]);
    let certificate = Certificate { dns: vec!["billing.internal".to_owned()], ..Certificate::default() };
    let peer = Peer::Tcp(([192, 0, 2, 1], 1).into());
    let names = |certificate: Option<&Certificate>, headers: &HeaderMap| {
        callers.identify(&peer, certificate, headers).names.len()
    };
    assert_eq!(names(Some(&certificate), &HeaderMap::new()), 1);
    assert_eq!(names(Some(&Certificate::default()), &HeaderMap::new()), 0);
    // What a proxy in front of us says about a certificate is the caller's own word.
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-client-cert", HeaderValue::from_static("DNS=billing.internal"));
    assert_eq!(names(None, &headers), 0);
}

#[test]
fn a_scheme_ends_with_a_space() {
    for (value, expected) in [
        ("Bearer a", Some("a")),
        ("BEARER  a b ", Some("a b")),
        ("Bearer", None),
        ("Bearera", None),
        ("Bear a", None),
        ("", None),
    ] {
        assert_eq!(after_scheme(value.as_bytes(), "bearer"), expected.map(str::as_bytes), "{value}");
    }
}
