//! The head of a request on its way to a connection.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// A request's head, in origin-form and with a `Host`. Borrowed, because it may be sent more than once.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a Uri,
    /// Header section.
    pub headers: &'a HeaderMap,
    /// Fields of this one sending, each in the place of those with its name.
    pub set: &'a [(HeaderName, HeaderValue)],
}

impl<'a> RequestHead<'a> {
    /// All fields.
    pub(super) fn fields(self) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        let is_set = move |name: &HeaderName| self.set.iter().any(|(set, _)| set == name);
        let headers = self.headers.iter().filter(move |(name, _)| !is_set(name));
        headers.chain(self.set.iter().map(|(name, value)| (name, value)))
    }

    /// A copy, with a body.
    pub(super) fn request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        for (name, value) in self.set {
            request.headers_mut().insert(name, value.clone());
        }
        request
    }
}
