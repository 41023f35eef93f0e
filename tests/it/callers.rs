//! Who may call: API keys and network ranges on a listener that others can reach.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::canary::Scanner;
use crate::support::http::request;
use crate::support::metrics::Scrape;
use crate::support::proxy::path;
use crate::support::scene::sha256;
use crate::support::stage::{Stage, named};

/// A listener that others can reach, and an admin listener that they cannot.
pub(crate) const OPEN: &str = r#"
[listeners.default]
address = "0.0.0.0:0"

[admin]
address = "127.0.0.1:0"

[log]
format = "json"
access = "stdout"
"#;

/// Two callers with keys: `the-key-of-billing` in the usual field, `the-key-of-audit` in one of its own.
fn keys() -> String {
    let billing = sha256("the-key-of-billing");
    let audit = sha256("the-key-of-audit");
    format!(
        "[callers.billing]\napi_key_sha256 = \"{billing}\"\n\
         [callers.audit]\napi_key_sha256 = \"{audit}\"\nheader = \"x-audit-key\"\n"
    )
}

fn get(name: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    request("GET", &format!("/{name}/x"), fields, b"")
}

const BILLING: (&str, &str) = ("X-Api-Key", "the-key-of-billing");
const AUDIT: (&str, &str) = ("X-Audit-Key", "the-key-of-audit");

#[tokio::test]
async fn a_caller_without_a_good_key_gets_nothing() {
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys())).await;
    let refused: &[&[(&str, &str)]] = &[
        &[],
        &[("X-Api-Key", "")],
        &[("X-Api-Key", "wrong")],
        &[("X-Api-Key", "the-key-of-audit")],
        &[("X-Api-Key", "the-key-of-billing2")],
        &[("X-Api-Key", "The-Key-Of-Billing")],
        &[("X-Api-Key", "\"the-key-of-billing\"")],
        &[("X-Audit-Key", "the-key-of-billing")],
        &[("Authorization", "Bearer the-key-of-billing")],
        // Given twice, even the right key proves nothing: which one would another server read?
        &[("X-Api-Key", "the-key-of-billing"), ("x-api-key", "wrong")],
        &[("X-Api-Key", "the-key-of-billing"), ("X-Api-Key", "the-key-of-billing")],
    ];
    for fields in refused {
        let mut caller = stage.caller().await;
        let answer = caller.exchange(&get("orders", fields)).await.unwrap();
        answer.assert_problem(403, &format!("{fields:?}"));
        assert!(!answer.text().contains("the-key-of"), "{}", answer.text());
    }
    // Who is not known learns nothing about what there is.
    for target in ["/nothing", "/orders/../x"] {
        stage.exchange(request("GET", target, &[], b"")).await.assert_problem(403, target);
    }
    stage.exchange("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").await.assert_problem(403, "OPTIONS *");
    stage.exchange(request("POST", "/orders/x", &[], &[b'x'; 5000])).await.assert_problem(403, "a body");
    stage.assert_untouched();

    let log = stage.proxy.exchanges(refused.len() + 4).await;
    assert!(log.iter().all(|line| line["caller"] == Value::Null && line["status"] == 403), "{log:#?}");
    assert!(!stage.proxy.process.stdout.text().contains("the-key-of"));
}

#[tokio::test]
async fn a_good_key_is_let_in_named_in_the_log_and_not_passed_on() {
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys())).await;
    for (name, key) in [("billing", BILLING), ("audit", AUDIT)] {
        // Whichever key field a caller fills in, none travels.
        let (_, seen) = stage.pass(get("orders", &[key, ("X-Other", "1")])).await;
        assert!(seen.fields("x-api-key").is_empty() && seen.fields("x-audit-key").is_empty(), "{}", seen.head);
        assert!(!seen.head.contains("the-key-of"), "{}", seen.head);
        assert_eq!(seen.fields("x-other"), ["1"]);
        let log = stage.proxy.exchanges(stage.upstream.requests().len()).await;
        assert_eq!(log.last().unwrap()["caller"], name);
    }
    let (_, seen) = stage.pass(get("orders", &[BILLING, ("X-Audit-Key", "wrong")])).await;
    assert!(seen.fields("x-audit-key").is_empty(), "a wrong key does not travel either:\n{}", seen.head);
}

/// C28: a caller's key in `Authorization` is removed, whether a token of ours takes its place or nothing does.
#[tokio::test]
async fn in_authorization_a_key_is_a_bearer_token_or_a_password_and_ends_here() {
    let hash = sha256("the-key-of-billing");
    let keys = format!("[callers.billing]\napi_key_sha256 = \"{hash}\"\nheader = \"Authorization\"\n");
    let bare = "[named_credentials.bare]\nurl = \"http://{upstream}\"\n";
    let trace = OPEN.replace("format = \"json\"", "level = \"trace\"\nformat = \"json\"");
    let stage = Stage::listening(&trace, &(named("orders", "", "") + bare + &keys)).await;
    let basic = |login: &str| format!("Basic {}", STANDARD.encode(login));
    for wrong in [
        "Bearer wrong".to_owned(),
        basic("the-key-of-billing:wrong"),
        basic("me:wrong"),
        "Basic the-key-of-billing".to_owned(),
        "Digest the-key-of-billing".to_owned(),
    ] {
        let answer = stage.exchange(get("orders", &[("Authorization", &wrong)])).await;
        answer.assert_problem(403, &wrong);
    }
    let twice = [("Authorization", "Bearer the-key-of-billing"), ("Authorization", "Bearer the-key-of-billing")];
    stage.exchange(get("orders", &twice)).await.assert_problem(403, "twice");
    stage.assert_untouched();
    for good in [
        "Bearer the-key-of-billing".to_owned(),
        "bearer  the-key-of-billing".to_owned(),
        "the-key-of-billing".to_owned(),
        basic("anyone:the-key-of-billing"),
        basic("the-key-of-billing:"),
    ] {
        let (_, seen) = stage.pass(get("orders", &[("Authorization", &good)])).await;
        assert!(stage.issuer.tokens().active(seen.bearer()).is_some(), "{}", seen.head);
        // Nor where no credential of ours takes its place.
        let (_, seen) = stage.pass(get("bare", &[("Authorization", &good)])).await;
        assert!(seen.fields("authorization").is_empty(), "{}", seen.head);
    }
    let log = stage.proxy.exchanges(16).await;
    assert!(log[6..].iter().all(|line| line["caller"] == "billing"), "{log:#?}");
    let mut scanner = Scanner::default();
    scanner.add("the key", "the-key-of-billing");
    let process = &stage.proxy.process;
    let metrics = stage.proxy.admin("/metrics").await.unwrap().text();
    for text in [process.stdout.text(), process.stderr.text(), metrics] {
        assert!(!text.is_empty() && scanner.find(&text).is_empty(), "{text}");
    }
}

/// B34: a key that comes after the body, or under a name that some server folds onto it, is dropped or refused.
#[tokio::test]
async fn a_key_in_a_trailer_or_under_another_spelling_proves_nothing_and_does_not_travel() {
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + &keys())).await;
    for (spelling, status) in [("X_Api_Key", 400), ("X.Api-Key", 400), ("x_audit_key", 403)] {
        stage.exchange(get("orders", &[(spelling, "the-key-of-audit")])).await.assert_problem(status, spelling);
    }
    let chunked = |key: &str| {
        format!(
            "POST /orders/x HTTP/1.1\r\nHost: localhost\r\n{key}Transfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n\
             1\r\na\r\n0\r\nX-Api-Key: the-key-of-billing\r\nX-Audit-Key: the-key-of-audit\r\n\r\n"
        )
    };
    stage.exchange(chunked("")).await.assert_problem(403, "a trailer");
    stage.assert_untouched();
    let (_, seen) = stage.pass(chunked("X-Api-Key: the-key-of-billing\r\n")).await;
    assert!(!seen.head.contains("the-key-of") && !String::from_utf8_lossy(&seen.body).contains("the-key-of"));
    for spelling in ["X_Api_Key", "x_audit_key"] {
        let fields = [BILLING, (spelling, "the-key-of-audit")];
        assert_eq!(stage.exchange(get("orders", &fields)).await.status, 400, "{spelling}");
    }
}

#[tokio::test]
async fn a_listener_admits_its_own_callers_only_and_decisions_are_counted() {
    let head = OPEN.replace("[admin]", "callers = [\"audit\"]\n\n[admin]");
    let stage = Stage::listening(&head, &(named("orders", "", "") + &keys())).await;
    stage.exchange(get("orders", &[BILLING])).await.assert_problem(403, "billing");
    stage.exchange(get("orders", &[])).await.assert_problem(403, "nobody");
    stage.exchange(get("orders", &[AUDIT, ("Sec-Fetch-Site", "cross-site")])).await.assert_problem(403, "a page");
    stage.assert_untouched();
    stage.pass(get("orders", &[AUDIT])).await;
    stage.pass(get("orders", &[AUDIT, BILLING])).await;
    assert_eq!(stage.exchange(get("nothing", &[AUDIT])).await.status, 404);
    let scrape = Scrape::of(&stage.proxy).await;
    for (decision, count) in [("allowed", 3.0), ("unknown", 1.0), ("not_allowed", 1.0), ("browser", 1.0)] {
        let found = scrape.sum("keybearer_caller_decisions_total", &[("decision", decision)]);
        assert!((found - count).abs() < 0.5, "{decision}: {found}");
    }
}

#[tokio::test]
async fn a_listener_on_loopback_admits_nobody_else_once_it_names_its_callers() {
    let head = crate::support::proxy::head("info").replace("[admin]", "callers = [\"audit\"]\n\n[admin]");
    let stage = Stage::listening(&head, &(named("orders", "", "") + &keys())).await;
    stage.exchange(get("orders", &[])).await.assert_problem(403, "nobody");
    stage.exchange(get("orders", &[BILLING])).await.assert_problem(403, "billing");
    stage.assert_untouched();
    stage.pass(get("orders", &[AUDIT])).await;
}

#[tokio::test]
async fn a_named_credential_admits_its_own_callers_only() {
    let config = named("orders", "", "") + &named("audits", "", "callers = [\"audit\"]") + &keys();
    let stage = Stage::listening(OPEN, &config).await;
    stage.exchange(get("audits", &[BILLING])).await.assert_problem(403, "billing");
    stage.assert_untouched();
    stage.pass(get("audits", &[AUDIT])).await;
    stage.pass(get("audits", &[BILLING, AUDIT])).await;
    stage.pass(get("orders", &[BILLING])).await;
    stage.exchange(get("audits", &[BILLING])).await.assert_problem(403, "not even with a live token");

    let log = stage.proxy.exchanges(5).await;
    assert_eq!((&log[0]["caller"], &log[0]["named_credential"]), (&"billing".into(), &"audits".into()));
}

#[tokio::test]
async fn callers_of_a_named_credential_count_on_loopback_too() {
    let config = named("orders", "", "") + &named("audits", "", "callers = [\"audit\"]") + &keys();
    let stage = Stage::start(&config).await;
    stage.pass(get("orders", &[])).await;
    stage.exchange(get("audits", &[])).await.assert_problem(403, "nobody");
    stage.pass(get("audits", &[AUDIT])).await;
}

#[tokio::test]
async fn a_principal_serves_its_own_callers_only() {
    let principals = "[named_credentials.ledger]\nurl = \"http://{upstream}\"\nexternal_credential = \"several\"\n\
         [external_credentials.several]\ntoken_endpoint = \"{token_endpoint}\"\n\
         [[external_credentials.several.principals]]\nname = \"books\"\nsequence = 1\nclient_id = \"orders\"\n\
         client_secret = { env = \"ORDERS_SECRET\" }\ncallers = [\"audit\"]\n";
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + principals + &keys())).await;
    stage.exchange(get("ledger", &[BILLING])).await.assert_problem(403, "billing has no principal");
    stage.assert_untouched();
    let (_, seen) = stage.pass(get("ledger", &[AUDIT])).await;
    assert_eq!(stage.issuer.tokens().active(seen.bearer()).unwrap().client_id, "orders");
    let log = stage.proxy.exchanges(2).await;
    assert_eq!((&log[0]["principal"], &log[1]["principal"]), (&Value::Null, &"books".into()));
}

#[tokio::test]
async fn a_network_range_is_a_proof() {
    let near = "[callers.near]\nnetworks = [\"192.0.2.0/24\", \"127.0.0.0/8\"]\n";
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + near)).await;
    stage.pass(get("orders", &[])).await;
    assert_eq!(stage.proxy.exchanges(1).await[0]["caller"], "near");

    let far = "[callers.far]\nnetworks = [\"192.0.2.0/24\", \"::/0\"]\n";
    let stage = Stage::listening(OPEN, &(named("orders", "", "") + far)).await;
    // What a caller says about its address is no proof.
    let fields = [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.1")];
    stage.exchange(get("orders", &fields)).await.assert_problem(403, "far");
    stage.assert_untouched();
}

#[tokio::test]
async fn a_listener_that_others_can_reach_names_its_callers_or_does_not_start() {
    let (setup, issuer, _upstream) = Stage::set_up(OPEN, &named("orders", "", "")).await;
    let config = setup.config();
    let output = setup.output(&["run", "-c", path(&config)]).await;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{printed}");
    assert!(printed.contains("callers") && printed.contains("anonymous_callers"), "it says what to do: {printed}");
    assert_eq!(issuer.token_requests(), 0);

    let anonymous = OPEN.replace("[admin]", "dangerous = { anonymous_callers = true }\n\n[admin]");
    let stage = Stage::listening(&anonymous, &named("orders", "", "")).await;
    stage.pass(get("orders", &[])).await;
}
