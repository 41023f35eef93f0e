//! Salesforce's merge formulas `{!…}` → CEL. Knows the language of formulas and its types; where merge fields lead is
//! the caller's concern ([`MergeFields`]). What has no counterpart is named, never guessed at.

mod tokens;

use self::tokens::Token;
use super::note::shown;

/// What a value of the metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Translated {
    /// A text without formulas, or one whose formulas are only texts.
    Text(String),
    /// CEL that gives a text.
    Formula(String),
    /// This many seconds from now, as seconds since 1970: how Salesforce writes `exp`.
    Clock(u64),
}

/// Why a formula cannot be carried over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untranslatable {
    /// It is no formula of Salesforce's.
    #[error("the formula is malformed: {0}")]
    Malformed(&'static str),
    /// It uses what does not exist here.
    #[error("{0} has no counterpart here")]
    NoCounterpart(String),
    /// It could be said in CEL, but should not be.
    #[error("{0}")]
    Refused(&'static str),
}

/// Where merge fields lead.
pub(super) trait MergeFields {
    /// `$Credential.PARAMETER` or `$Credential.EXTERNAL.PARAMETER` as CEL.
    fn credential(&mut self, external: Option<&str>, parameter: &str) -> Result<String, Untranslatable>;

    /// The named secret that holds the private key of a certificate.
    fn certificate(&mut self, name: &str) -> Result<String, Untranslatable>;
}

/// Parentheses and calls in each other.
const DEEPEST: usize = 32;

/// The beginning of the time since 1970 in seconds, up to where a number of seconds may be added.
const SINCE_1970: [&str; 15] = [
    "(",
    "FLOOR",
    "(",
    "(",
    "NOW",
    "(",
    ")",
    "-",
    "DATETIMEVALUE",
    "(",
    "'1970-01-01 00:00:00'",
    ")",
    ")",
    "*",
    "86400",
];

/// Text with formulas in it → text or CEL.
///
/// # Errors
/// [`Untranslatable`]; `fields` may have been asked by then, so hand in a copy where that matters.
pub(super) fn translate(text: &str, fields: &mut dyn MergeFields) -> Result<Translated, Untranslatable> {
    let mut sum = Sum::default();
    let mut rest = text;
    while let Some((before, formula)) = rest.split_once("{!") {
        sum.push(Piece::Literal(before.to_owned()));
        let (tokens, after) = tokens::read(formula)?;
        let mut parser = Parser { tokens: &tokens, fields, depth: 0 };
        match parser.whole()? {
            Expression::Text(inner) => sum.append(inner),
            Expression::Bytes(_) => {
                return Err(Untranslatable::Malformed("its result is binary; HEX or BASE64ENCODE makes a text of it"));
            }
        }
        rest = after;
    }
    sum.push(Piece::Literal(rest.to_owned()));
    Ok(sum.into_translated())
}

/// A text as a CEL literal.
pub(super) fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

impl Translated {
    /// As CEL that gives a text.
    pub(super) fn to_cel(&self) -> String {
        match self {
            Self::Text(text) => literal(text),
            Self::Formula(formula) => formula.clone(),
            Self::Clock(ahead) => format!("string({})", clock(*ahead)),
        }
    }
}

/// Seconds since 1970 as CEL.
pub(super) fn clock(ahead: u64) -> String {
    if ahead == 0 { "now".to_owned() } else { format!("now + {ahead}") }
}

/// A part of a concatenation.
enum Piece {
    Literal(String),
    Cel(String),
    Clock(u64),
}

/// A concatenation. Texts beside each other are one, and empty ones are not there.
#[derive(Default)]
struct Sum(Vec<Piece>);

enum Expression {
    Text(Sum),
    Bytes(String),
}

impl Sum {
    fn of(piece: Piece) -> Self {
        let mut sum = Self::default();
        sum.push(piece);
        sum
    }

    fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (_, Piece::Literal(text)) if text.is_empty() => {}
            (Some(Piece::Literal(before)), Piece::Literal(text)) => before.push_str(&text),
            (_, piece) => self.0.push(piece),
        }
    }

    fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|piece| self.push(piece));
    }

    fn into_translated(self) -> Translated {
        match self.0.as_slice() {
            [] => Translated::Text(String::new()),
            [Piece::Literal(text)] => Translated::Text(text.clone()),
            [Piece::Clock(ahead)] => Translated::Clock(*ahead),
            _ => Translated::Formula(self.to_cel()),
        }
    }

    fn to_cel(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => literal(text),
            Piece::Cel(cel) => cel.clone(),
            Piece::Clock(ahead) => format!("string({})", clock(*ahead)),
        };
        if self.0.is_empty() { literal("") } else { self.0.iter().map(piece).collect::<Vec<_>>().join(" + ") }
    }

    fn as_literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

impl Expression {
    fn to_cel(&self) -> String {
        match self {
            Self::Text(sum) => sum.to_cel(),
            Self::Bytes(cel) => cel.clone(),
        }
    }

    fn as_literal(&self) -> Option<&str> {
        match self {
            Self::Text(sum) => sum.as_literal(),
            Self::Bytes(_) => None,
        }
    }

    /// As CEL that gives bytes.
    fn to_bytes(&self) -> String {
        match self {
            Self::Text(sum) => format!("blob({})", sum.to_cel()),
            Self::Bytes(cel) => cel.clone(),
        }
    }

    fn into_sum(self) -> Result<Sum, Untranslatable> {
        match self {
            Self::Text(sum) => Ok(sum),
            Self::Bytes(_) => Err(Untranslatable::Malformed("binary values cannot be joined")),
        }
    }
}

struct Parser<'t, 'm> {
    tokens: &'t [Token],
    fields: &'m mut dyn MergeFields,
    depth: usize,
}

impl Parser<'_, '_> {
    fn whole(&mut self) -> Result<Expression, Untranslatable> {
        let expression = self.sum()?;
        match self.next() {
            None => Ok(expression),
            Some(Token::Symbol(symbol)) => Err(Untranslatable::NoCounterpart(format!("the operator `{symbol}`"))),
            Some(_) => Err(Untranslatable::Malformed("two values stand beside each other")),
        }
    }

    fn sum(&mut self) -> Result<Expression, Untranslatable> {
        let first = self.operand()?;
        if !self.is_joined() {
            return Ok(first);
        }
        let mut sum = first.into_sum()?;
        while self.is_joined() {
            self.next();
            sum.append(self.operand()?.into_sum()?);
        }
        Ok(Expression::Text(sum))
    }

    fn operand(&mut self) -> Result<Expression, Untranslatable> {
        let Some(token) = self.next() else { return Err(Untranslatable::Malformed("a value is missing")) };
        match token {
            Token::Text(text) => Ok(Expression::Text(Sum::of(Piece::Literal(text)))),
            Token::Number(_) => Err(Untranslatable::NoCounterpart("reckoning with numbers".to_owned())),
            Token::Field(path) => self.field(&path),
            Token::Word(word) => self.call(&word),
            Token::Symbol('(') => {
                let inner = self.nested(Self::sum)?;
                self.expect(')')?;
                Ok(inner)
            }
            Token::Symbol(_) => Err(Untranslatable::Malformed("a value is missing")),
        }
    }

    fn field(&mut self, path: &[String]) -> Result<Expression, Untranslatable> {
        let (external, parameter) = match path {
            [root, parameter] if root.eq_ignore_ascii_case("Credential") => (None, parameter),
            [root, external, parameter] if root.eq_ignore_ascii_case("Credential") => (Some(external), parameter),
            _ => return Err(Untranslatable::NoCounterpart(shown(&format!("${}", path.join("."))))),
        };
        let cel = self.fields.credential(external.map(String::as_str), parameter)?;
        Ok(Expression::Text(Sum::of(Piece::Cel(cel))))
    }

    fn call(&mut self, word: &str) -> Result<Expression, Untranslatable> {
        let name = word.to_ascii_uppercase();
        if name == "TEXT" {
            let unknown = || Untranslatable::NoCounterpart("TEXT of anything but the seconds since 1970".to_owned());
            return self.since_1970().map(|ahead| Expression::Text(Sum::of(Piece::Clock(ahead)))).ok_or_else(unknown);
        }
        if !self.is_next('(') {
            return Err(Untranslatable::NoCounterpart(shown(word)));
        }
        let arguments = self.nested(Self::arguments)?;
        match (name.as_str(), arguments.as_slice()) {
            ("BASE64ENCODE", [value]) => Ok(text(format!("base64_encode({})", value.to_cel()))),
            ("BASE64DECODE", [value]) => Ok(Expression::Bytes(format!("base64_decode({})", value.to_cel()))),
            ("BLOB", [value]) => Ok(Expression::Bytes(value.to_bytes())),
            ("HEX", [value]) => Ok(text(format!("hex({})", value.to_bytes()))),
            ("HASH", [algorithm, value]) => {
                let algorithm = digest(algorithm)?;
                Ok(Expression::Bytes(format!("hash({algorithm}, {})", value.to_cel())))
            }
            ("HMAC", [algorithm, value, key]) => {
                let algorithm = digest(algorithm)?;
                Ok(Expression::Bytes(format!("hmac({algorithm}, {}, {})", value.to_cel(), self::key(key)?)))
            }
            ("SIGN", [algorithm, value, key]) => {
                let algorithm = signature(algorithm)?;
                Ok(Expression::Bytes(format!("sign({algorithm}, {}, {})", value.to_cel(), self::key(key)?)))
            }
            ("SIGN_WITH_CERTIFICATE", [algorithm, value, certificate]) => {
                let algorithm = signature(algorithm)?;
                let missing = || Untranslatable::Malformed("the name of a certificate is not written out");
                let secret = self.fields.certificate(certificate.as_literal().ok_or_else(missing)?)?;
                let value = value.to_cel();
                Ok(Expression::Bytes(format!("sign_with_certificate({algorithm}, {value}, {})", literal(&secret))))
            }
            (
                "BASE64ENCODE" | "BASE64DECODE" | "BLOB" | "HEX" | "HASH" | "HMAC" | "SIGN" | "SIGN_WITH_CERTIFICATE",
                _,
            ) => Err(Untranslatable::Malformed("a function has too many or too few arguments")),
            _ => Err(Untranslatable::NoCounterpart(format!("the function {}", shown(&name)))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, Untranslatable> {
        self.expect('(')?;
        let mut arguments = Vec::new();
        if self.is_next(')') {
            self.next();
            return Ok(arguments);
        }
        loop {
            arguments.push(self.sum()?);
            match self.next() {
                Some(Token::Symbol(',')) => {}
                Some(Token::Symbol(')')) => return Ok(arguments),
                _ => return Err(Untranslatable::Malformed("a `)` is missing")),
            }
        }
    }

    /// `(FLOOR((NOW() - DATETIMEVALUE('1970-01-01 00:00:00')) * 86400 + N))`, the one thing that TEXT is used for.
    fn since_1970(&mut self) -> Option<u64> {
        let beginning = self.tokens.get(..SINCE_1970.len())?;
        if !beginning.iter().zip(SINCE_1970).all(|(token, expected)| token.is(expected)) {
            return None;
        }
        let rest = self.tokens.get(SINCE_1970.len()..)?;
        let (ahead, rest) = match rest {
            [Token::Symbol('+'), Token::Number(number), rest @ ..] => (number.parse().ok()?, rest),
            rest => (0, rest),
        };
        let [Token::Symbol(')'), Token::Symbol(')'), rest @ ..] = rest else { return None };
        self.tokens = rest;
        Some(ahead)
    }

    fn nested<T>(&mut self, inner: fn(&mut Self) -> Result<T, Untranslatable>) -> Result<T, Untranslatable> {
        if self.depth == DEEPEST {
            return Err(Untranslatable::Malformed("its parts are nested too deeply"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn is_next(&self, symbol: char) -> bool {
        matches!(self.tokens.first(), Some(Token::Symbol(next)) if *next == symbol)
    }

    fn is_joined(&self) -> bool {
        self.is_next('&') || self.is_next('+')
    }

    fn expect(&mut self, symbol: char) -> Result<(), Untranslatable> {
        let is_there = self.is_next(symbol);
        self.next();
        if is_there { Ok(()) } else { Err(Untranslatable::Malformed("a parenthesis is missing")) }
    }
}

fn text(cel: String) -> Expression {
    Expression::Text(Sum::of(Piece::Cel(cel)))
}

/// A key has to come from somewhere else than the formula.
fn key(key: &Expression) -> Result<String, Untranslatable> {
    match key.as_literal() {
        Some(_) => {
            Err(Untranslatable::Refused("the formula holds a key in clear text; make it a principal's parameter"))
        }
        None => Ok(key.to_cel()),
    }
}

/// The name of a hash function, as CEL.
fn digest(name: &Expression) -> Result<String, Untranslatable> {
    let name = name.as_literal().ok_or(Untranslatable::Malformed("the name of an algorithm is not written out"))?;
    let upper = name.to_ascii_uppercase();
    let number = upper.trim_start_matches("HMAC").trim_start_matches("SHA").trim_start_matches('-');
    let known = ["1", "256", "384", "512"].into_iter().find(|known| *known == number);
    match known.filter(|_| upper.contains("SHA")) {
        Some(number) => Ok(literal(&format!("SHA-{number}"))),
        None => Err(Untranslatable::NoCounterpart(format!("the algorithm {}", shown(name)))),
    }
}

/// The name of a signature algorithm, as CEL. The ECDSA signatures of Salesforce are DER, those of JOSE are not.
fn signature(name: &Expression) -> Result<String, Untranslatable> {
    let name = name.as_literal().ok_or(Untranslatable::Malformed("the name of an algorithm is not written out"))?;
    let jose = match name.to_ascii_uppercase().as_str() {
        "RSA-SHA256" | "RS256" => "RS256",
        "RSA-SHA384" | "RS384" => "RS384",
        "RSA-SHA512" | "RS512" => "RS512",
        _ => return Err(Untranslatable::NoCounterpart(format!("the algorithm {}", shown(name)))),
    };
    Ok(literal(jose))
}

#[cfg(test)]
mod tests;
