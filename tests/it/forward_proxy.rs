//! Callers that have keybearer as their proxy: what they name is held against what is configured.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::support::http::{Connection, request};
use crate::support::proxy::head;
use crate::support::recorder::{Recorder, Reply};
use crate::support::scripted::{Scripted, answer};
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, unavailable, within};

/// A listener that callers may use as their proxy.
fn proxying(forward_proxy: &str) -> String {
    head("info").replace("[admin]", &format!("forward_proxy = {forward_proxy}\n\n[admin]"))
}

/// With one named credential `orders` for `http://localhost:PORT/v1`, and further tables.
async fn stage(forward_proxy: &str, tables: &str) -> Stage {
    let orders = named("orders", "/v1", "").replace("{upstream}", "localhost:{port}");
    Stage::listening(&proxying(forward_proxy), &format!("{orders}{tables}")).await
}

/// The line of the access log with this path.
async fn record(stage: &Stage, path: &str) -> Value {
    let found = stage.proxy.process.stdout.find(|lines| {
        let mut records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| record["path"] == path)
    });
    within("it is recorded", PATIENCE, found).await.expect("the proxy is still running")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: whatever.example\r\n\r\n")
}

/// C27: a host is the same host without case, trailing dot and default port; nothing is cut from the path, and the
/// request goes to the `url` with its credential, whatever scheme and port the caller wrote.
#[tokio::test]
async fn a_named_credential_is_meant_by_its_own_url() {
    let stage = stage("true", "").await;
    let port = stage.upstream.address.port();
    for (target, expected) in [
        (format!("http://localhost:{port}/v1/x?y=1"), "/v1/x?y=1"),
        ("http://localhost/v1/x".to_owned(), "/v1/x"),
        ("http://LOCALHOST:80/v1".to_owned(), "/v1"),
        ("http://localhost./v1/".to_owned(), "/v1/"),
        ("HTTP://localhost.:80/v1?".to_owned(), "/v1?"),
        ("https://localhost/v1/a%20b//c;d".to_owned(), "/v1/a%20b//c;d"),
        ("https://localhost:443/v1/x".to_owned(), "/v1/x"),
    ] {
        let (_, seen) = stage.pass(get(&target)).await;
        assert_eq!((seen.target(), seen.fields("host")), (expected, vec![&*format!("localhost:{port}")]), "{target}");
        assert!(!seen.bearer().is_empty());
    }
    assert_eq!(stage.issuer.token_requests(), 1);
    let record = record(&stage, &format!("http://localhost:{port}/v1/x")).await;
    assert_eq!(record["named_credential"], "orders", "{record}");
}

/// C24, C26, C27: another host, port or path is not what the credential is for, and no spelling makes it so.
#[tokio::test]
async fn what_no_named_credential_covers_is_refused() {
    let stage = stage("true", "").await;
    for target in [
        "http://api.example.com/v1/x",
        "http://localhost.example.com/v1/x",
        "http://xlocalhost/v1/x",
        "http://127.0.0.1/v1/x",
        "http://localhost:81/v1/x",
        "https://localhost:80/v1/x",
        "http://localhost:443/v1/x",
        "http://localhost/v1x",
        "http://localhost/v2",
        "http://localhost/V1/x",
        "http://localhost//v1/x",
        "http://localhost/",
        "http://localhost",
        "http://localhost/orders/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/v1/x",
    ] {
        let answer = stage.exchange(get(target)).await;
        answer.assert_problem(404, target);
        assert!(answer.text().contains("forward_proxy.passthrough"), "{target}: {}", answer.text());
    }
    for target in [
        "http://localhost/v1/../x",
        "http://localhost/v1/%2e%2e/x",
        "http://localhost/v1/a%2Fb",
        "http://localhost/v1/..%2f",
        "http://localhost/v1/..;/x",
        "http://user:pass@localhost/v1/x",
        "http://localhost@evil.example/v1/x",
        "http://evil.example@localhost/v1/x",
        "http://localhost%2eevil.example/v1/x",
        "http://localhost:0/v1/x",
        "http://localhost:99999/v1/x",
        "http://local%68ost/v1/x",
        "http://localhost../v1/x",
        "ftp://localhost/v1/x",
        "http:///v1/x",
    ] {
        stage.exchange(get(target)).await.assert_problem(400, target);
    }
    stage.assert_untouched();
}

#[tokio::test]
async fn match_host_is_meant_in_both_forms_and_its_prefix_is_cut() {
    let keys = "match = { host = \"crm.internal\", path = \"/api\", methods = [\"GET\"] }";
    let stage = stage("true", &named("crm", "/crm", keys)).await;
    for target in ["http://crm.internal/api/x", "http://CRM.internal.:8080/api/x", "https://crm.internal/api/x"] {
        let (_, seen) = stage.pass(get(target)).await;
        assert_eq!(seen.target(), "/crm/x", "{target}");
    }
    let (_, seen) = stage.pass("GET /api/x HTTP/1.1\r\nHost: crm.internal\r\n\r\n").await;
    assert_eq!(seen.target(), "/crm/x");
    let refused = stage.exchange("POST http://crm.internal/api/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let refused = refused.await;
    refused.assert_problem(405, "POST");
    assert_eq!(refused.field("allow"), Some("GET"));
    stage.exchange(get("http://crm.internal/x")).await.assert_problem(404, "outside its path");
}

#[tokio::test]
async fn such_a_listener_serves_its_own_paths_as_before() {
    let stage = stage("true", "").await;
    let address = stage.proxy.address;
    for target in ["/orders/x".to_owned(), format!("http://{address}/orders/x")] {
        let (_, seen) = stage.pass(get(&target).replace("whatever.example", &address.to_string())).await;
        assert_eq!(seen.target(), "/v1/x", "{target}");
    }
    stage.exchange(get("/orders/x")).await.assert_problem(421, "rebinding");
}

/// C28: what the caller sends to prove itself is ours to judge and ends here; one credential goes out.
#[tokio::test]
async fn no_credential_of_the_caller_goes_out_beside_ours() {
    let stage = stage("true", "").await;
    let fields = [
        ("Authorization", "Bearer canary"),
        ("Proxy-Authorization", "Basic canary"),
        ("Proxy-Connection", "keep-alive"),
        ("Cookie", "canary=1"),
        ("DPoP", "canary"),
        ("X-Forwarded-Host", "canary.example"),
        ("Connection", "authorization"),
    ];
    let absolute = |fields: &[(&str, &str)]| request("GET", "http://localhost/v1/x", fields, b"");
    stage.exchange(absolute(&fields)).await.assert_problem(400, "Connection names Authorization");
    let (_, seen) = stage.pass(absolute(&fields[..6])).await;
    assert!(!seen.head.contains("canary"), "{}", seen.head);
    assert!(!seen.names().contains(&"proxy-connection".to_owned()), "{}", seen.head);
    assert!(!seen.bearer().is_empty());
    for alias in ["Proxy_Authorization", "Proxy.Authorization", "X_Forwarded_Host"] {
        stage.exchange(absolute(&[(alias, "canary")])).await.assert_problem(400, alias);
    }
}

/// C24: a redirect is the caller's to follow; its Location is not ours to change, and the credential stays.
#[tokio::test]
async fn redirects_are_passed_on_and_not_followed() {
    let other = Recorder::start().await;
    let stage = stage("true", "").await;
    for (status, location) in [
        (301, format!("http://{}/v1/elsewhere", other.address)),
        (302, "https://evil.example/v1".to_owned()),
        (303, "//evil.example/v1".to_owned()),
        (307, "../../admin".to_owned()),
        (308, format!("http://localhost:{}/v1/y", stage.upstream.address.port())),
    ] {
        stage.upstream.next(Reply::new(answer(status, &[("location", &location)], b"")));
        let before = stage.upstream.requests().len();
        let answer = stage.exchange(get("http://localhost/v1/x")).await;
        assert_eq!((answer.status, answer.field("location")), (status, Some(&*location)));
        assert_eq!(stage.upstream.requests().len(), before + 1);
    }
    assert_eq!(other.connections(), 0);
}

/// C27: only the target decides; not even the Host field does, which an absolute target overrules.
#[tokio::test]
async fn no_field_and_no_query_chooses_another_route() {
    let stage = stage("true", &named("admin", "/admin", "match = { host = \"admin.internal\" }")).await;
    let fields = [
        ("X-Original-URL", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-Forwarded-Host", "admin.internal"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "1"),
        ("X-Host", "admin.internal"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Forwarded", "host=admin.internal"),
    ];
    let bytes = request("GET", "http://localhost/v1/x?host=admin.internal", &fields, b"");
    let bytes = String::from_utf8(bytes).unwrap();
    let host = bytes.lines().find(|line| line.to_ascii_lowercase().starts_with("host:")).unwrap().to_owned();
    let (_, seen) = stage.pass(bytes.replace(&host, "Host: admin.internal")).await;
    assert_eq!(seen.line(), "GET /v1/x?host=admin.internal HTTP/1.1");
    assert_eq!(seen.fields("host").len(), 1);
}

const PASSTHROUGH: &str = "{ passthrough = [\"127.0.0.1:{port}\"] }\ndangerous = { private = true }";

/// C24: where nothing of ours belongs, nothing of ours goes; what the caller has for that host does.
#[tokio::test]
async fn a_listed_host_is_reached_as_it_is_without_a_credential() {
    let stage = stage(PASSTHROUGH, "").await;
    let target = format!("http://{}/a/../b%2Fc?d", stage.upstream.address);
    let fields = [
        ("Authorization", "Bearer the-callers-own"),
        ("Cookie", "session=1"),
        ("Proxy-Authorization", "Basic canary"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Forwarded-For", "canary"),
        ("X-Thing", "1"),
    ];
    let (_, seen) = stage.pass(request("POST", &target, &fields, b"body")).await;
    assert_eq!(seen.line(), "POST /a/../b%2Fc?d HTTP/1.1");
    assert_eq!(seen.fields("host"), [stage.upstream.address.to_string()]);
    assert_eq!(seen.fields("authorization"), ["Bearer the-callers-own"]);
    assert_eq!((seen.fields("cookie"), seen.fields("x-thing")), (vec!["session=1"], vec!["1"]));
    assert_eq!(seen.body, b"body");
    assert!(!seen.head.contains("canary") && !seen.names().contains(&"proxy-connection".to_owned()), "{}", seen.head);
    let via = seen.fields("via")[0].to_owned();
    assert!(via.contains("keybearer-"), "{via}");
    assert_eq!(stage.issuer.token_requests(), 0, "no token is touched");
    let record = record(&stage, &format!("http://{}/a/../b%2Fc", stage.upstream.address)).await;
    assert!(record["named_credential"].is_null() && record["status"] == 200, "{record}");

    let looped = request("GET", &target, &[("Via", &via)], b"");
    stage.exchange(looped).await.assert_problem(508, "what we sent came back");
    let twice = request("GET", &target, &[("Authorization", "a"), ("Authorization", "b")], b"");
    stage.exchange(twice).await.assert_problem(400, "two credentials");
}

#[tokio::test]
async fn what_is_not_listed_is_not_reached() {
    let stage = stage(PASSTHROUGH, "").await;
    let port = stage.upstream.address.port();
    for target in [
        "http://127.0.0.1/x".to_owned(),
        format!("http://localhost:{port}/x"),
        format!("http://127.0.0.2:{port}/x"),
        format!("http://127.1:{port}/x"),
        format!("http://0x7f000001:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
    ] {
        stage.exchange(get(&target)).await.assert_problem(404, &target);
    }
    let reading = format!("http://127.0.0.1:{port}//evil.example/x");
    stage.exchange(get(&reading)).await.assert_problem(400, "reads as an authority");
    let trace = format!("TRACE http://127.0.0.1:{port}/x HTTP/1.1\r\nHost: x\r\n\r\n");
    stage.exchange(trace).await.assert_problem(405, "TRACE");
    stage.assert_untouched();
}

/// A page that another site shows may not use the proxy either.
#[tokio::test]
async fn a_web_page_of_another_site_is_refused() {
    let stage = stage("true", "").await;
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Referer", "http://evil.example/a/page"),
    ] {
        let bytes = request("GET", "http://localhost/v1/x", &[(name, value)], b"");
        stage.exchange(bytes).await.assert_problem(403, name);
    }
    stage.assert_untouched();
    for own in [("Referer", "http://localhost/v1/page"), ("Origin", "http://localhost"), ("Sec-Fetch-Site", "none")] {
        stage.pass(request("GET", "http://localhost/v1/x", &[own], b"")).await;
    }
    // What is asked of us in origin-form is judged as ever.
    let address = stage.proxy.address.to_string();
    stage.pass(format!("GET /orders/x HTTP/1.1\r\nHost: {address}\r\nReferer: http://evil.example/\r\n\r\n")).await;
}

/// A page is made of what other hosts serve, and what is passed through has nothing of ours.
#[tokio::test]
async fn a_page_may_load_what_is_passed_through() {
    let stage = stage(PASSTHROUGH, "").await;
    let target = format!("http://{}/image", stage.upstream.address);
    let (_, seen) = stage.pass(request("GET", &target, &[("Referer", "http://a.example/a/page")], b"")).await;
    assert_eq!(seen.fields("referer"), ["http://a.example/a/page"]);
}

/// B8: on a listener that is no proxy, an absolute target is for us or for nobody.
#[tokio::test]
async fn a_listener_that_is_no_proxy_is_none() {
    for forward_proxy in ["false", ""] {
        let head = match forward_proxy {
            "" => head("info"),
            text => proxying(text),
        };
        let stage = Stage::listening(&head, &named("orders", "/v1", "")).await;
        let target = format!("http://{}/v1/x", stage.upstream.address);
        stage.exchange(get(&target)).await.assert_problem(404, "the upstream's own URL");
        stage.exchange(get("http://api.example.com/v1/x")).await.assert_problem(421, "another host");
        stage.assert_untouched();
    }
}

async fn output(command: &mut Command) -> Option<Output> {
    match within("it ends", PATIENCE, command.kill_on_drop(true).output()).await {
        Ok(output) => Some(output),
        Err(error) => unavailable(&format!("{command:?}: {error}")),
    }
}

#[tokio::test]
async fn curl_and_python_use_it_by_their_own_settings() {
    let stage = stage("true", "").await;
    let proxy = format!("http://{}", stage.proxy.address);
    let Some(curl) =
        output(Command::new("curl").args(["-sS", "-f", "-x", &proxy, "http://localhost:80/v1/curl"])).await
    else {
        return;
    };
    assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
    let seen = stage.upstream.last();
    assert_eq!(seen.target(), "/v1/curl");
    assert!(!seen.bearer().is_empty());

    let script = "import urllib.request; print(urllib.request.urlopen('http://localhost/v1/python').status)";
    let mut python = Command::new("python3");
    python
        .args(["-c", script])
        .env("HTTP_PROXY", &proxy)
        .env("http_proxy", &proxy)
        .env("NO_PROXY", "")
        .env("no_proxy", "");
    let Some(python) = output(&mut python).await else { return };
    assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), "200", "{}", String::from_utf8_lossy(&python.stderr));
    assert_eq!(stage.upstream.last().target(), "/v1/python");
}

#[tokio::test]
async fn explain_shows_what_such_a_caller_would_get() {
    let tables = named("orders", "/v1", "").replace("http://{upstream}", "https://api.example.com");
    let (setup, ..) =
        Stage::set_up(&proxying("{ passthrough = [\"*.example.org\"], tunnel = [\"t.example\"] }"), &tables).await;
    for (arguments, expected) in [
        (["GET", "http://api.example.com/v1/x"], "to https://api.example.com"),
        (["GET", "http://api.example.com/v1/x"], "GET /v1/x HTTP/1.1"),
        (["GET", "http://api.example.com/v1/x"], "authorization: Bearer ********"),
        (["GET", "http://www.example.org/x"], "named credential     none"),
        (["GET", "http://www.example.org/x"], "to http://www.example.org"),
        (["GET", "http://other.example/x"], "refused: 404"),
        (["CONNECT", "t.example:443"], "a tunnel is opened"),
        (["CONNECT", "api.example.com:443"], "refused: 405"),
    ] {
        let output = setup.output(&["explain", arguments[0], arguments[1]]).await;
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(expected), "{arguments:?}: {told}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Requests of many callers over one connection of theirs go where each says.
#[tokio::test]
async fn one_connection_serves_both_kinds() {
    let stage = stage(PASSTHROUGH, "").await;
    let mut caller = Connection::open(stage.proxy.address).await.unwrap();
    for target in ["http://localhost/v1/x".to_owned(), format!("http://{}/v1/x", stage.upstream.address)] {
        let answer = caller.exchange(get(&target).as_bytes()).await.unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    }
    let seen = stage.upstream.requests();
    assert_eq!(seen[0].fields("authorization").len(), 1);
    assert_eq!(seen[1].fields("authorization").len(), 0);
}

/// C30: a connection that one caller has logged in at a host of its choice serves no other caller.
#[tokio::test]
async fn a_connection_that_a_caller_logged_in_is_not_shared() {
    let far = Scripted::start().await;
    let forward = format!("{{ passthrough = [\"{}\"] }}\ndangerous = {{ private = true }}", far.address);
    let stage = stage(&forward, "").await;
    let target = format!("http://{}/x", far.address);
    for fields in ["Authorization: NTLM TlRMTVNTUAAD\r\n", "", "Authorization: negotiate YIIJ\r\n", ""] {
        let mut caller = stage.caller().await;
        caller
            .send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut peer = far.accept().await;
        assert_eq!(peer.request().await.head.contains("uthorization: "), !fields.is_empty());
        peer.send(&answer(200, &[("connection", "keep-alive")], b"ok")).await;
        assert_eq!(caller.head().await.unwrap().status, 200);
        if fields.is_empty() {
            // It would be shared; the next round shall find none.
            drop(peer);
        } else {
            assert!(peer.is_closed().await);
        }
    }
}
