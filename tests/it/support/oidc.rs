//! The issuer and the resource server of `tests/oidc`: a certified OAuth server and an API that asks it about every
//! token, one Node process for each test that wants them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::process::Command;

use super::http::{self, Answer};
use super::process::Process;
use super::{PATIENCE, npm, unavailable, within};

/// What is copied into the build folder; the two that npm reads come first.
const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("../../oidc/package.json")),
    ("package-lock.json", include_str!("../../oidc/package-lock.json")),
    ("server.mjs", include_str!("../../oidc/server.mjs")),
    ("issuer.mjs", include_str!("../../oidc/issuer.mjs")),
    ("resource.mjs", include_str!("../../oidc/resource.mjs")),
];

/// A client that the issuer knows.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
    /// As in `token_endpoint_auth_method`.
    pub(crate) authentication: &'static str,
    /// Seconds that its tokens live.
    pub(crate) lifetime: u32,
}

/// A client as most tests want it.
pub(crate) const CLIENT: Client =
    Client { id: "orders", secret: "orders-secret-0123456789", authentication: "client_secret_basic", lifetime: 600 };

/// The resource that tokens can be asked for.
pub(crate) const RESOURCE: &str = "https://orders.example/api";

/// The pair of servers; they end when this is dropped.
pub(crate) struct Issuer {
    pub(crate) process: Process,
    /// The issuer's public address.
    pub(crate) issuer: SocketAddr,
    /// The resource server's address.
    pub(crate) resource: SocketAddr,
    control: SocketAddr,
}

impl Issuer {
    /// Starts both with these clients; none when Node is not there.
    pub(crate) async fn start(clients: &[Client]) -> Option<Self> {
        let clients: Vec<Value> = clients
            .iter()
            .map(|client| {
                json!({"client_id": client.id, "client_secret": client.secret,
                       "authentication": client.authentication, "lifetime": client.lifetime})
            })
            .collect();
        Self::with(&json!({"clients": clients, "resources": [RESOURCE]})).await
    }

    /// Starts both as `server.mjs` is told to; none when Node is not there.
    pub(crate) async fn with(settings: &Value) -> Option<Self> {
        let folder = match installed() {
            Ok(folder) => folder,
            Err(why) => return unavailable(why),
        };
        let mut command = Command::new("node");
        let process =
            Process::start(command.arg(folder.join("server.mjs")).arg(settings.to_string())).expect("node starts");
        let ready = process.stdout.find(|lines| lines.first().cloned());
        let Some(ready) = within("the issuer starts", PATIENCE, ready).await else {
            panic!("the issuer does not start:\n{}", process.stderr.text());
        };
        let ports: Value = serde_json::from_str(&ready).expect("one line of JSON");
        let address = |name: &str| {
            let port = ports[name].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        let [issuer, resource, control] = ["issuer", "resource", "control"].map(address);
        Some(Self { process, issuer, resource, control })
    }

    /// The token endpoint.
    pub(crate) fn token_endpoint(&self) -> String {
        format!("http://{}/token", self.issuer)
    }

    /// The tables of a named credential `orders` that leads to the resource server; the secret is in `ORDERS_SECRET`.
    pub(crate) fn credentials(&self, client: &Client) -> String {
        format!(
            r#"
[named_credentials.orders]
url = "http://{resource}"
external_credential = "issuer"

[external_credentials.issuer]
token_endpoint = "{endpoint}"
client_authentication = "{authentication}"
client_id = "{id}"
client_secret = {{ env = "ORDERS_SECRET" }}
"#,
            resource = self.resource,
            endpoint = self.token_endpoint(),
            authentication = client.authentication,
            id = client.id,
        )
    }

    /// What happened so far.
    pub(crate) async fn stats(&self) -> Stats {
        Stats(control(http::get(self.control, "/_stats").await))
    }

    /// Every request to the token endpoint, whole: `{headers, body}`.
    pub(crate) async fn token_requests(&self) -> Vec<Value> {
        serde_json::from_value(control(http::get(self.control, "/_requests").await)).unwrap()
    }

    /// From now on the resource server wants another nonce in DPoP proofs.
    pub(crate) async fn new_nonce(&self) {
        self.tell("/_new_nonce", b"").await;
    }

    /// Every access token that is stored, whole.
    pub(crate) async fn tokens(&self) -> Vec<String> {
        serde_json::from_value(control(http::get(self.control, "/_tokens").await)).unwrap()
    }

    /// Revokes every access token; returns how many there were.
    pub(crate) async fn revoke_all(&self) -> u64 {
        self.tell("/_revoke_all", b"").await["revoked"].as_u64().unwrap()
    }

    /// The issuer's public port goes dead, connections and all.
    pub(crate) async fn pause(&self) {
        self.tell("/_pause", b"").await;
    }

    /// The issuer is back on the same port.
    pub(crate) async fn resume(&self) {
        self.tell("/_resume", b"").await;
    }

    /// Lets every request to `/hold` go.
    pub(crate) async fn release(&self) {
        self.tell("/_release", b"").await;
    }

    /// From now on the token endpoint answers this instead; `null` ends it.
    pub(crate) async fn token_answer(&self, instead: &Value) {
        self.tell("/_token_answer", instead.to_string().as_bytes()).await;
    }

    async fn tell(&self, what: &str, body: &[u8]) -> Value {
        control(http::post(self.control, what, body).await)
    }
}

fn control(answer: std::io::Result<Answer>) -> Value {
    let answer = answer.expect("the control channel answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What the servers counted.
pub(crate) struct Stats(Value);

impl Stats {
    fn count(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {}", self.0))
    }

    /// Requests to the token endpoint while it was up.
    pub(crate) fn token_requests(&self) -> u64 {
        self.count("/issuer/token_requests")
    }

    /// Requests to the resource server.
    pub(crate) fn requests(&self) -> u64 {
        self.count("/resource/requests")
    }

    /// Those that carried no bearer token.
    pub(crate) fn without_token(&self) -> u64 {
        self.count("/resource/without_token")
    }

    /// Those whose token was expired, revoked or unknown.
    pub(crate) fn refused(&self) -> u64 {
        self.count("/resource/refused")
    }

    /// Answers of the token endpoint with this status.
    pub(crate) fn token_answers(&self, status: u16) -> u64 {
        self.0["issuer"]["token_answers"][status.to_string()].as_u64().unwrap_or(0)
    }

    /// Requests with a DPoP proof that holds.
    pub(crate) fn with_proof(&self) -> u64 {
        self.count("/resource/with_proof")
    }

    /// Proofs that lacked the nonce wanted.
    pub(crate) fn nonces_asked(&self) -> u64 {
        self.count("/resource/nonces_asked")
    }

    /// Certificate-bound tokens that came over a connection with another certificate.
    pub(crate) fn unbound(&self) -> u64 {
        self.count("/resource/unbound")
    }

    /// POSTs that were carried out a second time.
    pub(crate) fn duplicate_posts(&self) -> u64 {
        self.count("/resource/duplicate_posts")
    }

    /// Requests waiting in `/hold`.
    pub(crate) fn held(&self) -> u64 {
        self.count("/resource/held")
    }

    /// How many different tokens the resource server saw.
    pub(crate) fn distinct_tokens(&self) -> usize {
        self.0["resource"]["tokens"].as_array().unwrap().len()
    }
}

/// The folder with the servers and the packages they need; installed on first use.
fn installed() -> Result<&'static Path, &'static str> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| npm::install("oidc", &FILES)).as_deref().map_err(String::as_str)
}
