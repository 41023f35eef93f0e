//! The words of a formula, from behind `{!` to its `}`.

use super::Untranslatable;

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// `'…'` or `"…"`
    Text(String),
    /// Digits.
    Number(String),
    /// A name: a function, mostly.
    Word(String),
    /// `$Credential.A.B` without the `$`.
    Field(Vec<String>),
    /// Everything else, one character each.
    Symbol(char),
}

impl Token {
    /// Whether this is the word that is written like this: names without case, texts in single quotes.
    pub(super) fn is(&self, written: &str) -> bool {
        match self {
            Self::Text(text) => {
                written.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) == Some(text.as_str())
            }
            Self::Number(number) => number == written,
            Self::Word(word) => word.eq_ignore_ascii_case(written),
            Self::Field(_) => false,
            Self::Symbol(symbol) => written.chars().eq([*symbol]),
        }
    }
}

/// The words before the closing `}`, and what stands behind it.
pub(super) fn read(formula: &str) -> Result<(Vec<Token>, &str), Untranslatable> {
    let mut tokens = Vec::new();
    let mut rest = formula;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Err(Untranslatable::Malformed("a `}` is missing")) };
        let behind = rest.get(first.len_utf8()..).unwrap_or_default();
        let (token, after) = match first {
            '}' => return Ok((tokens, behind)),
            '"' | '\'' => quoted(behind, first)?,
            '$' => field(behind)?,
            '/' if behind.starts_with('*') => {
                rest = behind.split_once("*/").ok_or(Untranslatable::Malformed("a comment is not closed"))?.1;
                continue;
            }
            digit if digit.is_ascii_digit() => {
                let (number, after) = split(rest, |character| character.is_ascii_digit());
                (Token::Number(number.to_owned()), after)
            }
            letter if is_word(letter) => {
                let (word, after) = split(rest, is_word);
                (Token::Word(word.to_owned()), after)
            }
            symbol => (Token::Symbol(symbol), behind),
        };
        tokens.push(token);
        rest = after;
    }
}

fn quoted(text: &str, quote: char) -> Result<(Token, &str), Untranslatable> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| match escaped {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            })),
            end if end == quote => {
                return Ok((Token::Text(value), text.get(at + end.len_utf8()..).unwrap_or_default()));
            }
            other => value.push(other),
        }
    }
    Err(Untranslatable::Malformed("a text is not closed"))
}

fn field(text: &str) -> Result<(Token, &str), Untranslatable> {
    let (path, after) = split(text, |character| is_word(character) || character == '.');
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(Untranslatable::Malformed("a merge field is incomplete"));
    }
    Ok((Token::Field(path), after))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !belongs(character)).unwrap_or(text.len()))
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}
