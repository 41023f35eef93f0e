//! Upstreams that the token endpoint names beside the token: reached only where the configuration lists them.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::http::{Connection, request};
use crate::support::recorder::{Recorder, Reply};
use crate::support::scene::{Scene, TokenEndpoint, claims};
use crate::support::scripted::answer;

/// A named credential `crm` that goes where `/instance_url` says, to one of `allow`.
fn crm(allow: &[String], keys: &str) -> String {
    let allow: Vec<String> = allow.iter().map(|host| format!("\"{host}\"")).collect();
    format!(
        r#"
[named_credentials.crm]
url = {{ from_token = "/instance_url", path = "/services/data", allow = [{}] }}
external_credential = "issuer"
dangerous = {{ plain_http = true, private = true }}
{keys}

[external_credentials.issuer]
token_endpoint = "http://{{endpoint}}/token"
client_id = "crm"
client_secret = {{ dangerous_literal = "secret-of-crm" }}
"#,
        allow.join(", ")
    )
}

/// Numbers its tokens and gives each what `instances` has next for it; the last one again and again.
async fn endpoint(instances: Vec<serde_json::Value>) -> (TokenEndpoint, Arc<Mutex<usize>>) {
    let count = Arc::new(Mutex::new(0));
    let counting = Arc::clone(&count);
    let endpoint = TokenEndpoint::answering(move |_| {
        let mut count = counting.lock().unwrap();
        let mut body = instances[(*count).min(instances.len() - 1)].clone();
        *count += 1;
        body["access_token"] = json!(format!("token-{count}"));
        body["expires_in"] = json!(3600);
        if body["token_type"].is_null() {
            body["token_type"] = json!("Bearer");
        }
        answer(200, &[("content-type", "application/json")], body.to_string().as_bytes())
    });
    (endpoint.await, count)
}

fn at(recorder: &Recorder) -> serde_json::Value {
    json!({ "instance_url": format!("http://{}", recorder.address) })
}

/// C25: the token goes where its own answer says, and so does the replay with the next token.
#[tokio::test]
async fn the_token_says_where_the_upstream_is_and_a_renewal_may_say_another() {
    let (first, second) = (Recorder::start().await, Recorder::start().await);
    let (endpoint, minted) = endpoint(vec![at(&first), at(&second)]).await;
    let allow = [&first, &second].map(|recorder| recorder.address.to_string());
    let scene = Scene::before(endpoint, &crm(&allow, ""), |setup| setup).await;
    let mut caller = Connection::open(scene.proxy.address).await.unwrap();
    for _ in 0..3 {
        let asked = request("GET", "/crm/v60.0/query?q=x", &[], b"");
        assert_eq!(caller.exchange(&asked).await.unwrap().status, 200);
        let seen = first.last();
        assert_eq!((seen.target(), seen.bearer()), ("/services/data/v60.0/query?q=x", "token-1"));
        assert_eq!(seen.fields("host"), [first.address.to_string()]);
    }
    assert_eq!((first.connections(), *minted.lock().unwrap()), (1, 1), "one connection and one token served all");

    first.next(Reply::new(answer(401, &[], b"")));
    assert_eq!(scene.get("/crm/x", &[]).await.status, 200);
    let seen = second.only();
    assert_eq!((seen.target(), seen.bearer()), ("/services/data/x", "token-2"));
    assert_eq!(seen.fields("host"), [second.address.to_string()]);
    assert_eq!(scene.get("/crm/y", &[]).await.status, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (4, 2), "from then on there");
}

/// C25: what is not listed is not reached, whoever says so; neither is anything told of it but the host, to the operator.
#[tokio::test]
async fn an_upstream_that_is_not_listed_is_not_reached() {
    let evil = Recorder::start().await;
    let port = evil.address.port();
    for (base, host) in [
        (json!({}), "none that can be read"),
        (json!({ "instance_url": null }), "none that can be read"),
        (json!({ "instance_url": ["http://localhost:1"] }), "none that can be read"),
        (json!({ "instance_url": format!("http://127.0.0.1:{port}") }), "127.0.0.1"),
        (json!({ "instance_url": format!("http://localhost:{port}/canary-path") }), "localhost"),
        (json!({ "instance_url": format!("http://localhost:{port}?canary-query") }), "localhost"),
        (json!({ "instance_url": format!("http://canary-user@localhost:{port}") }), "localhost"),
        (json!({ "instance_url": "http://localhost" }), "localhost"),
        (json!({ "instance_url": "http://169.254.169.254" }), "169.254.169.254"),
        (json!({ "instance_url": "https://localhost" }), "localhost"),
        (json!({ "instance_url": "https://localhost.evil.example:1" }), "localhost.evil.example"),
        (json!({ "instance_url": "x".repeat(4096) }), "none that can be read"),
    ] {
        let (endpoint, _) = endpoint(vec![base.clone()]).await;
        let scene = Scene::before(endpoint, &crm(&[format!("localhost:{port}")], ""), |setup| setup).await;
        for _ in 0..2 {
            let answer = scene.get("/crm/x", &[]).await;
            answer.assert_problem(502, &base.to_string());
            let text = answer.text();
            assert!(text.contains("destination_not_allowed"), "{text}");
            assert!(!text.contains("canary") && !text.contains("evil") && !text.contains(&port.to_string()), "{text}");
        }
        let log = scene.proxy.process.stderr.text();
        let told: Vec<&str> = log.lines().filter(|line| line.contains("names an upstream that is not used")).collect();
        assert_eq!(told.len(), 1, "once, and not for each request:\n{log}");
        assert!(told[0].contains(host) && told[0].contains("url.from_token") && told[0].contains("crm"), "{}", told[0]);
        assert!(!told[0].contains("canary"), "{}", told[0]);
        assert_eq!(scene.upstream.connections(), 0);
    }
    assert_eq!(evil.connections(), 0);
}

/// Plain HTTP needs to be accepted, even to this machine.
#[tokio::test]
async fn plain_http_is_not_taken_for_granted() {
    let upstream = Recorder::start().await;
    let (endpoint, _) = endpoint(vec![at(&upstream)]).await;
    let tables = crm(&[upstream.address.to_string()], "").replace("plain_http = true, ", "");
    let scene = Scene::before(endpoint, &tables, |setup| setup).await;
    scene.get("/crm/x", &[]).await.assert_problem(502, "plain HTTP");
    assert_eq!(upstream.connections(), 0);
}

/// C10: who shares an external credential shares its token, and each goes its own way with it.
#[tokio::test]
async fn named_credentials_share_the_token_and_not_the_destination() {
    let upstream = Recorder::start().await;
    let (endpoint, minted) = endpoint(vec![at(&upstream)]).await;
    let fixed = "\n[named_credentials.fixed]\nurl = \"http://{upstream}/f\"\nexternal_credential = \"issuer\"\n";
    let tables = format!("{}{fixed}", crm(&[upstream.address.to_string()], ""));
    let scene = Scene::before(endpoint, &tables, |setup| setup).await;
    assert_eq!(scene.pass("/fixed/x", &[]).await.target(), "/f/x");
    assert_eq!(scene.get("/crm/x", &[]).await.status, 200);
    assert_eq!(upstream.only().bearer(), "token-1");
    assert_eq!(*minted.lock().unwrap(), 1);
}

/// C13: a proof names the URL that is really called.
#[tokio::test]
async fn a_proof_is_for_the_upstream_that_the_token_came_with() {
    let upstream = Recorder::start().await;
    let mut answer = at(&upstream);
    answer["token_type"] = json!("DPoP");
    let (endpoint, _) = endpoint(vec![answer]).await;
    let tables = format!("{}dpop = true\n", crm(&[upstream.address.to_string()], ""));
    let scene = Scene::before(endpoint, &tables, |setup| setup).await;
    assert_eq!(scene.get("/crm/x?y", &[]).await.status, 200);
    let seen = upstream.only();
    let proof = claims(seen.fields("dpop")[0]);
    assert_eq!(proof["htu"], format!("http://{}/services/data/x", upstream.address));
}

/// `host_header` and what a caller sends do not move the destination.
#[tokio::test]
async fn the_host_that_is_sent_is_as_configured() {
    let upstream = Recorder::start().await;
    for (keys, expected) in [
        ("host_header = \"fixed.example\"", "fixed.example".to_owned()),
        ("host_header = \"caller\"", "localhost".to_owned()),
        ("host_header = \"upstream\"", upstream.address.to_string()),
    ] {
        let (endpoint, _) = endpoint(vec![at(&upstream)]).await;
        let scene = Scene::before(endpoint, &crm(&[upstream.address.to_string()], keys), |setup| setup).await;
        assert_eq!(scene.get("/crm/x", &[]).await.status, 200, "{keys}");
        assert_eq!(upstream.last().fields("host"), [expected], "{keys}");
    }
}

#[tokio::test]
async fn the_commands_say_where_the_upstream_comes_from() {
    let upstream = Recorder::start().await;
    let (endpoint, _) = endpoint(vec![at(&upstream)]).await;
    let scene = Scene::before(endpoint, &crm(&[upstream.address.to_string()], ""), |setup| setup).await;
    for (arguments, expected) in [
        (&["explain", "GET", "/crm/x"][..], "to the upstream at /instance_url of the token endpoint's answer"),
        (&["explain", "GET", "/crm/x"], "GET /services/data/x HTTP/1.1"),
        (&["check"], "(/instance_url of the token endpoint's answer)/services/data"),
        (&["doctor", "crm"], "/services/data: 200"),
    ] {
        let output = scene.proxy.setup.output(arguments).await;
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert!(output.status.success(), "{arguments:?}: {told}");
        assert!(!told.contains("from-token.invalid"), "{arguments:?}: {told}");
    }
    assert_eq!(upstream.last().fields("host"), [upstream.address.to_string()], "the doctor's request");

    let (endpoint, _) = self::endpoint(vec![json!({ "instance_url": "https://evil.example" })]).await;
    let scene = Scene::before(endpoint, &crm(&[upstream.address.to_string()], ""), |setup| setup).await;
    let output = scene.proxy.setup.output(&["doctor", "crm"]).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && told.contains("url.allow"), "{told}");
}
