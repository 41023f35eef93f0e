//! Switching to another protocol (RFC 9110 7.8), mostly WebSocket: who may ask, what counts as consent, and the tunnel.
//!
//! The handshake is an exchange like any other: the credential is attached to it and to nothing behind it, and a
//! rejection renews and replays it. Only the upstream's 101 for the very protocol that was asked for opens the tunnel. A
//! caller over HTTP/2 asks with an extended CONNECT (RFC 8441), which becomes the HTTP/1.1 handshake here.

mod tunnel;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::attempt::{Answered, Attempts};
use super::carry::Until;
use super::record::OpenRecord;
use super::relay;
use super::stop::Stop;
use crate::answer::Failure;
use crate::body::{self, AnswerBody};
use crate::header::{self, Pseudonym};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");

/// RFC 6455 1.3
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A protocol that a caller asks to switch to and its named credential allows.
#[derive(Clone, Debug)]
pub(super) struct Upgrade {
    protocol: HeaderValue,
    /// The caller's side of the tunnel, once we have consented.
    caller: OnUpgrade,
    /// What proves that the upstream read the key that we made for a caller over HTTP/2.
    accept: Option<String>,
}

/// Makes of an extended CONNECT the GET that it stands for, so that all else treats both alike.
pub(super) fn adopt_extended_connect(parts: &mut Parts) -> Result<(), Stop> {
    if parts.method != Method::CONNECT {
        return Ok(());
    }
    let Some(protocol) = parts.extensions.get::<Protocol>() else { return Ok(()) };
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return Err(Stop::new(Failure::ProtocolNotAllowed));
    }
    parts.method = Method::GET;
    parts.headers.insert(CONNECTION, UPGRADE_OPTION);
    parts.headers.insert(UPGRADE, WEBSOCKET);
    Ok(())
}

impl Upgrade {
    /// What the caller asks for, where it may. Anything else goes on as if nobody had asked (RFC 9110 7.8), but an
    /// extended CONNECT is nothing else.
    pub(super) fn asked(parts: &mut Parts, allowed: &[HeaderValue]) -> Result<Option<Box<Self>>, Stop> {
        if !parts.headers.contains_key(UPGRADE) {
            return Ok(None);
        }
        let asked = header::upgrade(&parts.headers, allowed).filter(|protocol| may_ask(parts, protocol)).cloned();
        if parts.version != Version::HTTP_2 {
            return Ok(asked.map(|protocol| Box::new(Self { protocol, caller: caller(parts), accept: None })));
        }
        let Some(protocol) = asked else { return Err(Stop::new(Failure::ProtocolNotAllowed)) };
        let (key, accept) = key_and_accept()?;
        parts.headers.insert(SEC_WEBSOCKET_KEY, key);
        Ok(Some(Box::new(Self { protocol, caller: caller(parts), accept: Some(accept) })))
    }

    /// Whether the caller asked with an extended CONNECT.
    pub(super) fn is_asked_over_http2(&self) -> bool {
        self.accept.is_some()
    }

    /// The fields that ask the upstream in our turn, and tell the caller that it agreed.
    pub(super) fn ask(&self) -> [(HeaderName, HeaderValue); 2] {
        [(CONNECTION, UPGRADE_OPTION), (UPGRADE, self.protocol.clone())]
    }

    /// Whether a 101 with these fields is the consent that was asked for.
    pub(super) fn is_met_by(&self, headers: &HeaderMap) -> bool {
        let accepted = |accept: &String| headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value == accept);
        header::switches_to(headers, &self.protocol) && self.accept.as_ref().is_none_or(accepted)
    }
}

/// Protocols are switched on a connection of HTTP/1.1 alone, and the upstream speaks HTTP/2 only.
pub(super) fn impossible() -> Stop {
    Stop::with(Failure::ProtocolNotAllowed, "the upstream speaks HTTP/2 only")
}

/// The caller's side; where nothing is sent, one that never comes.
fn caller(parts: &mut Parts) -> OnUpgrade {
    parts.extensions.remove().unwrap_or_else(|| hyper::upgrade::on(Request::new(())))
}

impl Attempts<'_> {
    /// What the upstream consented to where it switched protocols; an error where nobody had asked for that.
    pub(super) fn switched(&self, answer: &Response<()>) -> Result<Option<Box<Upgrade>>, Stop> {
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(None);
        }
        let asked = self.prepared.upgrade.clone().filter(|upgrade| upgrade.is_met_by(answer.headers()));
        let unasked = || Stop::with(Failure::UpstreamProtocol, "the upstream switched protocols unasked");
        asked.ok_or_else(unasked).map(Some)
    }
}

/// RFC 6455 4.1: a WebSocket begins with a GET. Whatever it is, no content comes before the switch.
fn may_ask(parts: &Parts, protocol: &HeaderValue) -> bool {
    let has_content = parts.headers.contains_key(TRANSFER_ENCODING)
        || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    parts.version > Version::HTTP_10 && !has_content && (*protocol != WEBSOCKET || parts.method == Method::GET)
}

/// RFC 6455 4.1 and 4.2.2
fn key_and_accept() -> Result<(HeaderValue, String), Stop> {
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Stop::new(Failure::Internal))?;
    let key = STANDARD.encode(nonce);
    let accept = accept(&key);
    Ok((HeaderValue::try_from(key).map_err(|_| Stop::new(Failure::Internal))?, accept))
}

fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// Passes the upstream's consent on and opens the tunnel behind it.
pub(super) fn switch(
    answered: Answered,
    upgrade: Upgrade,
    mut open: OpenRecord,
    pseudonym: &Pseudonym,
    until: Until,
) -> Response<AnswerBody> {
    let (mut parts, upstream) = answered.answer.into_parts();
    relay::clean(&mut parts, &open, pseudonym);
    if upgrade.is_asked_over_http2() {
        parts.status = StatusCode::OK;
        parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else {
        for (name, value) in upgrade.ask() {
            parts.headers.insert(name, value);
        }
    }
    open.record.status = parts.status.as_u16();
    tunnel::open(upgrade.caller, upstream.into_rest(), open, until);
    Response::from_parts(parts, body::empty())
}

#[cfg(test)]
mod tests {
    use super::accept;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455 1.3");
    }
}
