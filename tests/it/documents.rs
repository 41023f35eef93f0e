//! The documents tell what the program does, and every example in them is good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keybearer::access_log::NotReplayed;
use keybearer::answer::Failure;
use keybearer::config::{self, Secrets, Source};
use keybearer::limit::{Limit, RETRIES_IN_RESERVE};
use keybearer::server::{CONNECTIONS_PER_ADDRESS, Http2Limits, Limits};
use keybearer::token::MOST_WAITING;
use keybearer::upstream::{LONGEST_HEAD, PoolLimits};
use serde_json::{Map, Value};

use crate::support::certificates::Authority;
use crate::support::http;
use crate::support::metrics::Scrape;
use crate::support::proxy::{Proxy, Setup};
use crate::support::servers::{ClosedPort, Servers, run};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of the first table in `text`, cell by cell, without its head.
fn table(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.skip(2).map(cells).collect()
}

/// What stands between `<!-- name -->` and `<!-- /name -->`.
fn marked<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<!-- {name} -->")).unwrap_or_else(|| panic!("no <!-- {name} -->"));
    rest.split_once(&format!("<!-- /{name} -->")).unwrap_or_else(|| panic!("no <!-- /{name} -->")).0
}

/// From `text` on where `start` begins.
fn from<'a>(text: &'a str, start: &str) -> &'a str {
    &text[text.find(start).unwrap_or_else(|| panic!("no {start:?}"))..]
}

/// Every text between single back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_failures_is_that_of_the_program() {
    let written = table(marked(&read("README.md"), "failures"));
    let meant: Vec<Vec<String>> = Failure::ALL
        .into_iter()
        .map(|failure| {
            let (status, error, title) = failure.row();
            vec![status.as_str().to_owned(), error.to_owned(), title.to_owned()]
        })
        .collect();
    assert_eq!(written, meant);
}

#[test]
fn the_reasons_against_a_replay_are_those_of_the_program() {
    let readme = read("README.md");
    let written: Vec<_> = table(from(&readme, "| reason |")).into_iter().map(|row| row[0].clone()).collect();
    let meant: Vec<_> = NotReplayed::ALL.into_iter().map(|reason| format!("`{}`", reason.as_str())).collect();
    assert_eq!(written, meant);
}

/// After traffic of every kind.
async fn busy() -> (Servers, Proxy) {
    let servers = Servers::start().await;
    let closed = ClosedPort::new();
    let dead = format!("[named_credentials.dead]\nurl = \"http://{}\"\n", closed.address);
    let proxy = run(&(servers.config(&servers.url(), "", "") + &dead)).await;
    for target in ["/orders/x", "/orders/x", "/orders/always401", "/orders/always401", "/dead/x", "/nobody"] {
        http::get(proxy.address, target).await.unwrap();
    }
    http::post(proxy.address, "/orders/echo", b"a body").await.unwrap();
    (servers, proxy)
}

#[tokio::test]
async fn the_table_of_metrics_is_what_is_scraped() {
    let rows = table(marked(&read("README.md"), "metrics"));
    let written: BTreeSet<_> = rows.iter().map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone())).collect();
    assert_eq!(written.len(), rows.len(), "each once");
    let (_servers, proxy) = busy().await;
    let scrape = Scrape::of(&proxy).await;
    let scraped: BTreeSet<_> = scrape
        .families()
        .into_iter()
        .map(|(name, of)| {
            // What OpenMetrics adds to the names of samples.
            let suffix = match of {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{name}{suffix}"), of.to_owned())
        })
        .collect();
    assert_eq!(written, scraped);
}

#[tokio::test]
async fn the_labels_of_metrics_are_those_that_are_scraped() {
    let (_servers, proxy) = busy().await;
    let scrape = Scrape::of(&proxy).await;
    for row in table(marked(&read("README.md"), "metrics")) {
        let name = row[0].trim_matches('`').to_owned();
        let sample = if row[1] == "histogram" { format!("{name}_count") } else { name };
        let written: BTreeSet<_> = quoted(&row[2]).map(str::to_owned).collect();
        let labels = scrape.labels(&sample).unwrap_or_else(|| panic!("no sample of {sample}"));
        assert_eq!(written, labels, "{sample}");
    }
}

#[tokio::test]
async fn the_access_log_is_as_described() {
    let readme = read("README.md");
    let (_servers, proxy) = busy().await;
    proxy.exchanges(7).await;
    let line = proxy.process.stdout.lines().remove(0);
    let example = from(&readme, "{\"time\":").lines().next().unwrap();
    assert_eq!(keys(&line), keys(example), "the example has the fields of a real line, in their order");
    let described = from(&readme, "| field | meaning |");
    let described: BTreeSet<_> =
        table(described).iter().flat_map(|row| quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_eq!(described, keys(&line).into_iter().collect());
}

/// The members of an object in their order.
fn keys(line: &str) -> Vec<String> {
    let members: Map<String, Value> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let mut keys: Vec<String> = members.into_iter().map(|(name, _)| name).collect();
    keys.sort_by_key(|key| line.find(&format!("\"{key}\":")));
    keys
}

/// Every configuration that is shipped, and where it stands.
fn configurations() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for document in
        ["README.md", "deploy/README.md", "docs/presets.md", "docs/external-credentials.md", "docs/callers.md"]
    {
        let text = read(document);
        let fences = text.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```"));
        all.extend(fences.enumerate().map(|(at, (block, _))| (format!("{document}, block {at}"), block.to_owned())));
    }
    for file in ["proxy.toml", "deploy/systemd/proxy.toml", "deploy/compose/proxy.toml"] {
        if root(file).exists() {
            all.push((file.to_owned(), read(file)));
        }
    }
    for manifest in ["deploy/kubernetes/sidecar.yaml", "deploy/kubernetes/gateway.yaml"] {
        let text = read(manifest);
        let (_, rest) = text.split_once("proxy.toml: |\n").unwrap_or_else(|| panic!("no configuration in {manifest}"));
        let block = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let block: Vec<_> = block.map(|line| line.get(4..).unwrap_or_default()).collect();
        all.push((manifest.to_owned(), block.join("\n")));
    }
    assert!(all.len() >= 5, "{:?}", all.iter().map(|(place, _)| place).collect::<Vec<_>>());
    all
}

/// The texts in `{ word = "…" }`.
fn references<'a>(config: &'a str, word: &str) -> Vec<&'a str> {
    let start = format!("{{ {word} = \"");
    config.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect()
}

/// A folder with this configuration, and whatever its secrets, keys and certificates refer to. What has an absolute path
/// is read for each mint, and not by the check.
fn provided(config: &str) -> Setup {
    let authority = Authority::new("the examples");
    let client = authority.client("keybearer");
    // Where this file is, a pod finds the authority of its cluster.
    let config = config.replace("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "cluster-ca.pem");
    let setup = Setup::new(&config).file("client.pem", &client.certificate).file("client.key", &client.key);
    let setup = setup.file("cluster-ca.pem", &authority.certificate);
    let server = authority.server();
    let setup = setup
        .file("keybearer.pem", &server.certificate)
        .file("keybearer.key", &server.key)
        .file("callers-ca.pem", &authority.certificate);
    let config = config.as_str();
    let made = |file: &&str| *file != "client.key" && !file.starts_with('/');
    for file in references(config, "file").into_iter().filter(made) {
        let path = setup.config().with_file_name(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "a-secret-for-the-check\n").unwrap();
    }
    references(config, "env").into_iter().fold(setup, |setup, name| setup.env(name, "a-secret-for-the-check"))
}

#[tokio::test]
async fn every_configuration_that_is_shipped_passes_the_check() {
    for (place, config) in configurations() {
        let output = provided(&config).output(&["check"]).await;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{place}:\n{text}");
        assert!(!text.contains("a-secret-for-the-check"), "{place}:\n{text}");
    }
}

/// What the reference shows behind a `#` is a key all the same.
#[tokio::test]
async fn the_reference_passes_the_check_with_every_key_put_in_force() {
    let is_key = |text: &str| {
        text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let uncommented = |line: &str| line.strip_prefix("# ").filter(|text| is_key(text)).unwrap_or(line).to_owned();
    let reference = read("proxy.toml");
    let config = reference.lines().map(uncommented).collect::<Vec<_>>().join("\n");
    assert_ne!(config, reference.trim_end());
    let authority = Authority::new("the reference");
    let server = authority.server();
    let setup = provided(&config)
        .file("upstream-ca.pem", &authority.certificate)
        .file("login-ca.pem", &authority.certificate)
        .file("server.pem", &server.certificate)
        .file("server.key", &server.key);
    let output = setup.output(&["check"]).await;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn no_configuration_that_is_shipped_is_dangerous() {
    for (place, config) in configurations() {
        let config: toml::Table = config.parse().unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut keys = BTreeSet::new();
        collect_keys(&toml::Value::Table(config), &mut keys);
        for key in ["dangerous", "anonymous_callers", "plain_http"] {
            assert!(!keys.contains(key), "{place} says {key}");
        }
        // The reference loads as it stands, without files or an environment.
        assert!(place == "proxy.toml" || !keys.contains("dangerous_literal"), "{place} holds a secret");
    }
}

fn collect_keys(value: &toml::Value, keys: &mut BTreeSet<String>) {
    if let Some(table) = value.as_table() {
        keys.extend(table.keys().cloned());
        table.values().for_each(|value| collect_keys(value, keys));
    }
    value.as_array().into_iter().flatten().for_each(|value| collect_keys(value, keys));
}

/// A size, duration or number as the tables write it.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes % (1024 * 1024) == 0 => format!("`\"{}MiB\"`", bytes / 1024 / 1024),
        bytes => format!("`\"{}KiB\"`", bytes / 1024),
    }
}

fn time(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 3600 == 0 => format!("`\"{}h\"`", seconds / 3600),
        seconds => format!("`\"{seconds}s\"`"),
    }
}

fn number(number: usize) -> String {
    format!("`{number}`")
}

/// Every limit of `[limits]` and its default. Written so that a new one does not compile until it stands here.
fn defaults() -> Vec<(&'static str, String)> {
    let Limits {
        target,
        header,
        header_fields,
        body,
        connections,
        connections_per_caller,
        requests,
        tunnels,
        tunnel_idle_timeout,
        header_timeout,
        idle_timeout,
        body_timeout,
        body_rate,
        replay_memory,
        token_answer,
        metric_credentials,
        http2,
    } = Limits::default();
    let Http2Limits { streams, resets, pings, settings, priorities, window_updates, tiny_data, unknown } = http2;
    let frames = |count: u32| format!("`{count}`");
    assert_eq!((body, connections_per_caller), (None, None));
    vec![
        ("target", size(target)),
        ("header", size(header)),
        ("header_fields", number(header_fields)),
        ("body", "none".to_owned()),
        ("header_timeout", time(header_timeout)),
        ("body_timeout", time(body_timeout)),
        ("connections", number(connections)),
        ("connections_per_caller", format!("{}, on loopback none", number(CONNECTIONS_PER_ADDRESS))),
        ("requests", number(requests)),
        ("tunnels", number(tunnels)),
        ("tunnel_idle_timeout", time(tunnel_idle_timeout)),
        ("idle_timeout", time(idle_timeout)),
        ("replay_memory", size(replay_memory)),
        ("token_answer", size(token_answer)),
        ("metric_credentials", number(metric_credentials)),
        ("body_rate", format!("`\"{body_rate}B\"`")),
        ("h2_streams", frames(streams)),
        ("h2_resets", frames(resets)),
        ("h2_pings", frames(pings)),
        ("h2_settings", frames(settings)),
        ("h2_priorities", frames(priorities)),
        ("h2_window_updates", frames(window_updates)),
        ("h2_tiny_data", frames(tiny_data)),
        ("h2_unknown", frames(unknown)),
    ]
}

/// The status that goes with a limit; none where nobody is refused.
fn status_of(limit: Limit) -> Option<Failure> {
    Some(match limit {
        Limit::Target => Failure::TargetTooLong,
        Limit::Header => Failure::HeaderTooLarge,
        Limit::HeaderFields => Failure::TooManyFields,
        Limit::Body => Failure::BodyTooLarge,
        Limit::HeaderTimeout | Limit::BodyTimeout => Failure::RequestTimeout,
        Limit::Connections
        | Limit::ConnectionsPerCaller
        | Limit::Requests
        | Limit::Tunnels
        | Limit::CredentialRequests
        | Limit::Waiters => Failure::OverCapacity,
        Limit::CallerRate | Limit::CredentialRate => Failure::RateLimited,
        Limit::Retries => Failure::UpstreamClosed,
        Limit::ReplayMemory => return None,
    })
}

/// B5, B51: what is bounded, by how much, and what becomes of who is over it.
#[test]
fn the_tables_of_limits_are_those_of_the_program() {
    let text = read("docs/limits.md");
    let (limits, bounds) = (table(marked(&text, "limits")), table(marked(&text, "bounds")));

    let written: Vec<_> = limits.iter().map(|row| (row[4].clone(), row[3].clone())).collect();
    let meant = Limit::ALL.map(|limit| {
        let status = status_of(limit).map_or(String::new(), |failure| failure.row().0.as_str().to_owned());
        (format!("`{}`", limit.as_str()), status)
    });
    assert_eq!(written, meant);

    let default = |key: &str| {
        let mut rows = limits.iter().chain(&bounds);
        rows.find(|row| row[0].starts_with(&format!("`{key}`"))).unwrap_or_else(|| panic!("no {key}"))[1].clone()
    };
    for (key, value) in defaults() {
        assert_eq!(default(&format!("limits.{key}")), value, "{key}");
        let row = format!("| `limits.{key}` | {value} |");
        assert!(read("README.md").contains(&row), "the README has no row {row}");
    }

    let source = Source::Text { name: "proxy.toml".to_owned(), text: PLAIN.to_owned() };
    let config = config::load(&source, Secrets::Read).unwrap_or_else(|problems| panic!("{problems}")).config;
    let timeouts = config.named_credentials[0].timeouts;
    let endpoint = &config.external_credentials[0].request().unwrap().endpoint;
    for (key, value) in [
        ("timeouts.connect", time(timeouts.connect)),
        ("timeouts.first_byte", time(timeouts.first_byte)),
        ("timeouts.idle", time(timeouts.idle)),
        ("timeout", time(endpoint.timeout)),
        ("drain.deadline", time(config.drain.deadline)),
    ] {
        assert_eq!(default(key), value, "{key}");
    }
    assert_eq!((timeouts.total, default("timeouts.total").as_str()), (None, "none"));
    let named = |what: &str| limits.iter().chain(&bounds).find(|row| row[0].starts_with(what)).unwrap()[1].clone();
    assert_eq!(named("callers that wait"), number(MOST_WAITING));
    assert_eq!(named("requests sent again"), format!("a fifth of all, and {RETRIES_IN_RESERVE}"));
    assert_eq!(named("head of an upstream"), size(LONGEST_HEAD));
    assert_eq!(named("idle connections"), number(PoolLimits::default().idle_connections));
}

/// A configuration in which everything that can be left out is.
const PLAIN: &str = r#"
[named_credentials.orders]
url = "https://api.example.com"
external_credential = "issuer"

[external_credentials.issuer]
token_endpoint = "https://login.example.com/token"
client_id = "orders"
client_secret = { dangerous_literal = "only-an-example" }
"#;
