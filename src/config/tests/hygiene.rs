//! Secrets never come out, and no text makes the loader panic.

use proptest::prelude::*;

use super::{MINIMAL, load, load_env};
use crate::config::{Loaded, Problems};

const CANARY: &str = "canary-5ec12e7";

/// Everything that can be seen of a result.
fn seen(result: &Result<Loaded, Problems>) -> String {
    let problems = match result {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    format!("{} {} {} {result:?} {problems}", problems.render(false), problems.render(true), problems.to_json())
}

fn assert_hidden(text: &str) {
    assert!(text.contains(CANARY), "this case tests nothing: {text}");
    let seen = seen(&load(text));
    assert!(!seen.contains(CANARY), "{text}\n{seen}");
}

#[test]
fn a_secret_is_in_nothing_that_can_be_seen() {
    assert_hidden(MINIMAL);
    let secret = format!("{{ dangerous_literal = \"{CANARY}\" }}");
    for other in [
        format!("\"{CANARY}\""),
        format!("'{CANARY}'"),
        format!("\"\"\"\n{CANARY}\"\"\""),
        format!("\"{CANARY}"),
        format!("\"\"\"{CANARY}"),
        CANARY.to_owned(),
        format!("{CANARY}="),
        format!("\n{CANARY}"),
        format!("[\"{CANARY}\"]"),
        format!("{{ env = \"{CANARY}\" }}"),
        format!("{{ literal = \"{CANARY}\" }}"),
        format!("{{ dangerous_literal = [\"{CANARY}\"] }}"),
        format!("{{ dangerous_literal = \"{CANARY}\", env = \"X\" }}"),
        format!("{{ dangerous_literal = \"{CANARY}\" "),
        format!("{{ dangerous_literal \"{CANARY}\" }}"),
        format!("{{ command = [\"false\", \"{CANARY}\"] }}"),
        format!("{{ command = [\"false\", {CANARY}] }}"),
        format!("5 # {CANARY}"),
    ] {
        assert_hidden(&MINIMAL.replace(&secret, &other));
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_hidden_too() {
    for (right, wrong) in [
        ("client_secret =", "client_sceret ="),
        ("client_secret =", "clientSecret ="),
        ("client_secret =", "password ="),
        ("client_secret =", "client_id = \"again\"\nclient_secret ="),
        ("dangerous_literal", "literal"),
        ("client_secret = {", "parameters.body.api_key = {"),
        ("[external_credentials.apigee]", "[external_credentials"),
    ] {
        assert_hidden(&MINIMAL.replace(right, wrong));
    }
    for line in [
        format!("url = \"https://me:{CANARY}@a\""),
        format!("url = \"https://a/?key={CANARY}\""),
        format!("headers = [{{ name = \"host\", value = \"{CANARY}\" }}]"),
        format!("headers = [{{ name = \"x\", value = \"{CANARY}\\n\" }}]"),
        format!("nonsense = \"{CANARY}\""),
        format!("\"{CANARY}\" = 5 6"),
        format!("label = 5 # {CANARY}"),
    ] {
        assert_hidden(&format!("{MINIMAL}[named_credentials.b]\n{line}\n"));
    }
    assert_hidden(&format!("{MINIMAL}[callers.a]\napi_key_sha256 = \"{CANARY}\"\n"));
}

#[test]
fn the_secrets_of_every_flow_are_hidden() {
    for line in [
        format!("password = \"{CANARY}\""),
        format!("token = \"{CANARY}\""),
        format!("refresh_token = \"{CANARY}\""),
        format!("username = [\"{CANARY}\"]"),
        format!("subject_token = \"{CANARY}\""),
        format!("secrets = {{ a = \"{CANARY}\" }}"),
        format!("secrets = {{ a = {{ literal = \"{CANARY}\" }} }}"),
        format!("signing = {{ key = \"{CANARY}\" }}"),
        format!("signing = {{ key = {{ dangerous_literal = \"{CANARY}\" }}, algorithm = 5 }}"),
        format!("http_proxy = {{ url = \"http://u:{CANARY}@proxy\" }}"),
        format!("http_proxy = {{ url = \"http://proxy\", password = \"{CANARY}\" }}"),
        format!("assertion = {{ claims = {{ a = {{ b = {{ dangerous_literal = \"{CANARY}\" }} }} }} }}"),
        format!("headers = [{{ name = \"x\", value = {{ formula = \"'{CANARY}'\", env = \"A\" }} }}]"),
        format!("scope = {{ formula = \"'{CANARY}'\", x = 1 }}"),
        format!("refresh_when = [{{ header_contains = {{ \"a b\" = \"{CANARY}\" }} }}]"),
        format!("parameters = {{ body = {{ grant_type = \"{CANARY}\" }} }}").replace("grant_type", "api_key =="),
    ] {
        assert_hidden(&MINIMAL.replace("client_id =", &format!("{line}\nclient_id =")));
    }
}

#[test]
fn a_secret_in_a_variable_of_ours_is_hidden() {
    for (name, _) in crate::config::ENVIRONMENT {
        let result = load_env("", &[(name, "canary-5ec12e7 =[")]);
        assert!(result.is_err(), "{name}");
        assert!(!seen(&result).contains(CANARY), "{name}");
    }
}

#[test]
fn tables_that_nest_without_end_are_refused() {
    for text in [
        format!("a{} = 1", ".a".repeat(70)),
        format!("a = {}1{}", "[".repeat(70), "]".repeat(70)),
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
    ] {
        assert!(load(&text).is_err());
    }
}

/// Pieces that are likely to lead somewhere.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "\n",
    ",",
    ".",
    "#",
    "é€𝄞",
    "\r\n",
    "\u{0}",
    "5",
    "true",
    "1979-05-27",
    "[named_credentials.orders]\n",
    "url",
    "client_secret = ",
    "principals = [{}]\n",
    "match = { path = ",
    "-1e400",
];

proptest! {
    #[test]
    fn no_mutation_makes_loading_or_rendering_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..12_usize), 1..6),
    ) {
        let mut letters: Vec<char> = MINIMAL.chars().collect();
        for (at, piece, removed) in changes {
            let at = at.index(letters.len() + 1);
            let end = (at + removed).min(letters.len());
            letters.splice(at..end, PIECES[piece].chars());
        }
        let text: String = letters.into_iter().collect();
        let _ = seen(&load(&text));
    }

    #[test]
    fn no_mutation_of_the_reference_makes_loading_panic(
        at in any::<prop::sample::Index>(), piece in 0..PIECES.len(), removed in 0..40_usize,
    ) {
        let reference = include_str!("../../../proxy.toml");
        let mut letters: Vec<char> = reference.chars().collect();
        let at = at.index(letters.len());
        let end = (at + removed).min(letters.len());
        letters.splice(at..end, PIECES[piece].chars());
        let text: String = letters.into_iter().collect();
        let _ = seen(&load(&text));
    }
}
