//! Web pages are no callers: not by a request across sites, not by a name rebound to loopback.

use crate::support::http::{Connection, request};
use crate::support::proxy::head;
use crate::support::stage::{Stage, named};

/// A GET with this `Host` and these lines.
fn get(host: &str, lines: &str) -> String {
    format!("GET /orders/x HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

/// A listener on loopback that lets pages of one origin in.
fn letting_in(origin: &str) -> String {
    head("info").replacen("[admin]", &format!("allowed_origins = [\"{origin}\"]\n\n[admin]"), 1)
}

// Fetch metadata, and WHATWG Fetch 3.1: what a browser cannot help saying.
#[tokio::test]
async fn another_sites_page_is_refused_before_a_token_is_touched() {
    let stage = Stage::orders().await;
    for lines in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "SEC-FETCH-SITE: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
        "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: http://localhost:3000\r\n",
        "Origin: https://localhost\r\n",
        "Origin: null\r\n",
        "Origin: \r\n",
        "Origin: http://localhost\r\nOrigin: https://evil.example\r\n",
        "Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        let answer = stage.exchange(get("localhost", lines)).await;
        answer.assert_problem(403, lines);
        assert!(answer.field("access-control-allow-origin").is_none(), "{}", answer.head);
    }
    let form = [("Origin", "https://evil.example"), ("Content-Type", "text/plain")];
    stage.exchange(request("POST", "/orders/x", &form, b"a=1")).await.assert_problem(403, "a form");
    let preflight = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "PUT")];
    let answer = stage.exchange(request("OPTIONS", "/orders/x", &preflight, b"")).await;
    answer.assert_problem(403, "a preflight");
    assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
    stage.assert_untouched();

    let log = stage.proxy.exchanges(13).await;
    assert!(log.iter().all(|line| line["status"] == 403 && line["error"] == "http_request_denied"), "{log:#?}");
}

#[tokio::test]
async fn callers_that_are_no_pages_and_our_own_pages_pass() {
    let stage = Stage::orders().await;
    let own = format!("localhost:{}", stage.proxy.address.port());
    for (host, lines) in [
        ("localhost", String::new()),
        ("localhost", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n".to_owned()),
        ("localhost", "Sec-Fetch-Site: same-origin\r\n".to_owned()),
        (own.as_str(), format!("Origin: http://{own}\r\nSec-Fetch-Site: same-origin\r\n")),
    ] {
        stage.pass(get(host, &lines)).await;
    }
}

// WHATWG Fetch 3.2
#[tokio::test]
async fn a_page_of_an_allowed_origin_asks_and_may_read_the_answer() {
    let stage = Stage::listening(&letting_in("https://app.example"), &named("orders", "", "")).await;
    let preflight = [
        ("Origin", "https://app.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let answer = stage.exchange(request("OPTIONS", "/orders/x", &preflight, b"")).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.field("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.field("access-control-allow-headers"), Some("content-type"));
    assert!(answer.field("access-control-allow-credentials").is_none(), "{}", answer.head);
    stage.assert_untouched();

    let page = "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n";
    let (answer, _) = stage.pass(get("localhost", page)).await;
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://app.example"));
    assert!(answer.fields("vary").iter().any(|vary| vary.eq_ignore_ascii_case("origin")), "{}", answer.head);

    // Our own failures can be read by the page, too.
    let answer = stage.exchange(get("localhost", page).replace("/orders", "/nobody")).await;
    answer.assert_problem(404, "nobody");
    assert_eq!(answer.field("access-control-allow-origin"), Some("https://app.example"));

    for other in ["https://app.example.evil.example", "http://app.example", "https://app.example:8443", "null"] {
        stage.exchange(get("localhost", &format!("Origin: {other}\r\n"))).await.assert_problem(403, other);
    }
    stage.exchange(get("evil.example", page)).await.assert_problem(421, "an allowed origin does not excuse the host");
}

// DNS rebinding: the page's own name leads to loopback, and the browser takes it for the same origin.
#[tokio::test]
async fn a_loopback_listener_answers_to_no_other_name() {
    let config = named("orders", "", "") + &named("inner", "", "match = { host = \"inner.example\" }");
    let stage = Stage::start(&config).await;
    let port = stage.proxy.address.port();
    for host in [
        "rebound.evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "192.168.0.1",
        "127.1",
        "example",
        "",
    ] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            let lines = format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
            stage.exchange(get(&host, &lines)).await.assert_problem(421, &host);
            stage.exchange(get(&host, "")).await.assert_problem(421, &host);
        }
    }
    stage.assert_untouched();
    for host in ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]"] {
        stage.pass(get(host, "")).await;
        stage.pass(get(&format!("{host}:{port}"), "")).await;
    }
    let (_, seen) = stage.pass(get("Inner.Example:80", "")).await;
    assert_eq!(seen.target(), "/orders/x", "a host that a match names");
}

#[tokio::test]
async fn no_page_reads_the_admin_listener() {
    let stage = Stage::listening(&letting_in("https://app.example"), &named("orders", "", "")).await;
    let ask = async |target: &str, host: &str, lines: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        Connection::open(stage.proxy.admin).await.unwrap().exchange(request.as_bytes()).await.unwrap()
    };
    for target in ["/", "/healthz", "/readyz", "/metrics"] {
        for lines in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Origin: https://evil.example\r\n",
            "Origin: https://app.example\r\n",
            "Origin: null\r\n",
        ] {
            let answer = ask(target, "localhost", lines).await;
            answer.assert_problem(403, lines);
            assert!(answer.field("access-control-allow-origin").is_none(), "{}", answer.head);
        }
        ask(target, "rebound.evil.example", "").await.assert_problem(421, target);
        for host in ["localhost:9901", "127.0.0.1", "[::1]:1"] {
            assert_eq!(ask(target, host, "").await.status, 200, "{target} of {host}");
        }
    }
}
