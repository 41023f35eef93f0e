//! To which addresses connections are made (C24, C25): what the configuration does not name, or accept, is refused
//! before a packet leaves.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::proxy::head;
use crate::support::scene::{Scene, TokenEndpoint};
use crate::support::scripted::answer;
use crate::support::stage::{Stage, named};

/// What both tables take.
const LINK_LOCAL: &str = "dangerous = { plain_http = true, link_local = true }";
const PLAIN: &str = "dangerous = { plain_http = true }";

fn tables(url: &str, named: &str, token_endpoint: &str, external: &str) -> String {
    format!(
        "[named_credentials.orders]\nurl = \"{url}\"\nexternal_credential = \"issuer\"\n{named}\n\
         [external_credentials.issuer]\ntoken_endpoint = \"{token_endpoint}\"\nclient_id = \"orders\"\n\
         client_secret = {{ dangerous_literal = \"orders-secret\" }}\n{external}\n"
    )
}

/// C25: this machine is reached where the configuration names it, by name or by address.
#[tokio::test]
async fn a_configured_upstream_may_be_on_this_machine() {
    let scene = Scene::start(&tables("http://{upstream}", "", "http://{endpoint}/token", ""), |setup| setup).await;
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
}

/// C24, C25: the resolver reads more as an address than a URL's reader does; what it makes of it is judged too.
#[tokio::test]
async fn a_name_that_leads_to_a_metadata_service_is_refused_at_once() {
    // 169.254.169.254 as one number, and in hexadecimal digits.
    for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376"] {
        let scene =
            Scene::start(&tables(&format!("http://{host}"), PLAIN, "http://{endpoint}/token", ""), |setup| setup).await;
        let begun = Instant::now();
        let answer = scene.get("/orders/x", &[]).await;
        answer.assert_problem(502, host);
        let cause = answer.field("proxy-status").unwrap();
        // A resolver may not know these old forms, which is as good.
        assert!(
            ["destination_ip_prohibited", "dns_error"].iter().any(|error| cause.contains(error)),
            "{host}: {cause}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3), "{host}: it was tried");
    }
}

/// C25: a token endpoint that leads there is refused like an upstream.
#[tokio::test]
async fn a_token_endpoint_that_leads_to_a_metadata_service_is_refused_at_once() {
    let scene = Scene::start(&tables("http://{upstream}", "", "http://2852039166/token", PLAIN), |setup| setup).await;
    let begun = Instant::now();
    let answer = scene.get("/orders/x", &[]).await;
    assert!(matches!(answer.status, 502 | 503), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(3), "it was tried");
    assert_eq!(scene.upstream.connections(), 0);
}

/// C25: what a caller names is foreign, listed or not: it leads into no private network that the configuration has not
/// accepted, and nothing is sent there.
#[tokio::test]
async fn what_callers_name_leads_into_no_private_network() {
    let hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "192.168.1.1", "[fd00::1]"];
    let far = hosts.map(|host| format!("\"{host}:{{port}}\"")).join(", ");
    let forward = format!("forward_proxy = {{ passthrough = [{far}], tunnel = [{far}] }}\n\n[admin]");
    let stage = Stage::set_up(&head("info").replace("[admin]", &forward), &named("orders", "/v1", "")).await;
    let (setup, issuer, upstream) = stage;
    let stage = Stage { issuer, upstream, proxy: setup.run().await };
    let port = stage.upstream.address.port();
    for host in hosts {
        let begun = Instant::now();
        for request in [
            format!("GET http://{host}:{port}/x HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let answer = stage.exchange(&request).await;
            answer.assert_problem(502, &request);
            let cause = answer.field("proxy-status").unwrap();
            assert!(cause.contains("error=destination_ip_prohibited"), "{request}: {cause}");
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{host}: it was tried");
    }
    stage.assert_untouched();
}

/// C25: what a token endpoint names is foreign like what a caller names, `allow` or not.
#[tokio::test]
async fn what_a_token_endpoint_names_leads_into_no_private_network() {
    let far = crate::support::recorder::Recorder::start().await;
    let port = far.address.port();
    for base in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("https://10.0.0.1:{port}"),
        format!("https://[fd00::1]:{port}"),
        format!("https://169.254.169.254:{port}"),
    ] {
        let said =
            json!({ "access_token": "token-1", "token_type": "Bearer", "expires_in": 600, "instance_url": base });
        let endpoint = TokenEndpoint::answering(move |_| answer(200, &[], said.to_string().as_bytes())).await;
        let host = base.split_once("://").unwrap().1;
        let tables = tables("URL", PLAIN, "http://{endpoint}/token", "")
            .replace("\"URL\"", &format!("{{ from_token = \"/instance_url\", allow = [\"{host}\"] }}"));
        let scene = Scene::before(endpoint, &tables, |setup| setup).await;
        let begun = Instant::now();
        let answer = scene.get("/orders/x", &[]).await;
        answer.assert_problem(502, &base);
        let cause = answer.field("proxy-status").unwrap();
        assert!(cause.contains("error=destination_ip_prohibited"), "{base}: {cause}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{base}: it was tried");
        assert_eq!(scene.endpoint.asked().len(), 1);
    }
    assert_eq!(far.connections(), 0);
}

#[tokio::test]
async fn an_address_in_the_configuration_is_refused_by_the_check() {
    let endpoint = TokenEndpoint::start().await;
    for (url, token_endpoint) in
        [("http://169.254.169.254", "http://127.0.0.1:9/token"), ("http://127.0.0.1:9", "http://169.254.169.254/token")]
    {
        let text = crate::support::proxy::head("info") + &tables(url, PLAIN, token_endpoint, PLAIN);
        let output = crate::support::proxy::Setup::new(&text).output(&["check"]).await;
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains("dangerous = { link_local = true }"), "{told}");
        let text = crate::support::proxy::head("info") + &tables(url, LINK_LOCAL, token_endpoint, LINK_LOCAL);
        let output = crate::support::proxy::Setup::new(&text).output(&["check"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(endpoint.asked().is_empty());
}
