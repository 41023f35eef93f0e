//! A real squid between us and the world, with a login: the token request and the API call both go through it, and so
//! does a renewal.

use crate::support::certificates::Authority;
use crate::support::http::{Connection, request};
use crate::support::nginx::{Nginx, Tls};
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::squid::{LOGIN, Squid};

/// A proxy whose named and external credential lead over TLS through squid, with this password.
async fn proxy(issuer: &Issuer, squid: &Squid, fronts: [&Nginx; 2], authority: &Authority, password: &str) -> Proxy {
    let way = format!(
        "http_proxy = {{ url = \"http://{}\", username = \"{}\", password = {{ env = \"PROXY_PASSWORD\" }} }}\n\
         tls = {{ ca = \"ca.pem\" }}\n",
        squid.address, LOGIN.0
    );
    let [api, tokens] = fronts.map(|front| format!("https://localhost:{}", front.address.port()));
    let credentials = issuer
        .credentials(&CLIENT)
        .replace(&format!("url = \"http://{}\"\n", issuer.resource), &format!("url = \"{api}\"\n{way}"))
        .replace(
            &format!("token_endpoint = \"{}\"\n", issuer.token_endpoint()),
            &format!("token_endpoint = \"{tokens}/token\"\n{way}"),
        );
    Setup::new(&(head("info") + &credentials))
        .env("ORDERS_SECRET", CLIENT.secret)
        .env("PROXY_PASSWORD", password)
        .file("ca.pem", &authority.certificate)
        .run()
        .await
}

#[tokio::test]
async fn tokens_and_calls_go_through_squid_and_so_does_a_renewal() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(squid) = Squid::start().await else { return };
    let authority = Authority::new("a private CA");
    let identity = authority.server();
    let tls = || Some(Tls { identity: &identity, protocols: "TLSv1.3", client_authority: None });
    let Some(api) = Nginx::start(issuer.resource, tls()).await else { return };
    let Some(tokens) = Nginx::start(issuer.issuer, tls()).await else { return };
    let proxy = proxy(&issuer, &squid, [&api, &tokens], &authority, LOGIN.1).await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let mut call = async || {
        let get = caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
        assert_eq!(get.status, 200, "{}", get.text());
        let post = caller.exchange(&request("POST", "/orders/echo", &[], b"hello")).await.unwrap();
        assert_eq!(post.status, 200, "{}", post.text());
    };
    call().await;
    issuer.revoke_all().await;
    call().await;
    let stats = issuer.stats().await;
    assert_eq!((stats.token_requests(), stats.refused(), stats.duplicate_posts()), (2, 1, 0));

    // One tunnel for each token request, and one that all calls share; squid writes a line when one ends, and one for
    // the connection that found it listening.
    drop(proxy);
    let log = squid.log(4).await;
    for front in [&api, &tokens] {
        let target = format!("CONNECT localhost:{}", front.address.port());
        assert!(log.iter().any(|line| line.contains(&target) && line.contains(LOGIN.0)), "{target} in {log:#?}");
    }
}

#[tokio::test]
async fn a_password_that_squid_does_not_know_is_told_as_the_proxy_s_refusal() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let Some(squid) = Squid::start().await else { return };
    let authority = Authority::new("a private CA");
    let identity = authority.server();
    let tls = Some(Tls { identity: &identity, protocols: "TLSv1.3", client_authority: None });
    let Some(api) = Nginx::start(issuer.resource, tls).await else { return };
    let proxy = proxy(&issuer, &squid, [&api, &api], &authority, "wrong").await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let answer = caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 503, "the token endpoint cannot be reached: {}", answer.text());
    assert!(!answer.text().contains(LOGIN.0), "{}", answer.text());
    assert_eq!(issuer.stats().await.token_requests(), 0);
}
