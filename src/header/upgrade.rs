//! `Upgrade` (RFC 9110 7.8): which other protocol is asked for, or switched to.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// The first of `allowed` that a request asks to switch to; none without an `upgrade` in its `Connection`.
#[must_use]
pub fn upgrade<'a>(headers: &HeaderMap, allowed: &'a [HeaderValue]) -> Option<&'a HeaderValue> {
    if !headers.contains_key(UPGRADE) || !members(headers, &CONNECTION).any(is(b"upgrade")) {
        return None;
    }
    members(headers, &UPGRADE).find_map(|asked| allowed.iter().find(|known| is(known.as_bytes())(asked)))
}

/// Whether an answer switches to `protocol` and to nothing else.
#[must_use]
pub fn switches_to(headers: &HeaderMap, protocol: &HeaderValue) -> bool {
    let mut said = members(headers, &UPGRADE);
    said.next().is_some_and(is(protocol.as_bytes())) && said.next().is_none()
}

fn is(wanted: &[u8]) -> impl Fn(&[u8]) -> bool {
    move |member| member.eq_ignore_ascii_case(wanted)
}

fn members<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::tests::map;
    use super::{switches_to, upgrade};

    /// B42: only what is asked for by both fields and allowed by the route.
    #[test]
    fn a_protocol_is_asked_for_by_both_fields() {
        let allowed = [HeaderValue::from_static("websocket"), HeaderValue::from_static("x/2")];
        for (given, expected) in [
            (vec![], None),
            (vec!["upgrade: websocket"], None),
            (vec!["connection: upgrade"], None),
            (vec!["connection: keep-alive, Upgrade", "upgrade: WebSocket"], Some("websocket")),
            (vec!["connection: keep-alive", "connection: upgrade", "upgrade: h2c, X/2"], Some("x/2")),
            (vec!["connection: upgrade", "upgrade: h2c", "upgrade: websocket"], Some("websocket")),
            (vec!["connection: upgrade", "upgrade: h2c"], None),
            (vec!["connection: upgrade", "upgrade: x/1"], None),
            (vec!["connection: x-upgrade", "upgrade: websocket"], None),
        ] {
            let found = upgrade(&map(&given), &allowed).map(|value| value.to_str().unwrap());
            assert_eq!(found, expected, "{given:?}");
        }
    }

    #[test]
    fn an_answer_switches_to_one_protocol() {
        let websocket = HeaderValue::from_static("websocket");
        for (given, expected) in [
            (vec!["upgrade: WebSocket"], true),
            (vec!["upgrade: websocket, h2c"], false),
            (vec!["upgrade: h2c"], false),
            (vec!["connection: upgrade"], false),
        ] {
            assert_eq!(switches_to(&map(&given), &websocket), expected, "{given:?}");
        }
    }
}
