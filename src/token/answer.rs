//! Reads a token endpoint's answer: tolerantly where servers differ without harm, strictly where a token would be
//! unsafe to use. RFC 6749 5.1 and 5.2, and what is found in the wild.
//!
//! The result is a judgement; the bytes of the answer end here. `document` is the body as a tree, `complaint` what a
//! server says in its own words, kept for the operator only if nothing secret is in it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};

use self::complaint::Censor;
pub use self::complaint::USUAL_DESCRIPTIONS;
pub(super) use self::complaint::printable;
pub(super) use self::document::Node;
use self::document::Repeated;
use super::ResponseRules;
use super::backoff::Pace;
use super::failure::{Concerns, MintError, MintFailureKind};
use super::lifetime;
use super::members::Members;
use crate::secret::Secret;

mod complaint;
mod document;

/// Codes that mean the same at any status: asking again will not help.
const PERMANENT: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
];
/// Codes that mean: later.
const TRANSIENT: [&str; 2] = ["temporarily_unavailable", "server_error"];
/// Of the permanent ones, those that say what was asked for is wrong and not who asks.
const ABOUT_THE_REQUEST: [&str; 2] = ["invalid_scope", "invalid_target"];

/// A usable answer.
pub(super) struct Answer {
    pub(super) access_token: Secret,
    /// As written; none: missing, null or empty.
    pub(super) token_type: Option<String>,
    /// Whole seconds from now; none: not usable.
    pub(super) expires_in: Option<u64>,
    /// What stands beside the token as `scope`; none: missing or empty.
    pub(super) scope: Option<String>,
    /// What stands beside the token as `refresh_token`. Of use to the flow of that name alone.
    pub(super) refresh_token: Option<Secret>,
    /// What named credentials ask for beside the token.
    pub(super) members: Members,
}

/// What kind of body it is.
enum Shape {
    /// JSON or a form.
    Document(Node),
    /// Nothing at all: a form of no fields.
    Empty,
    /// Prose, markup, anything.
    Opaque,
}

/// Judges `answer`. `secrets` are texts that must not be repeated to anybody.
///
/// An error code where the rules say one stands is an error at any status, even beside a token; what counts as a code
/// is said at [`complaint::code`].
pub(super) fn judge(answer: &Response<Bytes>, rules: &ResponseRules, secrets: &[Secret]) -> Result<Answer, MintError> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(MintError::unusable(format!("status {}: a redirect is not followed", status.as_u16())));
    }
    let shape = shape(answer.headers(), answer.body());
    let document = match &shape {
        Shape::Document(document) => Some(document),
        Shape::Empty | Shape::Opaque => None,
    };
    let censor = Censor::new(document, rules, secrets);
    let code = document.map_or(Ok(None), |document| complaint::code(document, &rules.error));
    if let Ok(Some(code)) = &code {
        return Err(named_error(status, answer.headers(), code, &censor));
    }
    if !status.is_success() {
        return Err(bare_status(status, answer.headers(), &shape, &censor));
    }
    code.map_err(repeated)?;
    match document {
        Some(document) => token(document, rules, &censor),
        None => Err(MintError::unusable("the answer is neither JSON nor a form")),
    }
}

fn shape(headers: &HeaderMap, body: &[u8]) -> Shape {
    // RFC 8259 8.1 forbids the mark to senders and lets readers ignore it.
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    if text.is_empty() {
        return Shape::Empty;
    }
    if let Some(document) = Node::from_json(text) {
        return Shape::Document(document);
    }
    if is_form(headers, text) { Shape::Document(Node::from_form(text)) } else { Shape::Opaque }
}

/// Declared as a form, or `name=value` pairs without the white space and brackets of prose and markup.
fn is_form(headers: &HeaderMap, text: &[u8]) -> bool {
    let declared = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
    let looks_so = |text: &[u8]| {
        text.split(|byte| *byte == b'&').all(|pair| pair.iter().position(|byte| *byte == b'=').is_some_and(|at| at > 0))
            && text.iter().all(|byte| byte.is_ascii_graphic() && !b"<>{}\"".contains(byte))
    };
    declared || looks_so(text)
}

fn token(document: &Node, rules: &ResponseRules, censor: &Censor<'_>) -> Result<Answer, MintError> {
    let at = |pointer: &str| document.at(pointer).map_err(repeated);
    let beside = |name: &str| beside(document, rules, name).map_err(repeated);
    let access_token = match at(&rules.token)? {
        Some(node) => field_text(node.text().ok_or_else(|| MintError::unusable("the access token is not a text"))?)?,
        None => return Err(no_token(document, rules, censor)),
    };
    let token_type = match at(&rules.token_type)? {
        Some(node) => node.text().ok_or_else(|| MintError::unusable("the token type is not a text"))?,
        None => "",
    };
    if !rules.accept_token_types.iter().any(|accepted| accepted.eq_ignore_ascii_case(token_type)) {
        let error = MintError::unusable("the token type is not in accept_token_types");
        return Err(with_words(error, censor.phrase(token_type).map(|shown| format!("token_type: {shown}"))));
    }
    let expires_in = at(&rules.expires_in)?.and_then(Node::scalar);
    let scope = match beside("scope")? {
        Some(Node::List(list)) => list.iter().filter_map(Node::text).collect::<Vec<_>>().join(" "),
        Some(node) => node.text().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let refresh_token = beside("refresh_token")?.and_then(refresh_token);
    Ok(Answer {
        access_token,
        token_type: Some(token_type.to_owned()).filter(|text| !text.is_empty()),
        expires_in: lifetime::read(expires_in, rules.expires_unit, SystemTime::now()),
        scope: Some(scope).filter(|text| !text.trim().is_empty()),
        refresh_token,
        members: members(document, &rules.members),
    })
}

/// A text that is there more than once is none: who reads it could mean another one than the server.
fn members(document: &Node, pointers: &[String]) -> Members {
    let mut members = Members::default();
    for pointer in pointers {
        if let Some(text) = document.text_at(pointer) {
            members.keep(pointer, text);
        }
    }
    members
}

/// What stands beside the place of the token.
fn beside<'d>(document: &'d Node, rules: &ResponseRules, name: &str) -> Result<Option<&'d Node>, Repeated> {
    let parent = rules.token.rsplit_once('/').map_or("", |(parent, _)| parent);
    document.at(&format!("{parent}/{name}"))
}

fn refresh_token(node: &Node) -> Option<Secret> {
    node.text().filter(|text| !text.is_empty()).map(|text| Secret::new(text.to_owned()))
}

/// The refresh token of a success whose access token cannot be used: the server has replaced the old one all the same.
pub(super) fn rotated(answer: &Response<Bytes>, rules: &ResponseRules) -> Option<Secret> {
    let Shape::Document(document) = shape(answer.headers(), answer.body()) else { return None };
    if !answer.status().is_success() || complaint::code(&document, &rules.error) != Ok(None) {
        return None;
    }
    beside(&document, rules, "refresh_token").ok()?.and_then(refresh_token)
}

/// A token that a field value can carry.
fn field_text(token: &str) -> Result<Secret, MintError> {
    if token.is_empty() {
        return Err(MintError::unusable("the access token is empty"));
    }
    // RFC 6750 2.1 allows less; servers use more. What a field value cannot carry safely is the line.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(MintError::unusable("the access token holds bytes that a header cannot carry"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// A success without a token, with whatever hints at the reason.
fn no_token(document: &Node, rules: &ResponseRules, censor: &Censor<'_>) -> MintError {
    let error = MintError::unusable("the answer holds no access token");
    if rules.token == ResponseRules::default().token && document.text_at("/id_token").is_some() {
        return error.with_detail("there is an id_token; if that is what is meant, set response.token = \"/id_token\"");
    }
    with_words(error, censor.sentence(None))
}

fn repeated(_: Repeated) -> MintError {
    MintError::unusable("the answer holds a member more than once")
}

/// An answer that names an error.
fn named_error(status: StatusCode, headers: &HeaderMap, code: &str, censor: &Censor<'_>) -> MintError {
    let (kind, pace) = if TRANSIENT.contains(&code) {
        (MintFailureKind::Unavailable, Pace::Transient)
    } else if PERMANENT.contains(&code) {
        (MintFailureKind::Refused, Pace::Permanent)
    } else if is_transient(status) {
        (MintFailureKind::Unavailable, Pace::Transient)
    } else if status.is_client_error() {
        (MintFailureKind::Refused, Pace::Permanent)
    } else {
        (MintFailureKind::Unusable, Pace::Transient)
    };
    let word = censor.word(code);
    let cause =
        word.map_or_else(|| format!("status {} with an error code that is not a word", status.as_u16()), str::to_owned);
    let mut error = MintError::new(kind, pace, cause);
    error.retry_after = retry_after(headers);
    if ABOUT_THE_REQUEST.contains(&code) {
        error.concerns = Concerns::Request;
    }
    // Some servers put the sentence where the code belongs.
    with_words(error, censor.sentence(Some(code).filter(|_| word.is_none())))
}

/// An answer that is no success and names no error where the rules say one stands.
fn bare_status(status: StatusCode, headers: &HeaderMap, shape: &Shape, censor: &Censor<'_>) -> MintError {
    let markup = matches!(shape, Shape::Opaque);
    let (kind, pace) = if is_transient(status) || (status.is_client_error() && markup) {
        // A 4xx in prose or HTML is a firewall's or a balancer's, not the authorization server's.
        (MintFailureKind::Unavailable, Pace::Transient)
    } else if status.is_client_error() {
        (MintFailureKind::Refused, Pace::Permanent)
    } else {
        (MintFailureKind::Unusable, Pace::Transient)
    };
    let code = match shape {
        Shape::Document(document) => complaint::usual_code(document),
        Shape::Empty | Shape::Opaque => None,
    };
    let cause = match code.as_deref().and_then(|code| censor.word(code)) {
        Some(code) => format!("status {}, code {code}", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    };
    let mut error = MintError::new(kind, pace, cause);
    error.retry_after = retry_after(headers);
    with_words(error, censor.sentence(None))
}

fn with_words(error: MintError, words: Option<String>) -> MintError {
    match words {
        Some(words) => error.with_detail(words),
        None => error,
    }
}

fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// `Retry-After` as seconds or as a date, RFC 9110 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
