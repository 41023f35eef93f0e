//! What counts as a rejection, what is renewed and replayed, and the brakes on both.

mod bodies;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use keybearer::demo::issuer::{Answer as Said, Behavior};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::http::{self, Answer, Connection, request};
use crate::support::load::{Amount, Load};
use crate::support::metrics::Scrape;
use crate::support::proxy::Proxy;
use crate::support::scripted::{Scripted, answer};
use crate::support::servers::{Servers, run};
use crate::support::{PATIENCE, eventually, load_time, within};

/// Renewals that an allowance takes in a burst.
const BURST: u64 = 3;

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Bytes in which no part is like another, so that nothing lost, doubled or out of order goes unseen.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    })
    .take(length)
    .collect()
}

fn load(proxy: &Proxy, target: &str, connections: usize, amount: Amount) -> Load {
    Load { address: proxy.address, target: target.to_owned(), fields: Vec::new(), connections, amount }
}

/// Fails unless the answer is the upstream's, with this one field of ours.
fn assert_not_replayed(answer: &Answer, status: u16, reason: &str) {
    let expected = format!("keybearer; received-status={status}; details=\"not-replayed:{reason}\"");
    assert_eq!((answer.status, answer.field("proxy-status")), (status, Some(&*expected)), "{}", answer.text());
}

/// Fails unless log and metrics name the reason too.
async fn assert_reason_recorded(proxy: &Proxy, lines: usize, reason: &str) {
    let line = proxy.exchanges(lines).await.pop().unwrap();
    assert_eq!((&line["replayed"], &line["not_replayed_reason"]), (&json!(false), &json!(reason)), "{line}");
    let scrape = Scrape::of(proxy).await;
    let labels = [("named_credential", "orders"), ("outcome", "none"), ("reason", reason)];
    assert_eq!(scrape.sum("keybearer_replays_total", &labels), 1.0);
    assert_eq!(scrape.sum("keybearer_rejections_total", &[("named_credential", "orders")]), 1.0);
}

/// A caller whose first exchange, and with it the first mint, is behind it.
async fn warm(proxy: &Proxy) -> Connection {
    let mut caller = Connection::open(proxy.address).await.unwrap();
    assert_eq!(caller.exchange(&request("GET", "/orders/warm", &[], b"")).await.unwrap().status, 200);
    caller
}

// Always 401.

/// C18: an upstream that refuses every token does not make us flood the issuer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_refuses_every_token_does_not_make_us_flood_the_issuer() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let started = Instant::now();
    let tally = load(&proxy, "/orders/always401", 16, Amount::Time(load_time())).start().finish().await;
    tally.assert_all(401);
    let allowed = 1 + BURST + started.elapsed().as_secs() / 30;
    assert!((2..=allowed).contains(&servers.issuer.minted()), "{} mints", servers.issuer.minted());
    servers.assert_always_a_token();

    let answer = http::get(proxy.address, "/orders/always401").await.unwrap();
    assert_not_replayed(&answer, 401, "refused");
    let direct = direct_refusal(&servers).await;
    assert_eq!(answer.body, direct.body, "the upstream's body");
    for field in ["content-type", "cache-control", "www-authenticate", "content-length"] {
        assert_eq!(answer.field(field), direct.field(field), "the upstream's {field}");
        assert!(answer.field(field).is_some());
    }

    let told = proxy.warnings(1).await;
    assert_eq!(told.len(), 1, "one line: {told:#?}");
    assert_eq!(told[0]["named_credential"], "orders", "{told:#?}");
    assert!(told[0]["message"].as_str().unwrap().contains("refuses"), "{told:#?}");

    let all = tally.answers() + 1;
    let scrape = Scrape::of(&proxy).await;
    let sum = |name, labels: &[(&str, &str)]| scrape.sum(name, labels);
    assert_eq!(sum("keybearer_rejections_total", &[]), all as f64);
    assert_eq!(sum("keybearer_requests_total", &[("named_credential", "orders"), ("status", "401")]), all as f64);
    assert_eq!(sum("keybearer_replays_total", &[("reason", "refused")]), all as f64);
    assert!(sum("keybearer_replays_total", &[("outcome", "refused")]) >= 1.0, "at least one was really sent again");
    assert_eq!(sum("keybearer_replays_total", &[("outcome", "ok")]), 0.0);
    assert_eq!(sum("keybearer_mints_total", &[("outcome", "ok")]), servers.issuer.minted() as f64);
    let log = proxy.exchanges(usize::try_from(all).unwrap()).await;
    assert!(log.iter().all(|line| line["not_replayed_reason"] == "refused" && line["upstream_status"] == 401));
}

/// What the API itself says to a bad token.
async fn direct_refusal(servers: &Servers) -> Answer {
    let call = request("GET", "/always401", &[("Authorization", "Bearer x")], b"");
    Connection::open(servers.api.address()).await.unwrap().exchange(&call).await.unwrap()
}

/// C18: a path that refuses every token does not spoil another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_refuses_every_token_does_not_spoil_another() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let started = Instant::now();
    let good = load(&proxy, "/orders/good", 8, Amount::Time(load_time())).start();
    let bad = load(&proxy, "/orders/always401", 8, Amount::Time(load_time())).start();
    let (good, bad) = tokio::join!(good.finish(), bad.finish());
    good.assert_all(200);
    bad.assert_all(401);
    let allowed = 1 + BURST + started.elapsed().as_secs() / 30;
    assert!((2..=allowed).contains(&servers.issuer.minted()), "{} mints", servers.issuer.minted());
    servers.assert_always_a_token();
}

/// A fresh named credential that shares the token goes on, and can still have it renewed.
#[tokio::test]
async fn a_refused_named_credential_leaves_others_that_share_its_token_alone() {
    let servers = Servers::start().await;
    let other = format!("[named_credentials.other]\nurl = \"{}\"\nexternal_credential = \"issuer\"\n", servers.url());
    let proxy = run(&(servers.config(&servers.url(), "", "") + &other)).await;
    for _ in 0..5 {
        let answer = http::get(proxy.address, "/orders/always401").await.unwrap();
        assert_not_replayed(&answer, 401, "refused");
    }
    assert_eq!(servers.issuer.minted(), 2);
    assert_eq!(http::get(proxy.address, "/other/good").await.unwrap().status, 200);
    assert_eq!(servers.issuer.minted(), 2, "the token is shared");
    servers.issuer.revoke_all();
    assert_eq!(http::get(proxy.address, "/other/good").await.unwrap().status, 200);
    assert_eq!(servers.issuer.minted(), 3, "and renewed for the other");
    // The good path of the refused one has a later token now, and its success clears the mark.
    assert_eq!(http::get(proxy.address, "/orders/good").await.unwrap().status, 200);
    servers.issuer.revoke_all();
    assert_eq!(http::get(proxy.address, "/orders/good").await.unwrap().status, 200);
    assert_eq!(servers.issuer.minted(), 4);
}

// What is a rejection.

/// C7: insufficient scope is no rejection.
#[tokio::test]
async fn insufficient_scope_is_no_rejection() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "additional_refresh_status_codes = [403]").await;
    for turn in 1..=5 {
        let answer = http::get(proxy.address, "/orders/insufficient_scope").await.unwrap();
        assert_eq!((answer.status, answer.field("proxy-status")), (403, None), "{}", answer.text());
        let line = proxy.exchanges(turn).await.pop().unwrap();
        assert_eq!((&line["renewed"], &line["not_replayed_reason"]), (&json!(false), &Value::Null));
    }
    assert_eq!((servers.issuer.minted(), servers.api.requests()), (1, 5));
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_rejections_total", &[]), 0.0);
}

#[tokio::test]
async fn a_status_that_is_not_listed_is_no_rejection() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    for status in [400, 403, 404, 407, 429, 500, 503] {
        let answer = http::get(proxy.address, &format!("/orders/status/{status}")).await.unwrap();
        assert_eq!((answer.status, answer.field("proxy-status")), (status, None), "{}", answer.text());
    }
    assert_eq!((servers.issuer.minted(), servers.api.requests()), (1, 7));
}

// Which methods are sent again.

/// What became of one request after a first token was refused with `status`: the answer, and how often it was sent.
async fn after(status: u16, replay: &str, method: &str) -> (Answer, usize, Servers) {
    let servers = Servers::start().await;
    let upstream =
        Scripted::start().await.refusing_the_first_token(answer(status, &[("X-Said", "the upstream")], b"no"));
    let url = format!("http://{}", upstream.address);
    let proxy = run(&servers.config(&url, replay, "additional_refresh_status_codes = [403]")).await;
    let body: &[u8] = if matches!(method, "POST" | "PUT" | "PATCH") { b"the body" } else { b"" };
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let answer = caller.exchange(&request(method, "/orders/x", &[], body)).await.unwrap();
    let received = upstream.received();
    assert!(received.iter().all(|request| request.body == body), "{received:#?}");

    // Renewed it is in any case: the next request has the new token.
    let next = caller.exchange(&request("POST", "/orders/x", &[], b"next")).await.unwrap();
    assert_eq!((next.status, next.body.as_slice()), (200, b"next".as_slice()), "{}", next.text());
    assert_eq!(servers.issuer.minted(), 2);
    (answer, received.len(), servers)
}

async fn assert_sent_again(status: u16, replay: &str, method: &str) {
    let (answer, sent, _) = after(status, replay, method).await;
    assert_eq!((answer.status, sent), (200, 2), "{replay} {method} after {status}: {}", answer.text());
    assert_eq!(answer.field("proxy-status"), None);
}

async fn assert_not_sent_again(status: u16, replay: &str, method: &str, reason: &str) {
    let (answer, sent, _) = after(status, replay, method).await;
    assert_eq!(sent, 1, "{replay} {method} after {status}");
    assert_not_replayed(&answer, status, reason);
    assert_eq!((answer.field("x-said"), answer.body.as_slice()), (Some("the upstream"), b"no".as_slice()));
}

/// B45: by default a 401 replays every method, and another code what is idempotent.
#[tokio::test]
async fn by_default_a_401_replays_every_method_and_another_code_what_is_idempotent() {
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_sent_again(401, "", method).await;
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert_sent_again(403, "", method).await;
    }
    for method in ["POST", "PATCH"] {
        assert_not_sent_again(403, "", method, "method").await;
    }
}

#[tokio::test]
async fn replay_always_replays_a_post_after_another_code() {
    for method in ["POST", "PATCH", "GET"] {
        assert_sent_again(403, "replay = \"always\"", method).await;
    }
}

/// B45: `replay = "idempotent"` holds for a 401 too.
#[tokio::test]
async fn replay_idempotent_holds_for_a_401_too() {
    assert_sent_again(401, "replay = \"idempotent\"", "PUT").await;
    assert_sent_again(403, "replay = \"idempotent\"", "GET").await;
    assert_not_sent_again(401, "replay = \"idempotent\"", "POST", "method").await;
    assert_not_sent_again(403, "replay = \"idempotent\"", "POST", "method").await;
}

#[tokio::test]
async fn replay_never_renews_for_the_next_request() {
    for method in ["GET", "POST"] {
        assert_not_sent_again(401, "replay = \"never\"", method, "off").await;
        assert_not_sent_again(403, "replay = \"never\"", method, "off").await;
    }
}

#[tokio::test]
async fn an_answer_to_head_is_replayed_without_a_body() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let mut caller = warm(&proxy).await;
    servers.issuer.revoke_all();
    let answer = caller.exchange(&request("HEAD", "/orders/x", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(caller.exchange(&request("GET", "/orders/x", &[], b"")).await.unwrap().status, 200);
}

// Answers with bodies.

#[tokio::test]
async fn a_large_refusal_is_not_lost() {
    let servers = Servers::start().await;
    let large = content(3 << 20);
    let fields = [("Content-Encoding", "gzip"), ("WWW-Authenticate", "Bearer error=\"invalid_token\"")];
    let upstream = Scripted::start().await.refusing_the_first_token(answer(401, &fields, &large));
    let url = format!("http://{}", upstream.address);
    let proxy = run(&servers.config(&url, "replay = \"never\"", "")).await;
    let refused = http::get(proxy.address, "/orders/x").await.unwrap();
    assert_not_replayed(&refused, 401, "off");
    assert_eq!(refused.field("content-encoding"), Some("gzip"), "as the upstream sent it");
    assert_eq!(sha256(&refused.body), sha256(&large));

    // Where the mint fails the caller has waited with the answer half read; it is still whole.
    let upstream = Scripted::start().await.refusing_the_first_token(answer(401, &fields, &large));
    let proxy = servers.proxy_to(upstream.address, "").await;
    let unavailable = Said { status: 503_u16.try_into().unwrap(), ..Said::default() };
    servers.issuer.behave_once(Behavior::Conforming);
    servers.issuer.behave(Behavior::Answer(unavailable));
    let refused = http::get(proxy.address, "/orders/x").await.unwrap();
    assert_not_replayed(&refused, 401, "mint_failed");
    assert_eq!(sha256(&refused.body), sha256(&large));

    // And where the replay works, the caller sees nothing of it.
    servers.issuer.behave(Behavior::Conforming);
    let upstream = Scripted::start().await.refusing_the_first_token(answer(401, &fields, &large));
    let proxy = servers.proxy_to(upstream.address, "").await;
    let fine = http::post(proxy.address, "/orders/x", b"echoed").await.unwrap();
    assert_eq!((fine.status, fine.body.as_slice()), (200, b"echoed".as_slice()));
    assert_eq!((fine.field("content-encoding"), fine.field("proxy-status")), (None, None));
}

/// What is left of a refusal is worth a moment at most.
#[tokio::test]
async fn a_refusal_that_never_ends_does_not_hold_up_the_replay() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for refusal in [
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nhalf ",
        "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n",
        "HTTP/1.1 401 Unauthorized\r\n\r\nto the end of the connection",
    ] {
        caller.send(&request("POST", "/orders/x", &[], b"the body")).await.unwrap();
        let mut refusing = upstream.accept().await;
        let refused = refusing.request().await;
        refusing.send(refusal.as_bytes()).await;
        let mut accepting = upstream.accept().await;
        let replayed = accepting.request().await;
        assert_ne!(refused.authorization(), replayed.authorization());
        assert_eq!(replayed.body, b"the body");
        assert!(refusing.is_closed().await);
        accepting.send(&answer(200, &[("Connection", "close")], b"fine")).await;
        assert_eq!(caller.answer(true).await.unwrap().body, b"fine");
    }
}

// Mints that do not help.

/// C17, C18: a mint that gives the rejected token again is told and not repeated.
#[tokio::test]
async fn a_mint_that_gives_the_rejected_token_again_is_told_and_not_repeated() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    servers.issuer.behave(Behavior::SameToken);
    let answer = caller.exchange(&request("GET", "/orders/always401", &[], b"")).await.unwrap();
    assert_not_replayed(&answer, 401, "same_token");
    assert_reason_recorded(&proxy, 1, "same_token").await;
    assert_eq!((servers.issuer.token_requests(), servers.api.requests()), (2, 1));
    for _ in 0..10 {
        let answer = caller.exchange(&request("GET", "/orders/always401", &[], b"")).await.unwrap();
        assert_not_replayed(&answer, 401, "refused");
    }
    assert_eq!(servers.issuer.token_requests(), 2, "not asked for again at once");
    assert_eq!(caller.exchange(&request("GET", "/orders/good", &[], b"")).await.unwrap().status, 200);
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_renewals_total", &[("outcome", "same_token")]), 1.0);
}

/// C5: when the mint fails the token at hand stays in use for others.
#[tokio::test]
async fn when_the_mint_fails_the_token_at_hand_stays_in_use_for_others() {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let mut caller = warm(&proxy).await;
    servers.issuer.behave(Behavior::Disconnect);
    let answer = caller.exchange(&request("GET", "/orders/always401", &[], b"")).await.unwrap();
    assert_not_replayed(&answer, 401, "mint_failed");
    assert_reason_recorded(&proxy, 2, "mint_failed").await;
    let tried = servers.issuer.token_requests();
    assert_eq!(tried, 2);
    for _ in 0..20 {
        assert_eq!(caller.exchange(&request("POST", "/orders/good", &[], b"body")).await.unwrap().status, 200);
    }
    assert_eq!(servers.issuer.minted(), 1, "with the old token");
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_renewals_total", &[("outcome", "failed")]), 1.0);
    servers.assert_always_a_token();
}

// Many at once.

/// C16, C18: every one of them was refused with the same token before any knew of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_refusals_cost_one_mint() {
    const CALLERS: usize = 64;
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let running = load(&proxy, "/orders/x", CALLERS, Amount::Requests(1)).start();
    let mut peers = Vec::new();
    let mut tokens = HashSet::new();
    for _ in 0..CALLERS {
        let mut peer = upstream.accept().await;
        tokens.insert(peer.request().await.authorization().to_owned());
        peers.push(peer);
    }
    assert_eq!(tokens.len(), 1);
    for peer in &mut peers {
        peer.send(&answer(401, &[], b"")).await;
    }
    // Each refusal is read to its end, so the replays find these connections again, in whatever order.
    let mut serving = JoinSet::new();
    for mut peer in peers {
        serving.spawn(async move {
            let mut tokens = Vec::new();
            while let Some(request) = peer.next().await {
                tokens.push(request.authorization().to_owned());
                peer.send(&answer(200, &[], b"")).await;
            }
            tokens
        });
    }
    let tally = running.finish().await;
    tally.assert_all(200);
    assert_eq!(tally.answers(), CALLERS as u64);
    drop(proxy);
    let replays = serving.join_all().await.concat();
    assert_eq!(replays.len(), CALLERS);
    let replayed: HashSet<_> = replays.into_iter().collect();
    assert!(replayed.len() == 1 && replayed.is_disjoint(&tokens), "one new token for all");
    assert_eq!(servers.issuer.token_requests(), 2);
}

/// C18: a 401 that comes after the renewal it would ask for belongs to the old token: the new one stays.
#[tokio::test]
async fn a_late_refusal_does_not_drop_the_fresh_token() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, "").await;
    let mut slow = Connection::open(proxy.address).await.unwrap();
    slow.send(&request("POST", "/orders/slow", &[], b"slow")).await.unwrap();
    let mut late = upstream.accept().await;
    let old = late.request().await.authorization().to_owned();

    let mut quick = Connection::open(proxy.address).await.unwrap();
    quick.send(&request("GET", "/orders/quick", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    assert_eq!(peer.request().await.authorization(), old);
    peer.send(&answer(401, &[], b"")).await;
    let fresh = peer.request().await.authorization().to_owned();
    peer.send(&answer(200, &[], b"")).await;
    assert_eq!(quick.answer(true).await.unwrap().status, 200);

    late.send(&answer(401, &[], b"")).await;
    let mut serving = Box::pin(async {
        let again = late.request().await;
        late.send(&answer(200, &[], b"")).await;
        again
    });
    let mut other = Box::pin(async {
        let again = peer.request().await;
        peer.send(&answer(200, &[], b"")).await;
        again
    });
    let again = tokio::select! { again = &mut serving => again, again = &mut other => again };
    assert_eq!((again.authorization(), again.body.as_slice()), (fresh.as_str(), b"slow".as_slice()));
    assert_eq!(slow.answer(true).await.unwrap().status, 200);
    assert_eq!(servers.issuer.token_requests(), 2);
}
