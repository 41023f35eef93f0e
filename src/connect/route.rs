//! Whether the way to a destination leads through a proxy, and how.

use std::time::Duration;

use super::{ConnectError, Destination, HttpProxy, Stream, dial, dial_proxy, dial_through, is_loopback};

/// How a destination is reached.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// Without a proxy.
    Direct,
    /// Within a `CONNECT`: the proxy sees host and port.
    Tunnel(&'a HttpProxy),
    /// The proxy reads the whole request, which is in absolute-form (RFC 9112 3.2.2).
    InTheOpen(&'a HttpProxy),
}

impl<'a> Route<'a> {
    /// The way to `destination` where `proxy` is configured.
    #[must_use]
    pub fn to(destination: &Destination<'_>, proxy: Option<&'a HttpProxy>) -> Self {
        let Some(proxy) = proxy.filter(|proxy| proxy.serves(destination.host, destination.port)) else {
            return Self::Direct;
        };
        if destination.tls.is_some() {
            return Self::Tunnel(proxy);
        }
        // Plain HTTP to this machine is harmless because nothing of it leaves the machine.
        let stays = is_loopback(destination.host) && !is_loopback(&proxy.host);
        if stays { Self::Direct } else { Self::InTheOpen(proxy) }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn open(self, destination: &Destination<'_>, within: Duration) -> Result<Stream, ConnectError> {
        match self {
            Self::Direct => dial(destination, within).await,
            Self::Tunnel(proxy) => dial_through(proxy, destination, within).await,
            Self::InTheOpen(proxy) => dial_proxy(proxy, destination, within).await,
        }
    }
}
