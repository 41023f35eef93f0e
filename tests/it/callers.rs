//! Who may call: API keys and network ranges on a listener that others can reach.

use serde_json::Value;

use crate::support::http::request;
use crate::support::proxy::path;
use crate::support::scene::sha256;
use crate::support::stage::{Stage, named};

/// A listener that others can reach, and an admin listener that they cannot.
const OPEN: &str = r#"
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
