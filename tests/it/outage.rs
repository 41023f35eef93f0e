//! The token endpoint goes away while a token lives, and comes back.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::http::{Connection, request};
use crate::support::oidc::{CLIENT, Client, Issuer};
use crate::support::proxy::{Setup, head};

/// Seconds that a token lives here.
const LIFETIME: u32 = 6;

/// B51, C19: a live token is used to its end and an expired one never.
#[tokio::test]
async fn a_live_token_is_used_to_its_end_and_an_expired_one_never() {
    let client = Client { lifetime: LIFETIME, ..CLIENT };
    let Some(issuer) = Issuer::start(std::slice::from_ref(&client)).await else { return };
    let config = head("info") + &issuer.credentials(&client);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", client.secret).run().await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let call = request("GET", "/orders/echo", &[], b"");

    let minted = Instant::now();
    assert_eq!(caller.exchange(&call).await.unwrap().status, 200);
    issuer.pause().await;
    let failure = loop {
        let answer = caller.exchange(&call).await.unwrap();
        if answer.status != 200 {
            break answer;
        }
    };
    let served = minted.elapsed();
    assert!(served > Duration::from_secs(u64::from(LIFETIME) / 2), "failed {served:?} after the mint already");
    assert!(served < Duration::from_secs(u64::from(LIFETIME)) + Duration::from_secs(1), "served for {served:?}");
    assert_eq!(failure.status, 503, "{}", failure.text());
    assert!(failure.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{}", failure.head);
    assert!(failure.field("proxy-status").unwrap().contains("token_unavailable"), "{}", failure.head);
    assert_eq!(failure.field("content-type"), Some("application/problem+json"));

    let before = issuer.stats().await;
    for _ in 0..50 {
        assert_eq!(caller.exchange(&call).await.unwrap().status, 503);
    }
    let after = issuer.stats().await;
    assert_eq!(after.requests(), before.requests(), "without a token nothing goes out");
    assert_eq!((after.without_token(), after.refused()), (0, 0), "no missing and no expired token was ever sent");

    issuer.resume().await;
    eventually("the proxy recovers", async || {
        let answer = caller.exchange(&call).await.unwrap();
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(issuer.stats().await.without_token(), 0);
}
