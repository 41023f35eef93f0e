//! Callers that were written long ago, with the HTTP clients of their time: each makes a GET, a POST with a length, a
//! chunked POST and, where it can, one that waits for `100 Continue`, before and after the token was revoked. Uploads
//! are echoed, or told by their hash.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::process::Command;

use super::support::proxy::Proxy;
use super::support::servers::Servers;
use super::support::{PATIENCE, unavailable, within};

/// Runs `command BASE`, twice; each line that it prints must end with `ok`, and there must be so many.
async fn calls(mut command: impl FnMut(&str) -> Command, lines: usize) {
    let servers = Servers::start().await;
    let proxy = servers.proxy("", "").await;
    let base = format!("http://{}/orders", proxy.address);
    for token in ["a first", "a renewed"] {
        let output = run(&mut command(&base)).await;
        let printed = String::from_utf8_lossy(&output.stdout);
        let good = printed.lines().filter(|line| line.ends_with(" ok")).count();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((good, printed.lines().count()), (lines, lines), "with {token} token: {printed}{errors}");
        servers.issuer.revoke_all();
    }
    servers.assert_always_a_token();
    assert_eq!(servers.issuer.token_requests(), 2);
}

async fn run(command: &mut Command) -> Output {
    // No caller goes through a proxy that the machine may have configured.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    within("the caller ends", PATIENCE, command.kill_on_drop(true).output()).await.unwrap()
}

/// The SHA-256 of what every script sends.
fn hash() -> String {
    digest(&SHA256, &[b'k'; 100_000]).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a program is there.
async fn has(program: &str) -> Option<()> {
    match Command::new(program).arg("--version").output().await {
        Ok(_) => Some(()),
        Err(_) => unavailable(&format!("`{program}` is not installed")),
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/legacy").join(name)
}

/// A folder for what is built from the scripts, below the build folder.
fn built() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("legacy");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// curl with these options, in the way `body` is sent.
async fn curl(options: &'static [&'static str], base: &str) {
    let body = vec![b'c'; 100_000];
    let sent = built().join("curl-body");
    std::fs::write(&sent, &body).unwrap();
    let data = format!("@{}", sent.display());
    let echo = format!("{base}/echo");
    let mut calls = vec![vec!["--data-binary", &data, "-H", "Expect:"]];
    if options != ["--http1.0"] {
        calls.push(vec!["--data-binary", &data, "-H", "Expect: 100-continue"]);
    }
    if options == ["--http1.1"] {
        calls.push(vec!["--data-binary", &data, "-H", "Transfer-Encoding: chunked", "-H", "Expect:"]);
        calls.push(vec!["--data-binary", &data, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]);
    }
    let plain = run(Command::new("curl").args(["-sS", "-f"]).args(options).arg(format!("{base}/bytes/1000"))).await;
    assert_eq!(plain.stdout.len(), 1000, "{options:?}: {}", String::from_utf8_lossy(&plain.stderr));
    for call in calls {
        let output = run(Command::new("curl").args(["-sS", "-f"]).args(options).args(&call).arg(&echo)).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout == body, "{options:?} {call:?}: {} bytes; {errors}", output.stdout.len());
    }
}

async fn curls(options: &'static [&'static str]) {
    if has("curl").await.is_none() {
        return;
    }
    let servers = Servers::start().await;
    let proxy: Proxy = servers.proxy("", "").await;
    let base = format!("http://{}/orders", proxy.address);
    curl(options, &base).await;
    servers.issuer.revoke_all();
    curl(options, &base).await;
    servers.assert_always_a_token();
}

#[tokio::test]
async fn curl_with_http_1_0_calls() {
    curls(&["--http1.0"]).await;
}

#[tokio::test]
async fn curl_with_http_1_1_calls() {
    curls(&["--http1.1"]).await;
}

#[tokio::test]
async fn curl_with_http_2_and_prior_knowledge_calls() {
    curls(&["--http2-prior-knowledge"]).await;
}

#[tokio::test]
async fn wget_calls() {
    if has("wget").await.is_none() {
        return;
    }
    let sent = built().join("wget-body");
    std::fs::write(&sent, vec![b'w'; 100_000]).unwrap();
    let command = |base: &str| {
        let (get, post) = (format!("{base}/bytes/1000"), format!("{base}/echo"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(
            r#"set -e
            test "$(wget -q -O - "$0" | wc -c)" -eq 1000 && echo get ok
            wget -q -O - --post-file="$2" "$1" | cmp - "$2" && echo post ok
            wget -q -O - --post-file="$2" --header="Expect: 100-continue" "$1" | cmp - "$2" && echo expect ok"#,
        );
        shell.arg(get).arg(post).arg(&sent);
        shell
    };
    calls(command, 3).await;
}

#[tokio::test]
async fn python_requests_calls() {
    if has("python3").await.is_none() {
        return;
    }
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        let folder = built().join("python");
        let install = ["-m", "pip", "install", "-q", "--no-input", "--target"];
        if !folder.join("requests").is_dir() {
            let installed = std::process::Command::new("python3").args(install).arg(&folder).arg("requests").output();
            installed.ok().filter(|output| output.status.success())?;
        }
        Some(folder)
    });
    let Some(packages) = packages else {
        return unavailable("Python's `requests` cannot be installed").unwrap_or_default();
    };
    let command = |base: &str| {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", packages).arg(script("caller.py")).arg(base).arg(hash());
        python
    };
    calls(command, 4).await;
}

#[tokio::test]
async fn java_http_url_connection_calls() {
    if has("javac").await.is_none() || has("java").await.is_none() {
        return;
    }
    let folder = built().join("java");
    let compiled = run(Command::new("javac").arg("-d").arg(&folder).arg(script("Caller.java"))).await;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let command = |base: &str| {
        let mut java = Command::new("java");
        java.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"]).arg(&folder).arg("Caller").arg(base).arg(hash());
        java
    };
    calls(command, 4).await;
}

#[tokio::test]
async fn php_streams_call() {
    if has("php").await.is_none() {
        return;
    }
    let command = |base: &str| {
        let mut php = Command::new("php");
        php.arg(script("caller.php")).arg(base).arg(hash());
        php
    };
    calls(command, 5).await;
}

#[tokio::test]
async fn perl_lwp_calls() {
    let lwp = Command::new("perl").args(["-MLWP::UserAgent", "-e", "1"]).output().await;
    if !lwp.is_ok_and(|output| output.status.success()) {
        return unavailable("Perl's LWP is not installed").unwrap_or_default();
    }
    let command = |base: &str| {
        let mut perl = Command::new("perl");
        perl.arg(script("caller.pl")).arg(base).arg(hash());
        perl
    };
    calls(command, 4).await;
}

#[tokio::test]
async fn dot_net_calls() {
    if has("mcs").await.is_none() || has("mono").await.is_none() {
        return;
    }
    let program = built().join("Caller.exe");
    let mut out = std::ffi::OsString::from("-out:");
    out.push(&program);
    let compiled = run(Command::new("mcs").arg(out).arg(script("Caller.cs"))).await;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let command = |base: &str| {
        let mut mono = Command::new("mono");
        mono.arg(&program).arg(base).arg(hash());
        mono
    };
    calls(command, 4).await;
}
