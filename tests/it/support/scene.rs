//! A token endpoint that answers as a test wants it, a recording upstream, and the proxy between them: where every
//! parameter of a token request can be looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oauth2::url::form_urlencoded;
use serde_json::Value;

use super::http::{Answer, Connection, request};
use super::proxy::{Proxy, Setup, head};
use super::recorder::{self, Recorder, Reply};
use super::scripted::{Received, Scripted, Serving, answer};

/// Parameters by name; none twice (RFC 6749 3.2).
pub(crate) type Parameters = BTreeMap<String, String>;

/// A running token endpoint; ends when dropped.
pub(crate) struct TokenEndpoint(Serving);

impl TokenEndpoint {
    /// Gives `token-1`, `token-2` and so on.
    pub(crate) async fn start() -> Self {
        let mut count = 0;
        Self::answering(move |_| {
            count += 1;
            token(&format!("token-{count}"))
        })
        .await
    }

    /// Answers as `answer` says.
    pub(crate) async fn answering(answer: impl FnMut(&Received) -> Vec<u8> + Send + 'static) -> Self {
        Self(Scripted::start().await.serve(answer))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Received> {
        self.0.received()
    }

    /// The parameters of every request so far, wherever they were.
    pub(crate) fn parameters(&self) -> Vec<Parameters> {
        self.asked().iter().map(|asked| query(asked).into_iter().chain(body(asked)).collect()).collect()
    }
}

/// A token as RFC 6749 5.1 has it, good for an hour.
pub(crate) fn token(value: &str) -> Vec<u8> {
    let body = format!(r#"{{"access_token":"{value}","token_type":"Bearer","expires_in":3600}}"#);
    answer(200, &[("content-type", "application/json")], body.as_bytes())
}

/// All three, running.
pub(crate) struct Scene {
    pub(crate) endpoint: TokenEndpoint,
    pub(crate) upstream: Recorder,
    pub(crate) proxy: Proxy,
}

impl Scene {
    /// Before a token endpoint that numbers its tokens; `{endpoint}` and `{upstream}` are addresses in `tables`.
    pub(crate) async fn start(tables: &str, setup: impl FnOnce(Setup) -> Setup) -> Self {
        Self::before(TokenEndpoint::start().await, tables, setup).await
    }

    /// Before this token endpoint.
    pub(crate) async fn before(endpoint: TokenEndpoint, tables: &str, setup: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Recorder::start().await;
        let config = (head("trace") + tables)
            .replace("{endpoint}", &endpoint.address().to_string())
            .replace("{upstream}", &upstream.address.to_string());
        let proxy = setup(Setup::new(&config)).run().await;
        Self { endpoint, upstream, proxy }
    }

    /// A GET on a connection of its own.
    pub(crate) async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut caller = Connection::open(self.proxy.address).await.unwrap();
        caller.exchange(&request("GET", target, fields, b"")).await.unwrap()
    }

    /// A GET that must succeed, and what the upstream saw of it last.
    pub(crate) async fn pass(&self, target: &str, fields: &[(&str, &str)]) -> recorder::Received {
        let answer = self.get(target, fields).await;
        assert_eq!(answer.status, 200, "{target}: {}\n{}", answer.text(), self.proxy.process.stderr.text());
        self.upstream.last()
    }

    /// A GET whose token is refused at first: renewed and replayed.
    pub(crate) async fn renew(&self, target: &str) -> recorder::Received {
        self.upstream.next(Reply::new(answer(401, &[], b"")));
        let before = self.upstream.requests().len();
        let seen = self.pass(target, &[]).await;
        assert_eq!(self.upstream.requests().len(), before + 2, "{target} was sent twice");
        seen
    }

    /// Fails unless neither the token endpoint nor the upstream was asked for anything.
    pub(crate) fn assert_untouched(&self) {
        assert!(self.endpoint.asked().is_empty(), "the token endpoint was asked");
        assert_eq!(self.upstream.connections(), 0, "the upstream was reached");
    }
}

/// The parameters in a request's query.
pub(crate) fn query(request: &Received) -> Parameters {
    let target = request.head.split(' ').nth(1).unwrap();
    once(form_urlencoded::parse(target.split_once('?').map_or("", |(_, query)| query).as_bytes()).into_owned())
}

/// The parameters in a request's body, a form or JSON.
pub(crate) fn body(request: &Received) -> Parameters {
    if request.field("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        let members: BTreeMap<String, Value> = serde_json::from_slice(&request.body).unwrap();
        return members.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect();
    }
    once(form_urlencoded::parse(&request.body).into_owned())
}

fn once(pairs: impl Iterator<Item = (String, String)>) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, value) in pairs {
        assert!(parameters.insert(name.clone(), value).is_none(), "{name} is there twice");
    }
    parameters
}

/// User name and password of HTTP Basic.
pub(crate) fn basic(authorization: &str) -> String {
    let encoded = authorization.strip_prefix("Basic ").unwrap_or_else(|| panic!("not Basic: {authorization}"));
    String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
}

/// The claims of a JWT in compact form.
pub(crate) fn claims(jwt: &str) -> Value {
    let parts: Vec<&str> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3, "a signed JWT: {jwt}");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

/// SHA-256 in hex, as `api_key_sha256` wants it.
pub(crate) fn sha256(text: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
