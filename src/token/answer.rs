//! Reads a token endpoint's answer: tolerantly where servers differ without harm, strictly where a token would be
//! unsafe to use. RFC 6749 5.1 and 5.2, and what is found in the wild.
//!
//! The result is a judgement; the bytes of the answer end here. What a server says in its own words is kept for the
//! operator only if nothing secret is in it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use oauth2::url::form_urlencoded;
use serde::Deserialize;
use serde_json::Value;

use super::backoff::Pace;
use super::failure::{Concerns, MintError, MintFailureKind};
use super::lifetime;
use crate::secret::Secret;

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
    /// Whole seconds; none: not usable.
    pub(super) expires_in: Option<u64>,
    /// None: missing or empty.
    pub(super) scope: Option<String>,
}

/// The members that are looked at. A repeated one is an error: two tokens in one answer are none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
    scope: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
    #[serde(rename = "ErrorCode")]
    apigee_code: Option<Value>,
    #[serde(rename = "Error")]
    apigee_description: Option<Value>,
    fault: Option<Value>,
}

/// What kind of body it is.
enum Shape {
    Members(Box<Members>),
    /// JSON, but not an object with the members above.
    OtherJson,
    /// Nothing at all: a form of no fields.
    Empty,
    Opaque,
}

/// Judges `answer`. `secrets` are texts that must not be repeated to anybody.
pub(super) fn judge(
    answer: &Response<Bytes>,
    accept_token_types: &[String],
    secrets: &[Secret],
) -> Result<Answer, MintError> {
    let status = answer.status();
    if status.is_redirection() {
        return Err(MintError::unusable(format!("status {}: a redirect is not followed", status.as_u16())));
    }
    let shape = shape(answer.headers(), answer.body());
    if let Shape::Members(members) = &shape
        && let Some(code) = members.code()
    {
        return Err(named_error(status, answer.headers(), &code, members, secrets));
    }
    if !status.is_success() {
        return Err(bare_status(status, answer.headers(), &shape));
    }
    match shape {
        Shape::Members(members) => members.token(accept_token_types),
        Shape::OtherJson | Shape::Empty | Shape::Opaque => {
            Err(MintError::unusable("the answer is not a JSON object with each member once"))
        }
    }
}

fn shape(headers: &HeaderMap, body: &[u8]) -> Shape {
    let text = body.trim_ascii();
    if text.is_empty() {
        return Shape::Empty;
    }
    if let Ok(members) = serde_json::from_slice::<Members>(text)
        && text.starts_with(b"{")
    {
        return Shape::Members(Box::new(members));
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok() {
        return Shape::OtherJson;
    }
    if is_form(headers, text) { Shape::Members(Box::new(Members::from_form(text))) } else { Shape::Opaque }
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

impl Members {
    fn from_form(text: &[u8]) -> Self {
        let mut members = Self::default();
        for (name, value) in form_urlencoded::parse(text) {
            let member = match &*name {
                "access_token" => &mut members.access_token,
                "token_type" => &mut members.token_type,
                "expires_in" => &mut members.expires_in,
                "scope" => &mut members.scope,
                "error" => &mut members.error,
                "error_description" => &mut members.error_description,
                _ => continue,
            };
            // A repeated field becomes something that no reading accepts.
            *member = Some(if member.is_some() { Value::Bool(false) } else { Value::from(&*value) });
        }
        members
    }

    /// The error code, wherever this server puts it; Reddit's is a number.
    fn code(&self) -> Option<String> {
        let fault = self.fault.as_ref().and_then(|fault| fault.pointer("/detail/errorcode"));
        [self.error.as_ref(), self.apigee_code.as_ref(), fault].into_iter().flatten().find_map(|code| match code {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(object) => Some(
                ["code", "status", "type"]
                    .iter()
                    .find_map(|name| object.get(*name)?.as_str())
                    .unwrap_or("an error object")
                    .to_owned(),
            ),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) => None,
        })
    }

    fn description(&self) -> Option<&str> {
        let fault = self.fault.as_ref().and_then(|fault| fault.pointer("/faultstring"));
        [self.error_description.as_ref(), self.apigee_description.as_ref(), fault]
            .into_iter()
            .flatten()
            .find_map(Value::as_str)
    }

    fn token(self, accept_token_types: &[String]) -> Result<Answer, MintError> {
        let access_token = match self.access_token {
            Some(Value::String(text)) => Secret::new(text),
            Some(_) => return Err(MintError::unusable("the access token is not a text")),
            None => return Err(MintError::unusable("the answer holds no access token")),
        };
        let token = access_token.expose();
        if token.is_empty() {
            return Err(MintError::unusable("the access token is empty"));
        }
        // RFC 6750 2.1 allows less; servers use more. What a field value cannot carry safely is the line.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(MintError::unusable("the access token holds bytes that a header cannot carry"));
        }
        let token_type = match self.token_type {
            None => String::new(),
            Some(Value::String(text)) => text,
            Some(_) => return Err(MintError::unusable("the token type is not a text")),
        };
        if !accept_token_types.iter().any(|accepted| accepted.eq_ignore_ascii_case(&token_type)) {
            return Err(MintError::unusable("the token type is not in accept_token_types")
                .with_detail(format!("token_type: {}", printable(&token_type, 40))));
        }
        let scope = match self.scope {
            Some(Value::String(text)) => text,
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
            Some(_) | None => String::new(),
        };
        Ok(Answer {
            expires_in: lifetime::read(self.expires_in.as_ref()),
            token_type: Some(token_type).filter(|text| !text.is_empty()),
            scope: Some(scope).filter(|text| !text.trim().is_empty()),
            access_token,
        })
    }
}

/// An answer that names an error.
fn named_error(
    status: StatusCode,
    headers: &HeaderMap,
    code: &str,
    members: &Members,
    secrets: &[Secret],
) -> MintError {
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
    let is_word = |text: &str| {
        text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let telltale = |text: &str| members.access_token.is_some() || secrets.iter().any(|secret| repeats(text, secret));
    let cause = if is_word(code) && !telltale(code) {
        code.to_owned()
    } else {
        format!("status {} with an error code that is not a word", status.as_u16())
    };
    let mut error = MintError::new(kind, pace, cause);
    error.retry_after = retry_after(headers);
    if ABOUT_THE_REQUEST.contains(&code) {
        error.concerns = Concerns::Request;
    }
    match members.description() {
        Some(text) if !telltale(text) => error.with_detail(printable(text, 300)),
        Some(_) | None => error,
    }
}

/// An answer that is no success and names no error.
fn bare_status(status: StatusCode, headers: &HeaderMap, shape: &Shape) -> MintError {
    let markup = matches!(shape, Shape::Opaque);
    let (kind, pace) = if is_transient(status) || (status.is_client_error() && markup) {
        // A 4xx in prose or HTML is a firewall's or a balancer's, not the authorization server's.
        (MintFailureKind::Unavailable, Pace::Transient)
    } else if status.is_client_error() {
        (MintFailureKind::Refused, Pace::Permanent)
    } else {
        (MintFailureKind::Unusable, Pace::Transient)
    };
    let mut error = MintError::new(kind, pace, format!("status {}", status.as_u16()));
    error.retry_after = retry_after(headers);
    error
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

/// Whether `text` shows eight or more characters of `secret` in a row, or all of a shorter one.
fn repeats(text: &str, secret: &Secret) -> bool {
    let secret = secret.expose().as_bytes();
    let length = secret.len().min(8);
    length > 0 && secret.windows(length).any(|part| text.as_bytes().windows(length).any(|shown| shown == part))
}

/// Foreign text made fit for a terminal and a log line: ASCII, bounded.
fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests;
