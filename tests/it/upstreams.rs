//! Upstreams that answer oddly, or not at all: what the caller gets, and what is never made of it.

use crate::support::http::request;
use crate::support::recorder::Reply;
use crate::support::stage::{Stage, named};

fn get() -> Vec<u8> {
    request("GET", "/orders/x", &[], b"")
}

/// B21, B51: what is no HTTP, or could be read in two ways, is no answer.
#[tokio::test]
async fn a_broken_answer_is_502_and_its_connection_is_not_used_again() {
    let stage = Stage::orders().await;
    for (number, broken) in [
        "this is no HTTP\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\na",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "\0\u{1}\u{2}\u{3}\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        stage.upstream.next(Reply::new(broken));
        let answer = stage.exchange(get()).await;
        answer.assert_problem(502, broken);
        assert!(!answer.closes(), "the caller's connection is as good as before");
        assert_eq!(stage.upstream.connections(), number + 1, "a fresh connection after {broken:?}");
        stage.upstream.ended(number + 1).await;
    }
    assert_eq!(stage.upstream.requests().len(), 8, "none was sent twice");
}

/// B42: nobody asked the upstream to switch protocols, so nothing is tunnelled.
#[tokio::test]
async fn an_unasked_101_is_502() {
    let stage = Stage::orders().await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes";
    stage.upstream.next(Reply::new(switching));
    let mut caller = stage.caller().await;
    let answer = caller.exchange(&get()).await.unwrap();
    answer.assert_problem(502, "101");
    stage.upstream.ended(1).await;
    assert!(!answer.closes(), "the caller's connection is as good as before: {}", answer.head);
}

/// B26, B28: bytes behind an answer are never the next one.
#[tokio::test]
async fn surplus_bytes_never_become_the_next_answer() {
    let stage = Stage::orders().await;
    let planted = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted";
    for first in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{planted}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{planted}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n{planted}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{planted}"),
    ] {
        stage.upstream.next(Reply::new(first.as_str()));
        let mut caller = stage.caller().await;
        caller.exchange(&get()).await.unwrap();
        let answer = caller.exchange(&get()).await.unwrap();
        assert_eq!(answer.body, b"ok", "after {first:?}: {}", answer.text());
    }
}

/// B22, B29: a caller must be able to see that an answer is not whole.
#[tokio::test]
async fn an_answer_that_is_cut_short_looks_cut_short() {
    let stage = Stage::orders().await;
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    ] {
        stage.upstream.next(Reply::last(cut));
        let mut caller = stage.caller().await;
        let whole = caller.exchange(&get()).await;
        assert!(whole.is_err(), "{cut:?} looked like {whole:?}");
    }
    let log = stage.proxy.exchanges(2).await;
    for line in log {
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &"http_response_incomplete".into()), "{line}");
    }
}

/// B4: an answer that ends with its connection arrives whole.
#[tokio::test]
async fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::last("HTTP/1.1 200 OK\r\n\r\nto the end"));
    stage.upstream.next(Reply::last("HTTP/1.0 200 OK\r\n\r\nold"));
    let mut caller = stage.caller().await;
    assert_eq!(caller.exchange(&get()).await.unwrap().body, b"to the end");
    let answer = caller.exchange(&get()).await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.head.starts_with("HTTP/1.1 200")), (&b"old"[..], true));
    assert_eq!(answer.fields("via").len(), 1);
    assert!(answer.fields("via")[0].starts_with("1.0 keybearer"), "the version it came in: {}", answer.head);
}

/// B46: a pooled connection that died while idle costs nobody an exchange.
#[tokio::test]
async fn a_stale_connection_is_replaced() {
    let stage = Stage::orders().await;
    let mut caller = stage.caller().await;
    for turn in 0..4 {
        stage.upstream.next(Reply::last("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        assert_eq!(caller.exchange(&get()).await.unwrap().status, 200);
        stage.upstream.ended(turn + 1).await;
    }
    assert_eq!(stage.upstream.requests().len(), 4);
    assert_eq!(stage.issuer.token_requests(), 1);
}

/// B45, B46: a POST whose answer was lost may have been carried out; it is not sent again.
#[tokio::test]
async fn a_post_without_an_answer_is_sent_once() {
    let stage = Stage::orders().await;
    let post = request("POST", "/orders/x", &[], b"a body");
    let mut caller = stage.caller().await;
    let mut exchange = async |request: &[u8]| caller.exchange(request).await.unwrap();
    assert_eq!(exchange(&post).await.status, 200);
    stage.upstream.next(Reply::last(""));
    exchange(&post).await.assert_problem(502, "no answer on a reused connection");
    assert_eq!(stage.upstream.requests().len(), 2);

    stage.upstream.next(Reply::last(""));
    exchange(&get()).await.assert_problem(502, "no answer on a fresh connection");
    assert_eq!(stage.upstream.requests().len(), 3);

    assert_eq!(exchange(&get()).await.status, 200);
    stage.upstream.next(Reply::last(""));
    assert_eq!(exchange(&get()).await.status, 200, "a GET on a reused connection is sent again");
    assert_eq!(stage.upstream.requests().len(), 6);
}

/// B41: interim answers do not stand for the final one.
#[tokio::test]
async fn interim_answers_are_followed_by_the_final_one() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    let (answer, _) = stage.pass(get()).await;
    assert_eq!(answer.body, b"ok");
}

/// C24: no redirect is followed: the token goes to its own origin only.
#[tokio::test]
async fn a_redirect_is_the_callers_business() {
    let stage = Stage::start(&named("orders", "/v1", "")).await;
    let location = format!("http://{}/elsewhere", stage.upstream.address);
    for status in [301, 302, 303, 307, 308] {
        let reply = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        stage.upstream.next(Reply::new(reply));
        let answer = stage.exchange(get()).await;
        assert_eq!((answer.status, answer.field("location")), (status, Some(location.as_str())));
    }
    assert_eq!(stage.upstream.requests().len(), 5);
}
