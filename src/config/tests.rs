//! The behaviour of the configuration as a whole; parts that stand alone have their tests beside them.

mod caller;
mod credential;
mod destination;
mod external;
mod hygiene;
mod limit;
mod presets;
mod process;
mod way_out;

use super::source::load_with;
use super::{Loaded, Location, Problems, Secrets, Severity, Source};

/// A named and an external credential with nothing wrong with them.
const MINIMAL: &str = r#"
[named_credentials.orders]
url = "http://127.0.0.1:9/v1"
external_credential = "apigee"

[external_credentials.apigee]
token_endpoint = "http://127.0.0.1:9/token"
client_id = "me"
client_secret = { dangerous_literal = "canary-5ec12e7" }
"#;

fn load_env(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let source = Source::Text { name: "proxy.toml".to_owned(), text: text.to_owned() };
    let variable =
        |name: &str| environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    load_with(&source, Secrets::Read, &variable)
}

fn load(text: &str) -> Result<Loaded, Problems> {
    load_env(text, &[])
}

fn good(text: &str) -> Loaded {
    load(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Every problem of a text as `line:column key: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = match load(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    problems
        .iter()
        .map(|problem| {
            let position =
                problems.position(problem).map_or_else(String::new, |(line, column)| format!("{line}:{column} "));
            format!("{position}{}: {}", problem.key, problem.message)
        })
        .collect()
}

/// The one problem of a text: its key, message and help together.
fn problem(text: &str) -> String {
    let problems = match load(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let list: Vec<_> = problems.iter().collect();
    assert_eq!(list.len(), 1, "{problems}");
    format!("{} | {} | {}", list[0].key, list[0].message, list[0].help.clone().unwrap_or_default())
}

/// Asserts that `lines` added to one table of the minimal configuration cause one problem that holds `expected`.
fn assert_problem(table: &str, lines: &str, expected: &str) {
    let found = problem(&with(table, lines));
    assert!(found.contains(expected), "{lines}\nexpected: {expected}\nfound:    {found}");
}

/// The minimal configuration with `lines` in its `[table]`, instead of lines that set the same keys.
fn with(table: &str, lines: &str) -> String {
    let keys: Vec<&str> = lines.lines().filter_map(|line| line.split_once(" =").map(|(key, _)| key.trim())).collect();
    let mut text = String::new();
    let mut here = false;
    for line in MINIMAL.lines() {
        let is_replaced = here && line.split_once(" =").is_some_and(|(key, _)| keys.contains(&key));
        if !is_replaced {
            text.push_str(line);
            text.push('\n');
        }
        if line.starts_with('[') {
            here = line == format!("[{table}]");
            if here {
                text.push_str(lines);
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn five_mistakes_are_five_problems_with_line_and_column() {
    let text = r#"workers = "four"

[listeners.default]
address = "localhost:8080"

[named_credentials.orders]
uri = "https://api.example.com"
external_credential = "apigeee"

[external_credentials.apigee]
token_endpoint = "http://127.0.0.1:9/token"
timeout = 10
client_id = "me"
client_secret = { dangerous_literal = "x" }
"#;
    assert_eq!(
        problems(text),
        [
            "1:11 workers: expected a whole number, found a text",
            "4:11 listeners.default.address: this is not an address to listen on",
            "7:1 named_credentials.orders.uri: unknown key `uri`",
            "8:23 named_credentials.orders.external_credential: there is no external credential of this name",
            "12:11 external_credentials.apigee.timeout: expected a duration with its unit, found a number",
        ]
    );
}

#[test]
fn a_problem_is_shown_in_its_line_with_key_and_help() {
    let problems = load("[drain]\ndeadline = 25\n").unwrap_err();
    let text = problems.render(false);
    assert!(
        text.starts_with("error: expected a duration with its unit, found a number\n --> proxy.toml:2:12\n"),
        "{text}"
    );
    assert!(text.contains("2 | deadline = 25\n  |            ^^ drain.deadline\n"), "{text}");
    assert!(text.contains("help: write it like \"5s\""), "{text}");
}

#[test]
fn two_places_that_have_to_do_with_each_other_are_both_shown() {
    let text = with("named_credentials.orders", "match = { path = \"/Orders/\", host = \"A.example\" }")
        + "[named_credentials.other]\nurl = \"http://127.0.0.1:9\"\nexternal_credential = \"apigee\"\n"
        + "match = { host = \"a.EXAMPLE\", path = \"/Orders\" }\n";
    let problems = load(&text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems}");
    let text = problems.render(false);
    assert!(text.contains("two named credentials match the same host and path"), "{text}");
    assert!(text.contains("the other one") && text.contains("named_credentials.other.match"), "{text}");
}

#[test]
fn a_misspelt_table_is_one_problem() {
    for (right, wrong) in [
        ("[external_credentials.apigee]", "[external_credential.apigee]"),
        ("client_secret =", "client_sceret ="),
        ("client_id =", "clientid ="),
        ("token_endpoint =", "token-endpoint ="),
        ("dangerous_literal =", "dangerous_litteral ="),
    ] {
        let found = problem(&MINIMAL.replace(right, wrong));
        assert!(found.contains("unknown key") && found.contains("did you mean"), "{wrong}: {found}");
    }
}

#[test]
fn an_unknown_key_without_a_neighbour_lists_the_known_ones() {
    let found = problem(
        "[drain]\nfoo = 1\n[named_credentials.a]\nurl = \"http://127.0.0.1\"\ngenerate_authorization_header = false",
    );
    assert_eq!(found, "drain.foo | unknown key `foo` | the keys known here are `delay`, `deadline`");
}

#[test]
fn broken_toml_is_a_problem_with_its_position() {
    let problems = load("[log]\nlevel = \n\n[drain\n").unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problems.position(problem)).collect();
    assert_eq!(places.len(), 2, "{problems}");
    assert_eq!(places[0].map(|(line, _)| line), Some(2));
    assert_eq!(places[1].map(|(line, _)| line), Some(4));
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Source::File(folder.path().join("no.toml"));
    let problems = super::load(&missing, Secrets::Read).unwrap_err();
    assert!(problems.render(false).contains("cannot read the configuration"), "{problems}");

    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"workers = 1\nx = \"\xff\"").unwrap();
    let problems = super::load(&Source::File(binary), Secrets::Read).unwrap_err();
    assert!(problems.render(false).contains("line 2"), "{problems}");
}

#[test]
fn warnings_do_not_stand_in_the_way() {
    let loaded = good("");
    let warnings: Vec<_> = loaded.warnings.iter().collect();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].severity, Severity::Warning);
    assert_eq!(warnings[0].location, Location::Nowhere);
    assert_eq!(loaded.warnings.errors(), 0);
}
