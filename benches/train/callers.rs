//! Callers: each has a connection to the program, asks over it, and knows what the answer has to be.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Failed, Spoken, origin};

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// The small answer.
    Small,
    /// So many bytes.
    Sized(usize),
    /// So many, in chunks.
    Chunked(usize),
    /// So many, and as many are sent.
    Posted(usize),
    /// The small answer, and that its token is no good any more.
    Revoke,
}

impl Asked {
    /// Of the API that speaks so.
    pub(crate) fn path(self, to: Spoken) -> String {
        let name = to.name();
        match self {
            Self::Small => format!("/{name}/orders/42?fields=id,name,email"),
            Self::Sized(size) => format!("/{name}/bytes/{size}"),
            Self::Chunked(size) => format!("/{name}/chunks/{size}"),
            Self::Posted(size) => format!("/{name}/posted/{size}"),
            Self::Revoke => format!("/{name}/revoke"),
        }
    }

    /// Bytes that are sent.
    fn sent(self) -> usize {
        if let Self::Posted(size) = self { size } else { 0 }
    }

    /// Bytes that have to come.
    fn expected(self) -> usize {
        match self {
            Self::Small | Self::Revoke => origin::SMALL.len(),
            Self::Sized(size) | Self::Chunked(size) | Self::Posted(size) => size,
        }
    }
}

/// A caller with its connection.
pub(crate) struct Caller {
    sender: Sender,
    authority: String,
    scheme: &'static str,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    /// Connects to the program's listener at `port`.
    pub(crate) async fn connect(spoken: Spoken, port: u16, trust: &Arc<RootCertStore>) -> Result<Self, Failed> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let sender = if spoken.is_secure {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(Arc::clone(trust))
                .with_no_client_auth();
            config.alpn_protocols = vec![spoken.alpn().to_vec()];
            let name = ServerName::try_from("localhost")?;
            Sender::over(TlsConnector::from(Arc::new(config)).connect(name, socket).await?, spoken).await?
        } else {
            Sender::over(socket, spoken).await?
        };
        Ok(Self { sender, authority: format!("localhost:{port}"), scheme: spoken.scheme() })
    }

    /// Asks, and checks the answer.
    pub(crate) async fn ask(&mut self, path: &str, asked: Asked) -> Result<(), Failed> {
        let sent = asked.sent();
        let method = if sent > 0 { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(method)
            .header("user-agent", "python-requests/2.32.3")
            .header("accept", "application/json")
            .header("accept-encoding", "gzip, deflate, br")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        if sent > 0 {
            request = request.header(CONTENT_TYPE, "application/octet-stream");
        }
        let body = Full::new(Bytes::from(vec![b'x'; sent]));
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                let mut request = request.uri(path).body(body)?;
                request.headers_mut().insert(HOST, HeaderValue::from_str(&self.authority)?);
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                let uri = format!("{}://{}{path}", self.scheme, self.authority);
                sender.ready().await?;
                sender.send_request(request.uri(uri).body(body)?).await?
            }
        };
        let status = answer.status();
        let length = answer.into_body().collect().await?.to_bytes().len();
        if status != StatusCode::OK || length != asked.expected() {
            return Err(format!("the answer was {status} with {length} bytes").into());
        }
        Ok(())
    }
}

impl Sender {
    async fn over<IO>(io: IO, spoken: Spoken) -> Result<Self, Failed>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(io);
        // Either ends with its sender.
        if spoken.is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(Self::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(Self::Http1(sender))
        }
    }
}
