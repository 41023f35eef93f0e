//! Bodies over HTTP/2: how much of them is held for those who do not read, how slowly they may come and go, and how they
//! end.

use std::time::Duration;

use crate::support::frames::{
    ACK, DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, pseudo,
};
use crate::support::proxy::{Proxy, head};
use crate::support::recorder::Reply;
use crate::support::scripted::Scripted;
use crate::support::servers::Servers;
use crate::support::stage::{Stage, named};

/// What a caller may send on one connection before anything of it is read; `docs/limits.md` names it.
const MOST_UNREAD: usize = 1024 * 1024;

/// What the proxy lets a caller send, as the caller has to keep the books (RFC 9113 6.9).
struct Credit {
    connection: usize,
    /// Of each new stream.
    each: usize,
    /// Of the stream at hand.
    stream: usize,
}

impl Credit {
    /// What was said until a PING is answered on a new connection.
    async fn of(caller: &mut Frames) -> Self {
        let mut credit = Self { connection: 65_535, each: 65_535, stream: 0 };
        credit.settle(caller).await;
        credit.stream = credit.each;
        credit
    }

    /// Reads until a PING is answered: whatever was to be said before has come by then.
    async fn settle(&mut self, caller: &mut Frames) {
        caller.send(PING, 0, 0, b"all read").await.unwrap();
        while !self.note(&caller.next().await.expect("the connection goes on")) {}
    }

    /// Notes what a frame gives; whether it is an answer to PING.
    fn note(&mut self, frame: &Frame) -> bool {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        match frame.kind {
            SETTINGS => {
                let window = frame.payload.chunks(6).find(|setting| setting.starts_with(&[0, 4]));
                self.each = window.map_or(self.each, |setting| number(&setting[2..]));
            }
            WINDOW_UPDATE if frame.stream == 0 => self.connection += number(&frame.payload),
            WINDOW_UPDATE => self.stream += number(&frame.payload),
            RST_STREAM | GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
        frame.kind == PING && frame.flags & ACK != 0
    }

    /// Takes what may be sent at once of so many bytes.
    fn take(&mut self, most: usize) -> usize {
        let piece = most.min(self.stream).min(self.connection).min(16 * 1024);
        self.stream -= piece;
        self.connection -= piece;
        piece
    }
}

/// B56: of bodies that no upstream reads a connection sends no more than its window, on however many streams.
#[tokio::test]
async fn what_nobody_reads_is_bounded_for_a_connection() {
    // The bodies stay with the proxy until the upstream asks for them, which it never does.
    let stage = Stage::start(&named("orders", "", "timeouts = { continue = \"1h\" }")).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let mut credit = Credit::of(&mut caller).await;
    let mut sent = 0;
    for stream in (1..120).step_by(2) {
        let fields = [pseudo("POST", "/orders/x"), vec![("expect", b"100-continue")]].concat();
        caller.request(stream, &fields, 0).await;
        credit.stream = credit.each;
        while let piece @ 1.. = credit.take(usize::MAX) {
            caller.send(DATA, 0, stream, &vec![b'x'; piece]).await.unwrap();
            sent += piece;
        }
        credit.settle(&mut caller).await;
    }
    assert!(sent <= MOST_UNREAD, "{sent} bytes wait");
    assert!(sent >= 16 * credit.each, "and {sent} are enough for sixteen bodies");
}

/// A body that is read is given room again, as often as it takes.
#[tokio::test]
async fn a_body_that_is_read_may_be_longer_than_any_window() {
    let stage = Stage::orders().await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let mut credit = Credit::of(&mut caller).await;
    caller.request(1, &pseudo("POST", "/orders/x"), 0).await;
    let mut left = 3 * MOST_UNREAD;
    while left > 0 {
        let piece = credit.take(left);
        if piece == 0 {
            credit.note(&caller.next().await.expect("the connection goes on"));
            continue;
        }
        left -= piece;
        let flags = if left == 0 { END_STREAM } else { 0 };
        caller.send(DATA, flags, 1, &vec![b'x'; piece]).await.unwrap();
    }
    assert_eq!(caller.outcome(1).await.status, Some(200));
    // With the chunks' own lengths.
    assert!(stage.upstream.last().body.len() > 3 * MOST_UNREAD);
}

/// B22, B52: a body that is longer than it was said to be is not forwarded as complete.
#[tokio::test]
async fn a_body_that_is_longer_than_said_is_not_forwarded_as_complete() {
    let stage = Stage::orders().await;
    let mut caller = Frames::open(stage.proxy.address).await;
    let fields = [pseudo("POST", "/orders/x"), vec![("content-length", b"3")]].concat();
    caller.request(1, &fields, 0).await;
    caller.send(DATA, END_STREAM, 1, b"hello").await.unwrap();
    let outcome = caller.outcome(1).await;
    assert!(outcome.reset.is_some() || outcome.goaway.is_some(), "{outcome:?}");
    assert!(stage.upstream.requests().is_empty());
}

/// B29, B59: an answer that was cut short ends visibly so.
#[tokio::test]
async fn an_answer_that_was_cut_short_resets_its_stream() {
    let stage = Stage::orders().await;
    stage.upstream.next(Reply::last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"));
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("GET", "/orders/x"), END_STREAM).await;
    let outcome = caller.outcome(1).await;
    assert_eq!((outcome.status, outcome.body.as_slice()), (Some(200), &b"hello"[..]));
    assert!(outcome.reset.is_some_and(|reason| reason != 0), "{outcome:?}");
}

#[tokio::test]
async fn a_body_that_stops_is_408_and_the_other_streams_go_on() {
    let limits = head("info") + "[limits]\nbody_timeout = \"300ms\"\n";
    let stage = Stage::listening(&limits, &named("orders", "", "")).await;
    let mut caller = Frames::open(stage.proxy.address).await;
    caller.request(1, &pseudo("POST", "/orders/x"), 0).await;
    caller.send(DATA, 0, 1, b"he").await.unwrap();
    let outcome = caller.outcome(1).await;
    assert_eq!(outcome.status, Some(408), "{outcome:?}");
    caller.request(3, &pseudo("GET", "/orders/y"), END_STREAM).await;
    assert_eq!(caller.outcome(3).await.status, Some(200));
}

/// B51: a body that never stops for long and never ends either is held against `body_rate`, as in HTTP/1.
#[tokio::test]
async fn a_body_that_crawls_is_408() {
    for over in ["300ms", "1s"] {
        let limits = format!("{}[limits]\nbody_timeout = \"{over}\"\nbody_rate = \"1KiB\"\n", head("info"));
        let stage = Stage::listening(&limits, &named("orders", "", "")).await;
        let mut caller = Frames::open(stage.proxy.address).await;
        caller.request(1, &pseudo("POST", "/orders/x"), 0).await;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let answer = loop {
            tokio::select! {
                frame = caller.next() => match frame.expect("the connection goes on") {
                    answer if answer.kind == HEADERS => break answer,
                    _ => {}
                },
                _ = tick.tick() => caller.send(DATA, 0, 1, b"x").await.unwrap(),
            }
        };
        assert_eq!(answer.status(), 408, "{over}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_and_the_other_streams_go_on() {
    let limits = head("info") + "[limits]\nbody_timeout = \"300ms\"\n";
    let stage = Stage::listening(&limits, &named("orders", "", "")).await;
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    stage.upstream.next(Reply::new(long));
    // SETTINGS_INITIAL_WINDOW_SIZE: 10 bytes for every stream.
    let mut caller = Frames::with_settings(stage.proxy.address, &[0, 4, 0, 0, 0, 10]).await;
    caller.request(1, &pseudo("GET", "/orders/x"), END_STREAM).await;
    let outcome = caller.outcome(1).await;
    assert_eq!((outcome.status, outcome.body.len()), (Some(200), 10), "{:?}", outcome.reset);
    assert!(outcome.reset.is_some(), "{outcome:?}");
    caller.request(3, &pseudo("GET", "/orders/y"), END_STREAM).await;
    caller.send(WINDOW_UPDATE, 0, 3, &100_u32.to_be_bytes()).await.unwrap();
    assert_eq!(caller.outcome(3).await.status, Some(200));
}

/// An answer whose pieces are as small as its chunks.
fn small_pieces(count: usize) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    [&head[..], &b"a\r\ndata: 123\n\r\n".repeat(count)].concat()
}

/// Reads an answer of small pieces with room for one of them at a time, given at each tick, until its stream ends or
/// so much was read; the bytes, and whether it was reset.
async fn drip(proxy: &Proxy, every: Duration, most: usize) -> (usize, bool) {
    let mut caller = Frames::with_settings(proxy.address, &[0, 4, 0, 0, 0, 10]).await;
    caller.request(1, &pseudo("GET", "/orders/x"), END_STREAM).await;
    let mut tick = tokio::time::interval(every);
    let mut read = 0;
    while read < most {
        tokio::select! {
            frame = caller.next() => match frame.expect("the connection goes on") {
                data if data.kind == DATA => read += data.payload.len(),
                reset if reset.kind == RST_STREAM => return (read, true),
                _ => {}
            },
            _ = tick.tick() => caller.send(WINDOW_UPDATE, 0, 1, &10_u32.to_be_bytes()).await.unwrap(),
        }
    }
    (read, false)
}

/// B56: a caller that takes a few bytes now and then keeps neither its stream nor its upstream's connection.
#[tokio::test]
async fn an_answer_that_is_read_too_slowly_is_given_up() {
    let servers = Servers::start().await;
    for (rate, is_reset) in [("4KiB", true), ("64B", false)] {
        let upstream = Scripted::start().await;
        let limits = format!("[limits]\nbody_timeout = \"500ms\"\nbody_rate = \"{rate}\"");
        let proxy = servers.proxy_to(upstream.address, &limits).await;
        let upstream = async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.send(&small_pieces(1000)).await;
            peer
        };
        let (mut peer, (read, was_reset)) = tokio::join!(upstream, drip(&proxy, Duration::from_millis(50), 400));
        assert_eq!(was_reset, is_reset, "{rate}: after {read} bytes");
        assert!(!is_reset || peer.is_closed().await, "the upstream's connection goes with it");
    }
}

/// A caller that waits for events is not one that reads too slowly.
#[tokio::test]
async fn a_caller_that_has_nothing_to_read_is_not_given_up() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "[limits]\nbody_timeout = \"100ms\"\nbody_rate = \"1MiB\"").await;
    let mut caller = Frames::open(proxy.address).await;
    caller.request(1, &pseudo("GET", "/orders/x"), END_STREAM).await;
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(&small_pieces(1)).await;
    for _ in 0..3 {
        while caller.next().await.expect("the connection goes on").kind != DATA {}
        let quiet = tokio::time::timeout(Duration::from_millis(400), caller.read()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        peer.send(b"a\r\ndata: 123\n\r\n").await;
    }
}
