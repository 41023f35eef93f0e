//! SIGTERM: the steps of the way down, in order.

use std::time::{Duration, Instant};

use crate::support::http::{self, Connection, request};
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Proxy, Setup, head};
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
