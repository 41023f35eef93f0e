//! Connections that become something else than HTTP (RFC 9110 7.8), frames and all.

use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::byte_exact::ByteExact;
use crate::support::http::{Answer, request};
use crate::support::scripted::{Peer, answer};

/// The nonce of RFC 6455 1.3, and what proves that it was read.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// "Hello" as RFC 6455 5.7 has it: masked, from a client, and in clear, from a server.
const MASKED: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const CLEAR: &[u8] = &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];

fn handshake(fields: &[(&str, &str)]) -> Vec<u8> {
    let own = [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "chat, superchat"),
    ];
    request("GET", "/orders/socket", &[&own[..], fields].concat(), b"")
}

fn consent(protocol: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
    .into_bytes()
}

impl ByteExact {
    async fn ask(&mut self) -> Peer {
        self.caller.send(&handshake(&[])).await.unwrap();
        self.upstream.accept().await
    }

    /// Both sides have switched.
    async fn opened(&mut self) -> Peer {
        let mut peer = self.ask().await;
        peer.request().await;
        peer.send(&consent("websocket")).await;
        self.agreed().await;
        peer
    }

    async fn agreed(&mut self) {
        let head = self.caller.any_head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        let answer = Answer { status: 101, head, body: Vec::new() };
        assert_eq!((answer.field("connection"), answer.field("upgrade")), (Some("upgrade"), Some("websocket")));
        assert_eq!(answer.field("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(answer.field("sec-websocket-protocol"), Some("chat"));
        assert!(answer.field("content-length").is_none() && answer.field("transfer-encoding").is_none());
    }
}

/// B42, B32, C31: exactly the protocol that was asked for, the credential in the handshake alone, frames both ways, and
/// one line in the log when it is over.
#[tokio::test]
async fn frames_travel_both_ways_after_the_handshake() {
    let mut scene = ByteExact::set("").await;
    let mut peer = scene.ask().await;
    let seen = peer.request().await;
    assert!(seen.authorization().starts_with("Bearer "));
    assert_eq!((seen.field("connection"), seen.field("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!((seen.field("sec-websocket-key"), seen.field("sec-websocket-version")), (Some(KEY), Some("13")));
    assert_eq!(seen.field("sec-websocket-protocol"), Some("chat, superchat"));
    // The first frame may come with the consent.
    peer.send(&[&consent("websocket")[..], CLEAR].concat()).await;
    scene.agreed().await;
    assert_eq!(scene.caller.bytes(CLEAR.len()).await.unwrap(), CLEAR);
    for _ in 0..100 {
        scene.caller.send(MASKED).await.unwrap();
        assert_eq!(peer.bytes(MASKED.len()).await, MASKED);
        peer.send(CLEAR).await;
        assert_eq!(scene.caller.bytes(CLEAR.len()).await.unwrap(), CLEAR);
    }
    assert!(scene.proxy.access_log().is_empty(), "it is not over");
    drop(scene.caller);
    assert!(peer.is_closed().await);
    drop(peer);
    let log = scene.proxy.exchanges(1).await;
    assert_eq!((&log[0]["status"], &log[0]["upstream_status"]), (&101.into(), &101.into()));
    assert_eq!((&log[0]["bytes_in"], &log[0]["bytes_out"]), (&1100.into(), &707.into()), "{}", log[0]);
}

/// Each side may end its half on its own.
#[tokio::test]
async fn half_of_a_tunnel_can_be_closed() {
    let mut scene = ByteExact::set("").await;
    let mut peer = scene.opened().await;
    scene.caller.send(MASKED).await.unwrap();
    scene.caller.finish_sending().await.unwrap();
    assert_eq!(peer.bytes(MASKED.len()).await, MASKED);
    assert!(peer.is_closed().await, "the caller's end came through");
    peer.send(CLEAR).await;
    assert_eq!(scene.caller.bytes(CLEAR.len()).await.unwrap(), CLEAR, "and the other half is open");
    peer.finish_sending().await;
    assert!(scene.caller.is_closed().await);
    assert!(scene.proxy.exchanges(1).await[0]["error"].is_null());
}

/// A rejected handshake is renewed and replayed as any other request.
#[tokio::test]
async fn a_rejected_handshake_is_replayed() {
    let mut scene = ByteExact::set("").await;
    let mut peer = scene.ask().await;
    let refused = peer.request().await;
    peer.send(&answer(401, &[], b"no")).await;
    let seen = peer.request().await;
    assert_ne!(seen.authorization(), refused.authorization());
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    peer.send(&consent("websocket")).await;
    scene.agreed().await;
    scene.caller.send(MASKED).await.unwrap();
    assert_eq!(peer.bytes(MASKED.len()).await, MASKED);
}

/// B42 (CVE-2026-2833): nothing behind the request is sent before the consent, and nothing at all without one.
#[tokio::test]
async fn early_bytes_wait_for_the_consent() {
    let mut scene = ByteExact::set("").await;
    scene.caller.send(&[handshake(&[]), MASKED.to_vec()].concat()).await.unwrap();
    let mut peer = scene.upstream.accept().await;
    peer.request().await;
    peer.send(&consent("websocket")).await;
    scene.agreed().await;
    assert_eq!(peer.bytes(MASKED.len()).await, MASKED);

    let mut scene = ByteExact::set("").await;
    let smuggled = request("GET", "/orders/smuggled", &[], b"");
    scene.caller.send(&[handshake(&[]), smuggled].concat()).await.unwrap();
    let mut peer = scene.upstream.accept().await;
    peer.request().await;
    peer.send(&answer(426, &[], b"no")).await;
    let reply = scene.caller.answer(true).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (426, &b"no"[..]), "an answer as any other");
    assert!(scene.caller.is_closed().await);
    assert_eq!(scene.proxy.exchanges(1).await.len(), 1);
}

/// B42: another protocol than the one that was asked for is no consent.
#[tokio::test]
async fn consent_to_something_else_is_502() {
    for protocol in ["h2c", "websocket, h2c", "x"] {
        let mut scene = ByteExact::set("").await;
        let mut peer = scene.ask().await;
        peer.request().await;
        peer.send(&consent(protocol)).await;
        scene.caller.answer(true).await.unwrap().assert_problem(502, protocol);
        assert!(peer.is_closed().await);
    }
}

/// B42, B43: what the route does not allow, what cannot be asked so, and `h2c` ever, is asked of nobody.
#[tokio::test]
async fn an_upgrade_that_is_not_allowed_is_dropped() {
    let websocket = handshake(&[]);
    let h2c = request(
        "GET",
        "/orders/x",
        &[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")],
        b"",
    );
    let old = String::from_utf8(handshake(&[])).unwrap().replace("HTTP/1.1", "HTTP/1.0").into_bytes();
    let post =
        request("POST", "/orders/x", &[("Connection", "upgrade"), ("Upgrade", "websocket")], b"a body comes first");
    let without = request("GET", "/orders/x", &[("Upgrade", "websocket")], b"");
    for (keys, asking) in [
        ("streams = { upgrades = [] }", &websocket),
        ("streams = { upgrades = [\"x-other\"] }", &websocket),
        ("", &h2c),
        ("", &old),
        ("", &post),
        ("", &without),
    ] {
        let scene = ByteExact::set(keys).await;
        let upstream = scene.upstream.serve(|_| answer(200, &[], b"as usual"));
        let mut caller = scene.caller;
        let reply = caller.exchange(asking).await.unwrap();
        let what = String::from_utf8_lossy(asking);
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"as usual"[..]), "{keys} {what}");
        let seen = &upstream.received()[0];
        assert!(seen.field("upgrade").is_none() && seen.field("connection").is_none(), "{what}: {}", seen.head);
    }
}

/// Other protocols can be allowed by name.
#[tokio::test]
async fn a_route_allows_protocols_by_name() {
    let mut scene = ByteExact::set("streams = { upgrades = [\"x-lines/2\"] }").await;
    let asking = request("POST", "/orders/x", &[("Connection", "upgrade"), ("Upgrade", "websocket, X-Lines/2")], b"");
    scene.caller.send(&asking).await.unwrap();
    let mut peer = scene.upstream.accept().await;
    assert_eq!(peer.request().await.field("upgrade"), Some("x-lines/2"));
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: X-Lines/2\r\n\r\n").await;
    assert!(scene.caller.any_head().await.unwrap().contains("upgrade: x-lines/2\r\n"));
    scene.caller.send(b"one\n").await.unwrap();
    assert_eq!(peer.bytes(4).await, b"one\n");
}

/// A page of another site opens no WebSocket here: browsers ask nobody's leave for that.
#[tokio::test]
async fn another_sites_page_opens_no_websocket() {
    for fields in [[("Origin", "https://evil.example")], [("Sec-Fetch-Site", "cross-site")]] {
        let mut scene = ByteExact::set("").await;
        scene.caller.send(&handshake(&fields)).await.unwrap();
        scene.caller.answer(true).await.unwrap().assert_problem(403, fields[0].0);
    }
}

#[tokio::test]
async fn a_tunnel_ends_when_it_idles_for_too_long() {
    let mut scene = ByteExact::set("timeouts = { idle = \"10ms\" }\nstreams = { idle = \"300ms\" }").await;
    let mut peer = scene.opened().await;
    for _ in 0..3 {
        scene.caller.send(MASKED).await.unwrap();
        assert_eq!(peer.bytes(MASKED.len()).await, MASKED);
    }
    assert!(peer.is_closed().await && scene.caller.is_closed().await);
    assert_eq!(scene.proxy.exchanges(1).await[0]["error"], "connection_read_timeout");
}

/// B44: a caller over HTTP/2 asks with an extended CONNECT (RFC 8441), and the upstream sees a handshake of HTTP/1.1.
#[tokio::test]
async fn a_caller_over_http_2_opens_a_websocket() {
    let scene = ByteExact::set("").await;
    let stream = TcpStream::connect(scene.proxy.address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driving = tokio::spawn(connection);
    let connect = |protocol: &'static str| {
        let request = Request::connect("http://localhost/orders/socket").header("sec-websocket-version", "13");
        request.extension(Protocol::from_static(protocol)).body(Empty::<Bytes>::new()).unwrap()
    };
    let (reply, mut peer) = tokio::join!(sender.send_request(connect("websocket")), async {
        let mut peer = scene.upstream.accept().await;
        let seen = peer.request().await;
        assert!(seen.head.starts_with("GET /socket HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!((seen.field("upgrade"), seen.field("connection")), (Some("websocket"), Some("upgrade")));
        assert!(seen.authorization().starts_with("Bearer "));
        let accept = accept(seen.field("sec-websocket-key").unwrap());
        let consent = String::from_utf8(consent("websocket")).unwrap().replace(ACCEPT, &accept);
        peer.send(consent.as_bytes()).await;
        peer
    });
    let mut reply = reply.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(reply.headers()["sec-websocket-protocol"], "chat");
    assert!(!reply.headers().contains_key("sec-websocket-accept"));
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut reply).await.unwrap());
    tunnel.write_all(MASKED).await.unwrap();
    assert_eq!(peer.bytes(MASKED.len()).await, MASKED);
    peer.send(CLEAR).await;
    let mut read = vec![0; CLEAR.len()];
    tunnel.read_exact(&mut read).await.unwrap();
    assert_eq!(read, CLEAR);
    drop((tunnel, peer));

    // Whoever did not read our key has not switched; and what is no switch must not look like one.
    for said in [consent("websocket"), answer(200, &[], b"no")] {
        let (reply, ()) = tokio::join!(sender.send_request(connect("websocket")), async {
            let mut peer = scene.upstream.accept().await;
            peer.request().await;
            peer.send(&said).await;
        });
        assert_eq!(reply.unwrap().status(), StatusCode::BAD_GATEWAY);
    }
    let reply = sender.send_request(connect("x-other")).await.unwrap();
    assert_eq!(reply.status(), StatusCode::NOT_IMPLEMENTED);
    driving.abort();
}

/// RFC 6455 4.2.2
fn accept(key: &str) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()),
    )
}
