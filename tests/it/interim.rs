//! Interim answers (RFC 9110 15.2): on to the caller at once, and never in place of the answer.

use crate::support::http::{Connection, fields, request};
use crate::support::scripted::{Scripted, answer};
use crate::support::servers::Servers;

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// B41, B30: each at once, several in a row, without what was for one hop; a 100 that nobody asked for is for us.
#[tokio::test]
async fn interim_answers_reach_the_caller_before_the_answer() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(PROCESSING).await;
    let head = caller.any_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 102 Processing\r\n"), "{head}");
    peer.send(&[b"HTTP/1.1 100 Continue\r\n\r\n", HINTS, HINTS].concat()).await;
    for _ in 0..2 {
        let head = caller.any_head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{head}");
        assert_eq!(fields(&head, "link"), ["</style.css>"]);
        assert!(fields(&head, "via").len() == 1 && fields(&head, "x-hop").is_empty(), "{head}");
        assert!(fields(&head, "content-length").is_empty() && fields(&head, "transfer-encoding").is_empty());
    }
    // B28: those that come together with the answer come before it.
    peer.send(&[HINTS, &answer(200, &[], b"ok")].concat()).await;
    assert!(caller.any_head().await.unwrap().starts_with("HTTP/1.1 103 "));
    let reply = caller.answer(true).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    caller.send(&request("GET", "/orders/y", &[], b"")).await.unwrap();
    peer.request().await;
    peer.send(&answer(204, &[], b"")).await;
    assert!(caller.any_head().await.unwrap().starts_with("HTTP/1.1 204 "), "and the connections go on");
}

/// B41: never to HTTP/1.0.
#[tokio::test]
async fn http_1_0_gets_no_interim_answer() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let _upstream = upstream.serve(|_| [HINTS, &answer(200, &[], b"ok")].concat());
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(b"GET /orders/x HTTP/1.0\r\n\r\n").await.unwrap();
    let head = caller.any_head().await.unwrap();
    assert!(head.contains(" 200 "), "{head}");
}

/// B41: those of a rejected attempt end with it.
#[tokio::test]
async fn a_replay_has_interim_answers_of_its_own() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(&answer(401, &[], b"")).await;
    peer.request().await;
    peer.send(&[HINTS, &answer(200, &[], b"ok")].concat()).await;
    assert!(caller.any_head().await.unwrap().starts_with("HTTP/1.1 103 "));
    assert_eq!(caller.answer(true).await.unwrap().status, 200);
}

/// C28: An interim answer that repeats the credential of its request does not tell it to the caller.
#[tokio::test]
async fn an_interim_answer_does_not_repeat_the_credential() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    let token = peer.request().await.authorization().trim_start_matches("Bearer ").to_owned();
    let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: </{token}>\r\nX-Seen: Bearer {token}\r\n\r\n");
    peer.send(&[hints.as_bytes(), &answer(200, &[], b"ok")].concat()).await;
    let head = caller.any_head().await.unwrap();
    assert_eq!((fields(&head, "link"), fields(&head, "x-seen")), (vec!["</***>"], vec!["Bearer ***"]), "{head}");
    assert_eq!(caller.answer(true).await.unwrap().status, 200);
}

/// B28: what an upstream says about the length of an interim answer is no length of anything.
#[tokio::test]
async fn an_interim_answer_says_nothing_about_a_body() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for framing in ["Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked"] {
        let mut peer = {
            caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
            upstream.accept().await
        };
        peer.request().await;
        let hints = format!("HTTP/1.1 103 Early Hints\r\n{framing}\r\nLink: </a>\r\n\r\n");
        peer.send(&[hints.as_bytes(), &answer(200, &[("Connection", "close")], b"ok")].concat()).await;
        let head = caller.any_head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 103 ") && fields(&head, "link") == ["</a>"], "{framing}: {head}");
        for name in ["content-length", "transfer-encoding"] {
            assert!(fields(&head, name).is_empty(), "{framing}: {head}");
        }
        let reply = caller.answer(true).await.unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]), "{framing}");
    }
}
