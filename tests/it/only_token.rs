//! A provider whose new token ends the old one at once, as Zoom's does: renewals under load, and no caller whose
//! request can be sent again notices.

use std::time::Duration;

use keybearer::demo::issuer::Behavior;

use crate::support::http::{Connection, request};
use crate::support::load::{Amount, Load};
use crate::support::load_time;
use crate::support::metrics::Scrape;
use crate::support::servers::Servers;

/// Longer than what is kept of a body for a replay.
const UPLOAD: usize = 400 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_ahead_end_the_old_token_and_no_caller_notices() {
    // Renewed ahead after a second and a half at most, so several times in the run.
    let servers = Servers::with_lifetime(Duration::from_secs(2)).await;
    servers.issuer.behave(Behavior::OnlyToken);
    let proxy = servers.proxy("", "").await;
    let load = Load {
        address: proxy.address,
        target: "/orders/echo".to_owned(),
        fields: Vec::new(),
        connections: 64,
        amount: Amount::Time(load_time().max(Duration::from_secs(5))),
    };
    let mut running = load.start();
    running.further_answers_each(1).await;
    servers.issuer.token_requests_reach(4).await;
    running.further_answers_each(2).await;
    let tally = running.finish().await;
    tally.assert_all(200);
    servers.assert_always_a_token();

    let (mints, elapsed) = (servers.issuer.minted(), load_time().max(Duration::from_secs(5)).as_secs());
    // At most one a second: nothing but the renewals ahead.
    assert!(mints >= 4 && mints <= elapsed + 2, "{mints} mints in {elapsed} s");
    let scrape = Scrape::of(&proxy).await;
    assert_eq!(scrape.sum("keybearer_renewals_withheld_total", &[]), 0.0, "the brake never bites");
}

#[tokio::test]
async fn what_is_under_way_when_the_old_token_ends_is_replayed_and_only_a_long_upload_is_told() {
    let servers = Servers::start().await;
    servers.issuer.behave(Behavior::OnlyToken);
    let proxy = servers.proxy("", "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    assert_eq!(caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap().status, 200);

    // A renewal is under way: the old token has ended, the new one is not here yet.
    servers.issuer.gate().close();
    servers.issuer.revoke_all();
    let mut first = Connection::open(proxy.address).await.unwrap();
    first.send(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
    servers.issuer.gate().waiting(1).await;
    let mut others = Vec::new();
    for number in 0..8 {
        let mut other = Connection::open(proxy.address).await.unwrap();
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        other.send(&request(method, "/orders/echo", &[], b"an order")).await.unwrap();
        others.push(other);
    }
    servers.issuer.gate().open();
    assert_eq!(first.answer(true).await.unwrap().status, 200);
    for mut other in others {
        assert_eq!(other.answer(true).await.unwrap().status, 200);
    }
    assert_eq!(servers.issuer.minted(), 2);

    // The same for an upload that is too long to be kept: it hears the upstream's 401, and why it was not replayed.
    servers.issuer.revoke_all();
    let answer = caller.exchange(&request("POST", "/orders/echo", &[], &vec![b'x'; UPLOAD])).await.unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
    let told = answer.field("proxy-status").unwrap_or_default().to_owned();
    assert!(told.contains("not-replayed:body_too_large"), "{}", answer.text());
    let answer = caller.exchange(&request("POST", "/orders/echo", &[], &vec![b'x'; UPLOAD])).await.unwrap();
    assert_eq!(answer.status, 200, "the token was renewed all the same: {}", answer.text());
}
