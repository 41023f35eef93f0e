//! Which cells are shared, and what the data plane sees of a credential.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use tokio::runtime::Handle;

use super::Minters;
use crate::fetch::fake::Fake;
use crate::metrics::Metrics;
use crate::name::Name;
use crate::secret::Secret;
use crate::tls::Profile;
use crate::token::{
    BasicEncoding, ClientAuthentication, Endpoint, Inject, LifetimeRules, MintFailureKind, Parameters,
    PrincipalSettings, RenewAhead, Settings,
};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn principal(text: &str, callers: Option<&[&str]>) -> PrincipalSettings {
    PrincipalSettings {
        name: name(text),
        client_id: text.to_owned(),
        client_secret: Secret::new("secret".to_owned()),
        callers: callers.map(|callers| callers.iter().map(|caller| name(caller)).collect()),
    }
}

fn settings(url: http::Uri) -> Settings {
    Settings {
        name: name("apigee"),
        endpoint: Endpoint {
            url,
            tls: Arc::new(Profile::trusting_nobody().unwrap()),
            timeout: Duration::from_secs(20),
        },
        client_authentication: ClientAuthentication::ClientSecretBasic(BasicEncoding::Form),
        scope: None,
        audience: Vec::new(),
        resource: Vec::new(),
        parameters: Parameters::default(),
        lifetime: LifetimeRules {
            default: Duration::from_secs(900),
            max: Duration::from_secs(86_400),
            renew_ahead: RenewAhead::Share(0.2),
            expiry_margin: Duration::from_secs(10),
        },
        accept_token_types: vec!["bearer".to_owned(), String::new()],
        mint_at_start: false,
        required_for_readiness: false,
        additional_refresh_status_codes: vec![StatusCode::FORBIDDEN],
        inject: Inject { header: http::header::AUTHORIZATION, scheme: Some("Bearer".to_owned()) },
        principals: vec![principal("default", None)],
    }
}

fn minters() -> Minters {
    Minters::new(Handle::current(), Metrics::default())
}

#[tokio::test]
async fn equal_token_requests_share_a_cell_whatever_they_are_called() {
    let mut minters = minters();
    let plain = settings("http://127.0.0.1:1/token".parse().unwrap());
    let cell = |minters: &mut Minters, settings: &Settings| {
        Arc::clone(minters.external_credential(settings).principal(&[]).unwrap().cell())
    };
    let first = cell(&mut minters, &plain);
    let mut same = plain.clone();
    same.name = name("other");
    same.inject = Inject { header: HeaderName::from_static("x-token"), scheme: None };
    same.lifetime.max = Duration::from_secs(60);
    same.endpoint.timeout = Duration::from_secs(1);
    assert!(Arc::ptr_eq(&first, &cell(&mut minters, &same)));
    let different: [&dyn Fn(&mut Settings); 8] = [
        &|s| s.scope = Some("a".to_owned()),
        &|s| s.audience = vec!["a".to_owned()],
        &|s| s.resource = vec!["a".to_owned()],
        &|s| s.endpoint.url = "http://127.0.0.1:1/token?x".parse().unwrap(),
        &|s| s.client_authentication = ClientAuthentication::ClientSecretPost,
        &|s| s.parameters.body = vec![("a".to_owned(), Secret::new("b".to_owned()))],
        &|s| s.principals[0].client_id = "another".to_owned(),
        &|s| s.principals[0].client_secret = Secret::new("another".to_owned()),
    ];
    for (index, change) in different.iter().enumerate() {
        let mut changed = plain.clone();
        change(&mut changed);
        assert!(!Arc::ptr_eq(&first, &cell(&mut minters, &changed)), "{index}");
    }
}

#[tokio::test]
async fn a_live_token_survives_a_reload_and_a_cell_that_nobody_holds_does_not() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":60}"#).await;
    let settings = settings(fake.url("/token"));
    let mut minters = minters();
    let before = minters.external_credential(&settings);
    let token = before.principal(&[]).unwrap().cell().token().await.unwrap();
    let after = minters.external_credential(&settings);
    drop(before);
    assert_eq!(after.principal(&[]).unwrap().cell().live().unwrap().id(), token.id());
    drop(after);
    assert!(minters.external_credential(&settings).principal(&[]).unwrap().cell().live().is_none());
}

#[tokio::test]
async fn a_corrected_secret_does_not_wait_for_the_wrong_ones_back_off() {
    let fake = Fake::serve(|request| {
        let good = request.body().windows(4).any(|part| part == b"good");
        let (status, body) =
            if good { (200, r#"{"access_token":"t"}"#) } else { (401, r#"{"error":"invalid_client"}"#) };
        http::Response::builder().status(status).body(body.into()).unwrap()
    })
    .await;
    let mut settings = settings(fake.url("/token"));
    settings.client_authentication = ClientAuthentication::ClientSecretPost;
    let mut minters = minters();
    let wrong = minters.external_credential(&settings);
    let failure = wrong.principal(&[]).unwrap().cell().token().await.unwrap_err();
    assert_eq!((failure.kind, failure.cause.as_str()), (MintFailureKind::Refused, "invalid_client"));
    settings.principals[0].client_secret = Secret::new("good".to_owned());
    let right = minters.external_credential(&settings);
    assert!(right.principal(&[]).unwrap().cell().token().await.is_ok());
}

#[tokio::test]
async fn a_token_is_attached_with_the_scheme_of_each_credential_that_shares_it() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"tok-1","token_type":"bearer"}"#).await;
    let plain = settings(fake.url("/token"));
    let mut bare = plain.clone();
    bare.inject = Inject { header: HeaderName::from_static("x-amz-access-token"), scheme: None };
    let mut minters = minters();
    let (with_scheme, without) = (minters.external_credential(&plain), minters.external_credential(&bare));
    let token = with_scheme.principal(&[]).unwrap().cell().token().await.unwrap();
    for (credential, header, value) in
        [(&with_scheme, "authorization", "Bearer tok-1"), (&without, "x-amz-access-token", "tok-1")]
    {
        assert_eq!(credential.inject_header(), header);
        for _ in 0..2 {
            let attachment = credential.principal(&[]).unwrap().attachment(&token);
            assert_eq!(attachment, value);
            assert!(attachment.is_sensitive());
        }
    }
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn the_first_principal_that_admits_a_caller_is_taken() {
    let mut settings = settings("http://127.0.0.1:1/token".parse().unwrap());
    settings.principals = vec![
        principal("one", Some(&["billing"])),
        principal("two", Some(&["sales", "billing"])),
        principal("all", None),
    ];
    let credential = minters().external_credential(&settings);
    for (callers, expected) in
        [(&["billing"][..], "one"), (&["sales"], "two"), (&["other"], "all"), (&[], "all"), (&["x", "billing"], "one")]
    {
        let callers: Vec<Name> = callers.iter().map(|caller| name(caller)).collect();
        assert_eq!(credential.principal(&callers).unwrap().name().as_str(), expected);
    }
    settings.principals.pop();
    assert!(minters().external_credential(&settings).principal(&[name("other")]).is_none());
}

#[tokio::test]
async fn a_401_and_listed_codes_are_rejections() {
    let credential = minters().external_credential(&settings("http://127.0.0.1:1/token".parse().unwrap()));
    for (status, rejection) in [(401, true), (403, true), (200, false), (400, false), (407, false), (500, false)] {
        assert_eq!(credential.is_rejection(StatusCode::from_u16(status).unwrap()), rejection, "{status}");
    }
}

#[tokio::test]
async fn dropping_the_minters_fails_those_who_wait() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings("http://127.0.0.1:1/token".parse().unwrap()));
    drop(minters);
    let failure = credential.principal(&[]).unwrap().cell().token().await.unwrap_err();
    assert_eq!(failure.kind, MintFailureKind::Unavailable);
}
