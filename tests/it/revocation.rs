//! Tokens revoked in the middle of heavy traffic: no caller notices, and each revocation costs one mint.

use crate::support::load::{Amount, Load};
use crate::support::load_time;
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Setup, head};

/// As many as the renewal allowance takes in a burst.
const REVOCATIONS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_that_tokens_are_revoked() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let config = head("info") + &issuer.credentials(&CLIENT);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", CLIENT.secret).run().await;
    let load = Load {
        address: proxy.address,
        target: "/orders/echo".to_owned(),
        fields: Vec::new(),
        connections: 64,
        amount: Amount::Time(load_time()),
    };

    let mut running = load.start();
    running.further_answers_each(1).await;
    for revocation in 1..=REVOCATIONS {
        assert_eq!(issuer.revoke_all().await, 1, "there is one live token");
        // The first answer may be to a request sent before, the second is not. A request that was under way during
        // two revocations is answered by the upstream: it is renewed once, not twice.
        running.further_answers_each(2).await;
        assert_eq!(issuer.stats().await.token_requests(), 1 + revocation, "one mint per revocation");
    }
    let tally = running.finish().await;
    tally.assert_all(200);

    let stats = issuer.stats().await;
    assert_eq!(stats.token_requests(), 1 + REVOCATIONS);
    assert_eq!((stats.without_token(), stats.duplicate_posts()), (0, 0));
    assert!(stats.refused() >= REVOCATIONS, "revoked tokens were really refused");

    let log = proxy.exchanges(usize::try_from(tally.answers()).unwrap()).await;
    let replayed = log.iter().filter(|line| line["replayed"] == true).count() as u64;
    assert_eq!(replayed, stats.refused(), "each refused request was sent again, once");
}
