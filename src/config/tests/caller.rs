//! Callers by certificate, JWT and user: good and bad values.

use super::{MINIMAL, good, load, problem};
use crate::caller::jwt::{ALGORITHMS, ClaimValue, KeyOrigin};
use crate::caller::{CertificateRule, Proof, UriPattern};
use crate::connect::Addresses;
use crate::sign::Algorithm;

/// A complete `jwt`, whose keys come from this machine.
const JWT: &str = "issuer = \"http://127.0.0.1:9\"\naudience = \"keybearer\"\n";

fn proof(lines: &str) -> Proof {
    good(&format!("{MINIMAL}[callers.a]\n{lines}\n")).config.callers.remove(0).proof
}

fn found(lines: &str) -> String {
    problem(&format!("{MINIMAL}[callers.a]\n{lines}\n"))
}

#[test]
fn a_certificate_is_known_by_the_names_that_are_given() {
    let Proof::Certificate(rule) = proof("mtls = { subject = \"CN=a,O=b\", uri = \"spiffe://e.org/ns/*\" }") else {
        panic!()
    };
    let uri = UriPattern::SpiffeBelow("spiffe://e.org/ns".to_owned());
    let expected = CertificateRule { subject: Some("CN=a,O=b".to_owned()), uri: Some(uri), ..Default::default() };
    assert_eq!(rule, expected);
    assert!(matches!(proof("mtls = { dns = \"a.internal\" }"), Proof::Certificate(rule) if rule.dns.is_some()));
    assert!(matches!(proof("mtls = { email = \"a@b.example\" }"), Proof::Certificate(rule) if rule.email.is_some()));
    for (lines, expected) in [
        ("mtls = {}", "names nothing"),
        ("mtls = { subjct = \"CN=a\" }", "unknown key `subjct`"),
        ("mtls = { subject = \"\" }", "not a subject"),
        ("mtls = { subject = \"billing\" }", "not a subject"),
        ("mtls = { subject = \"/O=b/CN=a\" }", "RFC 4514"),
        ("mtls = { dns = \"*.internal\" }", "not a DNS name"),
        ("mtls = { email = \"a\" }", "not a mail address"),
        ("mtls = { uri = \"https://a/*\" }", "only a SPIFFE id"),
        ("mtls = { uri = \"spiffe://e.org/a/\" }", "not a SPIFFE id"),
        ("mtls = \"CN=a\"", "mtls = {"),
        ("mtls = { dns = \"a\" }\nnetworks = [\"::1\"]", "one proof, not two"),
        ("mtls = { dns = \"a\" }\nheader = \"x-key\"", "`header` belongs"),
        ("mtls = { dns = \"a\" }\ndangerous = { plain_http = true }", "`dangerous` belongs to `jwt`"),
    ] {
        assert!(found(lines).contains(expected), "{lines}: {}", found(lines));
    }
}

#[test]
fn a_jwt_is_known_by_issuer_audience_and_claims() {
    let Proof::Jwt(jwt) = proof(
        &format!("[callers.a.jwt]\n{JWT}").replace("[callers.a.jwt]\n", "jwt.").replace("\naudience", "\njwt.audience"),
    ) else {
        panic!()
    };
    assert_eq!(
        (jwt.issuer.as_str(), jwt.keys.origin, jwt.header.as_str()),
        ("http://127.0.0.1:9", KeyOrigin::Discovery, "authorization")
    );
    assert_eq!(
        (jwt.audience, jwt.claims.len(), jwt.algorithms),
        (vec!["keybearer".to_owned()], 0, ALGORITHMS.to_vec())
    );

    let lines = "jwt = { issuer = \"kubernetes/serviceaccount\", jwks = \"http://localhost:9/k?a=b\", \
                 audience = [\"a\", \"b\"], claims = { \"/sub\" = \"x\", \"/groups\" = [\"y\", \"spiffe://e/*\"] }, \
                 header = \"X-Token\", algorithms = [\"ES256\", \"ES256\"], bearer_token_file = \"token\" }";
    let Proof::Jwt(jwt) = proof(lines) else { panic!() };
    assert!(matches!(jwt.keys.origin, KeyOrigin::Url(url) if url == "http://localhost:9/k?a=b"));
    assert_eq!((jwt.audience.len(), jwt.header.as_str(), jwt.algorithms), (2, "x-token", vec![Algorithm::Es256]));
    assert_eq!((jwt.claims[0].pointer.as_str(), jwt.claims[1].any_of.len()), ("/sub", 2));
    assert!(matches!(jwt.claims[1].any_of[1], ClaimValue::SpiffeBelow(_)));
    assert!(jwt.keys.bearer_token_file.is_some() && !jwt.keys.dangerous_plain_http);

    // What is written may be anywhere but at a metadata service; what is found by discovery is judged by this.
    for (dangerous, link_local, private) in
        [("", false, false), ("private = true", false, true), ("link_local = true", true, false)]
    {
        let lines =
            format!("jwt = {{ issuer = \"https://i.example\", audience = \"a\" }}\ndangerous = {{ {dangerous} }}");
        let expected = Addresses { link_local, private };
        assert!(matches!(proof(&lines), Proof::Jwt(jwt) if jwt.keys.addresses == expected), "{dangerous}");
    }

    let plain = "jwt = { issuer = \"http://i.example\", audience = \"a\" }\ndangerous = { plain_http = true }";
    assert!(matches!(proof(plain), Proof::Jwt(jwt) if jwt.keys.dangerous_plain_http));
}

#[test]
fn mistakes_in_a_jwt_are_named() {
    let jwt = |more: &str| format!("jwt = {{ issuer = \"http://127.0.0.1:9\", audience = \"keybearer\"{more} }}");
    for (lines, expected) in [
        ("jwt = { audience = \"a\" }".to_owned(), "`issuer`"),
        ("jwt = { issuer = \"http://127.0.0.1:9\" }".to_owned(), "tokens made for others"),
        ("jwt = { issuer = \"\", audience = \"a\" }".to_owned(), "issuer is empty"),
        ("jwt = { issuer = \"i\", audience = \"a\" }".to_owned(), "add `jwks`"),
        ("jwt = { issuer = \"https://i.example/?a\", audience = \"a\" }".to_owned(), "no query"),
        ("jwt = { issuer = \"http://i.example\", audience = \"a\" }".to_owned(), "plain_http = true"),
        ("jwt = { issuer = \"i\", audience = \"a\", jwks = \"http://i.example\" }".to_owned(), "plain_http = true"),
        ("jwt = { issuer = \"i\", audience = \"\", jwks = \"http://[::1]:9\" }".to_owned(), "value is empty"),
        ("jwt = { issuer = \"i\", audience = [], jwks = \"http://[::1]:9\" }".to_owned(), "list is empty"),
        (jwt(", jwks_file = \"/nowhere/keys\""), "cannot read this file"),
        (jwt(", jwks_file = \"Cargo.toml\""), "is not JSON"),
        (jwt(", jwks_file = \"k\", jwks = \"http://[::1]:9\""), "one place, not two"),
        (jwt(", claims = { sub = \"x\" }"), "not a JSON pointer"),
        (jwt(", claims = { \"/a~2b\" = \"x\" }"), "not a JSON pointer"),
        (jwt(", claims = { \"/sub\" = [] }"), "list is empty"),
        (jwt(", algorithms = []"), "list is empty"),
        (jwt(", algorithms = [\"HS256\"]"), "cannot be signed with this algorithm"),
        (jwt(", algorithms = [\"none\"]"), "cannot be signed with this algorithm"),
        (jwt(", algorithms = [\"ES512\"]"), "cannot be signed with this algorithm"),
        (jwt(", header = \"Host\""), "cannot be used here"),
        ("jwt = { issuer = \"https://169.254.169.254\", audience = \"a\" }".to_owned(), "link_local = true"),
        (jwt(", jwk = \"x\""), "unknown key `jwk`"),
        (jwt(", tls = { ca = \"/nowhere/ca.pem\" }"), "`tls` has no effect"),
        (jwt("") + "\nheader = \"x-token\"", "jwt = { header"),
    ] {
        assert!(found(&lines).contains(expected), "{lines}: {}", found(&lines));
    }
}

#[test]
fn a_user_is_a_number_or_a_name() {
    for (lines, expected) in [
        ("unix = { uid = 1000 }", (Some(1000), None)),
        ("unix = { gid = 0 }", (None, Some(0))),
        ("unix = { uid = \"root\", gid = 7 }", (Some(0), Some(7))),
    ] {
        assert!(matches!(proof(lines), Proof::Unix { uid, gid } if (uid, gid) == expected), "{lines}");
    }
    for (lines, expected) in [
        ("unix = {}", "neither a user nor a group"),
        ("unix = { uid = 4294967295 }", "not the number of a user"),
        ("unix = { gid = 5000000000 }", "not the number of a group"),
        ("unix = { uid = -1 }", "uid"),
        ("unix = { uid = \"nobody at all\" }", "no user of this name in /etc/passwd"),
        ("unix = { gid = \"\" }", "no group of this name"),
        ("unix = { uids = 1 }", "unknown key `uids`"),
    ] {
        assert!(found(lines).contains(expected), "{lines}: {}", found(lines));
    }
}

#[test]
fn a_listener_may_name_its_callers() {
    let listener = |callers: &str| {
        format!(
            "{MINIMAL}[listeners.a]\naddress = \"127.0.0.1:1\"\ncallers = {callers}\n[callers.a]\nunix = {{ uid = 1 }}\n"
        )
    };
    let config = good(&listener("[\"a\"]")).config;
    assert_eq!(config.listeners[0].callers.as_ref().map(|callers| callers[0].as_str()), Some("a"));
    assert!(problem(&listener("[]")).contains("names nobody"));
    assert!(problem(&listener("[\"b\"]")).contains("no caller of this name"));
    assert!(load(MINIMAL).unwrap().config.listeners[0].callers.is_none());
}
