//! Pools against servers on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::http1::crowd;
use super::{CheckoutError, Endpoint, Http, Lease, Pool, PoolLimits, Pools, Protocol, RequestHead, Room, SendError};
use crate::connect::{Addresses, ConnectError, HttpProxy};
use crate::metrics::Metrics;

type Outgoing = Full<Bytes>;

const LONG: Duration = Duration::from_secs(20);

/// A server with prior knowledge that allows this many streams at once and echoes method, URI and body; how many
/// connections it has.
async fn server(streams: u32) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(streams);
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let _ = builder.serve_connection(TokioIo::new(socket), service_fn(echo)).await;
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (address, connections)
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = format!("{} {} {:?}", head.method, head.uri, head.headers.get("host").is_some());
    Ok(Response::new(Full::new([text.as_bytes(), &body].concat().into())))
}

fn pool_of(limits: PoolLimits, endpoint: &Endpoint, protocol: Protocol) -> Arc<Pool<Outgoing>> {
    Pools::new(limits, Metrics::new()).pool(&endpoint.key(), endpoint, protocol)
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(None, address.to_string().parse().unwrap())
}

/// The head of an answer to a POST with these fields.
async fn send<B>(
    lease: &mut Lease<B>,
    fields: &[(&'static str, &'static str)],
    body: B,
) -> Result<StatusCode, SendError>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let headers = [("host", "virtual.test")].iter().chain(fields).map(field).collect();
    let target = Uri::from_static("/a?b");
    let head = RequestHead { method: &Method::POST, target: &target, headers: &headers, set: &[] };
    lease.send(head, body, |_, _| {}).await.map(|answer| answer.status())
}

fn full(body: &'static str) -> Outgoing {
    Full::new(Bytes::from_static(body.as_bytes()))
}

async fn ask(lease: &mut Lease<Outgoing>) -> Bytes {
    assert_eq!(send(lease, &[], full("body")).await.unwrap(), StatusCode::OK);
    lease.collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_thousand_cold_callers_open_few_connections_over_http2() {
    let (address, connections) = server(200).await;
    let pool = pool_of(PoolLimits::default(), &endpoint(address), Protocol::Http2);
    let callers = (0..1000).map(|_| async {
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
        assert_eq!(ask(&mut lease).await, "POST http://virtual.test/a?b falsebody");
        lease.give_back(Instant::now());
    });
    join_all(callers).await;
    let opened = connections.load(Ordering::SeqCst);
    assert!((1..=6).contains(&opened), "{opened}");
}

#[tokio::test]
async fn connections_are_bounded_and_who_finds_none_waits_for_a_stream() {
    let (address, connections) = server(2).await;
    let limits = PoolLimits { http2_connections: 2, ..PoolLimits::default() };
    let pool = pool_of(limits, &endpoint(address), Protocol::Http2);
    let mut held = join_all((0..4).map(|_| pool.checkout(Instant::now(), LONG, Room::Wide))).await;
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    let refused = pool.checkout(Instant::now(), Duration::from_millis(20), Room::Wide).await;
    assert!(matches!(refused, Err(CheckoutError::Busy)), "{refused:?}");
    let waiting = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.checkout(Instant::now(), LONG, Room::Wide).await.map(|lease| lease.is_reused()) }
    });
    held.pop().unwrap().unwrap().give_back(Instant::now());
    assert!(waiting.await.unwrap().unwrap());
}

#[tokio::test]
async fn all_who_wait_for_a_connection_share_its_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        }
    });
    let pool = pool_of(PoolLimits::default(), &endpoint(address), Protocol::Http2);
    let outcomes = join_all((0..100).map(|_| pool.checkout(Instant::now(), LONG, Room::Wide))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(CheckoutError::NotHttp2))), "{:?}", outcomes[0]);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_goes_when_it_was_idle_for_too_long_and_takes_no_more_when_it_is_old() {
    let (address, connections) = server(100).await;
    let limits = PoolLimits { idle: Duration::from_millis(50), ..PoolLimits::default() };
    let pool = pool_of(limits, &endpoint(address), Protocol::Http2);
    let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
    ask(&mut lease).await;
    lease.give_back(Instant::now());
    tokio::time::timeout(LONG, async {
        while connections.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let limits = PoolLimits { age: Duration::ZERO, ..PoolLimits::default() };
    for protocol in [Protocol::Http2, Protocol::Http1] {
        let address =
            if protocol == Protocol::Http2 { address } else { http1(b"HTTP/1.1 204 No Content\r\n\r\n").await };
        let pool = pool_of(limits, &endpoint(address), protocol);
        for _ in 0..3 {
            let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
            assert!(!lease.is_reused());
            send(&mut lease, &[], full("body")).await.unwrap();
            lease.frame().await.map(Result::unwrap);
            lease.give_back(Instant::now());
        }
    }
}

/// What was made for little would keep a caller that reads waiting.
#[tokio::test]
async fn a_narrow_connection_stays_with_those_that_may_not_read() {
    let _crowd = crowd();
    for (next, is_kept) in [(Room::Narrow, true), (Room::Wide, false)] {
        let address = http1(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let pool = pool_of(PoolLimits::default(), &endpoint(address), Protocol::Http1);
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Narrow).await.unwrap();
        send(&mut lease, &[], full("")).await.unwrap();
        lease.give_back(Instant::now());
        let lease = pool.checkout(Instant::now(), LONG, next).await.unwrap();
        assert!(lease.is_reused());
        lease.give_back(Instant::now());
        assert_eq!(pool.checkout(Instant::now(), LONG, next).await.unwrap().is_reused(), is_kept, "{next:?}");
    }
}

/// A server that answers every request with these bytes and then echoes; its address.
async fn http1(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(answered(socket, answer));
        }
    });
    address
}

async fn answered(mut socket: TcpStream, answer: &'static [u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"body") {
        let Ok(byte) = socket.read_u8().await else { return };
        request.push(byte);
    }
    socket.write_all(answer).await.unwrap();
    let (mut read, mut write) = socket.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

/// B42: an upgraded connection closes with what it became, and serves no other exchange.
#[tokio::test]
async fn an_upgraded_connection_closes_with_what_it_became_and_never_returns() {
    let address = http1(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    let metrics = Metrics::new();
    let endpoint = endpoint(address);
    let pool = Pools::<Outgoing>::new(PoolLimits::default(), metrics.clone()).pool(
        &endpoint.key(),
        &endpoint,
        Protocol::Http1,
    );
    for _ in 0..2 {
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
        assert!(!lease.is_reused());
        let status = send(&mut lease, &[("connection", "upgrade"), ("upgrade", "echo")], full("")).await.unwrap();
        assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
        let (mut upgraded, early) = lease.into_switched().unwrap();
        assert!(early.is_empty());
        upgraded.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        upgraded.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        assert!(metrics.encode().contains("keybearer_upstream_connections{upstream="), "{}", metrics.encode());
        let open = |count: usize| format!("keybearer_upstream_connections{{upstream=\"{address}\"}} {count}\n");
        assert!(metrics.encode().contains(&open(1)), "{}", metrics.encode());
        drop(upgraded);
        assert!(metrics.encode().contains(&open(0)), "{}", metrics.encode());
    }
}

#[tokio::test]
async fn a_dropped_lease_resets_its_stream_and_leaves_the_connection_to_others() {
    let (address, connections) = server(10).await;
    let endpoint = endpoint(address);
    let pools = Pools::<Endless>::new(PoolLimits::default(), Metrics::new());
    let pool = pools.pool(&endpoint.key(), &endpoint, Protocol::Http2);
    for _ in 0..20 {
        // More than the server allows at once: each is reset before the next.
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
        let sent = tokio::time::timeout(Duration::from_millis(5), send(&mut lease, &[], Endless)).await;
        assert!(sent.is_err(), "the server waits for the body");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// A body that never goes on.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn an_address_that_is_not_admitted_is_no_connection() {
    let (address, connections) = server(10).await;
    let foreign = Endpoint { addresses: Addresses::FOREIGN, ..endpoint(address) };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let outcome =
            pool_of(PoolLimits::default(), &foreign, protocol).checkout(Instant::now(), LONG, Room::Wide).await;
        let Err(CheckoutError::Connect(error)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(*error, ConnectError::Forbidden));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[test]
fn connections_are_shared_by_equal_endpoints_only() {
    let named = |host: &str| Endpoint::new(None, host.parse().unwrap());
    let proxied = |no_proxy: &str, login: Option<&str>| {
        let password = crate::secret::Secret::new("p".to_owned());
        let proxy = HttpProxy::new("proxy.test", 3128, login, Some(&password), vec![no_proxy.to_owned()]);
        Endpoint { http_proxy: Some(Arc::new(proxy)), ..named("api.test") }
    };
    let plain = named("api.test").key();
    assert_eq!(plain, named("API.test:80").key());
    assert_eq!(plain, proxied("api.test", None).key(), "reached without the proxy");
    let others = [
        named("api.test:81"),
        proxied("other.test", None),
        proxied("other.test", Some("me")),
        Endpoint { addresses: Addresses::FOREIGN, ..named("api.test") },
        Endpoint { http: Http::Http2, ..named("api.test") },
    ];
    for (number, endpoint) in others.iter().enumerate() {
        assert_ne!(endpoint.key(), plain, "{endpoint:?}");
        assert!(others.iter().skip(number + 1).all(|other| other.key() != endpoint.key()), "{endpoint:?}");
    }
}

#[test]
fn http2_is_spoken_where_it_is_needed_or_asked_for() {
    for (http, needed, otherwise) in [
        (Http::Auto, Protocol::Http2, Protocol::Http1),
        (Http::Http1, Protocol::Http1, Protocol::Http1),
        (Http::Http2, Protocol::Http2, Protocol::Http2),
    ] {
        let endpoint = Endpoint { http, ..Endpoint::new(None, "a.test".parse().unwrap()) };
        assert_eq!((endpoint.protocol(true), endpoint.protocol(false)), (needed, otherwise));
    }
}

/// A pool of an upstream that answers a request's head with `early`, reads `body` bytes and says the rest; and what was
/// read behind the head.
async fn hasty(
    early: &'static [u8],
    body: usize,
    rest: &'static [u8],
) -> (Arc<Pool<Outgoing>>, oneshot::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, read) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(early).await.unwrap();
        let mut all = vec![0; body];
        let whole = socket.read_exact(&mut all).await.unwrap_or_default();
        socket.write_all(rest).await.unwrap();
        told.send(whole).unwrap();
        // Open until the other side closes.
        let _ = socket.read_u8().await;
    });
    (pool_of(PoolLimits::default(), &endpoint(address), Protocol::Http1), read)
}

/// More than sockets hold.
const LARGE: usize = 16 << 20;

fn large() -> Outgoing {
    Full::new(vec![b'a'; LARGE].into())
}

/// An answer that came before its request was written is no reason to cut the request off: all of it was taken.
#[tokio::test]
async fn a_request_is_written_to_its_end_behind_an_early_answer() {
    for (early, rest) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\n\r\n"),
    ] {
        let (pool, read) = hasty(early.as_bytes(), LARGE, rest.as_bytes()).await;
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
        assert!(send(&mut lease, &[], large()).await.unwrap().is_success());
        lease.detach_request();
        while !lease.is_end_stream() && lease.frame().await.transpose().unwrap().is_some() {}
        lease.give_back(Instant::now());
        assert_eq!(read.await.unwrap(), LARGE, "{early}");
        let again = tokio::time::timeout(LONG, async {
            // It is back as soon as the last byte is written.
            while match &pool.connections {
                super::pool::Connections::Http1(stack) => stack.is_empty(),
                super::pool::Connections::Http2(_) => true,
            } {
                tokio::task::yield_now().await;
            }
            pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap().is_reused()
        });
        assert!(again.await.unwrap(), "{early}");
    }
}

/// A connection that became somebody's own serves nobody else, however its exchange ends.
#[tokio::test]
async fn a_spent_connection_never_returns() {
    for (early, rest) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "0\r\n\r\n"),
    ] {
        let (pool, read) = hasty(early.as_bytes(), LARGE, rest.as_bytes()).await;
        let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
        lease.spend();
        send(&mut lease, &[], large()).await.unwrap();
        lease.detach_request();
        while !lease.is_end_stream() && lease.frame().await.transpose().unwrap().is_some() {}
        lease.give_back(Instant::now());
        read.await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let super::pool::Connections::Http1(stack) = &pool.connections else { panic!("a pool of HTTP/2") };
        assert!(stack.is_empty(), "{early}");
    }
}

/// Nobody may ask for it for an hour, and the server should not have to wait for that.
#[tokio::test]
async fn a_connection_that_its_server_has_closed_is_closed_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"body") {
            socket.read_buf(&mut asked).await.unwrap();
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        tokio::time::Instant::now()
    });
    let limits = PoolLimits { idle: Duration::from_secs(3600), ..PoolLimits::default() };
    let pool = pool_of(limits, &endpoint(address), Protocol::Http1);
    let mut lease = pool.checkout(Instant::now(), LONG, Room::Wide).await.unwrap();
    assert_eq!(ask(&mut lease).await, "ok");
    tokio::time::pause();
    let given_back = tokio::time::Instant::now();
    lease.give_back(Instant::now());
    let closed = serving.await.unwrap();
    assert!(closed - given_back < Duration::from_secs(60), "{:?}", closed - given_back);
}
