//! Tunnels that callers ask their proxy for: opened where the listener lists them, and never looked into.

use serde_json::Value;

use crate::support::http::Connection;
use crate::support::metrics::Scrape;
use crate::support::proxy::head;
use crate::support::scripted::Scripted;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, eventually, within};

/// A listener whose callers may use it as their proxy, and open tunnels to these.
async fn stage(tunnel: &str) -> Stage {
    let forward = format!("forward_proxy = {{ tunnel = [{tunnel}] }}\ndangerous = {{ private = true }}\n\n[admin]");
    let orders = named("orders", "/v1", "").replace("{upstream}", "localhost:{port}");
    Stage::listening(&head("info").replace("[admin]", &forward), &orders).await
}

fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic canary\r\n\r\n")
}

/// The line of the access log for a tunnel.
async fn record(stage: &Stage, path: &str) -> Value {
    let found = stage.proxy.process.stdout.find(|lines| {
        let mut records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| record["path"] == path)
    });
    within("it is recorded", PATIENCE, found).await.expect("the proxy is still running")
}

/// C32, B10: a tunnel carries the caller's bytes and none of ours; no credential is in it or with it.
#[tokio::test]
async fn a_listed_tunnel_carries_bytes_both_ways_untouched() {
    let far = Scripted::start().await;
    let target = far.address.to_string();
    let stage = stage(&format!("\"{target}\"")).await;
    let mut caller = Connection::open(stage.proxy.address).await.unwrap();
    // What follows the head without waiting is for the tunnel, too.
    caller.send(format!("{}GET /early HTTP/1.1\r\n", connect(&target)).as_bytes()).await.unwrap();
    let mut peer = far.accept().await;
    let answer = caller.head().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.head);
    for field in ["content-length", "transfer-encoding", "connection"] {
        assert_eq!(answer.fields(field), Vec::<&str>::new(), "{}", answer.head);
    }
    caller.send(b"Host: x\r\n\r\n").await.unwrap();
    let received = peer.request().await;
    assert_eq!(received.head, "GET /early HTTP/1.1\r\nHost: x\r\n\r\n");
    peer.send(b"line of the far end\n").await;
    assert_eq!(caller.line().await.unwrap(), "line of the far end\n");
    caller.finish_sending().await.unwrap();
    assert!(peer.is_closed().await, "the end of one side is the other's to see");
    peer.send(b"last word\n").await;
    assert_eq!(caller.line().await.unwrap(), "last word\n");
    drop(peer);
    assert!(caller.is_closed().await);
    let record = record(&stage, &target).await;
    assert_eq!((&record["status"], &record["method"]), (&200.into(), &"CONNECT".into()), "{record}");
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&32.into(), &30.into()), "{record}");
    assert!(record["named_credential"].is_null(), "{record}");
    stage.assert_untouched();
}

/// B10: what is not listed is refused, with a word on what would work.
#[tokio::test]
async fn a_tunnel_that_is_not_listed_is_refused() {
    let stage = stage("\"registry.example.com\", \"*.example.org:8443\"").await;
    let upstream = stage.upstream.address;
    for target in [
        "api.example.com:443".to_owned(),
        "registry.example.com:80".to_owned(),
        "registry.example.com.evil.example:443".to_owned(),
        "a.example.org:443".to_owned(),
        "example.org:8443".to_owned(),
        "169.254.169.254:80".to_owned(),
        upstream.to_string(),
        format!("localhost:{}", upstream.port()),
    ] {
        let mut caller = stage.caller().await;
        let smuggled = format!("{}GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n", connect(&target));
        let answer = caller.exchange(smuggled.as_bytes()).await.unwrap();
        answer.assert_problem(405, &target);
        assert!(answer.text().contains("ask for the http:// URL"), "{}", answer.text());
        assert!(caller.is_closed().await, "what follows CONNECT is not HTTP");
    }
    stage.assert_untouched();
}

#[tokio::test]
async fn a_far_end_that_cannot_be_reached_is_an_answer() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = stage(&format!("\"{closed}\", \"name.invalid\"")).await;
    stage.exchange(connect(&closed.to_string())).await.assert_problem(502, "refused");
    stage.exchange(connect("name.invalid:443")).await.assert_problem(502, "no such name");
}

/// A tunnel does not outlive the process, and the process waits for it no longer than for anything else.
#[tokio::test]
async fn a_tunnel_is_cut_at_the_deadline_of_the_drain() {
    let far = Scripted::start().await;
    let target = far.address.to_string();
    let forward = format!("forward_proxy = {{ tunnel = [\"{target}\"] }}\ndangerous = {{ private = true }}\n\n[admin]");
    let head = head("info").replace("[admin]", &forward) + "[drain]\ndelay = \"0s\"\ndeadline = \"1s\"\n";
    let mut stage = Stage::listening(&head, &named("orders", "", "")).await;
    let mut caller = Connection::open(stage.proxy.address).await.unwrap();
    caller.send(connect(&target).as_bytes()).await.unwrap();
    let mut peer = far.accept().await;
    assert_eq!(caller.head().await.unwrap().status, 200);
    stage.proxy.process.terminate();
    peer.send(b"still there\n").await;
    assert_eq!(caller.line().await.unwrap(), "still there\n");
    assert!(within("the process ends", PATIENCE, stage.proxy.process.exit()).await.success());
    assert!(caller.is_closed().await && peer.is_closed().await);
}

/// The gauge of open tunnels.
async fn open_tunnels(stage: &Stage) -> f64 {
    Scrape::of(&stage.proxy).await.sum("keybearer_tunnels", &[])
}

/// B51: tunnels have places of their own; one more than there are is 503, and requests go on beside them.
#[tokio::test]
async fn a_tunnel_keeps_its_place_until_it_ends_and_none_of_the_requests() {
    let far = Scripted::start().await;
    let target = far.address.to_string();
    let forward = format!("forward_proxy = {{ tunnel = [\"{target}\"] }}\ndangerous = {{ private = true }}\n\n[admin]");
    let head = head("info").replace("[admin]", &forward) + "[limits]\nrequests = 1\ntunnels = 1\n";
    let stage = Stage::listening(&head, &named("orders", "", "")).await;
    let mut caller = Connection::open(stage.proxy.address).await.unwrap();
    caller.send(connect(&target).as_bytes()).await.unwrap();
    let mut peer = far.accept().await;
    assert_eq!(caller.head().await.unwrap().status, 200);
    stage.pass("GET /orders/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;

    let refused = stage.exchange(connect(&target)).await;
    refused.assert_problem(503, "the only place is taken");
    assert!(refused.field("retry-after").is_some(), "{}", refused.head);
    let scrape = Scrape::of(&stage.proxy).await;
    assert_eq!(scrape.sum("keybearer_limited_total", &[("limit", "tunnels")]), 1.0);
    assert_eq!(scrape.sum("keybearer_tunnels", &[]), 1.0, "what was refused takes none");
    let record = record(&stage, &target).await;
    assert_eq!(record["status"], 503, "{record}");

    peer.send(b"still there\n").await;
    assert_eq!(caller.line().await.unwrap(), "still there\n");
    drop((caller, peer));
    eventually("the place is free again", async || (open_tunnels(&stage).await == 0.0).then_some(())).await;
    let mut next = Connection::open(stage.proxy.address).await.unwrap();
    next.send(connect(&target).as_bytes()).await.unwrap();
    assert_eq!(next.head().await.unwrap().status, 200);
}

/// A far end that cannot be reached leaves no place taken.
#[tokio::test]
async fn a_tunnel_that_does_not_open_gives_its_place_back() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = stage(&format!("\"{closed}\"")).await;
    stage.exchange(connect(&closed.to_string())).await.assert_problem(502, "refused");
    eventually("no place is taken", async || (open_tunnels(&stage).await == 0.0).then_some(())).await;
}

/// A pause that is too long ends a tunnel at both ends, and the log tells why.
#[tokio::test]
async fn a_tunnel_through_which_nothing_passes_is_closed() {
    let far = Scripted::start().await;
    let target = far.address.to_string();
    let forward = format!("forward_proxy = {{ tunnel = [\"{target}\"] }}\ndangerous = {{ private = true }}\n\n[admin]");
    let head = head("info").replace("[admin]", &forward) + "[limits]\ntunnel_idle_timeout = \"300ms\"\n";
    let stage = Stage::listening(&head, &named("orders", "", "")).await;
    let mut caller = Connection::open(stage.proxy.address).await.unwrap();
    caller.send(connect(&target).as_bytes()).await.unwrap();
    let mut peer = far.accept().await;
    assert_eq!(caller.head().await.unwrap().status, 200);
    assert!(caller.is_closed().await && peer.is_closed().await);
    let record = record(&stage, &target).await;
    assert_eq!((&record["status"], &record["error"]), (&200.into(), &"connection_read_timeout".into()), "{record}");
}
