//! Trailers (RFC 9110 6.5): announced and filtered anew on every hop, never copied or lost blindly.

use crate::support::http::{Connection, fields};
use crate::support::recorder::Reply;
use crate::support::scripted::Scripted;
use crate::support::servers::Servers;
use crate::support::stage::Stage;

/// An answer whose trailers are all announced, and half of them not fit to travel on.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
    Trailer: X-Sum, Content-Length, Set-Cookie\r\nTrailer: Grpc-Status, X-Hop\r\n\r\n\
    2\r\nok\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\nSet-Cookie: a=1\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
    Grpc-Status: 0\r\nX-Unannounced: 1\r\n\r\n";

fn get(lines: &str) -> String {
    format!("GET /orders/x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// B33, B34, P9: a caller that reads trailers gets those that were announced and may come late.
#[tokio::test]
async fn a_caller_that_reads_trailers_gets_them() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(ANSWER));
    let mut caller = stage.caller().await;
    caller.send(get("TE: gzip;q=0.5, Trailers\r\nConnection: TE, close\r\n").as_bytes()).await.unwrap();
    let head = caller.any_head().await.unwrap();
    assert_eq!(fields(&head, "trailer"), ["x-sum, grpc-status, x-hop"], "{head}");
    let body = String::from_utf8(caller.rest().await.unwrap()).unwrap();
    assert_eq!(body, "2\r\nok\r\n0\r\nx-sum: 42\r\ngrpc-status: 0\r\n\r\n");
    let seen = stage.upstream.only();
    assert_eq!((seen.fields("te"), seen.fields("connection")), (vec!["trailers"], vec!["te"]), "{}", seen.head);
}

/// B33, B34: to anyone else nothing is announced, nor sent, and nothing is asked of the upstream.
#[tokio::test]
async fn a_caller_that_reads_no_trailers_gets_none() {
    let stage = Stage::orders().await;
    for lines in ["Connection: close\r\n", "TE: deflate\r\nConnection: TE, close\r\n"] {
        stage.upstream.next(Reply::new(ANSWER));
        let mut caller = stage.caller().await;
        caller.send(get(lines).as_bytes()).await.unwrap();
        let head = caller.any_head().await.unwrap();
        assert!(fields(&head, "trailer").is_empty(), "{head}");
        let body = String::from_utf8(caller.rest().await.unwrap()).unwrap();
        assert_eq!(body, "2\r\nok\r\n0\r\n\r\n");
        let seen = stage.upstream.last();
        assert!(seen.fields("te").is_empty() && seen.fields("connection").is_empty(), "{}", seen.head);
    }
}

/// B34: no answer announces what does not come.
#[tokio::test]
async fn trailers_that_may_not_travel_are_not_announced() {
    let stage = Stage::orders().await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie, Host\r\n\r\n\
                  2\r\nok\r\n0\r\nSet-Cookie: a=1\r\nHost: a\r\n\r\n";
    stage.upstream.next(Reply::new(answer));
    let mut caller = stage.caller().await;
    caller.send(get("TE: trailers\r\nConnection: TE, close\r\n").as_bytes()).await.unwrap();
    let head = caller.any_head().await.unwrap();
    assert!(fields(&head, "trailer").is_empty(), "{head}");
    assert_eq!(caller.rest().await.unwrap(), b"2\r\nok\r\n0\r\n\r\n");
}

/// B34: `Trailer` of a request announces what is left of the trailers that it announced.
#[tokio::test]
async fn a_request_announces_what_travels_on() {
    let stage = Stage::orders().await;
    let chunked = |announced: &str| {
        format!(
            "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: {announced}\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Sum: 42\r\nAuthorization: callers\r\n\r\n"
        )
    };
    let (_, seen) = stage.pass(chunked("Authorization, X-Sum")).await;
    assert_eq!(seen.fields("trailer"), ["x-sum"]);
    assert_eq!(seen.body, b"5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n");
    let (_, seen) = stage.pass(chunked("Authorization, Host")).await;
    assert!(seen.fields("trailer").is_empty(), "{}", seen.head);
    assert_eq!(seen.body, b"5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n", "what was not announced may travel too");
}

/// C28: Trailers that repeat the credential of their request do not tell it to the caller.
#[tokio::test]
async fn trailers_do_not_repeat_the_credential() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(get("TE: trailers\r\nConnection: TE, close\r\n").as_bytes()).await.unwrap();
    let mut peer = upstream.accept().await;
    let token = peer.request().await.authorization().trim_start_matches("Bearer ").to_owned();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Seen, X-Sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Seen: <{token}>\r\nX-Sum: 42\r\n\r\n"
    );
    peer.send(answer.as_bytes()).await;
    caller.any_head().await.unwrap();
    let body = String::from_utf8(caller.rest().await.unwrap()).unwrap();
    assert_eq!(body, "2\r\nok\r\n0\r\nx-seen: <***>\r\nx-sum: 42\r\n\r\n");
}
