//! What the commands that explain a mint get to see, and what nobody does.

use http::{HeaderName, Method, Response};

use super::request;
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::token::{
    AssertionSource, BasicEncoding, ClientAuthentication, Grant, GrantKind, Observed, Settings, mint_observed,
};

/// `{"alg":"none"}`, `{"aud":"https://a","sub":"me"}` and a signature.
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJodHRwczovL2EiLCJzdWIiOiJtZSJ9.canary-signature";

async fn observe(settings: &Settings) -> Observed {
    mint_observed(settings, &settings.principals[0], &[]).await
}

fn canary(settings: &mut Settings) {
    let secret = |text: &str| Secret::new(text.to_owned());
    settings.principals[0].client_secret = Some(secret("canary/secret+1 \"x\""));
    settings.principals[0].username = Some("me".to_owned());
    settings.principals[0].password = Some(secret("canary pass"));
    settings.principals[0].refresh_token = Some(secret("canary-refresh"));
    request(settings).parameters.query = vec![("key".to_owned(), secret("canary-query"))];
    request(settings).parameters.body = vec![("apikey".to_owned(), secret("canary&body"))];
    request(settings).parameters.headers = vec![(HeaderName::from_static("x-key"), secret("canary-header"))];
}

/// Says everything back: as text, and as it came.
fn echo(request: &http::Request<bytes::Bytes>) -> serde_json::Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let decoded: Vec<_> = oauth2::url::form_urlencoded::parse(request.body()).map(|(_, value)| value).collect();
    let fields: Vec<_> = request.headers().values().map(|value| text(value.as_bytes())).collect();
    serde_json::json!({
        "error": "invalid_grant",
        "error_description": format!("no {}", request.uri()),
        "body": text(request.body()), "values": decoded, "fields": fields,
        "access_token": "canary-access", "data": {"id_token": "canary-id", "secret": "x"},
    })
}

#[tokio::test]
async fn no_secret_is_seen_whatever_the_layout_and_however_the_server_echoes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, JWT).unwrap();
    let fake = Fake::serve(|request| {
        let echo = echo(request).to_string();
        let cookie = "s=canary-cookie";
        Response::builder()
            .status(400)
            .header("set-cookie", cookie)
            .header("x-echo", "canary-access")
            .body(echo.into())
            .unwrap()
    })
    .await;
    let mut settings = Settings::sample(fake.url("/token?v=1"));
    canary(&mut settings);
    for authentication in [
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Form),
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw),
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Percent),
        ClientAuthentication::ClientSecretPost,
        ClientAuthentication::Query,
        ClientAuthentication::Json,
        ClientAuthentication::PrivateKeyJwt(AssertionSource::File(file.clone())),
    ] {
        for kind in [GrantKind::Password, GrantKind::RefreshToken { store: None }] {
            request(&mut settings).client_authentication = Some(authentication.clone());
            request(&mut settings).grant = Grant { kind, grant_type: None };
            let observed = observe(&settings).await;
            let told = format!("{observed:?} {:?}", observed.sightings);
            assert!(!told.to_lowercase().contains("canary"), "{authentication:?}: {told}");
            assert_eq!(observed.sightings.len(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_no_secret_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, JWT).unwrap();
    let answer = r#"{"access_token":"tok-1234567","expires_in":3600,"scope":"a","token_type":"Bearer"}"#;
    let fake = Fake::serving(200, &[("x-request-id", "r-1")], answer).await;
    let mut settings = Settings::sample(fake.url("/token?v=1"));
    request(&mut settings).client_authentication =
        Some(ClientAuthentication::PrivateKeyJwt(AssertionSource::File(file)));
    let observed = observe(&settings).await;
    assert_eq!(observed.outcome.unwrap().value().expose(), "tok-1234567");
    let sent = &observed.sightings[0].sent;
    assert_eq!((sent.method.as_str(), &sent.url), ("POST", &fake.url("/token?v=1").to_string()));
    assert_eq!(
        sent.body,
        "grant_type=client_credentials\nclient_id=default\n\
         client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer\n\
         client_assertion=<JWT header {\"alg\":\"none\"} claims {\"aud\":\"https://a\",\"sub\":\"me\"}>"
    );
    assert!(sent.headers.contains(&("accept".to_owned(), "application/json".to_owned())));
    let received = observed.sightings[0].received.as_ref().unwrap();
    assert_eq!(received.status, 200);
    assert!(received.headers.contains(&("x-request-id".to_owned(), "r-1".to_owned())));
    assert_eq!(received.body, answer.replace("tok-1234567", "********"));
}

#[tokio::test]
async fn credentials_are_shown_by_their_scheme_and_parameters_by_their_name() {
    let fake = Fake::serving(200, &[], super::TOKEN).await;
    let mut settings = Settings::sample(fake.url("/token?v=1"));
    canary(&mut settings);
    let sent = observe(&settings).await.sightings.remove(0).sent;
    assert!(sent.headers.contains(&("authorization".to_owned(), "Basic ********".to_owned())));
    assert_eq!(sent.body, "grant_type=client_credentials\napikey=********");
    assert!(sent.url.ends_with("/token?v=1&key=********"), "{}", sent.url);
    request(&mut settings).method = Method::GET;
    request(&mut settings).client_authentication = Some(ClientAuthentication::Query);
    let sent = observe(&settings).await.sightings.remove(0).sent;
    assert!(
        sent.url.ends_with(
            "/token?v=1&key=********&grant_type=client_credentials&apikey=********&client_id=default\
             &client_secret=********"
        ),
        "{}",
        sent.url
    );
}

#[tokio::test]
async fn tokens_are_hidden_in_answers_of_any_kind() {
    for (media, answer) in [
        ("application/json", r#"{"access_token":"canary-token""#),
        ("application/json", r#"{"data":{"tok":"canary-token"},"note":"canary-token"}"#),
        ("application/json", r#"[{"Access_Token":"canary-token"}]"#),
        ("application/json", r#""eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.canary""#),
        ("text/plain", "access_token=canary-token&x=y"),
        ("application/x-www-form-urlencoded", "access_token=canary-token&refresh_token=canary-other"),
        ("text/plain", "canary0token1of2many3characters"),
        ("text/html", "<p>your tok is canary-token</p>"),
    ] {
        let fake =
            Fake::serve(move |_| Response::builder().header("content-type", media).body(answer.into()).unwrap()).await;
        let mut settings = Settings::sample(fake.url("/token"));
        std::sync::Arc::make_mut(&mut request(&mut settings).response).token = "/data/tok".to_owned();
        let observed = observe(&settings).await;
        let told = format!("{:?} {observed:?}", observed.sightings);
        assert!(!told.contains("canary"), "{answer}: {told}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_and_a_tricky_one_made_harmless() {
    let answer = Box::leak(format!("{{\"x\":\"\u{202e}{}\"}}", "é".repeat(4000)).into_boxed_str());
    let fake = Fake::serving(400, &[], answer).await;
    let observed = observe(&Settings::sample(fake.url("/token"))).await;
    let body = &observed.sightings[0].received.as_ref().unwrap().body;
    assert!(body.len() <= 4 * 1024 + '…'.len_utf8() && body.starts_with("{\"x\":\"?é"), "{body}");
}

#[tokio::test]
async fn what_brought_no_answer_is_seen_with_its_causes() {
    let observed = observe(&Settings::sample(http::Uri::from_static("http://127.0.0.1:1/token"))).await;
    let causes = observed.sightings[0].received.as_ref().unwrap_err();
    assert!(causes.starts_with("connecting failed: "), "{causes}");
}
