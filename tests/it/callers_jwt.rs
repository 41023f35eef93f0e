//! Callers that are known by a JWT: Kubernetes service accounts, SPIFFE JWT-SVIDs and their like, before a server that
//! publishes keys.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use keybearer::sign::Signer;
use serde_json::{Map, Value, json};

use crate::callers::OPEN;
use crate::support::canary::Scanner;
use crate::support::http::request;
use crate::support::metrics::Scrape;
use crate::support::proxy::path;
use crate::support::scene::sha256;
use crate::support::scripted::{Received, Scripted, Serving, answer};
use crate::support::stage::{Stage, named};

const BILLING: &str = "system:serviceaccount:prod:billing";

/// What the server of keys says at the moment.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(u16, String)>>);

impl Said {
    fn keys(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        *self.0.lock().unwrap() = (200, json!({ "keys": keys }).to_string());
    }

    fn fails(&self) {
        *self.0.lock().unwrap() = (500, String::new());
    }
}

/// An issuer with metadata and keys.
struct Keys {
    serving: Serving,
    said: Said,
}

impl Keys {
    async fn start(keys: &[&Key]) -> Self {
        let said = Said::default();
        said.keys(keys);
        let now = said.clone();
        let serving = Scripted::start().await.serve(move |request| respond(request, &now));
        Self { serving, said }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    /// How often the keys were asked for.
    fn asked(&self) -> usize {
        self.serving.received().iter().filter(|request| request.head.starts_with("GET /keys ")).count()
    }

    /// `jwt` of a caller with this subject; `keys`: how they are found.
    fn caller(&self, name: &str, subject: &str, keys: &str) -> String {
        let issuer = self.issuer();
        format!(
            "[callers.{name}]\njwt = {{ issuer = \"{issuer}\", audience = \"keybearer\", \
             claims = {{ \"/sub\" = \"{subject}\" }}{keys} }}\n"
        )
    }
}

fn respond(request: &Received, said: &Said) -> Vec<u8> {
    let host = request.field("host").unwrap();
    if request.head.starts_with("GET /.well-known/openid-configuration ") {
        let metadata = json!({ "issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys") });
        return answer(200, &[("Content-Type", "application/json")], metadata.to_string().as_bytes());
    }
    let (status, body) = said.0.lock().unwrap().clone();
    answer(status, &[("Content-Type", "application/jwk-set+json")], body.as_bytes())
}

/// A key of the issuer.
struct Key {
    id: &'static str,
    signer: Signer,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { id, signer: Signer::generate_es256().unwrap() }
    }

    fn published(&self) -> Value {
        let mut jwk = self.signer.public_jwk();
        jwk["kid"] = self.id.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// A token that is good for [`BILLING`], changed.
    fn token(&self, issuer: &str, changes: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = object(json!({
            "iss": issuer, "sub": BILLING, "aud": ["keybearer"], "iat": now, "nbf": now, "exp": now + 600,
            "kubernetes.io": { "namespace": "prod", "serviceaccount": { "name": "billing" } },
        }));
        claims.extend(object(changes));
        self.signer.sign(object(json!({ "kid": self.id })), &claims).unwrap().expose().to_owned()
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn get(name: &str, token: &str) -> Vec<u8> {
    request("GET", &format!("/{name}/x"), &[("Authorization", &format!("Bearer {token}"))], b"")
}

/// C28: a caller's token ends here, and stands in no log, answer, metric or request of ours.
#[tokio::test]
async fn a_service_account_is_known_by_its_token_which_ends_here() {
    let (key, stranger) = (Key::new("1"), Key::new("1"));
    let keys = Keys::start(&[&key]).await;
    let issuer = keys.issuer();
    let trace = OPEN.replace("format = \"json\"", "level = \"trace\"\nformat = \"json\"");
    let tables = named("orders", "", "") + &keys.caller("billing", BILLING, "");
    let mut stage = Stage::listening(&trace, &tables).await;
    let good = key.token(&issuer, json!({}));
    let bad = [
        ("another subject", key.token(&issuer, json!({ "sub": "system:serviceaccount:test:billing" }))),
        ("another audience", key.token(&issuer, json!({ "aud": "vault" }))),
        ("another issuer", key.token("https://kubernetes.default.svc", json!({}))),
        ("expired", key.token(&issuer, json!({ "exp": 1_700_000_000 }))),
        ("not good yet", key.token(&issuer, json!({ "nbf": 4_000_000_000_u64, "exp": 4_000_000_600_u64 }))),
        ("signed by a stranger", stranger.token(&issuer, json!({}))),
        ("cut", good.get(..good.len() - 4).unwrap().to_owned()),
        ("long", key.token(&issuer, json!({ "x": "x".repeat(9000) }))),
        ("no token", "opaque".to_owned()),
    ];
    for (what, token) in &bad {
        stage.exchange(get("orders", token)).await.assert_problem(403, what);
    }
    let twice = format!("Bearer {good}");
    let fields = [("Authorization", twice.as_str()), ("Authorization", &twice)];
    stage.exchange(request("GET", "/orders/x", &fields, b"")).await.assert_problem(403, "twice");
    let fields = [("X-Api-Key", good.as_str()), ("Proxy-Authorization", &twice)];
    stage.exchange(request("GET", "/orders/x", &fields, b"")).await.assert_problem(403, "elsewhere");
    stage.assert_untouched();

    let mut shown = String::new();
    for _ in 0..3 {
        let (answer, seen) = stage.pass(get("orders", &good)).await;
        assert!(stage.issuer.tokens().active(seen.bearer()).is_some(), "{}", seen.head);
        shown.push_str(&(answer.text() + &seen.head));
    }
    assert_eq!(keys.asked(), 1, "the keys were fetched once");
    let log = stage.proxy.exchanges(bad.len() + 5).await;
    assert!(log.iter().rev().take(3).all(|line| line["caller"] == "billing"), "{log:#?}");
    shown.push_str(&stage.proxy.admin("/metrics").await.unwrap().text());
    let scrape = Scrape::of(&stage.proxy).await;
    assert!((scrape.sum("keybearer_caller_decisions_total", &[("decision", "unknown")]) - 11.0).abs() < 0.5);
    stage.proxy.process.terminate();
    stage.proxy.process.exit().await;
    let (out, err) = (stage.proxy.process.stdout.text(), stage.proxy.process.stderr.text());
    for reason in ["its claims are those of no caller", "it is for another audience", "it has expired", "its signature"]
    {
        assert!(err.contains(reason), "the log says why: {reason}");
    }
    let mut scanner = Scanner::default();
    for (what, token) in [("good", good)].into_iter().chain(bad).filter(|(what, _)| *what != "no token") {
        // The header is the same for all, and no secret.
        let (_, secret) = token.split_once('.').unwrap();
        scanner.add(what, secret.get(..600.min(secret.len())).unwrap());
        scanner.add(what, token.rsplit_once('.').unwrap().1);
    }
    for (channel, text) in [("answers and metrics", shown), ("stdout", out), ("stderr", err)] {
        assert!(scanner.find(&text).is_empty(), "{channel} shows {:?}", scanner.find(&text));
    }
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_while_the_request_waits() {
    let [old, new, stranger] = ["old", "new", "stranger"].map(Key::new);
    let keys = Keys::start(&[&old]).await;
    let issuer = keys.issuer();
    let jwks = format!(", jwks = \"{issuer}/keys\"");
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys.caller("billing", BILLING, &jwks))).await;
    stage.pass(get("orders", &old.token(&issuer, json!({})))).await;
    keys.said.keys(&[&old, &new]);
    stage.pass(get("orders", &new.token(&issuer, json!({})))).await;
    stage.pass(get("orders", &old.token(&issuer, json!({})))).await;
    assert_eq!(keys.asked(), 2);
    // Whoever makes up key ids does not make us ask again and again.
    let begun = Instant::now();
    for _ in 0..20 {
        stage.exchange(get("orders", &stranger.token(&issuer, json!({})))).await.assert_problem(403, "a stranger");
    }
    assert!(begun.elapsed().as_secs() < 10, "nor wait");
    assert!(keys.asked() <= 3, "{}", keys.asked());
}

#[tokio::test]
async fn a_key_that_is_withdrawn_counts_no_longer_once_that_is_known() {
    let [old, new] = ["old", "new"].map(Key::new);
    let keys = Keys::start(&[&old]).await;
    let issuer = keys.issuer();
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys.caller("billing", BILLING, ""))).await;
    let token = old.token(&issuer, json!({}));
    stage.pass(get("orders", &token)).await;
    keys.said.keys(&[&new]);
    stage.pass(get("orders", &new.token(&issuer, json!({})))).await;
    stage.exchange(get("orders", &token)).await.assert_problem(403, "though it was verified a moment ago");
}

#[tokio::test]
async fn the_last_good_keys_outlive_the_server_of_keys() {
    let [old, new] = ["old", "new"].map(Key::new);
    let keys = Keys::start(&[&old]).await;
    let issuer = keys.issuer();
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys.caller("billing", BILLING, ""))).await;
    stage.pass(get("orders", &old.token(&issuer, json!({})))).await;
    keys.said.fails();
    stage.exchange(get("orders", &new.token(&issuer, json!({})))).await.assert_problem(403, "not to be had");
    stage.pass(get("orders", &old.token(&issuer, json!({ "jti": "another" })))).await;
    let warnings = stage.proxy.warnings(1).await;
    assert!(warnings[0].to_string().contains("status 500"), "{warnings:#?}");
}

#[tokio::test]
async fn a_server_of_keys_that_is_dead_keeps_others_from_nothing() {
    let key = Key::new("1");
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let billing = format!(
        "[callers.billing]\njwt = {{ issuer = \"http://{dead}\", audience = \"keybearer\" }}\n\
         [callers.audit]\napi_key_sha256 = \"{}\"\n",
        sha256("the-key-of-audit"),
    );
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &billing)).await;
    let begun = Instant::now();
    for _ in 0..5 {
        let token = key.token(&format!("http://{dead}"), json!({}));
        stage.exchange(get("orders", &token)).await.assert_problem(403, "no keys");
    }
    stage.assert_untouched();
    stage.pass(request("GET", "/orders/x", &[("X-Api-Key", "the-key-of-audit")], b"")).await;
    assert!(begun.elapsed().as_secs() < 10);
    let warnings = stage.proxy.warnings(1).await;
    assert!(warnings[0].to_string().contains("keys cannot be had"), "{warnings:#?}");
}

#[tokio::test]
async fn a_token_counts_for_those_that_admit_its_caller() {
    let key = Key::new("1");
    let keys = Keys::start(&[&key]).await;
    let issuer = keys.issuer();
    let audit = "system:serviceaccount:prod:audit";
    let tables = named("orders", "", "")
        + &named("audits", "", "callers = [\"audit\"]")
        + &keys.caller("billing", BILLING, ", header = \"x-token\"")
        + &keys.caller("audit", audit, ", algorithms = [\"ES256\"]");
    let stage = Stage::listening(OPEN, &tables).await;
    let (billing, audit) = (key.token(&issuer, json!({})), key.token(&issuer, json!({ "sub": audit })));
    let with = |name: &str, fields: &[(&str, &str)]| request("GET", &format!("/{name}/x"), fields, b"");
    let refused = stage.exchange(with("audits", &[("X-Token", &billing)])).await;
    refused.assert_problem(403, "billing");
    // Each in its own field.
    stage.exchange(get("orders", &billing)).await.assert_problem(403, "billing's token in the field of another");
    stage.exchange(with("orders", &[("X-Token", &audit)])).await.assert_problem(403, "audit's, likewise");
    stage.assert_untouched();
    let bearer = format!("Bearer {audit}");
    stage.pass(with("audits", &[("Authorization", &bearer)])).await;
    let (_, seen) = stage.pass(with("audits", &[("Authorization", &bearer), ("X-Token", &billing)])).await;
    assert!(seen.fields("x-token").is_empty(), "{}", seen.head);
    stage.pass(with("orders", &[("X-Token", &billing)])).await;
}

#[tokio::test]
async fn explain_verifies_with_the_keys_at_hand_and_says_so_where_there_are_none() {
    let key = Key::new("1");
    let keys = Keys::start(&[&key]).await;
    let issuer = keys.issuer();
    let file = ", jwks_file = \"keys.json\"";
    let authorization = format!("Authorization: Bearer {}", key.token(&issuer, json!({})));
    let document = json!({ "keys": [key.published()] }).to_string();
    for (how, listed, unverified) in [(file, json!(["billing"]), json!([])), ("", json!([]), json!(["billing"]))] {
        let tables = named("orders", "", "") + &keys.caller("billing", BILLING, how);
        let (setup, ..) = Stage::set_up(OPEN, &tables).await;
        let setup = setup.file("keys.json", &document);
        let config = setup.config();
        let explain = ["explain", "GET", "/orders/x", "-H", &authorization, "-c", path(&config)];
        let output = setup.output(&[explain.as_slice(), &["--format", "json"]].concat()).await;
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(explained["callers"], listed, "{explained:#}");
        assert_eq!(explained["unverified_callers"], unverified, "{explained:#}");
        let output = setup.output(&explain).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.contains("not verified         billing"), how.is_empty(), "{text}");
        assert!(!text.contains(authorization.rsplit('.').next().unwrap()), "{text}");
    }
    assert_eq!(keys.asked(), 0, "nobody was asked");
}

#[tokio::test]
async fn operators_may_be_known_by_a_token() {
    let key = Key::new("1");
    let keys = Keys::start(&[&key]).await;
    let issuer = keys.issuer();
    let open = OPEN.replace("address = \"127.0.0.1:0\"", "address = \"0.0.0.0:0\"\ncallers = [\"billing\"]");
    let stage = Stage::listening(&open, &(named("orders", "", "") + &keys.caller("billing", BILLING, ""))).await;
    let token = key.token(&issuer, json!({}));
    for (token, status) in [("nothing", 404), (token.as_str(), 200)] {
        let port = stage.proxy.admin.port();
        let mut operator = crate::support::http::Connection::open((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        let fields = [("Authorization", format!("Bearer {token}"))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(operator.exchange(&request("GET", "/", &fields, b"")).await.unwrap().status, status);
    }
}
