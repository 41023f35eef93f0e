//! What we sign: assertions, and proofs of possession with the server's nonce.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use serde_json::Value;

use super::{TOKEN, body, mint, request};
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::sign::{HmacAlgorithm, Signer};
use crate::token::{
    Assertion, AssertionKey, AssertionSource, ClientAuthentication, Grant, GrantKind, MintFailureKind, Settings,
};

const BOUND: &str = r#"{"access_token":"tok-1","token_type":"DPoP"}"#;

fn assertion(key: AssertionKey) -> Assertion {
    Assertion {
        key,
        issuer: None,
        subject: None,
        audience: Vec::new(),
        lifetime: Duration::from_secs(120),
        claims: Vec::new(),
        header: Vec::new(),
    }
}

fn signed() -> Assertion {
    assertion(AssertionKey::Signer(Arc::new(Signer::generate_es256().unwrap())))
}

fn parameter(request: &Request<bytes::Bytes>, name: &str) -> String {
    let mut pairs = oauth2::url::form_urlencoded::parse(request.body());
    pairs.find(|(known, _)| known == name).unwrap().1.into_owned()
}

fn part(jwt: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn proof(request: &Request<bytes::Bytes>) -> &str {
    request.headers()["dpop"].to_str().unwrap()
}

/// C11: a signed assertion is made for the issuer or else the endpoint and never sent twice.
#[tokio::test]
async fn a_signed_assertion_is_made_for_the_issuer_or_else_the_endpoint_and_never_sent_twice() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = Settings::sample(fake.url("/token?x=1"));
    settings.principals[0].client_secret = Some(Secret::new("a secret of at least 32 characters".to_owned()));
    for authentication in [
        ClientAuthentication::PrivateKeyJwt(AssertionSource::Signed(Box::new(signed()))),
        ClientAuthentication::ClientSecretJwt(Box::new(assertion(AssertionKey::ClientSecret(HmacAlgorithm::Hs256)))),
    ] {
        request(&mut settings).client_authentication = Some(authentication);
        for issuer in [None, Some("https://issuer.example/")] {
            request(&mut settings).endpoint.issuer = issuer.map(str::to_owned);
            mint(&settings).await.unwrap();
            let sent = fake.seen().pop().unwrap();
            let claims = part(&parameter(&sent, "client_assertion"), 1);
            assert_eq!(claims["iss"], "default");
            let endpoint = fake.url("/token").to_string();
            let audience = issuer.unwrap_or(&endpoint);
            assert!(claims["aud"] == audience || claims["aud"] == serde_json::json!([audience]), "{claims}");
            assert!(!sent.headers().contains_key("authorization") && !body(&sent).contains("client_secret="));
        }
    }
    let sent: HashSet<String> = fake.seen().iter().map(|sent| parameter(sent, "client_assertion")).collect();
    assert_eq!(sent.len(), 4);
}

#[tokio::test]
async fn a_signed_assertion_can_be_the_grant_or_the_bearer_token_of_the_request() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = Settings::sample(fake.url("/token"));
    request(&mut settings).client_authentication = Some(ClientAuthentication::None);
    let kind = GrantKind::JwtBearer(AssertionSource::Signed(Box::new(signed())));
    request(&mut settings).grant = Grant { kind, grant_type: None };
    mint(&settings).await.unwrap();
    request(&mut settings).grant = Grant { kind: GrantKind::ClientCredentials, grant_type: Some(String::new()) };
    request(&mut settings).client_authentication = Some(ClientAuthentication::BearerJwt(Box::new(signed())));
    mint(&settings).await.unwrap();
    let seen = fake.seen();
    assert_eq!(part(&parameter(&seen[0], "assertion"), 1)["sub"], "default");
    assert!(!body(&seen[0]).contains("client_assertion"));
    let bearer = super::authorization(&seen[1]).strip_prefix("Bearer ").unwrap();
    assert_eq!(part(bearer, 1)["iss"], "default");
    assert_eq!(body(&seen[1]), "");
}

/// C13: a nonce that the server wants is sent once within the same mint.
#[tokio::test]
async fn a_nonce_that_the_server_wants_is_sent_once_within_the_same_mint() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::serve(move |_| {
        let (status, body) = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => (400, r#"{"error":"use_dpop_nonce"}"#),
            _ => (200, BOUND),
        };
        Response::builder().status(status).header("dpop-nonce", "n-1").body(body.into()).unwrap()
    })
    .await;
    let mut settings = Settings::sample(fake.url("/token?x=1"));
    request(&mut settings).dpop = true;
    Arc::make_mut(&mut request(&mut settings).response).accept_token_types = vec!["dpop".to_owned()];
    assert_eq!(mint(&settings).await.unwrap().token_type(), Some("DPoP"));
    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    let (first, second) = (part(proof(&seen[0]), 1), part(proof(&seen[1]), 1));
    assert_eq!((first.get("nonce"), &second["nonce"]), (None, &Value::from("n-1")));
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!((&second["htm"], &second["htu"]), (&Value::from("POST"), &Value::from(fake.url("/token").to_string())));
}

#[tokio::test]
async fn a_server_that_always_wants_another_nonce_is_asked_twice() {
    let asked = AtomicUsize::new(0);
    let fake = Fake::serve(move |_| {
        let nonce = format!("n-{}", asked.fetch_add(1, Ordering::Relaxed));
        let body = r#"{"error":"use_dpop_nonce"}"#;
        Response::builder().status(401).header("dpop-nonce", nonce).body(body.into()).unwrap()
    })
    .await;
    let mut settings = Settings::sample(fake.url("/token"));
    request(&mut settings).dpop = true;
    assert_eq!(mint(&settings).await.unwrap_err().cause(), "use_dpop_nonce");
    assert_eq!(fake.seen().len(), 2);
}

/// C13: a bearer token is not what was asked for with DPoP.
#[tokio::test]
async fn a_bearer_token_is_not_what_was_asked_for_with_dpop() {
    for (answer, said) in [
        (r#"{"access_token":"canary","token_type":"bearer"}"#, "token_type: Bearer"),
        (r#"{"access_token":"canary"}"#, "there is no token_type"),
    ] {
        let fake = Fake::serving(200, &[], answer).await;
        let mut settings = Settings::sample(fake.url("/token"));
        request(&mut settings).dpop = true;
        Arc::make_mut(&mut request(&mut settings).response).accept_token_types = vec!["dpop".to_owned()];
        let error = mint(&settings).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.cause()),
            (MintFailureKind::Unusable, "the token is not bound to the DPoP key")
        );
        assert!(error.detail().unwrap().starts_with(said) && !format!("{error:?}").contains("canary"));
    }
}
