//! What must hold for all foreign bytes, as functions that panic where it does not: the fuzz targets call them with
//! bytes that a fuzzer makes, the tests here with random ones and with the seeds of the targets.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold stops here, and says where"
)]

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{self, Secrets, Source};
use crate::header::{self, CredentialFields};
use crate::import;
use crate::target;

mod answer_head;
mod decoding;
mod mapping;

/// The path of a request target: what is accepted stays below its prefix however a server reads it.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if target::inspect(path).is_err() {
        return;
    }
    decoding::assert_within(path.as_bytes(), b"/");
    for base in ["", "/v1", "/v1/deep"] {
        let Ok(outgoing) = target::outgoing(base, path, 0, query) else { continue };
        assert_eq!(outgoing.query(), query, "the query is sent as it came");
        assert_eq!(outgoing.path(), format!("{base}{path}"), "the path is sent as it came");
        decoding::assert_within(outgoing.path().as_bytes(), base.as_bytes());
    }
}

/// The header policy: whatever a caller sends, nothing hop-by-hop and no credential of its own is left.
pub fn fields(bytes: &[u8]) {
    let mut headers = fields_of(bytes);
    let connection: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|option| option.trim().to_ascii_lowercase()))
        .collect();
    let injected = HeaderName::from_static("x-token");
    let api_key = [HeaderName::from_static("x-api-key")];
    let rules =
        CredentialFields { injected: &injected, attached: &[], set: &[], api_key: &api_key, keep_cookies: false };
    let mut answer = headers.clone();
    let present = header::Presence::of(&headers);
    if header::strip_hop_by_hop((&mut headers, present)).is_ok() {
        header::strip_caller_credentials((&mut headers, header::Presence::ANY), rules);
        header::strip_forwarded(&mut headers);
        for gone in ["connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy-authorization"] {
            assert!(!headers.contains_key(gone), "{gone} is left");
        }
        for gone in ["authorization", "dpop", "cookie", "x-token", "x-api-key", "forwarded", "x-forwarded-for"] {
            assert!(!headers.contains_key(gone), "{gone} is left");
        }
        for gone in connection.iter().filter(|name| HeaderName::try_from(name.as_str()).is_ok()) {
            assert!(!headers.contains_key(gone.as_str()), "{gone}, which Connection names, is left");
        }
    }
    header::strip_response_hop_by_hop(&mut answer);
    assert!(!answer.contains_key("connection") && !answer.contains_key("transfer-encoding"));
    let mut trailers = fields_of(bytes);
    header::strip_trailers(&mut trailers, rules);
    for gone in ["content-length", "host", "authorization", "transfer-encoding", "via", "cookie"] {
        assert!(!trailers.contains_key(gone), "{gone} is left in the trailers");
    }
}

/// `WWW-Authenticate`: any value gives some challenges, in bounded number.
pub fn challenge(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("www-authenticate", value);
        }
    }
    let challenges = header::challenges(&headers);
    assert!(challenges.len() <= bytes.len() + 1);
    let _ = header::challenge_errors(&headers, &["Bearer", "DPoP"]);
}

/// The configuration: any text is a configuration or a list of problems, and a problem can be shown.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Nothing on disk is looked at, and no command is run.
    let source = Source::Text { name: "fuzz.toml".to_owned(), text: text.to_owned() };
    if let Err(problems) = config::load(&source, Secrets::Leave) {
        assert!(!problems.to_string().is_empty());
    }
}

/// Salesforce metadata: any text becomes a configuration that can be read, or a note.
pub fn salesforce(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["Fuzz.namedCredential-meta.xml", "Fuzz.externalCredential-meta.xml"] {
        let files = [import::File { path: name.to_owned(), text: text.to_owned() }];
        let made = import::salesforce(&files);
        toml::de::DeTable::parse(&made.toml).unwrap_or_else(|error| panic!("{error} in:\n{}", made.toml));
        assert!(made.has_errors() || !made.report().contains('\u{0}'));
    }
}

/// Lines of `name: value`, as far as they are fields.
fn fields_of(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value[1..].trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}

pub use self::answer_head::answer_head;
pub use self::mapping::mapping;
pub use crate::caller::jwt::fuzzing::jwt;
pub use crate::server::fuzzing::{frame_stream as frames, guard};
pub use crate::token::fuzzing::token_answer;
pub use crate::upstream::fuzzing::answer;

#[cfg(test)]
mod tests;
