//! A small bounded HTTP/1.1 client for what we ask on our own behalf: tokens now, keys and discovery by the same way.
//!
//! One request, one answer, one connection, one deadline. No redirect is followed (a 307 would carry the secret to
//! another host, RFC 9700 4.12), nothing is sent twice, and an answer larger than its limit is an error. A proxy on the
//! way out is honoured. Requests of callers do not pass here; they belong to `upstream`.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::header::{CONNECTION, HOST, PROXY_AUTHORIZATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::connect::{Addresses, ConnectError, Destination, HttpProxy, NamedBy, Route, Stream};
use crate::tls::{Alpn, Profile};

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

/// The way to the other side.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Trust roots and client certificate.
    pub tls: &'a Profile,
    /// The proxy on the way out.
    pub http_proxy: Option<&'a HttpProxy>,
    /// To which addresses it may lead.
    pub addresses: Addresses,
}

impl<'a> Way<'a> {
    /// The proxy through which it leads to `url`, if it does.
    #[must_use]
    pub fn proxy(&self, url: &Uri) -> Option<&'a HttpProxy> {
        let target = Target::of(url).ok()?;
        match Route::to(&target.destination(*self), self.http_proxy) {
            Route::Direct => None,
            Route::Tunnel(proxy) | Route::InTheOpen(proxy) => Some(proxy),
        }
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
pub async fn fetch(request: Request<Bytes>, way: Way<'_>, limits: Limits) -> Result<Response<Bytes>, FetchError> {
    let deadline = Instant::now() + limits.timeout;
    let (target, mut request) = address(request)?;
    let destination = target.destination(way);
    let route = Route::to(&destination, way.http_proxy);
    let stream = route.open(&destination, limits.timeout).await.map_err(FetchError::Connect)?;
    match route {
        Route::InTheOpen(proxy) => {
            if let Some(credentials) = proxy.credentials() {
                request.headers_mut().insert(PROXY_AUTHORIZATION, credentials);
            }
        }
        // What the proxy gets is in the tunnel's own request; here the target reads the target alone.
        Route::Direct | Route::Tunnel(_) => *request.uri_mut() = origin_form(request.uri()),
    }
    let answer = tokio::time::timeout_at(deadline, exchange(stream, request, limits.body));
    let answer = answer.await.unwrap_or(Err(FetchError::Timeout))?;
    // Only a proxy answers so (RFC 9110 15.5.8): it must not be taken for the target's word.
    if matches!(route, Route::InTheOpen(_)) && answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(FetchError::Connect(ConnectError::Proxy { status: answer.status().as_u16() }));
    }
    Ok(answer)
}

struct Target {
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, FetchError> {
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
        Ok(Self { host: authority.host().to_owned(), port, tls })
    }

    fn destination<'a>(&'a self, way: Way<'a>) -> Destination<'a> {
        let tls = self.tls.then_some((way.tls, Alpn::Http1));
        Destination {
            host: &self.host,
            port: self.port,
            tls,
            addresses: way.addresses,
            named_by: NamedBy::Configuration,
            dead_after: None,
            held_at_most: None,
        }
    }
}

/// Takes the URI apart: where to connect, and the request with its `Host`, still in absolute-form.
fn address(request: Request<Bytes>) -> Result<(Target, Request<Full<Bytes>>), FetchError> {
    let (mut head, body) = request.into_parts();
    let target = Target::of(&head.uri)?;
    let authority = head.uri.authority().map(Authority::as_str).unwrap_or_default();
    let host = HeaderValue::try_from(authority).map_err(|_| FetchError::Url("its host is not a field value"))?;
    // One that is there is meant: a virtual host behind another authority.
    head.headers.entry(HOST).or_insert(host);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok((target, Request::from_parts(head, Full::new(body))))
}

fn origin_form(uri: &Uri) -> Uri {
    Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")))
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
