//! What an OAuth client owes: to the servers that it asks, to its callers, and to the token itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::certificates::Authority;
use crate::support::http::{Connection, request};
use crate::support::nginx::{Nginx, Tls};
use crate::support::oidc::{CLIENT, Issuer};
use crate::support::proxy::{Setup, head};
use crate::support::recorder::Reply;
use crate::support::scene::{Scene, TokenEndpoint};
use crate::support::scripted::answer;
use crate::support::{eventually, unavailable};

/// `orders`, which asks for a scope of two words.
const TABLES: &str = "[named_credentials.orders]\nurl = \"http://{upstream}/v1\"\nexternal_credential = \"issuer\"\n\
                      [external_credentials.issuer]\ntoken_endpoint = \"http://{endpoint}/token\"\nclient_id = \"orders\"\n\
                      client_secret = { env = \"SECRET\" }\nscope = \"read write\"\n";

fn secret(setup: Setup) -> Setup {
    setup.env("SECRET", "the-secret-of-orders")
}

/// A token endpoint whose answers have these members too.
async fn giving(members: &'static str) -> TokenEndpoint {
    let mut count = 0;
    TokenEndpoint::answering(move |_| {
        count += 1;
        let body = format!(r#"{{"access_token":"token-{count}","token_type":"Bearer","expires_in":3600,{members}}}"#);
        answer(200, &[("content-type", "application/json")], body.as_bytes())
    })
    .await
}

/// C6: a refresh token beside a client-credentials token is dropped: the next mint asks as the first one did.
#[tokio::test]
async fn a_refresh_token_that_nobody_asked_for_is_dropped() {
    let endpoint = giving(r#""refresh_token":"c4n4ry-Refr35h""#).await;
    let scene = Scene::before(endpoint, TABLES, secret).await;
    scene.pass("/orders/x", &[]).await;
    scene.renew("/orders/x").await;
    let asked = scene.endpoint.parameters();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    assert_eq!((asked[1]["grant_type"].as_str(), asked[1].get("refresh_token")), ("client_credentials", None));
    let shown = scene.proxy.process.stderr.text() + &scene.proxy.process.stdout.text();
    assert!(!shown.contains("c4n4ry"), "{shown}");
}

/// C4: less scope than was asked for is said by name, and is no reason to ask again.
#[tokio::test]
async fn a_scope_that_was_not_granted_is_said() {
    let scene = Scene::before(giving(r#""scope":"read""#).await, TABLES, secret).await;
    for _ in 0..5 {
        scene.pass("/orders/x", &[]).await;
    }
    let warned = scene.proxy.warnings(1).await;
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert_eq!((&warned[0]["missing"], &warned[0]["external_credential"]), (&"write".into(), &"issuer".into()));
    assert_eq!(scene.endpoint.asked().len(), 1);
}

/// C7: the token travels in its field and nowhere else; a 400 and a 403 that say what is wrong cost no mint.
#[tokio::test]
async fn the_token_travels_in_one_place() {
    let scene = Scene::start(TABLES, secret).await;
    let mut caller = Connection::open(scene.proxy.address).await.unwrap();
    let body = b"access_token=callers&x=1";
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let sent = request("POST", "/orders/x?access_token=callers", &form, body);
    assert_eq!(caller.exchange(&sent).await.unwrap().status, 200);
    let seen = scene.upstream.only();
    assert_eq!(
        (seen.bearer(), seen.target(), seen.body.as_slice()),
        ("token-1", "/v1/x?access_token=callers", &body[..])
    );
    assert_eq!(seen.head.matches("token-1").count(), 1, "{}", seen.head);

    for (status, error) in [(400, "invalid_request"), (403, "insufficient_scope"), (401, "insufficient_scope")] {
        let challenge = format!("Bearer error=\"{error}\"");
        scene.upstream.next(Reply::new(answer(status, &[("WWW-Authenticate", &challenge)], b"")));
        assert_eq!(scene.get("/orders/x", &[]).await.status, status);
    }
    assert_eq!(scene.endpoint.asked().len(), 1, "another token would not help");
}

/// C22: a start asks for nothing, so that many at once are no storm, and a token is written to no file.
#[tokio::test]
async fn a_start_asks_for_nothing_and_no_file_holds_a_token() {
    let scene = Scene::start(TABLES, secret).await;
    let folder = scene.proxy.setup.config().parent().unwrap().to_owned();
    let before = files(&folder);
    assert!(scene.endpoint.asked().is_empty());
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    assert_eq!(files(&folder), before, "the folder it runs in is its home, too");
    assert_eq!(before.len(), 1, "the configuration alone: {before:?}");
}

fn files(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect()
}

/// C29: what a caller sends is a value and never a formula, however it looks, and no header gets a second line.
#[tokio::test]
async fn what_a_caller_sends_is_never_evaluated() {
    let headers = "headers = [{ name = \"x-copied\", value = { formula = 'request.headers[\"x-sent\"]' } }]\n";
    let tables = TABLES.replace("[external", &format!("{headers}[external"));
    let scene = Scene::start(&tables, secret).await;
    for sent in ["1 + 1", "${SECRET}", "{{ secrets.KEY }}", "request.path", "'a' + 'b'", "%0d%0aX-Injected: 1", "$1"] {
        let seen = scene.pass("/orders/x", &[("X-Sent", sent)]).await;
        assert_eq!(seen.fields("x-copied"), [sent]);
        assert!(seen.fields("x-injected").is_empty(), "{}", seen.head);
    }
}

/// C30: two routes to one host with different certificates never share a connection, whoever comes first.
#[tokio::test]
async fn routes_with_different_certificates_share_no_connection() {
    let Some(issuer) = Issuer::start(&[CLIENT]).await else { return };
    let authority = Authority::new("a private CA");
    let (identity, one, two) = (authority.server(), authority.client("one"), authority.client("two"));
    let tls = Tls { identity: &identity, protocols: "TLSv1.3", client_authority: Some(&authority) };
    let Some(nginx) = Nginx::start(issuer.resource, Some(tls)).await else { return };
    let table = |name: &str| {
        let port = nginx.address.port();
        format!(
            "[named_credentials.{name}]\nurl = \"https://localhost:{port}\"\nexternal_credential = \"issuer\"\n\
             tls = {{ ca = \"ca.pem\", certificate = \"{name}.pem\", key = \"{name}.key\" }}\n"
        )
    };
    let credentials = issuer.credentials(&CLIENT);
    let keys = tempfile::tempdir().unwrap();
    let log = keys.path().join("keys.log");
    let proxy = Setup::new(&(head("info") + &credentials + &table("one") + &table("two")))
        .env("ORDERS_SECRET", CLIENT.secret)
        .env("KEYBEARER_WORKERS", "1")
        .env("SSLKEYLOGFILE", log.to_str().unwrap())
        .file("ca.pem", &authority.certificate)
        .file("one.pem", &one.certificate)
        .file("one.key", &one.key)
        .file("two.pem", &two.certificate)
        .file("two.key", &two.key)
        .run()
        .await;
    let mut caller = Connection::open(proxy.address).await.unwrap();
    for turn in 0..12 {
        let name = if turn % 3 == 0 { "two" } else { "one" };
        let answer = caller.exchange(&request("GET", &format!("/{name}/echo"), &[], b"")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.field("x-tls-client"), Some(&*format!("CN={name}")), "turn {turn}");
    }
    assert!(!log.exists(), "the keys of a connection are written nowhere, whatever the environment asks for");
}

/// Where Debian has the library that changes what a process takes for the time of day.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// C21: a wall clock that jumps by an hour, either way, ends no token and starts no mint; a token's life is counted on
/// the monotonic clock.
#[tokio::test]
async fn a_jump_of_the_wall_clock_changes_nothing() {
    let found = FAKETIME.into_iter().find(|path| Path::new(path).exists());
    let Some(library) = found.or_else(|| unavailable("libfaketime is not installed (faketime)")) else { return };
    let clock = tempfile::NamedTempFile::new().unwrap();
    fs::write(clock.path(), "+0").unwrap();
    let path = clock.path().to_str().unwrap().to_owned();
    let scene = Scene::start(TABLES, |setup| {
        secret(setup)
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &path)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    })
    .await;
    let year = async |count: usize| {
        let line = scene.proxy.exchanges(count).await.pop().unwrap();
        line["time"].as_str().unwrap()[..4].parse::<u32>().unwrap()
    };
    assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1");
    let began = year(1).await;
    let mut count = 1;
    for jump in ["+1h", "-1h", "+400d", "-400d", "+0"] {
        fs::write(clock.path(), jump).unwrap();
        // The control: the log's time is the wall clock's, so the long jumps lead to another year.
        eventually("the clock jumps", async || {
            count += 1;
            assert_eq!(scene.pass("/orders/x", &[]).await.bearer(), "token-1", "{jump}");
            ((year(count).await != began) == jump.ends_with('d')).then_some(())
        })
        .await;
    }
    assert_eq!(scene.endpoint.asked().len(), 1);
}
