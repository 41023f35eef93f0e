//! Whole files: nothing makes the import panic, and what it writes is TOML without a secret of the files.

use proptest::prelude::*;

use super::{File, Import, Kind, Place, salesforce};

fn import(files: &[(&str, &str)]) -> Import {
    let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
    salesforce(&files.iter().map(file).collect::<Vec<_>>())
}

fn external(protocol: &str, parameters: &[&str]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|inner| format!("<externalCredentialParameters>{inner}</externalCredentialParameters>\n"))
        .collect();
    format!(
        "<ExternalCredential>\n<authenticationProtocol>{protocol}</authenticationProtocol>\n{parameters}<label>An \
         \"odd\" label</label></ExternalCredential>"
    )
}

fn parameter(kind: &str, name: &str, value: &str, more: &str) -> String {
    format!(
        "<parameterType>{kind}</parameterType><parameterName>{name}</parameterName>\
         <parameterValue>{value}</parameterValue>{more}"
    )
}

fn client(more: &[&str]) -> Import {
    let variant = parameter("AuthProtocolVariant", "Oauth", "ClientCredentialsClientSecret", "");
    let url = parameter("AuthProviderUrl", "Anything", "https://login.example.com/token", "");
    let parameters = [&[variant.as_str(), url.as_str()], more].concat();
    import(&[("x/Orders.externalCredential-meta.xml", &external("Oauth", &parameters))])
}

fn read(import: &Import) -> toml::Table {
    import.toml.parse().unwrap_or_else(|error| panic!("{error}: {}", import.toml))
}

fn principal(name: &str) -> String {
    parameter("NamedPrincipal", name, "", "")
}

#[test]
fn a_scope_of_ones_own_becomes_a_question_for_the_principal() {
    let own = |group: &str, scope: &str| {
        parameter("AuthParameter", "Scope", scope, &format!("<parameterGroup>{group}</parameterGroup>"))
    };
    let (a, b) = (principal("A"), principal("B"));
    for (scopes, formula) in [
        (vec![own("DefaultGroup", "all"), own("B", "b")], r#"principal.name == "B" ? "b" : "all""#),
        (vec![own("B", "b"), own("A", "a")], r#"principal.name == "B" ? "b" : "a""#),
        (vec![own("B", "b")], r#"principal.name == "B" ? "b" : """#),
    ] {
        let mut parameters = vec![a.as_str(), b.as_str()];
        parameters.extend(scopes.iter().map(String::as_str));
        let import = client(&parameters);
        assert!(!import.has_errors(), "{:?}", import.notes);
        let table = read(&import);
        assert_eq!(table["external_credentials"]["Orders"]["scope"]["formula"].as_str(), Some(formula));
    }
    // The group of the only principal is everybody's.
    let import = client(&[&a, &own("A", "a")]);
    assert_eq!(read(&import)["external_credentials"]["Orders"]["scope"].as_str(), Some("a"));
}

#[test]
fn additional_codes_are_read_in_every_form_that_they_may_have() {
    let codes: Vec<String> = ["403, 612", "4xx", "440"]
        .iter()
        .map(|codes| parameter("AdditionalRefreshStatusCode", "Any", codes, ""))
        .collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    let table = read(&client(&codes));
    let credential = &table["external_credentials"]["Orders"];
    assert_eq!(credential["additional_refresh_status_codes"].to_string(), "[403, 612, 440]");
    assert_eq!(credential["refresh_when"][0]["status"][0].as_str(), Some("4xx"));
}

#[test]
fn what_is_unknown_is_an_error_and_what_is_reserved_a_remark() {
    for (kind, expected) in [
        ("NoSuchType", Kind::Error),
        ("ManagedByFeature", Kind::Remark),
        ("AuthContext", Kind::NotCarriedOver),
        ("SigningCertificate", Kind::NotCarriedOver),
    ] {
        let import = client(&[&parameter(kind, "X", "y", "")]);
        let note = import.notes.iter().find(|note| note.message.contains(kind)).unwrap();
        assert_eq!((note.kind, note.line), (expected, 5), "{kind}");
        assert_eq!(import.toml.contains("[external_credentials.Orders]"), expected != Kind::Error);
    }
}

#[test]
fn an_identity_provider_gives_endpoint_and_parameters() {
    let inner = |kind: &str, name: &str, value: &str| {
        format!(
            "<externalAuthIdentityProviderParameters>{}</externalAuthIdentityProviderParameters>",
            parameter(kind, name, value, "")
        )
    };
    let provider = format!(
        "<ExternalAuthIdentityProvider><authenticationFlow>ClientCredentials</authenticationFlow>\
         <authenticationProtocol>OAuth</authenticationProtocol><label>P</label>{}{}{}{}</ExternalAuthIdentityProvider>",
        inner("TokenUrl", "TokenUrl", "https://login.example.com/token"),
        inner("TokenRequestBodyParameter", "audience", "https://api.example.com"),
        inner("TokenRequestHttpHeader", "X-Api-Key", "s3cret"),
        inner("ClientAuthentication", "ClientAuthentication", "ClientSecretPost"),
    );
    let reference = "<parameterType>ExternalAuthIdentityProvider</parameterType><parameterName>x</parameterName>\
                     <externalAuthIdentityProvider>Idp</externalAuthIdentityProvider>";
    let external = external("Oauth", &[reference, &principal("A"), &principal("B")]);
    let files =
        [("Api.externalCredential", external.as_str()), ("Idp.externalAuthIdentityProvider", provider.as_str())];
    let import = self::import(&files);
    let table = read(&import);
    let credential = &table["external_credentials"]["Api"];
    assert_eq!(credential["client_authentication"].as_str(), Some("client_secret_post"));
    assert_eq!(credential["parameters"]["body"]["audience"].as_str(), Some("https://api.example.com"));
    assert!(!import.toml.contains("s3cret") && !import.report().contains("s3cret"));
    let variables: Vec<&Place> = import.todos.iter().map(|todo| &todo.place).collect();
    let expected = ["IDP_CLIENT_ID", "IDP_CLIENT_SECRET", "IDP_X_API_KEY"];
    assert_eq!(variables, expected.map(|name| Place::Variable(name.to_owned())).iter().collect::<Vec<_>>());

    // Without the file there is nothing to go by.
    let import = self::import(&files[..1]);
    assert!(!import.has_errors() && !import.toml.contains("[external_credentials"), "{}", import.toml);
}

#[test]
fn names_follow_the_rule_of_salesforce_and_are_there_once() {
    let external = external("Basic", &[&principal("A")]);
    let import = import(&[
        ("two__underscores.externalCredential", &external),
        ("a/Same.externalCredential", &external),
        ("b/same.externalCredential-meta.xml", &external),
    ]);
    let errors: Vec<&str> = import.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("a/Same.externalCredential already") || errors[1].contains("already"), "{errors:?}");
    assert_eq!(read(&import)["external_credentials"].as_table().map(toml::Table::len), Some(1));
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let url = parameter("AuthProviderUrl", "AuthProviderUrl", "https://me:s3cret@login.example.com/token", "");
    let variant = parameter("AuthProtocolVariant", "Oauth", "ClientCredentialsClientSecret", "");
    let import = import(&[("A.externalCredential", &external("Oauth", &[&url, &variant]))]);
    assert!(import.has_errors() && !import.report().contains("s3cret"), "{}", import.report());
}

/// Words of the metadata, well and badly put together.
fn xmlish() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("<externalCredentialParameters>".to_owned()),
        Just("</externalCredentialParameters>".to_owned()),
        Just("<namedCredentialParameters>".to_owned()),
        Just("</namedCredentialParameters>".to_owned()),
        ("[a-zA-Z]{1,12}", "[ -~]{0,12}").prop_map(|(name, text)| format!("<{name}>{text}</{name}>")),
        (
            prop::sample::select(vec![
                "parameterType",
                "parameterName",
                "parameterValue",
                "parameterGroup",
                "sequenceNumber",
                "endpoint",
                "authenticationProtocol",
                "protocol",
                "namedCredentialType",
                "jwtAudience",
                "certificate",
                "externalCredential",
                "calloutStatus",
                "jwtSigningCertificate",
                "externalCredentialPrincipal",
            ]),
            prop::sample::select(vec![
                "Oauth",
                "Basic",
                "Custom",
                "AuthProtocolVariant",
                "JwtBearer",
                "AuthHeader",
                "HttpHeader",
                "Url",
                "NamedPrincipal",
                "JwtBodyClaim",
                "aud",
                "[\"a\", {}]",
                "https://a.example",
                "{!$Credential.A.B}",
                "1",
                "Jwt",
                "Legacy",
                "SecuredEndpoint",
                "Authentication",
                "A",
                "{!",
                "99999999999999999999",
                "\u{202e}é",
            ]),
        )
            .prop_map(|(name, text)| format!("<{name}>{}</{name}>", text.replace('&', "&amp;"))),
        "[<>&!\\[\\]?/a-z\"' \n]{0,8}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_import_panic(inner in xmlish(), is_wrapped in any::<bool>()) {
        for (suffix, root) in [
            ("externalCredential", "ExternalCredential"),
            ("namedCredential", "NamedCredential"),
            ("externalAuthIdentityProvider", "ExternalAuthIdentityProvider"),
            ("permissionset", "PermissionSet"),
        ] {
            let text = if is_wrapped { format!("<{root}>{inner}</{root}>") } else { inner.clone() };
            let import = import(&[(&format!("A.{suffix}"), &text)]);
            prop_assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
        }
    }

    #[test]
    fn any_header_value_and_label_gives_toml(value in any::<String>(), label in any::<String>()) {
        let escaped = |text: &str| {
            let sound: String = text.chars().filter(|c| *c >= ' ' && *c != '\u{fffe}' && *c != '\u{ffff}').collect();
            sound.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        };
        let header = parameter("AuthHeader", "X-Tenant", &escaped(&value), "");
        let text = external("Custom", &[&header]).replace("An \"odd\" label", &escaped(&label));
        let import = import(&[("A.externalCredential", &text)]);
        prop_assert!(!import.has_errors(), "{:?}", import.notes);
        prop_assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
    }
}
