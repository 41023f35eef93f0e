//! An upstream with TLS as a real nginx speaks it.

use std::net::SocketAddr;

use crate::support::certificates::Authority;
use crate::support::http::{Answer, Connection, request};
use crate::support::nginx::{Nginx, Tls};
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Setup, head};

/// A GET and a POST through a proxy whose named credential leads to `upstream` with this `tls` table.
async fn call(issuer: &Issuer, upstream: SocketAddr, tls: &str, files: &[(&str, &str)]) -> [Answer; 2] {
    let url = format!("url = \"https://localhost:{}\"\n{tls}", upstream.port());
    let credentials = issuer.credentials(&CLIENT).replace(&format!("url = \"http://{}\"", issuer.resource), &url);
    let setup = Setup::new(&(head("info") + &credentials)).env("ORDERS_SECRET", CLIENT.secret);
    let proxy = files.iter().fold(setup, |setup, (name, content)| setup.file(name, content)).run().await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    let get = caller.exchange(&request("GET", "/orders/echo", &[], b"")).await.unwrap();
    let post = caller.exchange(&request("POST", "/orders/echo", &[], b"hello")).await.unwrap();
    [get, post]
}

#[tokio::test]
async fn both_versions_of_tls_work_with_a_private_authority() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let authority = Authority::new("a private CA");
    let identity = authority.server();
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let tls = Tls { identity: &identity, protocols, client_authority: None };
        let Some(nginx) = Nginx::start(issuer.resource, Some(tls)).await else { return };
        let files = [("ca.pem", authority.certificate.as_str())];
        for answer in call(&issuer, nginx.address, r#"tls = { ca = "ca.pem" }"#, &files).await {
            assert_eq!(answer.status, 200, "{protocols}: {}", answer.text());
            assert_eq!(answer.field("x-tls-protocol"), Some(protocols));
        }
    }
}

/// C12: a client certificate is shown where it is configured.
#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_configured() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let authority = Authority::new("a private CA");
    let (identity, client) = (authority.server(), authority.client("keybearer"));
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let tls = Tls { identity: &identity, protocols, client_authority: Some(&authority) };
        let Some(nginx) = Nginx::start(issuer.resource, Some(tls)).await else { return };
        let files = [
            ("ca.pem", authority.certificate.as_str()),
            ("client.pem", client.certificate.as_str()),
            ("client.key", client.key.as_str()),
        ];
        let shown = r#"tls = { ca = "ca.pem", certificate = "client.pem", key = "client.key" }"#;
        for answer in call(&issuer, nginx.address, shown, &files).await {
            assert_eq!(answer.status, 200, "{protocols}: {}", answer.text());
            assert_eq!(answer.field("x-tls-client"), Some("CN=keybearer"));
        }
        for answer in call(&issuer, nginx.address, r#"tls = { ca = "ca.pem" }"#, &files).await {
            assert_eq!(answer.status, 400, "nginx asks for a certificate: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn an_authority_that_is_not_ours_is_refused_before_anything_is_sent() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let (authority, stranger) = (Authority::new("a private CA"), Authority::new("another CA"));
    let tls = Tls { identity: &stranger.server(), protocols: "TLSv1.3", client_authority: None };
    let Some(nginx) = Nginx::start(issuer.resource, Some(tls)).await else { return };
    let files = [("ca.pem", authority.certificate.as_str())];
    for answer in call(&issuer, nginx.address, r#"tls = { ca = "ca.pem" }"#, &files).await {
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(answer.field("proxy-status").unwrap().contains("tls"), "{}", answer.head);
    }
    assert_eq!(issuer.stats().await.requests(), 0);
}
