//! HTTP/2 towards the upstream (RFC 9113): streams, GOAWAY, refusals, and how it is agreed on.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};

use crate::support::certificates::Authority;
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, frame,
};
use crate::support::http::{Answer, Connection, request};
use crate::support::http2::{Http2, Say};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Peer, Scripted, answer};
use crate::support::servers::{Servers, run};

const HTTP2: &str = "http = \"2\"";

/// A proxy with one worker before `upstream`, and the servers it gets its tokens from.
async fn before(upstream: &Http2, named: &str) -> (Servers, Proxy) {
    let servers = Servers::start().await;
    let proxy = servers.proxy_to(upstream.address, &format!("{HTTP2}\n{named}")).await;
    (servers, proxy)
}

async fn exchange(proxy: &Proxy, method: &str, body: &[u8]) -> Answer {
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.exchange(&request(method, "/orders/a?b=%20c", &[], body)).await.unwrap()
}

#[tokio::test]
async fn a_hundred_exchanges_share_the_connections_that_their_number_needs() {
    for (streams, most) in [(250, 1), (5, 32)] {
        let upstream = Http2::start(streams, |_| Say::Echo).await;
        let (_servers, proxy) = before(&upstream, "").await;
        for _ in 0..3 {
            let bodies: Vec<_> = (0..100).map(|number| format!("body {number}")).collect();
            let answers = join_all(bodies.iter().map(|body| exchange(&proxy, "POST", body.as_bytes()))).await;
            for (answer, body) in answers.iter().zip(&bodies) {
                assert_eq!((answer.status, answer.body.as_slice()), (200, body.as_bytes()), "{}", answer.text());
            }
        }
        assert_eq!(upstream.requests().len(), 300);
        assert!(upstream.connections() <= most, "{} for {streams} streams each", upstream.connections());
        let name = upstream.address.to_string();
        let scrape = Scrape::of(&proxy).await;
        let opened = scrape.sum("keybearer_upstream_connections_opened_total", &[("upstream", &name)]);
        assert_eq!(opened, upstream.connections() as f64);
    }
}

/// The first-byte time-out begins with the sending, however long a place on a connection was waited for.
#[tokio::test]
async fn waiting_for_a_connection_takes_nothing_of_the_time_for_an_answer() {
    let upstream = Http2::start(10, |_| Say::Echo).await;
    let slow_to_open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let servers = Servers::start().await;
    let named = format!("{HTTP2}\ntimeouts = {{ connect = \"20s\", first_byte = \"2s\" }}");
    let proxy = servers.proxy_to(slow_to_open.local_addr().unwrap(), &named).await;
    let opening = async {
        let (mut near, _) = slow_to_open.accept().await.unwrap();
        let another = tokio::time::timeout(Duration::from_millis(2500), slow_to_open.accept()).await;
        assert!(another.is_err(), "one connection is opened for all");
        let mut far = TcpStream::connect(upstream.address).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        answers = join_all((0..5).map(|_| exchange(&proxy, "GET", b""))) => {
            for answer in answers {
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
        ended = opening => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn the_head_is_that_of_http2() {
    let upstream = Http2::start(10, |_| Say::Echo).await;
    let (_servers, proxy) = before(&upstream, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let fields = [("Connection", "keep-alive, x-hop"), ("X-Hop", "1"), ("TE", "trailers"), ("X-End", "1")];
    let answer = caller.exchange(&request("PUT", "/orders/a;b?c=%20", &fields, b"body")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.fields("via")[0].starts_with("2 keybearer"), "the version it came in: {}", answer.head);
    let seen = &upstream.requests()[0];
    assert_eq!(seen.head.uri.to_string(), format!("http://{}/a;b?c=%20", upstream.address));
    assert_eq!((seen.field("host"), seen.field("connection"), seen.field("x-hop")), (None, None, None));
    assert_eq!(
        (seen.field("x-end"), seen.field("content-length"), &seen.body[..]),
        (Some("1"), Some("4"), &b"body"[..])
    );
    assert!(seen.field("authorization").unwrap().starts_with("Bearer "));

    let upstream = Http2::start(10, |_| Say::Echo).await;
    let (_servers, proxy) = before(&upstream, "host_header = \"virtual.test:8443\"").await;
    assert_eq!(exchange(&proxy, "GET", b"").await.status, 200);
    let seen = &upstream.requests()[0];
    assert_eq!((seen.head.uri.authority().unwrap().as_str(), seen.field("host")), ("virtual.test:8443", None));
}

/// B45: a connection that the server leaves (GOAWAY) costs nobody an exchange, a POST neither.
#[tokio::test]
async fn a_server_that_leaves_its_connections_loses_no_exchange() {
    let upstream = Http2::start(20, |_| Say::Echo).await;
    let (_servers, proxy) = before(&upstream, "").await;
    let callers = join_all((0..8).map(async |caller| {
        for turn in 0..25 {
            let body = format!("{caller} {turn}");
            let answer = exchange(&proxy, "POST", body.as_bytes()).await;
            assert_eq!((answer.status, answer.body.as_slice()), (200, body.as_bytes()), "{}", answer.text());
            if caller == 0 && turn % 5 == 4 {
                upstream.leave();
            }
        }
    }));
    callers.await;
    let bodies: BTreeSet<_> = upstream.requests().into_iter().map(|seen| seen.body).collect();
    assert_eq!((bodies.len(), upstream.requests().len()), (200, 200), "each was processed once");
    assert!(upstream.connections() > 1);
}

/// B45: a stream that the server refused was not processed, so a POST goes to another connection, once.
#[tokio::test]
async fn a_refused_post_is_sent_once_more_over_another_connection() {
    let mut count = 0;
    let upstream = Http2::start(20, move |_| {
        count += 1;
        if count == 2 { Say::Reset(h2::Reason::REFUSED_STREAM) } else { Say::Echo }
    })
    .await;
    let (_servers, proxy) = before(&upstream, "").await;
    assert_eq!(exchange(&proxy, "POST", b"first").await.status, 200);
    let answer = exchange(&proxy, "POST", b"second").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"second"[..]), "{}", answer.text());
    let seen = upstream.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1].head.headers, seen[2].head.headers);
    assert_eq!((seen[1].connection, seen[2].connection), (0, 1));
}

/// B45, B47: who refuses for ever is asked three times, and what is no longer whole is not sent again.
#[tokio::test]
async fn refusals_without_end_and_of_long_bodies_reach_the_caller() {
    let upstream = Http2::start(20, |_| Say::Reset(h2::Reason::REFUSED_STREAM)).await;
    let (_servers, proxy) = before(&upstream, "replay_limit = \"8B\"").await;
    exchange(&proxy, "POST", b"short").await.assert_problem(502, "refused for ever");
    assert_eq!(upstream.requests().len(), 3);
    exchange(&proxy, "POST", b"longer than is kept").await.assert_problem(502, "refused once");
    assert_eq!(upstream.requests().len(), 4);
}

/// B45, B46: another reset says nothing about what was done, nor does the end of the connection.
#[tokio::test]
async fn what_may_have_been_processed_is_sent_again_only_where_that_is_harmless() {
    for (say, method, sent) in [
        (Say::Reset(h2::Reason::INTERNAL_ERROR), "POST", 1),
        (Say::Reset(h2::Reason::INTERNAL_ERROR), "GET", 2),
        (Say::Die, "POST", 1),
        (Say::Die, "GET", 2),
    ] {
        let mut count = 0;
        let told = say.clone();
        let upstream = Http2::start(20, move |_| {
            count += 1;
            if count == 2 { told.clone() } else { Say::Echo }
        })
        .await;
        let (_servers, proxy) = before(&upstream, "").await;
        assert_eq!(exchange(&proxy, "GET", b"").await.status, 200);
        let answer = exchange(&proxy, method, b"").await;
        assert_eq!(upstream.requests().len(), 1 + sent, "{method} after {say:?}");
        if sent == 1 {
            answer.assert_problem(502, method);
            assert_eq!(answer.field("proxy-status"), Some("keybearer; error=connection_terminated"));
        } else {
            assert_eq!(answer.status, 200, "{method} after {say:?}: {}", answer.text());
        }
        assert_eq!(exchange(&proxy, "POST", b"next").await.status, 200, "and it goes on");
    }
}

#[tokio::test]
async fn a_rejected_token_is_renewed_and_the_request_replayed() {
    let mut first = None;
    let upstream = Http2::start(20, move |seen| {
        let token = seen.field("authorization").unwrap().to_owned();
        let first = first.get_or_insert_with(|| token.clone());
        if *first == token { Say::Status(401) } else { Say::Echo }
    })
    .await;
    let (_servers, proxy) = before(&upstream, "").await;
    let answers = join_all((0..20).map(|_| exchange(&proxy, "POST", b"the whole body"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == b"the whole body"));
    assert_eq!(upstream.connections(), 1, "a rejection costs no connection");
    let log = proxy.exchanges(20).await;
    assert!(log.iter().any(|line| line["replayed"] == true), "{log:#?}");
}

/// A 401 that comes before the body did: the first stream is reset, and the rest of the body goes to the second.
#[tokio::test]
async fn an_upload_that_is_rejected_early_goes_on_over_another_stream() {
    let mut first = None;
    let upstream = Http2::start(20, move |seen| {
        let token = seen.field("authorization").unwrap().to_owned();
        let first = first.get_or_insert_with(|| token.clone());
        if *first == token { Say::Status(401) } else { Say::Echo }
    })
    .await;
    let (_servers, proxy) = before(&upstream, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(b"POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
    upstream.received(1).await;
    caller.send(b" half").await.unwrap();
    let answer = caller.answer(true).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"first half"[..]), "{}", answer.text());
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_resets_its_stream_and_no_other() {
    let upstream = Http2::start(3, |seen| if seen.head.method == "DELETE" { Say::Nothing } else { Say::Echo }).await;
    let (_servers, proxy) = before(&upstream, "").await;
    for turn in 0..6 {
        let mut caller = Connection::open(proxy.address).await.unwrap();
        caller.send(&request("DELETE", "/orders/x", &[], b"")).await.unwrap();
        upstream.received(2 * turn + 1).await;
        assert_eq!(exchange(&proxy, "POST", b"another").await.status, 200);
        drop(caller);
        upstream.reset(turn + 1).await;
    }
    assert_eq!(upstream.connections(), 1);
}

/// A proxy before an upstream with TLS.
async fn before_tls(authority: &Authority, upstream: &Http2, named: &str) -> (Servers, Proxy) {
    let servers = Servers::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.certificate).unwrap();
    let url = format!("https://localhost:{}", upstream.address.port());
    let named = format!("tls = {{ ca = \"{}\" }}\n{named}", ca.display());
    let proxy = run(&servers.config(&url, &named, "")).await;
    (servers, proxy)
}

#[tokio::test]
async fn over_tls_http2_is_agreed_on_by_alpn() {
    let authority = Authority::new("a private CA");
    let upstream = Http2::with_tls(&authority.server(), |_| Say::Echo).await;
    let (_servers, proxy) = before_tls(&authority, &upstream, HTTP2).await;
    let answers = join_all((0..30).map(|_| exchange(&proxy, "POST", b"body"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((upstream.connections(), upstream.failed()), (1, 0));
    assert_eq!(upstream.requests()[0].head.uri.scheme_str(), Some("https"));
}

#[tokio::test]
async fn a_server_that_speaks_http2_only_is_found_out_once() {
    let authority = Authority::new("a private CA");
    let upstream = Http2::with_tls(&authority.server(), |_| Say::Echo).await;
    let (_servers, proxy) = before_tls(&authority, &upstream, "").await;
    for _ in 0..5 {
        assert_eq!(exchange(&proxy, "POST", b"body").await.status, 200);
    }
    assert_eq!((upstream.connections(), upstream.failed()), (1, 1));

    let (_servers, proxy) = before_tls(&authority, &upstream, "http = \"1.1\"").await;
    let answer = exchange(&proxy, "GET", b"").await;
    answer.assert_problem(502, "HTTP/1.1 only");
    assert!(answer.field("proxy-status").unwrap().contains("http_protocol_error"), "{}", answer.head);
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_gets_no_request() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await.serve(|_| answer(400, &[], b""));
    let proxy = servers.proxy_to(upstream.address, HTTP2).await;
    let answer = exchange(&proxy, "GET", b"").await;
    answer.assert_problem(502, "HTTP/1.1 in place of HTTP/2");
    assert_eq!(answer.field("proxy-status"), Some("keybearer; error=http_protocol_error"));
    let asked = upstream.received();
    // The preface and nothing else (RFC 9113 3.4); this server takes it for two requests.
    assert!(asked.iter().all(|asked| ["PRI * HTTP/2.0\r\n\r\n", "SM\r\n\r\n"].contains(&&*asked.head)), "{asked:#?}");
}

/// B58: RFC 9113 8.1: a server that has answered may say that it needs no more of the request (RST_STREAM with
/// NO_ERROR). The answer counts, nothing has failed, and the connection goes on.
#[tokio::test]
async fn a_reset_without_an_error_after_the_answer_is_none() {
    let upstream = Scripted::start().await;
    let servers = Servers::start().await;
    let proxy = servers.proxy_to(upstream.address, HTTP2).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let head = "POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nbegun";
    caller.send(head.as_bytes()).await.unwrap();
    let mut peer = upstream.accept().await;
    assert_eq!(peer.bytes(PREFACE.len()).await, PREFACE);
    peer.send(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()).await;
    let mut body = 0;
    while body < 5 {
        let (kind, _, payload) = next_frame(&mut peer).await;
        body += if kind == DATA { payload } else { 0 };
    }
    // `:status` 413, never indexed, and its content.
    let answer = [
        frame(HEADERS, END_HEADERS, 1, &block(&[(":status", b"413")])),
        frame(DATA, END_STREAM, 1, b"enough"),
        frame(RST_STREAM, 0, 1, &[0, 0, 0, 0]),
    ];
    peer.send(&answer.concat()).await;
    let reply = caller.answer(true).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (413, &b"enough"[..]), "{}", reply.text());
    let log = proxy.exchanges(1).await;
    assert!(log[0]["error"].is_null() && log[0]["upstream_status"] == 413, "{}", log[0]);

    // Nothing was wrong with the connection.
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/y", &[], b"")).await.unwrap();
    loop {
        let (kind, stream, _) = next_frame(&mut peer).await;
        if kind == HEADERS {
            peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[(":status", b"204")]))).await;
            break;
        }
        assert_ne!(kind, GOAWAY);
    }
    assert_eq!(caller.answer(false).await.unwrap().status, 204);
}

/// Kind, stream and length of the next frame.
async fn next_frame(peer: &mut Peer) -> (u8, u32, usize) {
    let head = peer.bytes(9).await;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    peer.bytes(length).await;
    (head[3], u32::from_be_bytes(head[5..9].try_into().unwrap()), length)
}
