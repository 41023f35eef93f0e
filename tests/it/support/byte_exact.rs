//! The proxy between a caller and an upstream that both send and see exact bytes.

use super::http::Connection;
use super::proxy::Proxy;
use super::scripted::Scripted;
use super::servers::Servers;

/// All three; the caller is connected.
pub(crate) struct ByteExact {
    _servers: Servers,
    pub(crate) upstream: Scripted,
    pub(crate) proxy: Proxy,
    pub(crate) caller: Connection,
}

impl ByteExact {
    /// `/orders` leads to the upstream; `keys` are further lines of its table.
    pub(crate) async fn set(keys: &str) -> Self {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, keys).await;
        let caller = Connection::open(proxy.address).await.unwrap();
        Self { _servers: servers, upstream, proxy, caller }
    }
}
