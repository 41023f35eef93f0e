//! From a recording to the configuration that a user would write for it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use rcgen::KeyPair;
use serde_json::Value;

use crate::support::proxy::Setup;

/// The client secret: special characters, so that each encoding is told from the others.
pub(crate) const SECRET: &str = "p+w%d/=: ~*";

/// The client id.
pub(crate) const CLIENT: &str = "the-client";

/// What workload identity finds in its file.
pub(crate) const FEDERATED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3b3JrbG9hZCJ9.c2ln";

/// A provider as recorded; its tokens are invented.
#[derive(Clone)]
pub(crate) struct Entry(Value);

impl Entry {
    /// All but the one whose token travels in a SOAP body.
    pub(crate) fn all() -> Vec<Self> {
        let all: Vec<Value> = serde_json::from_str(include_str!("providers.json")).unwrap();
        assert_eq!(all.len(), 54);
        all.into_iter().map(Self).filter(|entry| !entry.0["inject"]["header"].is_null()).collect()
    }

    /// Its id as a name.
    pub(crate) fn name(&self) -> String {
        self.0["id"].as_str().unwrap().replace('-', "_")
    }

    /// The named credential by which its API is reached with a token, whatever its token endpoint says.
    pub(crate) fn api(&self) -> String {
        let by_itself = self.outcome() != "error" || self.kind() == "retry_with_nonce";
        if by_itself { self.name() } else { format!("{}_plain", self.name()) }
    }

    pub(crate) fn request(&self, name: &str) -> &Value {
        &self.0["request"][name]
    }

    pub(crate) fn style(&self) -> &str {
        self.request("auth_style").as_str().unwrap()
    }

    pub(crate) fn method(&self) -> &str {
        self.request("method").as_str().unwrap_or("POST")
    }

    pub(crate) fn grant_type(&self) -> &str {
        self.request("grant_type").as_str().unwrap()
    }

    /// Extra parameters, less those that stand for what the client makes itself.
    pub(crate) fn extra_parameters(&self) -> Vec<(String, String)> {
        let ours = |name: &String| !matches!(&**name, "client_assertion" | "client_assertion_type" | "assertion");
        pairs(self.request("extra_params")).into_iter().filter(|(name, _)| ours(name)).collect()
    }

    pub(crate) fn extra_headers(&self) -> Vec<(String, String)> {
        pairs(self.request("extra_headers")).into_iter().filter(|(name, _)| name != "DPoP").collect()
    }

    pub(crate) fn api_headers(&self) -> Vec<(String, String)> {
        pairs(self.request("api_headers"))
    }

    pub(crate) fn outcome(&self) -> &str {
        self.0["expect"]["outcome"].as_str().unwrap()
    }

    pub(crate) fn kind(&self) -> &str {
        self.0["expect"]["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.0["expect"]["access_token"].as_str()
    }

    /// The lifetime that must be understood; none where it depends on today's date.
    pub(crate) fn lifetime(&self) -> Option<u64> {
        let expected = &self.0["expect"];
        match &expected["ttl_seconds"] {
            Value::Number(seconds) => seconds.as_u64(),
            Value::String(_) => Some(24 * 60 * 60),
            _ if expected["ttl_from"].is_string() || self.outcome() == "error" => None,
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Some(15 * 60),
        }
    }

    /// Header and scheme.
    pub(crate) fn inject(&self) -> (String, String) {
        let inject = &self.0["inject"];
        (inject["header"].as_str().unwrap().to_lowercase(), inject["scheme"].as_str().unwrap().to_owned())
    }

    pub(crate) fn token_response(&self) -> (u16, Vec<(String, String)>, &str) {
        let answer = &self.0["token_response"];
        let mut fields = pairs(&answer["headers"]);
        fields.extend(text(&answer["content_type"]).map(|value| ("content-type".to_owned(), value)));
        (code(&answer["status"]), fields, answer["body"].as_str().unwrap())
    }

    pub(crate) fn expired_answer(&self) -> (u16, Vec<(String, String)>, &str) {
        let answer = &self.0["expired_token_answer"];
        (code(&answer["status"]), pairs(&answer["headers"]), answer["body"].as_str().unwrap_or_default())
    }

    pub(crate) fn expired_field(&self, name: &str) -> Option<&str> {
        self.0["expired_token_answer"]["headers"][name].as_str()
    }

    pub(crate) fn should_refresh(&self) -> bool {
        self.0["expired_token_answer"]["should_refresh"].as_bool().unwrap()
    }

    /// The API that takes no token at all.
    pub(crate) fn always_refused(&self) -> bool {
        self.name() == "hostile_401_every_time"
    }

    /// The smallest rule that tells its answer from others.
    fn signal(&self) -> &Value {
        &self.0["expired_token_answer"]["signal"]
    }
}

fn code(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn pairs(table: &Value) -> Vec<(String, String)> {
    let table = table.as_object().into_iter().flatten();
    table.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// The files and variables that the configurations name.
pub(crate) fn files(setup: Setup) -> Setup {
    let key = KeyPair::generate().unwrap().serialize_pem();
    setup.env("CLIENT_SECRET", SECRET).file("client.key", &key).file("federated.jwt", &format!("{FEDERATED}\n"))
}

/// The tables of an entry: a named and an external credential, and where its own token endpoint gives no token, a
/// second pair of them that asks a plain one.
pub(crate) fn credentials(entry: &Entry, server: SocketAddr) -> String {
    let name = entry.name();
    let mut tables = pair(&name, server) + &token_request(entry, server) + &renewal(entry) + &attachment(entry);
    if entry.api() != name {
        tables += &pair(&entry.api(), server);
        let _ = writeln!(tables, "token_endpoint = \"http://{server}/token/{}\"\nclient_id = \"plain\"", entry.api());
        tables += "client_secret = { env = \"CLIENT_SECRET\" }\n";
        tables += &renewal(entry);
        tables += &attachment(entry);
    }
    tables
}

fn pair(name: &str, server: SocketAddr) -> String {
    format!(
        "\n[named_credentials.{name}]\nurl = \"http://{server}/api/{name}\"\nexternal_credential = \"{name}\"\n\
         \n[external_credentials.{name}]\n"
    )
}

fn token_request(entry: &Entry, server: SocketAddr) -> String {
    const SIGNING: &str = "signing = { key = { file = \"client.key\" } }";
    const SECRET: &str = "client_secret = { env = \"CLIENT_SECRET\" }";
    let mut lines = vec![format!("client_id = \"{CLIENT}\"")];
    let query = if entry.request("grant_in") == "query" { "?grant_type=client_credentials" } else { "" };
    if entry.style() != "self_signed_jwt" {
        lines.push(format!("token_endpoint = \"http://{server}/token/{}{query}\"", entry.name()));
    }
    let proof: &[&str] = match entry.style() {
        "basic_form" => &["client_authentication = \"client_secret_basic\"", SECRET],
        "basic_raw" => &["client_authentication = \"client_secret_basic\"", "basic_encoding = \"raw\"", SECRET],
        "post_body" | "json_body_or_post" => &["client_authentication = \"client_secret_post\"", SECRET],
        "json_body" => &["client_authentication = \"json\"", SECRET],
        "query" => &["client_authentication = \"query\"", SECRET],
        "client_assertion" => {
            &["client_authentication = \"private_key_jwt\"", "assertion = { file = \"federated.jwt\" }"]
        }
        "private_key_jwt" => &["client_authentication = \"private_key_jwt\"", SIGNING],
        "jwt_bearer_grant" => {
            &["flow = \"jwt_bearer\"", "assertion = { audience = \"https://provider.test\" }", SIGNING]
        }
        "bearer_jwt" => &["client_authentication = \"bearer_jwt\"", SIGNING],
        "apikey_in_body" | "none" => &["client_authentication = \"none\""],
        "self_signed_jwt" => &["flow = \"signed_jwt\"", "assertion = { lifetime = \"59m\" }", SIGNING],
        other => panic!("no mapping for {other}"),
    };
    lines.extend(proof.iter().map(|line| (*line).to_owned()));
    if entry.method() == "GET" {
        lines.push("method = \"GET\"".to_owned());
    }
    if entry.request("extra_headers").get("DPoP").is_some() {
        lines.push("dpop = true".to_owned());
    }
    lines.extend(grant(entry));
    lines.extend(asked_for(entry));
    lines.extend(response(entry));
    lines.join("\n") + "\n"
}

fn grant(entry: &Entry) -> Option<String> {
    match entry.grant_type() {
        "client_credentials" | "urn:ietf:params:oauth:grant-type:jwt-bearer" => None,
        // Its own refresh token is a parameter of the recording, where it has one.
        "refresh_token" => {
            Some("flow = \"refresh_token\"\nrefresh_token = { dangerous_literal = \"the-refresh-token\" }".to_owned())
        }
        _ if entry.style() == "self_signed_jwt" => None,
        other => Some(format!("grant_type = \"{other}\"")),
    }
}

fn asked_for(entry: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    let mut body = Vec::new();
    for (name, value) in entry.extra_parameters() {
        match &*name {
            "scope" | "audience" | "resource" => lines.push(format!("{name} = {}", quoted(&value))),
            "refresh_token" => {}
            _ => body.push(format!("{name} = {}", quoted(&value))),
        }
    }
    let headers: Vec<_> =
        entry.extra_headers().iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    if !body.is_empty() || !headers.is_empty() {
        let (body, headers) = (body.join(", "), headers.join(", "));
        lines.push(format!("parameters = {{ body = {{ {body} }}, headers = {{ {headers} }} }}"));
    }
    lines
}

fn response(entry: &Entry) -> Option<String> {
    let expected = &entry.0["expect"];
    let token = expected["json_pointer"].as_str()?;
    let (lifetime, unit) = match (expected["ttl_pointer"].as_str(), expected["ttl_from"].as_str()) {
        (Some(pointer), _) => (pointer, "s"),
        (None, Some(pointer)) => (pointer, "rfc3339"),
        (None, None) => return None,
    };
    Some(format!("response = {{ token = \"{token}\", expires_in = \"{lifetime}\" }}\nexpires_unit = \"{unit}\""))
}

/// A rule where a plain 401 does not say it, and an exception where it says too much.
fn renewal(entry: &Entry) -> String {
    let plain = entry.expired_answer().0 == 401;
    let key = match (entry.should_refresh(), plain) {
        (true, false) => "refresh_when",
        (false, true) => "refresh_unless",
        (true, true) | (false, false) => return String::new(),
    };
    let signal = entry.signal();
    let mut parts = vec![format!("status = {}", signal["status"])];
    if let Some(part) = signal["body_contains"].as_str() {
        parts.push(format!("body_contains = {}", quoted(part)));
    }
    if let Some(pointer) = signal["json_pointer"].as_str() {
        parts.push(format!("json = {{ pointer = \"{pointer}\", in = {} }}", signal["in"]));
    }
    for (name, part) in pairs(&signal["header_contains"]) {
        parts.push(format!("header_contains = {{ {name} = {} }}", quoted(&part)));
    }
    format!("{key} = [{{ {} }}]\n", parts.join(", "))
}

fn attachment(entry: &Entry) -> String {
    let (header, scheme) = entry.inject();
    let mut lines = String::new();
    // The scheme of DPoP is what `dpop = true` means.
    if header != "authorization" || !matches!(&*scheme, "Bearer" | "DPoP") {
        let _ = writeln!(lines, "inject = {{ header = \"{header}\", scheme = \"{scheme}\" }}");
    }
    let headers: Vec<_> = entry
        .api_headers()
        .iter()
        .map(|(name, value)| format!("{{ name = \"{name}\", value = {} }}", quoted(value)))
        .collect();
    if !headers.is_empty() {
        let _ = writeln!(lines, "headers = [{}]", headers.join(", "));
    }
    lines
}

/// A JSON text is a TOML text.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
