//! Tokens that live ten seconds, one second, or nobody knows how long: no request fails, and no token is minted that
//! is not needed.

use std::time::Duration;

use keybearer::demo::issuer::Behavior;
use serde_json::{Map, Value};

use crate::support::load::{Amount, Load, Tally};
use crate::support::load_time;
use crate::support::proxy::Proxy;
use crate::support::servers::Servers;

async fn load(proxy: &Proxy) -> Tally {
    let load = Load {
        address: proxy.address,
        target: "/orders/echo".to_owned(),
        fields: Vec::new(),
        connections: 16,
        amount: Amount::Time(load_time()),
    };
    let mut running = load.start();
    running.further_answers_each(1).await;
    running.finish().await
}

/// Runs load on tokens of this lifetime and returns how many were minted.
async fn mints(lifetime: Duration, behavior: Behavior) -> u64 {
    let servers = Servers::with_lifetime(lifetime).await;
    servers.issuer.behave(behavior);
    let proxy = servers.proxy("", "").await;
    load(&proxy).await.assert_all(200);
    servers.assert_always_a_token();
    let minted = servers.issuer.minted();
    println!("{minted} mints of tokens that live {lifetime:?} in {:?}", load_time());
    minted
}

/// One token per `share` of its life, and the first.
fn most(share: Duration) -> u64 {
    u64::try_from(load_time().as_millis() / share.as_millis()).unwrap() + 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_ten_seconds_serve_for_most_of_their_lives() {
    let minted = mints(Duration::from_secs(10), Behavior::Conforming).await;
    // 60 s: at most 9.
    assert!(minted <= most(Duration::from_millis(8_000)), "{minted} mints in {:?}", load_time());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_one_second_serve_for_half_of_their_lives_at_least() {
    let minted = mints(Duration::from_secs(1), Behavior::Conforming).await;
    // 60 s: at most 100, which is one each 600 ms.
    assert!(minted <= most(Duration::from_millis(612)), "{minted} mints in {:?}", load_time());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_a_lifetime_is_minted_once() {
    let members = Map::from_iter([("expires_in".to_owned(), Value::Null)]);
    assert_eq!(mints(Duration::from_secs(3600), Behavior::Members(members)).await, 1);
}
