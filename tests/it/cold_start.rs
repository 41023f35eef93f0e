//! A thousand callers at once while there is no token yet: all wait for the same mint.

use crate::support::load::{Amount, Load};
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Setup, head};
use crate::support::raise_open_files;

/// C16: a thousand callers share the first mint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_share_the_first_mint() {
    raise_open_files();
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let config = head("info") + &issuer.credentials(&CLIENT);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", CLIENT.secret).run().await;
    assert_eq!(issuer.stats().await.token_requests(), 0, "tokens are minted at first use");

    let load = Load {
        address: proxy.address,
        target: "/orders/echo".to_owned(),
        fields: Vec::new(),
        connections: 1000,
        amount: Amount::Requests(1),
    };
    let tally = load.start().finish().await;
    tally.assert_all(200);
    assert_eq!(tally.answers(), 1000);
    let stats = issuer.stats().await;
    assert_eq!((stats.token_requests(), stats.distinct_tokens(), stats.requests()), (1, 1, 1000));
}
