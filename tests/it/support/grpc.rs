//! A gRPC service whose every frame is the test's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a body consists of.
pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync>>;
/// A body of either side.
pub(crate) type Body = BoxBody<Bytes, std::io::Error>;
/// An answer to come.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A request as the service saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: Arc<http::request::Parts>,
}

impl Seen {
    /// The value of a field; empty where there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A service over HTTP/2 with prior knowledge; ends when dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _accepting: JoinSet<()>,
}

impl Service {
    /// Answers as `answer` says, which is told how many calls came before.
    pub(crate) async fn start(answer: impl Fn(usize, Request<Incoming>) -> Answering + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&seen), Arc::new(answer));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&kept), Arc::clone(&answer)));
            }
        });
        Self { address, seen, _accepting: accepting }
    }

    /// Reads every request whole, then answers with what `answer` says.
    pub(crate) async fn unary(answer: impl Fn(usize, Bytes) -> Response<Body> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |number, request| {
            let answer = Arc::clone(&answer);
            Box::pin(async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                answer(number, body)
            })
        })
        .await
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Serves one connection of the proxy.
async fn serve(
    stream: TcpStream,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Arc<impl Fn(usize, Request<Incoming>) -> Answering + Send + Sync + 'static>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let mut seen = seen.lock().unwrap();
        seen.push(Seen { head: Arc::new(parts.clone()) });
        let answering = answer(seen.len() - 1, Request::from_parts(parts, body));
        async { Ok::<_, Infallible>(answering.await) }
    });
    let _ = server::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}
