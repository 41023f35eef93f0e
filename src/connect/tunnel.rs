//! `CONNECT` to a proxy on the way out (RFC 9110 9.3.6): a TCP connection to it becomes one to the target.

use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{ConnectError, HttpProxy};

/// Longest head of the proxy's answer.
const LONGEST_HEAD: usize = 16 * 1024;

/// Asks `proxy`, at the other end of `tcp`, for a tunnel to `target`; the connection that then leads there, and what has
/// come through it already.
pub(super) async fn open(
    tcp: TcpStream,
    proxy: &HttpProxy,
    target: Authority,
) -> Result<(TcpStream, Bytes), ConnectError> {
    let request = request(proxy, target)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(tcp))
        .await
        .map_err(ConnectError::ProxyAnswer)?;
    let tunnel = pin!(async move {
        let answer = sender.send_request(request).await.map_err(ConnectError::ProxyAnswer)?;
        if !answer.status().is_success() {
            return Err(ConnectError::Proxy { status: answer.status().as_u16() });
        }
        hyper::upgrade::on(answer).await.map_err(ConnectError::ProxyAnswer)
    });
    // Driven here and not in a task of its own: when this future is dropped, so is the socket.
    let upgraded = match select(tunnel, pin!(connection.with_upgrades())).await {
        Either::Left((tunnel, _)) => tunnel?,
        Either::Right((_, tunnel)) => tunnel.await?,
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| ConnectError::ProxySpoke)?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

fn request(proxy: &HttpProxy, target: Authority) -> Result<Request<Empty<Bytes>>, ConnectError> {
    let host = HeaderValue::try_from(target.as_str()).map_err(|_| super::no_host())?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(target);
    request.headers_mut().insert(HOST, host);
    if let Some(credentials) = proxy.credentials() {
        request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
