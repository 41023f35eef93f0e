//! What a server says went wrong: its code, its own words, and how much of both may be repeated.
//!
//! Where codes stand decides the operator (`error`). Words are looked for in the places where servers are known to put
//! them; they explain a failure and never decide what kind it is.

use serde_json::Value;

use super::document::{Node, Repeated};
use crate::secret::Secret;
use crate::token::ResponseRules;

/// Where codes stand in answers that do not follow RFC 6749 5.2. For the text of a failure alone.
const USUAL_CODES: [&str; 8] = [
    "/errorCode",
    "/error_code",
    "/errors/0/code",
    "/errors/0/errorCode",
    "/response/errors/0/code",
    "/0/errorCode",
    "/0/code",
    "/code",
];
/// Where servers put a sentence for people: JSON pointers, the first that leads to a text counts.
pub const USUAL_DESCRIPTIONS: [&str; 16] = [
    "/error_description",
    "/Error",
    "/fault/faultstring",
    "/faultstring",
    "/error/message",
    "/errorMessage",
    "/error_message",
    "/errorSummary",
    "/message",
    "/msg",
    "/detail",
    "/errors/0/message",
    "/errors/0/detail",
    "/response/errors/0/message",
    "/0/message",
    "/errorDetails",
];
/// Where tokens may stand, whatever the rules say.
const USUAL_TOKENS: [&str; 3] = ["/access_token", "/id_token", "/refresh_token"];

/// The error code at the first of `pointers` that leads to one.
///
/// Null, false, an empty text, list or object, and zero (`0`, `"0"`, `"000"`) are no codes: servers that wrap every
/// answer say with them that all is well. Everything else is one, even beside a token: an answer that contradicts
/// itself is not to be used.
///
/// # Errors
/// [`Repeated`]
pub(super) fn code(document: &Node, pointers: &[String]) -> Result<Option<String>, Repeated> {
    for pointer in pointers {
        if let Some(code) = document.at(pointer)?.and_then(code_of) {
            return Ok(Some(code));
        }
    }
    Ok(None)
}

/// A code in one of the usual places.
pub(super) fn usual_code(document: &Node) -> Option<String> {
    USUAL_CODES.iter().find_map(|pointer| code_of(document.at(pointer).ok()??))
}

fn code_of(node: &Node) -> Option<String> {
    match node {
        Node::Scalar(Value::String(text)) => {
            Some(text.trim().to_owned()).filter(|text| text.bytes().any(|byte| byte != b'0'))
        }
        Node::Scalar(Value::Number(number)) => Some(number.to_string()).filter(|_| number.as_f64() != Some(0.0)),
        Node::Scalar(Value::Bool(true)) => Some("true".to_owned()),
        Node::Scalar(_) | Node::Repeated => None,
        Node::List(list) => list.first().map(|first| code_of(first).unwrap_or_else(|| "a list of errors".to_owned())),
        Node::Object(members) if members.is_empty() => None,
        Node::Object(members) => {
            // Google's has both: a number that repeats the status, and the name.
            let named = || ["code", "status", "type"].iter().find_map(|name| members.get(*name)?.text());
            let numbered = || ["code", "status"].iter().find_map(|name| code_of(members.get(*name)?));
            Some(named().map(str::to_owned).or_else(numbered).unwrap_or_else(|| "an error object".to_owned()))
        }
    }
}

/// Decides what of a foreign text is shown: nothing that repeats a secret, and no sentence at all from an answer that
/// carries a token.
pub(super) struct Censor<'a> {
    secrets: &'a [Secret],
    tokens: Vec<&'a str>,
    document: Option<&'a Node>,
}

impl<'a> Censor<'a> {
    pub(super) fn new(document: Option<&'a Node>, rules: &ResponseRules, secrets: &'a [Secret]) -> Self {
        let tokens = USUAL_TOKENS.into_iter().chain([rules.token.as_str()]);
        let tokens = tokens.filter_map(|pointer| document?.text_at(pointer)).collect();
        Self { secrets, tokens, document }
    }

    /// The code, if it is a word or a number.
    pub(super) fn word<'c>(&self, code: &'c str) -> Option<&'c str> {
        let is_word =
            code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        Some(code).filter(|code| is_word && !code.is_empty() && !self.is_telltale(code))
    }

    /// A few words that stand where a token does not.
    pub(super) fn phrase(&self, text: &str) -> Option<String> {
        let text = printable(text, 40);
        Some(text).filter(|text| !self.is_telltale(text))
    }

    /// A sentence of the answer, made fit for a terminal and a log line; `otherwise` where none stands in a usual place.
    pub(super) fn sentence(&self, otherwise: Option<&str>) -> Option<String> {
        let usual = || USUAL_DESCRIPTIONS.iter().find_map(|pointer| self.document?.text_at(pointer));
        let text = usual().filter(|text| !text.trim().is_empty()).or(otherwise)?;
        // Cut first: what is not shown need not be searched, and a server decides how long its text is.
        let text: String = text.chars().take(300).collect();
        (self.tokens.is_empty() && !self.is_telltale(&text)).then(|| printable(&text, 300))
    }

    fn is_telltale(&self, text: &str) -> bool {
        let secrets = self.secrets.iter().map(Secret::expose);
        secrets.chain(self.tokens.iter().copied()).any(|secret| repeats(text, secret))
    }
}

/// Whether `text` shows eight or more characters of `secret` in a row, or all of a shorter one.
fn repeats(text: &str, secret: &str) -> bool {
    let secret = secret.as_bytes();
    let length = secret.len().min(8);
    length > 0 && secret.windows(length).any(|part| text.as_bytes().windows(length).any(|shown| shown == part))
}

/// Foreign text made fit for a terminal and a log line: ASCII, bounded.
pub(in crate::token) fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Censor, code, printable, repeats, usual_code};
    use crate::secret::Secret;
    use crate::token::ResponseRules;
    use crate::token::answer::document::{Node, Repeated};

    fn document(text: &str) -> Node {
        Node::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_code_is_whatever_does_not_say_that_all_is_well() {
        for (value, expected) in [
            ("null", None),
            ("false", None),
            ("0", None),
            ("0.0", None),
            ("-0", None),
            (r#""""#, None),
            (r#"" ""#, None),
            (r#""0""#, None),
            (r#""00000""#, None),
            ("[]", None),
            ("{}", None),
            ("true", Some("true")),
            ("401", Some("401")),
            ("-1", Some("-1")),
            (r#""ok""#, Some("ok")),
            (r#"" invalid_client ""#, Some("invalid_client")),
            (r#"["a","b"]"#, Some("a")),
            (r#"[{"code":7}]"#, Some("7")),
            ("[0]", Some("a list of errors")),
            (r#"{"code":401,"status":"UNAUTHENTICATED"}"#, Some("UNAUTHENTICATED")),
            (r#"{"status":400,"message":"x"}"#, Some("400")),
            (r#"{"code":0}"#, Some("an error object")),
        ] {
            let document = document(&format!(r#"{{"empty":"","code":{value}}}"#));
            let pointers = ["/absent", "/empty", "/code"].map(str::to_owned);
            assert_eq!(code(&document, &pointers), Ok(expected.map(str::to_owned)), "{value}");
        }
        assert_eq!(code(&document(r#"{"error":"","error":"x"}"#), &["/error".to_owned()]), Err(Repeated));
    }

    #[test]
    fn codes_and_sentences_are_found_in_their_usual_places() {
        for (text, code, sentence) in [
            (r#"{"response":{"errors":[{"code":"250002","message":"Invalid"}]}}"#, Some("250002"), Some("Invalid")),
            (r#"{"errorCode":"E0000011","errorSummary":"Invalid token"}"#, Some("E0000011"), Some("Invalid token")),
            (r#"{"errors":[{"code":"602","message":"no"}]}"#, Some("602"), Some("no")),
            (r#"[{"message":"no","errorCode":"INVALID"}]"#, Some("INVALID"), Some("no")),
            (r#"{"fault":{"faultstring":"no"}}"#, None, Some("no")),
            (r#"{"error":{"message":"no"}}"#, None, Some("no")),
            (r#"{"code":0,"msg":"ok"}"#, None, Some("ok")),
            ("{}", None, None),
        ] {
            let document = document(text);
            let censor = Censor::new(Some(&document), &ResponseRules::default(), &[]);
            assert_eq!(usual_code(&document).as_deref(), code, "{text}");
            assert_eq!(censor.sentence(None).as_deref(), sentence, "{text}");
        }
    }

    #[test]
    fn nothing_is_shown_that_repeats_a_secret_or_stands_beside_a_token() {
        let secrets = [Secret::new("client-secret-canary".to_owned())];
        let rules = ResponseRules { token: "/data/token".to_owned(), ..ResponseRules::default() };
        let beside = document(r#"{"data":{"token":"token-canary"},"message":"harmless"}"#);
        let censor = Censor::new(Some(&beside), &rules, &secrets);
        assert_eq!(censor.sentence(None), None);
        assert_eq!(censor.word("invalid_client"), Some("invalid_client"));
        for word in ["token-canary", "x-secret-canary", "two words", "", "ä"] {
            assert_eq!(censor.word(word), None, "{word}");
        }
        let censor = Censor::new(None, &rules, &secrets);
        assert_eq!(censor.sentence(Some("got client-secret")), None);
        let far = format!("{}client-secret-canary", "x".repeat(295));
        assert_eq!(censor.sentence(Some(&far)).map(|text| text.len()), Some(300));
    }

    #[test]
    fn eight_characters_of_a_secret_are_a_repetition() {
        assert!(repeats("xx cret-can yy", "secret-canary"));
        assert!(!repeats("xx secret yy", "secret-canary"));
        assert!(repeats("the abc", "abc") && !repeats("the ab", "abc"));
        assert!(!repeats("anything", ""));
        assert_eq!(printable("bad\u{1b}[31m ä", 40), "bad?[31m ?");
    }
}
