//! The API over HTTP.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::Api;
use crate::demo::ask::{Asked, ask};
use crate::demo::issuer::{Client, Issuer, random_secret};

struct Fixture {
    issuer: Issuer,
    api: Api,
    authorization: String,
}

impl Fixture {
    async fn start() -> Self {
        let client =
            Client { id: "demo".to_owned(), secret: random_secret().unwrap(), lifetime: Duration::from_secs(600) };
        let any = "127.0.0.1:0".parse().unwrap();
        let issuer = Issuer::start(any, vec![client.clone()]).await.unwrap();
        let api = Api::start(any, issuer.tokens()).await.unwrap();
        let token = issuer.tokens().mint(&client, Some("demo.read")).unwrap();
        Self { issuer, api, authorization: format!("Bearer {token}") }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> Asked {
        let headers = [("authorization", self.authorization.as_str()), ("x-twice", "1"), ("x-twice", "2")];
        ask(self.api.address(), method, path, &headers, body).await.unwrap()
    }
}

#[tokio::test]
async fn it_tells_what_it_saw_and_masks_the_token() {
    let fixture = Fixture::start().await;
    let asked = fixture.ask(Method::POST, "/a/b%20c?x=1&y", "hello").await;
    assert_eq!(asked.status, StatusCode::OK);
    let seen = asked.json();
    assert_eq!((&seen["method"], &seen["path"], &seen["query"]), (&json!("POST"), &json!("/a/b%20c"), &json!("x=1&y")));
    assert_eq!(seen["headers"]["authorization"], "Bearer [token]");
    assert_eq!(seen["headers"]["x-twice"], json!(["1", "2"]));
    assert_eq!(seen["body"]["bytes"], 5);
    assert_eq!(seen["body"]["text"], "hello");
    assert_eq!(seen["body"]["sha256"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(seen["token"]["client_id"], "demo");
    let token = fixture.authorization.strip_prefix("Bearer ").unwrap();
    assert!(!String::from_utf8_lossy(&asked.body).contains(token));
    assert!(!format!("{:?}{:?}", fixture.api.seen(), fixture.api).contains(token));
}

#[tokio::test]
async fn a_bad_token_gets_the_challenge_of_rfc_6750() {
    let fixture = Fixture::start().await;
    let address = fixture.api.address();
    let basic = fixture.authorization.replace("Bearer", "Basic");
    for bad in ["Bearer unknown", "Bearer", basic.as_str()] {
        let asked = ask(address, Method::GET, "/", &[("authorization", bad)], "").await.unwrap();
        assert_eq!(asked.status, StatusCode::UNAUTHORIZED, "{bad}");
        assert!(asked.headers["www-authenticate"].to_str().unwrap().ends_with("error=\"invalid_token\""));
    }
    let asked = ask(address, Method::GET, "/", &[], "").await.unwrap();
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert_eq!(asked.headers["www-authenticate"], "Bearer realm=\"keybearer demo\"");
    assert_eq!(fixture.ask(Method::GET, "/", "").await.status, StatusCode::OK);
    fixture.issuer.revoke_all();
    assert_eq!(fixture.ask(Method::GET, "/", "").await.json(), json!({ "error": "invalid_token" }));
    assert_eq!(fixture.api.requests(), 6);
    assert_eq!(fixture.api.seen().iter().filter(|seen| seen.accepted).count(), 1);
}

#[tokio::test]
async fn paths_for_tests_do_what_they_say() {
    let fixture = Fixture::start().await;
    for status in [200, 204, 304, 418, 500, 503] {
        let asked = fixture.ask(Method::GET, &format!("/status/{status}"), "").await;
        assert_eq!(asked.status.as_u16(), status);
        assert_eq!(asked.body.is_empty(), status == 204 || status == 304);
    }
    assert_eq!(fixture.ask(Method::GET, "/status/101", "").await.status, StatusCode::NOT_FOUND);
    for count in [0, 1, 16 * 1024, 100_000] {
        let asked = fixture.ask(Method::GET, &format!("/bytes/{count}"), "").await;
        assert_eq!((asked.body.len(), &asked.headers["content-length"]), (count, &count.to_string().parse().unwrap()));
    }
    assert_eq!(fixture.ask(Method::PUT, "/echo", "abc").await.body, "abc");
    assert_eq!(fixture.ask(Method::GET, "/always401", "").await.status, StatusCode::UNAUTHORIZED);
    let asked = fixture.ask(Method::GET, "/insufficient_scope", "").await;
    assert_eq!((asked.status, asked.json()), (StatusCode::FORBIDDEN, json!({ "error": "insufficient_scope" })));
    let asked = fixture.ask(Method::HEAD, "/anything", "").await;
    assert_eq!((asked.status, asked.body.len()), (StatusCode::OK, 0));
    assert!(asked.headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_slow_answer_waits_for_its_gate() {
    let fixture = Fixture::start().await;
    fixture.api.gate().close();
    let (asked, ()) = tokio::join!(fixture.ask(Method::GET, "/slow", ""), async {
        fixture.api.requests_reach(1).await;
        fixture.api.gate().waiting(1).await;
        fixture.api.gate().open();
    });
    assert_eq!(asked.status, StatusCode::OK);
}
