//! Through the proxy to a certified OAuth server and a resource server that checks each token by introspection.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::support::http::{Connection, request};
use crate::support::oidc::{CLIENT, Client, Issuer, RESOURCE};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::unavailable;

/// One gibibyte.
const GIBIBYTE: u64 = 1 << 30;

/// What the proxy may need at its peak, however long the bodies are.
const MEMORY: u64 = 64 << 20;

async fn start(client: &Client) -> Option<(Issuer, Proxy)> {
    let issuer = Issuer::start(std::slice::from_ref(client)).await?;
    let config = head("info") + &issuer.credentials(client);
    let proxy = Setup::new(&config).env("ORDERS_SECRET", client.secret).run().await;
    Some((issuer, proxy))
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn every_kind_of_exchange_passes_with_one_token() {
    let Some((issuer, proxy)) = start(&CLIENT).await else { return };
    let mut caller = Connection::open(proxy.address).await.unwrap();

    let answer = caller.exchange(&request("GET", "/orders/echo?x=%41&y", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["path"]), (&json!("GET"), &json!("/echo?x=%41&y")));
    assert_eq!((&seen["authorizations"], &seen["scheme"]), (&json!(1), &json!("Bearer")));
    assert_eq!(seen["token"]["client_id"], CLIENT.id);

    let body = br#"{"order": 42}"#;
    let answer = caller.exchange(&request("POST", "/orders/echo", &[], body)).await.unwrap();
    assert_eq!(answer.json()["body"], json!({"length": body.len(), "sha256": sha256(body)}));

    let chunked = b"POST /orders/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                    5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\n\r\n";
    let answer = caller.exchange(chunked).await.unwrap();
    assert_eq!(answer.json()["body"], json!({"length": 12, "sha256": sha256(b"hello, world")}));

    let answer = caller.exchange(&request("HEAD", "/orders/echo", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.field("content-length").is_some(), "{}", answer.head);
    assert_eq!(caller.exchange(&request("GET", "/orders/status/204", &[], b"")).await.unwrap().status, 204);
    let answer = caller.exchange(&request("GET", "/orders/status/304", &[], b"")).await.unwrap();
    assert_eq!((answer.status, answer.field("etag")), (304, Some("\"v1\"")));
    let answer = caller.exchange(&request("GET", "/orders/status/404", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 404, "the upstream's own answer");

    let stats = issuer.stats().await;
    assert_eq!((stats.token_requests(), stats.requests(), stats.without_token()), (1, 7, 0));
    let log = proxy.exchanges(7).await;
    assert_eq!(log.len(), 7);
    assert_eq!((&log[0]["path"], &log[0]["status"]), (&json!("/orders/echo"), &json!(200)));
    assert_eq!((&log[0]["named_credential"], &log[0]["external_credential"]), (&json!("orders"), &json!("issuer")));
    assert_eq!((&log[0]["renewed"], &log[0]["replayed"]), (&json!(false), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_does_not_grow_the_proxy() {
    let Some((_issuer, proxy)) = start(&CLIENT).await else { return };

    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", &format!("/orders/bytes/{GIBIBYTE}"), &[], b"")).await.unwrap();
    let head = caller.head().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(caller.body(&head, |_| ()).await.unwrap(), GIBIBYTE);

    let length = GIBIBYTE.to_string();
    let head = format!("PUT /orders/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    caller.send(head.as_bytes()).await.unwrap();
    let part = vec![b'x'; 64 * 1024];
    for _ in 0..GIBIBYTE / part.len() as u64 {
        caller.send(&part).await.unwrap();
    }
    assert_eq!(caller.answer(true).await.unwrap().json()["received"], GIBIBYTE);

    let peak = proxy.process.memory("VmHWM");
    let Some(peak) = peak.or_else(|| unavailable("this system does not tell a process's peak memory")) else { return };
    assert!(peak < MEMORY, "the proxy needed {} MiB at its peak", peak >> 20);
}

/// C2: a secret of special characters gets a token either way.
#[tokio::test]
async fn a_secret_of_special_characters_gets_a_token_either_way() {
    for authentication in ["client_secret_basic", "client_secret_post"] {
        let client = Client { id: "od_d:i d", secret: "p%C+s/=: &\"'~\\x{y}$", authentication, lifetime: 600 };
        let Some((_issuer, proxy)) = start(&client).await else { return };
        let mut caller = Connection::open(proxy.address).await.unwrap();
        let answer = caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
        assert_eq!(answer.status, 200, "{authentication}: {}", answer.text());
        assert_eq!(answer.json()["token"]["client_id"], client.id);
    }
}

/// C14: the token is asked for with resource and scope.
#[tokio::test]
async fn the_token_is_asked_for_with_resource_and_scope() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let config =
        format!("{}{}resource = \"{RESOURCE}\"\nscope = \"orders.read\"\n", head("info"), issuer.credentials(&CLIENT));
    let proxy = Setup::new(&config).env("ORDERS_SECRET", CLIENT.secret).run().await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let answer = caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["token"], json!({"client_id": CLIENT.id, "scope": "orders.read", "aud": RESOURCE}));
}
