//! Whatever a token endpoint may answer: what becomes of it, and that nothing goes out without a token.

use std::time::{Duration, Instant};

use keybearer::demo::issuer::{Answer as Said, Behavior};
use serde_json::{Value, json};

use crate::support::http::{self, Answer, Connection, request};
use crate::support::load::{Amount, Load};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::servers::{ClosedPort, Servers, run};
use crate::support::{eventually, load_time};

/// A conforming answer with these members instead.
fn members(replaced: &Value) -> Behavior {
    Behavior::Members(replaced.as_object().unwrap().clone())
}

/// This answer, whatever was asked.
fn said(status: u16, fields: &[(&str, &str)], body: &str) -> Behavior {
    Behavior::Answer(Said {
        status: status.try_into().unwrap(),
        headers: fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
        body: body.to_owned().into(),
    })
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// One call through a fresh proxy while the token endpoint behaves so.
async fn call(behavior: Behavior, external: &str) -> (Servers, Proxy, Answer) {
    let servers = Servers::start().await;
    servers.issuer.behave(behavior);
    let proxy = servers.proxy("", external).await;
    let answer = http::get(proxy.address, "/orders/first").await.unwrap();
    servers.assert_always_a_token();
    (servers, proxy, answer)
}

/// Fails unless there was no token: this status, this error, this cause, and nothing sent to the API.
fn assert_no_token(servers: &Servers, answer: &Answer, status: u16, cause: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let error = if status == 502 { "token_refused" } else { "token_unavailable" };
    let told = answer.field("proxy-status").unwrap();
    assert!(told.starts_with(&format!("keybearer; error={error}; details=\"")), "{told}");
    assert!(told.contains(cause), "{told} does not say {cause}");
    assert_eq!(answer.json()["request_id"], answer.field("x-request-id").unwrap());
    let wait: Option<u64> = answer.field("retry-after").map(|seconds| seconds.parse().unwrap());
    assert_eq!(wait.is_some_and(|seconds| seconds > 0), status == 503, "{text}");
    assert_eq!(servers.api.requests(), 0, "nothing is sent without a token");
    assert!(!text.contains("127.0.0.1"), "{text}");
}

/// C3: a lifetime is read however it is written.
#[tokio::test]
async fn a_lifetime_is_read_however_it_is_written() {
    for (expires_in, least, most, warned) in [
        (json!(3600), 3590.0, 3600.0, false),
        (json!("3600"), 3590.0, 3600.0, false),
        (json!(3599.9), 3590.0, 3599.0, false),
        (json!("3599.9"), 3590.0, 3599.0, false),
        (json!(null), 890.0, 900.0, true),
        (json!(0), 890.0, 900.0, true),
        (json!(-5), 890.0, 900.0, true),
        (json!("soon"), 890.0, 900.0, true),
        (json!([3600]), 890.0, 900.0, true),
        (json!(1e300), 86390.0, 86400.0, true),
        (json!(u64::MAX), 86390.0, 86400.0, true),
        (json!("99999999999999999999999999"), 86390.0, 86400.0, true),
    ] {
        let (_servers, proxy, answer) = call(members(&json!({ "expires_in": expires_in })), "").await;
        assert_eq!(answer.status, 200, "{expires_in}: {}", answer.text());
        let left = Scrape::of(&proxy).await.sum("keybearer_token_expires_seconds", &[]);
        assert!((least..=most).contains(&left), "{expires_in}: {left} seconds left");
        assert_eq!(proxy.warnings(usize::from(warned)).await.len(), usize::from(warned), "{expires_in}");
    }
}

#[tokio::test]
async fn the_bounds_of_a_lifetime_can_be_configured() {
    let bounds = "default_lifetime = \"2m\"\nmax_lifetime = \"5m\"";
    for (expires_in, most) in [(json!(null), 120.0), (json!(3600), 300.0), (json!(60), 60.0)] {
        let (_servers, proxy, answer) = call(members(&json!({ "expires_in": expires_in })), bounds).await;
        assert_eq!(answer.status, 200);
        let left = Scrape::of(&proxy).await.sum("keybearer_token_expires_seconds", &[]);
        assert!((most - 10.0..=most).contains(&left), "{expires_in}: {left} seconds left");
    }
}

/// C3: what is sent is bearer whatever the token type says.
#[tokio::test]
async fn what_is_sent_is_bearer_whatever_the_token_type_says() {
    for token_type in [json!(null), json!(""), json!("bearer"), json!("BEARER"), json!("BearerToken"), json!("N_A")] {
        let (servers, _proxy, answer) = call(members(&json!({ "token_type": token_type })), "").await;
        assert_eq!(answer.status, 200, "{token_type}: {}", answer.text());
        let sent = servers.api.seen()[0].headers["authorization"].to_str().unwrap().to_owned();
        assert!(sent.starts_with("Bearer "), "not the literal token_type");
    }
}

/// C3: another token type is an error that names its key.
#[tokio::test]
async fn another_token_type_is_an_error_that_names_its_key() {
    for token_type in [json!("mac"), json!("DPoP"), json!(17), json!({"a": 1})] {
        let (servers, proxy, answer) = call(members(&json!({ "token_type": token_type })), "").await;
        assert_no_token(&servers, &answer, 502, "token type");
        if token_type.is_string() {
            assert!(answer.text().contains("accept_token_types"), "{}", answer.text());
        }
        assert_eq!(proxy.warnings(1).await.len(), 1);
    }
    let (_servers, _proxy, answer) =
        call(members(&json!({ "token_type": "mac" })), "accept_token_types = [\"MAC\"]").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_token_that_cannot_be_used_is_502() {
    for (token, cause) in [
        (json!(null), "no access token"),
        (json!(""), "empty"),
        (json!("abc\r\nX-Injected: 1"), "a header cannot carry"),
        (json!("abc\n"), "a header cannot carry"),
        (json!("abc\u{0}"), "a header cannot carry"),
        (json!("tök€n"), "a header cannot carry"),
        (json!("two words"), "a header cannot carry"),
        (json!(17), "not a text"),
        (json!({"value": "x"}), "not a text"),
    ] {
        let (servers, proxy, answer) = call(members(&json!({ "access_token": token })), "").await;
        assert_no_token(&servers, &answer, 502, cause);
        let scrape = Scrape::of(&proxy).await;
        assert_eq!(scrape.sum("keybearer_mints_total", &[("outcome", "unusable")]), 1.0, "{token}");
        let shown = format!("{}{}{}", answer.text(), proxy.process.stderr.text(), proxy.process.stdout.text());
        assert!(!shown.contains("X-Injected") && !shown.contains("two words"), "{shown}");
    }
}

/// B51, C3, C5, C9: an answer that is no token answer is told as what it is.
#[tokio::test]
async fn an_answer_that_is_no_token_answer_is_told_as_what_it_is() {
    let page = "<!DOCTYPE html><html><body>Request blocked. Incident 1234567890</body></html>";
    let html = ("content-type", "text/html");
    let long = format!("{{\"access_token\":\"{}\"}}", "x".repeat(2 << 20));
    let cases = [
        (said(302, &[("location", "http://127.0.0.1:1/elsewhere")], ""), 502, "redirect"),
        (said(307, &[("location", "/token")], "{}"), 502, "redirect"),
        (said(200, &[JSON], &long), 502, "longer than"),
        (said(200, &[html], page), 502, "neither JSON nor a form"),
        (said(200, &[JSON], ""), 502, "neither JSON nor a form"),
        (said(200, &[JSON], "[]"), 502, "holds no access token"),
        (said(200, &[JSON], "{\"access_token\":\"a\",\"access_token\":\"b\"}"), 502, "a member more than once"),
        (said(200, &[JSON], "{\"error\":\"invalid_grant\"}"), 502, "invalid_grant"),
        (said(200, &[JSON], "{\"error\":\"odd_one\",\"access_token\":\"a-token-of-old\"}"), 502, ""),
        (said(400, &[JSON], "{\"error\":\"invalid_scope\"}"), 502, "invalid_scope"),
        (said(401, &[JSON], "{\"error\":\"invalid_client\"}"), 502, "invalid_client"),
        (said(400, &[JSON], "{\"error\":\"something_new\"}"), 502, "something_new"),
        (
            said(401, &[JSON], "{\"ErrorCode\":\"invalid_client\",\"Error\":\"ClientId is invalid\"}"),
            502,
            "invalid_client",
        ),
        (said(404, &[JSON], "{\"message\":\"no such path\"}"), 502, "404"),
        (said(403, &[html], page), 503, "403"),
        (said(408, &[], ""), 503, "408"),
        (said(429, &[], ""), 503, "429"),
        (said(500, &[html], page), 503, "500"),
        (said(500, &[JSON], "{\"error\":\"invalid_client\"}"), 502, "invalid_client"),
        (said(503, &[JSON], "{\"error\":\"temporarily_unavailable\"}"), 503, "temporarily_unavailable"),
        (said(400, &[JSON], "{\"error\":\"server_error\"}"), 503, "server_error"),
        (Behavior::Disconnect, 503, "broke off"),
    ];
    for (behavior, status, cause) in cases {
        let (servers, proxy, answer) = call(behavior, "").await;
        assert_no_token(&servers, &answer, status, cause);
        let shown = format!("{}{}", answer.text(), proxy.process.stderr.text());
        assert!(!shown.contains("Incident") && !shown.contains("a-token-of-old"), "{shown}");
        assert_eq!(servers.issuer.token_requests(), 1, "one attempt, no redirect followed");
    }
}

/// B51, C8: a token endpoint that cannot be reached is 503.
#[tokio::test]
async fn a_token_endpoint_that_cannot_be_reached_is_503() {
    let servers = Servers::start().await;
    let good = servers.issuer.token_endpoint();
    let tls = good.replace("http://", "https://");
    let closed = ClosedPort::new();
    for (endpoint, cause) in [
        (format!("http://{}/token", closed.address), "cannot be reached"),
        ("https://issuer.invalid/token".to_owned(), "does not resolve"),
        (tls, "TLS"),
    ] {
        let proxy = run(&servers.config(&servers.url(), "", "").replace(&good, &endpoint)).await;
        let answer = http::get(proxy.address, "/orders/first").await.unwrap();
        assert_no_token(&servers, &answer, 503, cause);
        assert!(!answer.text().contains("issuer.invalid"), "{}", answer.text());
    }
}

/// C16: a token endpoint that hangs keeps no caller for longer than its time out.
#[tokio::test]
async fn a_token_endpoint_that_hangs_keeps_no_caller_for_longer_than_its_time_out() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "timeout = \"500ms\"").await;
    servers.issuer.gate().close();
    let started = Instant::now();
    let load = Load {
        address: proxy.address,
        target: "/orders/first".to_owned(),
        fields: Vec::new(),
        connections: 16,
        amount: Amount::Requests(1),
    };
    load.start().finish().await.assert_all(503);
    let took = started.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(10)).contains(&took), "{took:?}");
    let answer = http::get(proxy.address, "/orders/first").await.unwrap();
    assert_no_token(&servers, &answer, 503, "timed out");
    servers.issuer.gate().open();
    recovered(&proxy).await;
}

/// Waits until a call succeeds; until then each is refused for lack of a token.
async fn recovered(proxy: &Proxy) {
    let mut caller = Connection::open(proxy.address).await.unwrap();
    eventually("the proxy recovers", async || {
        let answer = caller.exchange(&request("GET", "/orders/first", &[], b"")).await.unwrap();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
}

/// B50, C5: retry after is obeyed and passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_obeyed_and_passed_on() {
    const WAIT: u64 = 3;
    let servers = Servers::start().await;
    servers.issuer.behave_once(said(429, &[("retry-after", &WAIT.to_string())], ""));
    let proxy = servers.proxy("", "").await;
    let started = Instant::now();
    let answer = http::get(proxy.address, "/orders/first").await.unwrap();
    assert_no_token(&servers, &answer, 503, "429");
    let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert_eq!(wait, WAIT, "{}", answer.head);
    recovered(&proxy).await;
    assert!(started.elapsed() >= Duration::from_secs(WAIT), "asked again after {:?} already", started.elapsed());
    assert_eq!(servers.issuer.token_requests(), 2, "however many callers came meanwhile");
}

/// C19: callers do not make us hammer a failing endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_make_us_hammer_a_failing_endpoint() {
    let servers = Servers::start().await;
    servers.issuer.behave(said(503, &[], "down"));
    let proxy = servers.proxy("", "").await;
    let load = Load {
        address: proxy.address,
        target: "/orders/first".to_owned(),
        fields: Vec::new(),
        connections: 16,
        amount: Amount::Time(load_time()),
    };
    let started = Instant::now();
    let tally = load.start().finish().await;
    tally.assert_all(503);
    // Half a second at least, doubling: 0, 0.25, 0.75, 1.75, 3.75 s at the soonest.
    let soonest = (started.elapsed().as_secs_f64() / 0.25 + 1.0).log2().ceil() + 1.0;
    let asked = servers.issuer.token_requests();
    assert!((asked as f64) <= soonest, "{asked} token requests for {} callers", tally.answers());
    assert_eq!(servers.api.requests(), 0);
    servers.issuer.behave(Behavior::Conforming);
    recovered(&proxy).await;
    servers.assert_always_a_token();
}

/// Continuous load over several lifetimes.
async fn outlive(lifetime: u64, time: Duration) {
    let servers = Servers::with_lifetime(Duration::from_secs(lifetime)).await;
    let proxy = servers.proxy("", "").await;
    let load = Load {
        address: proxy.address,
        target: "/orders/first".to_owned(),
        fields: Vec::new(),
        connections: 8,
        amount: Amount::Time(time),
    };
    let started = Instant::now();
    load.start().finish().await.assert_all(200);
    let lifetimes = started.elapsed().as_secs_f64() / lifetime as f64;
    let mints = servers.issuer.minted();
    assert!(mints as f64 >= lifetimes.floor(), "{mints} mints in {lifetimes:.1} lifetimes");
    assert!(mints as f64 <= 2.0 * lifetimes + 2.0, "{mints} mints in {lifetimes:.1} lifetimes");
    assert_eq!(servers.issuer.token_requests(), mints);
}

/// C17: tokens of two seconds fail nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_two_seconds_fail_nobody() {
    outlive(2, load_time().max(Duration::from_secs(5))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_five_seconds_fail_nobody() {
    outlive(5, load_time().max(Duration::from_secs(7))).await;
}

/// C17, C19: the next token is minted while the one before it still lives: no caller waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_shorter_than_what_is_left_of_a_token_is_not_noticed() {
    let servers = Servers::with_lifetime(Duration::from_secs(10)).await;
    let proxy = servers.proxy("", "renew_ahead = \"5s\"").await;
    let load = Load {
        address: proxy.address,
        target: "/orders/first".to_owned(),
        fields: Vec::new(),
        connections: 4,
        amount: Amount::Time(Duration::ZERO),
    };
    let mut running = load.start();
    running.further_answers_each(1).await;
    servers.issuer.behave(said(503, &[], "down"));
    // The renewal ahead and one try after it, in vain.
    crate::support::within("renewals ahead", Duration::from_secs(30), servers.issuer.token_requests_reach(3)).await;
    servers.issuer.behave(Behavior::Conforming);
    crate::support::within("a mint", Duration::from_secs(30), servers.issuer.token_requests_reach(4)).await;
    running.further_answers_each(2).await;
    running.finish().await.assert_all(200);
    assert_eq!(servers.issuer.minted(), 2);
}
