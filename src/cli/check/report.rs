//! What `keybearer check` prints: every problem, or what the configuration comes to.
//!
//! Reading arguments and writing to the terminal are not done here.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{external, preset};
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
            let routes: Vec<Value> = loaded.config.named_credentials.iter().map(|named| route_object(named)).collect();
            let externals: Vec<Value> =
                loaded.config.external_credentials.iter().map(|settings| external::object(settings)).collect();
            (object(&loaded.warnings, &routes, &externals, preset::to_json(&loaded.presets)), GOOD)
        }
        (Err(problems), Format::Json) => (object(problems, &[], &[], preset::to_json(&[])), EX_CONFIG),
    }
}

fn good(loaded: &Loaded, colour: bool) -> String {
    let mut text = loaded.warnings.render(colour);
    for named in &loaded.config.named_credentials {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", route(named));
    }
    for settings in &loaded.config.external_credentials {
        let _ = writeln!(text, "{}", external::line(settings));
    }
    text.push_str(&preset::to_text(&loaded.presets));
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
    let way = proxy(named).map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    format!("{}: {} → {}{way}{credential}{state}", named.name, matching(&named.matching), named.url())
}

/// Host and port of the proxy on the way.
fn proxy(named: &NamedCredential) -> Option<String> {
    named.endpoint.proxy().map(|proxy| format!("{}:{}", proxy.host, proxy.port))
}

fn route_object(named: &NamedCredential) -> Value {
    json!({
        "name": named.name.as_str(),
        "enabled": named.enabled,
        "match": matching(&named.matching),
        "url": named.url(),
        "http_proxy": proxy(named),
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

fn object(problems: &Problems, routes: &[Value], externals: &[Value], presets: Value) -> String {
    let errors = problems.errors();
    let object = json!({
        "valid": errors == 0,
        "errors": errors,
        "warnings": problems.len() - errors,
        "problems": problems.to_json(),
        "named_credentials": routes,
        "external_credentials": externals,
        "presets": presets,
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
    fn a_good_configuration_is_one_line_per_credential() {
        let (text, status) = report(&loaded(GOOD), Format::Text, false);
        assert_eq!(
            text,
            "orders: GET orders.internal/ → http://127.0.0.1:9/v1 with apigee\n\
             apigee for default: client_credentials: POST http://127.0.0.1:9/token with \
             grant_type=\"client_credentials\"; client_secret_basic: id and secret in the authorization field; attached \
             as authorization: Bearer …\n\
             the configuration is good\n"
        );
        assert_eq!(status, 0);
    }

    /// The line of an external credential with these lines.
    fn line(lines: &str) -> String {
        let text = format!(
            "[named_credentials.a]\nurl = \"http://127.0.0.1\"\nexternal_credential = \"x\"\n\
             [external_credentials.x]\n{lines}"
        );
        let result = loaded(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let (text, _) = report(&Ok(result), Format::Text, false);
        assert!(!text.contains("canary"), "{text}");
        let line = text.lines().find(|line| line.starts_with("x for ")).unwrap_or_else(|| panic!("{text}"));
        line.strip_prefix("x for default: ").unwrap_or(line).to_owned()
    }

    #[test]
    fn the_token_request_is_shown_with_everything_but_its_secrets() {
        let client = "client_id = \"me\"\nclient_secret = { dangerous_literal = \"canary\" }\n";
        let secret = "{ dangerous_literal = \"canary\" }";
        for (lines, expected) in [
            (
                format!(
                    "token_endpoint = \"http://127.0.0.1:9/t?tenant=canary\"\nscope = [\"a\", \"b\"]\naudience = \"u\"\n\
                     resource = [\"r\", \"s\"]\nclient_authentication = \"client_secret_post\"\n\
                     parameters = {{ body = {{ company = \"canary\" }}, query = {{ v = \"canary\" }}, headers = {{ x-a = \"canary\" }} }}\n\
                     inject = {{ header = \"x-token\" }}\nheaders = [{{ name = \"x-b\", value = \"canary\" }}]\n{client}"
                ),
                "client_credentials: POST http://127.0.0.1:9/t?tenant=… with grant_type=\"client_credentials\" \
                 scope=\"a b\" audience=\"u\" resource=\"r\" resource=\"s\" company=… ?v=… x-a: …; \
                 client_secret_post: id and secret in the body; attached as x-token: …, x-b: …",
            ),
            (
                format!("issuer = \"http://127.0.0.1:9/realm\"\nscope = {{ formula = \"'canary'\" }}\n{client}"),
                "client_credentials: POST to the token endpoint of http://127.0.0.1:9/realm with \
                 grant_type=\"client_credentials\" scope=…; client_secret_basic or client_secret_post, as the issuer's \
                 metadata say; attached as authorization: Bearer …",
            ),
            (
                format!(
                    "token_endpoint = \"http://127.0.0.1\"\ngrant_type = \"\"\nmethod = \"GET\"\ndpop = true\n{client}basic_encoding = \"raw\"\n"
                ),
                "client_credentials: GET http://127.0.0.1/; client_secret_basic: id and secret in the authorization \
                 field, not encoded; bound to a key of its own (DPoP); attached as authorization: DPoP …",
            ),
            (
                format!(
                    "token_endpoint = \"http://127.0.0.1\"\nflow = \"token_exchange\"\nsubject_token = {secret}\nactor_token = {secret}\n"
                ),
                "token_exchange: POST http://127.0.0.1/ with \
                 grant_type=\"urn:ietf:params:oauth:grant-type:token-exchange\" \
                 subject_token_type=\"urn:ietf:params:oauth:token-type:access_token\" \
                 actor_token_type=\"urn:ietf:params:oauth:token-type:access_token\" subject_token=… actor_token=…; \
                 none: no client secret is sent; attached as authorization: Bearer …",
            ),
            (
                "token_endpoint = \"http://127.0.0.1\"\nassertion = { file = \"/run/token\" }\nclient_id = \"me\"\n"
                    .to_owned(),
                "client_credentials: POST http://127.0.0.1/ with grant_type=\"client_credentials\"; private_key_jwt: \
                 the JWT of /run/token in the body; attached as authorization: Bearer …",
            ),
            (
                format!("flow = \"basic\"\nusername = \"canary\"\npassword = {secret}\n"),
                "basic: user name and password; attached as authorization: Basic …",
            ),
            (
                format!("flow = \"none\"\nheaders = [{{ name = \"x-key\", value = {secret} }}]\n"),
                "none: no token; attached as x-key: …",
            ),
            (
                format!("flow = \"static\"\ntoken = {secret}\n"),
                "static: a fixed token; attached as authorization: Bearer …",
            ),
        ] {
            assert_eq!(line(&lines), expected);
        }
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
        let external = &object["external_credentials"][0];
        assert_eq!((&external["name"], &external["flow"]), (&"apigee".into(), &"client_credentials".into()));
        assert_eq!(external["principals"], serde_json::json!(["default"]));
        assert_eq!(external["attached"], serde_json::json!(["authorization: Bearer …"]));
        assert_eq!(
            external["token_request"],
            serde_json::json!({
                "method": "POST",
                "token_endpoint": "http://127.0.0.1:9/token",
                "issuer": null,
                "http_proxy": null,
                "parameters": [{ "name": "grant_type", "value": "client_credentials" }],
                "query": [],
                "headers": [],
                "client_authentication": "client_secret_basic",
                "client_proof": "client_secret_basic: id and secret in the authorization field",
                "dpop": false,
            })
        );

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
