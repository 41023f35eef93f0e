//! The servers and tools of the other tests, checked without the proxy: what fails here is no fault of its.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::canary::{Scanner, form_encoded, forms};
use crate::support::certificates::Authority;
use crate::support::http::{self, Connection, request};
use crate::support::load::{Amount, Load};
use crate::support::nginx::{Nginx, Tls};
use crate::support::oidc::{CLIENT, Client, Issuer, RESOURCE};
use crate::support::{load_time, unavailable};

/// Asks the issuer for a token as `curl` users do.
async fn mint(issuer: &Issuer, arguments: &[&str]) -> Option<Value> {
    let endpoint = issuer.token_endpoint();
    let grant = ["-d", "grant_type=client_credentials", endpoint.as_str()];
    let output = curl(&[arguments, &grant].concat()).await?;
    serde_json::from_str(&output).ok()
}

async fn curl(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]).args(arguments);
    match command.output().await {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        Ok(_) => None,
        Err(_) => unavailable("curl is not installed"),
    }
}

async fn token(issuer: &Issuer, client: &Client) -> Option<String> {
    let user = format!("{}:{}", client.id, form_encoded(client.secret));
    Some(mint(issuer, &["-u", &user]).await?["access_token"].as_str()?.to_owned())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn the_issuer_is_strict_about_how_a_client_authenticates() {
    let difficult = Client { id: "difficult", secret: "p%C+s/=: &\"~x", ..CLIENT };
    let post = Client { id: "post", authentication: "client_secret_post", ..CLIENT };
    let Some(issuer) = Issuer::start(&[difficult.clone(), post.clone()]).await else { return };

    assert!(token(&issuer, &difficult).await.is_some(), "the form-encoded secret");
    let raw = mint(&issuer, &["-u", &format!("{}:{}", difficult.id, difficult.secret)]).await.unwrap();
    assert_eq!(raw["error"], "invalid_request");

    let secret = format!("client_secret={}", post.secret);
    let body = ["-d", "client_id=post", "-d", &secret];
    assert_eq!(mint(&issuer, &body).await.unwrap()["expires_in"], 600);
    let resource = format!("resource={RESOURCE}");
    assert_eq!(mint(&issuer, &[&body[..], &["-d", &resource]].concat()).await.unwrap()["token_type"], "Bearer");
    let unknown = mint(&issuer, &[&body[..], &["-d", "resource=urn:other"]].concat()).await.unwrap();
    assert_eq!(unknown["error"], "invalid_target");
    assert_eq!(issuer.stats().await.token_requests(), 5);
}

#[tokio::test]
async fn the_resource_server_takes_live_tokens_only() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(token) = token(&issuer, &CLIENT).await else { return };
    let bearer = bearer(&token);
    let fields = [("Authorization", bearer.as_str()), ("Idempotency-Key", "one")];
    let mut connection = Connection::open(issuer.resource).await.unwrap();

    assert_eq!(http::get(issuer.resource, "/echo").await.unwrap().status, 401);
    let answer = connection.exchange(&request("POST", "/echo?x=1", &fields, b"hello")).await.unwrap();
    assert_eq!(answer.json()["body"]["length"], 5);
    assert_eq!(connection.exchange(&request("HEAD", "/echo", &fields[..1], b"")).await.unwrap().status, 200);
    assert_eq!(connection.exchange(&request("GET", "/status/204", &fields[..1], b"")).await.unwrap().status, 204);
    assert_eq!(connection.exchange(&request("GET", "/status/304", &fields[..1], b"")).await.unwrap().status, 304);
    assert_eq!(connection.exchange(&request("GET", "/bytes/200000", &fields, b"")).await.unwrap().body.len(), 200_000);
    let upload = connection.exchange(&request("POST", "/upload", &fields[..1], &[7; 300_000])).await.unwrap();
    assert_eq!(upload.json()["received"], 300_000);

    assert_eq!(issuer.tokens().await, [token]);
    assert_eq!(issuer.revoke_all().await, 1);
    let answer = connection.exchange(&request("POST", "/echo", &fields, b"hello")).await.unwrap();
    assert_eq!(answer.status, 401);
    assert!(answer.field("www-authenticate").unwrap().contains("invalid_token"));

    let stats = issuer.stats().await;
    assert_eq!((stats.requests(), stats.without_token(), stats.refused()), (8, 1, 1));
    assert_eq!((stats.duplicate_posts(), stats.distinct_tokens()), (0, 1));
}

#[tokio::test]
async fn the_resource_server_notices_a_post_carried_out_twice() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(token) = token(&issuer, &CLIENT).await else { return };
    let bearer = bearer(&token);
    let post = request("POST", "/echo", &[("Authorization", &bearer), ("Idempotency-Key", "one")], b"hello");
    let mut connection = Connection::open(issuer.resource).await.unwrap();
    for _ in 0..2 {
        assert_eq!(connection.exchange(&post).await.unwrap().status, 200);
    }
    assert_eq!(issuer.stats().await.duplicate_posts(), 1);
}

#[tokio::test]
async fn the_issuer_can_die_and_come_back_on_the_same_port() {
    let Some(mut issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(before) = token(&issuer, &CLIENT).await else { return };
    issuer.pause().await;
    assert!(token(&issuer, &CLIENT).await.is_none());
    let mut connection = Connection::open(issuer.resource).await.unwrap();
    let call = request("GET", "/echo", &[("Authorization", &bearer(&before))], b"");
    assert_eq!(connection.exchange(&call).await.unwrap().status, 200, "introspection goes on");
    issuer.resume().await;
    assert!(token(&issuer, &CLIENT).await.is_some());

    issuer.token_answer(&json!({"status": 503, "headers": {"retry-after": "2"}, "body": "no {{body}}"})).await;
    let answer = http::post(issuer.issuer, "/token", b"a=b").await.unwrap();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("2")));
    assert_eq!(answer.body, b"no a=b");

    issuer.process.close_stdin();
    assert!(issuer.process.exit().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_generator_counts_every_answer() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(token) = token(&issuer, &CLIENT).await else { return };
    let load = Load {
        address: issuer.resource,
        target: "/echo".to_owned(),
        fields: vec![("Authorization".to_owned(), bearer(&token))],
        connections: 16,
        amount: Amount::Requests(20),
    };
    let tally = load.clone().start().finish().await;
    tally.assert_all(200);
    assert_eq!(tally.answers(), 320);
    assert_eq!(issuer.stats().await.duplicate_posts(), 0);

    let mut running = Load { amount: Amount::Time(load_time() / 3), ..load }.start();
    running.further_answers(50).await;
    issuer.revoke_all().await;
    running.further_answers(50).await;
    let tally = running.finish().await;
    assert_eq!(tally.statuses.keys().copied().collect::<Vec<_>>(), [200, 401]);
    assert!(tally.broken.is_empty());
    assert!(tally.odd.is_some_and(|answer| answer.contains("invalid_token")));
}

#[tokio::test]
async fn nginx_speaks_the_tls_it_was_told_to() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(token) = token(&issuer, &CLIENT).await else { return };
    let authority = Authority::new("a private CA");
    let (identity, client) = (authority.server(), authority.client("keybearer"));
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| folder.path().join(name));
    std::fs::write(&ca, &authority.certificate).unwrap();
    std::fs::write(&certificate, &client.certificate).unwrap();
    std::fs::write(&key, &client.key).unwrap();
    let authorization = format!("Authorization: {}", bearer(&token));
    let common = ["--include", "--header", &authorization, "--cacert", ca.to_str().unwrap()];
    let shown = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];

    for (protocols, version, other) in [("TLSv1.2", "--tls-max", "1.1"), ("TLSv1.3", "--tls-max", "1.2")] {
        for client_authority in [None, Some(&authority)] {
            let tls = Tls { identity: &identity, protocols, client_authority };
            let Some(nginx) = Nginx::start(issuer.resource, Some(tls)).await else { return };
            let url = format!("https://localhost:{}/echo", nginx.address.port());
            let answer = curl(&[&common[..], &shown, &[&url]].concat()).await.unwrap();
            assert!(answer.contains("200 OK"), "{answer}");
            assert!(answer.contains(&format!("X-Tls-Protocol: {protocols}")), "{answer}");
            assert_eq!(answer.contains("X-Tls-Client: CN=keybearer"), client_authority.is_some(), "{answer}");
            let anonymous = curl(&[&common[..], &[&url]].concat()).await.unwrap();
            assert_eq!(anonymous.contains("400 Bad Request"), client_authority.is_some(), "{anonymous}");
            assert!(curl(&[&common[..], &[version, other, &url]].concat()).await.is_none(), "another version");
            assert!(curl(&[&url]).await.is_none(), "without the CA");
        }
    }

    let Some(plain) = Nginx::start(issuer.resource, None).await else { return };
    let call = request("POST", "/echo", &[("Authorization", &bearer(&token))], b"through nginx");
    let answer = Connection::open(plain.address).await.unwrap().exchange(&call).await.unwrap();
    assert_eq!(answer.json()["body"]["length"], 13);
}

#[test]
fn the_scanner_finds_a_secret_in_every_disguise() {
    let secret = "s3cr3t/with+odd=chars \"and\" m%re!";
    let mut scanner = Scanner::default();
    scanner.add("secret", secret);
    for (form, text) in forms(secret) {
        assert!(!scanner.find(&format!("before{text}after")).is_empty(), "{form}: {text}");
        let piece: String = text.chars().skip(3).take(text.len() * 4 / 5).collect();
        let whole_only = form == "base64 of Basic";
        assert!(whole_only || !scanner.find(&format!("it is {piece}…")).is_empty(), "a piece of {form}: {piece}");
    }
    assert!(scanner.find("nothing to see, only s3cr3t and odd=chars").is_empty());
}

#[tokio::test]
async fn a_process_that_does_not_end_is_noticed() {
    let mut command = Command::new("cat");
    let mut process = crate::support::process::Process::start(&mut command).unwrap();
    assert!(!process.has_ended());
    assert!(tokio::time::timeout(Duration::from_millis(1), process.stdout.ended()).await.is_err());
    process.terminate();
    assert!(!process.exit().await.success());
}
