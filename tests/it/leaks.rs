//! Every kind of secret at once, everything that can fail, and every place where something could be read afterwards.

use std::net::SocketAddr;
use std::path::Path;

use crate::support::canary::{Channels, Scanner};
use crate::support::certificates::Authority;
use crate::support::http::{Connection, request};
use crate::support::proxy::{Proxy, Setup, head, path};
use crate::support::scene::{TokenEndpoint, sha256};
use crate::support::scripted::{Received, Scripted, Serving, answer};

const SECRET: &str = "c4n4ry/S3cret+Qx7=Zt9 %uWv3&Lk5:Mn8";
const REFRESH: &str = "c4n4ry-Refr35h-Wd5Lq8Zb2Kx7";
const API_KEY: &str = "c4n4ry-4piK3y-Np6Dw0Sy4Gh9Rj1";
const PROXY: &str = "c4n4ry-Pr0xy:Dz5 Kf9&Yw2Hs8";
const BEARER: &str = "c4n4ry-Bear3r-Ul3Ob7Mf5Ea8Xi2";
/// What every access token begins with.
const TOKEN: &str = "c4n4ry-t0k3n-Vb4Jc6Xe1Yo9Pu7";

/// Ways in which a token endpoint answers, by the last segment of its path; most repeat what they were sent.
const ENDPOINTS: [&str; 12] = [
    "good", "bad401", "bad400", "odd400", "page403", "down503", "limit429", "moved307", "notext", "twolines", "nojson",
    "broken",
];

/// What the endpoint named so says.
fn said(name: &str, asked: &Received, count: usize) -> Vec<u8> {
    let json = ("content-type", "application/json");
    let repeated = format!("{} {}", asked.head.replace("\r\n", " | "), String::from_utf8_lossy(&asked.body));
    let quoted = serde_json::to_string(&repeated).unwrap();
    let complaint = |code: &str| format!(r#"{{"error":"{code}","error_description":{quoted}}}"#).into_bytes();
    match name {
        "bad401" => answer(401, &[json], &complaint("invalid_client")),
        "bad400" => answer(400, &[json], &complaint("invalid_scope")),
        "odd400" => answer(400, &[json], format!(r#"{{"error":{quoted}}}"#).as_bytes()),
        "page403" => answer(403, &[("content-type", "text/html")], repeated.as_bytes()),
        "down503" => answer(503, &[("retry-after", "1")], repeated.as_bytes()),
        "limit429" => answer(429, &[("retry-after", "1"), json], &complaint("slow_down")),
        "moved307" => answer(307, &[("location", "http://127.0.0.1:1/elsewhere")], repeated.as_bytes()),
        "notext" => answer(200, &[json], format!(r#"{{"access_token":17,"note":{quoted}}}"#).as_bytes()),
        "twolines" => answer(200, &[json], format!(r#"{{"access_token":"{TOKEN}\r\nx: {count}"}}"#).as_bytes()),
        "nojson" => answer(200, &[json], format!("{TOKEN} {repeated}").as_bytes()),
        "broken" => format!("HTTP/1.1 2x0 {TOKEN}\r\n\r\n").into_bytes(),
        _ => {
            let body = format!(
                r#"{{"access_token":"{TOKEN}-{count}","token_type":"Bearer","expires_in":3600,"scope":"a","refresh_token":"{REFRESH}-next"}}"#
            );
            answer(200, &[json], body.as_bytes())
        }
    }
}

/// An upstream that gives the token back in its fields, refuses it, or answers nonsense, as the path says.
async fn upstream() -> Serving {
    Scripted::start().await.serve(|asked| {
        let authorization = asked.field("authorization").unwrap_or_default().to_owned();
        let token = authorization.rsplit(' ').next().unwrap();
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{token} is over\"");
        let cookie = format!("session={token}; Path=/");
        match asked.head.split(' ').nth(1).unwrap() {
            "/reflect" => answer(
                200,
                &[
                    ("X-Authorization", &authorization),
                    ("X-Token", token),
                    ("Set-Cookie", &cookie),
                    ("X-Two", &format!("{token}{token}")),
                ],
                b"fine",
            ),
            "/refuse" => answer(401, &[("WWW-Authenticate", &challenge)], b"refused"),
            "/nonsense" => format!("HTTP/1.1 2x0 {authorization}\r\n\r\n").into_bytes(),
            "/nofield" => format!("HTTP/1.1 200 OK\r\n{token}\r\n\r\n").into_bytes(),
            "/twice" => {
                format!("HTTP/1.1 200 OK\r\nX: {token}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").into_bytes()
            }
            _ => answer(200, &[], b"fine"),
        }
    })
}

const PATHS: [&str; 6] = ["/fine", "/reflect", "/refuse", "/nonsense", "/nofield", "/twice"];

/// The pairs of credentials: each way to authenticate where all goes well, and each failing endpoint.
fn tables(endpoint: SocketAddr, upstream: SocketAddr, way_out: SocketAddr) -> (Vec<String>, String) {
    let basic = "client_id = \"orders\"\nclient_secret = { env = \"SECRET\" }\n";
    let post = format!("{basic}client_authentication = \"client_secret_post\"\n");
    let key = "client_id = \"orders\"\nclient_authentication = \"private_key_jwt\"\n\
               signing = { algorithm = \"ES256\", key = { file = \"signing.pem\" } }\n";
    let refresh = format!("{basic}flow = \"refresh_token\"\nrefresh_token = {{ env = \"REFRESH\" }}\n");
    let dpop = format!("{basic}dpop = true\naccept_token_types = [\"Bearer\"]\n");
    let proxy = format!(
        "{basic}http_proxy = {{ url = \"http://{way_out}\", username = \"user\", password = {{ env = \"PROXY\" }} }}\n"
    );
    let mut all: Vec<(String, &str, String)> = vec![
        ("basic".to_owned(), "good", basic.to_owned()),
        ("post".to_owned(), "good", post.clone()),
        ("signed".to_owned(), "good", key.to_owned()),
        ("refresh".to_owned(), "good", refresh),
        ("dpop".to_owned(), "good", dpop),
        ("way_out".to_owned(), "good", proxy),
        ("fixed".to_owned(), "good", "flow = \"static\"\ntoken = { env = \"SECRET_WORD\" }\n".to_owned()),
    ];
    for (number, name) in ENDPOINTS.into_iter().enumerate().skip(1) {
        let lines = [basic.to_owned(), post.clone(), key.to_owned()][number % 3].clone();
        all.push((name.to_owned(), name, lines));
    }
    let mut text = format!("[callers.billing]\napi_key_sha256 = \"{}\"\n", sha256(API_KEY));
    for (name, path, lines) in &all {
        let token_endpoint =
            if name == "fixed" { String::new() } else { format!("token_endpoint = \"http://{endpoint}/{path}\"\n") };
        text += &format!(
            "[named_credentials.{name}]\nurl = \"http://{upstream}\"\nexternal_credential = \"{name}\"\n\
             [external_credentials.{name}]\n{token_endpoint}{lines}"
        );
    }
    (all.into_iter().map(|(name, _, _)| name).collect(), text)
}

/// Calls as a caller does who proves itself in every way at once.
async fn call(proxy: &Proxy, channels: &mut Channels, method: &str, target: &str) -> u16 {
    let bearer = format!("Bearer {BEARER}");
    let fields =
        [("X-Api-Key", API_KEY), ("Authorization", &bearer), ("Proxy-Authorization", &bearer), ("DPoP", BEARER)];
    let sent = request(method, target, &fields, if method == "GET" { b"" } else { b"a body" });
    let mut caller = Connection::open(proxy.address).await.unwrap();
    match caller.exchange(&sent).await {
        Ok(answer) => {
            channels.add("answers", &answer.text());
            answer.status
        }
        Err(error) => {
            channels.add("answers", &error.to_string());
            0
        }
    }
}

/// What can be read about a running process from outside, its environment and its configuration aside.
fn outside(proxy: &Proxy, channels: &mut Channels, temporary: &Path) {
    for file in ["cmdline", "comm", "status"] {
        if let Ok(text) = std::fs::read(format!("/proc/{}/{file}", proxy.process.pid())) {
            channels.add("the process's title", &String::from_utf8_lossy(&text));
        }
    }
    let known = ["proxy.toml", "signing.pem"];
    let home = proxy.setup.config().parent().unwrap().to_owned();
    for folder in [home.as_path(), temporary] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap().path();
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(known.contains(&name.as_str()), "a file that nobody wanted: {}", entry.display());
        }
    }
}

/// What the commands say about the same configuration.
async fn commands(proxy: &Proxy, names: &[String], channels: &mut Channels) {
    let config = proxy.setup.config();
    let api_key = format!("x-api-key: {API_KEY}");
    let mut commands: Vec<(&'static str, Vec<&str>)> = vec![
        ("check", vec!["check"]),
        ("check", vec!["check", "--format", "json"]),
        ("check", vec!["check", "--online"]),
        ("explain", vec!["explain", "GET", "http://localhost/basic/x", "-H", &api_key]),
    ];
    for name in names {
        commands.push(("token", vec!["token", name]));
        commands.push(("doctor", vec!["doctor", name]));
    }
    for (channel, arguments) in commands {
        let output = proxy.setup.output(&[arguments, vec!["-c", path(&config)]].concat()).await;
        channels.add(channel, &String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
}

/// The private number of a P-256 key in PKCS#8.
fn private_part(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let at = der.windows(3).position(|window| window == [0x02, 0x01, 0x01]).expect("ECPrivateKey has version 1") + 5;
    der[at..at + 32].to_vec()
}

/// Whatever succeeds or fails, no secret, key, token, assertion or caller's credential is shown in any log, answer,
/// metric, page, command, file or title, and none that an upstream gives back in its fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shown_whatever_fails() {
    let mut count = 0;
    let endpoint = TokenEndpoint::answering(move |asked| {
        count += 1;
        let path = asked.head.split(' ').nth(1).unwrap().to_owned();
        said(path.rsplit('/').next().unwrap(), asked, count)
    })
    .await;
    let upstream = upstream().await;
    // It wants other credentials, and repeats those it was sent.
    let way_out = Scripted::start().await.serve(|asked| answer(407, &[], asked.head.as_bytes()));
    let key = Authority::new("keys").client("orders").key;
    let (names, tables) = tables(endpoint.address(), upstream.address, way_out.address);
    let temporary = tempfile::tempdir().unwrap();
    let proxy = Setup::new(&(head("trace") + &tables))
        .env("SECRET", SECRET)
        .env("SECRET_WORD", &format!("{TOKEN}-fixed"))
        .env("REFRESH", REFRESH)
        .env("PROXY", PROXY)
        .env("TMPDIR", path(temporary.path()))
        .file("signing.pem", &key)
        .run()
        .await;

    let mut channels = Channels::default();
    let mut statuses = Vec::new();
    for name in &names {
        for target in PATHS {
            statuses.push(call(&proxy, &mut channels, "GET", &format!("/{name}{target}")).await);
            statuses.push(call(&proxy, &mut channels, "POST", &format!("/{name}{target}")).await);
        }
    }
    for expected in [200, 401, 502, 503] {
        assert!(statuses.contains(&expected), "something came to {expected}: {statuses:?}");
    }
    outside(&proxy, &mut channels, temporary.path());
    commands(&proxy, &names, &mut channels).await;
    for target in ["/metrics", "/readyz", "/healthz", "/status", "/", "/config", "/nothing"] {
        channels.add("admin", &proxy.admin(target).await.unwrap().text());
    }
    let mut proxy = proxy;
    proxy.process.terminate();
    proxy.process.exit().await;
    channels.add("stdout", &proxy.process.stdout.text());
    channels.add("stderr", &proxy.process.stderr.text());

    let mut scanner = Scanner::default();
    for (what, secret) in [
        ("the client's secret", SECRET),
        ("the refresh token", REFRESH),
        ("the caller's key", API_KEY),
        ("the caller's token", BEARER),
        ("the proxy's password", PROXY),
        ("a token", TOKEN),
    ] {
        scanner.add(what, secret);
    }
    let private = private_part(&key);
    scanner.add_bytes("the signing key", &private);
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        scanner.add("a line of the signing key's file", line);
    }
    let assertions: Vec<String> =
        endpoint.parameters().iter().filter_map(|asked| asked.get("client_assertion").cloned()).collect();
    assert!(assertions.len() > 2, "assertions were sent: {}", assertions.len());
    for assertion in assertions.iter().take(3) {
        scanner.add("the signature of an assertion", assertion.rsplit('.').next().unwrap());
    }
    assert!(!scanner.find(&key).is_empty() && !scanner.find(&format!("{private:?}")).is_empty(), "the control");
    channels.assert_silent(&scanner, &[SECRET, REFRESH, API_KEY, BEARER, PROXY, TOKEN]);
}

/// Set in the process that panics for the test below.
const PANICKING: &str = "KEYBEARER_TEST_PANICS";

/// A panic tells its place and no more: the messages of the standard library quote what they are about.
#[test]
fn a_panic_tells_no_value() {
    if std::env::var_os(PANICKING).is_some() {
        keybearer::telemetry::tell_panics_by_place();
        let text = format!("\u{e4}{SECRET}");
        let _beginning = &text[..1];
        unreachable!("one byte is no character");
    }
    let name = "leaks::a_panic_tells_no_value";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args([name, "--exact", "--nocapture"]).env(PANICKING, "1").output().unwrap();
    let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && shown.contains("a thread panicked at tests/it/leaks.rs:"), "{shown}");
    let mut scanner = Scanner::default();
    scanner.add("the secret", SECRET);
    assert!(scanner.find(&shown).is_empty(), "{shown}");
}
