//! The form in which a request goes over a connection: origin-form, absolute-form (RFC 9112 3.2), or the
//! pseudo-header fields of HTTP/2 (RFC 9113 8.3.1).

use http::header::{CONNECTION, HOST, PROXY_AUTHORIZATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};

use super::{Endpoint, Protocol};
use crate::connect::Route;

/// What a request is made into before it is sent.
#[derive(Debug)]
pub(super) enum Form {
    /// Path and query; the host stands in `Host`.
    Origin,
    /// The whole URL, for a proxy that reads it.
    Absolute {
        /// Where the proxy sends it on to.
        authority: Authority,
        /// Our credentials for the proxy.
        credentials: Option<HeaderValue>,
    },
    /// `:scheme`, `:authority` and `:path`.
    Pseudo {
        /// Of the upstream's URL.
        scheme: Scheme,
        /// Likewise; used where the request has no other.
        authority: Authority,
    },
}

impl Form {
    /// That of requests to `endpoint`.
    pub(super) fn of(endpoint: &Endpoint, protocol: Protocol) -> Self {
        let authority = endpoint.authority.clone();
        let scheme = if endpoint.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        match (protocol, endpoint.route(&endpoint.destination(protocol), protocol)) {
            (Protocol::Http2, _) => Self::Pseudo { scheme, authority },
            (Protocol::Http1, Route::InTheOpen(proxy)) => {
                Self::Absolute { authority, credentials: proxy.credentials() }
            }
            (Protocol::Http1, Route::Direct | Route::Tunnel(_)) => Self::Origin,
        }
    }

    /// Whether a proxy reads the request and may answer it itself.
    pub(super) fn is_for_proxy(&self) -> bool {
        matches!(self, Self::Absolute { .. })
    }

    /// Makes `request`, which is in origin-form with a `Host`, or was made into this form before.
    pub(super) fn fit<B>(&self, request: &mut Request<B>) {
        match self {
            Self::Origin => {
                if request.uri().authority().is_some() {
                    from_pseudo(request);
                }
            }
            Self::Absolute { authority, credentials } => {
                let target = absolute(request.uri(), Scheme::HTTP, authority.clone());
                *request.uri_mut() = target;
                if let Some(credentials) = credentials {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
                }
            }
            Self::Pseudo { scheme, authority } => to_pseudo(request, scheme, authority),
        }
    }
}

/// `:authority` is the `Host` we would send, and then the only place where it stands (RFC 9113 8.3.1). What belongs to
/// one connection of HTTP/1 is not sent (8.2.2).
fn to_pseudo<B>(request: &mut Request<B>, scheme: &Scheme, authority: &Authority) {
    if let Some(host) = request.headers_mut().remove(HOST) {
        let host = match host.as_bytes() == authority.as_str().as_bytes() {
            true => authority.clone(),
            false => Authority::try_from(host.as_bytes()).unwrap_or_else(|_| authority.clone()),
        };
        *request.uri_mut() = absolute(request.uri(), scheme.clone(), host);
    }
    // hyper removes the others; of this one it would remove what it names too, `TE: trailers` among it.
    request.headers_mut().remove(CONNECTION);
}

/// Back again, for a request that was not sent, and whose upstream changed its mind about HTTP/2 meanwhile.
fn from_pseudo<B>(request: &mut Request<B>) {
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    *request.uri_mut() = Uri::from(path(request.uri()));
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn absolute(uri: &Uri, scheme: Scheme, authority: Authority) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path(uri));
    // All three parts are there, so they are a URI.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::uri::Scheme;

    use super::Form;

    fn request() -> Request<()> {
        let request = Request::get("/a/b?c=%20").header("host", "virtual.test:8443").header("te", "trailers");
        request.header("connection", "te").body(()).unwrap()
    }

    #[test]
    fn http2_names_the_host_once_and_no_connection() {
        let form = Form::Pseudo { scheme: Scheme::HTTPS, authority: "api.test".parse().unwrap() };
        let mut request = request();
        for _ in 0..2 {
            form.fit(&mut request);
            assert_eq!(request.uri(), "https://virtual.test:8443/a/b?c=%20");
            assert_eq!(request.headers().keys().collect::<Vec<_>>(), ["te"]);
        }
        Form::Origin.fit(&mut request);
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()["host"]),
            ("/a/b?c=%20", &"virtual.test:8443".parse().unwrap())
        );
    }

    #[test]
    fn a_proxy_gets_the_whole_url_of_the_upstream_and_our_credentials() {
        let credentials = Some(http::HeaderValue::from_static("Basic eA=="));
        let form = Form::Absolute { authority: "api.test:81".parse().unwrap(), credentials };
        let mut request = request();
        for _ in 0..2 {
            form.fit(&mut request);
            assert_eq!(request.uri(), "http://api.test:81/a/b?c=%20");
            assert_eq!(request.headers()["host"], "virtual.test:8443");
            assert_eq!(request.headers()["proxy-authorization"], "Basic eA==");
        }
    }

    #[test]
    fn a_request_in_origin_form_stays_as_it_is() {
        let mut request = request();
        Form::Origin.fit(&mut request);
        assert_eq!((request.uri().to_string().as_str(), request.headers().len()), ("/a/b?c=%20", 3));
    }
}
