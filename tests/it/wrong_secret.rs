//! The issuer refuses our client: callers hear why, and the issuer is left in peace.

use crate::support::http;
use crate::support::load::{Amount, Load};
use crate::support::load_time;
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Setup, head};

/// C20: a wrong secret is named and does not flood the issuer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_named_and_does_not_flood_the_issuer() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let config = head("info") + &issuer.credentials(&CLIENT);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", "not-the-secret-of-this-client").run().await;

    let load = Load {
        address: proxy.address,
        target: "/orders/echo".to_owned(),
        fields: Vec::new(),
        connections: 16,
        amount: Amount::Time(load_time()),
    };
    load.start().finish().await.assert_all(502);

    let answer = http::get(proxy.address, "/orders/echo").await.unwrap();
    let cause = answer.field("proxy-status").unwrap();
    assert!(cause.starts_with("keybearer; error=token_refused"), "{cause}");
    assert!(cause.contains("invalid_client"), "{cause}");
    assert_eq!(answer.json()["status"], 502);

    let stats = issuer.stats().await;
    assert!((1..=3).contains(&stats.token_requests()), "{} token requests", stats.token_requests());
    assert_eq!(stats.requests(), 0, "the resource server sees nothing");
}
