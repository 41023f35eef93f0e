//! SIGTERM: the steps of the way down, in order.

use std::time::{Duration, Instant};

use crate::support::http::{self, Connection, request};
use crate::support::metrics::Scrape;
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::scripted::Scripted;
use crate::support::{eventually, within};

const DRAIN: &str = "[drain]\ndelay = \"2s\"\ndeadline = \"40s\"\n";

/// A proxy with one exchange under way, whose answer has begun and waits at the resource server.
async fn start() -> Option<(Issuer, Proxy, Connection)> {
    let issuer = Issuer::start(&[CLIENT]).await?;
    let config = head("info") + DRAIN + &issuer.credentials(&CLIENT);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", CLIENT.secret).run().await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/hold", &[], b"")).await.unwrap();
    assert_eq!(caller.head().await.unwrap().status, 200);
    assert_eq!(caller.line().await.unwrap().trim_end(), "6", "the size of the first chunk");
    assert_eq!(issuer.stats().await.held(), 1);
    Some((issuer, proxy, caller))
}

/// B57: the way down is told, then closed, then finished.
#[tokio::test]
async fn the_way_down_is_told_then_closed_then_finished() {
    let Some((issuer, mut proxy, mut held)) = start().await else { return };
    let mut idle = Connection::open(proxy.address).await.unwrap();
    let call = request("GET", "/orders/echo", &[], b"");
    assert!(!idle.exchange(&call).await.unwrap().closes(), "before the signal connections are kept");

    let signalled = Instant::now();
    proxy.process.terminate();
    eventually("not ready any more", async || (proxy.admin("/readyz").await?.status == 503).then_some(())).await;
    assert!(signalled.elapsed() < Duration::from_secs(1), "at once, not after {:?}", signalled.elapsed());
    assert_eq!(proxy.admin("/healthz").await.unwrap().status, 200);

    let answer = idle.exchange(&call).await.unwrap();
    assert!(answer.status == 200 && answer.closes(), "on an old connection: {}", answer.text());
    assert!(idle.is_closed().await);
    let answer = http::get(proxy.address, "/orders/echo").await.expect("new connections are still accepted");
    assert!(answer.status == 200 && answer.closes(), "on a new connection: {}", answer.text());

    eventually("the listener closes", async || Connection::open(proxy.address).await.err()).await;
    assert!(signalled.elapsed() >= Duration::from_secs(2), "after the delay, not after {:?}", signalled.elapsed());
    assert!(!proxy.process.has_ended(), "an exchange is under way");

    issuer.release().await;
    let mut rest = String::new();
    while !rest.ends_with("0\r\n\r\n") {
        let line = within("the exchange goes on", Duration::from_secs(10), held.line()).await.unwrap();
        assert!(!line.is_empty(), "the answer was cut off after {rest:?}");
        rest.push_str(&line);
    }
    assert!(rest.starts_with("begun\n") && rest.contains("done\n"), "{rest:?}");
    assert!(proxy.process.exit().await.success());
    assert!(signalled.elapsed() < Duration::from_secs(30), "it does not wait for the deadline");
    let log = proxy.access_log();
    assert_eq!(log.len(), 4, "{log:#?}");
    assert!(log.iter().any(|line| line["path"] == "/orders/hold" && line["status"] == 200), "{log:#?}");
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let Some((_issuer, mut proxy, mut held)) = start().await else { return };
    let signalled = Instant::now();
    proxy.process.terminate();
    eventually("not ready any more", async || (proxy.admin("/readyz").await?.status == 503).then_some(())).await;
    proxy.process.terminate();
    proxy.process.exit().await;
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    while held.line().await.is_ok_and(|line| !line.is_empty()) {}
}

/// B57: what is no exchange any more lives through the delay and on to the deadline, counts as a connection until then,
/// and is cut there.
#[tokio::test]
async fn a_websocket_and_a_tunnel_live_until_the_deadline() {
    let (upstream, far) = (Scripted::start().await, Scripted::start().await);
    let config = head("info").replace(
        "[admin]",
        &format!("forward_proxy = {{ tunnel = [\"{}\"] }}\ndangerous = {{ private = true }}\n\n[admin]", far.address),
    ) + &format!(
        "[named_credentials.orders]\nurl = \"http://{}\"\ngenerate_authorization_header = false\n\
         [drain]\ndelay = \"1s\"\ndeadline = \"4s\"\n",
        upstream.address
    );
    let mut proxy = Setup::new(&config).run().await;
    let fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let mut socket = Connection::open(proxy.address).await.unwrap();
    socket.send(&request("GET", "/orders/socket", &fields, b"")).await.unwrap();
    let mut socket_peer = upstream.accept().await;
    socket_peer.request().await;
    let consent = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    socket_peer.send(consent.as_bytes()).await;
    assert!(socket.any_head().await.unwrap().starts_with("HTTP/1.1 101 "));
    let mut tunnel = Connection::open(proxy.address).await.unwrap();
    tunnel.send(&request("CONNECT", &far.address.to_string(), &[], b"")).await.unwrap();
    let mut tunnel_peer = far.accept().await;
    assert_eq!(tunnel.head().await.unwrap().status, 200);

    let signalled = Instant::now();
    proxy.process.terminate();
    eventually("not ready any more", async || (proxy.admin("/readyz").await?.status == 503).then_some(())).await;
    eventually("the listener closes", async || Connection::open(proxy.address).await.err()).await;
    assert!(signalled.elapsed() >= Duration::from_secs(1), "{:?}", signalled.elapsed());
    for (caller, peer) in [(&mut socket, &mut socket_peer), (&mut tunnel, &mut tunnel_peer)] {
        caller.send(b"there\n").await.unwrap();
        assert_eq!(peer.bytes(6).await, b"there\n");
        peer.send(b"and back\n").await;
        assert_eq!(caller.line().await.unwrap(), "and back\n");
    }
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_connections", &[]), 2.0);
    drop(socket_peer);
    assert!(socket.is_closed().await, "who has ended is not waited for");
    drop(socket);
    let left = async || (Scrape::of(&proxy).await.sum("keybearer_connections", &[]) == 1.0).then_some(());
    eventually("the other one is left", left).await;
    assert!(!proxy.process.has_ended());

    assert!(proxy.process.exit().await.success());
    assert!(signalled.elapsed() >= Duration::from_secs(4), "{:?}", signalled.elapsed());
    assert!(tunnel.is_closed().await && tunnel_peer.is_closed().await);
    let log = proxy.access_log();
    let statuses: Vec<_> = log.iter().map(|line| (line["method"].clone(), line["status"].clone())).collect();
    assert_eq!(statuses, [("GET".into(), 101.into()), ("CONNECT".into(), 200.into())], "{log:#?}");
}
