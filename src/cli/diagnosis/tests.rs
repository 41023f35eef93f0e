//! Every usual mistake, by what is configured and what is answered: the meaning and the key that must be named.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use serde_json::json;

use super::{Diagnosis, Mint, Ours, Probed, Skew, Target, Unreached, mint, refused, unreached, wrapped};
use crate::connect::ConnectError;
use crate::secret::Secret;
use crate::sign::Signer;
use crate::token::{
    Assertion, AssertionKey, AssertionSource, BasicEncoding, ClientAuthentication, GrantKind, MintError, Received,
    RequestSettings, Sent, Settings, Sighting, Text,
};

type Change = fn(&mut Settings);

fn settings() -> Settings {
    Settings::sample(Uri::from_static("https://issuer.example/token"))
}

fn request(settings: &mut Settings) -> &mut RequestSettings {
    settings.request_mut().unwrap()
}

fn untouched(_: &mut Settings) {}

fn special_secret(settings: &mut Settings) {
    settings.principals[0].client_secret = Some(Secret::new("canary+/=".to_owned()));
}

fn special_raw(settings: &mut Settings) {
    special_secret(settings);
    let basic = ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw);
    request(settings).client_authentication = Some(basic);
}

fn scope(settings: &mut Settings) {
    request(settings).scope = Some(Text::Literal("orders.raed".to_owned()));
}

fn audience(settings: &mut Settings) {
    request(settings).audience = vec![Text::Literal("https://api".to_owned())];
}

fn dpop(settings: &mut Settings) {
    request(settings).dpop = true;
}

fn password(settings: &mut Settings) {
    request(settings).grant.kind = GrantKind::Password;
}

fn refresh_token(settings: &mut Settings) {
    request(settings).grant.kind = GrantKind::RefreshToken { store: None };
}

fn assertion() -> AssertionSource {
    AssertionSource::Signed(Box::new(Assertion {
        key: AssertionKey::Signer(Arc::new(Signer::generate_es256().unwrap())),
        issuer: None,
        subject: None,
        audience: Vec::new(),
        lifetime: Duration::from_secs(120),
        claims: Vec::new(),
        header: Vec::new(),
    }))
}

fn key(settings: &mut Settings) {
    request(settings).client_authentication = Some(ClientAuthentication::PrivateKeyJwt(assertion()));
}

fn jwt_bearer(settings: &mut Settings) {
    request(settings).grant.kind = GrantKind::JwtBearer(assertion());
}

fn file(settings: &mut Settings) {
    let source = AssertionSource::File("/var/run/token".into());
    request(settings).client_authentication = Some(ClientAuthentication::PrivateKeyJwt(source));
}

fn answered(status: u16, fields: &[(&str, &str)], body: &str) -> Received {
    let headers = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Received { status, headers, body: body.to_owned() }
}

fn diagnosed(settings: &Settings, answer: Received, cause: &str, skew: Option<Skew>) -> Diagnosis {
    let sent = Sent {
        method: "POST".to_owned(),
        url: "https://issuer.example/token".to_owned(),
        headers: vec![("authorization".to_owned(), "Basic ********".to_owned())],
        body: "grant_type=client_credentials".to_owned(),
    };
    let sightings = [Sighting { sent, received: Ok(answer) }];
    let error = MintError::sample(cause, None);
    mint(&Mint { settings, principal: &settings.principals[0], sightings: &sightings, error: &error, skew })
}

fn error(code: &str, words: &str) -> String {
    json!({"error": code, "error_description": words}).to_string()
}

#[test]
fn refusals_of_the_server_lead_to_the_key_that_is_wrong() {
    let table: &[(Change, u16, String, &str, &str)] = &[
        (untouched, 401, error("invalid_client", ""), "does not exist", "client_secret refers to"),
        (untouched, 401, "{}".to_owned(), "does not exist", "client_id in"),
        (special_secret, 401, error("invalid_client", ""), "read in different ways", "basic_encoding = \"raw\""),
        (special_raw, 400, error("unauthorized_client", ""), "sent as they are", "basic_encoding = \"form\""),
        (untouched, 403, error("access_denied", "No audience parameter"), "which API", "audience = \"…\""),
        (untouched, 400, error("invalid_request", "missing resource parameter"), "which API", "resource = \"…\""),
        (audience, 403, error("access_denied", "Service not enabled for audience"), "does not know the API", "letter"),
        (untouched, 400, error("invalid_target", ""), "which API", "audience = \"…\""),
        (scope, 400, error("invalid_scope", ""), "\"orders.raed\"", "Correct scope"),
        (untouched, 400, error("invalid_scope", ""), "none was asked for", "scope = \"…\""),
        (scope, 400, error("invalid_scope", "AADSTS70011: … /.default"), "orders.raed", "Entra"),
        (scope, 400, error("invalid_request", "scope parameter not supported"), "takes no scope", "Remove scope"),
        (untouched, 400, error("invalid_grant", "request not supported on this domain"), "My Domain", "MYDOMAIN"),
        (untouched, 401, error("invalid_client", "must use private_key_jwt"), "private_key_jwt", "signing = {"),
        (untouched, 401, error("invalid_client", "bad client authentication method"), "does not take", "Look up"),
        (untouched, 400, error("unsupported_grant_type", ""), "client_credentials", "grant_type = \"…\""),
        (untouched, 400, error("unauthorized_client", "grant type not allowed"), "does not let it", "Allow that grant"),
        (untouched, 400, error("use_dpop_nonce", ""), "bound to a key", "dpop = true"),
        (dpop, 400, error("use_dpop_nonce", ""), "nonce", "ask the provider"),
        (dpop, 400, error("invalid_dpop_proof", ""), "proof", "token_endpoint"),
        (password, 400, error("invalid_grant", ""), "password is wrong", "username in"),
        (refresh_token, 400, error("invalid_grant", ""), "refresh token has expired", "refresh_token_store"),
        (untouched, 400, error("invalid_grant", "no client credentials user enabled"), "run as", "Run As"),
        (key, 401, error("invalid_client", ""), "aud is not what", "assertion = {"),
        (key, 401, error("invalid_client", "Invalid signature"), "another public key", "signing.key_id"),
        (jwt_bearer, 400, error("invalid_grant", "Invalid JWT Signature."), "another public key", "signing.key_id"),
        (file, 401, error("invalid_client", ""), "in the file", "assertion.file"),
        (untouched, 403, error("access_denied", "by policy"), "a policy", "allow the client"),
        (untouched, 400, error("invalid_request", "something"), "misses a parameter", "parameters = {"),
        (untouched, 503, String::new(), "itself is failing", "status page"),
        (untouched, 415, String::new(), "a form", "\"json\""),
        (untouched, 405, String::new(), "another endpoint", "method = \"GET\""),
        (untouched, 404, String::new(), "no token endpoint at this path", "Correct the path"),
        (untouched, 418, "{\"x\":1}".to_owned(), "none of the usual", "documentation"),
    ];
    for (change, status, body, meaning, key) in table {
        let mut settings = settings();
        change(&mut settings);
        let told = diagnosed(&settings, answered(*status, &[], body), &format!("status {status}"), None);
        let text = format!("{told:?}");
        assert!(told.meaning.contains(meaning), "{status} {body}: {text}");
        assert!(told.change.contains(key), "{status} {body}: {text}");
        assert!(told.received.contains(&status.to_string()), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_clock_that_is_wrong_is_blamed_only_where_something_is_signed_and_refused() {
    let skew = |seconds| Some(Skew { by: Duration::from_secs(seconds), ours: Ours::Behind });
    let google =
        error("invalid_grant", "Invalid JWT: Token must be a short-lived token and in a reasonable timeframe.");
    let table: &[(Change, &str, Option<Skew>, bool)] = &[
        (key, &error("invalid_client", ""), skew(3600), true),
        (key, &error("invalid_client", ""), skew(20), false),
        (key, &error("invalid_client", ""), None, false),
        (jwt_bearer, &google, skew(10), true),
        (dpop, &error("invalid_dpop_proof", ""), skew(300), true),
        (untouched, &error("invalid_client", ""), skew(3600), false),
    ];
    for (change, body, skew, blamed) in table {
        let mut settings = settings();
        change(&mut settings);
        let told = diagnosed(&settings, answered(400, &[], body), "x", *skew);
        assert_eq!(told.meaning.contains("clock of this machine is"), *blamed, "{body} {skew:?}: {told:?}");
    }
}

#[test]
fn answers_that_do_not_come_from_the_token_endpoint_are_told_apart() {
    let page = "<!doctype html><html><title> Sign in\n to Example</title>";
    let html = [("content-type", "text/html")];
    let firewall = "<html><body>Request rejected. Support ID 7</body></html>";
    let nginx = "<html><title>400</title>400 The plain HTTP request was sent to HTTPS port</html>";
    for (answer, received, meaning) in [
        (answered(200, &html, page), "titled \"Sign in to Example\"", "login page"),
        (answered(403, &[], firewall), "403 with a web page", "firewall"),
        (answered(400, &html, nginx), "400 with a web page", "speaks TLS"),
        (
            answered(302, &[("location", "https://login.example/x?code=1")], ""),
            "redirect to https://login.example/x.",
            "secret would go to login.example",
        ),
        (answered(429, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], ""), "429", "limits how often"),
    ] {
        let told = diagnosed(&settings(), answer, "status 400", None);
        assert!(told.received.contains(received), "{told:?}");
        assert!(told.meaning.contains(meaning), "{told:?}");
    }
}

#[test]
fn successes_without_a_usable_token_are_explained() {
    let no_token = "the answer holds no access token";
    let type_refused = "the token type is not in accept_token_types";
    for (change, body, cause, key) in [
        (untouched as Change, r#"{"token_type":"MAC"}"#, type_refused, "accept_token_types = [\"bearer\", \"mac\"]"),
        (untouched, r#"{"token_type":"DPoP"}"#, type_refused, "dpop = true"),
        (dpop, r#"{"token_type":"Bearer"}"#, type_refused, "remove dpop"),
        (untouched, r#"{"a":{"accessToken":"********"}}"#, no_token, "token = \"/a/accessToken\""),
        (untouched, r#"{"ok":true}"#, no_token, "/pointer/to/it"),
        (untouched, "hello", "the answer is neither JSON nor a form", "Check token_endpoint"),
    ] {
        let mut settings = settings();
        change(&mut settings);
        let told = diagnosed(&settings, answered(200, &[], body), cause, None);
        assert!(told.change.contains(key), "{body}: {told:?}");
    }
}

#[test]
fn our_own_words_are_never_taken_for_the_servers() {
    let mut settings = settings();
    special_secret(&mut settings);
    let told = diagnosed(&settings, answered(401, &[], r#"{"error":"invalid_client"}"#), "invalid_client", None);
    assert!(told.received == "Received: 401 invalid_client." && told.change.contains("basic_encoding"), "{told:?}");
    let nothing = MintError::sample("misconfigured: the signing key is not there", None);
    let principal = &settings.principals[0];
    let told = mint(&Mint { settings: &settings, principal, sightings: &[], error: &nothing, skew: None });
    assert_eq!(told.sent, "Nothing was sent.");
    assert!(told.received.contains("the signing key is not there"), "{told:?}");
}

#[test]
fn hosts_that_cannot_be_reached_are_told_apart() {
    let tls =
        |kind| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(kind)));
    let unknown = || tls(rustls::CertificateError::UnknownIssuer);
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
    let not_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
    let other = |error: rustls::Error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error));
    let closed = ConnectError::Refused(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
    for (error, meaning, change) in [
        (ConnectError::Dns(io::Error::other("x")), "no such host", "Correct the host of token_endpoint"),
        (closed, "Nothing listens", "Check host and port"),
        (ConnectError::Timeout, "firewall", "http_proxy"),
        (unknown(), "private authority", "tls = { ca = \"ca.pem\" }"),
        (tls(rustls::CertificateError::NotValidForName), "does not know", "a name that is in the certificate"),
        (tls(rustls::CertificateError::Expired), "renew its certificate", "date -u"),
        (other(alert), "mutual TLS", "certificate = \"client.pem\""),
        (other(not_tls), "speaks plain HTTP", "token_endpoint = \"http://issuer.example/token\""),
        (ConnectError::Proxy { status: 407 }, "without credentials", "username = \"…\""),
        (ConnectError::Proxy { status: 403 }, "does not let anybody", "no_proxy"),
        (ConnectError::ProxyUnreached(Box::new(ConnectError::Timeout)), "not where http_proxy says", "http_proxy.url"),
        (ConnectError::ProxySpoke, "no HTTP proxy", "http_proxy.url"),
    ] {
        let target = Target {
            url: "https://issuer.example/token",
            host: "issuer.example",
            table: "[external_credentials.issuer]",
            key: "token_endpoint",
            http_proxy: Some("proxy.example:3128"),
            has_ca: false,
            has_certificate: false,
        };
        let told = unreached(&target, &Unreached::Connect(&error));
        assert!(told.meaning.contains(meaning) && told.change.contains(change), "{error:?}: {told:?}");
        assert!(told.change.contains("[external_credentials.issuer]") || meaning.contains("renew"), "{told:?}");
    }
}

/// The API answers so to a token with these claims.
fn probed(settings: &Settings, answer: &Received, claims: Option<&serde_json::Value>) -> Option<Diagnosis> {
    refused(&Probed {
        name: "orders",
        url: "https://api.example/v1",
        host: "api.example",
        sent: "GET https://api.example/v1 with Authorization: Bearer ********",
        answer,
        external: Some(settings),
        claims,
        skew: None,
        is_rejection: answer.status == 401 || answer.status == 499,
    })
}

#[test]
fn an_api_that_refuses_a_fresh_token_is_explained() {
    let challenge = |text| [("www-authenticate", text)];
    let jwt = |aud: &str| Some(json!({"iss": "https://issuer.example", "aud": aud}));
    let table: Vec<(Change, Received, Option<serde_json::Value>, &str, &str)> = vec![
        (untouched, answered(401, &[], ""), None, "opaque", "audience = \"…\""),
        (audience, answered(401, &[], ""), None, "does not accept a fresh token", "inject"),
        (untouched, answered(401, &[], ""), jwt("https://other"), "meant for https://other", "Write audience"),
        (audience, answered(401, &[], ""), jwt("https://other"), "meant for https://other", "Change audience"),
        (untouched, answered(401, &[], ""), jwt("https://api.example/"), "made by https://issuer", "same environment"),
        (
            untouched,
            answered(403, &challenge("Bearer error=\"insufficient_scope\", scope=\"a b\""), ""),
            None,
            "does not cover",
            "scope = \"a b\"",
        ),
        (untouched, answered(403, &[], "{}"), None, "may not do this", "additional_refresh_status_codes = [403]"),
        (untouched, answered(401, &challenge("Basic realm=\"x\""), ""), None, "Basic", "flow = \"basic\""),
        (untouched, answered(401, &challenge("ApiKey"), ""), None, "ApiKey", "scheme = \"ApiKey\""),
        (untouched, answered(401, &challenge("DPoP algs=\"ES256\""), ""), None, "bound to a key", "dpop = true"),
        (dpop, answered(401, &challenge("DPoP error=\"use_dpop_nonce\""), ""), None, "nonce", "Try again"),
        (untouched, answered(302, &[("location", "/login")], ""), None, "browser", "url of [named_credentials.orders]"),
        (untouched, answered(301, &[("location", "https://api.example/v1/")], ""), None, "another path", "--path"),
        (
            untouched,
            answered(308, &[("location", "https://b.example/v1")], ""),
            None,
            "does not follow",
            "url = \"https://b.example/v1\"",
        ),
        (audience, answered(499, &[], ""), jwt("api.example"), "takes 499 for a refused token", "refresh_unless"),
    ];
    for (change, answer, claims, meaning, key) in table {
        let mut settings = settings();
        change(&mut settings);
        let told = probed(&settings, &answer, claims.as_ref()).unwrap();
        assert!(told.meaning.contains(meaning) && told.change.contains(key), "{answer:?}: {told:?}");
    }
    for status in [200, 204, 404, 429, 500] {
        assert_eq!(probed(&settings(), &answered(status, &[], ""), None), None, "{status}");
    }
}

#[test]
fn clocks_are_compared_by_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let date = |seconds: i64| {
        let time = now.checked_add(Duration::from_secs(7200)).unwrap();
        httpdate::fmt_http_date(time - Duration::from_secs(u64::try_from(7200 - seconds).unwrap()))
    };
    for (seconds, told, harmful) in [
        (0, "0s behind", false),
        (12, "12s behind", false),
        (31, "31s behind", true),
        (3601, "about 1h behind", true),
        (-90, "about 2m ahead of", true),
    ] {
        let skew = Skew::of(&date(seconds), now).unwrap();
        assert_eq!((skew.told().as_str(), skew.is_harmful()), (told, harmful), "{seconds}");
    }
    assert_eq!(Skew::of("yesterday", now), None);
}

#[test]
fn paragraphs_are_wrapped_at_spaces() {
    assert_eq!(wrapped("aa bb cc dddddddd e", 5), "aa bb\ncc\ndddddddd\ne");
    assert_eq!(wrapped("", 5), "");
}
