//! Requests that no intermediary may guess the meaning of: each is answered in our format, leaves a line in the log,
//! ends its connection, and reaches nobody else.

use crate::support::http::{Connection, request};
use crate::support::proxy::head;
use crate::support::stage::{Stage, named};

/// What follows a malformed head in every test: it must not be taken for a request.
const BEHIND: &str = "GET /orders/behind HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends these bytes, then a good request; fails unless there is one answer, ours, and then the end.
async fn assert_refused(stage: &Stage, bytes: &[u8], status: u16) {
    let what = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let mut caller = stage.caller().await;
    caller.send(&[bytes, BEHIND.as_bytes()].concat()).await.unwrap();
    let answer = caller.answer(true).await.unwrap_or_else(|error| panic!("{what:?}: {error}"));
    answer.assert_problem(status, &what);
    assert!(answer.closes(), "{what:?} does not say that the connection ends: {}", answer.head);
    assert!(caller.is_closed().await, "{what:?}: the connection goes on");
}

/// Refuses every head of a table, then sees to the log.
async fn assert_all_refused(stage: &Stage, table: &[(u16, &str)]) {
    for (status, head) in table {
        assert_refused(stage, head.as_bytes(), *status).await;
    }
    stage.assert_untouched();
    let log = stage.proxy.exchanges(table.len()).await;
    assert_eq!(log.len(), table.len(), "one line each");
    for (line, (status, head)) in log.iter().zip(table) {
        assert_eq!(line["status"], *status, "{head:?}: {line}");
        assert!(line["error"].is_string() && line["upstream_status"].is_null(), "{head:?}: {line}");
        assert!(line["method"].is_null() && line["path"].is_null(), "nothing is made up: {line}");
    }
}

/// B1, B2, B3, B4, B6, B7, B9, B10, B25: a malformed head is answered and ends the connection.
#[tokio::test]
async fn rfc_9112_a_malformed_head_is_answered_and_ends_the_connection() {
    let stage = Stage::orders().await;
    assert_all_refused(
        &stage,
        &[
            // 2.2: line ends, and what is no HTTP
            (400, "GET /orders/x HTTP/1.1\nHost: localhost\n\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\n Host: localhost\r\n\r\n"),
            (400, "\r\n\r\nGET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "\nGET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "hello\r\n\r\n"),
            (400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\r\n\r\n"),
            (505, "PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n"),
            // 2.3, 3: the request line
            (505, "GET /orders/x HTTP/3.0\r\nHost: localhost\r\n\r\n"),
            (505, "GET /orders/x HTTP/0.9\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1 \r\nHost: localhost\r\n\r\n"),
            (400, "GET  /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET\t/orders/x\tHTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, " GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x y HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x http/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.10\r\nHost: localhost\r\n\r\n"),
            (400, "GE(T /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x#y HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x?y#z HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/\u{e4} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/\u{7f} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "CONNECT /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "CONNECT http://localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "CONNECT user@localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            (400, "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
            // 3.2: one Host, a valid one
            (400, "GET /orders/x HTTP/1.1\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost\r\nhOST: evil.example\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: local host\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: user@localhost\r\n\r\n"),
            (400, "GET /orders/x HTTP/1.1\r\nHost: localhost/x\r\n\r\n"),
        ],
    )
    .await;
}

/// B11, B12, B13, B14, B16, B17, B18, B19, B20: fields and framing that can be read in two ways are refused.
#[tokio::test]
async fn rfc_9112_fields_and_framing_that_can_be_read_in_two_ways_are_refused() {
    let stage = Stage::orders().await;
    let heads: Vec<(u16, String)> = [
        // 5.1, 5.2, RFC 9110 5.5: fields
        (400, "X : a\r\n"),
        (400, "X\t: a\r\n"),
        (400, "X y: a\r\n"),
        (400, ": a\r\n"),
        (400, "X\r\n"),
        (400, "X: a\r\n folded\r\n"),
        (400, "X: a\r\n\tfolded\r\n"),
        (400, "X: \0\r\n"),
        (400, "X: \u{7}\r\n"),
        (400, "X: \u{c}\r\n"),
        (400, "X: \u{7f}\r\n"),
        (400, "X\u{e9}: a\r\n"),
        (400, "\"X\": a\r\n"),
        (400, "Content_Length: 5\r\n"),
        (400, "Transfer_Encoding: chunked\r\n"),
        (400, "X_Api_Key: a\r\n"),
        // 6.3: framing
        (400, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        (400, "Transfer-Encoding: chunked, chunked\r\n"),
        (400, "Transfer-Encoding: chunked, identity\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (400, "Transfer-Encoding: gzip;level=9, chunked\r\n"),
        (400, "Transfer-Encoding: , chunked\r\n"),
        (400, "Transfer-Encoding: chunked;q=1\r\n"),
        (400, "Transfer-Encoding: \"chunked\"\r\n"),
        (400, "Transfer-Encoding: xchunked\r\n"),
        (400, "Transfer-Encoding: \r\n"),
        (400, "Transfer-Encoding: \u{b}chunked\r\n"),
        (501, "Transfer-Encoding: gzip\r\n"),
        (501, "Transfer-Encoding: identity\r\n"),
        (400, "Content-Length: 5\r\nContent-Length: 5\r\n"),
        (400, "Content-Length: 5\r\nContent-Length: 6\r\n"),
        (400, "Content-Length: 5, 5\r\n"),
        (400, "Content-Length: +5\r\n"),
        (400, "Content-Length: -5\r\n"),
        (400, "Content-Length: 0x5\r\n"),
        (400, "Content-Length: 5 5\r\n"),
        (400, "Content-Length: 5;\r\n"),
        (400, "Content-Length: \r\n"),
        (400, "Content-Length: 18446744073709551621\r\n"),
        (400, "Content-Length: 99999999999999999999999999\r\n"),
    ]
    .into_iter()
    .map(|(status, lines)| (status, format!("POST /orders/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")))
    .chain([(400, "POST /orders/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned())])
    .collect();
    let table: Vec<(u16, &str)> = heads.iter().map(|(status, head)| (*status, head.as_str())).collect();
    assert_all_refused(&stage, &table).await;
}

/// B5: target and header section are bounded before they are stored (RFC 9110 15.5.15, RFC 6585 5).
#[tokio::test]
async fn an_oversized_target_is_414_and_an_oversized_header_section_431() {
    let limits = head("info") + "[limits]\ntarget = \"1KiB\"\nheader = \"2KiB\"\n";
    let stage = Stage::listening(&limits, &named("orders", "", "")).await;
    let target = |length: usize| format!("GET /orders/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(length));
    let field =
        |length: usize| format!("GET /orders/x HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(length));
    let many = format!("GET /orders/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(101));
    for (status, head) in
        [(414, target(1100)), (414, target(100_000)), (431, field(2100)), (431, field(1_000_000)), (431, many)]
    {
        assert_refused(&stage, head.as_bytes(), status).await;
    }
    // Judged before their end is there.
    for (status, head) in [(414, target(3000)), (431, field(3000))] {
        let mut caller = stage.caller().await;
        caller.send(head.trim_end().as_bytes()).await.unwrap();
        caller.answer(true).await.unwrap().assert_problem(status, "without an end");
    }
    stage.assert_untouched();
    stage.pass(target(1000)).await;
    stage.pass(field(1900)).await;
}

/// B16: answers come in the order of their requests, the refusal in its place.
#[tokio::test]
async fn good_requests_before_a_bad_one_are_answered_first() {
    let stage = Stage::orders().await;
    let bad = "GET /orders/bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let post = request("POST", "/orders/two", &[], b"hello");
    let one = request("GET", "/orders/one", &[], b"");
    let mut caller = stage.caller().await;
    caller.send(&[&one, &post, &one, bad.as_bytes(), BEHIND.as_bytes()].concat()).await.unwrap();
    for turn in 0..3 {
        let answer = caller.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (200, false), "{turn}: {}", answer.text());
    }
    caller.answer(true).await.unwrap().assert_problem(400, bad);
    assert!(caller.is_closed().await);
    let targets: Vec<_> = stage.upstream.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/one", "/two", "/one"]);
    let statuses: Vec<_> = stage.proxy.exchanges(4).await.iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 200, 400]);
}

/// B10: a CONNECT is refused where no tunnel is allowed, with what is; nothing behind it is taken for a request, and no
/// upstream hears of it.
#[tokio::test]
async fn a_connect_is_405_and_ends_the_connection() {
    let stage = Stage::orders().await;
    let mut target = stage.upstream.address.to_string();
    for version in ["1.1", "1.0"] {
        assert_refused(&stage, format!("CONNECT {target} HTTP/{version}\r\nHost: {target}\r\n\r\n").as_bytes(), 405)
            .await;
        target = "localhost:443".to_owned();
    }
    let answer = stage.exchange("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(
        answer.field("allow").is_some_and(|allow| allow.contains("GET") && !allow.contains("CONNECT")),
        "{}",
        answer.head
    );
    stage.assert_untouched();
    let log = stage.proxy.exchanges(3).await;
    assert!(log.iter().all(|line| line["status"] == 405), "{log:#?}");
}

// A caller that sends what the guard puts in the place of a bad head is a caller like any other.
#[tokio::test]
async fn the_heads_that_stand_in_for_bad_ones_cannot_be_forged() {
    let stage = Stage::start(&named("orders", "", "match = { path = \"/\", host = \"refused\" }")).await;
    let (_, seen) = stage.pass("GET / HTTP/1.1\r\nhost: refused\r\n\r\n").await;
    assert_eq!(seen.line(), "GET / HTTP/1.1");
}

/// B1, B5, B16: the admin listener refuses the same.
#[tokio::test]
async fn the_admin_listener_refuses_the_same() {
    let stage = Stage::orders().await;
    for (status, bytes) in [
        (400, "GET /readyz HTTP/1.1\n\n"),
        (400, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (414, &format!("GET /{} HTTP/1.1\r\n", "a".repeat(10_000))),
    ] {
        let mut caller = Connection::open(stage.proxy.admin).await.unwrap();
        caller.send(bytes.as_bytes()).await.unwrap();
        let answer = caller.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (status, true), "{}", answer.text());
        assert!(caller.is_closed().await);
    }
}
