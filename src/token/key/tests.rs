//! What makes two token requests different, and what does not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::json;

use super::{client, refresh_grant, token_request};
use crate::connect::HttpProxy;
use crate::formula::Formula;
use crate::secret::{Secret, SecretSource};
use crate::sign::HmacAlgorithm;
use crate::token::{
    Assertion, AssertionKey, AssertionSource, BasicEncoding, Claim, ClientAuthentication, ExpiryUnit, GrantKind,
    PrincipalSettings, RequestSettings, Settings, TokenExchange, Values,
};

fn sample() -> (RequestSettings, PrincipalSettings) {
    let settings = Settings::sample("http://127.0.0.1:1/token".parse().unwrap());
    (settings.request().unwrap().clone(), settings.principals[0].clone())
}

fn text(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn assertion(change: impl FnOnce(&mut Assertion)) -> Option<ClientAuthentication> {
    let mut assertion = Assertion {
        key: AssertionKey::ClientSecret(HmacAlgorithm::Hs256),
        issuer: None,
        subject: None,
        audience: Vec::new(),
        lifetime: Duration::from_secs(120),
        claims: Vec::new(),
        header: Vec::new(),
    };
    change(&mut assertion);
    Some(ClientAuthentication::ClientSecretJwt(Box::new(assertion)))
}

fn exchange(subject_token: SecretSource) -> GrantKind {
    GrantKind::TokenExchange(Box::new(TokenExchange {
        subject_token,
        subject_token_type: "t".to_owned(),
        actor_token: None,
        requested_token_type: None,
    }))
}

type Change = fn(&mut RequestSettings, &mut PrincipalSettings);

/// Each reaches the endpoint, or says which part of its answer is the token.
const CHANGES: &[Change] = &[
    |_, _| {},
    |r, _| r.endpoint.url = Some("http://127.0.0.1:1/token?x".parse().unwrap()),
    |r, _| r.endpoint.url = None,
    |r, _| r.endpoint.issuer = Some("http://127.0.0.1:1".to_owned()),
    |r, _| r.endpoint.tls = Arc::new(crate::tls::Profile::system().unwrap()),
    |r, _| {
        let proxy = HttpProxy { host: "p".to_owned(), port: 1, authorization: None, no_proxy: Vec::new() };
        r.endpoint.http_proxy = Some(Arc::new(proxy));
    },
    |r, _| r.method = Method::GET,
    |r, _| r.grant.grant_type = Some(String::new()),
    |r, _| r.grant.kind = GrantKind::Password,
    |r, _| r.grant.kind = GrantKind::RefreshToken { store: None },
    |r, _| r.grant.kind = GrantKind::JwtBearer(AssertionSource::File("a".into())),
    |r, _| r.grant.kind = GrantKind::JwtBearer(AssertionSource::File("b".into())),
    |r, _| r.grant.kind = exchange(SecretSource::Env("a".to_owned())),
    |r, _| r.grant.kind = exchange(SecretSource::File("a".into())),
    |r, _| r.grant.kind = exchange(SecretSource::Command(vec!["a".to_owned()])),
    |r, _| r.grant.kind = exchange(SecretSource::DangerousLiteral(text("a"))),
    |r, _| r.client_authentication = None,
    |r, _| r.client_authentication = Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw)),
    |r, _| r.client_authentication = Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Percent)),
    |r, _| r.client_authentication = Some(ClientAuthentication::ClientSecretPost),
    |r, _| r.client_authentication = Some(ClientAuthentication::Query),
    |r, _| r.client_authentication = Some(ClientAuthentication::Json),
    |r, _| r.client_authentication = Some(ClientAuthentication::TlsClientAuth),
    |r, _| r.client_authentication = Some(ClientAuthentication::None),
    |r, _| r.client_authentication = Some(ClientAuthentication::PrivateKeyJwt(AssertionSource::File("a".into()))),
    |r, _| r.client_authentication = assertion(|_| {}),
    |r, _| r.client_authentication = assertion(|a| a.key = AssertionKey::ClientSecret(HmacAlgorithm::Hs512)),
    |r, _| r.client_authentication = assertion(|a| a.issuer = Some("a".to_owned())),
    |r, _| r.client_authentication = assertion(|a| a.subject = Some("a".to_owned())),
    |r, _| r.client_authentication = assertion(|a| a.audience = vec!["a".to_owned()]),
    |r, _| r.client_authentication = assertion(|a| a.lifetime = Duration::from_secs(1)),
    |r, _| r.client_authentication = assertion(|a| a.claims = vec![("a".to_owned(), Claim::Json(json!("1")))]),
    |r, _| r.client_authentication = assertion(|a| a.claims = vec![("a".to_owned(), Claim::Json(json!(1)))]),
    |r, _| r.client_authentication = assertion(|a| a.claims = vec![("a".to_owned(), Claim::Secret(text("1")))]),
    |r, _| r.client_authentication = assertion(|a| a.header = vec![("a".to_owned(), Claim::Json(json!("1")))]),
    |r, _| r.resource = vec!["a".to_owned()],
    |r, _| r.parameters.body = vec![("a".to_owned(), text("b"))],
    |r, _| r.parameters.query = vec![("a".to_owned(), text("b"))],
    |r, _| r.parameters.headers = vec![(HeaderName::from_static("a"), text("b"))],
    |r, _| Arc::make_mut(&mut r.response).token = "/id_token".to_owned(),
    |r, _| Arc::make_mut(&mut r.response).expires_unit = ExpiryUnit::Milliseconds,
    |r, _| r.dpop = true,
    |_, p| p.client_id = "a".to_owned(),
    |_, p| p.client_secret = None,
    |_, p| p.client_secret = Some(text("a")),
    |_, p| p.username = Some("a".to_owned()),
    |_, p| p.password = Some(text("a")),
    |_, p| p.refresh_token = Some(text("a")),
];

/// C10, C12, C23: whatever reaches the endpoint makes another cell.
#[test]
fn whatever_reaches_the_endpoint_makes_another_cell() {
    let mut known = HashSet::new();
    for (index, change) in CHANGES.iter().enumerate() {
        let (mut request, mut principal) = sample();
        change(&mut request, &mut principal);
        let key = || token_request(&request, &principal, &Values::default());
        assert_eq!(key(), key());
        assert!(known.insert(key()), "{index}");
    }
    let (request, principal) = sample();
    let a = || "a".to_owned();
    for values in [
        Values { scope: Some(a()), audience: Vec::new() },
        Values { scope: None, audience: vec![a()] },
        Values { scope: None, audience: vec![a(), String::new()] },
    ] {
        assert!(known.insert(token_request(&request, &principal, &values)), "{values:?}");
    }
}

#[test]
fn what_never_reaches_the_endpoint_changes_nothing() {
    let changes: [Change; 6] = [
        |r, _| r.endpoint.timeout = Duration::from_secs(1),
        |r, _| r.endpoint.longest_answer = 1,
        |r, _| r.endpoint.dangerous_plain_http = true,
        |_, p| p.callers = Some(Vec::new()),
        |_, p| p.token = Some(text("a")),
        |_, p| p.secrets = vec![("a".to_owned(), text("b"))],
    ];
    let (request, principal) = sample();
    let plain = token_request(&request, &principal, &Values::default());
    for (index, change) in changes.iter().enumerate() {
        let (mut request, mut principal) = sample();
        change(&mut request, &mut principal);
        assert_eq!(plain, token_request(&request, &principal, &Values::default()), "{index}");
    }
    let (mut one, mut other) = (request.clone(), request);
    one.grant.kind = GrantKind::RefreshToken { store: None };
    other.grant.kind = GrantKind::RefreshToken { store: Some("a".into()) };
    let key = |request| token_request(request, &principal, &Values::default());
    assert_eq!(key(&one), key(&other));
}

/// Pins: the strict one took the cell of the other, and with it a token endpoint that reads the secret in the clear.
#[test]
fn where_the_endpoint_is_discovered_it_counts_whether_it_may_be_plain_http() {
    let (mut request, principal) = sample();
    (request.endpoint.url, request.endpoint.issuer) = (None, Some("https://issuer.example".to_owned()));
    let mut lax = request.clone();
    lax.endpoint.dangerous_plain_http = true;
    let key = |request| token_request(request, &principal, &Values::default());
    assert_ne!(key(&request), key(&lax));
}

#[test]
fn named_secrets_count_where_a_claim_is_a_formula() {
    let (mut request, mut principal) = sample();
    let formula = Arc::new(Formula::compile("secrets.a").unwrap());
    request.client_authentication = assertion(|a| a.claims = vec![("a".to_owned(), Claim::Formula(formula))]);
    let before = (token_request(&request, &principal, &Values::default()), client(&request, &principal));
    principal.secrets = vec![("a".to_owned(), text("b"))];
    assert_ne!(before.0, token_request(&request, &principal, &Values::default()));
    assert_ne!(before.1, client(&request, &principal));
}

#[test]
fn a_client_is_its_name_and_its_proof_and_not_the_grant_that_it_brings() {
    let (request, principal) = sample();
    let same = PrincipalSettings { refresh_token: Some(text("other")), ..principal.clone() };
    assert_eq!(client(&request, &principal), client(&request, &same));
    for other in [
        PrincipalSettings { client_secret: Some(text("other")), ..principal.clone() },
        PrincipalSettings { password: Some(text("other")), ..principal.clone() },
        PrincipalSettings { client_id: "other".to_owned(), ..principal.clone() },
    ] {
        assert_ne!(client(&request, &principal), client(&request, &other));
    }
}

#[test]
fn a_refresh_grant_is_the_same_whatever_is_asked_for_with_it() {
    let (request, mut principal) = sample();
    let mut scoped = request.clone();
    scoped.resource = vec!["a".to_owned()];
    scoped.grant.kind = GrantKind::RefreshToken { store: Some("a".into()) };
    assert_eq!(refresh_grant(&request, &principal), refresh_grant(&scoped, &principal));
    let before = refresh_grant(&request, &principal);
    principal.refresh_token = Some(text("other"));
    assert_ne!(before, refresh_grant(&request, &principal));
}
