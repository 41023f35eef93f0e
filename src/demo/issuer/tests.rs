//! The issuer against the RFCs, over HTTP, and what tests can make it do.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Answer, Behavior, Client, Issuer};
use crate::demo::ask::{Asked, ask};
use crate::secret::Secret;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &str = "grant_type=client_credentials";
const POST: &str = "grant_type=client_credentials&client_id=plain&client_secret=canary-plain";

async fn issuer() -> Issuer {
    let client = |id: &str, secret: &str, seconds| Client {
        id: id.to_owned(),
        secret: Secret::new(secret.to_owned()),
        lifetime: Duration::from_secs(seconds),
    };
    let clients = vec![client("plain", "canary-plain", 600), client("odd: id", "canary %+:/ä", 5)];
    Issuer::start("127.0.0.1:0".parse().unwrap(), clients).await.unwrap()
}

fn basic(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

async fn post(issuer: &Issuer, path: &str, authorization: Option<&str>, form: &str) -> Asked {
    let mut headers = vec![FORM];
    headers.extend(authorization.map(|value| ("authorization", value)));
    ask(issuer.address(), Method::POST, path, &headers, form).await.unwrap()
}

async fn token(issuer: &Issuer) -> String {
    let asked = post(issuer, "/token", None, POST).await;
    assert_eq!(asked.status, StatusCode::OK);
    asked.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_answer_has_what_rfc_6749_5_1_wants() {
    let issuer = issuer().await;
    let asked = post(&issuer, "/token", None, &format!("{POST}&scope=a%20b&unknown=1&empty=")).await;
    assert_eq!(asked.status, StatusCode::OK);
    assert_eq!(asked.headers["cache-control"], "no-store");
    assert_eq!(asked.headers["pragma"], "no-cache");
    assert_eq!(asked.headers["content-type"], "application/json");
    let members = asked.json();
    assert_eq!(
        (&members["token_type"], &members["expires_in"], &members["scope"]),
        (&json!("Bearer"), &json!(600), &json!("a b"))
    );
    let grant = issuer.tokens().active(members["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((grant.client_id.as_str(), grant.scope.as_deref()), ("plain", Some("a b")));
}

#[tokio::test]
async fn basic_credentials_are_form_decoded_after_they_are_split() {
    let issuer = issuer().await;
    for good in [
        basic("plain:canary-plain"),
        basic("odd%3A+id:canary+%25%2B%3A%2F%C3%A4"),
        basic("odd%3a%20id:canary %25%2B:/ä"),
    ] {
        assert_eq!(post(&issuer, "/token", Some(&good), GRANT).await.status, StatusCode::OK, "{good}");
    }
    for bad in [
        basic("odd: id:canary %+:/ä"),
        basic("plain"),
        basic("plain:wrong"),
        "Basic ?".to_owned(),
        "Bearer x".to_owned(),
    ] {
        let asked = post(&issuer, "/token", Some(&bad), GRANT).await;
        assert_eq!(
            (asked.status, asked.json()),
            (StatusCode::UNAUTHORIZED, json!({ "error": "invalid_client" })),
            "{bad}"
        );
        assert!(asked.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        assert_eq!(asked.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn every_error_has_the_code_of_rfc_6749_5_2() {
    let issuer = issuer().await;
    let id = "client_id=plain&client_secret=canary-plain";
    let (right, both) = (basic("plain:canary-plain"), format!("{GRANT}&{id}"));
    for (authorization, form, status, code) in [
        (None, GRANT, 401, "invalid_client"),
        (None, "grant_type=client_credentials&client_id=plain&client_secret=wrong", 401, "invalid_client"),
        (None, "grant_type=client_credentials&client_id=plain", 401, "invalid_client"),
        (Some(right.as_str()), both.as_str(), 400, "invalid_request"),
        (Some(right.as_str()), "grant_type=client_credentials&client_id=other", 400, "invalid_request"),
        (Some(right.as_str()), "", 400, "invalid_request"),
        (Some(right.as_str()), "grant_type=", 400, "invalid_request"),
        (Some(right.as_str()), "grant_type=client_credentials&scope=a&scope=b", 400, "invalid_request"),
        (Some(right.as_str()), "grant_type=%ff", 400, "invalid_request"),
        (Some(right.as_str()), "grant_type=password", 400, "unsupported_grant_type"),
        (Some(right.as_str()), "grant_type=client_credentials&scope=a%20%20b", 400, "invalid_scope"),
        (Some(right.as_str()), "grant_type=client_credentials&scope=%22", 400, "invalid_scope"),
    ] {
        let asked = post(&issuer, "/token", authorization, form).await;
        assert_eq!((asked.status.as_u16(), asked.json()), (status, json!({ "error": code })), "{form}");
    }
    let json = [("content-type", "application/json"), ("authorization", right.as_str())];
    let asked = ask(issuer.address(), Method::POST, "/token", &json, "{}").await.unwrap();
    assert_eq!((asked.status, asked.json()), (StatusCode::BAD_REQUEST, json!({ "error": "invalid_request" })));
    let asked = ask(issuer.address(), Method::GET, "/token", &[], "").await.unwrap();
    assert_eq!((asked.status, &asked.headers["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap()));
    assert_eq!(issuer.minted(), 0);
}

#[tokio::test]
async fn resource_and_audience_may_be_repeated() {
    let issuer = issuer().await;
    let form = format!("{POST}&resource=a&resource=b&audience=c&audience=d");
    assert_eq!(post(&issuer, "/token", None, &form).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_ends_with_its_lifetime() {
    let issuer = issuer().await;
    let token = token(&issuer).await;
    issuer.advance(Duration::from_secs(590));
    assert!(issuer.tokens().active(&token).is_some());
    issuer.advance(Duration::from_secs(10));
    assert!(issuer.tokens().active(&token).is_none());
}

#[tokio::test]
async fn revocation_takes_a_clients_own_token_and_says_200_to_any() {
    let issuer = issuer().await;
    let token = token(&issuer).await;
    let other = basic("odd%3A+id:canary+%25%2B%3A%2F%C3%A4");
    let form = format!("token={token}");
    assert_eq!(post(&issuer, "/revoke", None, &form).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&issuer, "/revoke", Some(&other), &form).await.status, StatusCode::OK);
    assert!(issuer.tokens().active(&token).is_some(), "another client's token stays");
    let own = basic("plain:canary-plain");
    assert_eq!(post(&issuer, "/revoke", Some(&own), "").await.json(), json!({ "error": "invalid_request" }));
    assert_eq!(post(&issuer, "/revoke", Some(&own), &form).await.status, StatusCode::OK);
    assert!(issuer.tokens().active(&token).is_none());
    assert_eq!(post(&issuer, "/revoke", Some(&own), &form).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_demos_revocation_takes_them_all_and_asks_nobody() {
    let issuer = issuer().await;
    let (first, second) = (token(&issuer).await, token(&issuer).await);
    let asked = ask(issuer.address(), Method::POST, "/demo/revoke", &[], "").await.unwrap();
    assert_eq!(asked.json(), json!({ "revoked": 2 }));
    assert!(issuer.tokens().active(&first).is_none() && issuer.tokens().active(&second).is_none());
}

#[tokio::test]
async fn introspection_tells_clients_what_a_token_is() {
    let issuer = issuer().await;
    let own = basic("plain:canary-plain");
    let form = format!("token={}", token(&issuer).await);
    assert_eq!(post(&issuer, "/introspect", None, &form).await.status, StatusCode::UNAUTHORIZED);
    let members = post(&issuer, "/introspect", Some(&own), &form).await.json();
    assert_eq!((&members["active"], &members["client_id"]), (&json!(true), &json!("plain")));
    issuer.revoke_all();
    assert_eq!(post(&issuer, "/introspect", Some(&own), &form).await.json(), json!({ "active": false }));
}

#[tokio::test]
async fn the_metadata_leads_to_the_endpoints() {
    let issuer = issuer().await;
    let path = "/.well-known/oauth-authorization-server";
    let members = ask(issuer.address(), Method::GET, path, &[], "").await.unwrap().json();
    assert_eq!(members["issuer"], format!("http://{}", issuer.address()));
    assert_eq!(members["token_endpoint"], issuer.token_endpoint());
}

#[tokio::test]
async fn it_misbehaves_as_told_and_counts_every_request() {
    let issuer = issuer().await;
    let headers = vec![(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"))];
    let status = StatusCode::SERVICE_UNAVAILABLE;
    issuer.behave_once(Behavior::Answer(Answer { status, headers, body: "<html>".into() }));
    issuer.behave_once(Behavior::Disconnect);
    issuer.behave_once(Behavior::Members(
        json!({ "expires_in": "60", "token_type": null, "more": 1 }).as_object().unwrap().clone(),
    ));
    let asked = post(&issuer, "/token", None, POST).await;
    assert_eq!(
        (asked.status, &asked.headers["retry-after"], asked.body.as_ref()),
        (status, &"7".parse().unwrap(), b"<html>".as_slice())
    );
    assert!(ask(issuer.address(), Method::POST, "/token", &[FORM], POST).await.is_err());
    let members = post(&issuer, "/token", None, POST).await.json();
    assert_eq!((&members["expires_in"], &members["more"]), (&json!("60"), &json!(1)));
    assert!(members.get("token_type").is_none());
    let last = token(&issuer).await;
    issuer.revoke_all();
    issuer.behave(Behavior::SameToken);
    assert_eq!(token(&issuer).await, last);
    assert!(issuer.tokens().active(&last).is_none(), "it stays revoked");
    assert_eq!((issuer.token_requests(), issuer.minted()), (5, 2));
    assert_eq!(issuer.requests().len(), 5);
}

#[tokio::test]
async fn a_closed_gate_holds_token_requests_that_are_counted_already() {
    let issuer = issuer().await;
    issuer.gate().close();
    let (asked, ()) = tokio::join!(post(&issuer, "/token", None, POST), async {
        issuer.token_requests_reach(1).await;
        issuer.gate().waiting(1).await;
        assert_eq!(issuer.minted(), 0);
        issuer.gate().open();
    });
    assert_eq!(asked.status, StatusCode::OK);
}

#[tokio::test]
async fn what_it_remembers_does_not_show_secrets() {
    let issuer = issuer().await;
    let token = token(&issuer).await;
    let shown = format!("{issuer:?}{:?}{:?}", issuer.requests(), issuer.tokens());
    assert!(!shown.contains("canary") && !shown.contains(&token), "{shown}");
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let error = Issuer::start("0.0.0.0:0".parse().unwrap(), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
