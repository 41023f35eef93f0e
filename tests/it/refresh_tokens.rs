//! Refresh tokens that a server replaces at every use, and takes the whole grant back for when an old one comes again
//! (RFC 9700 4.14.2): nobody must be locked out, not by two mints at once and not by a restart.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::canary::Scanner;
use crate::support::proxy::{Proxy, Setup};
use crate::support::scene::{Scene, TokenEndpoint, body, sha256};
use crate::support::scripted::answer;

/// The one that the operator was given.
const FIRST: &str = "c4n4ry-refre5h-Xu9Kd2Lw6Qp4";

/// A grant with rotation: one refresh token is good at any time, and an old one ends everything.
struct Grant {
    current: String,
    used: usize,
    is_over: bool,
}

/// The token endpoint of a grant; it counts what it gave out.
async fn rotating() -> (TokenEndpoint, Arc<Mutex<Grant>>) {
    let grant = Arc::new(Mutex::new(Grant { current: FIRST.to_owned(), used: 0, is_over: false }));
    let shared = Arc::clone(&grant);
    let endpoint = TokenEndpoint::answering(move |asked| {
        let mut grant = shared.lock().unwrap();
        let kind = [("content-type", "application/json")];
        if grant.is_over || body(asked)["refresh_token"] != grant.current {
            grant.is_over = true;
            return answer(400, &kind, br#"{"error":"invalid_grant"}"#);
        }
        grant.used += 1;
        grant.current = format!("{FIRST}-{}", grant.used);
        let body = json!({"access_token": format!("token-{}", grant.used), "token_type": "Bearer", "expires_in": 3600,
                          "refresh_token": grant.current});
        answer(200, &kind, body.to_string().as_bytes())
    })
    .await;
    (endpoint, grant)
}

/// A named credential `orders`, and these further lines of its external credential.
fn tables(further: &str) -> String {
    format!(
        "[named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"issuer\"\n\
         [external_credentials.issuer]\ntoken_endpoint = \"http://{{endpoint}}/token\"\nflow = \"refresh_token\"\n\
         client_id = \"orders\"\nclient_secret = {{ dangerous_literal = \"orders-secret\" }}\n\
         refresh_token = {{ env = \"REFRESH_TOKEN\" }}\n{further}\n"
    )
}

fn secrets(setup: Setup) -> Setup {
    setup.env("REFRESH_TOKEN", FIRST)
}

const STORE: &str = "refresh_token_store = \"refresh-token.json\"\n";

#[tokio::test]
async fn each_mint_uses_the_refresh_token_that_the_one_before_brought() {
    let (endpoint, grant) = rotating().await;
    let scene = Scene::before(endpoint, &tables(""), secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    for number in 2..=4 {
        assert_eq!(scene.renew("/orders/x").await.bearer(), format!("token-{number}"));
    }
    let asked = scene.endpoint.parameters();
    let used: Vec<&str> = asked.iter().map(|asked| asked["refresh_token"].as_str()).collect();
    assert_eq!(used, [FIRST, &format!("{FIRST}-1"), &format!("{FIRST}-2"), &format!("{FIRST}-3")]);
    assert!(asked.iter().all(|asked| asked["grant_type"] == "refresh_token"), "{asked:#?}");
    assert!(!grant.lock().unwrap().is_over);

    let warned = scene.proxy.warnings(1).await;
    let losses = warned.iter().filter(|line| line.to_string().contains("set refresh_token_store")).count();
    assert_eq!(losses, 1, "told once, and not at every mint: {warned:#?}");
    let mut scanner = Scanner::default();
    scanner.add("the refresh token", FIRST);
    let printed = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(scanner.find(&printed).is_empty(), "{printed}");
}

#[tokio::test]
async fn tokens_of_one_grant_are_minted_one_after_the_other() {
    let (endpoint, grant) = rotating().await;
    // Each scope has a cell of its own, and all of them draw on the one grant.
    let scope = "scope = { formula = 'request.headers[\"scope\"]' }";
    let scene = Scene::before(endpoint, &tables(&format!("{STORE}{scope}")), secrets).await;
    let calls = (0..32).map(|number| {
        let scene = &scene;
        async move { scene.get("/orders/x", &[("Scope", ["a", "b", "c", "d"][number % 4])]).await.status }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    let grant = grant.lock().unwrap();
    assert_eq!((grant.used, grant.is_over), (4, false), "one mint for each scope, none with an old refresh token");
}

#[tokio::test]
async fn a_restart_goes_on_with_the_stored_one() {
    let (endpoint, grant) = rotating().await;
    let scene = Scene::before(endpoint, &tables(STORE), secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(scene.renew("/orders/x").await.bearer(), "token-2");

    let store = scene.proxy.setup.config().with_file_name("refresh-token.json");
    let mode = std::fs::metadata(&store).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "nobody else may read it");
    let stored: Value = serde_json::from_slice(&std::fs::read(&store).unwrap()).unwrap();
    assert_eq!(stored["refresh_token"], format!("{FIRST}-2"));
    let beside = std::fs::read_dir(store.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 2, "the configuration and the store, no leftovers");

    let Scene { endpoint, upstream, proxy: Proxy { mut process, setup, .. } } = scene;
    process.terminate();
    process.exit().await;
    let log = process.stderr.text();
    assert!(!log.contains("set refresh_token_store"), "{log}");
    let scene = Scene { endpoint, upstream, proxy: setup.run().await };
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-3");
    assert_eq!(scene.endpoint.parameters()[2]["refresh_token"], format!("{FIRST}-2"));
    assert!(!grant.lock().unwrap().is_over);
}

/// `keybearer token` draws on the same grant as the running proxy; through the store they know of each other.
#[tokio::test]
async fn a_command_beside_the_running_proxy_does_not_end_the_grant() {
    let (endpoint, grant) = rotating().await;
    let scene = Scene::before(endpoint, &tables(STORE), secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    let output = scene.proxy.setup.output(&["token", "orders"]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("c4n4ry"), "{text}");
    assert_eq!(scene.renew("/orders/x").await.bearer(), "token-3");
    assert!(!grant.lock().unwrap().is_over);
}

/// Whoever has a new refresh token puts it into the configuration; what was stored before means nothing then.
#[tokio::test]
async fn a_newly_configured_refresh_token_is_used_instead_of_the_stored_one() {
    let (endpoint, grant) = rotating().await;
    let stored = json!({"initial_sha256": sha256("another one"), "refresh_token": "stale"});
    let setup = |setup| secrets(setup).file("refresh-token.json", &stored.to_string());
    let scene = Scene::before(endpoint, &tables(STORE), setup).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(scene.endpoint.parameters()[0]["refresh_token"], FIRST);
    assert!(!grant.lock().unwrap().is_over);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told_and_stops_nothing() {
    let (endpoint, grant) = rotating().await;
    let scene = Scene::before(endpoint, &tables("refresh_token_store = \"no/such/folder/file\"\n"), secrets).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(scene.renew("/orders/x").await.bearer(), "token-2");
    assert!(!grant.lock().unwrap().is_over);
    let log = scene.proxy.process.stderr.text();
    assert!(log.contains("the new refresh token cannot be stored"), "{log}");
    assert!(!log.contains("c4n4ry"), "{log}");
}
