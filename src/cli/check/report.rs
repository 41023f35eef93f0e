//! What `keybearer check` prints: every problem, or what the configuration comes to.
//!
//! Reading arguments and writing to the terminal are not done here.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cli::{EX_CONFIG, Format};
use crate::config::{Loaded, Problems};
use crate::proxy::settings::NamedCredential;
use crate::route::{HostPattern, Match};

/// Exit status when the configuration can be used.
const GOOD: u8 = 0;

/// The report on a loaded configuration, ending with a line end, and the exit status.
#[must_use]
pub fn report(result: &Result<Loaded, Problems>, format: Format, colour: bool) -> (String, u8) {
    match (result, format) {
        (Ok(loaded), Format::Text) => (good(loaded, colour), GOOD),
        (Err(problems), Format::Text) => (format!("{}{}\n", problems.render(colour), count(problems)), EX_CONFIG),
        (Ok(loaded), Format::Json) => {
            let routes: Vec<Value> = loaded.config.named_credentials.iter().map(route_object).collect();
            (object(&loaded.warnings, &routes), GOOD)
        }
        (Err(problems), Format::Json) => (object(problems, &[]), EX_CONFIG),
    }
}

fn good(loaded: &Loaded, colour: bool) -> String {
    let mut text = loaded.warnings.render(colour);
    for named in &loaded.config.named_credentials {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", route(named));
    }
    let _ = writeln!(text, "{}", count(&loaded.warnings));
    text
}

/// `orders: /orders → https://api.example.com/v1 with apigee`
fn route(named: &NamedCredential) -> String {
    let credential = match &named.external_credential {
        Some(name) if named.generate_authorization_header => format!(" with {name}"),
        Some(_) | None => " without a credential".to_owned(),
    };
    let state = if named.enabled { "" } else { " (disabled)" };
    format!("{}: {} → {}{credential}{state}", named.name, matching(&named.matching), url(named))
}

fn route_object(named: &NamedCredential) -> Value {
    json!({
        "name": named.name.as_str(),
        "enabled": named.enabled,
        "match": matching(&named.matching),
        "url": url(named),
        "external_credential": named.external_credential.as_ref().map(|name| name.as_str()),
    })
}

fn matching(matching: &Match) -> String {
    let host = match &matching.host {
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("*{suffix}"),
        None => String::new(),
    };
    match &matching.methods {
        Some(methods) => {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            format!("{} {host}{}", methods.join(","), matching.path)
        }
        None => format!("{host}{}", matching.path),
    }
}

fn url(named: &NamedCredential) -> String {
    let scheme = if named.endpoint.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}{}", named.endpoint.authority, named.base_path)
}

fn object(problems: &Problems, routes: &[Value]) -> String {
    let errors = problems.errors();
    let object = json!({
        "valid": errors == 0,
        "errors": errors,
        "warnings": problems.len() - errors,
        "problems": problems.to_json(),
        "named_credentials": routes,
    });
    format!("{object}\n")
}

/// The closing line.
fn count(problems: &Problems) -> String {
    let errors = problems.errors();
    let warnings = problems.len() - errors;
    match (errors, warnings) {
        (0, 0) => "the configuration is good".to_owned(),
        (0, warnings) => format!("the configuration is good: {}", number(warnings, "warning")),
        (errors, 0) => format!("the configuration is not valid: {}", number(errors, "error")),
        (errors, warnings) => {
            format!("the configuration is not valid: {}, {}", number(errors, "error"), number(warnings, "warning"))
        }
    }
}

fn number(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::{Format, report};
    use crate::config::{Loaded, Problems, Secrets, Source, load};

    const GOOD: &str = r#"
        [named_credentials.orders]
        url = "http://127.0.0.1:9/v1/"
        external_credential = "apigee"
        match = { host = "Orders.internal", methods = ["GET"] }
        [external_credentials.apigee]
        token_endpoint = "http://127.0.0.1:9/token"
        client_id = "me"
        client_secret = { dangerous_literal = "canary" }
    "#;

    fn loaded(text: &str) -> Result<Loaded, Problems> {
        load(&Source::Text { name: "proxy.toml".to_owned(), text: text.to_owned() }, Secrets::Read)
    }

    #[test]
    fn a_good_configuration_is_one_line_per_named_credential() {
        let (text, status) = report(&loaded(GOOD), Format::Text, false);
        assert_eq!(
            text,
            "orders: GET orders.internal/ → http://127.0.0.1:9/v1 with apigee\nthe configuration is good\n"
        );
        assert_eq!(status, 0);
    }

    #[test]
    fn a_bad_configuration_is_its_problems_and_their_number() {
        let (text, status) = report(&loaded(&GOOD.replace("url =", "uri =")), Format::Text, false);
        assert!(text.starts_with("error: unknown key `uri`\n"), "{text}");
        assert!(text.ends_with("\nthe configuration is not valid: 1 error\n"), "{text}");
        assert_eq!(status, 78);
    }

    #[test]
    fn json_says_the_same() {
        let (text, status) = report(&loaded(GOOD), Format::Json, false);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &object["valid"]), (0, &true.into()));
        assert_eq!(object["named_credentials"][0]["external_credential"], "apigee");

        let (text, status) = report(&loaded(&GOOD.replace("url =", "uri =")), Format::Json, false);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &object["valid"]), (78, &false.into()));
        assert_eq!((&object["problems"][0]["line"], &object["problems"][0]["column"]), (&3.into(), &9.into()));
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let problems = loaded("nonsense = 1");
        assert!(report(&problems, Format::Text, true).0.contains('\u{1b}'));
        assert!(!report(&problems, Format::Text, false).0.contains('\u{1b}'));
    }
}
