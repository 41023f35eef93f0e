//! A request's head from one version of HTTP into another: whatever a caller's head holds, what is sent is one that we
//! would let through ourselves, names its host once, says of connections only what is ours to say, and asks for the
//! target that came.

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, Method, Request, Uri, Version};
use tokio::runtime::Runtime;

use super::fields_of;
use crate::app;
use crate::config::{self, Secrets, Source};
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::proxy::{self, plan::Plan};
use crate::server::{self, Connection};
use crate::token::Minters;
use crate::upstream::{self, Endpoint, Protocol};

/// The ways out, plain so that no trust roots are read.
const CONFIGURATION: &str = r#"
[listeners.default]
address = "0.0.0.0:8080"
dangerous = { anonymous_callers = true }
[named_credentials.one]
match = { path = "/one" }
url = "http://one.example/v1"
http = "1.1"
external_credential = "e"
dangerous = { plain_http = true }
[named_credentials.two]
match = { path = "/two" }
url = "http://two.example:81"
http = "2"
external_credential = "e"
host_header = "caller"
keep_cookies = true
dangerous = { plain_http = true }
[named_credentials.three]
match = { path = "/" }
url = "http://three.example/a/b"
http = "auto"
external_credential = "e"
host_header = "caller"
forwarded = "x-forwarded"
streams = { upgrades = ["websocket"] }
dangerous = { plain_http = true }
[external_credentials.e]
token_endpoint = "https://login.example/t"
client_id = "c"
client_secret = { env = "S" }
"#;

/// By the host of its upstream: what is cut from a path, and what is put before it.
const WAYS: [(&str, &str, &str); 3] =
    [("one.example", "/one", "/v1"), ("two.example", "/two", ""), ("three.example", "", "/a/b")];

const TOKEN: HeaderValue = HeaderValue::from_static("Bearer ours");

struct World {
    plan: Plan,
    connections: [Connection; 2],
    /// What the token cells belong to; never driven.
    _runtime: Runtime,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let source = Source::Text { name: "fuzz.toml".to_owned(), text: CONFIGURATION.to_owned() };
        let config = config::load(&source, Secrets::Leave).unwrap_or_else(|problems| panic!("{problems}")).config;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let metrics = Metrics::new();
        let mut minters = Minters::new(runtime.handle().clone(), metrics.clone());
        let externals: Vec<_> =
            config.external_credentials.iter().map(|settings| minters.external_credential(settings)).collect();
        let plan = app::plan(&config, &externals, &metrics).unwrap();
        let listener = Arc::new(config.listeners[0].clone());
        let connections = [server::Protocol::Http1, server::Protocol::Http2].map(|protocol| {
            let peer = Peer::Tcp(([192, 0, 2, 1], 1).into());
            let mut connection = Connection::new(peer, Arc::clone(&listener));
            connection.protocol = protocol;
            connection
        });
        World { plan, connections, _runtime: runtime }
    })
}

/// A line `VERSION METHOD TARGET`, then lines `name: value`. The version is 0, 1, 2, or w for a WebSocket over HTTP/2.
pub fn mapping(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return };
    let words: Vec<&str> = line.split(' ').collect();
    let [version, method, target] = words[..] else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method.as_bytes()), Uri::try_from(target)) else { return };
    let mut request = Request::new(());
    *request.headers_mut() = fields_of(bytes.get(end + 1..).unwrap_or_default());
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    let is_http2 = match version {
        "0" | "1" => {
            *request.version_mut() = if version == "1" { Version::HTTP_11 } else { Version::HTTP_10 };
            if !server::fuzzing::passes_as_http1(&text(&request, target)) {
                return;
            }
            false
        }
        "2" | "w" => {
            *request.version_mut() = Version::HTTP_2;
            if version == "w" {
                server::fuzzing::ask_for_websocket(&mut request);
            }
            if !server::fuzzing::passes_as_http2(&mut request) {
                return;
            }
            true
        }
        _ => return,
    };
    let (came, world) = (request.uri().clone(), world());
    let (parts, ()) = request.into_parts();
    let connection = &world.connections[usize::from(is_http2)];
    let Some(outgoing) = proxy::fuzzing::outgoing(parts, &world.plan, connection, &TOKEN) else {
        return;
    };
    let proxy::fuzzing::Outgoing { request, set, endpoint, protocol } = outgoing;
    let request = upstream::fuzzing::sent(&request, &set, &endpoint, protocol);
    common(&request, &came, &endpoint);
    match protocol {
        Protocol::Http1 => as_http1(&request),
        Protocol::Http2 => as_http2(request),
    }
}

/// A head as HTTP/1 writes it.
fn text(request: &Request<()>, target: &str) -> Vec<u8> {
    let version = if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" };
    let mut text = format!("{} {target} HTTP/{version}\r\n", request.method()).into_bytes();
    for (name, value) in request.headers() {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    text
}

fn common(request: &Request<()>, came: &Uri, endpoint: &Endpoint) {
    let (_, prefix, base) = WAYS.into_iter().find(|(host, _, _)| *host == endpoint.host()).expect("one of the ways");
    let rest = came.path().strip_prefix(prefix).expect("the path that was matched");
    let expected = Some(format!("{base}{rest}")).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    assert_eq!(request.uri().path(), expected, "the path as it came");
    assert_eq!(request.uri().query(), came.query(), "the query as it came");
    let headers = request.headers();
    let tokens: Vec<_> = headers.get_all("authorization").iter().collect();
    assert_eq!(tokens, [TOKEN], "our token and no other");
    for gone in ["keep-alive", "proxy-connection", "proxy-authorization", "transfer-encoding", "forwarded"] {
        assert!(!headers.contains_key(gone), "{gone} is left");
    }
    for (name, value) in headers {
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{name} breaks its line");
    }
    for once in ["content-length", "content-type", "x-request-id", "te", "upgrade", "connection", "expect"] {
        assert!(headers.get_all(once).iter().count() <= 1, "{once} twice");
    }
    assert!(headers.get("te").is_none_or(|te| te == "trailers"), "TE is ours to say");
}

fn as_http1(request: &Request<()>) {
    let uri = request.uri();
    assert!(uri.scheme().is_none() && uri.authority().is_none(), "origin-form");
    assert_eq!(request.headers().get_all("host").iter().count(), 1, "one host");
    let headers = request.headers();
    match headers.get("connection").map(HeaderValue::as_bytes) {
        None => assert!(!headers.contains_key("upgrade") && !headers.contains_key("te")),
        Some(b"te") => assert!(headers.contains_key("te") && !headers.contains_key("upgrade")),
        Some(b"upgrade") => assert!(headers["upgrade"] == "websocket" && !headers.contains_key("te")),
        Some(other) => panic!("Connection: {}", other.escape_ascii()),
    }
    let target = uri.path_and_query().unwrap().as_str();
    assert!(server::fuzzing::passes_as_http1(&text(request, target)), "{request:?} is one that we would refuse");
}

fn as_http2(mut request: Request<()>) {
    let uri = request.uri();
    assert_eq!(uri.scheme_str(), Some("http"));
    assert!(uri.authority().is_some_and(|authority| !authority.as_str().is_empty()), "an authority");
    for gone in ["host", "connection", "upgrade"] {
        assert!(!request.headers().contains_key(gone), "{gone} is left");
    }
    let shown = format!("{request:?}");
    assert!(server::fuzzing::passes_as_http2(&mut request), "{shown} is one that we would refuse");
}
