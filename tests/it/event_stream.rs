//! Event streams: each event at once, and pauses as long as they please.

use crate::support::http::{Connection, request};
use crate::support::scripted::{Peer, Scripted};
use crate::support::servers::Servers;

async fn begin(upstream: &Scripted, caller: &mut Connection, content_type: &str) -> Peer {
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer.send(head.as_bytes()).await;
    assert_eq!(caller.head().await.unwrap().status, 200, "the head does not wait for an event");
    peer
}

async fn event(peer: &mut Peer, caller: &mut Connection, text: &str) {
    let event = format!("data: {text}\n\n");
    peer.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
    let size = caller.line().await.unwrap();
    assert_eq!(usize::from_str_radix(size.trim_end(), 16).unwrap(), event.len());
    assert_eq!(caller.bytes(event.len()).await.unwrap(), event.as_bytes());
    assert_eq!(caller.line().await.unwrap(), "\r\n");
}

#[tokio::test]
async fn every_event_arrives_at_once() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let mut peer = begin(&upstream, &mut caller, "text/event-stream").await;
    for number in 0..20 {
        event(&mut peer, &mut caller, &format!("event {number}")).await;
    }
    drop(caller);
    assert!(peer.is_closed().await, "a caller that goes away takes the stream along");
    let log = proxy.exchanges(1).await;
    assert_eq!(log[0]["error"], "caller_gone");
}

#[tokio::test]
async fn a_pause_ends_an_answer_but_no_event_stream() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "timeouts = { idle = \"100ms\" }").await;
    let mut listener = Connection::open(proxy.address).await.unwrap();
    let mut events = begin(&upstream, &mut listener, "Text/Event-Stream; charset=utf-8").await;
    event(&mut events, &mut listener, "first").await;
    // The pause is as long as it takes another answer to be given up.
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let mut peer = begin(&upstream, &mut caller, "text/plain").await;
    assert!(peer.is_closed().await);
    assert_eq!(proxy.exchanges(1).await[0]["error"], "connection_read_timeout");
    event(&mut events, &mut listener, "second").await;
}

#[tokio::test]
async fn limits_of_streams_and_of_whole_exchanges_hold() {
    let servers = Servers::start().await;
    for (keys, error) in [
        ("streams = { idle = \"50ms\" }", "connection_read_timeout"),
        ("timeouts = { total = \"200ms\" }", "http_response_timeout"),
    ] {
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, keys).await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        let mut peer = begin(&upstream, &mut caller, "text/event-stream").await;
        assert!(peer.is_closed().await, "{keys}");
        assert!(caller.line().await.is_ok_and(|line| line.is_empty()), "cut short, with no last chunk");
        assert_eq!(proxy.exchanges(1).await[0]["error"], error);
    }
}
