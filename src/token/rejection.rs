//! Which answers of an upstream say that the token is no longer good: status first, then rules on fields or a bounded
//! prefix of the body. Pure; the prefix is read and decoded elsewhere.
//!
//! `refresh_unless` wins over everything. A 401 or listed code counts unless its challenge says that another token
//! would not help (RFC 6750 3.1, RFC 9449 9). Then comes `refresh_when`.

use std::cell::OnceCell;

use http::{HeaderMap, HeaderName, StatusCode};
use memchr::memmem;
use serde_json::Value;

use crate::header;

/// `replay`: which requests are sent again after a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// After a 401 any method, after every other listed code or rule idempotent methods.
    Unset,
    /// Any method for all.
    Always,
    /// Idempotent methods for all.
    Idempotent,
    /// Renew only.
    Never,
}

/// `additional_refresh_status_codes`, `refresh_when` and `refresh_unless`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RejectionRules {
    /// Status codes besides 401.
    pub additional_status_codes: Vec<StatusCode>,
    /// Any of these makes an answer a rejection.
    pub when: Vec<Rule>,
    /// Any of these says that it is none, whatever else holds.
    pub unless: Vec<Rule>,
}

/// All parts that are there must hold; at least one is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `status`; empty: any.
    pub status: Vec<StatusPattern>,
    /// `header_contains`: fields and what one of their values must contain, without regard to case.
    pub header_contains: Vec<(HeaderName, String)>,
    /// `body_contains`: these bytes, decoded, with regard to case.
    pub body_contains: Option<String>,
    /// `json`
    pub json: Option<JsonRule>,
    /// `replay` for answers that this rule makes rejections, which a 401 or listed code is without it; none: the
    /// named credential's.
    pub replay: Option<Replay>,
}

/// An element of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// One code.
    Code(StatusCode),
    /// `"4xx"`: the first digit.
    Class(u16),
}

/// `json = { pointer = "/errors/0/code", in = [601, "601"] }`
#[derive(Clone, Debug, PartialEq)]
pub struct JsonRule {
    /// RFC 6901.
    pub pointer: String,
    /// One of these values stands there, equal as JSON is (`601` is not `"601"`); empty: something other than `null`.
    pub values: Vec<Value>,
}

/// What an answer says about the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Accepted,
    /// It is no longer good; with the `replay` of the rule that says so.
    Rejected(Option<Replay>),
    /// The body decides: a prefix of it must be looked at.
    Look,
}

/// What was seen of an answer's body, its content codings removed.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Its beginning; more of it can be looked at.
    Beginning(&'a [u8]),
    /// All that will be looked at, but not all there is.
    Cut(&'a [u8]),
    /// All there is.
    Whole(&'a [u8]),
}

impl RejectionRules {
    /// What status and fields say. One comparison for most answers where there are no rules.
    #[must_use]
    pub fn head(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        if self.when.is_empty() && !self.lists(status) {
            return Verdict::Accepted;
        }
        self.body(status, headers, Seen::Beginning(&[]))
    }

    /// What status, fields and what was seen of the body say; [`Verdict::Look`] only for a [`Seen::Beginning`].
    #[must_use]
    pub fn body(&self, status: StatusCode, headers: &HeaderMap, seen: Seen<'_>) -> Verdict {
        let answer = Answer { status, headers, seen, json: OnceCell::new() };
        let excluded = self.unless.iter().map(|rule| rule.holds(&answer)).max().unwrap_or(Holds::No);
        if excluded == Holds::Yes {
            return Verdict::Accepted;
        }
        let verdict = if self.lists(status) && another_token_would_help(headers) {
            Verdict::Rejected(None)
        } else {
            self.when(&answer)
        };
        match (excluded, verdict) {
            (Holds::Open, Verdict::Rejected(_)) => Verdict::Look,
            _ => verdict,
        }
    }

    /// What remains to be said of an answer that refuses its token outside of status, fields and body (gRPC's
    /// UNAUTHENTICATED): `refresh_unless` wins over that too.
    #[must_use]
    pub fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let answer = Answer { status, headers, seen: Seen::Whole(&[]), json: OnceCell::new() };
        match self.unless.iter().any(|rule| rule.holds(&answer) == Holds::Yes) {
            true => Verdict::Accepted,
            false => Verdict::Rejected(None),
        }
    }

    /// Whether any rule may have to look at a body.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        let looks = |rule: &Rule| rule.body_contains.is_some() || rule.json.is_some();
        self.when.iter().chain(&self.unless).any(looks)
    }

    fn lists(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || self.additional_status_codes.contains(&status)
    }

    /// What `refresh_when` says: the first rule that holds, unless an earlier one is open and would say another thing.
    fn when(&self, answer: &Answer<'_>) -> Verdict {
        let mut open = Vec::new();
        for rule in &self.when {
            match rule.holds(answer) {
                Holds::No => {}
                Holds::Open => open.push(rule.replay),
                Holds::Yes if open.iter().all(|replay| *replay == rule.replay) => {
                    return Verdict::Rejected(rule.replay);
                }
                Holds::Yes => return Verdict::Look,
            }
        }
        if open.is_empty() { Verdict::Accepted } else { Verdict::Look }
    }
}

/// A token that is good but not enough is no reason to mint another, and a missing nonce has nothing to do with it.
/// The words count where they are the error of a challenge, not in some text of it.
fn another_token_would_help(headers: &HeaderMap) -> bool {
    let errors = header::challenge_errors(headers, &["Bearer", "DPoP"]);
    let says = |error: &str| errors.iter().any(|said| said == error);
    says("invalid_token") || !(says("insufficient_scope") || says("use_dpop_nonce"))
}

/// What rules are held against.
struct Answer<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    seen: Seen<'a>,
    /// Parsed once, for the first rule that asks.
    json: OnceCell<Option<Value>>,
}

/// Whether a rule, or a part of it, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    No,
    /// What was not seen yet decides.
    Open,
    Yes,
}

impl From<bool> for Holds {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl Rule {
    fn holds(&self, answer: &Answer<'_>) -> Holds {
        let status = self.status.is_empty() || self.status.iter().any(|pattern| pattern.holds(answer.status));
        if !status || !self.header_contains.iter().all(|(name, text)| answer.field_contains(name, text)) {
            return Holds::No;
        }
        let text = self.body_contains.as_ref().map_or(Holds::Yes, |text| answer.contains(text));
        let json = self.json.as_ref().map_or(Holds::Yes, |rule| answer.json_holds(rule));
        text.min(json)
    }
}

impl StatusPattern {
    fn holds(self, status: StatusCode) -> bool {
        match self {
            Self::Code(code) => code == status,
            Self::Class(digit) => digit == status.as_u16() / 100,
        }
    }
}

impl Answer<'_> {
    fn field_contains(&self, name: &HeaderName, text: &str) -> bool {
        let contains = |value: &[u8]| {
            text.is_empty() || value.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
        };
        self.headers.get_all(name).iter().any(|value| contains(value.as_bytes()))
    }

    fn contains(&self, text: &str) -> Holds {
        let (Seen::Beginning(body) | Seen::Cut(body) | Seen::Whole(body)) = self.seen;
        match (memmem::find(body, text.as_bytes()), self.seen) {
            (Some(_), _) => Holds::Yes,
            (None, Seen::Beginning(_)) => Holds::Open,
            (None, Seen::Cut(_) | Seen::Whole(_)) => Holds::No,
        }
    }

    /// A document that was cut is none: what stands further on could be another member of the same name.
    fn json_holds(&self, rule: &JsonRule) -> Holds {
        let body = match self.seen {
            Seen::Beginning(_) => return Holds::Open,
            Seen::Cut(_) => return Holds::No,
            Seen::Whole(body) => body,
        };
        // .NET services begin their answers with a byte order mark.
        let document = || serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).ok();
        let document = self.json.get_or_init(document).as_ref();
        let found = document.and_then(|document| document.pointer(&rule.pointer));
        let is_wanted = |value: &Value| match rule.values.as_slice() {
            [] => *value != Value::Null,
            values => values.contains(value),
        };
        found.is_some_and(is_wanted).into()
    }
}

#[cfg(test)]
mod tests;
