//! Token requests as they arrive at a server on loopback, and what becomes of its answers.

mod flows;
mod observed;
mod own;
mod proof;
mod rotation;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Request, Uri};
use tokio::net::TcpListener;

use super::exchange::ENCODING_HINT;
use crate::fetch::fake::Fake;
use crate::secret::Secret;
use crate::token::{
    BasicEncoding, ClientAuthentication, MintError, MintFailureKind, Minted, Origin, Parameters, RequestSettings,
    Settings, Text, mint_observed,
};

const TOKEN: &str = r#"{"access_token":"tok-1","token_type":"BearerToken","expires_in":"3599","scope":"a"}"#;

/// Id and secret of the test vector that AppAuth's discussion of RFC 6749 2.3.1 uses.
const ID: &str = "1PpG/Q 1";
const SECRET: &str = "z/tZ9VwFZqApmIQ+ZH1I5pLk/uB4ud:X2/8bL+wfFTt1rFw=";

fn settings(url: Uri) -> Settings {
    let mut settings = Settings::sample(url);
    settings.principals[0].client_id = ID.to_owned();
    settings.principals[0].client_secret = Some(Secret::new(SECRET.to_owned()));
    settings
}

fn request(settings: &mut Settings) -> &mut RequestSettings {
    settings.request_mut().unwrap()
}

async fn mint(settings: &Settings) -> Result<Minted, MintError> {
    mint_observed(settings, &settings.principals[0], &[]).await.outcome
}

fn authorization(request: &Request<bytes::Bytes>) -> &str {
    request.headers()["authorization"].to_str().unwrap()
}

fn body(request: &Request<bytes::Bytes>) -> &str {
    std::str::from_utf8(request.body()).unwrap()
}

#[tokio::test]
async fn a_token_with_a_text_lifetime_and_an_apigee_type_is_minted() {
    let fake = Fake::serving(200, &[("content-type", "text/javascript")], TOKEN).await;
    let minted = mint(&settings(fake.url("/token?grant_type=client_credentials"))).await.unwrap();
    assert_eq!(minted.value().expose(), "tok-1");
    assert_eq!((minted.token_type(), minted.scope()), (Some("BearerToken"), Some("a")));
    assert_eq!(minted.lifetime().span, Duration::from_secs(3599));
    let seen = fake.seen();
    assert_eq!(
        (seen[0].method().as_str(), seen[0].uri().to_string().as_str()),
        ("POST", "/token?grant_type=client_credentials")
    );
    assert_eq!(seen[0].headers()["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(seen[0].headers()["accept"], "application/json");
    assert!(seen[0].headers()["user-agent"].to_str().unwrap().starts_with("keybearer/"));
    // The URL says it already.
    assert_eq!(body(&seen[0]), "");
    assert_eq!(seen[0].headers()["content-length"], "0");
}

/// C2: basic credentials are encoded as configured.
#[tokio::test]
async fn basic_credentials_are_encoded_as_configured() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = settings(fake.url("/token"));
    mint(&settings).await.unwrap();
    for encoding in [BasicEncoding::Raw, BasicEncoding::Percent] {
        request(&mut settings).client_authentication = Some(ClientAuthentication::ClientSecretBasic(encoding));
        mint(&settings).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!(
        authorization(&seen[0]),
        "Basic MVBwRyUyRlErMTp6JTJGdFo5VndGWnFBcG1JUSUyQlpIMUk1cExrJTJGdUI0dWQlM0FYMiUyRjhiTCUyQndmRlR0MXJGdyUzRA=="
    );
    assert_eq!(authorization(&seen[1]), format!("Basic {}", STANDARD.encode(format!("{ID}:{SECRET}"))));
    let percent = "1PpG%2FQ%201:z%2FtZ9VwFZqApmIQ%2BZH1I5pLk%2FuB4ud%3AX2%2F8bL%2BwfFTt1rFw%3D";
    assert_eq!(authorization(&seen[2]), format!("Basic {}", STANDARD.encode(percent)));
    assert!(seen.iter().all(|request| body(request) == "grant_type=client_credentials"));
}

#[tokio::test]
async fn posted_credentials_are_in_the_form_and_nowhere_else() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let mut settings = settings(fake.url("/token"));
    request(&mut settings).client_authentication = Some(ClientAuthentication::ClientSecretPost);
    mint(&settings).await.unwrap();
    let seen = fake.seen();
    assert!(!seen[0].headers().contains_key("authorization"));
    assert_eq!(
        body(&seen[0]),
        "grant_type=client_credentials&client_id=1PpG%2FQ+1\
         &client_secret=z%2FtZ9VwFZqApmIQ%2BZH1I5pLk%2FuB4ud%3AX2%2F8bL%2BwfFTt1rFw%3D"
    );
}

/// C1, C4: what is asked for is sent once each and nothing empty.
#[tokio::test]
async fn what_is_asked_for_is_sent_once_each_and_nothing_empty() {
    let fake = Fake::serving(200, &[], TOKEN).await;
    let secret = |text: &str| Secret::new(text.to_owned());
    let mut settings = settings(fake.url("/token?x=%7e&y"));
    request(&mut settings).scope = Some(Text::Literal("a b//.default".to_owned()));
    request(&mut settings).audience = ["https://api.example", ""].map(|text| Text::Literal(text.to_owned())).to_vec();
    request(&mut settings).resource = vec!["urn:1".to_owned(), "urn:2".to_owned()];
    request(&mut settings).parameters = Parameters {
        body: vec![("grant_type".to_owned(), secret("account_credentials")), ("account_id".to_owned(), secret("7&8"))],
        query: vec![("key".to_owned(), secret("a b"))],
        headers: vec![(HeaderName::from_static("x-merchant-id"), secret("m"))],
    };
    let minted = mint(&settings).await.unwrap();
    assert_eq!(minted.missing_scopes(), ["b//.default"]);
    let seen = fake.seen();
    assert_eq!(seen[0].uri(), "/token?x=%7e&y&key=a+b");
    assert_eq!(seen[0].headers()["x-merchant-id"], "m");
    assert_eq!(
        body(&seen[0]),
        "grant_type=account_credentials&scope=a+b%2F%2F.default&audience=https%3A%2F%2Fapi.example\
         &resource=urn%3A1&resource=urn%3A2&account_id=7%268"
    );
    request(&mut settings).scope = None;
    mint(&settings).await.unwrap();
    assert!(!body(&fake.seen()[1]).contains("scope"));
}

#[tokio::test]
async fn a_missing_lifetime_is_the_default_and_an_absurd_one_the_maximum() {
    for (answer, seconds, origin) in [
        (r#"{"access_token":"t"}"#, 900, Origin::Default),
        (r#"{"access_token":"t","expires_in":18446744073709551615}"#, 86_400, Origin::Maximum),
        (r#"{"access_token":"t","expires_in":1438315200000}"#, 86_400, Origin::Maximum),
    ] {
        let fake = Fake::serving(200, &[], answer).await;
        let minted = mint(&settings(fake.url("/token"))).await.unwrap();
        assert_eq!((minted.lifetime().span.as_secs(), minted.lifetime().origin), (seconds, origin));
    }
}

/// C9: a redirect is an error and the secret goes no further.
#[tokio::test]
async fn a_redirect_is_an_error_and_the_secret_goes_no_further() {
    let elsewhere = Fake::serving(200, &[], TOKEN).await;
    let location = elsewhere.url("/token").to_string();
    let fake = Fake::serve(move |_| {
        http::Response::builder().status(307).header("location", location.as_str()).body(bytes::Bytes::new()).unwrap()
    })
    .await;
    let error = mint(&settings(fake.url("/token"))).await.unwrap_err();
    assert_eq!(error.kind(), MintFailureKind::Unusable);
    assert!(elsewhere.seen().is_empty());
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn failures_say_what_kind_they_are_and_keep_no_byte_of_the_answer() {
    let long = Box::leak(format!(r#"{{"access_token":"canary{}"}}"#, "x".repeat(70_000)).into_boxed_str());
    for (status, headers, answer, kind, cause) in [
        (200, &[][..], &*long, MintFailureKind::Unusable, "the answer is longer than 65536 bytes"),
        (
            200,
            &[],
            r#"{"access_token":"canary\r\nx: y"}"#,
            MintFailureKind::Unusable,
            "the access token holds bytes that a header cannot carry",
        ),
        (429, &[("retry-after", "7")], "canary", MintFailureKind::Unavailable, "status 429"),
        (401, &[], r#"{"error":"invalid_client"}"#, MintFailureKind::Refused, "invalid_client"),
        (200, &[], r#"{"access_token":"canary""#, MintFailureKind::Unusable, "the answer is neither JSON nor a form"),
    ] {
        let fake = Fake::serving(status, headers, answer).await;
        let error = mint(&settings(fake.url("/token"))).await.unwrap_err();
        assert_eq!((error.kind(), error.cause()), (kind, cause));
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(error.failure().retry_after.as_secs(), if status == 429 { 7 } else { 0 });
    }
}

#[tokio::test]
async fn a_server_that_echoes_the_credentials_is_not_quoted() {
    let fake = Fake::serve(|request| {
        let echo = format!("{:?} {}", request.headers().get("authorization"), body(request));
        let answer = serde_json::json!({"error": "invalid_client", "error_description": echo});
        http::Response::builder().status(401).body(answer.to_string().into()).unwrap()
    })
    .await;
    let mut settings = settings(fake.url("/token"));
    for authentication in [
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Form),
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw),
        ClientAuthentication::ClientSecretBasic(BasicEncoding::Percent),
        ClientAuthentication::ClientSecretPost,
        ClientAuthentication::Json,
    ] {
        request(&mut settings).client_authentication = Some(authentication);
        let error = mint(&settings).await.unwrap_err();
        assert_eq!(error.cause(), "invalid_client");
        let authentication = request(&mut settings).client_authentication.clone();
        // What is left is our own hint, and that only where an encoding is in question.
        let hint = matches!(authentication, Some(ClientAuthentication::ClientSecretBasic(_)));
        assert_eq!(error.detail().is_some_and(|detail| detail.starts_with(ENCODING_HINT)), hint, "{authentication:?}");
        assert!(error.detail().is_none_or(|detail| detail.len() == ENCODING_HINT.len()));
    }
}

#[tokio::test]
async fn an_unreachable_or_silent_endpoint_is_unavailable_and_callers_hear_no_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Uri = format!("http://{}/token", listener.local_addr().unwrap()).parse().unwrap();
    let mut silent = settings(url.clone());
    request(&mut silent).endpoint.timeout = Duration::from_millis(50);
    let error = mint(&silent).await.unwrap_err();
    assert_eq!((error.kind(), error.cause()), (MintFailureKind::Unavailable, "timed out"));
    drop(listener);
    let error = mint(&settings(url)).await.unwrap_err();
    assert_eq!((error.kind(), error.cause()), (MintFailureKind::Unavailable, "the host cannot be reached"));
    assert!(error.detail().is_some());
}
