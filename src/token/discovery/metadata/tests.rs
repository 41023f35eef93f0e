//! Documents as issuers serve them on loopback, and wrong ones.

use bytes::Bytes;
use http::{Request, Response};

use super::{Metadata, discover, places, read, safe_url};
use crate::fetch::fake::Fake;
use crate::token::failure::{MintError, MintFailureKind};
use crate::token::{Endpoint, Settings};

fn endpoint(issuer: &str) -> Endpoint {
    let settings = Settings::sample("http://127.0.0.1:1/".parse().unwrap());
    let endpoint = settings.request().unwrap().endpoint.clone();
    Endpoint { url: None, issuer: Some(issuer.to_owned()), ..endpoint }
}

/// An issuer at path `/tenant` whose document, with the issuer's own URL for `ISSUER`, stands where `is_there` says.
async fn issuer(body: &'static str, is_there: fn(&str) -> bool) -> (Fake, Endpoint) {
    let fake = Fake::serve(move |request: &Request<Bytes>| {
        if !is_there(request.uri().path()) {
            return Response::builder().status(404).body(Bytes::from_static(b"<html>")).unwrap();
        }
        let own = format!("http://{}/tenant", request.headers()["host"].to_str().unwrap());
        Response::new(Bytes::from(body.replace("ISSUER", &own)))
    })
    .await;
    let endpoint = endpoint(&fake.url("/tenant").to_string());
    (fake, endpoint)
}

fn asked(fake: &Fake) -> Vec<String> {
    fake.seen().iter().map(|request| request.uri().to_string()).collect()
}

const GOOD: &str = r#"{"issuer":"ISSUER","token_endpoint":"ISSUER/token?x=y",
    "mtls_endpoint_aliases":{"token_endpoint":"https://mtls.test/token"},
    "token_endpoint_auth_methods_supported":["private_key_jwt","tls_client_auth"]}"#;

#[tokio::test]
async fn the_place_of_rfc_8414_is_asked_first_and_suffices() {
    let (fake, endpoint) = issuer(GOOD, |_| true).await;
    let found = discover(&endpoint).await.unwrap();
    let own = endpoint.issuer.unwrap();
    let expected = Metadata {
        token_endpoint: format!("{own}/token?x=y").parse().unwrap(),
        mtls_token_endpoint: Some("https://mtls.test/token".parse().unwrap()),
        authentication_methods: vec!["private_key_jwt".to_owned(), "tls_client_auth".to_owned()],
    };
    assert_eq!(found, expected);
    assert_eq!(asked(&fake), ["/.well-known/oauth-authorization-server/tenant"]);
    assert_eq!(fake.seen()[0].headers()["accept"], "application/json");
}

#[tokio::test]
async fn the_place_of_openid_connect_is_asked_second() {
    let (fake, endpoint) = issuer(GOOD, |path| path.starts_with("/tenant")).await;
    discover(&endpoint).await.unwrap();
    let places = ["/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"];
    assert_eq!(asked(&fake), places);
}

/// C14: metadata of another issuer are not used and both are named.
#[tokio::test]
async fn metadata_of_another_issuer_are_not_used_and_both_are_named() {
    let body = r#"{"issuer":"ISSUER/","token_endpoint":"ISSUER/token"}"#;
    for is_there in [(|_| true) as fn(&str) -> bool, |path| path.starts_with("/.well-known")] {
        let (_fake, endpoint) = issuer(body, is_there).await;
        let error = discover(&endpoint).await.unwrap_err();
        assert_eq!(
            (error.cause(), error.kind),
            ("the issuer's metadata name another issuer", MintFailureKind::Unusable)
        );
        let own = endpoint.issuer.unwrap();
        let both = format!("configured: \"{own}\", in the metadata: \"{own}/\"");
        assert_eq!(error.detail(), Some(both.as_str()));
    }
}

#[tokio::test]
async fn what_is_no_document_is_told_by_its_kind() {
    let large: &str = Box::leak(format!(r#"{{"x":"{}"}}"#, "y".repeat(70_000)).into_boxed_str());
    for (status, body, kind, cause) in [
        (404, "", MintFailureKind::Unusable, "no issuer metadata: status 404"),
        (503, "", MintFailureKind::Unavailable, "no issuer metadata: status 503"),
        (302, "", MintFailureKind::Unusable, "no issuer metadata: status 302, and a redirect is not followed"),
        (200, "<html>", MintFailureKind::Unusable, "the issuer's metadata are not JSON"),
        (200, large, MintFailureKind::Unusable, "the answer is longer than 65536 bytes"),
    ] {
        let fake = Fake::serving(status, &[("location", "http://127.0.0.1:1/")], body).await;
        let error = discover(&endpoint(&fake.url("/").to_string())).await.unwrap_err();
        assert_eq!((error.kind, error.cause()), (kind, cause));
        assert_eq!(fake.seen().len(), 2);
    }
    let closed = discover(&endpoint("http://127.0.0.1:1")).await.unwrap_err();
    assert_eq!((closed.kind, closed.cause()), (MintFailureKind::Unavailable, "the host cannot be reached"));
}

#[tokio::test]
async fn an_issuer_that_may_not_be_asked_is_not_asked() {
    for issuer in ["http://issuer.test", "https://issuer.test/?a=b", "https://u:p@issuer.test", "issuer.test", ""] {
        let error = discover(&endpoint(issuer)).await.unwrap_err();
        assert!(error.cause().starts_with("misconfigured: the issuer "), "{issuer}: {error}");
    }
    let none = Endpoint { issuer: None, ..endpoint("") };
    assert_eq!(discover(&none).await.unwrap_err().cause(), "misconfigured: no issuer");
}

#[test]
fn a_slash_at_the_end_of_an_issuer_is_left_out_of_both_places() {
    for (issuer, oauth, openid) in [
        ("https://i.test", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
        ("https://i.test/", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
        ("https://i.test/a/", "/.well-known/oauth-authorization-server/a", "/a/.well-known/openid-configuration"),
        (
            "https://i.test:1/a/b",
            "/.well-known/oauth-authorization-server/a/b",
            "/a/b/.well-known/openid-configuration",
        ),
    ] {
        let places = places(issuer, false).unwrap();
        assert_eq!(places.each_ref().map(|place| place.path()), [oauth, openid]);
        assert!(places.iter().all(|place| issuer.starts_with(&format!("https://{}", place.authority().unwrap()))));
    }
}

/// C8: urls to which a secret may be sent are told from others.
#[test]
fn urls_to_which_a_secret_may_be_sent_are_told_from_others() {
    for (url, plain, safe) in [
        ("https://a.test/token?x=y", false, true),
        ("HTTPS://A.test/token", false, true),
        ("http://127.0.0.1:8080/token", false, true),
        ("http://[::1]/token", false, true),
        ("http://localhost/token", false, true),
        ("http://a.test/token", false, false),
        ("http://a.test/token", true, true),
        ("http://127.0.0.1.a.test/token", false, false),
        ("ftp://a.test/token", true, false),
        ("https://u@a.test/token", true, false),
        ("https://a.test/token#x", true, false),
        ("https://a.test/to ken", true, false),
        ("//a.test/token", true, false),
        ("/token", true, false),
        ("", true, false),
    ] {
        assert_eq!(safe_url(url, plain).is_ok(), safe, "{url}");
    }
}

#[test]
fn documents_are_read_strictly_where_it_matters() {
    let judged = |body: &str| read(body.as_bytes(), "https://i.test", false);
    let cause = |body: &str| judged(body).map_err(|error: MintError| error.cause().to_owned()).unwrap_err();
    for (body, problem) in [
        ("[]", "name no issuer"),
        (r#"{"issuer":7}"#, "name no issuer"),
        (r#"{"issuer":"https://i.test"}"#, "name no token endpoint"),
        (r#"{"issuer":"https://I.test","token_endpoint":"https://i.test/t"}"#, "name another issuer"),
        (r#"{"issuer":"https://i.test","issuer":"https://i.test"}"#, "hold a member more than once"),
        (r#"{"issuer":"https://i.test","token_endpoint":7}"#, "have a token endpoint that is not a text"),
        (
            r#"{"issuer":"https://i.test","token_endpoint":"http://i.test/t"}"#,
            "have a token endpoint that is not https",
        ),
        (
            r#"{"issuer":"https://i.test","token_endpoint":"https://i.test/t",
                "mtls_endpoint_aliases":{"token_endpoint":"http://i.test/t"}}"#,
            "have a token endpoint that is not https",
        ),
    ] {
        assert_eq!(cause(body), format!("the issuer's metadata {problem}"), "{body}");
    }
    let found = judged(r#"{"issuer":"https://i.test","token_endpoint":"https://else.test/t"}"#).unwrap();
    assert_eq!(found.authentication_methods, ["client_secret_basic"]);
    assert_eq!(found.mtls_token_endpoint, None);
}
