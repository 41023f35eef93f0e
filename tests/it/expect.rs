//! `Expect: 100-continue` (RFC 9110 10.1.1): the body stays with the caller until the upstream asks for it.

use crate::support::byte_exact::ByteExact;
use crate::support::http::{Connection, request};
use crate::support::scripted::{Peer, answer};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const BODY: &[u8] = b"the body of an order";

impl ByteExact {
    /// Sends the head of a request whose body has this length, and not a byte of it.
    async fn announce(&mut self, expect: &str, length: usize) {
        let head =
            format!("POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{expect}\r\n\r\n");
        self.caller.send(head.as_bytes()).await.unwrap();
    }

    async fn asked(&mut self) {
        assert_eq!(self.caller.any_head().await.unwrap().as_bytes(), CONTINUE);
    }

    /// Takes a whole exchange with this body to its end over `peer`, whose head was read.
    async fn finish(&mut self, peer: &mut Peer, body: &[u8]) {
        self.asked().await;
        self.caller.send(body).await.unwrap();
        assert_eq!(peer.bytes(body.len()).await, body);
        peer.send(&answer(200, &[], b"done")).await;
        let head = self.caller.any_head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "asked once: {head}");
        assert_eq!(self.caller.bytes(4).await.unwrap(), b"done");
    }
}

/// B39: our own expectation goes before the body, and the upstream's 100 is what the caller waits for.
#[tokio::test]
async fn the_caller_is_asked_when_the_upstream_asks() {
    let mut scene = ByteExact::set("timeouts = { continue = \"1h\" }").await;
    let mut pooled = None;
    // B40: twice, or in odd case, it counts as one.
    for expect in ["Expect: 100-continue", "Expect: 100-Continue\r\nExpect: 100-CONTINUE"] {
        scene.announce(expect, BODY.len()).await;
        let mut peer = match pooled.take() {
            Some(peer) => peer,
            None => scene.upstream.accept().await,
        };
        let seen = peer.part(0).await;
        assert_eq!(seen.field("expect"), Some("100-continue"), "{}", seen.head);
        assert_eq!(seen.field("content-length"), Some("20"));
        peer.send(CONTINUE).await;
        scene.finish(&mut peer, BODY).await;
        pooled = Some(peer);
    }
}

/// B39: a rejected token costs no byte of the body, which is still at the caller for the replay, however long it is.
#[tokio::test]
async fn a_rejection_leaves_the_body_with_the_caller() {
    let mut scene = ByteExact::set("replay_limit = \"1KiB\"\ntimeouts = { continue = \"1h\" }").await;
    let body = vec![b'x'; 1 << 20];
    scene.announce("Expect: 100-continue", body.len()).await;
    let mut first = scene.upstream.accept().await;
    let refused = first.part(0).await;
    first.send(&answer(401, &[], b"no")).await;
    let mut second = scene.upstream.accept().await;
    let seen = second.part(0).await;
    assert_ne!(seen.authorization(), refused.authorization());
    assert_eq!(seen.field("expect"), Some("100-continue"), "{}", seen.head);
    assert!(first.is_closed().await, "nothing of the body went to the first connection");
    second.send(CONTINUE).await;
    scene.finish(&mut second, &body).await;
    let log = scene.proxy.exchanges(1).await;
    assert_eq!((&log[0]["replayed"], &log[0]["bytes_in"]), (&true.into(), &(1 << 20).into()));
}

/// B39, B25: a final answer is passed on as it is, the body is asked of nobody, and both connections end.
#[tokio::test]
async fn a_final_answer_asks_for_no_body() {
    let mut scene = ByteExact::set("timeouts = { continue = \"1h\" }").await;
    scene.announce("Expect: 100-continue", BODY.len()).await;
    let mut peer = scene.upstream.accept().await;
    peer.part(0).await;
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nnot").await;
    let head = scene.caller.any_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 403 "), "no 100 before it: {head}");
    assert!(head.contains("connection: close"), "nobody knows whether the body comes: {head}");
    assert_eq!(scene.caller.bytes(3).await.unwrap(), b"not");
    peer.send(b"you").await;
    assert_eq!(scene.caller.bytes(3).await.unwrap(), b"you", "the answer's own body is whole");
    assert!(peer.is_closed().await);
    assert!(scene.caller.is_closed().await);
    assert_eq!(scene.proxy.exchanges(1).await[0]["bytes_in"], 0);
}

/// B39, B25: a success that does not wait for the body is passed on as it comes, to its end; a body that nobody asked for
/// is not sent.
#[tokio::test]
async fn an_early_success_streams_to_its_end() {
    let mut scene = ByteExact::set("timeouts = { continue = \"1h\" }").await;
    scene.announce("Expect: 100-continue", BODY.len()).await;
    let mut peer = scene.upstream.accept().await;
    peer.part(0).await;
    peer.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = scene.caller.any_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 201 "), "no 100 before it: {head}");
    for piece in [&b"5\r\nfirst\r\n"[..], b"6\r\nsecond\r\n", b"0\r\n\r\n"] {
        peer.send(piece).await;
        assert_eq!(scene.caller.bytes(piece.len()).await.unwrap(), piece, "each as it comes");
    }
    assert!(peer.is_closed().await && scene.caller.is_closed().await, "nobody knows whether the body comes");
    let log = scene.proxy.exchanges(1).await;
    assert_eq!((&log[0]["status"], &log[0]["bytes_in"], &log[0]["bytes_out"]), (&201.into(), &0.into(), &11.into()));
    assert!(log[0]["error"].is_null(), "{}", log[0]);
}

/// B39: an upstream that ignores the expectation is waited for once, and remembered.
#[tokio::test]
async fn an_upstream_that_pays_no_heed_is_waited_for_once() {
    let mut scene = ByteExact::set("timeouts = { continue = \"10ms\" }").await;
    scene.announce("Expect: 100-continue", BODY.len()).await;
    let mut peer = scene.upstream.accept().await;
    assert_eq!(peer.part(0).await.field("expect"), Some("100-continue"));
    scene.finish(&mut peer, BODY).await;

    scene.announce("Expect: 100-continue", BODY.len()).await;
    assert_eq!(peer.part(0).await.field("expect"), None);
    scene.finish(&mut peer, BODY).await;
}

/// B39: what failed for the expectation alone is sent again without it (RFC 9110 10.1.1).
#[tokio::test]
async fn an_expectation_that_the_upstream_refuses_is_dropped() {
    let mut scene = ByteExact::set("timeouts = { continue = \"1h\" }").await;
    scene.announce("Expect: 100-continue", BODY.len()).await;
    let mut first = scene.upstream.accept().await;
    assert_eq!(first.part(0).await.field("expect"), Some("100-continue"));
    first.send(&answer(417, &[], b"")).await;
    let mut second = scene.upstream.accept().await;
    assert_eq!(second.part(0).await.field("expect"), None);
    scene.finish(&mut second, BODY).await;
    assert!(first.is_closed().await);
    assert_eq!(scene.proxy.exchanges(1).await[0]["upstream_status"], 200);
}

/// B40: HTTP/1.0 knows no expectations, and a request without a body has nothing to wait for.
#[tokio::test]
async fn what_cannot_wait_is_not_kept_waiting() {
    let mut scene = ByteExact::set("timeouts = { continue = \"1h\" }").await;
    let upstream = scene.upstream.serve(|request| answer(200, &[], &request.body));
    let old = "POST /orders/x HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    let reply = scene.caller.exchange(old.as_bytes()).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"hello"[..]), "{}", reply.head);
    let mut caller = Connection::open(scene.proxy.address).await.unwrap();
    let reply = caller.exchange(&request("GET", "/orders/x", &[("Expect", "100-continue")], b"")).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.head);
    assert!(upstream.received().iter().all(|seen| seen.field("expect").is_none()));
}
