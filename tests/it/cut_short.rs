//! An upstream that dies after each single byte: of the request it reads, of the answer it writes, on a fresh
//! connection and on a pooled one, in order and by a reset.
//!
//! Whatever the byte: no POST is carried out twice, no GET sent more than twice, what is not whole never looks whole,
//! nothing hangs, and the next exchange is as good as any.

use std::io::Result;

use crate::support::http::{Answer, Connection, request};
use crate::support::mortal::{Connections, Death, End, Mortal};
use crate::support::proxy::Proxy;
use crate::support::servers::Servers;
use crate::support::{PATIENCE, within};

/// A caller that keeps its connection as long as the proxy lets it.
struct Scene {
    _servers: Servers,
    proxy: Proxy,
    upstream: Mortal,
    caller: Option<Connection>,
    number: usize,
}

impl Scene {
    /// After one good exchange: its token is there, and where connections are kept, one is pooled.
    async fn set(connections: Connections) -> Self {
        let servers = Servers::start().await;
        let upstream = Mortal::start(connections).await;
        let proxy = servers.proxy_to(upstream.address, "").await;
        let mut scene = Self { _servers: servers, proxy, upstream, caller: None, number: 1000 };
        scene.good().await;
        scene
    }

    /// Sends one request, on the connection at hand if it is still good; its number and what came back.
    async fn exchange(&mut self, method: &str) -> (String, Result<Answer>) {
        self.number += 1;
        let number = self.number.to_string();
        let mut caller = match self.caller.take() {
            Some(caller) => caller,
            None => Connection::open(self.proxy.address).await.unwrap(),
        };
        // A request id of its own would change the length of the head from one to the next.
        let fields = [("X-Number", number.as_str()), ("X-Request-Id", "1")];
        let body: &[u8] = if method == "POST" { b"order" } else { b"" };
        let sent = request(method, "/orders/x", &fields, body);
        let answer = within(&format!("{method} {number} ends"), PATIENCE / 4, caller.exchange(&sent)).await;
        if answer.as_ref().is_ok_and(|answer| !answer.closes()) {
            self.caller = Some(caller);
        }
        (number, answer)
    }

    /// An exchange that nothing goes wrong with.
    async fn good(&mut self) {
        let (number, answer) = self.exchange("GET").await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text().ends_with(&number)), (200, true), "{number}: {}", answer.text());
    }

    /// One request that meets these deaths: what came back, and how often the upstream was asked.
    async fn meets(&mut self, method: &str, deaths: Vec<Death>) -> (String, Result<Answer>, usize) {
        let before = self.upstream.account().begun;
        self.upstream.doom(deaths);
        let (number, answer) = self.exchange(method).await;
        let asked = self.upstream.account().begun - before;
        self.upstream.doom(Vec::new());
        (number, answer, asked)
    }

    /// No request of these methods was carried out more often than that.
    fn assert_applied_at_most(&self, times: usize) {
        let applied = self.upstream.account().applied;
        let more: Vec<_> = applied.iter().filter(|(_, count)| **count > times).collect();
        assert!(more.is_empty(), "carried out more than {times} times: {more:?}");
    }

    /// How long a request is on the wire: as long as the last good one, and a body if it is a POST.
    async fn length(&mut self, method: &str) -> usize {
        let (_, answer) = self.exchange(method).await;
        assert_eq!(answer.unwrap().status, 200);
        let length = self.upstream.account().length;
        assert!(length > 100, "a head has more bytes");
        length
    }
}

fn assert_terminated(answer: &Result<Answer>, what: &str) {
    let answer = answer.as_ref().unwrap_or_else(|error| panic!("{what}: {error}"));
    answer.assert_problem(502, what);
    assert!(!answer.closes(), "{what}: the caller's connection is as good as before: {}", answer.head);
}

/// The upstream dies within a request that came over a fresh connection: it may have been carried out, so it is not
/// sent again, whatever its method.
async fn dies_reading_on_a_fresh_connection(end: End) {
    let mut scene = Scene::set(Connections::UsedOnce).await;
    for method in ["GET", "POST"] {
        for bytes in 0..=scene.length(method).await {
            let what = format!("{method} {bytes} {end:?}");
            let (_, answer, asked) = scene.meets(method, vec![Death::Reading(bytes, end)]).await;
            assert_terminated(&answer, &what);
            assert_eq!(asked, 1, "{what}");
            scene.good().await;
        }
    }
    scene.assert_applied_at_most(1);
}

/// The same over a pooled connection: a GET is sent once more and no more, a POST never.
async fn dies_reading_on_a_pooled_connection(end: End) {
    let mut scene = Scene::set(Connections::Kept).await;
    let mut deaths = 0;
    for bytes in 0..=scene.length("GET").await {
        let what = format!("GET {bytes} {end:?}");
        let (number, answer, asked) = scene.meets("GET", vec![Death::Reading(bytes, end)]).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.text().ends_with(&number), asked), (200, true, 2), "{what}");
        let (_, answer, asked) = scene.meets("GET", vec![Death::Reading(bytes, end); 2]).await;
        assert_terminated(&answer, &what);
        assert_eq!(asked, 2, "{what}, twice");
        scene.good().await;
        deaths += 2;
    }
    scene.assert_applied_at_most(2);
    for bytes in 0..=scene.length("POST").await {
        let what = format!("POST {bytes} {end:?}");
        let (number, answer, asked) = scene.meets("POST", vec![Death::Reading(bytes, end)]).await;
        assert_terminated(&answer, &what);
        assert_eq!(asked, 1, "{what}");
        scene.good().await;
        assert!(scene.upstream.account().applied.get(&number).is_none_or(|times| *times == 1), "{what}");
        deaths += 1;
    }
    assert_eq!(scene.upstream.account().reused, deaths, "every first death was on a pooled connection");
}

/// B45, B46: a request that dies with its fresh connection, after whatever byte of it, is told and not sent again.
#[tokio::test]
async fn an_upstream_that_closes_after_any_byte_of_a_request_on_a_fresh_connection() {
    dies_reading_on_a_fresh_connection(End::Close).await;
}

/// B45, B46: the same where the upstream resets the connection.
#[tokio::test]
async fn an_upstream_that_resets_after_any_byte_of_a_request_on_a_fresh_connection() {
    dies_reading_on_a_fresh_connection(End::Reset).await;
}

/// B45, B46: on a pooled connection a GET is sent at most twice, and a POST once, after whatever byte the upstream
/// closes.
#[tokio::test]
async fn an_upstream_that_closes_after_any_byte_of_a_request_on_a_pooled_connection() {
    dies_reading_on_a_pooled_connection(End::Close).await;
}

/// B45, B46: the same where the upstream resets the connection.
#[tokio::test]
async fn an_upstream_that_resets_after_any_byte_of_a_request_on_a_pooled_connection() {
    dies_reading_on_a_pooled_connection(End::Reset).await;
}

/// Answers with the same body in every framing, RFC 9112 6.3.
const ANSWERS: [(&str, &str); 4] = [
    ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n"),
    (
        "trailers",
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
    ("close", "HTTP/1.1 200 OK\r\n\r\nhello"),
];

/// The upstream dies within its answer.
async fn dies_answering(connections: Connections, end: End) {
    let mut scene = Scene::set(connections).await;
    for method in ["GET", "POST"] {
        for (framing, whole) in ANSWERS {
            for bytes in 0..=whole.len() {
                let what = format!("{method}, {framing}, {bytes} of {} bytes, {connections:?} {end:?}", whole.len());
                let (sent, rest) = whole.split_at(bytes);
                let death = Death::Answering(sent.as_bytes().to_vec(), end);
                let (number, answer, asked) = scene.meets(method, vec![death]).await;
                // Once the head was whole the caller has it, and nothing is sent again.
                let lost = connections == Connections::Kept && !sent.contains("\r\n\r\n");
                let most = if method == "GET" && lost { 2 } else { 1 };
                assert!((1..=most).contains(&asked), "{what}: asked {asked} times");
                assert!(rest.is_empty() || is_visible(&answer, (framing, sent, end), &number), "{what}: {answer:?}");
                // Cut in order behind its last byte, it is whole.
                if rest.is_empty() && end == End::Close {
                    assert_eq!(answer.unwrap().body, b"hello", "{what}");
                }
                scene.good().await;
            }
        }
    }
    scene.assert_applied_at_most(if connections == Connections::Kept { 2 } else { 1 });
}

/// Whether nobody can take what came for the whole answer of the upstream.
fn is_visible(answer: &Result<Answer>, (framing, sent, end): (&str, &str, End), number: &str) -> bool {
    let Ok(answer) = answer else { return true };
    match answer.status {
        502 => true,
        // Lost on a pooled connection before any of the answer's head was whole, and sent again.
        200 if answer.body == number.as_bytes() => !sent.contains("\r\n\r\n"),
        // RFC 9112 6.3: the end of the connection is the end of this body, if it came in order.
        200 => framing == "close" && end == End::Close && sent.ends_with(&*String::from_utf8_lossy(&answer.body)),
        _ => false,
    }
}

/// B29, B22: an answer on a fresh connection that ends after any byte is told as broken or visibly cut short.
#[tokio::test]
async fn an_answer_that_ends_after_any_byte_on_a_fresh_connection() {
    dies_answering(Connections::UsedOnce, End::Close).await;
}

/// B29, B22: the same where the upstream resets the connection, an answer without length or chunks included.
#[tokio::test]
async fn an_answer_that_is_reset_after_any_byte_on_a_fresh_connection() {
    dies_answering(Connections::UsedOnce, End::Reset).await;
}

/// B29, B45, B46, B48: the same on a pooled connection, where a GET may be sent a second time and a POST may not.
#[tokio::test]
async fn an_answer_that_ends_after_any_byte_on_a_pooled_connection() {
    dies_answering(Connections::Kept, End::Close).await;
}

/// B29, B45, B46, B48: the same where the upstream resets the pooled connection.
#[tokio::test]
async fn an_answer_that_is_reset_after_any_byte_on_a_pooled_connection() {
    dies_answering(Connections::Kept, End::Reset).await;
}
