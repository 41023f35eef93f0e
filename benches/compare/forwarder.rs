//! An empty forwarder: what hyper, tokio and rustls alone cost. `forwarder PORT UPSTREAM_PORT TOKEN [CA_FILE]`
//!
//! One current-thread runtime, a stack of idle upstream connections, one fixed authorization field, HTTP/1.1 on both
//! sides, with a CA file TLS to the upstream. It does nothing else: no matching, judging, cleaning, limits, timeouts,
//! metrics, log, drain. `benches/compare/run.py` runs it beside keybearer.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, upstream_port, token, authority) = match arguments.as_slice() {
        [port, upstream_port, token] => (port, upstream_port, token, None),
        [port, upstream_port, token, authority] => (port, upstream_port, token, Some(authority)),
        _ => {
            eprintln!("forwarder: expected PORT UPSTREAM_PORT TOKEN [CA_FILE]; benches/compare/run.py runs it");
            return ExitCode::FAILURE;
        }
    };
    match run(port, upstream_port, token, authority.map(String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: &str, upstream_port: &str, token: &str, authority: Option<&str>) -> Result<(), Failed> {
    let upstream = Arc::new(Upstream {
        address: (Ipv4Addr::LOCALHOST, upstream_port.parse()?).into(),
        tls: authority.map(connector).transpose()?,
        authorization: HeaderValue::from_str(&format!("Bearer {token}"))?,
        host: HeaderValue::from_static("localhost"),
        idle: Mutex::default(),
    });
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(listen, upstream))
}

/// TLS as keybearer has it: one provider, one protocol, the authorities of one file.
fn connector(authority: &str) -> Result<TlsConnector, Failed> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn serve(listen: SocketAddr, upstream: Arc<Upstream>) -> Result<(), Failed> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let upstream = Arc::clone(&upstream);
        let forward = service_fn(move |request| Arc::clone(&upstream).forward(request));
        tokio::spawn(async move {
            // A caller that goes away in the middle is no matter here; the load counts what it was not answered.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), forward).await;
        });
    }
}

/// The other side, and the connections to it that nobody uses at the moment.
struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    authorization: HeaderValue,
    host: HeaderValue,
    idle: Mutex<Vec<SendRequest<Incoming>>>,
}

impl Upstream {
    async fn forward(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Returning>, Failed> {
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().remove(http::header::CONNECTION);
        loop {
            let mut sender = self.connection().await?;
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok(answer.map(|body| Returning { body, link: Some((sender, self)) })),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(failed.into_error().into()),
                },
            }
        }
    }

    /// The connection used last that is still good, or a new one.
    async fn connection(&self) -> Result<SendRequest<Incoming>, Failed> {
        loop {
            let idle = self.idle.lock().pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => shake_hands(socket).await,
            Some(tls) => shake_hands(tls.connect(ServerName::try_from("localhost")?, socket).await?).await,
        }
    }
}

async fn shake_hands<S>(stream: S) -> Result<SendRequest<Incoming>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// An answer's body that gives its connection back once it is read to the end.
struct Returning {
    body: Incoming,
    link: Option<(SendRequest<Incoming>, Arc<Upstream>)>,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(context)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some((sender, upstream)) = self.link.take().filter(|_| self.body.is_end_stream()) {
            upstream.idle.lock().push(sender);
        }
    }
}
