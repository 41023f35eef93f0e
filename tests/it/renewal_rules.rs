//! Rules on fields and bodies: which answers they make rejections, and that what they look at reaches the caller whole.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use keybearer::demo::issuer::Behavior;
use serde_json::{Value, json};

use crate::support::http::{self, Answer, Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Received, Scripted, Serving, answer};
use crate::support::servers::{Servers, run};
use crate::support::{PATIENCE, within};

/// What Apigee answers when a token is over.
const EXPIRED: &str = r#"{"fault":{"faultstring":"Access Token expired","detail":{"errorcode":"keymanagement.service.access_token_expired"}}}"#;

/// [`EXPIRED`] in brotli.
const BROTLI: &[u8] = &[
    0x1b, 0x73, 0x00, 0x40, 0x1c, 0x07, 0x6e, 0x2c, 0xda, 0x9b, 0xe4, 0x12, 0x5b, 0x9e, 0xe5, 0x36, 0x36, 0x9f, 0xf3,
    0x0b, 0xea, 0xb1, 0xdb, 0x88, 0xb2, 0x4f, 0x87, 0xa5, 0x45, 0xbe, 0x5c, 0xe8, 0xba, 0xc1, 0x01, 0xf3, 0xf5, 0xf4,
    0x81, 0x8d, 0xd3, 0xe0, 0x8b, 0x0f, 0x6e, 0xb2, 0x46, 0x32, 0x14, 0x3f, 0x95, 0xec, 0xb8, 0x2f, 0xdc, 0xb9, 0xcb,
    0xef, 0xd4, 0x66, 0x1a, 0xff, 0xac, 0x23, 0x81, 0x60, 0x24, 0x13, 0xa2, 0x81, 0x74, 0x60, 0x4c, 0xaf, 0x3e, 0xac,
    0xc6, 0x2d, 0xac, 0x9d, 0x79, 0xa5, 0x42, 0x0c, 0x56, 0x00,
];

/// A 500 whose body says that the token is over.
const ON_500: &str = r#"refresh_when = [{ status = [500], body_contains = "access_token_expired" }]"#;

/// An upstream that answers `refusal` to the first token it sees, and to every other 200 with the request's body; and
/// a proxy before it with these rules.
async fn refusing(refusal: Vec<u8>, rules: &str) -> (Servers, Serving, Proxy) {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await.refusing_the_first_token(refusal);
    let proxy = run(&servers.config(&format!("http://{}", upstream.address), "", rules)).await;
    (servers, upstream, proxy)
}

/// An upstream that answers everything with `said`, and a proxy before it with these rules.
async fn saying(said: Vec<u8>, rules: &str) -> (Servers, Serving, Proxy) {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await.serve(move |_| said.clone());
    let proxy = run(&servers.config(&format!("http://{}", upstream.address), "", rules)).await;
    (servers, upstream, proxy)
}

/// Fails unless the caller got `expected` after the first token was refused and another one minted.
async fn assert_renewed_and_replayed(refusal: Vec<u8>, rules: &str) {
    let (servers, upstream, proxy) = refusing(refusal, rules).await;
    let answer = http::get(proxy.address, "/orders/x").await.unwrap();
    assert_eq!((answer.status, answer.field("proxy-status")), (200, None), "{rules}: {}", answer.text());
    assert_eq!((servers.issuer.minted(), upstream.received().len()), (2, 2), "{rules}");
    let line = proxy.exchanges(1).await.pop().unwrap();
    assert_eq!((&line["renewed"], &line["replayed"]), (&json!(true), &json!(true)), "{line}");
}

/// Fails unless the caller got the upstream's own answer, and nothing was minted for it.
async fn assert_passes(status: u16, fields: &[(&str, &str)], body: &[u8], rules: &str) {
    let (servers, upstream, proxy) = saying(answer(status, fields, body), rules).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for _ in 0..3 {
        let got = caller.exchange(&request("GET", "/orders/x", &[], b"")).await.unwrap();
        assert_eq!((got.status, got.field("proxy-status")), (status, None), "{rules}: {}", got.head);
        assert_eq!(got.body, body, "{rules}: byte for byte");
        for (name, value) in fields {
            assert!(got.fields(name).contains(value), "{name} in {}", got.head);
        }
    }
    assert_eq!((servers.issuer.minted(), upstream.received().len()), (1, 3), "{rules}");
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_rejections_total", &[]), 0.0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

// What a rule makes a rejection.

/// What became of a request whose first token was refused by a rule: the answer, and how often it was sent.
async fn after_500(rules: &str, method: &str) -> (Answer, usize) {
    let (servers, upstream, proxy) =
        refusing(answer(500, &[("X-Said", "the upstream")], EXPIRED.as_bytes()), rules).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let body: &[u8] = if method == "POST" { b"the body" } else { b"" };
    let answer = caller.exchange(&request(method, "/orders/x", &[], body)).await.unwrap();
    let received = upstream.received();
    assert!(received.iter().all(|request| request.body == body), "{received:#?}");
    // Renewed it is in any case.
    let next = caller.exchange(&request("POST", "/orders/x", &[], b"next")).await.unwrap();
    assert_eq!((next.status, next.body.as_slice()), (200, b"next".as_slice()), "{}", next.text());
    assert_eq!(servers.issuer.minted(), 2);
    (answer, received.len())
}

/// B45: a 500 whose body says so is replayed where the method is idempotent.
#[tokio::test]
async fn a_500_whose_body_says_so_is_replayed_where_the_method_is_idempotent() {
    for method in ["GET", "PUT", "DELETE"] {
        let (answer, sent) = after_500(ON_500, method).await;
        assert_eq!((answer.status, sent), (200, 2), "{method}: {}", answer.text());
    }
    let (answer, sent) = after_500(ON_500, "POST").await;
    assert_eq!((answer.status, sent), (500, 1), "{}", answer.text());
    assert_eq!(answer.field("proxy-status"), Some("keybearer; received-status=500; details=\"not-replayed:method\""));
    assert_eq!((answer.field("x-said"), answer.body.as_slice()), (Some("the upstream"), EXPIRED.as_bytes()));
}

#[tokio::test]
async fn a_rule_has_its_own_say_on_replays() {
    let with = |replay: &str| ON_500.replace(" }]", &format!(", replay = \"{replay}\" }}]"));
    let (answer, sent) = after_500(&with("always"), "POST").await;
    assert_eq!((answer.status, answer.body.as_slice(), sent), (200, b"the body".as_slice(), 2), "{}", answer.text());
    let (answer, sent) = after_500(&with("never"), "GET").await;
    assert_eq!((answer.status, sent), (500, 1));
    assert_eq!(answer.field("proxy-status"), Some("keybearer; received-status=500; details=\"not-replayed:off\""));
    let (answer, sent) = after_500(&with("idempotent"), "POST").await;
    assert_eq!((answer.status, sent), (500, 1));
}

#[tokio::test]
async fn a_200_with_an_error_in_it_is_renewed() {
    let body = br#"{"requestId":"e42b","success":false,"errors":[{"code":"602","message":"Access token expired"}]}"#;
    let rules = r#"refresh_when = [{ status = [200], json = { pointer = "/errors/0/code", in = ["601", "602"] } }]"#;
    assert_renewed_and_replayed(answer(200, &[("Content-Type", "application/json")], body), rules).await;
    assert_passes(200, &[], &body.map(|byte| if byte == b'2' { b'7' } else { byte }), rules).await;
    assert_passes(200, &[], br#"{"errors":[{"code":602}]}"#, rules).await;
}

#[tokio::test]
async fn packed_bodies_are_understood() {
    for (coding, body) in [
        ("gzip", gzip(EXPIRED.as_bytes())),
        ("deflate", zlib(EXPIRED.as_bytes())),
        ("deflate", bare(EXPIRED.as_bytes())),
        ("br", BROTLI.to_vec()),
    ] {
        assert_renewed_and_replayed(answer(500, &[("Content-Encoding", coding)], &body), ON_500).await;
    }
}

#[tokio::test]
async fn packed_bodies_that_no_rule_matches_pass_as_they_came() {
    let rules = r#"refresh_when = [{ status = [500], body_contains = "another text" }]"#;
    for (coding, body) in [
        ("gzip", gzip(EXPIRED.as_bytes())),
        ("deflate", zlib(EXPIRED.as_bytes())),
        ("br", BROTLI.to_vec()),
        ("zstd", EXPIRED.as_bytes().to_vec()),
        ("gzip", b"this is no gzip".to_vec()),
    ] {
        assert_passes(500, &[("Content-Encoding", coding)], &body, rules).await;
    }
}

#[tokio::test]
async fn a_broken_challenge_is_matched_by_a_rule_on_its_field() {
    let challenge = "Bearer realm=\"null\",error='invalid_token\",\
                     error_description='keymanagement.service.access_token_expired: Access Token expired\"";
    let rules =
        r#"refresh_when = [{ status = [400], header_contains = { www-authenticate = "ACCESS_TOKEN_EXPIRED" } }]"#;
    let fields = [("WWW-Authenticate", challenge), ("Content-Type", "text/xml")];
    assert_renewed_and_replayed(answer(400, &fields, b"<error/>"), rules).await;
    assert_passes(400, &[("WWW-Authenticate", "Bearer error=\"invalid_request\"")], b"<error/>", rules).await;
}

// What is none.

#[tokio::test]
async fn refresh_unless_lets_a_401_pass() {
    let rules = r#"refresh_unless = [{ status = [401], body_contains = "NoApiProductMatchFound" }]"#;
    let body = br#"{"fault":{"detail":{"errorcode":"keymanagement.service.InvalidAPICallAsNoApiProductMatchFound"}}}"#;
    assert_passes(401, &[], body, rules).await;
    assert_passes(401, &[("Content-Encoding", "gzip")], &gzip(body), rules).await;
    assert_renewed_and_replayed(answer(401, &[], EXPIRED.as_bytes()), rules).await;
    let csrf = r#"
        additional_refresh_status_codes = [403]
        refresh_unless = [{ status = ["4xx"], header_contains = { x-csrf-token = "required" } }]"#;
    assert_passes(403, &[("X-CSRF-Token", "Required")], b"CSRF token validation failed", csrf).await;
    assert_renewed_and_replayed(answer(403, &[], b""), csrf).await;
}

/// C7: a token that is good but not enough is not renewed.
#[tokio::test]
async fn a_token_that_is_good_but_not_enough_is_not_renewed() {
    let listed = "additional_refresh_status_codes = [403]";
    for challenge in [
        "Bearer error=\"insufficient_scope\", scope=\"orders.write\"",
        "Basic realm=\"x, y\", Bearer error=insufficient_scope",
        "Bearer scope=\"\" error=\"insufficient_scope\"",
    ] {
        assert_passes(403, &[("WWW-Authenticate", challenge)], b"no", listed).await;
    }
    assert_passes(
        401,
        &[("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Bearer error=insufficient_scope")],
        b"",
        "",
    )
    .await;
    for challenge in [
        "Bearer realm=\"insufficient_scope\"",
        "Bearer error=\"invalid_token\", error_description=\"insufficient_scope\"",
        "Basic realm=\"x\", Bearer error=\"invalid_token\", DPoP algs=\"ES256\"",
    ] {
        assert_renewed_and_replayed(answer(403, &[("WWW-Authenticate", challenge)], b"no"), listed).await;
    }
}

// What is looked at is not held up.

/// A look would find the text, and the caller would get another stream.
#[tokio::test]
async fn a_stream_of_events_is_not_held_up() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let rules = r#"refresh_when = [{ body_contains = "expired" }]"#;
    let proxy = run(&servers.config(&format!("http://{}", upstream.address), "", rules)).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/events", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    peer.send(&[head, &b"14\r\ndata: it is expired\n\r\n"[..]].concat()).await;
    let head = within("the head comes", PATIENCE, caller.head()).await.unwrap();
    assert_eq!((head.status, caller.line().await.unwrap().as_str()), (200, "14\r\n"));
    assert_eq!(caller.line().await.unwrap(), "data: it is expired\n");
    assert_eq!(servers.issuer.minted(), 1);
}

/// An answer that stops in the middle is looked at for a moment, and then goes on as it would have.
#[tokio::test]
async fn an_answer_that_pauses_reaches_the_caller_before_it_ends() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = run(&servers.config(&format!("http://{}", upstream.address), "", ON_500)).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(b"HTTP/1.1 500 Slow\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf\n\r\n").await;
    let head = within("the head comes", PATIENCE, caller.head()).await.unwrap();
    assert_eq!((head.status, caller.line().await.unwrap().as_str()), (500, "5\r\n"));
    assert_eq!(caller.line().await.unwrap(), "half\n");
    peer.send(b"4\r\nmore\r\n0\r\n\r\n").await;
    assert_eq!(caller.line().await.unwrap(), "\r\n");
    assert_eq!((caller.line().await.unwrap().as_str(), caller.line().await.unwrap().as_str()), ("4\r\n", "more\r\n"));
}

#[tokio::test]
async fn a_large_answer_that_no_rule_matches_streams_whole() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_passes(500, &[], &large, ON_500).await;
    assert_passes(500, &[("Content-Encoding", "gzip")], &gzip(&large), ON_500).await;
}

// Proofs of possession (RFC 9449).

const DPOP: &str = "dpop = true";

/// The claims of the proof that came with a request.
fn proof(request: &Received) -> Value {
    let proof = request.field("dpop").expect("a bound token goes with a proof");
    let claims = proof.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// An upstream, and a proxy before it whose tokens are bound to a key.
async fn bound(named: &str) -> (Servers, Scripted, Proxy) {
    let servers = Servers::start().await;
    servers.issuer.behave(Behavior::Members([("token_type".to_owned(), json!("DPoP"))].into_iter().collect()));
    let upstream = Scripted::start().await;
    let proxy = run(&servers.config(&format!("http://{}", upstream.address), named, DPOP)).await;
    (servers, upstream, proxy)
}

fn asks_for_nonce(nonce: &str) -> Vec<u8> {
    answer(401, &[("WWW-Authenticate", "DPoP error=\"use_dpop_nonce\""), ("DPoP-Nonce", nonce)], b"")
}

/// C13: a nonce is taken up with the same token and kept.
#[tokio::test]
async fn a_nonce_is_taken_up_with_the_same_token_and_kept() {
    let (servers, upstream, proxy) = bound("").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let call = request("POST", "/orders/x?y=1", &[("DPoP", "the caller's own")], b"the body");
    caller.send(&call).await.unwrap();
    let mut peer = upstream.accept().await;
    let first = peer.request().await;
    peer.send(&asks_for_nonce("one")).await;
    let second = peer.request().await;
    peer.send(&answer(200, &[("DPoP-Nonce", "two")], b"fine")).await;
    assert_eq!(caller.answer(true).await.unwrap().body, b"fine");

    assert!(first.authorization().starts_with("DPoP "), "{}", first.head);
    assert_eq!(first.authorization(), second.authorization());
    assert_eq!((second.body.as_slice(), first.body.as_slice()), (b"the body".as_slice(), b"the body".as_slice()));
    let (before, after) = (proof(&first), proof(&second));
    assert_eq!((before.get("nonce"), &after["nonce"]), (None, &json!("one")));
    assert_ne!(before["jti"], after["jti"]);
    for claims in [&before, &after] {
        assert_eq!(
            (&claims["htm"], &claims["htu"]),
            (&json!("POST"), &json!(format!("http://{}/x", upstream.address)))
        );
        assert!(claims["ath"].is_string());
    }
    let line = proxy.exchanges(1).await.pop().unwrap();
    assert_eq!((&line["renewed"], &line["replayed"]), (&json!(false), &json!(false)), "{line}");
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_rejections_total", &[]), 0.0);

    // The nonce of a success counts for the next request.
    caller.send(&call).await.unwrap();
    let third = peer.request().await;
    peer.send(&answer(200, &[], b"")).await;
    assert_eq!(caller.answer(true).await.unwrap().status, 200);
    assert_eq!(proof(&third)["nonce"], "two");
    assert_eq!(servers.issuer.minted(), 1);
}

/// C13: an upstream that is never content with a nonce costs one more request, and no token.
#[tokio::test]
async fn a_nonce_is_taken_up_once() {
    let (servers, upstream, proxy) = bound("").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    for nonce in ["one", "two"] {
        peer.request().await;
        peer.send(&asks_for_nonce(nonce)).await;
    }
    let answer = caller.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.field("dpop-nonce"), answer.field("proxy-status")), (401, Some("two"), None));
    assert_eq!(servers.issuer.minted(), 1);
}

#[tokio::test]
async fn a_body_that_is_not_kept_passes_the_wish_for_a_nonce_on() {
    let (servers, upstream, proxy) = bound("replay_limit = \"1KiB\"").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("POST", "/orders/x", &[], &[b'x'; 2000])).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(&asks_for_nonce("one")).await;
    let answer = caller.answer(true).await.unwrap();
    let told = "keybearer; received-status=401; details=\"not-replayed:body_too_large\"";
    assert_eq!((answer.status, answer.field("proxy-status")), (401, Some(told)));
    assert_eq!(servers.issuer.minted(), 1);
}

/// C13: a renewed token's first request may meet a nonce that is over too.
#[tokio::test]
async fn a_renewal_and_a_nonce_can_meet() {
    let (servers, upstream, proxy) = bound("").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    let over = answer(401, &[("WWW-Authenticate", "DPoP error=\"invalid_token\"")], b"");
    let mut requests = Vec::new();
    for said in [asks_for_nonce("one"), over, asks_for_nonce("two"), answer(200, &[], b"fine")] {
        requests.push(peer.request().await);
        peer.send(&said).await;
    }
    assert_eq!(caller.answer(true).await.unwrap().body, b"fine");
    let nonces: Vec<_> = requests.iter().map(|request| proof(request)["nonce"].clone()).collect();
    assert_eq!(nonces, [Value::Null, json!("one"), json!("one"), json!("two")]);
    assert_eq!(requests[0].authorization(), requests[1].authorization());
    assert_ne!(requests[1].authorization(), requests[2].authorization());
    assert_eq!(requests[2].authorization(), requests[3].authorization());
    assert_eq!(servers.issuer.minted(), 2);
}
