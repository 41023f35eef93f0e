//! Request bodies after a rejection: kept and sent again, under way, over the limit.

use super::*;

const LIMIT: usize = 64 * 1024;
const LIMITED: &str = "replay_limit = \"64KiB\"";

fn chunked(head: &str, body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = format!("{head} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for part in body.chunks(chunk) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// B47: a body as long as the limit is sent again byte for byte.
#[tokio::test]
async fn a_body_as_long_as_the_limit_is_sent_again_byte_for_byte() {
    let servers = Servers::start().await;
    let proxy = servers.proxy(LIMITED, "").await;
    let mut caller = warm(&proxy).await;
    let body = content(LIMIT);
    for call in [request("POST", "/orders/x", &[], &body), chunked("POST /orders/x", &body, 1000)] {
        servers.issuer.revoke_all();
        let answer = caller.exchange(&call).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["body"]["bytes"], LIMIT);
        assert_eq!(answer.json()["body"]["sha256"], sha256(&body));
    }
    assert_eq!((servers.issuer.minted(), servers.api.requests()), (3, 5));
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_replays_total", &[("outcome", "ok")]), 2.0);
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_replay_memory_bytes", &[]), 0.0, "copies do not pile up");
    let log = proxy.exchanges(3).await;
    assert_eq!((&log[2]["bytes_in"], &log[2]["replayed"]), (&json!(LIMIT), &json!(true)));
}

#[tokio::test]
async fn a_body_over_the_limit_gets_the_upstreams_answer_and_the_next_request_the_new_token() {
    let body = content(LIMIT + 1);
    for call in [request("POST", "/orders/x", &[], &body), chunked("POST /orders/x", &body, 1000)] {
        let servers = Servers::start().await;
        let proxy = servers.proxy(LIMITED, "").await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        // The first token is bad from the start: an exchange less to count.
        servers
            .issuer
            .behave_once(Behavior::Members([("access_token".to_owned(), json!("bad"))].into_iter().collect()));
        let answer = caller.exchange(&call).await.unwrap();
        assert_not_replayed(&answer, 401, "body_too_large");
        let direct = direct_refusal(&servers).await;
        assert_eq!(answer.body, direct.body);
        assert_eq!(answer.field("www-authenticate"), direct.field("www-authenticate"));
        assert_reason_recorded(&proxy, 1, "body_too_large").await;
        let next = caller.exchange(&call).await.unwrap();
        assert_eq!(next.json()["body"]["sha256"], sha256(&body), "a live token: the body passes, however long");
        assert_eq!(servers.issuer.minted(), 2);
    }
}

#[tokio::test]
async fn without_memory_for_a_copy_the_upstreams_answer_passes() {
    let servers = Servers::start().await;
    let config = servers.config(&servers.url(), "", "") + "[limits]\nreplay_memory = \"1KiB\"\n";
    let proxy = run(&config).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    servers.issuer.behave_once(Behavior::Members([("access_token".to_owned(), json!("bad"))].into_iter().collect()));
    let body = content(2000);
    let answer = caller.exchange(&request("POST", "/orders/x", &[], &body)).await.unwrap();
    assert_not_replayed(&answer, 401, "budget");
    assert_reason_recorded(&proxy, 1, "budget").await;
    let next = caller.exchange(&request("POST", "/orders/x", &[], &body)).await.unwrap();
    assert_eq!(next.json()["body"]["sha256"], sha256(&body));
    // What fits is kept and given back: more than the memory holds passes, one after the other.
    for _ in 1..BURST {
        servers.issuer.revoke_all();
        let answer = caller.exchange(&request("POST", "/orders/x", &[], &content(1000))).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(Scrape::of(&proxy).await.sum("keybearer_replay_memory_bytes", &[]), 0.0);
}

/// B47: the upstream refuses while the caller is still sending: the copy goes first, then the rest as it comes.
#[tokio::test]
async fn an_upload_under_way_is_replayed_and_goes_on_streaming() {
    for target in ["/orders/report", "/orders/echo"] {
        let servers = Servers::start().await;
        let proxy = servers.proxy(LIMITED, "").await;
        let mut caller = warm(&proxy).await;
        servers.api.refuse_early(true);
        servers.issuer.revoke_all();

        let body = content(4 * LIMIT);
        let whole = chunked(&format!("POST {target}"), &body, 10_000);
        let (early, late) = whole.split_at(LIMIT / 2);
        caller.send(early).await.unwrap();
        // Refused once, and sent again with the new token before the caller has sent the rest.
        within("the request is sent again", PATIENCE, servers.api.requests_reach(3)).await;
        let seen = servers.api.seen();
        assert_eq!(seen.iter().map(|seen| seen.accepted).collect::<Vec<_>>(), [true, false, true]);
        let answer = caller.exchange(late).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        if target.ends_with("echo") {
            assert_eq!((answer.body.len(), sha256(&answer.body)), (body.len(), sha256(&body)));
        } else {
            assert_eq!(answer.json()["body"]["bytes"], body.len());
            assert_eq!(answer.json()["body"]["sha256"], sha256(&body));
        }
        assert_eq!(caller.exchange(&request("GET", "/orders/next", &[], b"")).await.unwrap().status, 200);
        let log = proxy.exchanges(3).await;
        assert_eq!((&log[1]["replayed"], &log[1]["bytes_in"]), (&json!(true), &json!(body.len())), "{}", log[1]);
        assert_eq!(Scrape::of(&proxy).await.sum("keybearer_replay_memory_bytes", &[]), 0.0);
        eventually("the refused upload's connection closes", async || {
            (Scrape::of(&proxy).await.sum("keybearer_upstream_connections", &[]) <= 1.0).then_some(())
        })
        .await;
    }
}

/// Beyond the limit an upload cannot be replayed, but the caller must still learn what the upstream said.
#[tokio::test]
async fn an_upload_under_way_and_over_the_limit_gets_the_upstreams_answer() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, LIMITED).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let whole = chunked("POST /orders/x", &content(8 * LIMIT), 10_000);
    caller.send(&whole[..4 * LIMIT]).await.unwrap();
    let mut peer = upstream.accept().await;
    // What has reached the upstream was read from the caller, and is more than may be kept.
    peer.part(2 * LIMIT).await;
    peer.send(&answer(401, &[("X-Said", "the upstream")], b"no")).await;
    let answer = within("the answer comes early", PATIENCE, caller.answer(true)).await.unwrap();
    assert_not_replayed(&answer, 401, "body_too_large");
    assert_eq!((answer.field("x-said"), answer.body.as_slice()), (Some("the upstream"), b"no".as_slice()));
    within("the token is renewed all the same", PATIENCE, servers.issuer.token_requests_reach(2)).await;
    drop(caller);
    peer.drained().await;
    assert_reason_recorded(&proxy, 1, "body_too_large").await;
}

/// B47: while the token is renewed the upload goes on; when it outgrows its copy meanwhile, there is no replay.
#[tokio::test]
async fn an_upload_that_outgrows_its_copy_during_the_renewal_is_not_replayed() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, LIMITED).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let whole = chunked("POST /orders/x", &content(8 * LIMIT), 10_000);
    caller.send(&whole[..LIMIT / 2]).await.unwrap();
    let mut peer = upstream.accept().await;
    peer.part(LIMIT / 4).await;
    servers.issuer.gate().close();
    peer.send(&answer(401, &[], b"no")).await;
    within("a renewal begins", PATIENCE, servers.issuer.token_requests_reach(2)).await;
    caller.send(&whole[LIMIT / 2..4 * LIMIT]).await.unwrap();
    peer.more(2 * LIMIT).await;
    servers.issuer.gate().open();
    let answer = within("the answer comes", PATIENCE, caller.answer(true)).await.unwrap();
    assert_not_replayed(&answer, 401, "body_too_large");
    assert_eq!(answer.body, b"no");
}

/// Most callers read an answer only when they have sent everything: it must still be there then.
#[tokio::test]
async fn a_caller_that_sends_all_before_it_reads_gets_an_early_refusal_too() {
    let servers = Servers::start().await;
    let upstream = Scripted::start().await;
    let proxy = servers.proxy_to(upstream.address, LIMITED).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let body = content(12 * LIMIT);
    let upload = tokio::spawn(async move { caller.exchange(&request("POST", "/orders/x", &[], &body)).await });
    let mut peer = upstream.accept().await;
    peer.part(2 * LIMIT).await;
    peer.send(&answer(401, &[], b"no")).await;
    drop(peer);
    let answer = within("the caller gets an answer", PATIENCE, upload).await.unwrap().unwrap();
    assert_not_replayed(&answer, 401, "body_too_large");
    assert_eq!(answer.body, b"no");
}

/// B58: pins an answer that was lost: the upstream refuses, closes, and resets what still arrives, so that writing
/// fails while the refusal waits to be read.
#[tokio::test]
async fn an_early_refusal_counts_even_where_the_upstream_resets_the_upload() {
    for _ in 0..20 {
        let servers = Servers::start().await;
        let upstream = Scripted::start().await;
        let proxy = servers.proxy_to(upstream.address, "").await;
        let mut caller = Connection::open(proxy.address).await.unwrap();
        let body = content(2 * LIMIT);
        caller.send(&request("POST", "/orders/x", &[], &body)).await.unwrap();
        let mut refusing = upstream.accept().await;
        refusing.part(LIMIT / 2).await;
        // Whoever sends the replay before the reset has come loses it, and cannot know.
        servers.issuer.gate().close();
        refusing.send(&answer(401, &[], b"no")).await;
        servers.issuer.gate().waiting(1).await;
        drop(refusing);
        servers.issuer.gate().open();
        let mut accepting = upstream.accept().await;
        let replayed = accepting.request().await;
        assert_eq!(sha256(&replayed.body), sha256(&body));
        accepting.send(&answer(200, &[], b"fine")).await;
        assert_eq!(caller.answer(true).await.unwrap().body, b"fine");
    }
}
