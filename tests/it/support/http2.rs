//! An upstream that speaks HTTP/2, plain or within TLS, and keeps what it is asked.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::certificates::Identity;
use super::{PATIENCE, within};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Its head.
    pub(crate) head: Arc<http::request::Parts>,
    /// Its body, as far as it came before the answer.
    pub(crate) body: Bytes,
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
}

/// What to say to a request.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// 200 with the request's body.
    Echo,
    /// This status, without waiting for the request's body.
    Status(u16),
    /// RST_STREAM with this reason, without waiting for the body.
    Reset(h2::Reason),
    /// Nothing, for ever.
    Nothing,
    /// The end of the connection.
    Die,
}

impl Received {
    /// The value of a field, when there is exactly one.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.head.headers.get_all(name).iter().collect();
        assert!(values.len() < 2, "more than one {name} in {:?}", self.head);
        values.first().map(|value| value.to_str().unwrap())
    }
}

/// What is told to say, request by request.
type Answer = Box<dyn FnMut(&Received) -> Say + Send>;

/// A running upstream; ends when dropped.
pub(crate) struct Http2 {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    seen: watch::Sender<Seen>,
    answer: Mutex<Answer>,
    /// Counts calls for the end of all connections there are.
    leaving: watch::Sender<usize>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Received>,
    connections: usize,
    /// Connections that ended before HTTP was spoken.
    failed: usize,
    /// Requests whose stream was reset while nothing was said.
    reset: usize,
}

impl Http2 {
    /// With prior knowledge: at most `streams` at once, and says to each request what `answer` says.
    pub(crate) async fn start(streams: u32, answer: impl FnMut(&Received) -> Say + Send + 'static) -> Self {
        Self::listen(streams, None, Box::new(answer)).await
    }

    /// Within TLS, where nothing but `h2` is spoken.
    pub(crate) async fn with_tls(identity: &Identity, answer: impl FnMut(&Received) -> Say + Send + 'static) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::listen(100, Some(TlsAcceptor::from(Arc::new(config))), Box::new(answer)).await
    }

    async fn listen(streams: u32, tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Mutex::new(answer);
        let shared = Arc::new(Shared { seen: watch::Sender::default(), answer, leaving: watch::Sender::default() });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tls, streams, Arc::clone(&shared)));
        Self { address, shared, _accepting: accepting }
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.seen.borrow().requests.clone()
    }

    /// How many connections were opened on which HTTP could be spoken.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.borrow().connections
    }

    /// How many handshakes failed.
    pub(crate) fn failed(&self) -> usize {
        self.shared.seen.borrow().failed
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn received(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        within("requests come", PATIENCE, seen.wait_for(|seen| seen.requests.len() >= count)).await.unwrap();
    }

    /// Waits until `count` requests to which nothing is said were given up.
    pub(crate) async fn reset(&self, count: usize) {
        let mut seen = self.shared.seen.subscribe();
        within("streams are reset", PATIENCE, seen.wait_for(|seen| seen.reset >= count)).await.unwrap();
    }

    /// Sends GOAWAY on every connection there is; what is on them goes on.
    pub(crate) fn leave(&self) {
        self.shared.leaving.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, streams: u32, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => serve(socket, streams, shared).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(stream) => serve(stream, streams, shared).await,
                    Err(_) => shared.seen.send_modify(|seen| seen.failed += 1),
                },
            }
        });
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, streams: u32, shared: Arc<Shared>) {
    let mut number = 0;
    shared.seen.send_modify(|seen| {
        number = seen.connections;
        seen.connections += 1;
    });
    let dying = watch::Sender::new(false);
    let mut dead = dying.subscribe();
    let mut leaving = shared.leaving.subscribe();
    let service = service_fn(|request| respond(request, number, Arc::clone(&shared), dying.clone()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            // The peer may have broken it off; there is nothing to say about it here.
            _ = connection.as_mut() => return,
            _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
            _ = dead.changed() => return,
        }
    }
}

/// Counts a request that was given up.
struct GivenUp(Arc<Shared>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| seen.reset += 1);
    }
}

async fn respond(
    request: Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
    dying: watch::Sender<bool>,
) -> Result<Response<Full<Bytes>>, h2::Error> {
    let (head, body) = request.into_parts();
    let mut received = Received { head: Arc::new(head), body: Bytes::new(), connection };
    let say = shared.answer.lock().unwrap()(&received);
    if matches!(say, Say::Echo) {
        received.body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    }
    let echo = received.body.clone();
    shared.seen.send_modify(|seen| seen.requests.push(received));
    match say {
        Say::Echo => Ok(Response::new(Full::new(echo))),
        Say::Status(status) => Ok(Response::builder().status(status).body(Full::default()).unwrap()),
        Say::Reset(reason) => Err(h2::Error::from(reason)),
        Say::Nothing => {
            let _given_up = GivenUp(shared);
            Ok::<_, Infallible>(std::future::pending().await).map_err(|never| match never {})
        }
        Say::Die => {
            dying.send_replace(true);
            std::future::pending().await
        }
    }
}
