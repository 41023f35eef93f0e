//! The configuration, changed while the proxy serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::http::{Connection, request};
use crate::support::metrics::Scrape;
use crate::support::proxy::{Proxy, Setup, head};
use crate::support::recorder::{Recorder, Reply};
use crate::support::scripted;
use crate::support::stage::{Stage, named};
use crate::support::{PATIENCE, eventually, within};

const IN_USE: &str = "the new configuration is in use";
const UNCHANGED: &str = "the configuration has not changed";
const NO_GOOD: &str = "the configuration is no good; the last good one stays in use";

fn get(target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    request("GET", target, fields, b"")
}

/// The configuration as it stands in the file.
fn written(proxy: &Proxy) -> String {
    std::fs::read_to_string(proxy.setup.config()).unwrap()
}

/// Puts another text in the place of the configuration, at once.
fn write(proxy: &Proxy, text: &str) {
    let config = proxy.setup.config();
    let beside = config.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, config).unwrap();
}

/// The diagnostics so far.
fn diagnostics(proxy: &Proxy) -> Vec<Value> {
    proxy.process.stderr.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn fields(line: &Value) -> &Value {
    if line.get("fields").is_some() { &line["fields"] } else { line }
}

fn message(line: &Value) -> &str {
    fields(line)["message"].as_str().unwrap_or_default()
}

/// How often a reading has ended so far.
fn readings(proxy: &Proxy) -> usize {
    let ends = [IN_USE, UNCHANGED, NO_GOOD];
    diagnostics(proxy).iter().filter(|line| ends.contains(&message(line))).count()
}

/// Waits for the reading after `before` others; its last line.
async fn outcome(proxy: &Proxy, before: usize) -> Value {
    let ends = [IN_USE, UNCHANGED, NO_GOOD];
    let found = proxy.process.stderr.find(|lines| {
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| ends.contains(&message(line))).nth(before)
    });
    let line = within("the configuration is read again", PATIENCE, found).await.expect("the proxy is still running");
    fields(&line).clone()
}

/// Sends SIGHUP with this configuration; the line that says what came of it.
async fn reload(proxy: &Proxy, text: &str) -> Value {
    let before = readings(proxy);
    write(proxy, text);
    proxy.process.signal(Signal::HUP);
    outcome(proxy, before).await
}

async fn status(stage: &Stage, path: &str) -> u16 {
    stage.exchange(get(path, &[])).await.status
}

/// C23: credentials come, change and go under load; no request fails, no connection closes, nothing is minted again.
#[tokio::test]
async fn named_credentials_come_change_and_go_under_load_and_nothing_breaks() {
    let tables = named("orders", "", "") + &named("others", "/a", "");
    let stage = Stage::listening(&format!("workers = 1\n{}", head("info")), &tables).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut caller = stage.caller().await;
    let is_over = Arc::clone(&over);
    let load = tokio::spawn(async move {
        let mut served = 0;
        while !is_over.load(Ordering::Relaxed) {
            let answer = caller.exchange(&get("/orders/x", &[])).await.expect("the connection stays open");
            assert_eq!((answer.status, answer.closes()), (200, false), "{}", answer.text());
            served += 1;
        }
        served
    });
    stage.exchange(get("/others/x", &[])).await;
    let first = written(&stage.proxy);
    let upstream = stage.upstream.address.to_string();
    let with_new = first.clone() + &named("added", "/new", "").replace("{upstream}", &upstream);
    for round in 0..5 {
        let line = reload(&stage.proxy, &with_new).await;
        assert_eq!((&line["message"], &line["named_added"]), (&IN_USE.into(), &1.into()), "{round}: {line}");
        let (_, received) = stage.pass_unordered("/added/x").await;
        assert_eq!(received, "/new/x");
        let line = reload(&stage.proxy, &with_new.replace("/a\"", "/b\"")).await;
        assert_eq!((&line["named_changed"], &line["named_added"]), (&1.into(), &0.into()), "{line}");
        let (_, received) = stage.pass_unordered("/others/x").await;
        assert_eq!(received, "/b/x");
        let line = reload(&stage.proxy, &first).await;
        assert_eq!((&line["named_removed"], &line["named_changed"]), (&1.into(), &1.into()), "{line}");
        assert_eq!(status(&stage, "/added/x").await, 404);
    }
    over.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 5);
    assert_eq!(stage.issuer.token_requests(), 1);
    let scrape = Scrape::of(&stage.proxy).await;
    assert!((scrape.sum("keybearer_config_reloads_total", &[("result", "applied")]) - 15.0).abs() < 0.1);
    assert!(scrape.sum("keybearer_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
}

impl Stage {
    /// One exchange that must succeed, and the target that the upstream saw with it, whatever else it sees.
    async fn pass_unordered(&self, path: &str) -> (u16, String) {
        let mark = format!("mark-{}", self.upstream.requests().len());
        let answer = self.exchange(get(path, &[("X-Mark", &mark)])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = self.upstream.requests();
        let marked = seen.iter().rev().find(|received| received.fields("x-mark") == [mark.as_str()]);
        (answer.status, marked.expect("it reached the upstream").target().to_owned())
    }
}

#[tokio::test]
async fn connections_to_an_upstream_serve_on_after_a_reload() {
    let tables = named("orders", "", "");
    let stage = Stage::listening(&format!("workers = 1\n{}", head("info")), &tables).await;
    let mut caller = stage.caller().await;
    assert_eq!(caller.exchange(&get("/orders/x", &[])).await.unwrap().status, 200);
    let text =
        written(&stage.proxy) + &named("added", "", "").replace("{upstream}", &stage.upstream.address.to_string());
    for text in [text.clone(), text.replace("[named_credentials.orders]", "[named_credentials.orders]\nlabel = \"x\"")]
    {
        assert_eq!(reload(&stage.proxy, &text).await["message"], IN_USE);
        for path in ["/orders/x", "/added/x"] {
            assert_eq!(caller.exchange(&get(path, &[])).await.unwrap().status, 200);
        }
    }
    assert_eq!((stage.upstream.connections(), stage.issuer.token_requests()), (1, 1));
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_configuration_and_says_why() {
    let stage = Stage::orders().await;
    let good = written(&stage.proxy);
    let broken = good.replace("external_credential = \"issuer\"", "external_credential = \"isuer\"\nlabl = \"canary\"");
    let broken_at = broken.lines().position(|line| line.starts_with("labl")).unwrap() + 1;
    assert_eq!(reload(&stage.proxy, &broken).await["message"], NO_GOOD);
    let told = stage.proxy.process.stderr.find(|lines| {
        let text = lines.join("\n");
        (text.contains("did you mean `label`") && text.contains("did you mean \\\"issuer\\\"")).then_some(text)
    });
    let text = within("the problems are told", PATIENCE, told).await.unwrap();
    assert!(text.contains(&format!("proxy.toml:{broken_at}:1: ")) && !text.contains("canary"), "{text}");
    assert_eq!(status(&stage, "/orders/x").await, 200);
    let scrape = Scrape::of(&stage.proxy).await;
    assert!((scrape.sum("keybearer_config_reloads_total", &[("result", "failed")]) - 1.0).abs() < 0.1);
    assert_eq!(reload(&stage.proxy, "not = = toml").await["message"], NO_GOOD);
    assert_eq!(reload(&stage.proxy, &good).await["message"], UNCHANGED);
    assert_eq!(status(&stage, "/orders/x").await, 200);
}

/// A link that is swapped, as Kubernetes does it, is a change of the file.
#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let stage = Stage::orders().await;
    let (config, text) = (stage.proxy.setup.config(), written(&stage.proxy));
    let folder = config.parent().unwrap();
    let other = text.replace("named_credentials.orders", "named_credentials.renamed");
    let before = readings(&stage.proxy);
    std::fs::create_dir(folder.join("..data")).unwrap();
    std::fs::write(folder.join("..data/proxy.toml"), other).unwrap();
    std::os::unix::fs::symlink("..data/proxy.toml", folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), &config).unwrap();
    let line = outcome(&stage.proxy, before).await;
    assert_eq!((&line["named_added"], &line["named_removed"]), (&1.into(), &1.into()), "{line}");
    assert_eq!((status(&stage, "/renamed/x").await, status(&stage, "/orders/x").await), (200, 404));
    let before = readings(&stage.proxy);
    std::fs::create_dir(folder.join("..new")).unwrap();
    std::fs::write(folder.join("..new/proxy.toml"), &text).unwrap();
    std::fs::remove_dir_all(folder.join("..data")).unwrap();
    std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    assert_eq!(outcome(&stage.proxy, before).await["message"], IN_USE);
    assert_eq!((status(&stage, "/renamed/x").await, status(&stage, "/orders/x").await), (404, 200));
    assert_eq!(stage.issuer.token_requests(), 1);
}

#[tokio::test]
async fn what_is_left_of_a_rate_stays_over_a_reload_until_the_rate_itself_changes() {
    let limits = "limits = { rate = { per_minute = 1, burst = 1 } }";
    let caller = "[callers.here]\nnetworks = [\"127.0.0.0/8\"]\nrate = { per_minute = 1, burst = 3 }\n";
    let stage = Stage::start(&(named("orders", "", limits) + caller + &named("others", "", ""))).await;
    let text = written(&stage.proxy);
    assert_eq!((status(&stage, "/orders/x").await, status(&stage, "/orders/x").await), (200, 429));
    // The second was the last but one of the caller's three.
    let text = text.replace("[named_credentials.orders]", "[named_credentials.orders]\nlabel = \"x\"");
    assert_eq!(reload(&stage.proxy, &text).await["message"], IN_USE);
    assert_eq!(status(&stage, "/orders/x").await, 429, "the credential's");
    assert_eq!(status(&stage, "/others/x").await, 429, "the caller's");
    let text = text.replace("burst = 1", "burst = 2").replace("burst = 3", "burst = 9");
    assert_eq!(reload(&stage.proxy, &text).await["message"], IN_USE);
    assert_eq!((status(&stage, "/orders/x").await, status(&stage, "/others/x").await), (200, 200));
}

#[tokio::test]
async fn callers_that_come_and_go_are_known_at_once() {
    let stage = Stage::start(
        &(named("orders", "", "callers = [\"here\"]\n") + "[callers.here]\nnetworks = [\"127.0.0.0/8\"]\n"),
    )
    .await;
    let text = written(&stage.proxy);
    assert_eq!(status(&stage, "/orders/x").await, 200);
    let line = reload(&stage.proxy, &text.replace("127.0.0.0/8", "10.0.0.0/8")).await;
    assert_eq!(line["callers_changed"], true, "{line}");
    assert_eq!(status(&stage, "/orders/x").await, 403);
    reload(&stage.proxy, &text).await;
    assert_eq!(status(&stage, "/orders/x").await, 200);
}

#[tokio::test]
async fn keys_that_take_a_restart_are_named_and_the_rest_is_taken_over() {
    let stage = Stage::orders().await;
    let text = written(&stage.proxy)
        .replace("[listeners.default]\naddress = \"127.0.0.1:0\"", "[listeners.default]\naddress = \"127.0.0.2:0\"")
        .replace("level = \"info\"", "level = \"debug\"")
        + "[limits]\nconnections = 77\nbody = \"10B\"\n[listeners.more]\naddress = \"127.0.0.3:0\"\n";
    assert_eq!(reload(&stage.proxy, &format!("workers = 3\n{text}")).await["message"], IN_USE);
    let warnings = stage.proxy.warnings(5).await;
    let keys: Vec<_> = warnings.iter().filter_map(|line| fields(line)["key"].as_str()).collect();
    assert_eq!(keys, ["limits.connections", "listeners.default.address", "listeners.more", "log.level", "workers"]);
    let request = b"POST /orders/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n";
    assert_eq!(stage.exchange(request).await.status, 413, "what is part of a named credential holds at once");
}

/// A token endpoint under the test's control, and an upstream.
struct Rotated {
    tokens: Recorder,
    upstream: Recorder,
    proxy: Proxy,
}

impl Rotated {
    async fn start() -> Self {
        let (tokens, upstream) = (Recorder::start().await, Recorder::start().await);
        let config = format!(
            "{}[named_credentials.orders]\nurl = \"http://{}\"\nexternal_credential = \"issuer\"\n\
             [external_credentials.issuer]\ntoken_endpoint = \"http://{}/token\"\nclient_id = \"orders\"\n\
             client_secret = {{ file = \"secret\" }}\n",
            head("info"),
            upstream.address,
            tokens.address
        );
        let proxy = Setup::new(&config).file("secret", "old").run().await;
        Self { tokens, upstream, proxy }
    }

    fn next(&self, status: u16, body: &str) {
        let fields = [("Content-Type", "application/json")];
        self.tokens.next(Reply::new(scripted::answer(status, &fields, body.as_bytes())));
    }

    /// The secret with which the last token was asked for.
    fn asked_with(&self) -> String {
        use base64::Engine as _;
        let last = self.tokens.last();
        let text = last.fields("authorization")[0].strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    }

    async fn bearer(&self) -> String {
        let mut caller = Connection::open(self.proxy.address).await.unwrap();
        assert_eq!(caller.exchange(&get("/orders/x", &[])).await.unwrap().status, 200);
        self.upstream.last().bearer().to_owned()
    }

    async fn rotate(&self, secret: &str) -> Value {
        std::fs::write(self.proxy.setup.config().with_file_name("secret"), secret).unwrap();
        reload(&self.proxy, &written(&self.proxy)).await
    }
}

const TOKEN: [&str; 2] =
    [r#"{"access_token":"first","expires_in":600}"#, r#"{"access_token":"second","expires_in":600}"#];

/// C23: the token of a rotated secret is there before the old one's is let go.
#[tokio::test]
async fn a_rotated_secret_is_minted_with_before_it_is_in_use() {
    let rotated = Rotated::start().await;
    rotated.next(200, TOKEN[0]);
    assert_eq!(rotated.bearer().await, "first");
    rotated.next(200, TOKEN[1]);
    let line = rotated.rotate("new").await;
    assert_eq!((&line["external_changed"], &line["named_changed"]), (&1.into(), &0.into()), "{line}");
    assert_eq!((rotated.tokens.requests().len(), rotated.asked_with().as_str()), (2, "orders:new"));
    assert_eq!(rotated.bearer().await, "second");
    assert_eq!(rotated.tokens.requests().len(), 2);
}

/// C23: a new secret that gets no token leaves the old one's live token in use; the next new one is tried at once.
#[tokio::test]
async fn a_rotated_secret_that_gets_no_token_leaves_the_old_token_in_use() {
    let rotated = Rotated::start().await;
    rotated.next(200, TOKEN[0]);
    assert_eq!(rotated.bearer().await, "first");
    rotated.next(401, r#"{"error":"invalid_client"}"#);
    assert_eq!(rotated.rotate("wrong").await["message"], IN_USE);
    assert_eq!(rotated.asked_with(), "orders:wrong");
    assert_eq!(rotated.bearer().await, "first");
    let warned = rotated.proxy.process.stderr.text();
    assert!(warned.contains("the new secret gets no token") && warned.contains("invalid_client"), "{warned}");
    // The wrong one is tried again now and then, and may take an answer that is meant for the next.
    eventually("the right secret is in use", async || {
        rotated.next(200, TOKEN[1]);
        rotated.rotate(&format!("new{}", rotated.tokens.requests().len())).await;
        (rotated.bearer().await == "second").then_some(())
    })
    .await;
    assert!(rotated.asked_with().starts_with("orders:new"));
}
