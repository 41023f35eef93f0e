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
use crate::token::{
    ClientAuthentication, ExternalCredential, Flow, Grant, GrantKind, Inject, MintFailureKind, PrincipalSettings,
    Renewal, Settings, Text, Verdict,
};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn principal(text: &str, callers: Option<&[&str]>) -> PrincipalSettings {
    let mut principal = PrincipalSettings::sample(text);
    principal.callers = callers.map(|callers| callers.iter().map(|caller| name(caller)).collect());
    principal
}

fn settings(url: http::Uri) -> Settings {
    let mut settings = Settings::sample(url);
    settings.rejection.additional_status_codes = vec![StatusCode::FORBIDDEN];
    settings
}

fn minters() -> Minters {
    Minters::new(Handle::current(), Metrics::default())
}

#[tokio::test]
async fn equal_token_requests_share_a_cell_whatever_they_are_called() {
    let mut minters = minters();
    let plain = settings("http://127.0.0.1:1/token".parse().unwrap());
    let cell = |minters: &mut Minters, settings: &Settings| {
        Arc::clone(minters.external_credential(settings).principal(&[]).unwrap().fixed_cell().unwrap())
    };
    let first = cell(&mut minters, &plain);
    let mut same = plain.clone();
    same.name = name("other");
    same.inject = Inject { header: HeaderName::from_static("x-token"), scheme: None };
    same.lifetime.max = Duration::from_secs(60);
    same.request_mut().unwrap().endpoint.timeout = Duration::from_secs(1);
    assert!(Arc::ptr_eq(&first, &cell(&mut minters, &same)));
    let different: [&dyn Fn(&mut Settings); 8] = [
        &|s| s.request_mut().unwrap().scope = Some(Text::Literal("a".to_owned())),
        &|s| s.request_mut().unwrap().audience = vec![Text::Literal("a".to_owned())],
        &|s| s.request_mut().unwrap().resource = vec!["a".to_owned()],
        &|s| s.request_mut().unwrap().endpoint.url = Some("http://127.0.0.1:1/token?x".parse().unwrap()),
        &|s| s.request_mut().unwrap().client_authentication = Some(ClientAuthentication::ClientSecretPost),
        &|s| s.request_mut().unwrap().parameters.body = vec![("a".to_owned(), Secret::new("b".to_owned()))],
        &|s| s.principals[0].client_id = "another".to_owned(),
        &|s| s.principals[0].client_secret = Some(Secret::new("another".to_owned())),
    ];
    for (index, change) in different.iter().enumerate() {
        let mut changed = plain.clone();
        change(&mut changed);
        assert!(!Arc::ptr_eq(&first, &cell(&mut minters, &changed)), "{index}");
    }
}

/// C23: a live token survives a reload and a cell that nobody holds does not.
#[tokio::test]
async fn a_live_token_survives_a_reload_and_a_cell_that_nobody_holds_does_not() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":60}"#).await;
    let settings = settings(fake.url("/token"));
    let mut minters = minters();
    let before = minters.external_credential(&settings);
    let token = before.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap();
    let after = minters.external_credential(&settings);
    drop(before);
    assert_eq!(after.principal(&[]).unwrap().fixed_cell().unwrap().live().unwrap().id(), token.id());
    drop(after);
    assert!(minters.external_credential(&settings).principal(&[]).unwrap().fixed_cell().unwrap().live().is_none());
}

/// How many tasks run: minters and those that watch an issuer.
fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Of many credentials most are idle: one that nobody has asked has no minter.
#[tokio::test]
async fn a_cell_gets_its_minter_when_it_is_first_asked() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":60}"#).await;
    let plain = settings(fake.url("/token"));
    let mut minters = minters();
    let before = tasks();
    let credential = minters.external_credential(&plain);
    let cell = credential.principal(&[]).unwrap().fixed_cell().unwrap();
    assert!(cell.live().is_none());
    assert_eq!(tasks(), before);
    assert!(cell.token().await.is_ok());
    let (first, running) = (fake.seen().len(), tasks());
    assert!(running > before);
    assert!(cell.token().await.is_ok());
    assert_eq!((fake.seen().len(), tasks()), (first, running));
    let mut early = plain.clone();
    early.mint_at_start = true;
    early.principals[0].client_id = "early".to_owned();
    let kept = minters.external_credential(&early);
    assert_eq!(tasks(), running + 1, "it has something to do at once");
    let mut issued = plain;
    issued.request_mut().unwrap().endpoint.url = None;
    issued.request_mut().unwrap().endpoint.issuer = Some("http://127.0.0.1:1".to_owned());
    let watching = minters.external_credential(&issued);
    assert_eq!(tasks(), running + 3, "an issuer is asked before the first caller comes");
    drop((kept, watching));
}

/// An idle cell that is asked when the minters are gone says so and waits for nothing.
#[tokio::test]
async fn an_idle_cell_that_has_outlived_the_minters_fails_at_once() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings("http://127.0.0.1:1/token".parse().unwrap()));
    drop(minters);
    let cell = credential.principal(&[]).unwrap().fixed_cell().unwrap();
    assert_eq!(cell.token().await.unwrap_err().cause, "the minter has ended");
}

/// What a later configuration says of an idle cell counts when it is asked.
#[tokio::test]
async fn the_rules_of_the_newest_configuration_count_for_an_idle_cell() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":7200}"#).await;
    let mut settings = settings(fake.url("/token"));
    let metrics = Metrics::default();
    let mut minters = Minters::new(Handle::current(), metrics.clone());
    let before = minters.external_credential(&settings);
    settings.lifetime.max = Duration::from_secs(60);
    let after = minters.external_credential(&settings);
    settings.name = name("other");
    let other = minters.external_credential(&settings);
    let token = before.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap();
    assert!(token.end() <= tokio::time::Instant::now() + Duration::from_secs(60));
    let text = metrics.encode();
    assert!(text.contains(r#"keybearer_mints_total{external_credential="apigee",principal="default",outcome="ok"} 1"#));
    assert!(text.contains(r#"keybearer_token_age_seconds{external_credential="other",principal="default"}"#), "{text}");
    drop((after, other));
}

/// A server that takes the secret `good` alone.
async fn knowing_the_good() -> Fake {
    Fake::serve(|request| {
        let good = request.body().windows(4).any(|part| part == b"good");
        let (status, body) =
            if good { (200, r#"{"access_token":"t"}"#) } else { (401, r#"{"error":"invalid_client"}"#) };
        http::Response::builder().status(status).body(body.into()).unwrap()
    })
    .await
}

/// C20, C23: a corrected secret does not wait for the wrong one's back-off.
#[tokio::test]
async fn a_corrected_secret_does_not_wait_for_the_wrong_ones_back_off() {
    let fake = knowing_the_good().await;
    let mut settings = settings(fake.url("/token"));
    settings.request_mut().unwrap().client_authentication = Some(ClientAuthentication::ClientSecretPost);
    let mut minters = minters();
    let wrong = minters.external_credential(&settings);
    let failure = wrong.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap_err();
    assert_eq!((failure.kind, failure.cause.as_str()), (MintFailureKind::Refused, "invalid_client"));
    settings.principals[0].client_secret = Some(Secret::new("good".to_owned()));
    let right = minters.external_credential(&settings);
    assert!(right.principal(&[]).unwrap().fixed_cell().unwrap().token().await.is_ok());
}

#[tokio::test]
async fn a_token_is_attached_with_the_scheme_of_each_credential_that_shares_it() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"tok-1","token_type":"bearer"}"#).await;
    let plain = settings(fake.url("/token"));
    let mut bare = plain.clone();
    bare.inject = Inject { header: HeaderName::from_static("x-amz-access-token"), scheme: None };
    let mut minters = minters();
    let (with_scheme, without) = (minters.external_credential(&plain), minters.external_credential(&bare));
    let token = with_scheme.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap();
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
        let verdict = credential.rejection().head(StatusCode::from_u16(status).unwrap(), &http::HeaderMap::new());
        assert_eq!(verdict != Verdict::Accepted, rejection, "{status}");
    }
}

#[tokio::test]
async fn dropping_the_minters_fails_those_who_wait() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings("http://127.0.0.1:1/token".parse().unwrap()));
    drop(minters);
    let failure = credential.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap_err();
    assert_eq!(failure.kind, MintFailureKind::Unavailable);
}

fn own(flow: Flow, change: impl Fn(&mut PrincipalSettings)) -> Settings {
    let mut settings = settings("http://127.0.0.1:1/token".parse().unwrap());
    settings.flow = flow;
    change(&mut settings.principals[0]);
    settings
}

#[tokio::test(start_paused = true)]
async fn a_configured_token_is_there_for_good_and_a_rejection_brings_it_again() {
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let basic = own(Flow::Basic, |principal| {
        (principal.username, principal.password) = (Some("Aladdin".to_owned()), secret("open sesame"));
    });
    let fixed = own(Flow::Static, |principal| principal.token = secret("key-1"));
    for (mut settings, scheme, attached) in
        [(basic, Some("Basic"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), (fixed, None, "key-1")]
    {
        settings.inject.scheme = scheme.map(str::to_owned);
        let metrics = Metrics::default();
        let mut minters = Minters::new(Handle::current(), metrics.clone());
        let credential = minters.external_credential(&settings);
        let principal = credential.principal(&[]).unwrap();
        let cell = principal.fixed_cell().unwrap();
        let token = cell.token().await.unwrap();
        assert_eq!(principal.attachment(&token), attached);
        tokio::time::advance(Duration::from_secs(30 * 365 * 24 * 60 * 60)).await;
        assert_eq!(cell.live().unwrap().id(), token.id());
        assert!(matches!(cell.renew(&token).await, Renewal::SameToken));
        assert_eq!(cell.live().unwrap().id(), token.id(), "others go on with it");
        let text = metrics.encode();
        assert!(!text.contains("keybearer_mints_total"), "no server was asked: {text}");
        assert!(!text.contains("token_expires_seconds{"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_configured_token_that_cannot_be_sent_is_refused_as_misconfigured() {
    let settings = own(Flow::Basic, |principal| principal.username = Some("a:b".to_owned()));
    let mut minters = minters();
    let credential = minters.external_credential(&settings);
    let failure = credential.principal(&[]).unwrap().fixed_cell().unwrap().token().await.unwrap_err();
    assert_eq!(failure.cause, "misconfigured: the user name holds a colon");
}

#[tokio::test]
async fn a_cell_keeps_its_key_for_dpop_over_a_reload() {
    let mut settings = settings("http://127.0.0.1:1/token".parse().unwrap());
    settings.request_mut().unwrap().dpop = true;
    let mut minters = minters();
    let cell = |minters: &mut Minters, settings: &Settings| {
        Arc::clone(minters.external_credential(settings).principal(&[]).unwrap().fixed_cell().unwrap())
    };
    let before = cell(&mut minters, &settings);
    if crate::token::Dpop::generate().is_err() {
        let failure = before.token().await.unwrap_err();
        assert_eq!(failure.cause, "misconfigured: no key for DPoP can be made");
        return;
    }
    let key = Arc::clone(before.dpop().unwrap());
    let after = cell(&mut minters, &settings);
    assert!(Arc::ptr_eq(&key, after.dpop().unwrap()));
    settings.request_mut().unwrap().dpop = false;
    assert!(cell(&mut minters, &settings).dpop().is_none());
}

/// Pins: they shared a back-off, so one revoked grant made all others of the same application fail.
#[tokio::test]
async fn a_dead_refresh_token_does_not_hold_up_the_other_grants_of_its_client() {
    let fake = Fake::serve(|request| {
        let dead = request.body().windows(4).any(|part| part == b"dead");
        let (status, body) =
            if dead { (400, r#"{"error":"invalid_grant"}"#) } else { (200, r#"{"access_token":"t"}"#) };
        http::Response::builder().status(status).body(body.into()).unwrap()
    })
    .await;
    let mut settings = settings(fake.url("/token"));
    let kind = GrantKind::RefreshToken { store: None };
    settings.request_mut().unwrap().grant = Grant { kind, grant_type: None };
    settings.principals = ["dead", "good"]
        .map(|text| PrincipalSettings {
            client_id: "app".to_owned(),
            refresh_token: Some(Secret::new(text.to_owned())),
            ..principal(text, Some(&[text]))
        })
        .to_vec();
    let mut minters = minters();
    let credential = minters.external_credential(&settings);
    let cell = |caller| credential.principal(&[name(caller)]).unwrap().fixed_cell().unwrap();
    assert_eq!(cell("dead").token().await.unwrap_err().cause, "invalid_grant");
    assert!(cell("good").token().await.is_ok());
    cell("dead").token().await.unwrap_err();
    assert_eq!(fake.seen().len(), 2, "and its success ends no back-off of the dead one");
}

/// Pins: they shared a back-off, so the wrong secret made the right one fail, and the right one's success had the wrong
/// one tried again at once, which locks clients out.
#[tokio::test]
async fn a_wrong_secret_and_a_right_one_of_one_client_have_nothing_to_do_with_each_other() {
    let fake = knowing_the_good().await;
    let mut wrong = settings(fake.url("/token"));
    wrong.request_mut().unwrap().client_authentication = Some(ClientAuthentication::ClientSecretPost);
    let mut right = wrong.clone();
    right.name = name("right");
    right.principals[0].client_secret = Some(Secret::new("good".to_owned()));
    let mut minters = minters();
    let [right, wrong] = [&right, &wrong].map(|settings| minters.external_credential(settings));
    let token = |credential: &Arc<ExternalCredential>| {
        let cell = Arc::clone(credential.principal(&[]).unwrap().fixed_cell().unwrap());
        async move { cell.token().await }
    };
    assert_eq!(token(&wrong).await.unwrap_err().cause, "invalid_client");
    assert!(token(&right).await.is_ok());
    token(&wrong).await.unwrap_err();
    assert_eq!(fake.seen().len(), 2);
}
