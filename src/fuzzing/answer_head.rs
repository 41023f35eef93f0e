//! The head of an upstream's answer: what is passed on can be read in one way, and holds nothing of the connection.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::fields_of;
use crate::header;

const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
];

/// What an upstream cannot have removed by naming it.
const KEPT: [&str; 6] =
    ["content-type", "content-length", "set-cookie", "location", "www-authenticate", "cache-control"];

/// What no trailer may be.
const NEVER_LATE: [&str; 12] = [
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "cache-control",
    "host",
    "location",
    "set-cookie",
    "www-authenticate",
    "trailer",
    "via",
    "x-request-id",
];

/// The first byte chooses the version; then lines `name: value`.
pub fn answer_head(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let version = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2][usize::from(choice % 3)];
    let came = fields_of(rest);
    if header::is_framed_once(version, &came) {
        framed(version, &came);
    }
    let mut answer = came.clone();
    header::strip_response_hop_by_hop(&mut answer);
    cleaned(&came, &answer);
    header::announce_trailers(&mut answer, header::strip_answer_trailers);
    announced(&came, &answer);
    let mut trailers = came.clone();
    header::strip_answer_trailers(&mut trailers);
    for gone in HOP_BY_HOP.iter().chain(&NEVER_LATE) {
        assert!(!trailers.contains_key(*gone), "{gone} is left in the trailers");
    }
    let once = trailers.clone();
    header::strip_answer_trailers(&mut trailers);
    assert_eq!(once, trailers, "nothing is left to strip");
    let websocket = HeaderValue::from_static("websocket");
    if header::switches_to(&came, &websocket) {
        assert_eq!(elements(&came, "upgrade"), ["websocket"], "a switch to one protocol");
    }
}

/// RFC 9112 6.3: the length can be read in one way.
fn framed(version: Version, came: &HeaderMap) {
    let lengths: Vec<&[u8]> = came.get_all("content-length").iter().map(HeaderValue::as_bytes).collect();
    let codings: Vec<&[u8]> = came.get_all("transfer-encoding").iter().map(HeaderValue::as_bytes).collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => {}
        ([length], []) => {
            let text = std::str::from_utf8(length).expect("digits");
            assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "the length {text:?}");
            assert_eq!(header::content_length(came), text.parse().ok());
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11, "{version:?}");
        }
        _ => panic!("framed twice: {came:?}"),
    }
}

fn cleaned(came: &HeaderMap, answer: &HeaderMap) {
    for gone in HOP_BY_HOP {
        assert!(!answer.contains_key(gone), "{gone} is left");
    }
    for kept in KEPT {
        let all = |headers: &HeaderMap| headers.get_all(kept).iter().cloned().collect::<Vec<_>>();
        assert_eq!(all(came), all(answer), "{kept} is not for one connection");
    }
    for named in elements(came, "connection") {
        let is_kept = KEPT.contains(&named.as_str()) || answer.get_all(&named).iter().eq(came.get_all(&named));
        let is_gone = HeaderName::try_from(named.as_str()).is_err() || !answer.contains_key(&named);
        assert!(is_kept || is_gone, "some of {named} is left");
    }
    assert!(answer.keys().all(|name| came.contains_key(name)), "nothing is added");
}

/// RFC 9110 6.6.2: `Trailer` names what may come, once each, and nothing that the upstream did not name.
fn announced(came: &HeaderMap, answer: &HeaderMap) {
    assert!(answer.get_all("trailer").iter().count() <= 1);
    let names = elements(answer, "trailer");
    let before: BTreeSet<String> = elements(came, "trailer").into_iter().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
    for name in &names {
        assert!(HeaderName::try_from(name.as_str()).is_ok() && before.contains(name), "{name:?}");
        assert!(!NEVER_LATE.contains(&name.as_str()) && !HOP_BY_HOP.contains(&name.as_str()), "{name} is announced");
    }
}

/// The elements of a list field, in lower case.
fn elements(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let all =
        lines.flat_map(|line| line.split(',').map(|part| part.trim_ascii().to_ascii_lowercase()).collect::<Vec<_>>());
    all.filter(|element| !element.is_empty()).collect()
}
