//! The form in which a request goes over a connection: origin-form, absolute-form (RFC 9112 3.2), or the
//! pseudo-header fields of HTTP/2 (RFC 9113 8.3.1).

use http::header::{CONNECTION, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};

use super::{Endpoint, Protocol, RequestHead};
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

    /// What stands before path and query on a connection of HTTP/1.
    pub(super) fn origin(&self) -> Option<&Authority> {
        match self {
            Self::Absolute { authority, .. } => Some(authority),
            Self::Origin | Self::Pseudo { .. } => None,
        }
    }

    /// What proves to the proxy who we are.
    pub(super) fn credentials(&self) -> Option<&HeaderValue> {
        match self {
            Self::Absolute { credentials, .. } => credentials.as_ref(),
            Self::Origin | Self::Pseudo { .. } => None,
        }
    }

    /// The request as HTTP/2 has it: `:authority` is the `Host` we would send, and then the only place where it stands
    /// (RFC 9113 8.3.1). What belongs to one connection of HTTP/1 is not sent (8.2.2).
    pub(super) fn pseudo<B>(&self, head: RequestHead<'_>, body: B) -> Request<B> {
        let mut request = head.request(body);
        let Self::Pseudo { scheme, authority } = self else { return request };
        let host = match request.headers_mut().remove(HOST) {
            Some(host) if host.as_bytes() != authority.as_str().as_bytes() => {
                Authority::try_from(host.as_bytes()).unwrap_or_else(|_| authority.clone())
            }
            Some(_) | None => authority.clone(),
        };
        *request.uri_mut() = absolute(request.uri(), scheme.clone(), host);
        // hyper removes the others; of this one it would remove what it names too, `TE: trailers` among it.
        request.headers_mut().remove(CONNECTION);
        request
    }
}

fn absolute(uri: &Uri, scheme: Scheme, authority: Authority) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    // All three parts are there, so they are a URI.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use http::uri::Scheme;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::{Form, RequestHead};

    #[test]
    fn http2_names_the_host_once_and_no_connection() {
        let form = Form::Pseudo { scheme: Scheme::HTTPS, authority: "api.test".parse().unwrap() };
        let fields =
            [("host", "virtual.test:8443"), ("te", "trailers"), ("connection", "te"), ("a", "old"), ("a", "b")];
        let field = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let headers: HeaderMap = fields.map(field).into_iter().collect();
        let (target, set) = (Uri::from_static("/a/b?c=%20"), [field(("a", "new"))]);
        let head = RequestHead { method: &Method::GET, target: &target, headers: &headers, set: &set };
        let request = form.pseudo(head, ());
        assert_eq!(request.uri(), "https://virtual.test:8443/a/b?c=%20");
        assert_eq!(request.headers().len(), 2);
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers().get_all("a").iter().collect::<Vec<_>>(), ["new"]);
        let without = HeaderMap::new();
        let request = form.pseudo(RequestHead { headers: &without, set: &[], ..head }, ());
        assert_eq!(request.uri(), "https://api.test/a/b?c=%20");
    }
}
