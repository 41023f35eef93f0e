//! Presets: what they fill in, what they ask for, and that their files and their document are sound.

mod answers;

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::{good, problem, problems};
use crate::config::preset::Preset;
use crate::config::tree::{Content, NodeId, Place, Tree};
use crate::config::{Loaded, PresetOrigin, Problems, Secrets, Source, layers};
use crate::token::{BasicEncoding, ClientAuthentication, RenewAhead, RequestSettings, Text};

/// Presets that use keys this version does not know yet.
const NEEDS_LONG_FORM: &[&str] = &[];

const CLIENT: &str = "client_id = \"me\"\nclient_secret = { dangerous_literal = \"canary-5ec12e7\" }\n";

/// A configuration whose external credential, from line 5 on, is these lines.
fn config(lines: &str) -> String {
    format!(
        "[named_credentials.api]\nurl = \"https://api.example.com\"\nexternal_credential = \"it\"\n\
         [external_credentials.it]\n{lines}"
    )
}

fn with_client(preset: &str, lines: &str) -> String {
    config(&format!("preset = \"{preset}\"\n{lines}\n{CLIENT}"))
}

fn request(text: &str) -> RequestSettings {
    good(text).config.external_credentials.remove(0).request().unwrap().clone()
}

/// The merged tree of a configuration, whether its keys are known or not.
fn tree(text: &str) -> Tree {
    layers::merge(DeTable::parse(text).unwrap().get_ref(), &|_| None)
}

/// The node at the end of a way through tables and lists.
fn at(tree: &Tree, path: &str) -> Option<NodeId> {
    path.split('.').try_fold(Tree::ROOT, |node, step| {
        if let Content::List(items) = tree.content(node) {
            return items.get(step.parse::<usize>().ok()?).copied();
        }
        tree.entry(node, step)
    })
}

fn text_at<'t>(tree: &'t Tree, path: &str) -> Option<&'t str> {
    let Content::Text(text) = tree.content(at(tree, path)?) else { return None };
    Some(text)
}

/// The origin of each key of the only preset in use.
fn origins(text: &str) -> Vec<(String, PresetOrigin)> {
    let mut presets = good(text).presets;
    assert_eq!(presets.len(), 1);
    presets.remove(0).keys.into_iter().map(|key| (key.key, key.origin)).collect()
}

#[test]
fn a_preset_fills_in_what_is_not_written() {
    let request = request(&with_client("ebay", ""));
    assert_eq!(request.endpoint.url.unwrap(), "https://api.ebay.com/identity/v1/oauth2/token");
    assert!(matches!(request.client_authentication, Some(ClientAuthentication::ClientSecretBasic(BasicEncoding::Raw))));
    assert!(matches!(request.scope, Some(Text::Literal(scope)) if scope == "https://api.ebay.com/oauth/api_scope"));
    let loaded = good(&with_client("cognito", "token_endpoint = \"https://login.example.com\""));
    assert_eq!(loaded.config.external_credentials[0].lifetime.renew_ahead, RenewAhead::Share(0.25));
}

#[test]
fn what_is_written_wins_key_by_key() {
    let text = with_client("ebay", "scope = \"mine\"");
    assert!(matches!(request(&text).scope, Some(Text::Literal(scope)) if scope == "mine"));
    let yours: Vec<_> = origins(&text).into_iter().filter(|(_, origin)| *origin == PresetOrigin::Yours).collect();
    assert_eq!(yours, [("scope".to_owned(), PresetOrigin::Yours)]);
}

#[test]
fn tables_are_merged_and_lists_replaced_whole() {
    let text = with_client("box", "parameters.body.box_subject_id = \"7\"");
    let body = request(&text).parameters.body;
    let body: Vec<_> = body.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(body, [("box_subject_id", "7"), ("box_subject_type", "enterprise")]);
    let own =
        text.replace("box_subject_id = \"7\"", "box_subject_type = \"user\"\nparameters.body.box_subject_id = \"8\"");
    let body = request(&own).parameters.body;
    assert!(body.iter().any(|(key, value)| key == "box_subject_type" && value.expose() == "user"));

    let rules = tree(&with_client("apigee", ""));
    assert_eq!(text_at(&rules, "external_credentials.it.refresh_when.0.body_contains"), Some("access_token_expired"));
    let replaced = tree(&with_client("apigee", "refresh_when = [{ status = [419] }]"));
    let list = at(&replaced, "external_credentials.it.refresh_when").unwrap();
    assert!(matches!(replaced.content(list), Content::List(items) if items.len() == 1));
    assert_eq!(text_at(&replaced, "external_credentials.it.refresh_when.0.body_contains"), None);
    assert!(at(&replaced, "external_credentials.it.refresh_unless").is_some());

    let other = tree(&with_client("box", "parameters = \"x\""));
    assert_eq!(text_at(&other, "external_credentials.it.parameters"), Some("x"));
}

#[test]
fn header_fields_are_the_same_in_any_case() {
    let tree = tree(&with_client("azure_imds", "parameters.headers.Metadata = \"mine\""));
    let headers = at(&tree, "external_credentials.it.parameters.headers").unwrap();
    assert!(matches!(tree.content(headers), Content::Table(entries) if entries.len() == 1));
    good(&with_client("reddit", "parameters.headers.User-Agent = \"linux:me:1 (by /u/me)\""));
}

#[test]
fn a_key_falls_with_the_one_it_belongs_to() {
    let text = with_client("ebay", "client_authentication = \"client_secret_post\"");
    assert!(matches!(request(&text).client_authentication, Some(ClientAuthentication::ClientSecretPost)));
    assert_eq!(origins(&text)[0], ("basic_encoding".to_owned(), PresetOrigin::Unused));
    let same = with_client("ebay", "client_authentication = \"client_secret_basic\"");
    assert_eq!(origins(&same)[0], ("basic_encoding".to_owned(), PresetOrigin::Preset));

    // Plain HTTP is accepted for the metadata service's address, not for any other.
    let dangerous = "external_credentials.it.dangerous.plain_http";
    assert!(at(&tree(&with_client("azure_imds", "")), dangerous).is_some());
    assert!(at(&tree(&with_client("azure_imds", "token_endpoint = \"http://10.0.0.1\"")), dangerous).is_none());

    let grant = "external_credentials.it.grant_type";
    assert!(at(&tree(&with_client("zoom", "flow = \"refresh_token\"")), grant).is_none());
    assert!(at(&tree(&with_client("zoom", "flow = \"client_credentials\"")), grant).is_some());
}

#[test]
fn presets_of_several_credentials_do_not_mix() {
    let two = with_client("ebay", "") + &format!("[external_credentials.other]\npreset = \"spotify\"\n{CLIENT}");
    let presets = good(&two).presets;
    let names: Vec<_> = presets.iter().map(|preset| (preset.credential.as_str(), preset.preset)).collect();
    assert_eq!(names, [("it", "ebay"), ("other", "spotify")]);
    let tree = tree(&two);
    assert!(at(&tree, "external_credentials.other.scope").is_none());
    let scope = at(&tree, "external_credentials.it.scope").unwrap();
    assert_eq!(*tree.place(scope), Place::Preset);
}

#[test]
fn a_problem_of_a_presets_value_points_at_the_preset() {
    let lines = "token_endpoint = \"https://login.example.com\"\nmax_lifetime = \"30m\"";
    let text = with_client("salesforce", lines);
    let found = problems(&text);
    let expected = "5:10 external_credentials.it.default_lifetime: the default lifetime is longer than the longest one \
                    believed (the preset `salesforce` sets this)";
    assert!(found.iter().any(|problem| problem == expected), "{found:#?}");
    let shown = super::load(&text).unwrap_err().render(false);
    assert!(shown.contains("5 | preset = \"salesforce\""), "{shown}");
    assert!(shown.contains("what you write in its place wins over the preset"), "{shown}");
}

#[test]
fn an_unknown_preset_is_one_problem_with_the_nearest_name() {
    for (written, nearest) in [("ebya", Some("ebay")), ("Spotify", Some("spotify")), ("canary-5ec12e7", None)] {
        let found = problem(&with_client(written, ""));
        assert!(found.starts_with("external_credentials.it.preset | there is no preset of this name | "), "{found}");
        assert_eq!(found.contains("did you mean"), nearest.is_some(), "{found}");
        assert!(nearest.is_none_or(|name| found.contains(&format!("did you mean \"{name}\"?"))), "{found}");
        assert!(found.contains("the presets are `adobe`, ") && found.ends_with(", `zoom`"), "{found}");
        assert!(!found.contains("canary"), "a value is never repeated: {found}");
    }
}

#[test]
fn a_preset_is_a_text() {
    let text = config(&format!("preset = [\"ebay\"]\n{CLIENT}"));
    assert_eq!(problems(&text), ["5:10 external_credentials.it.preset: expected a text, found a list"]);
}

#[test]
fn what_a_preset_needs_is_asked_for_with_the_reason() {
    let problem = problem(&with_client("auth0", "token_endpoint = \"https://login.example.com\""));
    assert_eq!(
        problem,
        "external_credentials.it.preset | the preset `auth0` needs `audience` | write it in [external_credentials.it]: \
         the API's identifier; without it Auth0 gives an opaque token that no API accepts"
    );
    // Each once, and nothing more about the endpoint from whoever else misses it.
    let found = problems(&with_client("auth0", ""));
    assert_eq!(
        found,
        [
            "5:10 external_credentials.it.preset: the preset `auth0` needs `audience`",
            "5:10 external_credentials.it.preset: the preset `auth0` needs `token_endpoint`",
        ]
    );
    let nested = problems(&with_client("box", ""));
    assert_eq!(
        nested,
        ["5:10 external_credentials.it.preset: the preset `box` needs `parameters.body.box_subject_id`"]
    );
    let either = problems(&with_client("keycloak", ""));
    assert_eq!(
        either,
        ["5:10 external_credentials.it.preset: the preset `keycloak` needs `issuer` or `token_endpoint`"]
    );
}

#[test]
fn what_is_written_under_a_wrong_name_or_in_a_wrong_way_is_not_asked_for() {
    let misspelt = problem(&with_client("auth0", "token_endpoint = \"https://login.example.com\"\naudiense = \"x\""));
    assert!(misspelt.contains("did you mean `audience`?"), "{misspelt}");
    let wrong = problem(&with_client("box", "parameters = 5"));
    assert!(wrong.contains("expected a table"), "{wrong}");
    let wrong = problem(&with_client("auth0", "token_endpoint = \"https://login.example.com\"\naudience = 5"));
    assert!(wrong.contains("external_credentials.it.audience"), "{wrong}");
}

#[test]
fn what_is_needed_may_be_given_in_any_of_the_ways() {
    good(&with_client("keycloak", "token_endpoint = \"https://login.example.com\""));
    let found = problems(&with_client("keycloak", "issuer = \"https://login.example.com\""));
    assert!(!found.iter().any(|problem| problem.contains("needs")), "{found:?}");
}

#[test]
fn what_a_provider_does_not_take_is_pointed_out() {
    let text = with_client("salesforce", "token_endpoint = \"https://login.example.com\"\nscope = \"api\"");
    let found = problems(&text);
    let expected = "7:1 external_credentials.it.scope: Salesforce refuses a token request with a scope in this flow";
    assert!(found.iter().any(|problem| problem == expected), "{found:#?}");
}

#[test]
fn the_list_of_presets_is_that_of_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/presets");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".toml").unwrap_or_else(|| panic!("{name} is no preset")).to_owned())
        .collect();
    let listed: Vec<_> = Preset::names().collect();
    assert!(listed.is_sorted());
    assert_eq!(listed, files.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_file_is_whole_and_holds_no_secret() {
    const SECRETS: [&str; 8] =
        ["client_secret", "password", "refresh_token", "token", "secrets", "principals", "client_id", "username"];
    for name in Preset::names() {
        let preset = Preset::find(name).unwrap_or_else(|| panic!("{name} cannot be read"));
        assert!(!preset.provider.is_empty() && preset.about.ends_with('.'), "{name}: {}", preset.about);
        assert!(!preset.about.contains('\n'), "{name}: end the lines of `about` with a backslash");
        assert!(!preset.settings.is_empty(), "{name} sets nothing");
        for key in SECRETS {
            assert!(!preset.settings.contains_key(key), "{name} sets {key}");
        }
        let text = toml::to_string(&preset.settings).unwrap();
        for reference in ["dangerous_literal", "env = ", "command = ", "preset = "] {
            assert!(!text.contains(reference), "{name}: {text}");
        }
        for needed in preset.needs.keys().chain(preset.avoid.keys()) {
            let ways: Vec<_> = needed.split(" or ").collect();
            let set = preset.keys().iter().map(|(path, _)| path.join(".")).find(|key| ways.contains(&key.as_str()));
            assert!(set.is_none_or(|key| ways.len() > 1 && key == "flow"), "{name} sets {needed} and asks for it");
        }
    }
}

#[test]
fn every_preset_loads_with_what_it_needs_and_a_client() {
    for name in Preset::names().filter(|name| !NEEDS_LONG_FORM.contains(name)) {
        let text = minimum(name);
        let loaded = load(&text).unwrap_or_else(|problems| panic!("{name}\n{text}\n{problems}"));
        assert!(loaded.warnings.is_empty(), "{name}\n{}", loaded.warnings);
        let keys = &loaded.presets[0].keys;
        assert!(keys.iter().all(|key| key.origin == PresetOrigin::Preset), "{name}: {keys:?}");
    }
}

#[test]
fn presets_left_out_of_the_test_above_are_there_and_need_to_be() {
    for name in NEEDS_LONG_FORM {
        assert!(Preset::names().any(|other| other == *name), "{name}");
        assert!(load(&minimum(name)).is_err(), "{name} can be loaded: take it out of the list");
    }
}

fn load(text: &str) -> Result<Loaded, Problems> {
    let source = Source::Text { name: "proxy.toml".to_owned(), text: text.to_owned() };
    crate::config::load(&source, Secrets::Leave)
}

/// The least a user writes beside `preset`.
fn minimum(name: &str) -> String {
    let preset = Preset::find(name).unwrap();
    let word = |key: &str| preset.settings.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    let authentication = word("client_authentication");
    let has_secret = ["client_secret_basic", "client_secret_post", "query", "json"].contains(&authentication.as_str());
    let has_issuer = preset.needs.keys().any(|needed| needed.starts_with("assertion.issuer"));
    let mut lines = format!("preset = \"{name}\"\n");
    if has_secret {
        lines.push_str(CLIENT);
    } else if authentication == "private_key_jwt" || (word("flow") == "jwt_bearer" && !has_issuer) {
        lines.push_str("client_id = \"me\"\n");
    }
    for needed in preset.needs.keys() {
        let way =
            if needed.ends_with("token_endpoint") { "token_endpoint" } else { needed.split(" or ").next().unwrap() };
        let value = match way {
            "token_endpoint" => "\"https://login.example.com/token\"",
            "audience" | "resource" => "\"https://api.example.com/\"",
            "signing.key" | "refresh_token" => "{ dangerous_literal = \"canary-5ec12e7\" }",
            _ => "\"a-value\"",
        };
        lines.push_str(&format!("{way} = {value}\n"));
    }
    config(&lines)
}

#[test]
fn the_document_of_presets_is_that_of_the_files() {
    let written = include_str!("../../../docs/presets.md");
    let (_, table) = written.split_once("<!-- presets -->\n").expect("a table between <!-- presets --> marks");
    let (table, rest) = table.split_once("<!-- /presets -->\n").unwrap();
    let (_, about) = rest.split_once("<!-- about -->\n").expect("a list between <!-- about --> marks");
    let (about, _) = about.split_once("<!-- /about -->").unwrap();
    let meant = expected_table();
    assert_eq!(table, meant, "put this into docs/presets.md:\n{meant}");
    let meant = expected_list();
    assert_eq!(about, meant, "put this into docs/presets.md:\n{meant}");
}

fn presets() -> impl Iterator<Item = &'static Preset> {
    Preset::names().map(|name| Preset::find(name).unwrap())
}

fn expected_table() -> String {
    let mut text = "| preset | provider | what it sets | what you must add |\n|---|---|---|---|\n".to_owned();
    for preset in presets() {
        let sets: Vec<_> = preset.keys().into_iter().map(|(path, value)| setting(&path.join("."), value)).collect();
        let needs: Vec<_> =
            preset.needs.iter().map(|(key, reason)| format!("`{}`: {reason}", key.replace(" or ", "` or `"))).collect();
        let row = [format!("`{}`", preset.name), preset.provider.clone(), sets.join("<br>"), needs.join("<br>")];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

fn setting(key: &str, value: &toml::Value) -> String {
    match value.as_array() {
        Some(rules) if rules.len() == 1 && key.starts_with("refresh_") => format!("`{key}` (1 rule)"),
        Some(rules) if key.starts_with("refresh_") => format!("`{key}` ({} rules)", rules.len()),
        _ => format!("`{key} = {value}`"),
    }
}

fn expected_list() -> String {
    presets().map(|preset| format!("- `{}`: {}\n", preset.name, preset.about)).collect()
}
