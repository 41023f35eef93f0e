//! What may be seen of a token request and its answer. By place first: a parameter or member is shown only if its name
//! says that it is harmless. Then by content: whatever repeats eight characters of a secret, in any form, is hidden
//! wherever it is. Assertions are shown as header and claims: without the signature they open nothing, and what is
//! wrong with one is mostly its `aud` or `exp`.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use oauth2::url::form_urlencoded;
use serde_json::Value;

use crate::secret::Secret;
use crate::token::wire::is_public;

/// In place of what is hidden; the same for every secret, so that it does not tell a length.
const HIDDEN: &str = "********";

/// So many characters in a row give a secret away.
const TELLING: usize = 8;

/// A shorter secret is hidden by place only: as a part of other words it would be everywhere.
const SHORTEST: usize = 4;

/// Longer words of this many letters and digits, in a text of unknown kind, may be tokens.
const WORD: usize = 24;

/// How the names of members of an answer end that are tokens or secrets, at any depth; in which case, and whether with
/// `_` or `-` in between, does not count.
const TOKENS: [&str; 6] = ["assertion", "authorization", "password", "secret", "signature", "token"];

/// Fields of a request that are shown; all others are credentials or come from the configuration, perhaps as secrets.
const SHOWN_FIELDS: [&str; 5] = ["accept", "content-length", "content-type", "host", "user-agent"];

/// A body, as far as its kind is known.
pub(super) enum Body<'a> {
    Json(Value),
    Form(&'a [u8]),
    Other(&'a [u8]),
}

impl<'a> Body<'a> {
    pub(super) fn of(headers: &HeaderMap, body: &'a [u8]) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_form = media.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded");
        match serde_json::from_slice(body) {
            Ok(json) if !is_form => Self::Json(json),
            Ok(_) | Err(_) if is_form => Self::Form(body),
            Ok(_) | Err(_) => Self::Other(body),
        }
    }
}

/// What must not be seen, whoever says it.
#[derive(Clone, Default)]
pub(super) struct Mask {
    /// Every run of [`TELLING`] bytes of every secret.
    telling: HashSet<[u8; TELLING]>,
    /// The secrets that are shorter.
    short: Vec<String>,
}

impl Mask {
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let mut mask = Self::default();
        secrets.iter().for_each(|secret| mask.add(secret.expose()));
        mask
    }

    fn add(&mut self, secret: &str) {
        if (SHORTEST..TELLING).contains(&secret.len()) {
            self.short.push(secret.to_owned());
        }
        self.telling.extend(secret.as_bytes().windows(TELLING).filter_map(|part| <[u8; TELLING]>::try_from(part).ok()));
    }

    /// A request's URL; parameters that are not in the `configured` query are shown as those of a form.
    pub(super) fn url(&self, url: &Uri, configured: &str) -> String {
        let Some(query) = url.query() else { return url.to_string() };
        let known: HashSet<_> = form_urlencoded::parse(configured.as_bytes()).map(|(name, _)| name).collect();
        let shown = |pair: &str| {
            let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { return pair.to_owned() };
            if known.contains(&name) && !is_token(&name) {
                return self.hide(pair);
            }
            format!("{}={}", self.hide(&name), self.parameter(&name, &value))
        };
        let query: Vec<String> = query.split('&').map(shown).collect();
        let whole = url.to_string();
        format!("{}?{}", whole.split('?').next().unwrap_or_default(), query.join("&"))
    }

    pub(super) fn sent_field(&self, name: &str, value: &str) -> String {
        if SHOWN_FIELDS.contains(&name) {
            return self.hide(value);
        }
        match value.split_once(' ') {
            Some((scheme, credentials)) if name == "authorization" => {
                // A secret from the configuration may have a space in it, and then its beginning is no scheme.
                let scheme = self.hide(scheme);
                format!("{scheme} {}", jwt(credentials).map_or_else(|| HIDDEN.to_owned(), |jwt| self.hide(&jwt)))
            }
            Some(_) | None if name == "dpop" => jwt(value).map_or_else(|| HIDDEN.to_owned(), |jwt| self.hide(&jwt)),
            Some(_) | None => HIDDEN.to_owned(),
        }
    }

    pub(super) fn sent_body(&self, body: Body<'_>) -> String {
        match body {
            Body::Form(body) => {
                let lines = form_urlencoded::parse(body);
                let lines = lines.map(|(name, value)| format!("{name}={}", self.parameter(&name, &value)));
                lines.collect::<Vec<_>>().join("\n")
            }
            Body::Json(Value::Object(members)) => {
                let shown = members.into_iter().map(|(name, value)| {
                    let value = match value.as_str() {
                        Some(text) => Value::from(self.parameter(&name, text)),
                        None if is_public(&name) => value,
                        None => Value::from(HIDDEN),
                    };
                    (name, value)
                });
                Value::Object(shown.collect()).to_string()
            }
            Body::Json(_) | Body::Other([_, ..]) => HIDDEN.to_owned(),
            Body::Other([]) => String::new(),
        }
    }

    /// An answer's body, and this mask with the tokens that are in it. `token` is the pointer to the access token.
    pub(super) fn received_body(&self, headers: &HeaderMap, body: &[u8], token: &str) -> (String, Self) {
        let mut mask = self.clone();
        let text = match Body::of(headers, body) {
            Body::Json(mut json) => {
                if let Some(value) = json.pointer_mut(token) {
                    mask.take(value);
                }
                mask.take_tokens(&mut json);
                mask.hide(&json.to_string())
            }
            Body::Form(body) => {
                let mut lines = Vec::new();
                for (name, value) in form_urlencoded::parse(body) {
                    let hidden = is_token(&name) || jwt(&value).is_some();
                    if hidden {
                        mask.add(&value);
                    }
                    lines.push(format!("{name}={}", if hidden { HIDDEN } else { &*value }));
                }
                mask.hide(&lines.join("\n"))
            }
            Body::Other(body) => mask.hide(&unknown(&String::from_utf8_lossy(body), token)),
        };
        (text, mask)
    }

    pub(super) fn received_field(&self, name: &str, value: &str) -> String {
        if name == "set-cookie" || is_token(name) { HIDDEN.to_owned() } else { self.hide(value) }
    }

    fn parameter(&self, name: &str, value: &str) -> String {
        match jwt(value) {
            Some(jwt) => self.hide(&jwt),
            None if is_public(name) => self.hide(value),
            None => HIDDEN.to_owned(),
        }
    }

    /// Hides a member, and remembers what was there.
    fn take(&mut self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                self.add(text);
                *value = Value::from(HIDDEN);
            }
            Value::Number(_) | Value::Array(_) | Value::Object(_) => *value = Value::from(HIDDEN),
        }
    }

    fn take_tokens(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if is_token(name) { self.take(member) } else { self.take_tokens(member) }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|member| self.take_tokens(member)),
            Value::String(text) if jwt(text).is_some() => self.take(value),
            Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }

    /// `text` without what gives a secret away, and without what could play tricks on a terminal.
    fn hide(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut hidden = vec![false; bytes.len()];
        let mut cover = |from: usize, length: usize| {
            hidden.iter_mut().skip(from).take(length).for_each(|hidden| *hidden = true);
        };
        for (at, part) in bytes.windows(TELLING).enumerate() {
            if <[u8; TELLING]>::try_from(part).is_ok_and(|part| self.telling.contains(&part)) {
                cover(at, TELLING);
            }
        }
        for secret in &self.short {
            text.match_indices(secret.as_str()).for_each(|(at, found)| cover(at, found.len()));
        }
        let mut shown = String::new();
        let mut within = false;
        for (at, character) in text.char_indices() {
            let is_hidden = hidden.get(at).copied().unwrap_or_default();
            match (is_hidden, within) {
                (true, false) => shown.push_str(HIDDEN),
                (true, true) => {}
                (false, _) => shown.push(printable(character)),
            }
            within = is_hidden;
        }
        shown
    }
}

fn is_token(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends_with = |token: &str| {
        let end = bytes.len().checked_sub(token.len()).and_then(|start| bytes.get(start..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(token.as_bytes()))
    };
    TOKENS.iter().any(|token| ends_with(token))
}

/// Control characters and those that reverse the direction of writing become `?`.
fn printable(character: char) -> char {
    let tricky = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if tricky || (character.is_control() && character != '\n') { '?' } else { character }
}

/// Header and claims of a JWT in compact form (RFC 7519 3.1).
fn jwt(text: &str) -> Option<String> {
    let (header, rest) = text.split_once('.')?;
    let (claims, signature) = rest.split_once('.')?;
    if signature.contains('.') {
        return None;
    }
    let decode = |part: &str| {
        let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
        json.is_object().then_some(json)
    };
    Some(format!("<JWT header {} claims {}>", decode(header)?, decode(claims)?))
}

/// A text that is neither JSON nor a form, such as JSON that was cut off. Every long word with a digit in it may be a
/// token, and so may what follows the name of one.
fn unknown(text: &str, token: &str) -> String {
    let mut shown = without_words(text);
    let last = token.rsplit('/').next().unwrap_or_default();
    let lower = shown.to_ascii_lowercase();
    // Prose speaks of secrets; what follows there is what is wrong with them.
    let names = TOKENS.into_iter().filter(|name| *name != "secret").chain(["client_secret", "clientsecret"]);
    let names = names.map(str::to_owned).chain([last.to_ascii_lowercase()]);
    let ends = names.filter(|name| !name.is_empty()).filter_map(|name| Some(lower.find(&name)? + name.len()));
    if let Some(end) = ends.min().filter(|end| *end < shown.len()) {
        shown.truncate(end);
        shown.push_str(HIDDEN);
    }
    shown
}

fn without_words(text: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || "-._~+=".contains(character);
    let mut result = String::new();
    for part in text.split_inclusive(|character| !is_word(character)) {
        let word = part.trim_end_matches(|character| !is_word(character));
        if word.len() >= WORD && word.contains(|character: char| character.is_ascii_digit()) {
            result.push_str(HIDDEN);
            result.push_str(part.get(word.len()..).unwrap_or_default());
        } else {
            result.push_str(part);
        }
    }
    result
}
