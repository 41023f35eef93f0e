//! What the fuzz targets need: the form of a request on its connection, and the reading of answers.

use http::{HeaderName, HeaderValue, Request};

use super::form::Form;
use super::{Endpoint, Protocol, RequestHead};

pub use super::http1::fuzzing::answer;

/// The request that is sent to `endpoint`, of one in origin-form with a `Host` and what is `set` for the sending; over
/// HTTP/1 read from what is written.
pub fn sent(
    request: &Request<()>,
    set: &[(HeaderName, HeaderValue)],
    endpoint: &Endpoint,
    protocol: Protocol,
) -> Request<()> {
    let form = Form::of(endpoint, protocol);
    let head = RequestHead { method: request.method(), target: request.uri(), headers: request.headers(), set };
    match protocol {
        Protocol::Http1 => super::http1::fuzzing::written(head, &form),
        Protocol::Http2 => form.pseudo(head, ()),
    }
}
