//! How the credential is attached, formulas, and what a named credential takes over.

use super::{assert_fault, config, request, settings, usual};
use crate::config::tests::{good, problem, with};
use crate::config::{Loaded, Secrets, Source};
use crate::token::{ClientAuthentication, HeaderValueSource, Text};

#[test]
fn how_the_token_is_attached_follows_from_the_flow() {
    let dpop = settings(&usual("dpop = true"));
    assert_eq!(dpop.inject.scheme.as_deref(), Some("DPoP"));
    let request = dpop.request().unwrap();
    assert!(request.dpop);
    assert_eq!(request.response.accept_token_types, ["dpop"]);
    assert_eq!(
        settings(&usual("dpop = true\ninject = { scheme = \"Bearer\" }")).inject.scheme.as_deref(),
        Some("Bearer")
    );
    let list = request_types("dpop = true\naccept_token_types = [\"Bearer\"]");
    assert_eq!(list, ["bearer"]);
}

fn request_types(lines: &str) -> Vec<String> {
    request(&usual(lines)).response.accept_token_types.clone()
}

#[test]
fn scope_audience_and_headers_may_be_formulas() {
    let external = settings(&usual(
        "scope = { formula = \"'a ' + caller.name\" }\naudience = { formula = \"principal.name\" }\n\
         headers = [{ name = \"x-a\", value = { formula = \"request.path\" } }, { name = \"x-b\", value = \"1\" }]",
    ));
    let request = external.request().unwrap();
    assert!(matches!(&request.scope, Some(Text::Formula(formula)) if formula.source() == "'a ' + caller.name"));
    assert!(matches!(&request.audience[..], [Text::Formula(_)]));
    assert!(matches!(&external.headers[..], [(_, HeaderValueSource::Formula(_)), (_, HeaderValueSource::Fixed(_))]));
    assert_fault(&usual("scope = {}"), "the key `formula` is missing");
    assert_fault(&usual("scope = { formulas = \"a\" }"), "did you mean `formula`?");
    assert_fault(&usual("scope = true"), "a text or a list of texts");
    let named = good(&with(
        "named_credentials.orders",
        "headers = [{ name = \"x-a\", value = { formula = \"caller.name\" } }]",
    ));
    assert!(matches!(&named.config.named_credentials[0].headers[..], [(_, HeaderValueSource::Formula(_))]));
}

#[test]
fn a_field_of_the_external_credential_may_be_set_again_but_not_the_one_with_the_token() {
    let text = config(&usual("headers = [{ name = \"x-a\", value = \"1\" }]"));
    good(&text.replacen("url =", "headers = [{ name = \"X-A\", value = \"2\" }]\nurl =", 1));
    let token = text.replacen("url =", "headers = [{ name = \"Authorization\", value = \"2\" }]\nurl =", 1);
    assert!(problem(&token).contains("carries the token"));
    good(&token.replacen("url =", "generate_authorization_header = false\nurl =", 1));
}

/// A folder with a client certificate `client.pem`, `client.key` and another `other.pem`, `other.key`.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["client", "other"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    folder
}

fn load_in(folder: &tempfile::TempDir, text: &str) -> Loaded {
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    crate::config::load(&Source::File(file), Secrets::Read).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_certificate_that_proves_the_client_is_shown_to_the_api_too() {
    let folder = certificates();
    let tls =
        |name: &str| format!("tls = {{ ca = \"client.pem\", certificate = \"{name}.pem\", key = \"{name}.key\" }}\n");
    let external = format!(
        "[external_credentials.x]\ntoken_endpoint = \"https://localhost:9/token\"\nclient_id = \"me\"\n{}",
        tls("client")
    );
    let named = |lines: &str| {
        format!(
            "[named_credentials.a]\nurl = \"https://localhost:9\"\nexternal_credential = \"x\"\n{lines}\n{external}"
        )
    };
    let identity = |loaded: &Loaded| {
        let profile = loaded.config.named_credentials[0].endpoint.tls.as_ref().unwrap().settings().clone();
        profile.identity.map(|(certificate, _)| certificate.file_name().unwrap().to_string_lossy().into_owned())
    };
    let bound = load_in(&folder, &named("tls = { ca = \"other.pem\" }"));
    assert_eq!(identity(&bound).as_deref(), Some("client.pem"));
    assert!(bound.warnings.is_empty(), "{}", bound.warnings);
    let request = bound.config.external_credentials[0].request().unwrap();
    assert!(matches!(request.client_authentication, Some(ClientAuthentication::TlsClientAuth)));
    let plain = named("tls = { ca = \"other.pem\" }\ngenerate_authorization_header = false");
    assert_eq!(identity(&load_in(&folder, &plain)), None);
    let same = load_in(&folder, &named(&tls("client")));
    assert!(same.warnings.is_empty(), "{}", same.warnings);
    let other = load_in(&folder, &named(&tls("other")));
    assert_eq!(identity(&other).as_deref(), Some("other.pem"));
    assert!(other.warnings.iter().next().unwrap().message.contains("another certificate"));
}
