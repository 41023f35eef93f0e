//! What the caller gets when we fail: a problem document, `Proxy-Status`, the request id, and never a word too much.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::http::{self, Answer, Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::scripted::Scripted;
use crate::support::servers::{ClosedPort, Servers, run};
use crate::support::{eventually, within};

/// Fails unless `answer` is this failure, told in every way in which it should be.
fn assert_failure(answer: &Answer, status: u16, error: &str) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{text}");
    let proxy_status = answer.field("proxy-status").unwrap_or_default();
    let told = proxy_status == format!("keybearer; error={error}")
        || proxy_status.starts_with(&format!("keybearer; error={error}; details=\""));
    assert!(told, "{proxy_status}");
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["error"]), (&status.into(), &error.into()), "{text}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{text}");
    let id = answer.field("x-request-id").unwrap_or_default();
    assert!(!id.is_empty() && problem["request_id"] == id, "{text}");
    assert_ne!(answer.status, 401);
    for inside in ["127.0.0.1", ".invalid", "os error", "/token", "hyper", "rustls"] {
        assert!(!text.contains(inside), "{inside} is nobody's business: {text}");
    }
}

/// Fails unless the last line of the access log tells the same story.
async fn assert_logged(proxy: &Proxy, lines: usize, answer: &Answer) -> Value {
    let line = proxy.exchanges(lines).await.pop().unwrap();
    assert_eq!(line["id"], answer.field("x-request-id").unwrap());
    assert_eq!(line["status"], answer.status);
    assert_eq!(line["error"], answer.json()["error"]);
    line
}

/// A GET for `/orders/first` through a proxy whose `/orders` leads to `url`.
async fn call(url: &str, named: &str) -> (Answer, Value) {
    let servers = Servers::start().await;
    let proxy = run(&servers.config(url, named, "")).await;
    let answer = http::get(proxy.address, "/orders/first").await.unwrap();
    let line = assert_logged(&proxy, 1, &answer).await;
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_errors_total", &[("error", &error)]), 1.0);
    (answer, line)
}

/// B51: an upstream that is down is 502.
#[tokio::test]
async fn an_upstream_that_is_down_is_502() {
    let closed = ClosedPort::new();
    let (answer, line) = call(&format!("http://{}", closed.address), "").await;
    assert_failure(&answer, 502, "connection_refused");
    assert_eq!((&line["named_credential"], &line["upstream_status"]), (&"orders".into(), &Value::Null));
}

#[tokio::test]
async fn an_upstream_whose_name_does_not_resolve_is_502() {
    let (answer, _) = call("https://orders.invalid/v1", "").await;
    assert_failure(&answer, 502, "dns_error");
}

/// B51: an upstream that does not speak TLS is 502.
#[tokio::test]
async fn an_upstream_that_does_not_speak_tls_is_502() {
    let servers = Servers::start().await;
    let (answer, _) = call(&format!("https://{}", servers.api.address()), "").await;
    assert_failure(&answer, 502, "tls_protocol_error");
    assert_eq!(servers.api.requests(), 0);
}

#[tokio::test]
async fn an_upstream_that_never_finishes_connecting_is_504() {
    let silent = Scripted::start().await;
    let url = format!("https://{}", silent.address);
    let (answer, _) = call(&url, "timeouts = { connect = \"200ms\" }").await;
    assert_failure(&answer, 504, "connection_timeout");
}

/// B51: an upstream that answers too late is 504.
#[tokio::test]
async fn an_upstream_that_answers_too_late_is_504() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("timeouts = { first_byte = \"200ms\" }", "").await;
    servers.api.gate().close();
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for turn in 1..=2 {
        let answer = caller.exchange(&request("POST", "/orders/slow", &[], b"body")).await.unwrap();
        assert_failure(&answer, 504, "http_response_timeout");
        assert_logged(&proxy, turn, &answer).await;
    }
    servers.api.gate().open();
    let answer = caller.exchange(&request("GET", "/orders/slow", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 200, "the caller's connection is still good: {}", answer.text());
}

/// B51: an exchange that takes too long in all is 504.
#[tokio::test]
async fn an_exchange_that_takes_too_long_in_all_is_504() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("timeouts = { total = \"300ms\" }", "").await;
    servers.api.gate().close();
    let answer = http::get(proxy.address, "/orders/slow").await.unwrap();
    assert_failure(&answer, 504, "http_response_timeout");
}

/// Waiting for a token is part of the exchange, the first and the one after a rejection.
#[tokio::test]
async fn waiting_for_a_token_takes_no_longer_than_the_whole_exchange_may() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("timeouts = { total = \"300ms\" }", "").await;
    servers.issuer.gate().close();
    let started = Instant::now();
    let answer = http::get(proxy.address, "/orders/first").await.unwrap();
    assert_failure(&answer, 503, "token_unavailable");
    assert!(answer.field("retry-after").is_some(), "{}", answer.head);
    assert_eq!(servers.api.requests(), 0);

    servers.issuer.gate().open();
    eventually("a token", async || {
        (http::get(proxy.address, "/orders/next").await.unwrap().status == 200).then_some(())
    })
    .await;
    servers.issuer.gate().close();
    let answer = http::get(proxy.address, "/orders/always401").await.unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.field("proxy-status").unwrap().contains("not-replayed:mint_failed"), "{}", answer.head);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// B51: an answer that is no HTTP is 502.
#[tokio::test]
async fn an_answer_that_is_no_http_is_502() {
    for (broken, error) in [
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "http_protocol_error"),
        ("", "connection_terminated"),
    ] {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, "").await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(&request("GET", "/orders/first", &[], b"")).await.unwrap();
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.send(broken.as_bytes()).await;
        drop(peer);
        let answer = caller.answer(true).await.unwrap();
        assert_failure(&answer, 502, error);
        assert_logged(&proxy, 1, &answer).await;
    }
}

/// B29: nobody can take back a head that was sent: the only honest end is a broken connection.
#[tokio::test]
async fn an_answer_cut_short_is_cut_short_for_the_caller_too() {
    for (head, word) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789", "http_response_incomplete"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n", "http_response_incomplete"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\nzz\r\n", "http_response_incomplete"),
    ] {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, "").await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(&request("GET", "/orders/first", &[], b"")).await.unwrap();
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.send(head.as_bytes()).await;
        drop(peer);
        let answer = caller.head().await.unwrap();
        assert_eq!(answer.status, 200);
        let mut body = Vec::new();
        let ended = caller.body(&answer, |part| body.extend_from_slice(part)).await;
        assert!(ended.is_err(), "{head:?} passed for a whole answer: {body:?}");
        assert_eq!(body, b"0123456789", "what came is passed on");
        let line = proxy.exchanges(1).await.pop().unwrap();
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &word.into()), "{line}");
        assert_eq!(Scrape::of(&proxy).await.sum("keybearer_errors_total", &[("error", word)]), 1.0);
    }
}

/// B29: an answer that stops coming is ended.
#[tokio::test]
async fn an_answer_that_stops_coming_is_ended() {
    for (timeouts, word) in
        [("idle = \"200ms\"", "connection_read_timeout"), ("total = \"600ms\"", "http_response_timeout")]
    {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, &format!("timeouts = {{ {timeouts} }}")).await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(&request("GET", "/orders/first", &[], b"")).await.unwrap();
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789").await;
        let answer = caller.head().await.unwrap();
        let ended = within("the proxy gives up", Duration::from_secs(20), caller.body(&answer, |_| ())).await;
        assert!(ended.is_err());
        assert!(peer.is_closed().await, "the upstream's connection goes too");
        let line = proxy.exchanges(1).await.pop().unwrap();
        assert_eq!(line["error"], word, "{line}");
    }
}

#[tokio::test]
async fn what_is_disabled_or_unknown_is_said_without_a_token() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("enabled = false", "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for (turn, (method, target, status, error)) in [
        ("GET", "/orders/first", 503, "destination_unavailable"),
        ("POST", "/order/first", 404, "destination_not_found"),
        ("GET", "/ordersX", 404, "destination_not_found"),
        ("GET", "/Orders/first", 404, "destination_not_found"),
        ("TRACE", "/orders/first", 405, "http_request_denied"),
        ("GET", "/orders/%2e%2e/first", 400, "http_request_error"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = caller.exchange(&request(method, target, &[], b"")).await.unwrap();
        assert_failure(&answer, status, error);
        let line = assert_logged(&proxy, turn + 1, &answer).await;
        assert_eq!((&line["method"], &line["path"]), (&method.into(), &target.into()));
        if answer.closes() {
            caller = Connection::open(proxy.address).await.unwrap();
        }
    }
    assert_eq!((servers.issuer.token_requests(), servers.api.requests()), (0, 0));
}

#[tokio::test]
async fn a_request_id_of_the_caller_is_kept() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("enabled = false", "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let call = request("GET", "/orders/first", &[("X-Request-Id", "the-callers-own.17")], b"");
    let answer = caller.exchange(&call).await.unwrap();
    assert_failure(&answer, 503, "destination_unavailable");
    assert_eq!(answer.field("x-request-id"), Some("the-callers-own.17"));
}

/// B51, B57: a connection over the limit is told so, and the answer arrives.
#[tokio::test]
async fn a_connection_over_the_limit_is_503() {
    let servers = Servers::start().await;
    let config = servers.config(&servers.url(), "", "") + "[limits]\nconnections = 1\n";
    let proxy = run(&config).await;
    let mut first = Connection::open(proxy.address).await.unwrap();
    let call = request("GET", "/orders/first", &[], b"");
    assert_eq!(first.exchange(&call).await.unwrap().status, 200);

    // Nothing is sent: the answer is there before any request, and a request might cross it.
    let mut second = Connection::open(proxy.address).await.unwrap();
    let answer = second.answer(true).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{}", answer.text());
    assert_eq!(answer.field("proxy-status"), Some("keybearer; error=connection_limit_reached"));
    assert_eq!(answer.json()["error"], "connection_limit_reached");
    assert!(answer.closes() && answer.field("retry-after").is_some(), "{}", answer.head);
    assert!(second.is_closed().await);

    // A request that crosses it does not make the kernel answer with a reset.
    for _ in 0..20 {
        let mut crossing = Connection::open(proxy.address).await.unwrap();
        crossing.send(&request("POST", "/orders/first", &[], &[b'x'; 20_000])).await.unwrap();
        assert_eq!(crossing.answer(true).await.unwrap().status, 503);
        assert!(crossing.is_closed().await);
    }

    assert_eq!(first.exchange(&call).await.unwrap().status, 200, "who is in is served");
}
