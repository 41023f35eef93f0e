//! The properties of this room for the fuzz targets, and what others ask to judge a head.

use http::Request;

use super::{guard, http2};

pub use super::guard::fuzzing::guard;
pub use super::http2::fuzzing::frame_stream;

/// Whether a head of HTTP/2, as the library gives it, is let through.
pub fn passes_as_http2(request: &mut Request<()>) -> bool {
    http2::fuzzing::passes(request)
}

/// Makes it what a caller of HTTP/2 asks for a WebSocket with (RFC 8441).
pub fn ask_for_websocket(request: &mut Request<()>) {
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
}

/// Whether a head of HTTP/1, its empty line included, is let through by limits twice the default ones.
pub fn passes_as_http1(head: &[u8]) -> bool {
    guard::fuzzing::passes(head)
}
