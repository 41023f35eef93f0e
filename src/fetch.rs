//! A small bounded HTTP/1.1 client for what we ask on our own behalf: tokens now, keys and discovery by the same way.
//!
//! One request, one answer, one connection, one deadline. No redirect is followed (a 307 would carry the secret to
//! another host, RFC 9700 4.12), nothing is sent twice, and an answer larger than its limit is an error. Requests of
//! callers do not pass here; they belong to `upstream`.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::header::{CONNECTION, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::connect::{self, ConnectError, Stream};
use crate::tls::Profile;

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the call to the last byte of the answer.
    pub timeout: Duration,
    /// Longest body accepted, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// 10 seconds and 64 KiB.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), body: 64 * 1024 }
    }
}

/// Why there is no answer. Holds no byte of the request or the answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URI cannot be asked; says why.
    #[error("the URL cannot be asked: {0}")]
    Url(&'static str),
    /// No connection.
    #[error("connecting failed")]
    Connect(#[source] ConnectError),
    /// The connection broke, or what came back was not HTTP.
    #[error("the exchange broke off")]
    Http(#[source] hyper::Error),
    /// The deadline passed after the connection was made.
    #[error("the answer took too long")]
    Timeout,
    /// The body is longer than the limit.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// Sends `request`, whose URI is absolute, and reads the answer whole. The connection is closed afterwards.
///
/// # Errors
/// [`FetchError`]; an answer of any status is not an error.
pub async fn fetch(request: Request<Bytes>, tls: &Profile, limits: Limits) -> Result<Response<Bytes>, FetchError> {
    let deadline = Instant::now() + limits.timeout;
    let (target, request) = address(request)?;
    let tls = target.tls.then_some(tls);
    let stream = connect::dial(&target.host, target.port, tls, limits.timeout).await.map_err(FetchError::Connect)?;
    tokio::time::timeout_at(deadline, exchange(stream, request, limits.body)).await.unwrap_or(Err(FetchError::Timeout))
}

struct Target {
    host: String,
    port: u16,
    tls: bool,
}

/// Takes the URI apart: where to connect, and the request in origin-form with its `Host`.
fn address(request: Request<Bytes>) -> Result<(Target, Request<Full<Bytes>>), FetchError> {
    let (mut head, body) = request.into_parts();
    let uri = std::mem::take(&mut head.uri);
    let tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        Some(_) | None => return Err(FetchError::Url("its scheme is neither http nor https")),
    };
    let authority = uri.authority().ok_or(FetchError::Url("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(FetchError::Url("it holds a user name or password"));
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host =
        HeaderValue::try_from(authority.as_str()).map_err(|_| FetchError::Url("its host is not a field value"))?;
    head.headers.insert(HOST, host);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let target = Target { host: authority.host().to_owned(), port, tls };
    head.uri = Uri::from(uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok((target, Request::from_parts(head, Full::new(body))))
}

async fn exchange(stream: Stream, request: Request<Full<Bytes>>, limit: usize) -> Result<Response<Bytes>, FetchError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let answer = pin!(async move {
        let (head, body) = sender.send_request(request).await.map_err(FetchError::Http)?.into_parts();
        Ok(Response::from_parts(head, read(body, limit).await?))
    });
    // The connection is driven here and not in a task of its own: when this future is dropped, so is the socket.
    match select(answer, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, FetchError> {
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(FetchError::TooLarge { limit });
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(FetchError::Http)?.into_data() {
            if data.len() > limit - read.len() {
                return Err(FetchError::TooLarge { limit });
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
