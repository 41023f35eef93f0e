//! `keybearer doctor` before typical mistakes: what it prints, word by word, in `doctor/*.txt`.
//!
//! `KEYBEARER_UPDATE_SNAPSHOTS=1` writes those files anew. Ports, durations and what the system says in its own words
//! are replaced before the comparison, and paragraphs are wrapped again, because a port decides where a line breaks.

mod tls;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::support::canary::Scanner;
use crate::support::certificates::Authority;
use crate::support::proxy::{Setup, head};
use crate::support::scripted::{Received, Scripted, Serving, answer};
use crate::support::servers::{ClosedPort, Servers};

use self::tls::TlsServer;

/// Holds characters that servers read in different ways.
const SPECIAL_SECRET: &str = "canary+secret/of orders==";

/// What the demo issuer knows the client by.
const SECRET: &str = "the-well-kept-secret-of-orders";

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A server that gives the same answer to everything.
async fn says(status: u16, fields: &[(&str, &str)], body: &str) -> Serving {
    let bytes = answer(status, &[fields, &[("Date", &now())]].concat(), body.as_bytes());
    Scripted::start().await.serve(move |_| bytes.clone())
}

fn now() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}

/// The named credential `orders` to `url` with tokens of `token_endpoint`.
fn config(url: &str, token_endpoint: &str, external: &str) -> String {
    format!(
        "{}\n[named_credentials.orders]\nurl = \"{url}\"\nexternal_credential = \"issuer\"\n\
         [external_credentials.issuer]\ntoken_endpoint = \"{token_endpoint}\"\nclient_id = \"orders\"\n\
         client_secret = {{ env = \"ORDERS_SECRET\" }}\n{external}\n",
        head("info")
    )
}

/// With a token endpoint that says this; the upstream is not reached.
async fn refusing(status: u16, fields: &[(&str, &str)], body: &str, external: &str) -> (Setup, Serving) {
    let issuer = says(status, fields, body).await;
    let config = config("http://127.0.0.1:9/v1", &format!("http://{}/token", issuer.address), external);
    (Setup::new(&config).env("ORDERS_SECRET", SECRET), issuer)
}

/// With a token endpoint that gives `token`, and an API that says this.
async fn guarded(token: &str, status: u16, fields: &[(&str, &str)], body: &str) -> (Setup, [Serving; 2]) {
    let granted = format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
    let issuer = says(200, &[JSON], &granted).await;
    let api = says(status, fields, body).await;
    let config = config(&format!("http://{}/v1", api.address), &format!("http://{}/token", issuer.address), "");
    (Setup::new(&config).env("ORDERS_SECRET", SECRET), [issuer, api])
}

/// Runs the doctor, and compares what it prints with the file of this name.
async fn compare(setup: &Setup, name: &str, status: i32) {
    compare_with(setup, name, status, &["doctor", "orders"]).await;
}

async fn compare_with(setup: &Setup, name: &str, status: i32, arguments: &[&str]) {
    let output = setup.output(arguments).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{name}:\n{text}{errors}");
    let mut scanner = Scanner::default();
    scanner.add("the secret", SECRET);
    scanner.add("the special secret", SPECIAL_SECRET);
    let found = scanner.find(&format!("{text}{errors}"));
    assert!(found.is_empty() && !text.contains("canary"), "{name}: {found:?} in\n{text}{errors}");
    assert!(!text.contains('\u{1b}'), "no colour where nobody looks: {text}");
    let paragraph = text.split_once("\n\n").map(|(_, paragraph)| paragraph).unwrap_or_default();
    assert!(paragraph.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{name}:\n{paragraph}");
    let settled = settled(&format!("{text}{errors}"));
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/doctor/{name}.txt"));
    if std::env::var_os("KEYBEARER_UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(&file, &settled).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(settled, expected, "{name}: if this is right, run with KEYBEARER_UPDATE_SNAPSHOTS=1:\n{settled}");
}

/// Without what changes from run to run.
fn settled(text: &str) -> String {
    let text = digits_after(text, "127.0.0.1:", "PORT");
    let text = digits_after(&text, "localhost:", "PORT");
    let text = digits_after(&text, "connected to port ", "PORT");
    let text = digits_after(&text, "(os error ", "N");
    let lines = text.lines().map(|line| {
        let line = match line.rsplit_once(" (") {
            Some((found, took)) if took.ends_with(" ms)") => format!("{found} (N ms)"),
            _ => line.to_owned(),
        };
        let unsteady = ["the host name does not resolve: ", "localhost is "];
        let found = unsteady.iter().find_map(|known| Some((line.split_once(known)?.0, known)));
        found.map_or_else(|| line.clone(), |(before, known)| format!("{before}{known}SYSTEM (N ms)"))
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    match text.split_once("\n\n") {
        Some((steps, paragraph)) => format!("{steps}\n\n{}\n", wrapped(paragraph)),
        None => format!("{text}\n"),
    }
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().unwrap();
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > 80 {
            lines.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines.join("\n")
}

fn digits_after(text: &str, before: &str, instead: &str) -> String {
    let mut pieces = text.split(before);
    let mut settled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        settled.push_str(before);
        settled.push_str(if rest.len() == piece.len() { "" } else { instead });
        settled.push_str(rest);
    }
    settled
}

#[tokio::test]
async fn a_good_way_is_walked_to_its_end() {
    let servers = Servers::start().await;
    let setup = Setup::new(&servers.config(&servers.url(), "", "scope = \"read\"")).env("ORDERS_SECRET", SECRET);
    compare(&setup, "all_is_well", 0).await;
    let seen = servers.api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, "GET");
    compare_with(&setup, "external_alone", 0, &["doctor", "issuer"]).await;
    assert_eq!(servers.api.seen().len(), 1, "an external credential has no upstream");
}

#[tokio::test]
async fn a_wrong_secret() {
    let servers = Servers::start().await;
    let setup = Setup::new(&servers.config(&servers.url(), "", "")).env("ORDERS_SECRET", "canary-of-another-client");
    compare(&setup, "wrong_secret", 1).await;
    assert!(servers.api.seen().is_empty(), "nothing goes to the API");
}

#[tokio::test]
async fn a_secret_with_characters_that_servers_read_differently() {
    let issuer = says(401, &[JSON], r#"{"error":"invalid_client"}"#).await;
    let config = config("http://127.0.0.1:9", &format!("http://{}/token", issuer.address), "");
    compare(&Setup::new(&config).env("ORDERS_SECRET", SPECIAL_SECRET), "basic_encoding", 1).await;
}

#[tokio::test]
async fn no_audience_where_one_is_needed() {
    let said = r#"{"error":"access_denied","error_description":"No audience parameter was provided, and no default audience has been configured"}"#;
    let (setup, _issuer) = refusing(403, &[JSON], said, "").await;
    compare(&setup, "missing_audience", 1).await;
}

#[tokio::test]
async fn an_opaque_token_that_the_api_does_not_know() {
    let challenge = (
        "WWW-Authenticate",
        "Bearer error=\"invalid_token\", error_description=\"Jwt is not in the form of Header.Payload.Signature\"",
    );
    let (setup, _servers) = guarded("opaque-canary-token", 401, &[challenge], "opaque-canary-token is no JWT").await;
    compare(&setup, "opaque_token", 1).await;
}

#[tokio::test]
async fn a_scope_that_is_refused() {
    let said =
        r#"{"error":"invalid_scope","error_description":"The requested scope is invalid, unknown, or malformed"}"#;
    let (setup, _issuer) = refusing(400, &[JSON], said, "scope = \"orders.raed\"").await;
    compare(&setup, "refused_scope", 1).await;
}

#[tokio::test]
async fn salesforce_at_the_wrong_host_and_with_a_scope() {
    let said = r#"{"error":"invalid_grant","error_description":"request not supported on this domain"}"#;
    let (setup, _issuer) = refusing(400, &[JSON], said, "").await;
    compare(&setup, "salesforce_domain", 1).await;
    let said = r#"{"error":"invalid_request","error_description":"scope parameter not supported"}"#;
    let (setup, _issuer) = refusing(400, &[JSON], said, "scope = \"api\"").await;
    compare(&setup, "salesforce_scope", 1).await;
}

#[tokio::test]
async fn places_that_are_no_token_endpoint() {
    let html = ("Content-Type", "text/html; charset=utf-8");
    let page = "<!DOCTYPE html><html><head><title>Log in | Example</title></head></html>";
    let (setup, _issuer) = refusing(200, &[html], page, "").await;
    compare(&setup, "login_page", 1).await;
    let (setup, _issuer) = refusing(404, &[JSON], r#"{"message":"no such path"}"#, "").await;
    compare(&setup, "not_found", 1).await;
    let place = ("Location", "https://login.example.com/oauth2/token?x=1");
    let (setup, _issuer) = refusing(307, &[place], "", "").await;
    compare(&setup, "redirect", 1).await;
}

#[tokio::test]
async fn the_wrong_client_authentication_and_the_wrong_grant() {
    let said = r#"{"error":"invalid_client","error_description":"Client Credentials requests to the Org Authorization Server must use the private_key_jwt token_endpoint_auth_method."}"#;
    let (setup, _issuer) = refusing(401, &[JSON], said, "").await;
    compare(&setup, "client_authentication", 1).await;
    let (setup, _issuer) = refusing(400, &[JSON], r#"{"error":"unsupported_grant_type"}"#, "").await;
    compare(&setup, "grant_type", 1).await;
}

#[tokio::test]
async fn a_limit_and_tokens_of_another_kind() {
    let (setup, _issuer) = refusing(429, &[JSON, ("Retry-After", "120")], r#"{"error":"too_many_requests"}"#, "").await;
    compare(&setup, "limited", 1).await;
    let said = r#"{"access_token":"canary-token","token_type":"MAC","expires_in":60}"#;
    let (setup, _issuer) = refusing(200, &[JSON], said, "").await;
    compare(&setup, "token_type", 1).await;
    let said = r#"{"data":{"accessToken":"canary-token-0123456789"}}"#;
    let (setup, _issuer) = refusing(200, &[JSON], said, "").await;
    compare(&setup, "token_elsewhere", 1).await;
}

#[tokio::test]
async fn hosts_that_cannot_be_reached() {
    let setup =
        Setup::new(&config("http://127.0.0.1:9", "https://name.invalid/token", "")).env("ORDERS_SECRET", SECRET);
    compare(&setup, "name", 1).await;
    let closed = ClosedPort::new();
    let setup = Setup::new(&config("http://127.0.0.1:9", &format!("http://{}/token", closed.address), ""));
    compare(&setup.env("ORDERS_SECRET", SECRET), "connection_refused", 1).await;
    let (setup, _servers) = guarded("canary-token", 200, &[], "").await;
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let upstream = text.lines().find(|line| line.starts_with("url = ")).unwrap();
    let text = text.replace(upstream, &format!("url = \"http://{}\"", closed.address));
    compare(&Setup::new(&text).env("ORDERS_SECRET", SECRET), "upstream_refused", 1).await;
}

#[tokio::test]
async fn a_corporate_proxy_that_wants_credentials() {
    let proxy = says(407, &[("Proxy-Authenticate", "Basic realm=\"out\"")], "").await;
    let lines = format!("http_proxy = {{ url = \"http://{}\" }}", proxy.address);
    let config = config("http://127.0.0.1:9", "https://issuer.example/token", &lines);
    compare(&Setup::new(&config).env("ORDERS_SECRET", SECRET), "proxy", 1).await;
}

#[tokio::test]
async fn certificates_and_ports_that_do_not_fit() {
    let authority = Authority::new("the test's authority");
    let server = TlsServer::start(&authority.server()).await;
    let setup = |url: &str, lines: &str| {
        Setup::new(&config("http://127.0.0.1:9", url, lines))
            .env("ORDERS_SECRET", SECRET)
            .file("ca.pem", &authority.certificate)
            .file("other.pem", &Authority::new("another").certificate)
    };
    let url = format!("https://localhost:{}/token", server.address.port());
    compare(&setup(&url, "tls = { ca = \"other.pem\" }"), "unknown_authority", 1).await;
    let named = TlsServer::start(&authority.named("issuer.example")).await;
    let url = format!("https://localhost:{}/token", named.address.port());
    compare(&setup(&url, "tls = { ca = \"ca.pem\" }"), "other_name", 1).await;
    let expired = TlsServer::start(&authority.expired()).await;
    let url = format!("https://localhost:{}/token", expired.address.port());
    compare(&setup(&url, "tls = { ca = \"ca.pem\" }"), "expired", 1).await;
    compare(&setup(&format!("http://{}/token", server.address), ""), "plain_to_tls", 1).await;
    let plain = Servers::start().await;
    let url = format!("https://{}/token", plain.api.address());
    compare(&setup(&url, "tls = { ca = \"ca.pem\" }"), "tls_to_plain", 1).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let later = httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(3600));
    let bytes = answer(401, &[JSON, ("Date", &later)], br#"{"error":"invalid_client"}"#);
    let issuer = Scripted::start().await.serve(move |_| bytes.clone());
    let config = config("http://127.0.0.1:9", &format!("http://{}/token", issuer.address), "");
    let config = config.replace(
        "client_secret = { env = \"ORDERS_SECRET\" }",
        "signing = { key = { file = \"client.key\" } }\nassertion = { claims = { jti = \"1\", iat = 1, exp = 2 } }",
    );
    compare(&Setup::new(&config).file("client.key", &pair.serialize_pem()), "clock", 1).await;
}

#[tokio::test]
async fn apis_that_refuse_a_fresh_token() {
    let challenge = ("WWW-Authenticate", "Bearer error=\"insufficient_scope\", scope=\"orders.write\"");
    let (setup, _servers) = guarded("canary-token", 403, &[challenge], "").await;
    compare(&setup, "insufficient_scope", 1).await;
    let (setup, _servers) = guarded("canary-token", 401, &[("WWW-Authenticate", "Basic realm=\"orders\"")], "").await;
    compare(&setup, "basic_wanted", 1).await;
    let (setup, _servers) =
        guarded("canary-token", 302, &[("Location", "https://portal.example/login?to=/")], "").await;
    compare(&setup, "api_login", 1).await;
    let (setup, _servers) = guarded("canary-token", 401, &[("WWW-Authenticate", "DPoP algs=\"ES256\"")], "").await;
    compare(&setup, "dpop_wanted", 1).await;
    // {"alg":"none"}, {"iss":"https://issuer.example","aud":"https://other.example"}
    let token = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjoiaHR0cHM6Ly9vdGhlci5leGFtcGxlIn0.canary";
    let challenge = ("WWW-Authenticate", "Bearer error=\"invalid_token\"");
    let (setup, _servers) = guarded(token, 401, &[challenge], "").await;
    compare(&setup, "other_audience", 1).await;
}

#[tokio::test]
async fn the_trial_request_is_what_run_would_send() {
    let (setup, [_issuer, api]) = guarded("canary-token", 200, &[], "").await;
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let text = text.replace(
        "external_credential =",
        "host_header = \"orders.internal\"\nheaders = [{ name = \"x-key\", value = { formula = \"request.path\" } }]\n\
         external_credential =",
    );
    let setup = Setup::new(&text).env("ORDERS_SECRET", SECRET);
    let output = setup.output(&["doctor", "orders", "--path", "42?x=1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let received = api.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].head.starts_with("GET /v1/42?x=1 HTTP/1.1\r\n"), "{}", received[0].head);
    assert_eq!(received[0].authorization(), "Bearer canary-token");
    assert_eq!(received[0].field("host"), Some("orders.internal"));
    assert_eq!(received[0].field("x-key"), Some("/orders/42"));
    assert!(received[0].field("via").is_some(), "{}", received[0].head);
}

#[tokio::test]
async fn a_bound_token_is_tried_with_a_proof_and_the_nonce_that_is_asked_for() {
    let granted = r#"{"access_token":"canary-token","token_type":"DPoP","expires_in":60}"#;
    let issuer = says(200, &[JSON], granted).await;
    let api = Scripted::start().await.serve(|request| match claims_of_proof(request)["nonce"].as_str() {
        Some("n-1") => answer(200, &[], b"{}"),
        _ => answer(401, &[("DPoP-Nonce", "n-1"), ("WWW-Authenticate", "DPoP error=\"use_dpop_nonce\"")], b""),
    });
    let (api_url, endpoint) = (format!("http://{}", api.address), format!("http://{}/token", issuer.address));
    let setup = Setup::new(&config(&api_url, &endpoint, "dpop = true")).env("ORDERS_SECRET", SECRET);
    let output = setup.output(&["doctor", "orders"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let received = api.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1].authorization(), "DPoP canary-token");
}

fn claims_of_proof(request: &Received) -> Value {
    let claims = request.field("dpop").unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn json_has_the_steps_and_the_diagnosis() {
    let (setup, _issuer) = refusing(401, &[JSON], r#"{"error":"invalid_client"}"#, "").await;
    let output = setup.output(&["doctor", "orders", "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["name"], &object["ok"]), (&"orders".into(), &false.into()));
    let outcomes: Vec<_> = object["steps"].as_array().unwrap().iter().map(|step| &step["outcome"]).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "failed").count(), 1);
    assert_eq!(object["steps"][4]["step"], "token");
    for part in ["sent", "received", "meaning", "change"] {
        assert!(object["diagnosis"][part].as_str().is_some_and(|text| text.ends_with('.')), "{object:#}");
    }
}

#[tokio::test]
async fn token_and_check_print_the_paragraph_too() {
    let (setup, _issuer) = refusing(401, &[JSON], r#"{"error":"invalid_client"}"#, "").await;
    for arguments in [["token", "orders"], ["check", "--online"]] {
        let output = setup.output(&arguments).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let flat = errors.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains("Received: 401 invalid_client"), "{errors}");
        assert!(flat.contains("client_id in [external_credentials.issuer]"), "{errors}");
        assert!(!errors.contains("well-kept"), "{errors}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_told_and_nothing_is_asked() {
    let (setup, issuer) = refusing(401, &[JSON], "{}", "").await;
    for arguments in [
        vec!["doctor", "nobody"],
        vec!["doctor", "orders", "--principal", "nobody"],
        vec!["doctor", "orders", "--caller", "nobody"],
    ] {
        let output = setup.output(&arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(issuer.received().is_empty());
}
