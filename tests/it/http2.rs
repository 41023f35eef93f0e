//! Callers that speak HTTP/2, with and without TLS, and what they may not say in it.

use std::process::Output;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Fields, Frames, GOAWAY, HEADERS, Outcome, PREFACE, RST_STREAM,
    SETTINGS, block, frame, pseudo,
};
use crate::support::http::{get, request};
use crate::support::proxy::head;
use crate::support::recorder::Reply;
use crate::support::stage::{Stage, named};
use crate::support::{eventually, unavailable};

/// Runs curl; none where there is none with HTTP/2.
pub(crate) async fn curl(arguments: &[&str]) -> Option<Output> {
    let Ok(version) = Command::new("curl").arg("--version").output().await else {
        return unavailable("curl is not there");
    };
    if !String::from_utf8_lossy(&version.stdout).contains("HTTP2") {
        return unavailable("this curl does not speak HTTP/2");
    }
    let output = Command::new("curl").args(["-sS", "--max-time", "30"]).args(arguments).output().await.unwrap();
    Some(output)
}

const TIGHT: &str = "[limits]\nheader_timeout = \"300ms\"\nbody_timeout = \"300ms\"\nidle_timeout = \"600ms\"\n";

#[tokio::test]
async fn a_caller_may_begin_with_http_2_where_others_speak_http_1() {
    let stage = Stage::start(&named("orders", "/v1", "forwarded = \"x-forwarded\"")).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let fields = [pseudo("GET", "/orders/a?b=c"), vec![("x-kept", b"1"), ("te", b"trailers")]].concat();
    caller.request(1, &fields, END_STREAM).await;
    let outcome = caller.outcome(1).await;
    assert_eq!((outcome.status, outcome.body.as_slice()), (Some(200), &b"ok"[..]), "{outcome:?}");
    let seen = stage.upstream.last();
    assert_eq!((seen.line(), seen.fields("x-kept")), ("GET /v1/a?b=c HTTP/1.1", vec!["1"]));
    assert_eq!(seen.fields("host"), [stage.upstream.address.to_string()]);
    assert_eq!((seen.fields("x-forwarded-proto"), seen.fields("x-forwarded-host")), (vec!["http"], vec!["localhost"]));
    assert!(seen.fields("via")[0].starts_with("2 keybearer"), "{}", seen.head);
    assert_eq!((seen.fields("te"), seen.fields("connection")), (vec!["trailers"], vec!["te"]), "{}", seen.head);
    assert!(!seen.bearer().is_empty());

    // A body in pieces, of unknown length, with a trailer that was announced.
    let fields = [pseudo("POST", "/orders/p"), vec![("trailer", b"x-sum")]].concat();
    caller.request(3, &fields, 0).await;
    caller.send(DATA, 0, 3, b"hello ").await.unwrap();
    caller.send(DATA, 0, 3, b"world").await.unwrap();
    caller.send(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[("x-sum", b"42")])).await.unwrap();
    assert_eq!(caller.outcome(3).await.status, Some(200));
    let seen = stage.upstream.last();
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    assert!(body.contains("hello ") && body.contains("world") && body.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{body}");

    let answer = get(stage.proxy.address, "/orders/1").await.unwrap();
    assert_eq!(answer.status, 200, "the same port: {}", answer.text());
    let log = stage.proxy.exchanges(3).await;
    assert!(log.iter().all(|line| line["status"] == 200), "{log:#?}");
}

/// B54: HTTP/2 cuts a cookie into crumbs; an upstream of either version gets one field, and none where cookies end here.
#[tokio::test]
async fn crumbs_of_a_cookie_become_one_field() {
    let tables = named("orders", "", "keep_cookies = true") + &named("plain", "", "");
    let stage = Stage::start(&tables).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let crumbs: Fields<'_> = vec![("cookie", b"a=1"), ("x-between", b"1"), ("cookie", b"b=2; c=3"), ("cookie", b"d=")];
    for (stream, path, expected) in [(1, "/orders/x", vec!["a=1; b=2; c=3; d="]), (3, "/plain/x", vec![])] {
        caller.request(stream, &[pseudo("GET", path), crumbs.clone()].concat(), END_STREAM).await;
        assert_eq!(caller.outcome(stream).await.status, Some(200));
        assert_eq!(stage.upstream.last().fields("cookie"), expected, "{path}");
    }
}

#[tokio::test]
async fn curl_speaks_http_2_with_prior_knowledge() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::new(
        "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    ));
    let url = format!("http://{}/orders/x", stage.proxy.address);
    let Some(output) = curl(&["--http2-prior-knowledge", "-i", &url, "-d", "sent"]).await else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("HTTP/2 200") && text.ends_with("hello"), "{text} {output:?}");
    for gone in ["connection:", "x-hop", "keep-alive", "transfer-encoding"] {
        assert!(!text.to_lowercase().contains(gone), "{gone}: {text}");
    }
    assert_eq!(stage.upstream.last().body, b"sent");
}

/// B52, B53, B55, B13, B14: what is malformed or ambiguous reaches nobody, and what can be answered is answered.
#[tokio::test]
async fn a_malformed_request_reaches_nobody() {
    let stage = Stage::orders().await;
    let get = |more: &[(&'static str, &'static [u8])]| [pseudo("GET", "/orders/x"), more.to_vec()].concat();
    let without = |gone: &str| pseudo("GET", "/orders/x").into_iter().filter(|(name, _)| *name != gone).collect();
    let ours: Vec<(&str, u16, Fields<'_>)> = vec![
        ("another Host", 400, get(&[("host", b"other")])),
        ("two Hosts", 400, get(&[("host", b"localhost"), ("host", b"localhost")])),
        ("no authority", 400, without(":authority")),
        ("a name that folds onto ours", 400, get(&[("content_length", b"0")])),
        ("two lengths", 400, get(&[("content-length", b"0"), ("content-length", b"0")])),
        ("another scheme", 421, [&[(":scheme", &b"https"[..])], &without(":scheme")[..]].concat()),
        ("dot segments", 400, pseudo("GET", "/orders/%2e%2e/x")),
        ("TRACE", 405, pseudo("TRACE", "/orders/x")),
        ("CONNECT", 405, vec![(":method", b"CONNECT"), (":authority", b"localhost:1")]),
        ("an unknown protocol", 501, [pseudo("CONNECT", "/orders/x"), vec![(":protocol", b"x-other")]].concat()),
        ("too many fields", 431, get(&[("x", &b"y"[..]); 101])),
    ];
    for (what, status, fields) in &ours {
        let mut caller = Frames::open(stage.proxy.address).await;
        caller.request(1, fields, END_STREAM).await;
        let outcome = caller.outcome(1).await;
        assert_eq!(outcome.status, Some(*status), "{what}: {outcome:?}");
        let problem: serde_json::Value = serde_json::from_slice(&outcome.body).unwrap();
        assert_eq!(problem["status"], *status, "{what}");
    }
    let log = stage.proxy.exchanges(ours.len()).await;
    assert_eq!(log.len(), ours.len(), "each has its line: {log:#?}");

    let resets: Vec<(&str, Fields<'_>)> = vec![
        ("a name in upper case", get(&[("X-Upper", b"1")])),
        ("Connection", get(&[("connection", b"close")])),
        ("Keep-Alive", get(&[("keep-alive", b"1")])),
        ("Proxy-Connection", get(&[("proxy-connection", b"close")])),
        ("Transfer-Encoding", get(&[("transfer-encoding", b"chunked")])),
        ("Upgrade", get(&[("upgrade", b"websocket")])),
        ("TE", get(&[("te", b"gzip")])),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("an empty path", [&[(":path", &b""[..])], &without(":path")[..]].concat()),
        ("a target that is none", pseudo("GET", "orders")),
        ("two paths", [&[(":path", &b"/x"[..])], &get(&[])[..]].concat()),
        ("an unknown pseudo-field", [&[(":x", &b"y"[..])], &get(&[])[..]].concat()),
        ("a pseudo-field of answers", [&[(":status", &b"200"[..])], &get(&[])[..]].concat()),
        ("a late pseudo-field", [&[("x", &b"y"[..])], &get(&[])[..]].concat()),
        ("a control byte", get(&[("x", b"a\x07b")])),
        ("a line end", get(&[("x", b"a\r\ny: z")])),
        ("NUL", get(&[("x", b"a\0b")])),
        ("DEL", get(&[("x", b"a\x7fb")])),
        ("an empty name", get(&[("", b"x")])),
        ("a space in a name", get(&[("x y", b"x")])),
        ("a length that is none", get(&[("content-length", b"+1")])),
        ("a body shorter than its length", get(&[("content-length", b"1")])),
    ];
    for (what, fields) in resets {
        let mut caller = Frames::open(stage.proxy.address).await;
        caller.request(1, &fields, END_STREAM).await;
        let Outcome { status, reset, goaway, .. } = caller.outcome(1).await;
        assert!(
            status.is_none() && (reset.is_some() || goaway.is_some_and(|reason| reason != 0)),
            "{what}: {status:?}"
        );
    }
    stage.assert_untouched();
}

#[tokio::test]
async fn a_caller_that_stops_before_its_request_is_closed() {
    let stage = Stage::listening(&(head("info") + TIGHT), &named("orders", "", "")).await;
    let settings = frame(SETTINGS, 0, 0, b"");
    let headers = frame(HEADERS, END_STREAM, 1, &block(&pseudo("GET", "/orders/x")));
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("half a preface", PREFACE[..12].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("half of SETTINGS", [PREFACE, &settings[..5]].concat()),
        ("half a header block", [PREFACE, &settings, &headers].concat()),
        ("half a frame", [PREFACE, &settings, &headers[..20]].concat()),
    ] {
        let began = Instant::now();
        let mut caller = Frames::silent(stage.proxy.address).await;
        caller.stream.write_all(&bytes).await.unwrap();
        caller.ended().await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(10), "{what}: {took:?}");
    }
    // A drip of the preface does not buy time.
    let mut caller = Frames::silent(stage.proxy.address).await;
    let mut tick = tokio::time::interval(Duration::from_millis(60));
    let began = Instant::now();
    for byte in PREFACE.iter().chain(PREFACE) {
        tick.tick().await;
        if caller.stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    caller.ended().await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(stage.upstream.requests().is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    let stage = Stage::listening(&(head("info") + TIGHT), &named("orders", "", "")).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("GET", "/orders/x"), END_STREAM).await;
    assert_eq!(caller.outcome(1).await.status, Some(200));
    assert_eq!(caller.ended().await, Some(0), "GOAWAY without a reproach");
}

/// B57: two GOAWAYs, and what was begun is finished.
#[tokio::test]
async fn on_the_way_down_a_connection_is_told_and_finishes_what_it_began() {
    let lame = head("info") + "[drain]\ndelay = \"1s\"\n";
    let mut stage = Stage::listening(&lame, &named("orders", "", "")).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("POST", "/orders/x"), 0).await;
    caller.send(DATA, 0, 1, b"hel").await.unwrap();
    stage.upstream.connected(1).await;
    let (signalled, address) = (Instant::now(), stage.proxy.address);
    stage.proxy.process.terminate();
    let first = loop {
        let frame = caller.next().await.expect("the connection goes on");
        if frame.kind == GOAWAY {
            break frame;
        }
    };
    assert!(signalled.elapsed() < Duration::from_millis(900), "at once, not after the delay");
    assert_eq!((first.reason(), &first.payload[..4]), (0, &[0x7f, 0xff, 0xff, 0xff][..]));
    // A new connection is still served, once.
    let mut late = Frames::open(address).await;
    late.request(1, &pseudo("GET", "/orders/late"), END_STREAM).await;
    assert_eq!(late.outcome(1).await.status, Some(200));
    caller.send(DATA, END_STREAM, 1, b"lo").await.unwrap();
    assert_eq!(caller.outcome(1).await.status, Some(200));
    drop((caller, late));
    assert!(stage.proxy.process.exit().await.success());
}

/// B25: a caller whose request is refused early is not left guessing: the answer comes, then the rest is not wanted.
#[tokio::test]
async fn an_early_answer_ends_its_stream() {
    let stage = Stage::orders().await;
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("POST", "/nowhere"), 0).await;
    assert_eq!(caller.outcome(1).await.status, Some(404));
    let reset = loop {
        let frame = caller.next().await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            break frame.reason();
        }
    };
    assert_eq!(reset, 0, "NO_ERROR (RFC 9113 8.1)");
}

/// B55: a header section in many frames is one header section.
#[tokio::test]
async fn continuation_carries_a_long_header_section() {
    let stage = Stage::orders().await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let value = vec![b'v'; 20_000];
    let fields = [pseudo("GET", "/orders/x"), vec![("x-long", value.as_slice())]].concat();
    let block = block(&fields);
    let (first, rest) = block.split_at(16_000);
    caller.send(HEADERS, END_STREAM, 1, first).await.unwrap();
    caller.send(CONTINUATION, END_HEADERS, 1, rest).await.unwrap();
    assert_eq!(caller.outcome(1).await.status, Some(200));
    assert_eq!(stage.upstream.last().fields("x-long")[0].len(), 20_000);
    // The same in HTTP/1 passes too, and both are refused over the limit.
    let long = "v".repeat(40_000);
    let bytes = request("GET", "/orders/x", &[("X-Long", &long)], b"");
    assert_eq!(stage.exchange(bytes).await.status, 431);
    let mut caller = Frames::open(stage.proxy.address).await;
    let fields = [pseudo("GET", "/orders/x"), vec![("x-long", long.as_bytes())]].concat();
    let block = crate::support::frames::block(&fields);
    caller.send(HEADERS, END_STREAM, 1, &block[..16_000]).await.unwrap();
    caller.send(CONTINUATION, 0, 1, &block[16_000..32_000]).await.unwrap();
    caller.send(CONTINUATION, END_HEADERS, 1, &block[32_000..]).await.unwrap();
    assert_eq!(caller.outcome(1).await.status, Some(431));
    eventually("a line for each", async || (stage.proxy.access_log().len() >= 3).then_some(())).await;
}
