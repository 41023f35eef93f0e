//! gRPC calls, from the first frame to the last trailer: the caller and the service are hyper's own HTTP/2, so that every
//! frame that matters is the test's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self as client, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::support::grpc::{Body, Frames, Service};
use crate::support::http::{Connection, request};
use crate::support::proxy::Proxy;
use crate::support::servers::Servers;
use crate::support::{PATIENCE, within};

/// A message of five bytes in gRPC's framing.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// Says again what it hears, piece by piece, and how it went.
async fn echo(mut body: Incoming, says: mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            let _ = says.send(Ok(Frame::data(data)));
        }
    }
    let _ = says.send(Ok(trailers(&[("grpc-status", "0")])));
}

/// An answer with these fields and frames.
fn reply(fields: &[(&'static str, &'static str)], frames: Vec<Frame<Bytes>>) -> Response<Body> {
    let body = StreamBody::new(stream::iter(frames.into_iter().map(Ok)));
    let mut answer = Response::new(BodyExt::boxed(body));
    if fields.iter().any(|(name, _)| *name == "grpc-status") {
        *answer.body_mut() = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
    }
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer.headers_mut().extend(map(fields));
    answer
}

/// An answer whose frames come as they please.
fn streaming(frames: Frames) -> Response<Body> {
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn message() -> Frame<Bytes> {
    Frame::data(Bytes::from_static(MESSAGE))
}

fn trailers(fields: &[(&'static str, &'static str)]) -> Frame<Bytes> {
    Frame::trailers(map(fields))
}

/// A caller over HTTP/2 with prior knowledge.
struct Caller {
    sender: SendRequest<Body>,
    proxy: Proxy,
    _servers: Servers,
    _driving: JoinSet<()>,
}

/// What a call came to.
#[derive(Debug)]
struct Outcome {
    head: http::response::Parts,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Outcome {
    /// `grpc-status`, wherever it stands.
    fn status(&self) -> &str {
        let status = self.head.headers.get("grpc-status").or_else(|| self.trailers.get("grpc-status"));
        status.map_or("", |status| status.to_str().unwrap())
    }
}

impl Caller {
    async fn before(service: &Service, named: &str, external: &str) -> Self {
        let servers = Servers::start().await;
        let url = format!("http://{}", service.address);
        let proxy = crate::support::servers::run(&servers.config(&url, named, external)).await;
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let (sender, connection) =
            client::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            let _ = connection.await;
        });
        Self { sender, proxy, _servers: servers, _driving: driving }
    }

    fn request(&self, path: &str, body: Body) -> Request<Body> {
        let fields = [("content-type", "application/grpc+proto"), ("te", "trailers"), ("x-meta", "1")];
        let mut request = Request::post(format!("http://localhost{path}")).body(body).unwrap();
        *request.headers_mut() = map(&fields);
        request
    }

    async fn send(&mut self, path: &str, body: Body) -> Response<Incoming> {
        let request = self.request(path, body);
        within("the call is answered", PATIENCE, self.sender.send_request(request)).await.unwrap()
    }

    /// Begins a call in which messages go both ways: where to say some, and what comes back.
    async fn chat(&mut self) -> (mpsc::UnboundedSender<std::io::Result<Frame<Bytes>>>, Incoming) {
        let (say, said) = mpsc::unbounded_channel();
        let said: Frames = Box::pin(stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) }));
        let answer = self.send("/orders/a.B/Chat", BodyExt::boxed(StreamBody::new(said))).await;
        (say, answer.into_body())
    }

    async fn call(&mut self, path: &str) -> Outcome {
        let body = Full::new(Bytes::from_static(MESSAGE)).map_err(|never| match never {}).boxed();
        let (head, body) = self.send(path, body).await.into_parts();
        let collected = within("the call ends", PATIENCE, body.collect()).await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Outcome { head, body: collected.to_bytes().to_vec(), trailers }
    }
}

/// B59, B33: message and trailers arrive as they were sent, over HTTP/2 on both sides.
#[tokio::test]
async fn a_call_and_its_trailers_pass() {
    let service = Service::unary(|_, body| {
        assert_eq!(body, MESSAGE);
        reply(&[("x-initial", "a")], vec![message(), trailers(&[("grpc-status", "0"), ("x-trailing", "b")])])
    })
    .await;
    let mut caller = Caller::before(&service, "", "").await;
    let outcome = caller.call("/orders/shop.Orders/Get").await;
    assert_eq!((outcome.head.status.as_u16(), outcome.status(), outcome.body.as_slice()), (200, "0", MESSAGE));
    assert_eq!(
        (&outcome.head.headers["x-initial"], &outcome.trailers["x-trailing"]),
        (&"a".parse().unwrap(), &"b".parse().unwrap())
    );
    let seen = &service.seen()[0];
    assert_eq!((seen.head.version, seen.head.uri.path()), (http::Version::HTTP_2, "/shop.Orders/Get"));
    assert_eq!((seen.field("te"), seen.field("x-meta")), ("trailers", "1"));
    assert!(seen.field("authorization").starts_with("Bearer "));
}

/// B59: what a call says in trailers alone, in its head or right behind it, is a rejection as a 401 is, and the call was
/// not carried out: it is replayed though it is a POST.
#[tokio::test]
async fn an_unauthenticated_call_is_replayed() {
    for in_the_head in [true, false] {
        let service = Service::unary(move |number, body| {
            assert_eq!(body, MESSAGE);
            match (number, in_the_head) {
                (0, true) => reply(&[("grpc-status", "16"), ("grpc-message", "expired")], vec![]),
                (0, false) => reply(&[], vec![trailers(&[("grpc-status", "16")])]),
                _ => reply(&[], vec![message(), trailers(&[("grpc-status", "0")])]),
            }
        })
        .await;
        let mut caller = Caller::before(&service, "", "").await;
        let outcome = caller.call("/orders/a.B/C").await;
        assert_eq!((outcome.status(), outcome.body.as_slice()), ("0", MESSAGE), "{outcome:?}");
        let seen = service.seen();
        assert_eq!(seen.len(), 2);
        assert_ne!(seen[0].field("authorization"), seen[1].field("authorization"));
        assert_eq!(caller.proxy.exchanges(1).await[0]["replayed"], true);
    }
}

/// `refresh_unless` wins, and other outcomes are none of ours.
#[tokio::test]
async fn other_outcomes_pass_as_they_are() {
    let service = Service::unary(|number, _| match number {
        0 => reply(&[("grpc-status", "7"), ("grpc-message", "no")], vec![]),
        1 => reply(&[], vec![trailers(&[("grpc-status", "5"), ("x-kept", "1")])]),
        // After a message has come, nothing is taken back.
        _ => reply(&[], vec![message(), trailers(&[("grpc-status", "16")])]),
    })
    .await;
    let mut caller = Caller::before(&service, "", "").await;
    let outcome = caller.call("/orders/a.B/C").await;
    assert_eq!((outcome.status(), &outcome.head.headers["grpc-message"]), ("7", &"no".parse().unwrap()));
    let outcome = caller.call("/orders/a.B/C").await;
    assert_eq!((outcome.status(), &outcome.trailers["x-kept"]), ("5", &"1".parse().unwrap()));
    let outcome = caller.call("/orders/a.B/C").await;
    assert_eq!((outcome.status(), outcome.body.as_slice()), ("16", MESSAGE));
    assert_eq!(service.seen().len(), 3);

    let service = Service::unary(|_, _| reply(&[("grpc-status", "16"), ("x-reason", "scope")], vec![])).await;
    let unless = "refresh_unless = [{ header_contains = { x-reason = \"scope\" } }]";
    let mut caller = Caller::before(&service, "", unless).await;
    assert_eq!(caller.call("/orders/a.B/C").await.status(), "16");
    assert_eq!(service.seen().len(), 1);
}

/// A service that says again what it hears.
async fn echoing() -> Service {
    Service::start(|_, request| {
        Box::pin(async move {
            let (says, out) = mpsc::unbounded_channel();
            tokio::spawn(echo(request.into_body(), says));
            let out = stream::unfold(out, |mut out| async move { Some((out.recv().await?, out)) });
            streaming(Box::pin(out))
        })
    })
    .await
}

/// Messages go both ways as they come, and the head does not wait for one.
#[tokio::test]
async fn a_call_streams_both_ways() {
    let service = echoing().await;
    let mut caller = Caller::before(&service, "timeouts = { idle = \"200ms\" }", "").await;
    let (say, mut heard) = caller.chat().await;
    for _ in 0..20 {
        say.send(Ok(message())).unwrap();
        let frame = within("an echo", PATIENCE, heard.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), MESSAGE);
    }
    drop(say);
    let frame = within("the outcome", PATIENCE, heard.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0");
}

/// Whoever has nothing to say in a call is not slow, on either side: no limit for bodies counts but `streams.idle`.
#[tokio::test]
async fn a_call_in_which_both_sides_are_quiet_goes_on() {
    let service = echoing().await;
    let tight = "timeouts = { idle = \"200ms\" }\n[limits]\nbody_timeout = \"200ms\"\nbody_rate = \"1MiB\"";
    let mut caller = Caller::before(&service, tight, "").await;
    let (say, mut heard) = caller.chat().await;
    for _ in 0..3 {
        let quiet = tokio::time::timeout(Duration::from_millis(800), heard.frame()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        say.send(Ok(message())).unwrap();
        let frame = within("an echo", PATIENCE, heard.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), MESSAGE);
    }
    assert_eq!(service.seen().len(), 1);
}

/// B59, B29: a call that is cut off ends with a reset, never with a neat end that has no outcome.
#[tokio::test]
async fn a_call_that_is_cut_off_is_reset() {
    let cut = Arc::new(Notify::new());
    let cutting = Arc::clone(&cut);
    let service = Service::start(move |_, _| {
        let cut = Arc::clone(&cutting);
        Box::pin(async {
            let pieces = stream::once(async { Ok(message()) }).chain(stream::once(async move {
                cut.notified().await;
                Err(std::io::Error::other("cut"))
            }));
            streaming(Box::pin(pieces))
        })
    })
    .await;
    let mut caller = Caller::before(&service, "", "").await;
    let body = Full::new(Bytes::from_static(MESSAGE)).map_err(|never| match never {}).boxed();
    let mut heard = caller.send("/orders/a.B/C", body).await.into_body();
    let frame = within("a message", PATIENCE, heard.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), MESSAGE);
    cut.notify_one();
    let ended = within("the call ends", PATIENCE, heard.frame()).await;
    assert!(ended.as_ref().is_some_and(Result::is_err), "{ended:?}");
    assert_eq!(caller.proxy.exchanges(1).await[0]["error"], "http_response_incomplete");
}

/// Our own failures are trailers alone, with a status of gRPC's.
#[tokio::test]
async fn our_failures_speak_grpc() {
    let service = Service::unary(|_, _| reply(&[("grpc-status", "0")], vec![])).await;
    let named = "match = { path = \"/orders\", methods = [\"POST\"] }\ncallers = [\"billing\"]\n\
                 [callers.billing]\nnetworks = [\"192.0.2.0/24\"]\n[named_credentials.off]\nurl = \"http://localhost\"\n\
                 enabled = false\nexternal_credential = \"issuer\"";
    let mut caller = Caller::before(&service, named, "").await;
    for (path, status, error) in [
        ("/nobody/a.B/C", "12", "destination_not_found"),
        ("/orders/a.B/C", "7", "http_request_denied"),
        ("/off/a.B/C", "14", "destination_unavailable"),
    ] {
        let outcome = caller.call(path).await;
        assert_eq!((outcome.head.status.as_u16(), outcome.status()), (200, status), "{path}: {outcome:?}");
        let field = |name: &str| outcome.head.headers[name].to_str().unwrap();
        assert_eq!(field("content-type"), "application/grpc");
        assert!(field("proxy-status").starts_with(&format!("keybearer; error={error}")), "{outcome:?}");
        assert!(!field("grpc-message").is_empty() && !field("x-request-id").is_empty());
        assert!(outcome.trailers.is_empty() && outcome.body.is_empty());
    }
    assert!(service.seen().is_empty());
    let log = caller.proxy.exchanges(3).await;
    assert_eq!((&log[0]["status"], &log[0]["error"]), (&200.into(), &"destination_not_found".into()));
}

/// B59: gRPC from HTTP/1 is refused clearly; gRPC-Web is another protocol, and passes.
#[tokio::test]
async fn grpc_needs_http_2() {
    let service = Service::unary(|_, _| reply(&[("grpc-status", "0")], vec![])).await;
    let caller = Caller::before(&service, "http = \"2\"", "").await;
    let mut old = Connection::open(caller.proxy.address).await.unwrap();
    let call = request("POST", "/orders/a.B/C", &[("Content-Type", "application/grpc"), ("TE", "trailers")], MESSAGE);
    let answer = old.exchange(&call).await.unwrap();
    answer.assert_problem(505, "gRPC over HTTP/1.1");
    assert_eq!(answer.json()["detail"], "gRPC needs HTTP/2");
    assert!(service.seen().is_empty());
    let mut old = Connection::open(caller.proxy.address).await.unwrap();
    let call = request("POST", "/orders/a.B/C", &[("Content-Type", "application/grpc-web+proto")], MESSAGE);
    assert_eq!(old.exchange(&call).await.unwrap().status, 200);
    assert_eq!(service.seen().len(), 1);
}
