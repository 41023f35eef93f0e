//! The crate's own identity provider and API around a proxy: they need no tools, fail on demand, and wait at gates.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keybearer::demo::api::Api;
use keybearer::demo::issuer::{Client, Issuer};
use keybearer::secret::Secret;
use socket2::{Domain, Socket, Type};

use super::proxy::{Proxy, Setup, head};

/// The client's secret.
const SECRET: &str = "the-well-kept-secret-of-orders";

/// An issuer that knows the client `orders`, and the API that takes its tokens.
pub(crate) struct Servers {
    pub(crate) issuer: Issuer,
    pub(crate) api: Api,
}

impl Servers {
    /// Starts both, on free ports.
    pub(crate) async fn start() -> Self {
        Self::with_lifetime(Duration::from_secs(600)).await
    }

    /// Starts both; tokens live so long.
    pub(crate) async fn with_lifetime(lifetime: Duration) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let client = Client { id: "orders".to_owned(), secret: Secret::new(SECRET.to_owned()), lifetime };
        let issuer = Issuer::start(any, vec![client]).await.unwrap();
        let api = Api::start(any, issuer.tokens()).await.unwrap();
        Self { issuer, api }
    }

    /// The API's URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api.address())
    }

    /// A configuration whose `/orders` leads to `url`; `named` and `external` are further lines of the two tables.
    pub(crate) fn config(&self, url: &str, named: &str, external: &str) -> String {
        format!(
            "{}\n[named_credentials.orders]\nurl = \"{url}\"\nexternal_credential = \"issuer\"\n{named}\n\
             [external_credentials.issuer]\ntoken_endpoint = \"{}\"\nclient_id = \"orders\"\n\
             client_secret = {{ env = \"ORDERS_SECRET\" }}\n{external}\n",
            head("info"),
            self.issuer.token_endpoint(),
        )
    }

    /// A proxy before the API.
    pub(crate) async fn proxy(&self, named: &str, external: &str) -> Proxy {
        run(&self.config(&self.url(), named, external)).await
    }

    /// A proxy before another upstream.
    pub(crate) async fn proxy_to(&self, upstream: SocketAddr, named: &str) -> Proxy {
        run(&self.config(&format!("http://{upstream}"), named, "")).await
    }

    /// Fails if a request came to the API without a token.
    pub(crate) fn assert_always_a_token(&self) {
        let bare: Vec<_> =
            self.api.seen().into_iter().filter(|seen| !seen.headers.contains_key("authorization")).collect();
        assert!(bare.is_empty(), "without a token: {bare:#?}");
    }
}

/// Runs a configuration of [`Servers::config`] with a single worker, so that there is a single pool of connections.
pub(crate) async fn run(config: &str) -> Proxy {
    Setup::new(config).env("ORDERS_SECRET", SECRET).env("KEYBEARER_WORKERS", "1").run().await
}

/// A port of loopback that refuses connections, and that nobody else gets while this lives.
pub(crate) struct ClosedPort {
    _bound: Socket,
    pub(crate) address: SocketAddr,
}

impl ClosedPort {
    /// Binds a port and does not listen on it.
    pub(crate) fn new() -> Self {
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        Self { _bound: bound, address }
    }
}
