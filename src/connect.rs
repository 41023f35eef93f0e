//! Dialling: one deadline over DNS, TCP, a tunnel through a proxy, and TLS.
//!
//! TCP and the race between address families (RFC 8305) are hyper-util's; what is ours is the deadline, the names of
//! the failures, and a stream that is plain or TLS. `http_proxy` is the proxy as configured, `tunnel` the `CONNECT` to
//! it. Pools and HTTP are built on top, elsewhere.

use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

pub use self::addresses::Addresses;
pub use self::http_proxy::HttpProxy;
use crate::tls::Profile;

mod addresses;
mod http_proxy;
mod tunnel;

/// Why there is no connection. The texts leave out host names; the causes in `source()` are for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve, or is no name.
    #[error("the host name does not resolve")]
    Dns(#[source] io::Error),
    /// No address accepted the connection.
    #[error("the host cannot be reached")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The TLS handshake failed: an untrusted certificate, another name, no common version.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The deadline passed.
    #[error("connecting took too long")]
    Timeout,
    /// The proxy on the way out cannot be reached; why is in the cause.
    #[error("the proxy cannot be reached")]
    ProxyUnreached(#[source] Box<ConnectError>),
    /// The proxy on the way out answered, and not with a tunnel; 407 where it wants (other) credentials.
    #[error("the proxy refused the connection with status {status}")]
    Proxy {
        /// The status.
        status: u16,
    },
    /// What the proxy answered to `CONNECT` is no HTTP, or its head is too long.
    #[error("the proxy's answer is broken")]
    ProxyAnswer(#[source] hyper::Error),
    /// Bytes came through the tunnel before we had sent any.
    #[error("the proxy spoke in place of the host")]
    ProxySpoke,
}

/// Connects to `host` (a name, an IPv4 address, or an IPv6 address with or without brackets) and speaks TLS when
/// `tls` is given. `within` bounds all of it together.
///
/// # Errors
/// [`ConnectError`]
pub async fn dial(host: &str, port: u16, tls: Option<&Profile>, within: Duration) -> Result<Stream, ConnectError> {
    tokio::time::timeout(within, open(host, port, tls, within)).await.unwrap_or(Err(ConnectError::Timeout))
}

/// As [`dial`] with TLS, through a tunnel of `proxy`; the host's name is resolved by the proxy alone. Whether the way
/// leads through it is for the caller to ask ([`HttpProxy::serves`]).
///
/// # Errors
/// [`ConnectError`]
pub async fn dial_through(
    proxy: &HttpProxy,
    host: &str,
    port: u16,
    tls: &Profile,
    within: Duration,
) -> Result<Stream, ConnectError> {
    let opening = async {
        let host = without_brackets(host);
        let name = server_name(host)?;
        let target = authority(host, port).parse().map_err(|_| no_host())?;
        let tcp = open_proxy(proxy, within).await?;
        secure(tunnel::open(tcp, proxy, target).await?, name, tls).await
    };
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::Timeout))
}

/// A plain connection to `proxy` itself, for requests in absolute-form.
///
/// # Errors
/// [`ConnectError`]
pub async fn dial_proxy(proxy: &HttpProxy, within: Duration) -> Result<Stream, ConnectError> {
    tokio::time::timeout(within, open_proxy(proxy, within)).await.unwrap_or(Err(ConnectError::Timeout)).map(Stream::Tcp)
}

/// The addresses of `host`, without connecting: for the commands that explain a failure.
///
/// # Errors
/// [`ConnectError::Dns`] or [`ConnectError::Timeout`]
pub async fn resolve(host: &str, within: Duration) -> Result<Vec<IpAddr>, ConnectError> {
    let found = tokio::time::timeout(within, tokio::net::lookup_host((without_brackets(host), 0)));
    let found = found.await.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Dns)?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() { Err(ConnectError::Dns(io::Error::from(io::ErrorKind::NotFound))) } else { Ok(addresses) }
}

async fn open(host: &str, port: u16, tls: Option<&Profile>, within: Duration) -> Result<Stream, ConnectError> {
    let host = without_brackets(host);
    let Some(tls) = tls else { return open_tcp(host, port, within).await.map(Stream::Tcp) };
    let name = server_name(host)?;
    secure(open_tcp(host, port, within).await?, name, tls).await
}

async fn open_proxy(proxy: &HttpProxy, within: Duration) -> Result<TcpStream, ConnectError> {
    match open_tcp(without_brackets(&proxy.host), proxy.port, within).await {
        Err(error) if !matches!(error, ConnectError::Timeout) => Err(ConnectError::ProxyUnreached(Box::new(error))),
        reached => reached,
    }
}

async fn secure(tcp: TcpStream, name: ServerName<'static>, tls: &Profile) -> Result<Stream, ConnectError> {
    let stream = TlsConnector::from(tls.config()).connect(name, tcp).await.map_err(ConnectError::Tls)?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Whether `host` is this machine: `localhost`, or a loopback address with or without brackets. No name is resolved.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || without_brackets(host).parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(host.to_owned()).map_err(|_| no_host())
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn open_tcp(host: &str, port: u16, within: Duration) -> Result<TcpStream, ConnectError> {
    let target = Uri::builder().scheme("http").authority(authority(host, port)).path_and_query("/").build();
    let target = target.map_err(|_| no_host())?;
    let mut connector = HttpConnector::new_with_resolver(Resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    // The connector divides this among a host's addresses, so that one dead address leaves time for the next.
    connector.set_connect_timeout(Some(within));
    match connector.call(target).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => Err(classify(error.into())),
    }
}

fn no_host() -> ConnectError {
    ConnectError::Dns(io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))
}

/// The connector's own error type is private: what happened is told by the causes inside.
fn classify(error: Box<dyn Error + Send + Sync>) -> ConnectError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(current) = cause {
        if let Some(Unresolved(inner)) = current.downcast_ref() {
            return ConnectError::Dns(io::Error::new(inner.kind(), inner.to_string()));
        }
        if current.downcast_ref::<io::Error>().is_some_and(|inner| inner.kind() == io::ErrorKind::TimedOut) {
            return ConnectError::Timeout;
        }
        cause = current.source();
    }
    ConnectError::Refused(error)
}

/// `getaddrinfo` on tokio's blocking threads; ours only so that its failures can be told from a refused connection.
#[derive(Clone, Debug)]
struct Resolver;

#[derive(Debug, thiserror::Error)]
#[error("the resolver failed")]
struct Unresolved(#[source] io::Error);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let addresses: Vec<_> = found.collect();
            if addresses.is_empty() {
                return Err(Unresolved(io::Error::new(io::ErrorKind::NotFound, "no address")));
            }
            Ok(addresses.into_iter())
        })
    }
}

/// A connection to an upstream or token endpoint.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP; boxed, because it is twenty times larger.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The version of TLS that is spoken, as in `TLSv1_3`; none on plain TCP.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.get_ref().1.protocol_version()?.as_str(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, dial};
    use crate::tls::{Profile, Settings};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_plain_connection_carries_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut ours = dial("localhost", port, None, LONG).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        ours.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
    }

    #[tokio::test]
    async fn an_ipv6_literal_is_dialled_with_or_without_brackets() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else {
            return; // no IPv6 on this machine
        };
        let port = listener.local_addr().unwrap().port();
        for host in ["::1", "[::1]"] {
            dial(host, port, None, LONG).await.unwrap();
        }
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(matches!(dial("127.0.0.1", port, None, LONG).await, Err(ConnectError::Refused(_))));
        assert!(matches!(dial("name.invalid", port, None, LONG).await, Err(ConnectError::Dns(_))));
        assert!(matches!(dial("not a name", port, None, LONG).await, Err(ConnectError::Dns(_))));
    }

    #[tokio::test]
    async fn the_deadline_covers_a_silent_tls_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let profile = Profile::trusting_nobody().unwrap();
        let dialled = dial("127.0.0.1", port, Some(&profile), Duration::from_millis(50)).await;
        assert!(matches!(dialled, Err(ConnectError::Timeout)));
    }

    /// C8: TLS trusts the named CA and no other.
    #[tokio::test]
    async fn tls_trusts_the_named_ca_and_no_other() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, made.cert.pem()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(greet(listener, acceptor));
        let trusting = Profile::load(&Settings { ca: Some(ca), identity: None }).unwrap();
        let mut stream = dial("localhost", port, Some(&trusting), LONG).await.unwrap();
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "hello");
        let nobody = Profile::trusting_nobody().unwrap();
        assert!(matches!(dial("localhost", port, Some(&nobody), LONG).await, Err(ConnectError::Tls(_))));
        assert!(matches!(dial("127.0.0.1", port, Some(&trusting), LONG).await, Err(ConnectError::Tls(_))));
        serving.abort();
    }

    /// Says hello to whoever completes the handshake.
    async fn greet(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let _ = stream.write_all(b"hello").await;
            let _ = stream.shutdown().await;
        }
    }
}
