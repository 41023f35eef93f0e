//! The framing of answers: what an upstream says about its length, what is no body however long it is said to be, and
//! bytes that nobody asked for.

use crate::support::http::{Connection, fields, request};
use crate::support::recorder::Reply;
use crate::support::scripted::{Scripted, answer};
use crate::support::servers::Servers;
use crate::support::stage::{Stage, named};

fn get() -> Vec<u8> {
    request("GET", "/orders/x", &[], b"")
}

/// B11, B12, B17, B18, B21: an answer whose head or length can be read in two ways is 502, and its connection is
/// dropped.
#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_502() {
    let stage = Stage::orders().await;
    let lines = [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 3",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: ",
        "Content-Length: +2",
        "Content-Length: -2",
        "Content-Length: 2x",
        "Content-Length: 0x2",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 18446744073709551618",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length : 2",
        "X: a\r\n folded: b\r\nContent-Length: 2",
        "X: a\rb\r\nContent-Length: 2",
    ];
    let mut wrong = Vec::new();
    for (number, lines) in lines.into_iter().enumerate() {
        stage.upstream.next(Reply::last(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n2\r\nok\r\n0\r\n\r\n")));
        let answer = stage.caller().await.exchange(&get()).await;
        if !answer.as_ref().is_ok_and(|answer| answer.status == 502) {
            wrong.push(format!("{lines:?}: {answer:?}"));
        }
        assert_eq!(stage.upstream.connections(), number + 1, "{lines}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// B28, B37: HEAD, 204 and 304 have no body whatever their length says, and what they say is not made up.
#[tokio::test]
async fn what_has_no_body_has_none_whatever_its_length_says() {
    let stage = Stage::orders().await;
    let mut caller = stage.caller().await;
    let head = request("HEAD", "/orders/x", &[], b"");
    for (request, said, length) in [
        (&head, "200 OK\r\nContent-Length: 10", Some("10")),
        (&head, "200 OK\r\nTransfer-Encoding: chunked", None),
        (&head, "404 Not Found\r\nContent-Length: 7", Some("7")),
        (&get(), "204 No Content", None),
        (&get(), "204 No Content\r\nContent-Length: 0", None),
        (&get(), "204 No Content\r\nContent-Length: 5", None),
        (&get(), "204 No Content\r\nTransfer-Encoding: chunked", None),
        (&get(), "304 Not Modified\r\nETag: \"x\"", None),
        (&get(), "304 Not Modified\r\nContent-Length: 9", None),
    ] {
        stage.upstream.next(Reply::new(format!("HTTP/1.1 {said}\r\n\r\n")));
        caller.send(request).await.unwrap();
        let answer = caller.answer(false).await.unwrap();
        assert_eq!(answer.status.to_string(), said[..3], "{said}");
        assert_eq!(answer.field("content-length"), length, "{said}: {}", answer.head);
        assert!(answer.status != 204 || answer.fields("transfer-encoding").is_empty(), "{said}: {}", answer.head);
        assert_eq!(answer.fields("date").len(), 1, "RFC 9110 6.6.1: {}", answer.head);
        // The next answer begins right behind the head: nobody waits for a body, nobody takes one for an answer.
        let next = caller.exchange(&get()).await.unwrap();
        assert_eq!((next.status, next.body.as_slice()), (200, &b"ok"[..]), "after {said}");
    }
    stage
        .upstream
        .next(Reply::new("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"));
    let answer = caller.exchange(&get()).await.unwrap();
    assert_eq!(answer.fields("date"), ["Sun, 06 Nov 1994 08:49:37 GMT"], "one that is there stays");
}

/// B27, B50: whatever an upstream says on an idle connection, a 408 too, is nobody's answer: the connection is closed.
#[tokio::test]
async fn bytes_on_an_idle_connection_end_it() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for unasked in [
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        "\r\n",
        "x",
    ] {
        caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.send(&answer(200, &[], b"asked")).await;
        assert_eq!(caller.answer(true).await.unwrap().body, b"asked");
        peer.send(unasked.as_bytes()).await;
        assert!(peer.is_closed().await, "after {unasked:?}");
        caller.send(&request("POST", "/orders/x", &[], b"body")).await.unwrap();
        let mut fresh = upstream.accept().await;
        assert_eq!(fresh.request().await.body, b"body");
        fresh.send(&answer(200, &[("Connection", "close")], b"true")).await;
        let answer = caller.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"true"[..]), "after {unasked:?}");
    }
}

/// B50, B51: an upstream's own limits, faults and refusals pass as they came, `Retry-After` included, and are not
/// asked for twice.
#[tokio::test]
async fn an_upstreams_own_failure_passes_as_it_came() {
    let stage = Stage::orders().await;
    for (status, wait) in
        [(408, "1"), (425, "2"), (429, "120"), (500, "3"), (502, "4"), (503, "Fri, 31 Dec 1999 23:59:59 GMT")]
    {
        let said = format!("HTTP/1.1 {status} Said\r\nRetry-After: {wait}\r\nContent-Length: 4\r\n\r\nsaid");
        let before = stage.upstream.requests().len();
        stage.upstream.next(Reply::new(said));
        let answer = stage.exchange(get()).await;
        assert_eq!((answer.status, answer.field("retry-after")), (status, Some(wait)), "{}", answer.text());
        assert_eq!((answer.body.as_slice(), answer.field("proxy-status")), (&b"said"[..], None));
        assert_eq!(stage.upstream.requests().len(), before + 1, "{status}");
    }
    assert_eq!(stage.issuer.token_requests(), 1);
}

/// B49: `Early-Data` passes on, and so does the 425 that answers it; no replay of ours takes the caller's decision.
#[tokio::test]
async fn early_data_and_too_early_pass_on() {
    let stage = Stage::start(&named("orders", "", "replay = \"always\"")).await;
    stage.upstream.next(Reply::new("HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n"));
    let early = request("GET", "/orders/x", &[("Early-Data", "1")], b"");
    assert_eq!(stage.exchange(&early).await.status, 425);
    assert_eq!(stage.upstream.only().fields("early-data"), ["1"]);
}

/// B24: a request without length and coding has no body; what follows it is the next request.
#[tokio::test]
async fn a_request_without_a_length_has_no_body() {
    let stage = Stage::orders().await;
    let mut caller = stage.caller().await;
    let bare = "POST /orders/one HTTP/1.1\r\nHost: localhost\r\n\r\n";
    caller.send(format!("{bare}{}", bare.replace("one", "two")).as_bytes()).await.unwrap();
    for target in ["/one", "/two"] {
        assert_eq!(caller.answer(true).await.unwrap().status, 200);
        let seen = stage.upstream.last();
        assert!(seen.body.is_empty(), "{target}: {seen:?}");
        assert!(seen.fields("transfer-encoding").is_empty(), "{}", seen.head);
    }
    let targets: Vec<_> = stage.upstream.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/one", "/two"]);
}

/// B58: an answer that is complete before the request is counts, whatever becomes of the rest of the request.
#[tokio::test]
async fn an_answer_that_is_complete_before_the_request_counts() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    for said in [413, 200] {
        let mut caller = Connection::open(proxy.address).await.unwrap();
        let head = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nbegun";
        caller.send(head.as_bytes()).await.unwrap();
        let mut peer = upstream.accept().await;
        peer.part(5).await;
        peer.send(&answer(said, &[("Connection", "close")], b"enough")).await;
        drop(peer);
        let answer = caller.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (said, &b"enough"[..]), "{}", answer.text());
    }
}

/// Secret fields that go out beside the token, and what answers a request repeats of all of it.
const SECRETS: &str = "headers = [\n\
     { name = \"x-api-key\", value = { dangerous_literal = \"canary-key-0123456789\" } },\n\
     { name = \"x-account\", value = { dangerous_literal = \"Account canary-account-0123456789 7\" } },\n\
     { name = \"x-version\", value = \"application/vnd.example.v1+json\" },\n]\n";

/// C28: an answer that repeats a secret field of its request, in its head, before it or in trailers, does not tell it to
/// the caller; what is no secret stays.
#[tokio::test]
async fn an_answer_does_not_repeat_secret_fields() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, SECRETS).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[("TE", "trailers"), ("Connection", "TE")], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    let seen = peer.request().await;
    assert_eq!(seen.field("x-api-key"), Some("canary-key-0123456789"));
    let said = "X-Seen: <canary-key-0123456789>\r\nX-Account: canary-account-0123456789\r\n\
                Content-Type: application/vnd.example.v1+json\r\n";
    let head = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
    let body = "2\r\nok\r\n0\r\nX-Sum: canary-key-0123456789 42\r\n\r\n";
    let hints = format!("HTTP/1.1 103 Early Hints\r\n{said}\r\n");
    peer.send(format!("{hints}HTTP/1.1 200 OK\r\n{said}{head}\r\n{body}").as_bytes()).await;
    for status in ["103", "200"] {
        let head = caller.any_head().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && !head.contains("canary"), "{head}");
        assert_eq!((fields(&head, "x-seen"), fields(&head, "x-account")), (vec!["<***>"], vec!["***"]), "{head}");
        assert_eq!(fields(&head, "content-type"), ["application/vnd.example.v1+json"], "{head}");
    }
    let rest = String::from_utf8(caller.bytes(2 + 3 + 3 + 2).await.unwrap()).unwrap();
    assert!(!rest.contains("canary"), "{rest}");
    assert_eq!(caller.line().await.unwrap(), "x-sum: *** 42\r\n");
}
