//! `keybearer import salesforce`: a project's metadata, with everything that projects hold, becomes a configuration and
//! a list of what somebody has to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::Value;

use crate::support::certificates::Authority;
use crate::support::proxy::Setup;

/// The metadata, relative to the package: that is how notes call the files.
const PROJECT: &str = "tests/it/import/force-app";

/// Texts that stand in the files and may stand nowhere else.
const SECRETS: [&str; 5] = [
    "s3cret-legacy-password",
    "s3cret-legacy-token",
    "s3cret-legacy-refresh",
    "s3cret-token-in-metadata",
    "s3cret-in-broken-file",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program with these arguments, in the package's folder.
async fn import(arguments: &[&str]) -> Output {
    let setup = Setup::new("");
    let mut command = setup.command(&[&["import", "salesforce"], arguments].concat());
    command.current_dir(root()).output().await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What stands in this table of the result, such as `external_credentials.Orders_Auth`.
fn at<'a>(table: &'a toml::Table, path: &str) -> &'a toml::Value {
    let (first, rest) = path.split_once('.').unwrap();
    rest.split('.').fold(&table[first], |value, key| match key.parse::<usize>() {
        Ok(index) => &value[index],
        Err(_) => &value[key],
    })
}

/// The texts behind `env` anywhere in a value.
fn variables(value: &toml::Value, found: &mut BTreeSet<String>) {
    for (key, inner) in value.as_table().into_iter().flatten() {
        match inner.as_str().filter(|_| key == "env") {
            Some(name) => drop(found.insert(name.to_owned())),
            None => variables(inner, found),
        }
    }
    value.as_array().into_iter().flatten().for_each(|inner| variables(inner, found));
}

/// To see a change as a difference: `keybearer import salesforce tests/it/import/force-app -o …` writes this file.
#[tokio::test]
async fn a_project_becomes_the_configuration_that_is_expected() {
    let expected = fs::read_to_string(root().join("tests/it/import/expected.toml")).unwrap();
    let found = stdout(&import(&[PROJECT]).await);
    for (number, (expected, found)) in (1..).zip(expected.lines().zip(found.lines())) {
        assert_eq!(found, expected, "line {number}");
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_its_line_and_the_rest_is_written() {
    let output = import(&[PROJECT]).await;
    assert_eq!(output.status.code(), Some(1));
    let report = stderr(&output);
    let (externals, named) = ("main/default/externalCredentials", "main/default/namedCredentials");
    for (file, parts) in [
        (format!("{externals}/Graph.externalCredential-meta.xml:3"), vec!["Oauth2ClientCredFlow", "Oauth,"]),
        (format!("{externals}/Graph.externalCredential-meta.xml:5"), vec!["`principals`"]),
        (format!("{externals}/Tooling.externalCredential-meta.xml:8"), vec!["`ClientCredentials`", "JwtBearer"]),
        (format!("{externals}/Broken.externalCredential-meta.xml:4"), vec!["not well-formed"]),
        (format!("{externals}/Entities.externalCredential-meta.xml:"), vec!["document type"]),
        (format!("{named}/Nort.namedCredential-meta.xml:9"), vec!["`ExternalCredential`"]),
        (format!("{named}/Searching.namedCredential-meta.xml:9"), vec!["no query"]),
        (format!("{named}/Insecure.namedCredential-meta.xml:9"), vec!["https"]),
    ] {
        let line = report.lines().find(|line| line.contains(&file)).unwrap_or_else(|| panic!("{file} in\n{report}"));
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    let table: toml::Table = stdout(&output).parse().unwrap();
    for left_out in ["Graph", "Tooling", "Broken", "Entities", "Helpdesk", "Archive", "Calendar"] {
        assert!(!table["external_credentials"].as_table().unwrap().contains_key(left_out), "{left_out}");
    }
    for left_out in ["Nort", "Searching", "Insecure"] {
        assert!(!table["named_credentials"].as_table().unwrap().contains_key(left_out), "{left_out}");
    }
}

#[tokio::test]
async fn flows_claims_headers_and_switches_are_carried_over() {
    let table: toml::Table = stdout(&import(&[PROJECT]).await).parse().unwrap();
    for (path, expected) in [
        ("external_credentials.Orders_Auth.client_authentication", "client_secret_basic"),
        ("external_credentials.Orders_Auth.basic_encoding", "raw"),
        ("external_credentials.Orders_Auth.token_endpoint", "https://login.example.com/oauth/token?tenant=eu"),
        ("external_credentials.Billing_Auth.client_authentication", "client_secret_post"),
        (
            "external_credentials.Billing_Auth.scope.formula",
            r#"principal.name == "Month_End" ? "billing.read billing.write" : "billing.read""#,
        ),
        ("external_credentials.Billing_Auth.principals.0.name", "Month_End"),
        ("external_credentials.Data_Cloud.flow", "jwt_bearer"),
        ("external_credentials.Data_Cloud.assertion.audience", "https://login.example.com"),
        ("external_credentials.Data_Cloud.assertion.lifetime", "180s"),
        ("external_credentials.Data_Cloud.signing.key_id", "Integration_Cert"),
        ("external_credentials.Partner.client_authentication", "private_key_jwt"),
        ("external_credentials.Partner.assertion.audience.1", "https://old.partner.example.com"),
        ("external_credentials.Partner.assertion.claims.tenant.formula", r#""t-" + secrets.Tenant"#),
        ("external_credentials.Parcel.flow", "none"),
        ("external_credentials.Parcel.headers.0.value.formula", r#""Key " + secrets.ApiKey"#),
        ("external_credentials.Parcel.headers.1.value", "north \"1\""),
        ("external_credentials.Warehouse.principals.0.name", "Fresh_works_user"),
        ("external_credentials.Shipping.parameters.body.audience", "https://shipping.example.com"),
        ("external_credentials.Payroll.principals.0.username", "payroll@example.com"),
        ("external_credentials.Ledger.assertion.lifetime", "90s"),
        ("external_credentials.Signed.flow", "signed_jwt"),
        ("named_credentials.Orders.headers.0.value.formula", r#""client " + principal.client_id"#),
        ("named_credentials.Orders_Archive.headers.0.value", "{!$User.Id}"),
        ("named_credentials.Billing.tls.key", "certificates/Billing_Client.key"),
        (
            "named_credentials.Stock.headers.0.value.formula",
            r#"base64_encode(blob(principal.username + ":" + secrets.Password))"#,
        ),
    ] {
        assert_eq!(at(&table, path).as_str(), Some(expected), "{path}");
    }
    for off in ["Orders_Archive", "Tickets", "Graph_Api", "Mail"] {
        assert_eq!(at(&table, &format!("named_credentials.{off}.enabled")).as_bool(), Some(false), "{off}");
    }
    let bare = &table["named_credentials"]["Partner_Api"];
    assert_eq!(bare["generate_authorization_header"].as_bool(), Some(false));
    assert!(bare.get("headers").is_none(), "a header made of the token has no counterpart");
}

#[tokio::test]
async fn the_to_do_list_and_the_references_are_the_same() {
    let output = import(&[PROJECT]).await;
    let text = stdout(&output);
    let mut referred = BTreeSet::new();
    variables(&toml::Value::Table(text.parse().unwrap()), &mut referred);
    assert!(referred.len() >= 20, "{referred:?}");
    let listed = |text: &str| -> BTreeSet<String> {
        let set = text.lines().filter_map(|line| line.trim_start_matches("# ").strip_prefix("- set "));
        set.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    assert_eq!(listed(&stderr(&output)), referred, "on standard error");
    assert_eq!(listed(&text), referred, "in the head of the configuration");
}

#[tokio::test]
async fn no_secret_of_a_file_is_repeated_and_each_is_warned_of() {
    let mut texts = Vec::new();
    for format in ["text", "json"] {
        let output = import(&[PROJECT, "--format", format]).await;
        texts.extend([stdout(&output), stderr(&output)]);
    }
    for secret in SECRETS {
        assert!(texts.iter().all(|text| !text.contains(secret)), "{secret}");
    }
    for place in ["Payroll.namedCredential:5", "Mail.namedCredential-meta.xml:6", "Mail.namedCredential-meta.xml:7"] {
        assert!(texts[1].lines().any(|line| line.contains(place) && line.contains("clear text")), "{place}");
    }
}

#[tokio::test]
async fn a_script_gets_the_lists_as_json() {
    let setup = Setup::new("");
    let file = setup.config().with_file_name("imported.toml");
    let arguments = [PROJECT, "--format", "json", "--output", file.to_str().unwrap()];
    let lists: Value = serde_json::from_str(&stdout(&import(&arguments).await)).unwrap();
    assert!(lists.get("configuration").is_none(), "it is in the file");
    assert!(
        lists["to_do"].as_array().unwrap().iter().any(|todo| todo["env"] == "ORDERS_AUTH_ORDERS_PRINCIPAL_CLIENT_ID")
    );
    let error = lists["notes"].as_array().unwrap().iter().find(|note| note["kind"] == "error").unwrap();
    assert!(error["line"].is_u64() && error["file"].is_string() && error["message"].is_string(), "{error}");

    let configuration = fs::read_to_string(&file).unwrap();
    let output = import(&[PROJECT, "--format", "json"]).await;
    let whole: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(whole["configuration"], configuration);
    assert_eq!(stderr(&output), "");

    // What somebody may have changed by hand is not overwritten.
    fs::write(&file, "# mine").unwrap();
    let output = import(&arguments).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exists"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine");
}

#[tokio::test]
async fn status_and_message_say_what_happened() {
    let externals = format!("{PROJECT}/main/default/externalCredentials");
    let sound = format!("{externals}/Orders_Auth.externalCredential-meta.xml");
    assert_eq!(import(&[&sound]).await.status.code(), Some(0));
    // Found twice, read once.
    assert_eq!(import(&[&sound, &sound]).await.status.code(), Some(0));
    assert_eq!(import(&[]).await.status.code(), Some(2));
    for (path, part) in [
        ("tests/it/support", "no Salesforce metadata"),
        ("tests/it/import/no_such_folder", "cannot read"),
        ("Cargo.toml", "is no metadata"),
    ] {
        let output = import(&[path]).await;
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{path}");
        assert!(stderr(&output).contains(part) && stderr(&output).contains(path), "{}", stderr(&output));
    }
    // One path that is wrong does not keep the other from being imported.
    let output = import(&[&sound, "tests/it/import/no_such_folder"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("[external_credentials.Orders_Auth]"));
}

/// A folder with this configuration and everything that it refers to.
fn provided(configuration: &str) -> Setup {
    let authority = Authority::new("the import");
    let client = authority.client("keybearer");
    let setup = Setup::new(configuration);
    let folder = setup.config().with_file_name("certificates");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Billing_Client.pem"), &client.certificate).unwrap();
    fs::write(folder.join("Billing_Client.key"), &client.key).unwrap();
    // Salesforce signs with RSA.
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem();
    let mut names = BTreeSet::new();
    variables(&toml::Value::Table(configuration.parse().unwrap()), &mut names);
    names.iter().fold(setup, |setup, name| {
        let is_key = name.ends_with("SIGNING_KEY");
        setup.env(name, if is_key { &key } else { "a-value-for-the-check" })
    })
}

#[tokio::test]
async fn what_is_written_passes_the_check_once_the_list_is_done() {
    let configuration = stdout(&import(&[PROJECT]).await);
    let output = provided(&configuration).output(&["check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

/// The guide shows a pair of files and what becomes of them.
#[tokio::test]
async fn the_example_of_the_guide_is_what_the_program_does() {
    let guide = fs::read_to_string(root().join("docs/salesforce.md")).unwrap();
    let fences = |language: &str| -> Vec<String> {
        let start = format!("```{language}\n");
        guide.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    let files = ["Orders_Auth.externalCredential-meta.xml", "Orders.namedCredential-meta.xml"];
    for (file, text) in files.iter().zip(fences("xml")) {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let output = import(&[folder.path().to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), fences("toml")[0]);
}
