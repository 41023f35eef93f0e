//! What the upstream is told about the caller: nothing by default, else `X-Forwarded-*` or `Forwarded` (RFC 7239).

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::host::is_token_byte;
use crate::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// `forwarded`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// None is sent.
    None,
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
}

/// Removes what the caller says about whom it asks for: `Forwarded`, all of `X-Forwarded-*`, and `X-Real-IP`.
pub fn strip_forwarded(headers: &mut HeaderMap) {
    headers.remove(FORWARDED);
    headers.remove(X_REAL_IP);
    let is_forwarded = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
    let names: Vec<HeaderName> = headers.keys().filter(is_forwarded).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Who asked us, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The other end of the connection.
    pub peer: &'a Peer,
    /// The caller's `Host`; one that is no text is left out.
    pub host: Option<&'a HeaderValue>,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// Says who asked us, for which host, replacing what stands there. A Unix socket's peer has no address: `unknown`.
pub fn set_forwarded(headers: &mut HeaderMap, forwarded: Forwarded, asked: Asked<'_>) {
    let Asked { peer, host, scheme } = asked;
    match forwarded {
        Forwarded::None => {}
        Forwarded::XForwarded => {
            headers.insert(X_FORWARDED_FOR, address(peer));
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
            if let Some(host) = host {
                headers.insert(X_FORWARDED_HOST, host.clone());
            }
        }
        Forwarded::Rfc7239 => {
            if let Ok(value) = HeaderValue::try_from(element(asked)) {
                headers.insert(FORWARDED, value);
            }
        }
    }
}

fn address(peer: &Peer) -> HeaderValue {
    let address = peer.ip().and_then(|ip| HeaderValue::try_from(ip.to_string()).ok());
    address.unwrap_or_else(|| HeaderValue::from_static("unknown"))
}

/// `for=…;host=…;proto=…`; colons and brackets need quotes (RFC 7239 section 4).
fn element(asked: Asked<'_>) -> String {
    let mut element = match asked.peer.ip() {
        Some(IpAddr::V4(ip)) => format!("for={ip}"),
        Some(IpAddr::V6(ip)) => format!("for=\"[{ip}]\""),
        None => "for=unknown".to_owned(),
    };
    if let Some(host) = asked.host.and_then(|host| host.to_str().ok()) {
        if !host.is_empty() && host.bytes().all(is_token_byte) {
            let _ = write!(element, ";host={host}");
        } else {
            let escaped = host.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = write!(element, ";host=\"{escaped}\"");
        }
    }
    let _ = write!(element, ";proto={}", asked.scheme);
    element
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::tests::{lines, map};
    use super::{Asked, Forwarded, set_forwarded, strip_forwarded};
    use crate::peer::Peer;

    const UNIX: Peer = Peer::Unix { uid: Some(1), gid: None };

    #[test]
    fn whatever_the_caller_said_is_removed() {
        let mut headers = map(&[
            "forwarded: for=1.2.3.4",
            "x-forwarded-for: 1.2.3.4",
            "x-forwarded-for: 5.6.7.8",
            "x-forwarded-proto: https",
            "x-forwarded-anything: x",
            "x-real-ip: 1.2.3.4",
            "x-forwarding: stays",
        ]);
        strip_forwarded(&mut headers);
        assert_eq!(lines(&headers), ["x-forwarding: stays"]);
    }

    #[test]
    fn the_caller_is_told_in_the_chosen_form() {
        let tcp = |address: &str| Peer::Tcp(address.parse().unwrap());
        for (form, peer, host, expected) in [
            (Forwarded::None, tcp("192.0.2.1:1"), Some("a"), vec![]),
            (
                Forwarded::XForwarded,
                tcp("192.0.2.1:1"),
                Some("a:8080"),
                vec!["x-forwarded-for: 192.0.2.1", "x-forwarded-host: a:8080", "x-forwarded-proto: http"],
            ),
            (
                Forwarded::XForwarded,
                tcp("[2001:db8::1]:1"),
                None,
                vec!["x-forwarded-for: 2001:db8::1", "x-forwarded-proto: http"],
            ),
            (Forwarded::XForwarded, UNIX, None, vec!["x-forwarded-for: unknown", "x-forwarded-proto: http"]),
            (Forwarded::Rfc7239, tcp("192.0.2.1:1"), Some("a"), vec!["forwarded: for=192.0.2.1;host=a;proto=http"]),
            (
                Forwarded::Rfc7239,
                tcp("[2001:db8::1]:1"),
                Some("a:80"),
                vec!["forwarded: for=\"[2001:db8::1]\";host=\"a:80\";proto=http"],
            ),
            (Forwarded::Rfc7239, tcp("[::ffff:192.0.2.1]:1"), None, vec!["forwarded: for=192.0.2.1;proto=http"]),
            (
                Forwarded::Rfc7239,
                UNIX,
                Some("a\";for=evil\\"),
                vec!["forwarded: for=unknown;host=\"a\\\";for=evil\\\\\";proto=http"],
            ),
            (Forwarded::Rfc7239, UNIX, Some(""), vec!["forwarded: for=unknown;host=\"\";proto=http"]),
        ] {
            let mut headers = map(&[]);
            let host = host.map(|host| HeaderValue::from_str(host).unwrap());
            set_forwarded(&mut headers, form, Asked { peer: &peer, host: host.as_ref(), scheme: "http" });
            assert_eq!(lines(&headers), expected, "{form:?} {peer}");
        }
    }

    #[test]
    fn what_stood_there_is_replaced() {
        let mut headers = map(&["forwarded: for=evil", "forwarded: for=evil2"]);
        set_forwarded(&mut headers, Forwarded::Rfc7239, Asked { peer: &UNIX, host: None, scheme: "https" });
        assert_eq!(lines(&headers), ["forwarded: for=unknown;proto=https"]);
    }
}
