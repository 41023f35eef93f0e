//! Over hyper's own client connections, through pipes in memory, so that time is told by the test.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::{DECODED, READ, TIME, UpstreamBody, look};
use crate::token::{JsonRule, RejectionRules, Rule, StatusPattern, Verdict};

const TEXT: &str = r#"{"fault":{"detail":{"errorcode":"keymanagement.service.access_token_expired"}}}"#;
const REJECTED: Verdict = Verdict::Rejected(None);

/// An answer on its way, and the upstream's end of its connection.
struct Answering {
    answer: Response<UpstreamBody<Incoming>>,
    upstream: DuplexStream,
}

impl Answering {
    /// The head has come, and the beginning of the body.
    async fn to(method: Method, bytes: &[u8]) -> Self {
        let (ours, mut upstream) = tokio::io::duplex(4 << 20);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new()).unwrap();
        let serving = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                upstream.read_buf(&mut request).await.unwrap();
            }
            upstream.write_all(bytes).await.unwrap();
        };
        let (answer, ()) = tokio::join!(sender.send_request(request), serving);
        Self { answer: answer.unwrap().map(UpstreamBody::new), upstream }
    }

    async fn get(bytes: &[u8]) -> Self {
        Self::to(Method::GET, bytes).await
    }

    /// Looks into it.
    async fn look(self, method: &Method, rules: &RejectionRules) -> (Self, Verdict) {
        let (answer, verdict) = look(self.answer, method, rules, None).await;
        (Self { answer, upstream: self.upstream }, verdict)
    }

    /// What is said of it, and how long that took.
    async fn judged(self, rules: &RejectionRules) -> (Self, Verdict, Duration) {
        let started = Instant::now();
        let (answering, verdict) = self.look(&Method::GET, rules).await;
        (answering, verdict, started.elapsed())
    }

    /// The whole body.
    async fn collected(self) -> Bytes {
        self.answer.into_body().collect().await.unwrap().to_bytes()
    }
}

fn when(rule: Rule) -> RejectionRules {
    RejectionRules { when: vec![rule], ..RejectionRules::default() }
}

/// A text in the body of a 500.
fn text(text: &str) -> RejectionRules {
    let status = vec![StatusPattern::Code(StatusCode::INTERNAL_SERVER_ERROR)];
    when(Rule { status, body_contains: Some(text.to_owned()), ..Rule::default() })
}

fn expired() -> RejectionRules {
    text("access_token_expired")
}

/// A value in a JSON body.
fn json(pointer: &str, value: serde_json::Value) -> RejectionRules {
    let json = JsonRule { pointer: pointer.to_owned(), values: vec![value] };
    when(Rule { json: Some(json), ..Rule::default() })
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 500 Said So\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn packed(coding: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(TEXT.as_bytes()).unwrap();
    zlib.write_all(TEXT.as_bytes()).unwrap();
    bare.write_all(TEXT.as_bytes()).unwrap();
    match coding {
        "gzip" => gzip.finish().unwrap(),
        "zlib" => zlib.finish().unwrap(),
        "bare" => bare.finish().unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_finds_makes_a_rejection_and_the_body_is_still_whole() {
    for (fields, body) in [
        ("", TEXT.as_bytes().to_vec()),
        ("Content-Encoding: gzip\r\n", packed("gzip")),
        ("Content-Encoding: deflate\r\n", packed("zlib")),
        ("Content-Encoding: deflate\r\n", packed("bare")),
    ] {
        for (rules, expected) in [(expired(), REJECTED), (text("something_else"), Verdict::Accepted)] {
            let answering = Answering::get(&answer(fields, &body)).await;
            let (answering, verdict, took) = answering.judged(&rules).await;
            assert_eq!((verdict, took), (expected, Duration::ZERO), "{fields}");
            assert_eq!(answering.answer.body().size_hint().exact(), Some(body.len() as u64));
            assert_eq!(answering.collected().await, body, "as the upstream sent it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_is_read_to_its_end() {
    let rules = json("/fault/detail/errorcode", "keymanagement.service.access_token_expired".into());
    let (answering, verdict, _) = Answering::get(&answer("", TEXT.as_bytes())).await.judged(&rules).await;
    assert_eq!(verdict, REJECTED);
    assert_eq!(answering.collected().await, TEXT);
    let long = format!("{{\"padding\":\"{}\",{}", "x".repeat(DECODED), &TEXT[1..]);
    let (answering, verdict, _) = Answering::get(&answer("", long.as_bytes())).await.judged(&rules).await;
    assert_eq!(verdict, Verdict::Accepted, "it goes on after what is looked at");
    assert_eq!(answering.collected().await, long);
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_whole() {
    let (answering, verdict, took) = Answering::get(&answer("", b"")).await.judged(&expired()).await;
    assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO));
    assert!(answering.answer.body().is_end_stream());
}

/// No more is read than the bounds allow, and what is not read streams on.
#[tokio::test(start_paused = true)]
async fn a_large_body_that_no_rule_matches_streams_on() {
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_be_bytes()[3]).collect();
    let answering = Answering::get(&answer("", &large)).await;
    let (answering, verdict, took) = answering.judged(&expired()).await;
    assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO));
    assert_eq!(answering.answer.body().size_hint().exact(), Some(large.len() as u64));
    assert_eq!(answering.collected().await, large);
}

#[tokio::test(start_paused = true)]
async fn a_match_ends_the_look_before_the_body_ends() {
    let beginning = [b"HTTP/1.1 500 Said So\r\nContent-Length: 1000\r\n\r\n", TEXT.as_bytes()].concat();
    let answering = Answering::get(&beginning).await;
    let (mut answering, verdict, took) = answering.judged(&expired()).await;
    assert_eq!((verdict, took), (REJECTED, Duration::ZERO));
    let rest = "x".repeat(1000 - TEXT.len());
    answering.upstream.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(answering.collected().await, format!("{TEXT}{rest}"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_is_held_up_for_a_moment_only() {
    let beginning = [b"HTTP/1.1 500 Said So\r\nTransfer-Encoding: chunked\r\n\r\n", &b"4\r\nhalf\r\n"[..]].concat();
    let (mut answering, verdict, took) = Answering::get(&beginning).await.judged(&expired()).await;
    assert_eq!((verdict, took), (Verdict::Accepted, TIME));
    answering.upstream.write_all(b"5\r\n more\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(answering.collected().await, "half more");

    let answering = Answering::get(&beginning).await;
    let started = Instant::now();
    let end = started + Duration::from_millis(100);
    let (_, verdict) = look(answering.answer, &Method::GET, &expired(), Some(end)).await;
    assert_eq!(
        (verdict, started.elapsed()),
        (Verdict::Accepted, Duration::from_millis(100)),
        "no longer than the exchange"
    );
}

#[tokio::test(start_paused = true)]
async fn what_streams_by_its_nature_is_not_read() {
    for content_type in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web-text",
        "multipart/x-mixed-replace; boundary=x",
    ] {
        let fields = format!("Content-Type: {content_type}\r\n");
        let (answering, verdict, took) =
            Answering::get(&answer(&fields, TEXT.as_bytes())).await.judged(&expired()).await;
        assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO), "{content_type}");
        assert_eq!(answering.collected().await, TEXT);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_coding_matches_no_rule_on_the_body() {
    for coding in ["zstd", "gzip, zstd"] {
        let fields = format!("Content-Encoding: {coding}\r\n");
        let (answering, verdict, _) = Answering::get(&answer(&fields, TEXT.as_bytes())).await.judged(&expired()).await;
        assert_eq!(verdict, Verdict::Accepted);
        assert_eq!(answering.collected().await, TEXT);
    }
}

/// These have fields about a body and none.
#[tokio::test(start_paused = true)]
async fn an_answer_without_a_body_is_not_waited_for() {
    let rules = when(Rule { body_contains: Some("x".to_owned()), ..Rule::default() });
    for (method, head) in [
        (Method::HEAD, "HTTP/1.1 500 Said So\r\nContent-Length: 100\r\n\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let started = Instant::now();
        let (answering, verdict) = Answering::to(method.clone(), head.as_bytes()).await.look(&method, &rules).await;
        assert_eq!((verdict, started.elapsed()), (Verdict::Accepted, Duration::ZERO), "{method} {head}");
        assert!(answering.answer.body().is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_are_kept() {
    let bytes = b"HTTP/1.1 500 Said So\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n";
    let (answering, verdict, took) = Answering::get(bytes).await.judged(&expired()).await;
    assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO));
    let body = answering.answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "body");
}

/// An answer cut short is judged by what came of it, and stays visibly incomplete.
#[tokio::test(start_paused = true)]
async fn an_error_is_handed_on_in_its_place() {
    let bytes = b"HTTP/1.1 500 Said So\r\nContent-Length: 100\r\n\r\nhalf";
    let mut answering = Answering::get(bytes).await;
    answering.upstream.shutdown().await.unwrap();
    let (answering, verdict, took) = answering.judged(&text("missing")).await;
    assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO));
    let mut body = answering.answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(body.frame().await.unwrap().is_err());

    let mut answering = Answering::get(bytes).await;
    answering.upstream.shutdown().await.unwrap();
    let (answering, ..) = answering.judged(&text("missing")).await;
    assert!(answering.answer.into_body().into_rest().is_none(), "nothing to reuse");
}

/// Each piece costs its bookkeeping, so their number has a bound too.
#[tokio::test(start_paused = true)]
async fn a_body_in_crumbs_is_not_followed_for_ever() {
    let crumbs = "1\r\nx\r\n".repeat(10_000) + "0\r\n\r\n";
    let bytes = format!("HTTP/1.1 500 Said So\r\nTransfer-Encoding: chunked\r\n\r\n{crumbs}");
    let (answering, verdict, _) = Answering::get(bytes.as_bytes()).await.judged(&text("y")).await;
    assert_eq!(verdict, Verdict::Accepted);
    assert!(answering.answer.body().size_hint().lower() <= super::PIECES as u64);
    assert_eq!(answering.collected().await.len(), 10_000);
}

/// However little it decodes to.
#[tokio::test(start_paused = true)]
async fn no_more_is_read_than_the_bound() {
    // Empty members: many bytes that decode to nothing.
    let empty = GzEncoder::new(Vec::new(), Compression::best()).finish().unwrap();
    let body = empty.repeat(4 * READ / empty.len());
    let bytes = answer("Content-Encoding: gzip\r\n", &body);
    let (answering, verdict, took) = Answering::get(&bytes).await.judged(&expired()).await;
    assert_eq!((verdict, took), (Verdict::Accepted, Duration::ZERO));
    assert_eq!(answering.collected().await, body);
}
