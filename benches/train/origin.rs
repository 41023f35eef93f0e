//! The APIs that are asked through the program, with their token endpoint at `/token`: one for each way of speaking.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{Failed, Spoken};

/// How long an access token is: that of a usual JWT.
const TOKEN_LENGTH: usize = 800;

/// Bytes of a chunk.
const CHUNK: usize = 1024;

/// What stands for a small answer.
pub(crate) const SMALL: &[u8] = b"{\"id\":42,\"name\":\"Ada Lovelace\",\"email\":\"ada@example.com\"}\n";

/// The APIs. They live as long as the runtime.
pub(crate) struct Origin {
    ports: [u16; 4],
    trust: Arc<RootCertStore>,
}

/// What the APIs share.
#[derive(Default)]
struct Issued {
    /// The number of the one token that is good.
    token: AtomicUsize,
}

impl Origin {
    /// Starts them all, and writes their certificate and its key to `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failed> {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(folder.join("certificate.pem"), issued.cert.pem())?;
        std::fs::write(folder.join("key.pem"), issued.signing_key.serialize_pem())?;
        let mut trust = RootCertStore::empty();
        trust.add(issued.cert.der().clone())?;
        let tokens = Arc::new(Issued::default());
        let mut ports = [0; 4];
        for (port, spoken) in ports.iter_mut().zip(Spoken::ALL) {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            *port = listener.local_addr()?.port();
            let tls = if spoken.is_secure { Some(acceptor(folder, spoken)?) } else { None };
            tokio::spawn(accept(listener, spoken, tls, Arc::clone(&tokens)));
        }
        Ok(Self { ports, trust: Arc::new(trust) })
    }

    /// Where the one is that speaks so.
    pub(crate) fn port(&self, spoken: Spoken) -> u16 {
        Spoken::ALL.iter().zip(self.ports).find(|(each, _)| **each == spoken).map_or(0, |(_, port)| port)
    }

    /// What to trust: the certificate is the program's too.
    pub(crate) fn trust(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.trust)
    }
}

fn acceptor(folder: &Path, spoken: Spoken) -> Result<TlsAcceptor, Failed> {
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![spoken.alpn().to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: tokio::net::TcpListener, spoken: Spoken, tls: Option<TlsAcceptor>, issued: Arc<Issued>) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let (tls, issued) = (tls.clone(), Arc::clone(&issued));
        // A connection that ends, ends: whether every request was answered is for the callers to judge.
        tokio::spawn(async move {
            match tls {
                None => serve(socket, spoken, issued).await,
                Some(tls) => serve(tls.accept(socket).await?, spoken, issued).await,
            }
        });
    }
}

async fn serve<IO>(io: IO, spoken: Spoken, issued: Arc<Issued>) -> Result<(), Failed>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let issued = Arc::clone(&issued);
        async move { Ok::<_, Infallible>(issued.answer(request).await) }
    });
    let io = TokioIo::new(io);
    if spoken.is_http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await?;
    } else {
        http1::Builder::new().serve_connection(io, service).await?;
    }
    Ok(())
}

type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

impl Issued {
    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return Response::new(full(""));
        };
        if parts.uri.path() == "/token" {
            let token = token(self.token.fetch_add(1, Ordering::Relaxed) + 1);
            let mut answer = Response::new(full(format!(
                "{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}"
            )));
            answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            return answer;
        }
        let sent = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let good = format!("Bearer {}", token(self.token.load(Ordering::Relaxed)));
        let mut path = parts.uri.path().trim_start_matches("/v1/").split('/');
        let (what, size) = (path.next().unwrap_or_default(), path.next().and_then(|size| size.parse().ok()));
        if !sent.eq_ignore_ascii_case(&good) {
            let mut refusal = Response::new(full(""));
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = http::HeaderValue::from_static("Bearer error=\"invalid_token\"");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return refusal;
        }
        if what == "revoke" {
            // No token is good until the next is minted.
            self.token.fetch_add(1, Ordering::Relaxed);
        }
        let content = match (what, size) {
            ("bytes", Some(size)) => full(vec![b'x'; size]),
            ("chunks", Some(size)) => chunks(size),
            ("posted", _) => full(body),
            _ => full(SMALL),
        };
        let answer = Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .header("cache-control", "private, no-cache")
            .header("etag", "\"5f1b-61a\"")
            .header("server", "origin");
        answer.body(content).unwrap_or_default()
    }
}

fn token(number: usize) -> String {
    let name = format!("token-{number}-");
    format!("{name}{}", "x".repeat(TOKEN_LENGTH - name.len()))
}

fn full(content: impl Into<Bytes>) -> AnswerBody {
    Full::new(content.into()).boxed_unsync()
}

/// Content whose length is not said before.
fn chunks(size: usize) -> AnswerBody {
    let chunk = Bytes::from_static(&[b'x'; CHUNK]);
    let frames = (0..size / CHUNK).map(move |_| Ok(Frame::data(chunk.clone())));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// Ports that nobody uses now; all are held until all are known.
pub(crate) fn free_ports() -> io::Result<[u16; 3]> {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, held) in ports.iter_mut().zip(held) {
        *port = held?.local_addr()?.port();
    }
    Ok(ports)
}
