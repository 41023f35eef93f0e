//! The long form of an external credential: every flow and every client authentication, and what they need.

mod answer;
mod assertion;
mod attach;
mod effect;

use super::{good, load, problem};
use crate::config::{Secrets, Severity, Source};
use crate::secret::Secret;
use crate::sign::HmacAlgorithm;
use crate::token::{
    AssertionKey, BasicEncoding, Claim, ClientAuthentication, Flow, GrantKind, RequestSettings, Settings,
};

const ENDPOINT: &str = "token_endpoint = \"http://127.0.0.1:9/token\"\n";
const CLIENT: &str = "client_id = \"me\"\nclient_secret = { dangerous_literal = \"s\" }\n";
const ROUTE: &str = "[named_credentials.a]\nurl = \"http://127.0.0.1:9\"\nexternal_credential = \"x\"\n";

/// A configuration whose one external credential has these lines.
fn config(lines: &str) -> String {
    format!("{ROUTE}[external_credentials.x]\n{lines}\n")
}

/// Lines for client credentials, and these.
fn usual(lines: &str) -> String {
    format!("{ENDPOINT}{CLIENT}{lines}")
}

fn settings(lines: &str) -> Settings {
    good(&config(lines)).config.external_credentials.remove(0).as_ref().clone()
}

fn request(lines: &str) -> RequestSettings {
    settings(lines).request().unwrap_or_else(|| panic!("no request: {lines}")).clone()
}

/// Without a word of warning.
fn quiet(lines: &str) -> Settings {
    let loaded = good(&config(lines));
    assert!(loaded.warnings.is_empty(), "{lines}\n{}", loaded.warnings);
    settings(lines)
}

/// Asserts that these lines have one problem, and what it says. A warning beside an error does not count.
fn assert_fault(lines: &str, expected: &str) {
    let problems = match load(&config(lines)) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    let errors = problems.errors();
    let list: Vec<_> = problems.iter().filter(|problem| errors == 0 || problem.severity == Severity::Error).collect();
    assert_eq!(list.len(), 1, "{lines}\n{problems}");
    let found = format!("{} | {} | {}", list[0].key, list[0].message, list[0].help.clone().unwrap_or_default());
    assert!(found.contains(expected), "{lines}\nexpected: {expected}\nfound:    {found}");
}

fn way(request: &RequestSettings) -> String {
    match &request.client_authentication {
        None => "negotiated".to_owned(),
        Some(way) => format!("{way:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn the_client_proves_itself_as_what_is_written_implies() {
    let issuer = "issuer = \"http://127.0.0.1:9\"\n";
    for (lines, expected) in [
        (usual(""), "ClientSecretBasic"),
        (usual("client_authentication = \"client_secret_post\""), "ClientSecretPost"),
        (usual("client_authentication = \"json\""), "Json"),
        (usual("signing = { algorithm = \"HS512\" }"), "ClientSecretJwt"),
        (usual("client_authentication = \"client_secret_jwt\""), "ClientSecretJwt"),
        (format!("{ENDPOINT}client_id = \"me\"\nassertion = {{ file = \"t\" }}"), "PrivateKeyJwt"),
        (format!("{issuer}{CLIENT}"), "negotiated"),
        (format!("{issuer}{CLIENT}basic_encoding = \"percent\""), "ClientSecretBasic"),
        (format!("{issuer}{ENDPOINT}{CLIENT}signing = {{ algorithm = \"HS256\" }}"), "ClientSecretJwt"),
        (format!("{ENDPOINT}client_authentication = \"none\""), "None"),
        (format!("{ENDPOINT}client_authentication = \"none\"\nclient_id = \"me\""), "None"),
        (format!("{ENDPOINT}grant_type = \"\""), "None"),
        (format!("{ENDPOINT}grant_type = \"urn:x:apikey\"\nparameters = {{ body = {{ apikey = \"k\" }} }}"), "None"),
        (format!("{ENDPOINT}client_authentication = \"json\"\nparameters = {{ body = {{ apikey = \"k\" }} }}"), "Json"),
        (format!("{ENDPOINT}flow = \"jwt_bearer\"\nassertion = {{ file = \"t\" }}"), "None"),
        (format!("{ENDPOINT}{CLIENT}flow = \"jwt_bearer\"\nassertion = {{ file = \"t\" }}"), "ClientSecretBasic"),
        (
            format!(
                "{ENDPOINT}flow = \"refresh_token\"\nrefresh_token = {{ dangerous_literal = \"r\" }}\nclient_id = \"me\""
            ),
            "None",
        ),
        (format!("{ENDPOINT}flow = \"token_exchange\"\nsubject_token = {{ file = \"t\" }}"), "None"),
    ] {
        assert_eq!(way(quiet(&lines).request().unwrap()), expected, "{lines}");
    }
}

#[test]
fn the_basic_encoding_is_one_of_three() {
    for (word, encoding) in
        [("form", BasicEncoding::Form), ("raw", BasicEncoding::Raw), ("percent", BasicEncoding::Percent)]
    {
        let request = request(&usual(&format!("basic_encoding = \"{word}\"")));
        assert!(
            matches!(request.client_authentication, Some(ClientAuthentication::ClientSecretBasic(it)) if it == encoding)
        );
    }
}

#[test]
fn every_flow_has_what_it_needs() {
    let secret = "{ dangerous_literal = \"s\" }";
    let request = request(&format!(
        "{ENDPOINT}flow = \"token_exchange\"\nsubject_token = {secret}\nactor_token = {secret}\nactor_token_type = \"urn:a\"\nrequested_token_type = \"urn:r\""
    ));
    let GrantKind::TokenExchange(exchange) = request.grant.kind else { panic!() };
    assert_eq!(exchange.subject_token_type, "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!(exchange.actor_token.map(|(_, kind)| kind).as_deref(), Some("urn:a"));
    assert_eq!(exchange.requested_token_type.as_deref(), Some("urn:r"));

    let refresh = settings(&format!(
        "{ENDPOINT}flow = \"refresh_token\"\nclient_id = \"me\"\nrefresh_token = {secret}\nrefresh_token_store = \"kept\""
    ));
    assert!(
        matches!(&refresh.request().unwrap().grant.kind, GrantKind::RefreshToken { store: Some(path) } if path.ends_with("kept"))
    );
    assert!(refresh.principals[0].refresh_token.is_some());

    let lines = format!("{ENDPOINT}flow = \"password\"\nusername = \"u\"\npassword = {secret}");
    let loaded = good(&config(&lines));
    assert!(loaded.warnings.iter().any(|warning| warning.message.contains("RFC 9700 2.4")), "{}", loaded.warnings);
    assert_eq!(loaded.config.external_credentials[0].principals[0].username.as_deref(), Some("u"));

    let fixed = quiet(&format!("flow = \"static\"\ntoken = {secret}"));
    assert!(matches!(fixed.flow, Flow::Static) && fixed.principals[0].token.is_some());
    assert_eq!(fixed.inject.scheme.as_deref(), Some("Bearer"));

    let none = quiet("flow = \"none\"\nheaders = [{ name = \"x-key\", value = \"k\" }]");
    assert!(matches!(none.flow, Flow::None) && none.headers.len() == 1);
    // No token takes the field.
    quiet("flow = \"none\"\nheaders = [{ name = \"authorization\", value = \"k\" }]");

    let signed =
        quiet(&format!("flow = \"signed_jwt\"\n{CLIENT}signing = {{ algorithm = \"HS384\", key_id = \"k1\" }}"));
    let Flow::SignedJwt(assertion) = signed.flow else { panic!() };
    assert!(matches!(assertion.key, AssertionKey::ClientSecret(HmacAlgorithm::Hs384)));
    assert!(matches!(&assertion.header[..], [(name, Claim::Json(id))] if name == "kid" && id == "k1"));
}

#[test]
fn the_flow_basic_knows_user_names_by_two_names() {
    for lines in [
        "username = \"u\"\npassword = { dangerous_literal = \"p\" }",
        "client_id = \"u\"\nclient_secret = { dangerous_literal = \"p\" }",
        "username = { dangerous_literal = \"u\" }\npassword = { dangerous_literal = \"p\" }",
    ] {
        let basic = quiet(&format!("flow = \"basic\"\n{lines}"));
        let principal = &basic.principals[0];
        assert_eq!(principal.username.as_deref(), Some("u"), "{lines}");
        assert_eq!(principal.password.as_ref().map(Secret::expose), Some("p"), "{lines}");
        assert_eq!(basic.inject.scheme.as_deref(), Some("Basic"));
    }
    // An API key as user name has no password.
    let key = quiet("flow = \"basic\"\nusername = { dangerous_literal = \"key\" }");
    assert_eq!(key.principals[0].password.as_ref().map(Secret::expose), Some(""));
}

#[test]
fn what_a_flow_needs_is_named() {
    let flow = |word: &str, rest: &str| format!("{ENDPOINT}flow = \"{word}\"\n{rest}");
    for (lines, expected) in [
        (flow("jwt_bearer", "client_id = \"me\""), "the key `signing` is missing"),
        (flow("jwt_bearer", "client_id = \"me\"\nsigning = { key_id = \"a\" }"), "the key `key` is missing"),
        (
            flow(
                "jwt_bearer",
                "signing = { algorithm = \"HS256\" }\nclient_secret = { dangerous_literal = \"s\" }\nclient_authentication = \"none\"",
            ),
            "the key `client_id` is missing",
        ),
        (flow("password", "username = \"u\""), "the key `password` is missing"),
        (flow("password", "password = { dangerous_literal = \"p\" }"), "the key `username` is missing"),
        (flow("refresh_token", "client_id = \"me\""), "the key `refresh_token` is missing"),
        (flow("token_exchange", ""), "the key `subject_token` is missing"),
        ("flow = \"signed_jwt\"".to_owned(), "the key `signing` is missing"),
        (
            "flow = \"signed_jwt\"\nclient_id = \"me\"\nsigning = { algorithm = \"HS256\" }".to_owned(),
            "the key `client_secret` is missing",
        ),
        ("flow = \"basic\"".to_owned(), "the key `username` is missing"),
        ("flow = \"basic\"\nusername = \"u\"".to_owned(), "the key `password` is missing"),
        (
            "flow = \"basic\"\nusername = \"u\"\nclient_id = \"u\"\npassword = { dangerous_literal = \"p\" }"
                .to_owned(),
            "another name for `username`",
        ),
        ("flow = \"static\"".to_owned(), "the key `token` is missing"),
        (CLIENT.to_owned(), "the key `token_endpoint` is missing"),
        (ENDPOINT.to_owned(), "client_authentication = \"none\""),
        (format!("{ENDPOINT}client_id = \"me\""), "client_authentication = \"none\""),
        (
            format!("{ENDPOINT}client_id = \"me\"\nclient_authentication = \"json\""),
            "the key `client_secret` is missing",
        ),
        (format!("{ENDPOINT}client_authentication = \"json\""), "the client is missing"),
        (
            format!(
                "{ENDPOINT}client_authentication = \"client_secret_post\"\nparameters = {{ body = {{ apikey = \"k\" }} }}"
            ),
            "the client is missing",
        ),
        (
            format!("{ENDPOINT}client_id = \"me\"\nclient_authentication = \"private_key_jwt\""),
            "the key `signing` is missing",
        ),
        (format!("{ENDPOINT}assertion = {{ file = \"t\" }}"), "the key `client_id` is missing"),
        (
            format!("{ENDPOINT}client_id = \"me\"\nclient_authentication = \"tls_client_auth\""),
            "needs a client certificate",
        ),
        (
            format!("{ENDPOINT}client_id = \"me\"\nclient_authentication = \"bearer_jwt\""),
            "the key `signing` is missing",
        ),
    ] {
        assert_fault(&lines, expected);
    }
    quiet(&flow(
        "refresh_token",
        "client_id = \"me\"\nparameters = { body = { refresh_token = { dangerous_literal = \"r\" } } }",
    ));
    quiet(&flow(
        "jwt_bearer",
        "signing = { algorithm = \"HS256\" }\nassertion = { issuer = \"i\", subject = \"s\" }\n\
         client_secret = { dangerous_literal = \"s\" }\nclient_authentication = \"none\"",
    ));
}

#[test]
fn a_missing_key_is_reported_for_each_principal() {
    let principal =
        |name: &str| format!("[[external_credentials.x.principals]]\nname = \"{name}\"\nclient_id = \"{name}\"\n");
    let text = config(&format!("{ENDPOINT}client_authentication = \"client_secret_post\""))
        + &principal("a")
        + &principal("b");
    let found = super::problems(&text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("principals[0]: the key `client_secret` is missing"), "{found:?}");
    assert!(found[1].contains("principals[1]: the key `client_secret` is missing"), "{found:?}");
}

#[test]
fn an_issuer_stands_in_for_the_endpoint_and_stays_as_written() {
    let issuer = |text: &str| format!("{CLIENT}issuer = \"{text}\"");
    let endpoint = request(&issuer("http://LOCALHOST:9/realm/")).endpoint;
    assert_eq!((endpoint.url, endpoint.issuer.as_deref()), (None, Some("http://LOCALHOST:9/realm/")));
    for (text, expected) in [
        ("http://login.example.com", "plain_http = true"),
        ("http://127.0.0.1/?a=b", "an issuer has no query"),
        ("http://127.0.0.1/#a", "no fragment"),
        ("login.example.com", "not an absolute URL"),
    ] {
        assert_fault(&issuer(text), expected);
    }
    let both =
        request(&usual("issuer = \"http://127.0.0.1:7\"\nclient_authentication = \"client_secret_jwt\"")).endpoint;
    assert!(both.url.is_some() && both.issuer.is_some());
}

#[test]
fn a_proxy_on_the_way_out_is_checked() {
    let proxy = |keys: &str| usual(&format!("http_proxy = {{ {keys} }}"));
    let url = "url = \"http://proxy.example:3128\"";
    let password = "password = { dangerous_literal = \"open sesame\" }";
    let made = request(&proxy(&format!(
        "{url}, username = \"Aladdin\", {password}, no_proxy = [\".internal\", \"10.0.0.0/8\"]"
    )));
    let made = made.endpoint.http_proxy.unwrap();
    assert_eq!((made.host.as_str(), made.port), ("proxy.example", 3128));
    let authorization = made.authorization.as_ref().map(Secret::expose);
    assert_eq!(authorization, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert_eq!(made.no_proxy, [".internal", "10.0.0.0/8"]);
    assert_eq!(request(&proxy("url = \"http://proxy.example\"")).endpoint.http_proxy.unwrap().port, 80);
    for (keys, expected) in [
        ("", "the key `url` is missing"),
        ("url = \"https://p\"", "over plain HTTP"),
        ("url = \"http://p/x\"", "a host and a port"),
        ("url = \"http://u:p@p\"", "no user name and password"),
        ("url = \"http://p\", username = \"u\"", "needs its password"),
        ("url = \"http://p\", password = { dangerous_literal = \"p\" }", "needs its user name"),
        ("url = \"http://p\", username = \"u:v\", password = { dangerous_literal = \"p\" }", "no colon"),
        ("url = \"http://p\", no_proxy = [\"a b\"]", "not a host to reach"),
        ("url = \"http://p\", no_proxi = []", "did you mean `no_proxy`?"),
    ] {
        assert_fault(&proxy(keys), expected);
    }
}

#[test]
fn secrets_of_all_lie_beneath_those_of_one() {
    let text = config(&format!(
        "{ENDPOINT}secrets = {{ a = {{ dangerous_literal = \"1\" }}, b = {{ dangerous_literal = \"2\" }} }}\n\
         [[external_credentials.x.principals]]\nname = \"p\"\n{CLIENT}secrets = {{ b = {{ dangerous_literal = \"3\" }} }}"
    ));
    let external = good(&text).config.external_credentials.remove(0);
    let seen: Vec<_> = external.principals[0].secrets.iter().map(|(name, it)| (name.as_str(), it.expose())).collect();
    assert_eq!(seen, [("a", "1"), ("b", "3")]);
    let short = settings(&usual("secrets = { a = { dangerous_literal = \"1\" } }"));
    assert_eq!(short.principals[0].secrets.len(), 1);
}

#[test]
fn nothing_is_read_where_secrets_are_left() {
    let lines = "flow = \"token_exchange\"\nsubject_token = { file = \"/no/such\" }\nsecrets = { a = { env = \"NO_SUCH\" } }\n\
                 http_proxy = { url = \"http://p\", username = { env = \"NO_SUCH\" }, password = { env = \"NO_SUCH\" } }";
    let source = Source::Text { name: "x".to_owned(), text: config(&format!("{ENDPOINT}{lines}")) };
    crate::config::load(&source, Secrets::Leave).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn one_file_keeps_one_refresh_token() {
    let external = |name: &str, rest: &str| {
        format!(
            "[external_credentials.{name}]\n{ENDPOINT}flow = \"refresh_token\"\nrefresh_token_store = \"kept\"\n{rest}\n"
        )
    };
    let own = "refresh_token = { dangerous_literal = \"r\" }";
    let two = format!("{ROUTE}{}{}", external("x", own), external("y", own));
    let found = super::problems(&two);
    assert!(found[0].contains("in the same file"), "{found:?}");
    let principal = |name: &str| format!("[[external_credentials.x.principals]]\nname = \"{name}\"\n{own}\n");
    let one = format!("{ROUTE}{}{}{}", external("x", ""), principal("a"), principal("b"));
    assert!(problem(&one).contains("the refresh token of one principal"));
    good(&one.replace("refresh_token_store = \"kept\"\n", ""));
}
