//! Reads `WWW-Authenticate` (RFC 9110 11.6.1): several challenges in a line, several lines, parameters or token68.
//!
//! What is well-formed is read by the grammar. What is broken in the wild is read as well as can be: quotes that do
//! not match, parameters without commas between them, texts without quotes. What a challenge means is decided elsewhere.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Lines read, bytes of a line and parts in all: more are no challenge that anyone means, and reading stays cheap.
const MOST_LINES: usize = 16;
const LONGEST_LINE: usize = 8 * 1024;
const MOST_PARTS: usize = 64;

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Its scheme as written; empty where parameters come without one.
    pub scheme: String,
    /// The value that some schemes have instead of parameters.
    pub token68: Option<String>,
    /// Names as written and values without quotes, in their order.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether it has this scheme; case does not count.
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The first parameter of this name; case does not count in names.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }
}

/// All challenges of a header section, in their order. What cannot be read is passed over.
#[must_use]
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Found { challenges: Vec::new(), parts: 0 };
    for line in headers.get_all(WWW_AUTHENTICATE).iter().take(MOST_LINES) {
        let line = line.as_bytes();
        Line { rest: line.get(..LONGEST_LINE).unwrap_or(line) }.read(&mut found);
    }
    found.challenges
}

/// The `error` of every challenge that has one of these schemes and tells one (RFC 6750 3, RFC 9449 7.1).
#[must_use]
pub fn challenge_errors(headers: &HeaderMap, schemes: &[&str]) -> Vec<String> {
    let told = |challenge: &Challenge| challenge.parameter("error").map(str::to_owned);
    challenges(headers)
        .iter()
        .filter(|challenge| schemes.iter().any(|scheme| challenge.is(scheme)))
        .filter_map(told)
        .collect()
}

struct Found {
    challenges: Vec<Challenge>,
    parts: usize,
}

/// What is left of a line.
struct Line<'a> {
    rest: &'a [u8],
}

/// Where the last thing read leaves us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning of a line or after a comma: only here can a scheme stand.
    Element,
    /// After a scheme: here a token68 can stand.
    Scheme,
    /// After a parameter or something unreadable.
    Inside,
}

impl<'a> Line<'a> {
    fn read(&mut self, found: &mut Found) {
        let first = found.challenges.len();
        let mut place = Place::Element;
        while found.parts < MOST_PARTS {
            if self.skip_separators() {
                place = Place::Element;
            }
            if self.rest.is_empty() {
                return;
            }
            let word = self.word();
            if word.is_empty() {
                self.skip(1);
                place = Place::Inside;
                continue;
            }
            found.parts += 1;
            if self.is_parameter(place) {
                // A line that begins with a parameter has lost its scheme; that of another line is not meant.
                if found.challenges.len() == first {
                    found.challenges.push(Challenge::default());
                }
                let parameter = (text(word), self.value());
                found.last(|challenge| challenge.parameters.push(parameter));
                place = Place::Inside;
            } else if place == Place::Element {
                found.challenges.push(Challenge { scheme: text(word), ..Challenge::default() });
                place = Place::Scheme;
            } else if place == Place::Scheme {
                let token = text(word) + self.padding();
                found.last(|challenge| challenge.token68 = Some(token));
                place = Place::Inside;
            }
            // What is left is a further word of a text without quotes.
        }
    }

    /// Whether an equals sign follows, and not the padding of a token68 that ends the element.
    fn is_parameter(&self, place: Place) -> bool {
        let mut after =
            self.rest.iter().skip_while(|byte| **byte == b'=').skip_while(|byte| byte.is_ascii_whitespace());
        let is_padding = place == Place::Scheme && after.next().is_none_or(|byte| *byte == b',');
        self.rest.trim_ascii_start().starts_with(b"=") && !is_padding
    }

    /// The value of the parameter whose name was read.
    fn value(&mut self) -> String {
        self.skip_spaces();
        self.skip(1);
        let is_spaced = self.rest.first().is_some_and(u8::is_ascii_whitespace);
        self.skip_spaces();
        match self.rest.first() {
            Some(b'"') => {
                self.skip(1);
                self.quoted().unwrap_or_else(|| self.badly_quoted())
            }
            Some(b'\'') => {
                self.skip(1);
                self.badly_quoted()
            }
            // The value is missing, and this is the next parameter.
            Some(_) if is_spaced && Line { rest: self.rest }.begins_with_a_parameter() => String::new(),
            Some(_) => self.bare(),
            None => String::new(),
        }
    }

    /// A quoted-string (RFC 9110 5.6.4) after its first quote; none, and nothing is read, when it does not end well.
    fn quoted(&mut self) -> Option<String> {
        let mut value = Vec::new();
        let mut bytes = self.rest.iter();
        loop {
            match bytes.next()? {
                b'"' if ends(bytes.as_slice()) => break,
                b'"' => return None,
                b'\\' => value.push(*bytes.next()?),
                byte => value.push(*byte),
            }
        }
        self.rest = bytes.as_slice();
        Some(text(&value))
    }

    /// A text after its first quote, whose last is of another kind, or missing: it goes to the next quote that ends
    /// something, to the parameter after it, or to a comma.
    fn badly_quoted(&mut self) -> String {
        let pairs = |wanted: fn(u8, &[u8]) -> bool| {
            let mut places = (0..self.rest.len()).map(|at| self.rest.split_at(at).1);
            places.position(|rest| rest.split_first().is_some_and(|(first, rest)| wanted(*first, rest)))
        };
        let close = pairs(|byte, rest| is_quote(byte) && ends(rest));
        let next = pairs(|byte, rest| byte == b'=' && rest.first().copied().is_some_and(is_quote));
        let end = match (close, next) {
            (Some(close), None) => close,
            (Some(close), Some(next)) if close < next => close,
            (_, Some(next)) => {
                let before = self.rest.get(..next).unwrap_or_default();
                before.iter().rposition(|byte| is_separator(*byte) || is_quote(*byte)).map_or(0, |at| at + 1)
            }
            (None, None) => self.rest.iter().position(|byte| *byte == b',').unwrap_or(self.rest.len()),
        };
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
        trimmed(value)
    }

    /// A token, or what stands in its place; stray quotes and what should escape them are no part of it.
    fn bare(&mut self) -> String {
        let end = self.rest.iter().position(|byte| is_separator(*byte)).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        trimmed(value)
    }

    fn begins_with_a_parameter(mut self) -> bool {
        !self.word().is_empty() && self.rest.starts_with(b"=")
    }

    /// The equals signs at the end of a token68.
    fn padding(&mut self) -> &'a str {
        let end = self.rest.iter().position(|byte| *byte != b'=').unwrap_or(self.rest.len());
        let (padding, rest) = self.rest.split_at(end);
        self.rest = rest;
        str::from_utf8(padding).unwrap_or_default()
    }

    /// Passes over white space and commas; whether there was a comma.
    fn skip_separators(&mut self) -> bool {
        let end = self.rest.iter().position(|byte| !is_separator(*byte)).unwrap_or(self.rest.len());
        let (skipped, rest) = self.rest.split_at(end);
        self.rest = rest;
        skipped.contains(&b',')
    }

    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// The bytes before the next separator, equals sign or quote.
    fn word(&mut self) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| is_separator(*byte) || matches!(byte, b'=' | b'"'));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }
}

impl Found {
    fn last(&mut self, change: impl FnOnce(&mut Challenge)) {
        if let Some(challenge) = self.challenges.last_mut() {
            change(challenge);
        }
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',')
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// Whether an element ends before `rest`.
fn ends(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| is_separator(*byte))
}

fn trimmed(value: &[u8]) -> String {
    let stray = |character: char| matches!(character, '"' | '\'' | '\\' | ',') || character.is_ascii_whitespace();
    text(value).trim_matches(stray).to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
