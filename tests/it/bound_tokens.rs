//! Tokens that are worth nothing without a key of ours: DPoP (RFC 9449) and certificate-bound ones (RFC 8705), before
//! a resource server that checks the binding of each.

use serde_json::json;

use crate::support::certificates::Authority;
use crate::support::http::{self, Connection, request};
use crate::support::oidc::{Issuer, RESOURCE};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::scripted::{self, Scripted};

const SECRET: &str = "orders-secret-0123456789abcdef";

/// Requests of one run.
const REQUESTS: u64 = 40;

/// With the issuer's own resource server behind the proxy.
async fn with_dpop(nonces: bool) -> Option<(Issuer, Proxy)> {
    let issuer = issuer_of_bound_tokens(nonces).await?;
    let proxy = proxy_to(&issuer.resource.to_string(), &issuer).await;
    Some((issuer, proxy))
}

async fn issuer_of_bound_tokens(nonces: bool) -> Option<Issuer> {
    let client = json!({"client_id": "orders", "client_secret": SECRET,
                        "metadata": {"dpop_bound_access_tokens": true}});
    let settings = json!({"clients": [client], "resources": [RESOURCE], "dpop_nonces": nonces});
    Issuer::with(&settings).await
}

async fn proxy_to(api: &str, issuer: &Issuer) -> Proxy {
    let config = format!(
        "{head}[named_credentials.orders]\nurl = \"http://{api}\"\nexternal_credential = \"orders\"\n\
         [external_credentials.orders]\ntoken_endpoint = \"{endpoint}\"\nclient_id = \"orders\"\n\
         client_secret = {{ env = \"ORDERS_SECRET\" }}\ndpop = true\nresource = \"{RESOURCE}\"\n",
        head = head("info"),
        endpoint = issuer.token_endpoint(),
    );
    Setup::new(&config).env("ORDERS_SECRET", SECRET).run().await
}

/// C28: an answer that repeats the token and the proof of its request tells neither to the caller.
#[tokio::test]
async fn an_answer_does_not_repeat_the_proof() {
    let Some(issuer) = issuer_of_bound_tokens(false).await else { return };
    let upstream = Scripted::start().await;
    let proxy = proxy_to(&upstream.address.to_string(), &issuer).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    caller.send(&request("GET", "/orders/x", &[], b"")).await.unwrap();
    let mut peer = upstream.accept().await;
    let seen = peer.request().await;
    let (proof, token) = (seen.field("dpop").unwrap(), seen.authorization().trim_start_matches("DPoP "));
    peer.send(&scripted::answer(200, &[("x-proof", proof), ("x-token", token)], b"ok")).await;
    let answer = caller.answer(true).await.unwrap();
    assert_eq!((answer.field("x-proof"), answer.field("x-token")), (Some("***"), Some("***")), "{}", answer.head);
}

/// C13: every request carries a proof of its own.
#[tokio::test]
async fn every_request_carries_a_proof_of_its_own() {
    let Some((issuer, proxy)) = with_dpop(false).await else { return };
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for number in 0..REQUESTS {
        let sent = match number % 3 {
            0 => request("GET", "/orders/echo?x=1", &[], b""),
            1 => request("POST", "/orders/echo", &[], b"an order"),
            _ => request("PUT", "/orders/echo/a%20b", &[("DPoP", "the caller's own")], b"an order"),
        };
        let answer = caller.exchange(&sent).await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.process.stderr.text());
        assert_eq!(answer.json()["scheme"], "DPoP");
    }
    let stats = issuer.stats().await;
    assert_eq!((stats.token_requests(), stats.with_proof(), stats.refused()), (1, REQUESTS, 0));

    issuer.revoke_all().await;
    let answer = caller.exchange(&request("POST", "/orders/echo", &[], b"an order")).await.unwrap();
    assert_eq!(answer.status, 200, "renewed and replayed: {}", answer.text());
    assert_eq!(issuer.stats().await.token_requests(), 2);
}

/// C13: nonces of both servers are obeyed without another mint.
#[tokio::test]
async fn nonces_of_both_servers_are_obeyed_without_another_mint() {
    let Some((issuer, proxy)) = with_dpop(true).await else { return };
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for number in 0..REQUESTS {
        if number % 10 == 5 {
            issuer.new_nonce().await;
        }
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let answer = caller.exchange(&request(method, "/orders/echo", &[], b"an order")).await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.process.stderr.text());
    }
    let stats = issuer.stats().await;
    // The token endpoint asks for a nonce once; the resource server at first, and after each change.
    assert_eq!((stats.token_requests(), stats.token_answers(400), stats.token_answers(200)), (2, 1, 1));
    assert_eq!((stats.with_proof(), stats.nonces_asked(), stats.refused()), (REQUESTS, 5, 0));
    let log = proxy.exchanges(usize::try_from(REQUESTS).unwrap()).await;
    assert!(log.iter().all(|line| line["renewed"] == json!(false)), "a nonce is no reason to renew");
}

/// C12: the certificate that a token is bound to is shown to the upstream.
#[tokio::test]
async fn the_certificate_that_a_token_is_bound_to_is_shown_to_the_upstream() {
    let authority = Authority::new("a private authority");
    let (server, ours, other) = (authority.server(), authority.client("orders"), authority.client("another"));
    let client = json!({"client_id": "orders", "authentication": "tls_client_auth",
                        "metadata": {"tls_client_auth_subject_dn": "CN=orders",
                                     "tls_client_certificate_bound_access_tokens": true}});
    let tls = json!({"key": server.key, "cert": server.certificate, "ca": authority.certificate});
    let Some(issuer) = Issuer::with(&json!({"clients": [client], "resources": [RESOURCE], "tls": tls})).await else {
        return;
    };
    let config = format!(
        "{head}[named_credentials.orders]\nurl = \"https://localhost:{api}\"\nexternal_credential = \"orders\"\n\
         tls = {{ ca = \"ca.pem\" }}\n\
         [named_credentials.stolen]\nurl = \"https://localhost:{api}\"\nexternal_credential = \"orders\"\n\
         tls = {{ ca = \"ca.pem\", certificate = \"other.pem\", key = \"other.key\" }}\n\
         [external_credentials.orders]\nissuer = \"https://localhost:{issuer}\"\nclient_id = \"orders\"\n\
         client_authentication = \"tls_client_auth\"\n\
         tls = {{ ca = \"ca.pem\", certificate = \"orders.pem\", key = \"orders.key\" }}\n",
        head = head("info"),
        api = issuer.resource.port(),
        issuer = issuer.issuer.port(),
    );
    let proxy = Setup::new(&config)
        .file("ca.pem", &authority.certificate)
        .file("orders.pem", &ours.certificate)
        .file("orders.key", &ours.key)
        .file("other.pem", &other.certificate)
        .file("other.key", &other.key)
        .run()
        .await;
    let answer = http::get(proxy.address, "/orders/echo").await.unwrap();
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.process.stderr.text());
    assert!(answer.json()["token"]["cnf"]["x5t#S256"].is_string(), "the token is bound: {}", answer.text());
    assert_eq!(issuer.stats().await.unbound(), 0);

    // The control: over a connection with another certificate the resource server takes the same token for stolen.
    let answer = http::get(proxy.address, "/stolen/echo").await.unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(issuer.stats().await.unbound() > 0);
}
