//! Secrets and tokens turn up in nothing that the program shows, whatever succeeds or fails.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::json;

use crate::support::canary::{Channels, Scanner};
use crate::support::http::{self, Connection, request};
use crate::support::oidc::{Client, Issuer};
use crate::support::proxy::{Proxy, Setup, head, path};

const GOOD: Client = Client {
    id: "orders",
    secret: "c4n4ry/G00d+Qx7=Zt9 %uWv3&Lk5:Mn8",
    authentication: "client_secret_basic",
    lifetime: 600,
};
const POST: Client = Client {
    id: "post",
    secret: "c4n4ry/P05t+Hy2=Jr6 %eBd1&Xs4:Fc0",
    authentication: "client_secret_post",
    lifetime: 600,
};
/// A secret that the issuer does not take.
const WRONG: &str = "c4n4ry/Wr0n+Ag8=Vb2 %oKe7&Iz3:Tq5";
/// What a caller sends of its own, and what must not travel on.
const CALLER: &str = "c4n4ry-Ca11er-Np6Dw0Sy4Gh9Rj1";
const COOKIE: &str = "c4n4ry-C00kie-Ul3Ob7Mf5Ea8Xi2";
/// In the query: the upstream gets it, no log does.
const QUERY: &str = "c4n4ry-Qu3ry-Kv9Ph1Yc6Tw2Zs0";

/// A closed port on loopback.
fn nowhere() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn config(issuer: &Issuer) -> String {
    let (resource, endpoint) = (issuer.resource, issuer.token_endpoint());
    let named = [("orders", "issuer"), ("post", "posting"), ("wrong", "wrong")].map(|(name, external)| {
        format!("[named_credentials.{name}]\nurl = \"http://{resource}\"\nexternal_credential = \"{external}\"\n")
    });
    let external = [
        ("issuer", GOOD.id, GOOD.authentication, r#"{ env = "GOOD_SECRET" }"#.to_owned()),
        ("posting", POST.id, POST.authentication, r#"{ file = "post.secret" }"#.to_owned()),
        ("wrong", GOOD.id, GOOD.authentication, format!("{{ dangerous_literal = \"{WRONG}\" }}")),
    ]
    .map(|(name, id, authentication, secret)| {
        format!(
            "[external_credentials.{name}]\ntoken_endpoint = \"{endpoint}\"\nclient_id = \"{id}\"\n\
             client_authentication = \"{authentication}\"\nclient_secret = {secret}\n"
        )
    });
    let dead = format!("[named_credentials.dead]\nurl = \"http://{}\"\nexternal_credential = \"issuer\"\n", nowhere());
    [head("trace"), named.concat(), dead, external.concat()].concat()
}

/// Sends a request as a careless caller would; failures of the connection are answers too.
async fn call(proxy: &Proxy, channels: &mut Channels, method: &str, target: &str) {
    let bearer = format!("Bearer {CALLER}");
    let cookie = format!("session={COOKIE}");
    let fields = [("Authorization", bearer.as_str()), ("Proxy-Authorization", &bearer), ("Cookie", &cookie)];
    let request = request(method, target, &fields, if method == "GET" { b"" } else { b"a small body" });
    let mut connection = Connection::open(proxy.address).await.unwrap();
    match connection.exchange(&request).await {
        Ok(answer) => channels.add("answers", &answer.text()),
        Err(error) => channels.add("answers", &error.to_string()),
    }
}

/// Everything that can go well or wrong between caller, proxy, issuer and resource server.
async fn live(proxy: &Proxy, issuer: &Issuer, channels: &mut Channels) -> Vec<String> {
    let mut tokens = Vec::new();
    for target in ["/orders/echo", "/post/echo", "/wrong/echo", "/dead/echo", "/nobody/echo", "/orders/%2e%2e/x"] {
        for method in ["GET", "POST", "TRACE"] {
            call(proxy, channels, method, target).await;
        }
    }
    tokens.extend(issuer.tokens().await);
    issuer.revoke_all().await;
    call(proxy, channels, "POST", "/orders/echo").await;
    call(proxy, channels, "GET", "/orders/status/404").await;
    tokens.extend(issuer.tokens().await);

    // Token endpoints that talk too much: each repeats what it was sent, in a place that someone may log.
    let repeated = r#"{"error":"invalid_client","error_description":"bad {{authorization}} {{body}}"}"#;
    let json = json!({"content-type": "application/json"});
    for (status, headers, body) in [
        (401, &json, repeated),
        (400, &json, r#"{"error":"{{authorization}}{{body}}"}"#),
        (503, &json!({"retry-after": "1"}), "down: {{authorization}} {{body}}"),
        (200, &json, r#"{"access_token":"{{authorization}}\n","token_type":"Bearer"}"#),
        (200, &json, r#"{"access_token":17,"note":"{{authorization}} {{body}}"}"#),
        (200, &json, "{{authorization}} {{body}} is no JSON"),
        (302, &json!({"location": "http://127.0.0.1:1/"}), "{{authorization}}"),
    ] {
        issuer.token_answer(&json!({"status": status, "headers": headers, "body": body})).await;
        issuer.revoke_all().await;
        for target in ["/orders/echo", "/post/echo", "/wrong/echo"] {
            call(proxy, channels, "GET", target).await;
        }
        let setup = &proxy.setup;
        for name in ["orders", "post", "wrong"] {
            let output = setup.output(&["token", name]).await;
            channels.add("token", &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        }
    }
    issuer.token_answer(&json!(null)).await;
    issuer.pause().await;
    call(proxy, channels, "GET", "/post/echo").await;
    issuer.resume().await;
    tokens
}

/// What the other commands say about the same configuration.
async fn ask(proxy: &Proxy, issuer: &Issuer, channels: &mut Channels) -> Vec<String> {
    let config = proxy.setup.config();
    let authorization = format!("authorization: Bearer {CALLER}");
    let cookie = format!("cookie: session={COOKIE}");
    let explain = ["explain", "GET", "http://localhost/orders/x", "-H", &authorization, "-H", &cookie];
    let commands: [(&str, &[&str]); 6] = [
        ("check", &["check"]),
        ("check", &["check", "--format", "json"]),
        ("explain", &explain),
        ("explain", &["explain", "POST", "http://localhost/wrong/x"]),
        ("token", &["token", "orders"]),
        ("token", &["token", "posting"]),
    ];
    for (channel, arguments) in commands {
        let output = proxy.setup.output(&[arguments, &["-c", path(&config)]].concat()).await;
        channels.add(channel, &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
    // A mistake beside a secret: the excerpt that shows the one must not show the other.
    let text = std::fs::read_to_string(&config).unwrap().replace("client_id = \"orders\"", "client_idd = \"orders\"");
    let broken = Setup::new(&text).env("GOOD_SECRET", GOOD.secret).file("post.secret", POST.secret);
    let output = broken.output(&["check"]).await;
    assert_eq!(output.status.code(), Some(78));
    channels.add("check", &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    issuer.tokens().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_token_is_ever_shown() {
    let Some(issuer) = Issuer::start(&[GOOD, POST]).await else { return };
    let setup = Setup::new(&config(&issuer)).env("GOOD_SECRET", GOOD.secret).file("post.secret", POST.secret);
    let mut proxy = setup.run().await;
    let mut channels = Channels::default();

    let mut tokens = live(&proxy, &issuer, &mut channels).await;
    tokens.extend(ask(&proxy, &issuer, &mut channels).await);
    for (channel, target) in [("metrics", "/metrics"), ("status", "/status"), ("status", "/")] {
        channels.add(channel, &http::get(proxy.admin, target).await.unwrap().text());
    }
    // The query is the upstream's business; logs and metrics leave it out. The echo shows it, so its answer is no channel.
    let answer = http::get(proxy.address, &format!("/orders/echo?access_token={QUERY}")).await.unwrap();
    assert!(answer.status != 200 || answer.text().contains(QUERY), "{}", answer.text());
    proxy.process.terminate();
    proxy.process.exit().await;
    channels.add("stdout", &proxy.process.stdout.text());
    channels.add("stderr", &proxy.process.stderr.text());

    assert!(tokens.len() >= 3, "tokens were minted: {}", tokens.len());
    let mut scanner = Scanner::default();
    for (what, secret) in [
        ("the secret of client_secret_basic", GOOD.secret),
        ("the secret of client_secret_post", POST.secret),
        ("the wrong secret", WRONG),
        ("the caller's token", CALLER),
        ("the caller's cookie", COOKIE),
        ("the query", QUERY),
    ] {
        scanner.add(what, secret);
    }
    for token in &tokens {
        scanner.add("a token", token);
    }
    channels.assert_silent(&scanner, &[GOOD.secret, WRONG, CALLER, &tokens[0]]);
}
