//! Every preset as a user meets it: with what it needs and nothing else it is good, gets a token the way its provider
//! gives one, attaches it, and understands its provider's way of saying that it is no longer good. All of them at once,
//! in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{KeyPair, RsaKeySize};
use serde_json::Value;
use toml::Table;

use crate::support::http::{self, Answer};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::scene::{basic, body, claims, query, token};
use crate::support::scripted::{Received, Scripted, Serving, answer};
use crate::zoo::mapping::{Entry, FEDERATED};

const SECRET: &str = "p+w%d/=: ~*";
const CLIENT: &str = "the-client";

/// The recording that shows how the provider of a preset answers. Without one, the standard's answer does.
const RECORDED: [(&str, &str); 29] = [
    ("adobe", "adobe_ims"),
    ("anypoint", "anypoint"),
    ("apigee", "apigee_expired_500"),
    ("arcgis", "arcgis_498"),
    ("auth0", "auth0_audience"),
    ("cognito", "cognito"),
    ("ebay", "ebay"),
    ("entra", "entra_v2"),
    ("entra_v1", "entra_v1_strings"),
    ("entra_workload", "entra_federated"),
    ("fedex", "fedex"),
    ("github_app", "github_app"),
    ("google", "google_jwt_bearer"),
    ("ibm", "ibm_iam"),
    ("keycloak", "keycloak"),
    ("marketo", "marketo_602"),
    ("okta", "okta_custom_as"),
    ("paypal", "paypal"),
    ("ping", "pingfederate"),
    ("reddit", "reddit"),
    ("salesforce", "salesforce_cc"),
    ("salesforce_jwt", "salesforce_cc"),
    ("sap", "sap_csrf_403"),
    ("snowflake", "snowflake_keypair"),
    ("sp_api", "sp_api"),
    ("spotify", "spotify"),
    ("twilio", "twilio"),
    ("ups", "ups"),
    ("zoom", "zoom"),
];

/// A preset's file.
struct Preset {
    name: String,
    provider: String,
    needs: Table,
    settings: Table,
    recorded: Option<Entry>,
}

impl Preset {
    /// Every file of the folder.
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/presets");
        let entries = Entry::all();
        let mut all: Vec<Self> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| {
                let path = file.unwrap().path();
                let mut file: Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let mut table =
                    |key| file.remove(key).map(|table| table.as_table().unwrap().clone()).unwrap_or_default();
                let (needs, settings) = (table("needs"), table("settings"));
                let recorded = RECORDED.iter().find(|(preset, _)| *preset == name).map(|(_, id)| *id);
                let recorded = recorded.map(|id| entries.iter().find(|entry| entry.name() == id).unwrap().clone());
                Self { provider: file["provider"].as_str().unwrap().to_owned(), name, needs, settings, recorded }
            })
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).and_then(toml::Value::as_str)
    }

    /// The flow signs what it attaches; there is nobody to ask.
    fn asks(&self) -> bool {
        self.setting("flow") != Some("signed_jwt")
    }

    fn authentication(&self) -> &str {
        self.setting("client_authentication").unwrap_or("none")
    }

    fn wants_secret(&self) -> bool {
        ["client_secret_basic", "client_secret_post", "query", "json"].contains(&self.authentication())
    }

    fn wants_client_id(&self) -> bool {
        // Salesforce's JWT is issued by the client; elsewhere `assertion.issuer` says by whom.
        self.authentication() != "none" || self.name == "salesforce_jwt"
    }

    /// What is written beside `preset`: what it needs, the credentials, and where its provider is in this test.
    fn written(&self, server: SocketAddr) -> String {
        let mut lines = vec![format!("preset = \"{}\"", self.name)];
        if self.asks() {
            let kept = self.setting("token_endpoint").and_then(|url| url.split_once('?'));
            let query = kept.map(|(_, query)| format!("?{query}")).unwrap_or_default();
            lines.push(format!("token_endpoint = \"http://{server}/token/{}{query}\"", self.name));
        }
        if self.wants_client_id() {
            lines.push(format!("client_id = \"{CLIENT}\""));
        }
        if self.wants_secret() {
            lines.push("client_secret = { env = \"CLIENT_SECRET\" }".to_owned());
        }
        if self.settings.get("assertion").is_some_and(|assertion| assertion.get("file").is_some()) {
            lines.push("assertion.file = \"federated.jwt\"".to_owned());
        }
        lines.extend(self.needs.iter().filter_map(|(key, about)| need(key, about.as_str().unwrap())));
        lines.join("\n")
    }
}

/// The line that satisfies a need; none where the lines of every configuration do.
fn need(key: &str, about: &str) -> Option<String> {
    let first = key.split(" or ").next().unwrap();
    let value = match first {
        "issuer" | "token_endpoint" => return None,
        _ if key.split(" or ").any(|key| key == "client_id") => return None,
        "signing.key" => "{ file = \"client.key\" }".to_owned(),
        "refresh_token" => "{ env = \"REFRESH_TOKEN\" }".to_owned(),
        _ if about.contains("reference to a secret") => "{ env = \"CLIENT_SECRET\" }".to_owned(),
        _ => format!("\"the {first}\""),
    };
    Some(format!("{first} = {value}"))
}

/// The providers' side, told apart by the preset's name in the path.
#[derive(Default)]
struct Providers {
    /// Requests to each token endpoint so far.
    asked: BTreeMap<String, usize>,
    /// The APIs take no credential that they have seen before now.
    expired: BTreeMap<String, String>,
    seen: BTreeMap<String, String>,
}

impl Providers {
    fn token(&mut self, preset: &Preset) -> Vec<u8> {
        let count = self.asked.entry(preset.name.clone()).and_modify(|count| *count += 1).or_insert(1);
        let Some(entry) = &preset.recorded else { return token(&format!("{}-token-{count}", preset.name)) };
        let (status, fields, body) = entry.token_response();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let recorded = entry.token().unwrap();
        let another = if *count == 1 { recorded.to_owned() } else { format!("{recorded}-{count}") };
        answer(status, &fields, body.replace(recorded, &another).as_bytes())
    }

    fn api(&mut self, preset: &Preset, request: &Received) -> Vec<u8> {
        let credential = request.field(preset.header()).unwrap_or_default().to_owned();
        let is_expired = self.expired.get(&preset.name) == Some(&credential);
        self.seen.insert(preset.name.clone(), credential);
        match &preset.recorded {
            Some(entry) if is_expired => {
                let (status, fields, body) = entry.expired_answer();
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                answer(status, &fields, body.as_bytes())
            }
            None if is_expired => answer(401, &[], b""),
            Some(_) | None => answer(200, &[("content-type", "application/json")], br#"{"orders":[]}"#),
        }
    }
}

impl Preset {
    fn header(&self) -> &str {
        self.settings
            .get("inject")
            .and_then(|inject| inject.get("header"))
            .map_or("authorization", |it| it.as_str().unwrap())
    }

    /// The token that was attached.
    fn attached<'a>(&self, request: &'a Received) -> &'a str {
        let value = request.field(self.header()).unwrap();
        if self.header() == "authorization" { value.strip_prefix("Bearer ").unwrap() } else { value }
    }
}

/// All of them, and the proxy before them.
struct Everyone {
    presets: Arc<Vec<Preset>>,
    providers: Arc<Mutex<Providers>>,
    serving: Serving,
    proxy: Proxy,
}

impl Everyone {
    async fn start() -> Self {
        let presets = Arc::new(Preset::all());
        let providers = Arc::new(Mutex::new(Providers::default()));
        let server = Scripted::start().await;
        let address = server.address;
        let (known, state) = (Arc::clone(&presets), Arc::clone(&providers));
        let serving = server.serve(move |request| {
            let mut parts = request.head.split([' ', '?']).nth(1).unwrap().split('/').skip(1);
            let (kind, name) = (parts.next().unwrap(), parts.next().unwrap());
            let preset = known.iter().find(|preset| preset.name == name).unwrap();
            let mut state = state.lock().unwrap();
            if kind == "token" { state.token(preset) } else { state.api(preset, request) }
        });
        let credentials = presets.iter().map(|preset| {
            let name = &preset.name;
            format!(
                "\n[named_credentials.{name}]\nurl = \"http://{address}/api/{name}\"\nexternal_credential = \"{name}\"\n\
                 \n[external_credentials.{name}]\n{}\n",
                preset.written(address)
            )
        });
        let config = head("info") + &credentials.collect::<String>();
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem();
        let setup = Setup::new(&config)
            .env("CLIENT_SECRET", SECRET)
            .env("REFRESH_TOKEN", "the-refresh-token")
            .file("client.key", &key)
            .file("federated.jwt", FEDERATED);
        check(&setup, &presets).await;
        Self { presets, providers, serving, proxy: setup.run().await }
    }

    async fn get(&self, preset: &Preset) -> Answer {
        http::get(self.proxy.address, &format!("/{}/orders", preset.name)).await.unwrap()
    }

    /// Requests of one kind that came in for a preset.
    fn received(&self, kind: &str, preset: &Preset) -> Vec<Received> {
        let place = format!(" /{kind}/{}", preset.name);
        let is_here = |request: &Received| {
            let line = request.head.lines().next().unwrap();
            line.find(&place).is_some_and(|at| line[at + place.len()..].starts_with(['/', '?', ' ']))
        };
        self.serving.received().into_iter().filter(is_here).collect()
    }
}

/// `keybearer check` finds nothing wrong, and says of every key of every preset whether it holds.
async fn check(setup: &Setup, presets: &[Preset]) {
    let output = setup.output(&["check"]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for preset in presets {
        let line = format!("{}: preset `{}`, {}\n", preset.name, preset.name, preset.provider);
        assert!(text.contains(&line), "{line} in:\n{text}");
    }
    let output = setup.output(&["check", "--format", "json"]).await;
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &checked["problems"]), (Some(0), &Value::Array(Vec::new())), "{checked:#}");
    let told = checked["presets"].as_array().unwrap();
    assert_eq!(told.len(), presets.len());
    for (told, preset) in told.iter().zip(presets) {
        assert_eq!(told["preset"], preset.name.as_str());
        for key in told["keys"].as_array().unwrap() {
            let name = key["key"].as_str().unwrap();
            let origin = match name {
                "token_endpoint" | "assertion.file" => "yours",
                // What is said of the provider's own address holds there alone.
                "dangerous.plain_http" | "dangerous.link_local" | "http_proxy" => "unused",
                _ => "preset",
            };
            assert_eq!(key["origin"], origin, "{}: {name}", preset.name);
        }
        let keys: BTreeSet<&str> =
            told["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
        for key in preset.settings.keys() {
            let is_told = keys.iter().any(|told| *told == key || told.starts_with(&format!("{key}.")));
            assert!(is_told, "{}: {key} in {keys:?}", preset.name);
        }
    }
}

/// The token request says who we are in the one way that the preset names, and holds every parameter that it sets.
fn assert_asked(preset: &Preset, asked: &Received) {
    let context = format!("{}: {asked:#?}", preset.name);
    assert_eq!(asked.method(), preset.setting("method").unwrap_or("POST"), "{context}");
    let (query, body) = (query(asked), body(asked));
    assert!(query.keys().all(|name| !body.contains_key(name)), "a parameter twice: {context}");
    let sent: BTreeMap<_, _> = query.into_iter().chain(body).collect();
    let sent_text = |name: &str| sent.get(name).map(String::as_str);
    let authorization = asked.field("authorization");
    match preset.authentication() {
        "client_secret_basic" => {
            let secret = basic(authorization.unwrap());
            let raw = format!("{CLIENT}:{SECRET}");
            let form = format!("{CLIENT}:p%2Bw%25d%2F%3D%3A+%7E*");
            let is_raw = preset.setting("basic_encoding") == Some("raw");
            assert_eq!(secret, if is_raw { raw } else { form }, "{context}");
        }
        "client_secret_post" | "query" => {
            assert_eq!((sent_text("client_id"), sent_text("client_secret")), (Some(CLIENT), Some(SECRET)), "{context}");
            assert_eq!(authorization, None, "{context}");
        }
        "private_key_jwt" => {
            let proof = sent_text("client_assertion").unwrap();
            assert!(proof == FEDERATED || claims(proof)["sub"] == CLIENT, "{context}");
        }
        "bearer_jwt" => assert_eq!(claims(authorization.unwrap().strip_prefix("Bearer ").unwrap())["iss"], CLIENT),
        "none" => assert_eq!((authorization, sent_text("client_secret")), (None, None), "{context}"),
        other => panic!("no check for {other}"),
    }
    if preset.setting("flow") == Some("jwt_bearer") {
        let expected = preset.settings["assertion"]["audience"].as_str().unwrap();
        assert_eq!(claims(&sent["assertion"])["aud"], expected, "{context}");
    }
    let grant_type = match (preset.setting("grant_type"), preset.setting("flow")) {
        (Some(""), _) => None,
        (Some(name), _) => Some(name),
        (None, Some("jwt_bearer")) => Some("urn:ietf:params:oauth:grant-type:jwt-bearer"),
        (None, flow) => Some(flow.unwrap_or("client_credentials")),
    };
    assert_eq!(sent_text("grant_type"), grant_type, "{context}");
    let parameters = preset.settings.get("parameters").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let table = |name: &str| parameters.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
    for (name, value) in table("body").into_iter().chain(table("query")) {
        assert_eq!(sent_text(&name), value.as_str(), "{context}");
    }
    for (name, value) in table("headers") {
        assert_eq!(asked.field(&name), value.as_str(), "{context}");
    }
    for (key, about) in &preset.needs {
        assert_need(key, about.as_str().unwrap(), &sent, asked);
    }
}

/// How the client proved itself, in the recordings' words: what the provider was seen to take, whatever the preset says.
fn style(asked: &Received) -> &'static str {
    let sent: BTreeMap<_, _> = query(asked).into_iter().chain(body(asked)).collect();
    let proof = asked.field("authorization").filter(|value| value.starts_with("Basic ")).map(basic);
    let is_raw = proof.as_deref() == Some(&*format!("{CLIENT}:{SECRET}"));
    match (proof, sent.contains_key("client_secret"), asked.method()) {
        (Some(_), false, _) => {
            if is_raw {
                "basic_raw"
            } else {
                "basic_form"
            }
        }
        (None, true, "GET") => "query",
        (None, true, _) => "post_body",
        (None, false, _) if sent.contains_key("client_assertion") => "client_assertion",
        (None, false, _) if sent.contains_key("assertion") => "jwt_bearer_grant",
        (None, false, _) if asked.field("authorization").is_some() => "bearer_jwt",
        (None, false, _) => "apikey_in_body",
        (Some(_), true, _) => panic!("two proofs: {asked:#?}"),
    }
}

/// How the client's proof differs from what the recording shows, if it does.
fn unlike_recorded(preset: &Preset, asked: &Received) -> Option<String> {
    let recorded = preset.recorded.as_ref()?.style().replace("json_body_or_post", "post_body");
    let found = style(asked);
    (found != recorded).then(|| format!("{}: {found} for {recorded}", preset.name))
}

/// What the user added is there too.
fn assert_need(key: &str, about: &str, sent: &BTreeMap<String, String>, asked: &Received) {
    let first = key.split(" or ").next().unwrap();
    let expected = if about.contains("reference to a secret") { SECRET.to_owned() } else { format!("the {first}") };
    let found = match first {
        "scope" | "audience" | "resource" => sent.get(first).cloned(),
        "refresh_token" => return assert_eq!(sent["refresh_token"], "the-refresh-token"),
        _ if key.contains("client_id") => return,
        "assertion.issuer" => claims(&sent["assertion"])["iss"].as_str().map(str::to_owned),
        "assertion.subject" => claims(&sent["assertion"])["sub"].as_str().map(str::to_owned),
        "assertion.claims.scope" => claims(&sent["assertion"])["scope"].as_str().map(str::to_owned),
        _ => match (first.strip_prefix("parameters.body."), first.strip_prefix("parameters.headers.")) {
            (Some(name), _) => sent.get(name).cloned(),
            (None, Some(name)) => asked.field(name).map(str::to_owned),
            (None, None) => return,
        },
    };
    assert_eq!(found, Some(expected), "{key}: {asked:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_preset_is_good_gets_a_token_attaches_it_and_renews_it() {
    let everyone = Everyone::start().await;
    assert!(everyone.presets.len() >= 42, "{}", everyone.presets.len());
    let mut otherwise: Vec<String> = Vec::new();
    for preset in everyone.presets.iter() {
        for _ in 0..2 {
            let answer = everyone.get(preset).await;
            let context = format!("{}: {}\n{}", preset.name, answer.text(), everyone.proxy.process.stderr.text());
            assert_eq!(answer.status, 200, "{context}");
        }
        let (asked, called) = (everyone.received("token", preset), everyone.received("api", preset));
        assert_eq!((asked.len(), called.len()), (usize::from(preset.asks()), 2), "{}", preset.name);
        if let Some(asked) = asked.first() {
            assert_asked(preset, asked);
            otherwise.extend(unlike_recorded(preset, asked));
        }
        match (&preset.recorded, preset.asks()) {
            (_, false) => assert_eq!(claims(preset.attached(&called[0]))["sub"], "the assertion.subject"),
            (Some(entry), true) => assert_eq!(preset.attached(&called[0]), entry.token().unwrap(), "{}", preset.name),
            (None, true) => assert_eq!(preset.attached(&called[0]), format!("{}-token-1", preset.name)),
        }
        for (name, value) in preset.recorded.iter().flat_map(Entry::api_headers) {
            // Values of the recording are samples; that of a client id is the client's own.
            let found = called[0].field(&name);
            assert!(found == Some(&value) || found == Some(CLIENT), "{}: {name} is {found:?}", preset.name);
        }
    }

    // Every organisation builds its own endpoint with Apigee, and its recordings differ; Salesforce's recording is of
    // the client credentials grant, whose answer is the same.
    let known = ["apigee: basic_form for basic_raw", "salesforce_jwt: jwt_bearer_grant for post_body"];
    assert_eq!(otherwise, known);

    let mut passed_on = Vec::new();
    for preset in everyone.presets.iter() {
        {
            let mut providers = everyone.providers.lock().unwrap();
            let seen = providers.seen[&preset.name].clone();
            providers.expired.insert(preset.name.clone(), seen);
        }
        let answer = everyone.get(preset).await;
        let (asked, called) = (everyone.received("token", preset), everyone.received("api", preset));
        let context = format!("{}: {}\n{}", preset.name, answer.text(), everyone.proxy.process.stderr.text());
        if preset.recorded.as_ref().is_some_and(|entry| !entry.should_refresh()) {
            let mints = usize::from(preset.asks());
            assert_eq!((asked.len(), called.len()), (mints, 3), "{context}");
            passed_on.push(preset.name.as_str());
            continue;
        }
        let mints = if preset.asks() { 2 } else { 0 };
        assert_eq!((answer.status, asked.len(), called.len()), (200, mints, 4), "{context}");
        assert_ne!(preset.attached(&called[2]), preset.attached(&called[3]), "{context}");
    }
    assert_eq!(passed_on, ["sap"], "its recording is of a CSRF token that is missing");
}

/// A preset that lacks something says what, and where to find it.
#[tokio::test]
async fn what_a_preset_needs_is_asked_for_by_name() {
    for preset in Preset::all().iter().filter(|preset| !preset.needs.is_empty()) {
        let config = format!(
            "[named_credentials.orders]\nurl = \"https://api.example.com\"\nexternal_credential = \"bare\"\n\
             [external_credentials.bare]\npreset = \"{}\"\n",
            preset.name
        );
        let output = Setup::new(&config).output(&["check"]).await;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(78), "{}: {text}", preset.name);
        for key in preset.needs.keys() {
            let first = key.split(" or ").next().unwrap();
            assert!(text.contains(first), "{}: {key} in:\n{text}", preset.name);
        }
    }
}
