//! The demo's issuer, a recording upstream, and the proxy between them: where byte-exact tests take place.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keybearer::demo::issuer::{Client, Issuer, random_secret};

use super::http::{Answer, Connection};
use super::proxy::{Proxy, Setup, head};
use super::recorder::{Received, Recorder};

/// The external credential that `orders` and its like use; `{token_endpoint}` is filled in by [`Stage`].
const ISSUER: &str = r#"
[external_credentials.issuer]
token_endpoint = "{token_endpoint}"
client_id = "orders"
client_secret = { env = "ORDERS_SECRET" }
"#;

/// All three, running.
pub(crate) struct Stage {
    pub(crate) issuer: Issuer,
    pub(crate) upstream: Recorder,
    pub(crate) proxy: Proxy,
}

/// A named credential that leads to `path` of the upstream, with further keys.
pub(crate) fn named(name: &str, path: &str, keys: &str) -> String {
    format!(
        "[named_credentials.{name}]\nurl = \"http://{{upstream}}{path}\"\nexternal_credential = \"issuer\"\n{keys}\n"
    )
}

impl Stage {
    /// With one named credential `orders` that leads to the upstream's root.
    pub(crate) async fn orders() -> Self {
        Self::start(&named("orders", "", "")).await
    }

    /// With these tables after the usual ones.
    pub(crate) async fn start(tables: &str) -> Self {
        Self::listening(&head("info"), tables).await
    }

    /// With these tables of the listeners and so on, and these tables after the external credential.
    pub(crate) async fn listening(head: &str, tables: &str) -> Self {
        let (setup, issuer, upstream) = Self::set_up(head, tables).await;
        Self { issuer, upstream, proxy: setup.run().await }
    }

    /// All but the running proxy.
    pub(crate) async fn set_up(head: &str, tables: &str) -> (Setup, Issuer, Recorder) {
        let secret = random_secret().unwrap();
        let client = Client { id: "orders".to_owned(), secret: secret.clone(), lifetime: Duration::from_secs(600) };
        let issuer = Issuer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), vec![client]).await.unwrap();
        let upstream = Recorder::start().await;
        let config = format!("{head}{ISSUER}{tables}")
            .replace("{token_endpoint}", &issuer.token_endpoint())
            .replace("{upstream}", &upstream.address.to_string())
            .replace("{port}", &upstream.address.port().to_string());
        (Setup::new(&config).env("ORDERS_SECRET", secret.expose()), issuer, upstream)
    }

    /// A connection of a caller, over loopback wherever the proxy listens.
    pub(crate) async fn caller(&self) -> Connection {
        Connection::open(SocketAddr::from((Ipv4Addr::LOCALHOST, self.proxy.address.port()))).await.unwrap()
    }

    /// One exchange on a connection of its own.
    pub(crate) async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        let answer = self.caller().await.exchange(request).await;
        answer.unwrap_or_else(|error| panic!("{error} after: {}", String::from_utf8_lossy(request)))
    }

    /// One exchange that must succeed, and what the upstream saw of it.
    pub(crate) async fn pass(&self, request: impl AsRef<[u8]>) -> (Answer, Received) {
        let before = self.upstream.requests().len();
        let answer = self.exchange(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.upstream.requests().len(), before + 1);
        (answer, self.upstream.last())
    }

    /// Fails unless neither the token endpoint nor the upstream was asked for anything.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.issuer.token_requests(), 0, "the token endpoint was asked");
        assert_eq!(self.upstream.connections(), 0, "the upstream was reached");
    }
}

impl Answer {
    /// Fails unless this is an answer of the proxy's own, in its format.
    pub(crate) fn assert_problem(&self, status: u16, what: &str) {
        assert_eq!(self.status, status, "{what}: {}", self.text());
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{what}: {}", self.head);
        let cause = self.field("proxy-status").unwrap_or_else(|| panic!("{what}: no Proxy-Status in {}", self.head));
        assert!(cause.starts_with("keybearer; error="), "{what}: {cause}");
        let id = self.field("x-request-id").unwrap_or_else(|| panic!("{what}: no request id in {}", self.head));
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["request_id"]), (&status.into(), &id.into()), "{what}: {problem}");
    }
}
