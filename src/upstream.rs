//! Pools of connections to upstreams: one request out, one classified answer back.
//!
//! Each worker owns its pools, one per [`Key`]: origin and TLS profile together, so that a connection opened with one
//! identity never carries another's request. What a request means, and whether it may be sent again, is decided above.

mod connection;
mod interim;
mod pool;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use http::uri::Authority;

use crate::connect::{self, Addresses, ConnectError, HttpProxy, Stream};
use crate::tls;

pub use self::connection::{Lease, SendError};
pub use self::interim::Interims;
pub use self::pool::{CheckoutError, LONGEST_HEAD, Pool, PoolLimits, Pools};

/// Where a named credential's requests go. Two equal endpoints share a pool.
#[derive(Clone, Debug)]
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

/// Names a pool: a digest of scheme, host, port and TLS profile, so that looking it up costs the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Endpoint {
    /// An upstream that the configuration names, reached directly.
    #[must_use]
    pub fn new(tls: Option<Arc<tls::Profile>>, authority: Authority) -> Self {
        Self { tls, authority, http: Http::Auto, http_proxy: None, addresses: Addresses::CONFIGURED }
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

    /// A plain connection there, for bytes that are not ours to read.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn tunnel(&self, within: Duration) -> Result<Stream, ConnectError> {
        connect::dial(self.host(), self.port(), None, within).await
    }

    /// The key of the pool this endpoint uses.
    #[must_use]
    pub fn key(&self) -> Key {
        let origin = format!("{}://{}:{}", self.scheme(), self.host().to_ascii_lowercase(), self.port());
        let mut digest = Context::new(&SHA256);
        digest.update(origin.as_bytes());
        // The fingerprint covers the contents of trust roots and client certificate: a rotated one is another identity.
        if let Some(profile) = &self.tls {
            digest.update(profile.fingerprint());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Key(key)
    }
}
