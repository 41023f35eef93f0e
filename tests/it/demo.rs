//! `keybearer demo` prints lines that can be run as they stand.

use serde_json::Value;
use tokio::process::Command;

use crate::support::process::Process;
use crate::support::proxy::{PROGRAM, Setup};
use crate::support::{PATIENCE, unavailable, within};

/// A printed command: without what stands before `curl`.
fn command(lines: &[String], wanted: impl Fn(&str) -> bool) -> Option<String> {
    lines.iter().find_map(|line| {
        let command = &line[line.find("curl -s ")?..];
        wanted(command).then(|| command.to_owned())
    })
}

/// Runs a printed line; returns the status it got.
async fn run(line: &str) -> String {
    // curl reads further arguments from its configuration file; the line itself stays as it was printed.
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".curlrc"), "silent\noutput = /dev/null\nwrite-out = %{http_code}\n").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).env("HOME", home.path()).env_remove("http_proxy").env_remove("ALL_PROXY");
    let output = within("the printed line runs", PATIENCE, shell.output()).await.unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn replayed(lines: &[String]) -> Vec<Value> {
    let log = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    log.filter(|line| line["renewed"] == true || line["replayed"] == true).collect()
}

#[tokio::test]
async fn the_printed_lines_show_a_call_a_revocation_and_a_renewal() {
    if Command::new("curl").arg("--version").output().await.is_err() {
        unavailable::<()>("curl is not installed");
        return;
    }
    let setup = Setup::new("");
    let demo = Process::start(setup.command(&["demo"]).env("NO_COLOR", "1")).unwrap();
    let printed = demo.stderr.find(|lines| {
        let revoke = command(lines, |line| line.contains("revoke"))?;
        Some((command(lines, |line| !line.contains("revoke"))?, revoke))
    });
    let Some((call, revoke)) = within("the demo prints its lines", PATIENCE, printed).await else {
        panic!("{PROGRAM} demo printed no lines to try:\n{}{}", demo.stdout.text(), demo.stderr.text());
    };

    assert_eq!(run(&call).await, "200", "{call}");
    assert!(replayed(&demo.stdout.lines()).is_empty());
    assert!(run(&revoke).await.starts_with('2'), "{revoke}");
    assert_eq!(run(&call).await, "200", "{call}");

    let seen = demo.stdout.find(|lines| (!replayed(lines).is_empty()).then_some(()));
    within("the access log tells of the replay", PATIENCE, seen).await.expect("the demo is still running");
    assert_eq!(run(&call).await, "200", "{call}");
    let replayed = replayed(&demo.stdout.lines());
    assert_eq!(replayed.len(), 1, "{replayed:#?}");
    assert_eq!((&replayed[0]["renewed"], &replayed[0]["replayed"]), (&true.into(), &true.into()));
}
