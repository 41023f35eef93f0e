//! What callers may use up: at the limit a request passes, one over is refused with its status and counted, and where
//! the check comes first neither the token endpoint nor the upstream hears of it.

use keybearer::token::MOST_WAITING;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::support::http::{Answer, Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::{Proxy, head};
use crate::support::scripted::{self, Scripted};
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, eventually, raise_open_files, within};

/// How often this limit was reached so far.
async fn limited(proxy: &Proxy, limit: &str) -> f64 {
    Scrape::of(proxy).await.sum("keybearer_limited_total", &[("limit", limit)])
}

/// Fails unless this is a refusal that was counted once under `limit`, and under nothing else.
async fn assert_refused(proxy: &Proxy, answer: &Answer, status: u16, limit: &str) {
    answer.assert_problem(status, limit);
    let counted = eventually("the refusal is counted", async || {
        let scrape = Scrape::of(proxy).await;
        let of_limit = scrape.sum("keybearer_limited_total", &[("limit", limit)]);
        (of_limit > 0.0).then(|| (of_limit, scrape.sum("keybearer_limited_total", &[])))
    });
    assert_eq!(counted.await, (1.0, 1.0), "{limit}");
}

fn get(target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    request("GET", target, fields, b"")
}

/// Seconds until a refused caller should come again.
fn retry_after(answer: &Answer) -> u64 {
    answer.field("retry-after").expect("Retry-After").parse().unwrap()
}

/// B5: a target, a header section and a number of fields at their limits pass, one more is refused, whatever the
/// limits are.
#[tokio::test]
async fn a_head_is_bounded_in_target_length_and_number_of_fields() {
    let limits = "[limits]\ntarget = \"100B\"\nheader = \"1KiB\"\nheader_fields = 10\n";
    let target = |length: usize| format!("/orders/{}", "a".repeat(length - "/orders/".len()));
    let fields = |count: usize| {
        let lines: String = (1..count).map(|number| format!("x-{number}: y\r\n")).collect();
        format!("GET /orders/a HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
    };
    let section = |length: usize| {
        let lines = "\r\nHost: localhost\r\nx: \r\n\r\n";
        format!("GET /orders/a HTTP/1.1\r\nHost: localhost\r\nx: {}\r\n\r\n", "a".repeat(length - lines.len()))
    };
    for (good, bad, status, limit) in [
        (
            format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target(100)),
            format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", target(101)),
            414,
            "target",
        ),
        (fields(10), fields(11), 431, "header_fields"),
        (section(1024), section(1026), 431, "header"),
    ] {
        let stage = Stage::start(&format!("{}{limits}", named("orders", "", ""))).await;
        let answer = stage.exchange(&bad).await;
        assert_refused(&stage.proxy, &answer, status, limit).await;
        assert!(answer.closes(), "{limit}");
        stage.assert_untouched();
        stage.pass(&good).await;
    }
}

/// A request that announces a longer body than it may have is refused at once, whether it waits for leave or not.
#[tokio::test]
async fn an_announced_body_is_refused_before_it_is_read() {
    let stage = Stage::start(&named("orders", "", "limits = { body = \"1KiB\" }")).await;
    for expect in [&[][..], &[("Expect", "100-continue")][..]] {
        let mut caller = stage.caller().await;
        let mut head = request("POST", "/orders/a", expect, &[0; 1025]);
        head.truncate(head.len() - 1025);
        let answer = caller.exchange(&head).await.unwrap();
        answer.assert_problem(413, "an announced body");
        assert!(answer.closes());
    }
    assert_eq!(limited(&stage.proxy, "body").await, 2.0);
    stage.assert_untouched();
    let (_, received) = stage.pass(request("POST", "/orders/a", &[], &[7; 1024])).await;
    assert_eq!(received.body.len(), 1024);
}

/// One limit for all, and a named credential with its own.
#[tokio::test]
async fn a_named_credential_may_have_another_limit_for_bodies() {
    let tables =
        named("orders", "", "") + &named("files", "", "limits = { body = \"4KiB\" }") + "[limits]\nbody = \"1KiB\"\n";
    let stage = Stage::start(&tables).await;
    stage.pass(request("POST", "/orders/a", &[], &[7; 1024])).await;
    stage.exchange(request("POST", "/orders/a", &[], &[7; 1025])).await.assert_problem(413, "the limit of all");
    stage.pass(request("POST", "/files/a", &[], &[7; 4096])).await;
    stage.exchange(request("POST", "/files/a", &[], &[7; 4097])).await.assert_problem(413, "its own limit");
}

fn chunks(count: usize, size: usize) -> Vec<u8> {
    let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'a'; size], b"\r\n"].concat();
    chunk.repeat(count)
}

const CHUNKED: &str = "POST /orders/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A body without a length is counted as it comes; nothing over the limit reaches the upstream, and what did is no
/// complete request.
#[tokio::test]
async fn a_chunked_body_is_cut_off_where_it_is_too_long() {
    let upstream = Scripted::start().await;
    let table =
        format!("[named_credentials.orders]\nurl = \"http://{}\"\nlimits = {{ body = \"1KiB\" }}\n", upstream.address);
    let stage = Stage::start(&table).await;
    let mut caller = stage.caller().await;
    caller.send(CHUNKED.as_bytes()).await.unwrap();
    caller.send(&chunks(2, 512)).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.part(2 * 512).await;
    caller.send(&chunks(1, 1)).await.unwrap();
    let answer = within("the refusal comes", PATIENCE, caller.answer(true)).await.unwrap();
    assert_refused(&stage.proxy, &answer, 413, "body").await;
    assert!(answer.closes());
    peer.drained().await;
}

/// B29: an upstream answers early; when the body goes on and becomes too long, the answer ends visibly incomplete.
#[tokio::test]
async fn an_answer_that_has_begun_ends_with_the_body_that_is_too_long() {
    let upstream = Scripted::start().await;
    let table =
        format!("[named_credentials.orders]\nurl = \"http://{}\"\nlimits = {{ body = \"1KiB\" }}\n", upstream.address);
    let stage = Stage::start(&table).await;
    let mut caller = stage.caller().await;
    caller.send(CHUNKED.as_bytes()).await.unwrap();
    caller.send(&chunks(1, 512)).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.part(512).await;
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    let head = within("the head comes", PATIENCE, caller.head()).await.unwrap();
    assert_eq!(head.status, 200);
    caller.send(&chunks(2, 512)).await.unwrap();
    let body = within("the answer ends", PATIENCE, caller.body(&head, |_| ())).await;
    assert!(body.is_err(), "an answer that was cut off must not look complete");
    assert_eq!(stage.proxy.exchanges(1).await[0]["status"], 200);
    assert_eq!(limited(&stage.proxy, "body").await, 1.0);
}

const KEY: &str = "k-billing-0123456789abcdef";

/// B51: a caller's rate is its own: whoever is over it gets 429 and is told when to come again, and others go on.
#[tokio::test]
async fn a_caller_over_its_rate_waits_and_others_do_not() {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
    let hex: String = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let callers = format!("[callers.billing]\napi_key_sha256 = \"{hex}\"\nrate = {{ per_minute = 1, burst = 2 }}\n");
    let stage = Stage::start(&(named("orders", "", "") + &callers)).await;
    let key = [("x-api-key", KEY)];
    for _ in 0..2 {
        stage.pass(get("/orders/a", &key)).await;
    }
    let (mints, connections) = (stage.issuer.token_requests(), stage.upstream.requests().len());
    let answer = stage.exchange(get("/orders/a", &key)).await;
    assert_refused(&stage.proxy, &answer, 429, "caller_rate").await;
    assert!((50..=60).contains(&retry_after(&answer)), "{}", answer.head);
    assert_eq!(
        answer.field("proxy-status"),
        Some("keybearer; error=rate_limited; details=\"the rate of the caller billing\"")
    );
    assert!(!answer.closes(), "the connection may be used again");
    // What leads nowhere counts as well.
    stage.exchange(get("/nowhere", &key)).await.assert_problem(429, "a target that nothing matches");
    assert_eq!((stage.issuer.token_requests(), stage.upstream.requests().len()), (mints, connections));
    stage.pass(get("/orders/a", &[])).await;
    let refused = &stage.proxy.exchanges(3).await[2];
    assert_eq!((&refused["caller"], &refused["error"]), (&"billing".into(), &"rate_limited".into()));
}

/// B51: what is answered without a named credential, or leads past them, counts like all else.
#[tokio::test]
async fn whatever_a_caller_asks_for_counts_against_its_rate() {
    let forward = "allowed_origins = [\"https://app.example\"]\n\
                   forward_proxy = { passthrough = [\"127.0.0.1:{port}\"], tunnel = [\"127.0.0.1:{port}\"] }\n\
                   dangerous = { private = true }\n\n[admin]";
    let callers = "[callers.here]\nnetworks = [\"127.0.0.0/8\"]\nrate = { per_minute = 1, burst = 1 }\n";
    let preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT")];
    let stage = async || {
        Stage::listening(&head("info").replace("[admin]", forward), &(named("orders", "", "") + callers)).await
    };
    for (what, status) in [("preflight", 204), ("OPTIONS *", 204), ("passthrough", 200), ("tunnel", 200)] {
        let ask = |upstream: std::net::SocketAddr| match what {
            "preflight" => request("OPTIONS", "/orders/x", &preflight, b""),
            "OPTIONS *" => request("OPTIONS", "*", &[], b""),
            "passthrough" => get(&format!("http://{upstream}/x"), &[]),
            _ => request("CONNECT", &upstream.to_string(), &[], b""),
        };
        let first = stage().await;
        let mut caller = first.caller().await;
        caller.send(&ask(first.upstream.address)).await.unwrap();
        assert_eq!(caller.head().await.unwrap().status, status, "{what}");
        first.exchange(get("/orders/x", &[])).await.assert_problem(429, what);

        let second = stage().await;
        second.pass(get("/orders/x", &[])).await;
        let seen = second.upstream.connections();
        let refused = second.exchange(ask(second.upstream.address)).await;
        assert_refused(&second.proxy, &refused, 429, "caller_rate").await;
        assert_eq!(second.upstream.connections(), seen, "{what}: nothing was opened for it");
    }
}

/// A named credential's rate holds for all its callers together, and for no other named credential.
#[tokio::test]
async fn a_named_credential_over_its_rate_refuses_before_a_token_is_touched() {
    let limits = "limits = { rate = { per_minute = 1, burst = 1 } }";
    // Requests that fail for another reason take nothing from the rate.
    let tables =
        named("orders", "", &format!("{limits}\nmatch = {{ methods = [\"GET\"] }}")) + &named("others", "", "");
    let stage = Stage::start(&tables).await;
    stage.exchange(request("POST", "/orders/a", &[], b"")).await.assert_problem(405, "the method");
    stage.pass(get("/orders/a", &[])).await;
    let before = (stage.issuer.token_requests(), stage.upstream.requests().len());
    let answer = stage.exchange(get("/orders/a", &[])).await;
    assert_refused(&stage.proxy, &answer, 429, "credential_rate").await;
    assert!(retry_after(&answer) > 1);
    assert_eq!((stage.issuer.token_requests(), stage.upstream.requests().len()), before);
    stage.pass(get("/others/a", &[])).await;
}

/// As many requests as may be are in flight; the next one is refused, and served once one of them has ended.
async fn refused_while_one_is_served(keys: &str, tables: &str, limit: &str) {
    let upstream = Scripted::start().await;
    let table = format!("[named_credentials.orders]\nurl = \"http://{}\"\n{keys}\n{tables}", upstream.address);
    // One worker, so that all requests share one connection to the upstream.
    let stage = Stage::listening(&format!("workers = 1\n{}", head("info")), &table).await;
    let mut first = stage.caller().await;
    first.send(&get("/orders/a", &[])).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
    let head = first.head().await.unwrap();
    // Its body is still on the way, so it is still being served.
    let answer = stage.exchange(get("/orders/b", &[])).await;
    assert_refused(&stage.proxy, &answer, 503, limit).await;
    assert_eq!(retry_after(&answer), 1);
    peer.send(b"cd").await;
    assert_eq!(first.body(&head, |_| ()).await.unwrap(), 4);
    stage.proxy.exchanges(2).await;
    let mut next = stage.caller().await;
    next.send(&get("/orders/c", &[])).await.unwrap();
    assert_eq!(peer.request().await.head.lines().next(), Some("GET /c HTTP/1.1"), "only what was admitted came");
    peer.send(&scripted::answer(200, &[], b"")).await;
    assert_eq!(next.answer(true).await.unwrap().status, 200);
    eventually("nothing is in flight", async || {
        (Scrape::of(&stage.proxy).await.sum("keybearer_requests_in_flight", &[]) == 0.0).then_some(())
    })
    .await;
}

/// B51: over capacity is 503 with Retry-After.
#[tokio::test]
async fn requests_in_flight_are_bounded_for_the_process() {
    refused_while_one_is_served("", "[limits]\nrequests = 1\n", "requests").await;
}

/// B51: one named credential cannot take the room of the others.
#[tokio::test]
async fn requests_in_flight_are_bounded_for_a_named_credential() {
    refused_while_one_is_served("limits = { requests = 1 }", "", "credential_requests").await;
}

/// A caller that went away gives its place back at once.
#[tokio::test]
async fn a_place_is_free_again_when_the_caller_has_gone() {
    let upstream = Scripted::start().await;
    let table =
        format!("[named_credentials.orders]\nurl = \"http://{}\"\nlimits = {{ requests = 1 }}\n", upstream.address);
    let stage = Stage::start(&table).await;
    let mut gone = stage.caller().await;
    gone.send(&get("/orders/a", &[])).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.request().await;
    drop(gone);
    peer.drained().await;
    stage.proxy.exchanges(1).await;
    let mut next = stage.caller().await;
    next.send(&get("/orders/b", &[])).await.unwrap();
    upstream.accept().await.request().await;
}

/// What a connection that is refused is told before it is closed.
async fn told(mut stream: TcpStream) -> String {
    let mut told = String::new();
    within("the connection is closed", PATIENCE, stream.read_to_string(&mut told)).await.unwrap();
    told
}

/// B51: connections are bounded in all and by address, where that is configured, on loopback too.
#[tokio::test]
async fn connections_over_a_limit_are_told_so_and_closed() {
    for (limits, limit) in
        [("connections = 2", "connections"), ("connections_per_caller = 2", "connections_per_caller")]
    {
        let stage = Stage::start(&format!("{}[limits]\n{limits}\n", named("orders", "", ""))).await;
        let mut first = stage.caller().await;
        let second = stage.caller().await;
        assert_eq!(first.exchange(&get("/orders/a", &[])).await.unwrap().status, 200);
        let text = told(TcpStream::connect(stage.proxy.address).await.unwrap()).await;
        assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nRetry-After: 1\r\n"), "{limit}: {text}");
        assert!(text.contains("\r\nContent-Type: application/problem+json\r\n"), "{limit}: {text}");
        assert_eq!(limited(&stage.proxy, limit).await, 1.0);
        drop(second);
        let answered = eventually("there is room again", async || {
            let mut caller = Connection::open(stage.proxy.address).await.ok()?;
            caller.exchange(&get("/orders/b", &[])).await.ok().filter(|answer| answer.status == 200)
        });
        answered.await;
    }
}

/// Everyone on the machine has the same loopback address, and nobody behind a Unix socket has one.
#[tokio::test]
async fn loopback_has_no_limit_by_address_unless_it_is_configured_and_a_unix_socket_never() {
    let listener = "[listeners.local]\naddress = \"unix:local.sock\"\n";
    let stage = Stage::listening(
        &(head("info") + listener),
        &(named("orders", "", "") + "[limits]\nconnections_per_caller = 1\n"),
    )
    .await;
    let socket = stage.proxy.setup.config().with_file_name("local.sock");
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(&get("/orders/a", &[])).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        open.push(stream);
    }
    assert_eq!(limited(&stage.proxy, "connections_per_caller").await, 0.0);
}

/// The times of a caller are limits too: a late head, a body that stops.
#[tokio::test]
async fn callers_that_are_too_slow_are_counted() {
    let limits = "[limits]\nheader_timeout = \"100ms\"\nbody_timeout = \"100ms\"\n";
    for (bytes, limit) in [
        ("GET /orders/a HTT", "header_timeout"),
        ("POST /orders/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab", "body_timeout"),
    ] {
        let stage = Stage::start(&format!("{}{limits}", named("orders", "", ""))).await;
        let answer = stage.exchange(bytes).await;
        assert_refused(&stage.proxy, &answer, 408, limit).await;
    }
}

/// C3: an answer of the token endpoint that is longer than it may be is none.
#[tokio::test]
async fn the_answer_of_a_token_endpoint_is_bounded() {
    let token = format!("{{\"access_token\":\"{}\",\"token_type\":\"Bearer\",\"expires_in\":600}}", "t".repeat(1000));
    for (limit, status) in [(token.len(), 200), (token.len() - 1, 502)] {
        let endpoint = Scripted::start().await.serve({
            let token = token.clone();
            move |_| scripted::answer(200, &[("Content-Type", "application/json")], token.as_bytes())
        });
        let tables = format!(
            "[limits]\ntoken_answer = \"{limit}B\"\n[external_credentials.other]\ntoken_endpoint = \"http://{}/\"\n\
             client_id = \"a\"\nclient_secret = {{ dangerous_literal = \"b\" }}\n\
             [named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"other\"\n",
            endpoint.address
        );
        let stage = Stage::start(&tables).await;
        let answer = stage.exchange(get("/orders/a", &[])).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(stage.upstream.requests().len(), usize::from(status == 200));
    }
}

/// B21: an upstream's head is bounded in length and number of fields, so it cannot fill the memory.
#[tokio::test]
async fn the_head_of_an_answer_is_bounded() {
    let fields = |count: usize| -> Vec<u8> {
        let lines: String = (1..count).map(|number| format!("x-{number}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n").into_bytes()
    };
    let long = |length: usize| scripted::answer(200, &[("x", &"a".repeat(length))], b"");
    for (head, status) in [(fields(100), 200), (fields(101), 502), (long(64 * 1024), 200), (long(256 * 1024), 502)] {
        let upstream = Scripted::start().await.serve(move |_| head.clone());
        let table = format!("[named_credentials.orders]\nurl = \"http://{}\"\n", upstream.address);
        let stage = Stage::start(&table).await;
        assert_eq!(stage.exchange(get("/orders/a", &[])).await.status, status);
    }
}

/// B50: an upstream that drops every connection it served once gets a reserve of repeated requests, and after that one
/// for every five exchanges.
#[tokio::test]
async fn requests_are_not_repeated_without_end_where_every_connection_is_lost() {
    let upstream = Scripted::start().await;
    let address = upstream.address;
    let serving = tokio::spawn(async move {
        loop {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.send(&scripted::answer(200, &[], b"")).await;
            // The next request on it is read and lost.
            peer.next().await;
        }
    });
    let table = format!("[named_credentials.orders]\nurl = \"http://{address}\"\n");
    let stage = Stage::listening(&format!("workers = 1\n{}", head("info")), &table).await;
    let mut caller = stage.caller().await;
    let mut lost = 0;
    for _ in 0..1600 {
        let answer = caller.exchange(&get("/orders/a", &[])).await.unwrap();
        assert!(answer.status == 200 || answer.status == 502, "{}", answer.text());
        lost += u32::from(answer.status == 502);
    }
    assert!(lost > 0, "the reserve is not without end");
    assert_eq!(limited(&stage.proxy, "retries").await, f64::from(lost));
    let repeated = Scrape::of(&stage.proxy).await.sum("keybearer_upstream_stale_retries_total", &[]);
    assert!((1024.0..=1024.0 + 320.0).contains(&repeated), "{repeated} of 1600 were repeated");
    serving.abort();
}

/// C16: callers that wait for a token are bounded in number: one over gets its refusal at once, and waits for nothing.
#[tokio::test]
async fn callers_that_wait_for_a_token_are_bounded() {
    raise_open_files();
    let silent = Scripted::start().await;
    let tables = format!(
        "[external_credentials.other]\ntoken_endpoint = \"http://{}/\"\nclient_id = \"a\"\n\
         client_secret = {{ dangerous_literal = \"b\" }}\ntimeout = \"60s\"\n\
         [named_credentials.orders]\nurl = \"http://{{upstream}}\"\nexternal_credential = \"other\"\n",
        silent.address
    );
    let stage = Stage::start(&tables).await;
    let mut waiting = Vec::new();
    for _ in 0..MOST_WAITING {
        let mut caller = stage.caller().await;
        caller.send(&get("/orders/a", &[])).await.unwrap();
        waiting.push(caller);
    }
    let _endpoint = silent.accept().await;
    eventually("all of them wait", async || {
        let waiting = Scrape::of(&stage.proxy).await.sum("keybearer_requests_in_flight", &[]);
        (waiting == MOST_WAITING as f64).then_some(())
    })
    .await;
    let answer = stage.exchange(get("/orders/a", &[])).await;
    assert_refused(&stage.proxy, &answer, 503, "waiters").await;
    assert_eq!(retry_after(&answer), 1);
    assert_eq!(stage.upstream.requests().len(), 0);
}

/// A body for whose copy there is no memory goes on all the same.
#[tokio::test]
async fn memory_for_replays_that_is_used_up_is_counted_and_refuses_nobody() {
    let stage = Stage::start(&(named("orders", "", "") + "[limits]\nreplay_memory = \"1KiB\"\n")).await;
    stage.pass(request("POST", "/orders/a", &[], &[7; 1024])).await;
    stage.proxy.exchanges(1).await;
    assert_eq!(limited(&stage.proxy, "replay_memory").await, 0.0);
    let (_, received) = stage.pass(request("POST", "/orders/a", &[], &[7; 1025])).await;
    assert_eq!(received.body.len(), 1025);
    stage.proxy.exchanges(2).await;
    assert_eq!(limited(&stage.proxy, "replay_memory").await, 1.0);
}
