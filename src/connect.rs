//! Dialling: one deadline over DNS, TCP, a tunnel through a proxy, and TLS; and no further than where it is allowed.
//!
//! TCP and the race between address families (RFC 8305) are hyper-util's (`tcp`); what is ours is the deadline, the
//! names of the failures, how names are looked up (`lookup`), which addresses are admitted (`addresses`), and a stream
//! that is plain or TLS (`stream`).
//! `http_proxy` is the proxy as configured, `environment` the one that the environment names, `route` whether the way
//! leads through one, `tunnel` the `CONNECT` to it. Pools and HTTP are built on top, elsewhere.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use self::addresses::Addresses;
pub use self::environment::{EnvironmentError, HttpProxies};
pub use self::http_proxy::HttpProxy;
pub use self::lookup::NamedBy;
pub use self::route::Route;
pub use self::stream::Stream;
use crate::tls::{self, Alpn, Profile};

mod addresses;
mod environment;
mod http_proxy;
mod lookup;
mod route;
mod stream;
mod tcp;
mod tunnel;

/// Why there is no connection. The texts leave out host names; the causes in `source()` are for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve, or is no name.
    #[error("the host name does not resolve")]
    Dns(#[source] io::Error),
    /// It leads to an address that is not admitted ([`Addresses`]).
    #[error("the host's address is not allowed")]
    Forbidden,
    /// No address accepted the connection.
    #[error("the host cannot be reached")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// The TLS handshake failed: an untrusted certificate, another name, no common version.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The host speaks TLS, and not the version of HTTP that was offered within it.
    #[error("the host does not speak the version of HTTP that was offered")]
    OtherProtocol,
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

/// Where a connection is to lead, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// A name, an IPv4 address, or an IPv6 address with or without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// With TLS: whom to trust, what to show, and which protocol to offer.
    pub tls: Option<(&'a Profile, Alpn)>,
    /// To which addresses it may lead.
    pub addresses: Addresses,
    /// Who named it: names of others are looked up a few at a time.
    pub named_by: NamedBy,
    /// After this long without an acknowledgement of what was sent the connection counts as dead, where the system can
    /// do that (`TCP_USER_TIMEOUT`). A peer that takes its time to read counts as dead too.
    pub dead_after: Option<Duration>,
    /// How many bytes of what comes the system is to hold at most, about; none: as many as it sees fit, which it finds
    /// out by itself.
    pub held_at_most: Option<u32>,
}

impl<'a> Destination<'a> {
    fn host(&self) -> &'a str {
        without_brackets(self.host)
    }
}

/// Connects to `destination`, directly. `within` bounds all of it together.
///
/// # Errors
/// [`ConnectError`]
pub async fn dial(destination: &Destination<'_>, within: Duration) -> Result<Stream, ConnectError> {
    let opening = async {
        let name = server_name(destination)?;
        secure(tcp::open(destination, within).await?, name, destination).await
    };
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::Timeout))
}

/// As [`dial`], through a tunnel of `proxy`. A name is resolved by the proxy alone, so only an address that is written
/// as one can be judged. Whether the way leads through it is for the caller to ask ([`Route`]).
///
/// # Errors
/// [`ConnectError`]
pub async fn dial_through(
    proxy: &HttpProxy,
    destination: &Destination<'_>,
    within: Duration,
) -> Result<Stream, ConnectError> {
    let opening = async {
        let name = server_name(destination)?;
        let (tcp, early) = tunnelled(proxy, destination, within).await?;
        // The client speaks first: what has arrived already is not from the target.
        if !early.is_empty() {
            return Err(ConnectError::ProxySpoke);
        }
        secure(tcp, name, destination).await
    };
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::Timeout))
}

/// A plain connection to `destination` for bytes that nobody here reads, through a tunnel of `proxy` where the way leads
/// through it; and what has come already, for there the other side may speak first.
///
/// # Errors
/// [`ConnectError`]
pub async fn open_unread(
    destination: &Destination<'_>,
    proxy: Option<&HttpProxy>,
    within: Duration,
) -> Result<(Stream, Bytes), ConnectError> {
    match Route::to(destination, proxy) {
        Route::Direct => dial(destination, within).await.map(|stream| (stream, Bytes::new())),
        Route::Tunnel(proxy) | Route::InTheOpen(proxy) => {
            let opening = tunnelled(proxy, destination, within);
            let opened = tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::Timeout));
            opened.map(|(tcp, early)| (Stream::Tcp(tcp), early))
        }
    }
}

/// A plain connection to `proxy` itself, for requests to `destination` in absolute-form.
///
/// # Errors
/// [`ConnectError`]
pub async fn dial_proxy(
    proxy: &HttpProxy,
    destination: &Destination<'_>,
    within: Duration,
) -> Result<Stream, ConnectError> {
    judge_literal(destination)?;
    let opening = open_proxy(proxy, destination, within);
    tokio::time::timeout(within, opening).await.unwrap_or(Err(ConnectError::Timeout)).map(Stream::Tcp)
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

/// A tunnel of `proxy`, and what has come through it already.
async fn tunnelled(
    proxy: &HttpProxy,
    destination: &Destination<'_>,
    within: Duration,
) -> Result<(TcpStream, Bytes), ConnectError> {
    judge_literal(destination)?;
    let target = authority(destination.host(), destination.port).parse().map_err(|_| no_host())?;
    tunnel::open(open_proxy(proxy, destination, within).await?, proxy, target).await
}

/// A connection to the proxy. The configuration names it, so it may be in a private network wherever it leads to.
async fn open_proxy(
    proxy: &HttpProxy,
    destination: &Destination<'_>,
    within: Duration,
) -> Result<TcpStream, ConnectError> {
    let addresses = Addresses { private: true, ..destination.addresses };
    let named_by = NamedBy::Configuration;
    let proxy = Destination { host: &proxy.host, port: proxy.port, tls: None, addresses, named_by, ..*destination };
    match tcp::open(&proxy, within).await {
        Err(error) if !matches!(error, ConnectError::Timeout) => Err(ConnectError::ProxyUnreached(Box::new(error))),
        reached => reached,
    }
}

async fn secure(
    tcp: TcpStream,
    name: Option<ServerName<'static>>,
    destination: &Destination<'_>,
) -> Result<Stream, ConnectError> {
    let (Some((profile, alpn)), Some(name)) = (destination.tls, name) else { return Ok(Stream::Tcp(tcp)) };
    let stream = TlsConnector::from(profile.config(alpn)).connect(name, tcp).await.map_err(|error| {
        if tls::speaks_another_protocol(&error) { ConnectError::OtherProtocol } else { ConnectError::Tls(error) }
    })?;
    // A server that knows nothing of ALPN speaks HTTP/1, and only that.
    if alpn == Alpn::Http2 && stream.get_ref().1.alpn_protocol() != Some(alpn.id()) {
        return Err(ConnectError::OtherProtocol);
    }
    Ok(Stream::Tls(Box::new(stream)))
}

/// Whether `host` is this machine: `localhost`, or a loopback address with or without brackets. No name is resolved.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || without_brackets(host).parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What the certificate must be for; none without TLS.
fn server_name(destination: &Destination<'_>) -> Result<Option<ServerName<'static>>, ConnectError> {
    let Some(_) = destination.tls else { return Ok(None) };
    ServerName::try_from(destination.host().to_owned()).map(Some).map_err(|_| no_host())
}

/// Judges an address that is written as one; a name passes, unless it ends in a number: no name does, but some
/// resolvers take it for an address (`2852039166`, `0xa9.254.169.254`).
fn judge_literal(destination: &Destination<'_>) -> Result<(), ConnectError> {
    let host = destination.host();
    if let Ok(address) = host.parse::<IpAddr>() {
        return if destination.addresses.admits(address) { Ok(()) } else { Err(ConnectError::Forbidden) };
    }
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if is_number { Err(no_host()) } else { Ok(()) }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn no_host() -> ConnectError {
    ConnectError::Dns(io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))
}

#[cfg(test)]
mod tests;
