//! Pooled connections that the upstream closes at the wrong moment: what is sent again, and what must not be.

use crate::support::eventually;
use crate::support::http::{Answer, Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Peer, Scripted, answer};
use crate::support::servers::Servers;

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// How often a race is run.
const ROUNDS: usize = 50;

/// A caller with a kept connection, a proxy, an upstream, and the upstream's end of the pooled connection.
struct Scene {
    _servers: Servers,
    proxy: Proxy,
    upstream: Scripted,
    caller: Connection,
    pooled: Option<Peer>,
}

impl Scene {
    /// After one exchange: the proxy holds one pooled connection.
    async fn set() -> Self {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, "").await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(&request("GET", "/orders/first", &[], b"")).await.unwrap();
        let mut pooled = upstream.accept().await;
        pooled.request().await;
        pooled.send(FINE).await;
        assert_eq!(caller.answer(true).await.unwrap().status, 200);
        Self { _servers: servers, proxy, upstream, caller, pooled: Some(pooled) }
    }

    fn pooled(&mut self) -> &mut Peer {
        self.pooled.as_mut().expect("the connection is open")
    }

    /// The upstream closes the pooled connection.
    fn close(&mut self) {
        drop(self.pooled.take());
    }

    async fn send(&mut self, method: &str, body: &[u8]) {
        self.caller.send(&request(method, "/orders/next", &[], body)).await.unwrap();
    }

    async fn answer(&mut self) -> Answer {
        self.caller.answer(true).await.unwrap()
    }

    async fn upstream_metric(&self, name: &str) -> f64 {
        Scrape::of(&self.proxy).await.sum(name, &[("upstream", &self.upstream.address.to_string())])
    }
}

#[tokio::test]
async fn a_connection_serves_one_exchange_after_another() {
    let mut scene = Scene::set().await;
    for method in ["GET", "POST", "GET"] {
        scene.send(method, if method == "POST" { b"body" } else { b"" }).await;
        assert_eq!(scene.pooled().request().await.method(), method);
        scene.pooled().send(FINE).await;
        assert_eq!(scene.answer().await.status, 200);
    }
    assert_eq!(scene.upstream_metric("keybearer_upstream_connections_opened_total").await, 1.0);
    assert_eq!(scene.upstream_metric("keybearer_upstream_connections_reused_total").await, 3.0);
}

/// B45: a connection known to be closed is not used.
#[tokio::test]
async fn a_connection_known_to_be_closed_is_not_used() {
    for (method, body) in [("GET", b"".as_slice()), ("POST", b"body")] {
        let mut scene = Scene::set().await;
        scene.close();
        eventually("the proxy notices", async || {
            (scene.upstream_metric("keybearer_upstream_connections").await == 0.0).then_some(())
        })
        .await;
        scene.send(method, body).await;
        let mut fresh = scene.upstream.accept().await;
        let received = fresh.request().await;
        assert_eq!((received.method(), received.body.as_slice()), (method, body));
        fresh.send(FINE).await;
        assert_eq!(scene.answer().await.status, 200);
    }
}

/// B45: the connection closes at the very moment at which the next request comes. Where nothing of it was sent, even a
/// POST is safe to send elsewhere; where the close was still on its way to us, some of it was sent, and the caller is
/// told.
#[tokio::test]
async fn a_request_that_was_not_sent_goes_to_another_connection_whatever_its_method() {
    let mut scene = Scene::set().await;
    let mut unsent = 0;
    for round in 0..ROUNDS {
        let body = format!("body {round}").into_bytes();
        scene.close();
        scene.send("POST", &body).await;
        let fresh = tokio::select! {
            fresh = scene.upstream.accept() => Some(fresh),
            answer = scene.caller.answer(true) => {
                let answer = answer.unwrap();
                assert_eq!(answer.field("proxy-status"), Some("keybearer; error=connection_terminated"), "round {round}");
                None
            }
        };
        let Some(mut fresh) = fresh else {
            scene = Scene::set().await;
            continue;
        };
        unsent += 1;
        assert_eq!(fresh.request().await.body, body);
        fresh.send(FINE).await;
        let answer = scene.answer().await;
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        scene.pooled = Some(fresh);
    }
    assert!(unsent > ROUNDS / 2, "{unsent} of {ROUNDS}");
}

/// B46, B47: an idempotent request lost on a pooled connection is sent again.
#[tokio::test]
async fn an_idempotent_request_lost_on_a_pooled_connection_is_sent_again() {
    for (method, body) in [("GET", b"".as_slice()), ("PUT", b"the whole body"), ("DELETE", b"")] {
        let mut scene = Scene::set().await;
        scene.send(method, body).await;
        let first = scene.pooled().request().await;
        scene.close();
        let mut fresh = scene.upstream.accept().await;
        let second = fresh.request().await;
        assert_eq!((&first.head, &first.body), (&second.head, &second.body), "the same request, byte for byte");
        fresh.send(FINE).await;
        let answer = scene.answer().await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"fine".as_slice()), "{method}: {}", answer.text());
        assert_eq!(scene.upstream_metric("keybearer_upstream_stale_retries_total").await, 1.0);
    }
}

/// B45: a POST lost after sending is told and not sent again.
#[tokio::test]
async fn a_post_lost_after_sending_is_told_and_not_sent_again() {
    let mut scene = Scene::set().await;
    scene.send("POST", b"an order").await;
    assert_eq!(scene.pooled().request().await.body, b"an order");
    scene.close();
    let answer = scene.answer().await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.field("proxy-status"), Some("keybearer; error=connection_terminated"));
    assert_eq!(scene.upstream_metric("keybearer_upstream_connections_opened_total").await, 1.0);
    assert_eq!(scene.upstream_metric("keybearer_upstream_stale_retries_total").await, 0.0);
}

/// B46: an upstream that dies on a request should not be asked by us for ever.
#[tokio::test]
async fn a_request_is_lost_at_most_twice() {
    let mut scene = Scene::set().await;
    scene.send("GET", b"").await;
    scene.pooled().request().await;
    scene.close();
    let mut fresh = scene.upstream.accept().await;
    fresh.request().await;
    drop(fresh);
    let answer = scene.answer().await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(scene.upstream_metric("keybearer_upstream_connections_opened_total").await, 2.0);
}

/// B46: a request lost on a fresh connection is not sent again.
#[tokio::test]
async fn a_request_lost_on_a_fresh_connection_is_not_sent_again() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/first", &[], b"")).await.unwrap();
    upstream.accept().await.request().await;
    let answer = caller.answer(true).await.unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_upstream_connections_opened_total", &[]), 1.0);
}

#[tokio::test]
async fn a_connection_that_the_upstream_will_close_is_not_pooled() {
    let mut scene = Scene::set().await;
    scene.send("GET", b"").await;
    scene.pooled().request().await;
    scene.pooled().send(&answer(200, &[("Connection", "close")], b"last")).await;
    assert_eq!(scene.answer().await.body, b"last");
    assert!(scene.pooled().is_closed().await);
    scene.send("POST", b"next").await;
    let mut fresh = scene.upstream.accept().await;
    assert_eq!(fresh.request().await.body, b"next");
    fresh.send(FINE).await;
    assert_eq!(scene.answer().await.status, 200);
}

/// B26: bytes after an answer belong to nobody: taken for the next answer they would reach another caller.
#[tokio::test]
async fn an_upstream_that_says_too_much_loses_its_connection() {
    let mut scene = Scene::set().await;
    scene.send("GET", b"").await;
    scene.pooled().request().await;
    scene.pooled().send(&[FINE, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"].concat()).await;
    assert_eq!(scene.answer().await.body, b"fine");
    assert!(scene.pooled().is_closed().await);
    scene.send("GET", b"").await;
    let mut fresh = scene.upstream.accept().await;
    fresh.request().await;
    fresh.send(&answer(200, &[], b"true")).await;
    assert_eq!(scene.answer().await.body, b"true");
}

/// B27: what an upstream says unasked on an idle connection is nobody's answer, and the connection is closed.
#[tokio::test]
async fn bytes_on_an_idle_connection_end_it() {
    for unasked in [FINE, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x"] {
        let mut scene = Scene::set().await;
        scene.pooled().send(unasked).await;
        assert!(scene.pooled().is_closed().await);
        scene.send("POST", b"body").await;
        let mut fresh = scene.upstream.accept().await;
        assert_eq!(fresh.request().await.body, b"body");
        fresh.send(&answer(201, &[], b"its own")).await;
        let answer = scene.answer().await;
        assert_eq!((answer.status, answer.body.as_slice()), (201, &b"its own"[..]), "{}", answer.text());
    }
}

/// B26: bytes behind an answer are dropped with their connection, and are never the next answer.
#[tokio::test]
async fn bytes_behind_an_answer_end_its_connection() {
    let mut scene = Scene::set().await;
    scene.send("GET", b"").await;
    scene.pooled().request().await;
    scene.pooled().send(&[FINE, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted"].concat()).await;
    assert_eq!(scene.answer().await.body, b"fine");
    assert!(scene.pooled().is_closed().await);
    scene.send("GET", b"").await;
    let mut fresh = scene.upstream.accept().await;
    fresh.request().await;
    fresh.send(&answer(200, &[], b"its own")).await;
    assert_eq!(scene.answer().await.body, b"its own");
}
