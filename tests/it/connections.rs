//! Bodies and connections of callers: whole, in pieces, cut short, left open.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::http::request;
use crate::support::proxy::head;
use crate::support::recorder::Reply;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, within};

fn get() -> Vec<u8> {
    request("GET", "/orders/x", &[], b"")
}

// RFC 9112 9.3.2
#[tokio::test]
async fn a_hundred_pipelined_requests_are_answered_in_order() {
    let stage = Stage::orders().await;
    let mut all = Vec::new();
    for number in 0..100 {
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{number:03}");
        stage.upstream.next(Reply::new(reply));
        let body = format!("body {number}");
        match number % 3 {
            0 => all.extend(request("GET", &format!("/orders/{number}"), &[], b"")),
            1 => all.extend(request("POST", &format!("/orders/{number}"), &[], body.as_bytes())),
            _ => all.extend_from_slice(
                format!(
                    "PUT /orders/{number} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                )
                .as_bytes(),
            ),
        }
    }
    let mut caller = stage.caller().await;
    caller.send(&all).await.unwrap();
    for number in 0..100 {
        let answer = caller.answer(true).await.unwrap();
        assert_eq!(answer.body, format!("{number:03}").as_bytes());
    }
    for (number, seen) in stage.upstream.requests().iter().enumerate() {
        assert_eq!(seen.target(), format!("/{number}"));
        assert!(number % 3 == 0 || String::from_utf8_lossy(&seen.body).contains(&format!("body {number}")));
    }
    assert_eq!(stage.issuer.token_requests(), 1);
}

/// B2, B23: a request may come byte by byte.
#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let stage = Stage::orders().await;
    let mut caller = stage.caller().await;
    let chunked = b"\r\nPOST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;e=\"1\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let sized = request("POST", "/orders/x", &[], b"sized");
    for whole in [&chunked[..], &sized, &get()] {
        for byte in whole {
            caller.send(&[*byte]).await.unwrap();
        }
        let answer = caller.answer(true).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(stage.upstream.requests().len(), 3);
}

/// B23, B34: extensions end here, and a trailer carries nothing that a header field may not.
#[tokio::test]
async fn chunks_are_made_anew_and_trailers_bring_nothing_in() {
    let callers = format!("[callers.billing]\napi_key_sha256 = \"{}\"\nheader = \"x-billing-key\"\n", "0".repeat(64));
    let stage = Stage::start(&(named("orders", "", "") + &callers)).await;
    let names = [
        "Authorization",
        "Cookie",
        "DPoP",
        "Proxy-Authorization",
        "X-Billing-Key",
        "X_Billing_Key",
        "Content-Length",
        "Host",
        "Via",
        "X-Forwarded-For",
        "X-Request-Id",
        "Connection",
        "Upgrade",
        "Transfer_Encoding",
    ];
    let trailers: String = names.iter().map(|name| format!("{name}: callers\r\n")).collect();
    let chunked = format!(
        "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, {}\r\n\r\n\
         5;name=value;\"q\"\r\nhello\r\n00006;\r\n world\r\n0;last\r\nX-Sum: 42\r\n{trailers}\r\n",
        names.join(", ")
    );
    let (_, seen) = stage.pass(chunked).await;
    assert_eq!(String::from_utf8_lossy(&seen.body), "5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 42\r\n\r\n");
    seen.bearer();
}

/// B22, B38: a body is nothing that only some methods have: in chunks, it reaches the upstream after any of them.
#[tokio::test]
async fn a_body_in_chunks_arrives_whatever_the_method() {
    let stage = Stage::orders().await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"] {
        let chunked = format!(
            "{method} /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n"
        );
        if method == "HEAD" {
            stage.upstream.next(Reply::new("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"));
        }
        let (_, seen) = stage.pass(chunked).await;
        assert_eq!(
            (seen.line(), seen.body.as_slice()),
            (&*format!("{method} /x HTTP/1.1"), &b"5\r\nhello\r\n0\r\n\r\n"[..])
        );
        assert_eq!(seen.fields("transfer-encoding"), ["chunked"]);
    }
}

/// Bodies whose chunks are broken somewhere, after a good one.
const BROKEN: [&str; 11] = [
    "5\r\nhello\r\nzz\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello\n0\n\n",
    "5\r\nhello\r\n5\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n-5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n5 \r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n bad: trailer\r\n\r\n",
    "5\r\nhello\r\n0\r\nbad\0: trailer\r\n\r\n",
    "5\r\nhello\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
];

const CHUNKED: &str = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// B23: broken before anything was passed on, it is refused like a broken head.
#[tokio::test]
async fn a_body_that_comes_broken_with_its_head_is_refused() {
    let stage = Stage::orders().await;
    for broken in BROKEN {
        let mut caller = stage.caller().await;
        let behind = "GET /orders/behind HTTP/1.1\r\nHost: localhost\r\n\r\n";
        caller.send(format!("{CHUNKED}{broken}{behind}").as_bytes()).await.unwrap();
        caller.answer(true).await.unwrap().assert_problem(400, broken);
        assert!(caller.is_closed().await, "{broken:?}");
    }
    stage.assert_untouched();
    let log = stage.proxy.exchanges(BROKEN.len()).await;
    assert!(log.iter().all(|line| line["status"] == 400), "{log:#?}");
}

/// B22, B23: what breaks on the way must not look whole to the upstream.
#[tokio::test]
async fn a_body_that_breaks_on_the_way_never_becomes_a_complete_request() {
    let stage = Stage::orders().await;
    for (number, broken) in BROKEN.into_iter().enumerate() {
        let (good, bad) = broken.split_at(10.min(broken.len() - 1));
        let mut caller = stage.caller().await;
        caller.send(format!("{CHUNKED}{}", &good[..8]).as_bytes()).await.unwrap();
        stage.upstream.connected(number + 1).await;
        caller.send(format!("{}{bad}", &good[8..]).as_bytes()).await.unwrap();
        let answer = within("an answer", PATIENCE, caller.answer(true)).await.unwrap();
        answer.assert_problem(400, broken);
        assert!(within("the end", PATIENCE, caller.is_closed()).await, "{broken:?}");
        let log = stage.proxy.exchanges(number + 1).await;
        assert_eq!((&log[number]["status"], &log[number]["error"]), (&400.into(), &"http_request_error".into()));
    }
    stage.upstream.ended(BROKEN.len()).await;
    assert!(stage.upstream.requests().is_empty(), "{:#?}", stage.upstream.requests());
}

/// B22: a caller that goes away in the middle of its body.
#[tokio::test]
async fn a_body_that_ends_early_never_becomes_a_complete_request() {
    let stage = Stage::orders().await;
    let sized = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nshort";
    let chunked = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n";
    for (number, cut) in [sized, chunked].into_iter().enumerate() {
        let mut caller = stage.caller().await;
        caller.send(cut.as_bytes()).await.unwrap();
        caller.finish_sending().await.unwrap();
        if let Ok(answer) = within("an end", PATIENCE, caller.answer(true)).await {
            answer.assert_problem(400, cut);
        }
        let log = stage.proxy.exchanges(number + 1).await;
        assert!(log[number]["error"].is_string(), "{}", log[number]);
    }
    assert!(stage.upstream.requests().is_empty(), "{:#?}", stage.upstream.requests());
}

/// B25, B57: the answer must not be lost to a reset because the caller was still sending.
#[tokio::test]
async fn an_early_answer_to_a_big_upload_arrives() {
    let stage = Stage::orders().await;
    for (target, status) in [("/nobody/x", 404), ("/orders/../x", 400)] {
        for megabytes in [1, 16] {
            let length = megabytes << 20;
            let mut caller = stage.caller().await;
            let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
            caller.send(head.as_bytes()).await.unwrap();
            let piece = vec![b'x'; 64 * 1024];
            let mut sent = 0;
            // It reads nothing before it has sent everything, as simple callers do; the end of the connection stops it.
            while sent < length && caller.send(&piece).await.is_ok() {
                sent += piece.len();
            }
            let answer = within("an early answer", PATIENCE, caller.answer(true)).await;
            let answer = answer.unwrap_or_else(|error| panic!("{target}, {megabytes} MiB: {error}"));
            answer.assert_problem(status, target);
            assert!(answer.closes(), "{target}: the connection cannot go on, and that is said: {}", answer.head);
        }
    }
    stage.assert_untouched();
}

/// B25: a failure that leaves the framing clear does not cost the connection.
#[tokio::test]
async fn a_connection_goes_on_after_a_failure_that_allows_it() {
    let config = named("orders", "", "")
        + &named("off", "", "enabled = false")
        + &named("reading", "", "match = { path = \"/reading\", methods = [\"GET\"] }");
    let stage = Stage::start(&config).await;
    let mut caller = stage.caller().await;
    let trace = b"TRACE /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let evil = b"GET /orders/x HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec();
    for (status, failing) in [
        (404, request("GET", "/nobody", &[], b"")),
        (404, request("POST", "/nobody", &[], b"a small body")),
        (405, request("POST", "/reading/x", &[], b"a small body")),
        (405, trace),
        (503, request("GET", "/off/x", &[], b"")),
        (403, request("GET", "/orders/x", &[("Origin", "null")], b"")),
        (421, evil),
        (417, request("GET", "/orders/x", &[("Expect", "a-miracle")], b"")),
    ] {
        let what = String::from_utf8_lossy(&failing).into_owned();
        let answer = caller.exchange(&failing).await.unwrap_or_else(|error| panic!("{error}: {what}"));
        answer.assert_problem(status, &what);
        assert!(!answer.closes(), "{what}: {}", answer.head);
        let answer = caller.exchange(&get()).await.unwrap_or_else(|error| panic!("{error}: after {what}"));
        assert_eq!(answer.status, 200, "after {what}");
    }
}

/// B25, B39, B40: a body that was not asked for is not waited for.
#[tokio::test]
async fn expectations_are_met_or_refused() {
    let stage = Stage::orders().await;
    for expect in ["a-miracle", "100-continue, a-miracle", "200-ok"] {
        stage.exchange(request("POST", "/orders/x", &[("Expect", expect)], b"")).await.assert_problem(417, expect);
    }
    let head = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
    };
    // Refused at once: no body is asked for, and the connection, on which it may come all the same, ends.
    let mut caller = stage.caller().await;
    caller.send(head("/nobody").as_bytes()).await.unwrap();
    let answer = caller.answer(true).await.unwrap();
    assert!(answer.status == 404 && answer.closes(), "{}", answer.text());
    assert!(caller.is_closed().await);
    stage.assert_untouched();

    let mut caller = stage.caller().await;
    caller.send(head("/orders/x").as_bytes()).await.unwrap();
    assert_eq!(caller.line().await.unwrap(), "HTTP/1.1 100 Continue\r\n");
    assert_eq!(caller.line().await.unwrap(), "\r\n");
    let answer = caller.exchange(b"hello").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = stage.upstream.only();
    assert_eq!((seen.body.as_slice(), seen.fields("expect")), (&b"hello"[..], vec!["100-continue"]), "{}", seen.head);

    // A caller need not wait.
    let answer = stage.exchange(head("/orders/x") + "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

// A caller whose sending half is closed looks like one that is gone; as with nginx and Envoy, it counts as gone, so that
// no exchange goes on for nobody.
#[tokio::test]
async fn a_caller_that_closes_its_sending_half_counts_as_gone() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(""));
    let mut caller = stage.caller().await;
    caller.send(&get()).await.unwrap();
    stage.upstream.received(1).await;
    caller.finish_sending().await.unwrap();
    assert!(within("the end", PATIENCE, caller.is_closed()).await);
    stage.upstream.ended(1).await;
    let log = stage.proxy.exchanges(1).await;
    assert_eq!(log[0]["error"], "caller_gone", "{}", log[0]);
}

#[tokio::test]
async fn a_caller_that_vanishes_leaves_a_line_and_takes_nobody_along() {
    let stage = Stage::orders().await;
    // The head of an answer comes, its body does not.
    stage.upstream.next(Reply::new("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"));
    let mut caller = stage.caller().await;
    caller.send(&get()).await.unwrap();
    assert_eq!(caller.head().await.unwrap().status, 200);
    drop(caller);
    stage.upstream.ended(1).await;
    let log = stage.proxy.exchanges(1).await;
    assert_eq!(log[0]["error"], "caller_gone", "{}", log[0]);

    // In the middle of a head, and before one.
    for bytes in ["GET /orders/x HTTP/1.1\r\nHost:", ""] {
        let mut caller = stage.caller().await;
        caller.send(bytes.as_bytes()).await.unwrap();
        drop(caller);
    }
    stage.pass(get()).await;
}

/// B51: a caller that is too slow with its head or body is 408.
#[tokio::test]
async fn a_caller_that_is_too_slow_with_its_head_or_body_is_408() {
    let limits = head("info") + "[limits]\nheader_timeout = \"200ms\"\nbody_timeout = \"200ms\"\n";
    let stage = Stage::listening(&limits, &named("orders", "", "")).await;
    for (bytes, target) in [
        ("GET /orders/x HTTP/1.1\r\nHost:", "head"),
        ("POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhe", "body"),
    ] {
        let mut caller = stage.caller().await;
        caller.send(bytes.as_bytes()).await.unwrap();
        let answer = within("an answer", Duration::from_secs(20), caller.answer(true)).await.unwrap();
        answer.assert_problem(408, target);
        assert!(answer.closes(), "{target}: {}", answer.head);
        assert!(caller.is_closed().await, "{target}");
    }
    assert!(stage.upstream.requests().is_empty());
}

#[tokio::test]
async fn a_unix_socket_listens_too() {
    let unix = head("info") + "[listeners.local]\naddress = \"unix:./keybearer.sock\"\n";
    let mut stage = Stage::listening(&unix, &named("orders", "", "forwarded = \"x-forwarded\"")).await;
    let socket = stage.proxy.setup.config().with_file_name("keybearer.sock");
    let mut caller = UnixStream::connect(&socket).await.unwrap();
    // Any host will do: no browser can come here.
    caller.write_all(b"GET /orders/x HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", PATIENCE, caller.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let seen = stage.upstream.only();
    assert_eq!((seen.target(), seen.fields("x-forwarded-for")), ("/x", vec!["unknown"]));
    assert_eq!(stage.proxy.exchanges(1).await[0]["listener"], "local");

    let mut caller = UnixStream::connect(&socket).await.unwrap();
    caller.write_all(b"GET /orders/x HTTP/1.1\nHost: anything\n\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", PATIENCE, caller.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");

    stage.proxy.process.terminate();
    assert!(stage.proxy.process.exit().await.success());
    assert!(!socket.exists(), "the socket file goes with the process");
}
