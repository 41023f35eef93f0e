//! Pools of connections to upstreams: one request out, one classified answer back.
//!
//! Each worker owns its pools, one per [`Key`] and protocol: origin, TLS profile, way and admitted addresses together,
//! so that a connection opened with one identity never carries another's request. HTTP/1 connections carry one exchange
//! at a time (`http1`, `idle`), HTTP/2 connections many (`multiplex`). What a request means, and whether it may be sent again, is
//! decided above.

mod connection;
mod form;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http1;
mod idle;
mod multiplex;
mod opener;
mod pool;
mod refusal;
mod request;
mod stoppable;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::uri::Authority;

use crate::connect::{self, Addresses, ConnectError, Destination, HttpProxy, NamedBy, Route, Stream};
use crate::secret::Secret;
use crate::tls::{self, Alpn};

pub use self::connection::{Lease, SendError};
pub use self::http1::{LONGEST_HEAD, Room};
pub use self::opener::CheckoutError;
pub use self::pool::{Pool, PoolLimits, Pools};
pub use self::request::RequestHead;

/// After this long without an acknowledgement an HTTP/2 connection counts as dead: no pings are sent on it, which gRPC
/// servers would punish, and without either it would linger. Not for HTTP/1, where a server that is slow to read an
/// upload would look the same.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Where a named credential's requests go. Two equal endpoints share a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// TLS profile; none is plain HTTP.
    pub tls: Option<Arc<tls::Profile>>,
    /// Host and, when it is not the scheme's default, port, as written in the URL.
    pub authority: Authority,
    /// Which version of HTTP is spoken.
    pub http: Http,
    /// The proxy on the way out.
    pub http_proxy: Option<Arc<HttpProxy>>,
    /// To which addresses the connection may lead.
    pub addresses: Addresses,
    /// Who named it.
    pub named_by: NamedBy,
}

/// What went wrong on a connection to an upstream.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] std::io::Error),
    /// It failed before anything of the request could have been read.
    #[error("the connection failed before the request")]
    Unsent,
    /// The connection ended, and the answer had not.
    #[error("the connection ended before the answer")]
    Ended,
    /// What came is no answer, or can be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// The request body failed on our side.
    #[error("the request body ended early")]
    RequestBody(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `http` of a named credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Http {
    /// HTTP/1.1, and HTTP/2 for what cannot do without it (gRPC) and for servers that speak nothing else.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS with prior knowledge (RFC 9113 3.3).
    Http2,
}

/// The version of HTTP of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Names what connections may be shared by: a digest of all that an endpoint is, so that looking a pool up costs the
/// same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Endpoint {
    /// An upstream that the configuration names, reached directly.
    #[must_use]
    pub fn new(tls: Option<Arc<tls::Profile>>, authority: Authority) -> Self {
        Self {
            tls,
            authority,
            http: Http::Auto,
            http_proxy: None,
            addresses: Addresses::CONFIGURED,
            named_by: NamedBy::Configuration,
        }
    }

    /// Host without the brackets of an IPv6 literal.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, the scheme's default filled in.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A plain connection there, for bytes that are not ours to read; and those that have come already.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn tunnel(&self, within: Duration) -> Result<(Stream, Bytes), ConnectError> {
        connect::open_unread(&self.destination(Protocol::Http1), self.http_proxy.as_deref(), within).await
    }

    /// What an exchange is sent over that can, or cannot, do without HTTP/2.
    #[must_use]
    pub fn protocol(&self, needs_http2: bool) -> Protocol {
        match self.http {
            Http::Auto if needs_http2 => Protocol::Http2,
            Http::Auto | Http::Http1 => Protocol::Http1,
            Http::Http2 => Protocol::Http2,
        }
    }

    /// The proxy through which the way leads, if it does.
    #[must_use]
    pub fn proxy(&self) -> Option<&HttpProxy> {
        match self.route(&self.destination(Protocol::Http1), Protocol::Http1) {
            Route::Direct => None,
            Route::Tunnel(proxy) | Route::InTheOpen(proxy) => Some(proxy),
        }
    }

    /// The key of the pools this endpoint uses.
    #[must_use]
    pub fn key(&self) -> Key {
        let Addresses { link_local, private } = self.addresses;
        let origin = format!("{}://{}:{}", self.scheme(), self.host().to_ascii_lowercase(), self.port());
        let kind = [u8::from(link_local), u8::from(private), self.http as u8, self.named_by as u8];
        let mut digest = Context::new(&SHA256);
        digest.update(origin.as_bytes());
        digest.update(&kind);
        // The fingerprint covers the contents of trust roots and client certificate: a rotated one is another identity.
        if let Some(profile) = &self.tls {
            digest.update(profile.fingerprint());
        }
        if let Some(proxy) = self.proxy() {
            let login = proxy.authorization.as_ref().map_or("", Secret::expose);
            digest.update(format!("\n{}\n{}\n", proxy.host, proxy.port).as_bytes());
            digest.update(login.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Key(key)
    }

    fn destination(&self, protocol: Protocol) -> Destination<'_> {
        let (alpn, dead_after) = match protocol {
            Protocol::Http1 => (Alpn::Http1, None),
            Protocol::Http2 => (Alpn::Http2, Some(DEAD_AFTER)),
        };
        Destination {
            host: self.host(),
            port: self.port(),
            tls: self.tls.as_deref().map(|profile| (profile, alpn)),
            addresses: self.addresses,
            named_by: self.named_by,
            dead_after,
            held_at_most: None,
        }
    }

    /// HTTP/2 is between us and the upstream: a proxy that reads requests would have to speak it too.
    fn route(&self, destination: &Destination<'_>, protocol: Protocol) -> Route<'_> {
        match (Route::to(destination, self.http_proxy.as_deref()), protocol) {
            (Route::InTheOpen(proxy), Protocol::Http2) => Route::Tunnel(proxy),
            (route, Protocol::Http1 | Protocol::Http2) => route,
        }
    }
}

#[cfg(test)]
mod tests;
