//! The proxy under test: the built program, with a configuration of the test's own in a folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::{PATIENCE, eventually, http, within};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_keybearer");

/// How most configurations begin: free ports, diagnostics as JSON, the access log on standard output.
pub(crate) fn head(level: &str) -> String {
    format!(
        r#"
[listeners.default]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[log]
level = "{level}"
format = "json"
access = "stdout"
"#
    )
}

/// A folder with a configuration and the files it names, and the environment it reads.
pub(crate) struct Setup {
    directory: TempDir,
    environment: Vec<(String, String)>,
    /// A program that runs ours, and its arguments; empty: none.
    wrapper: Vec<String>,
}

impl Setup {
    /// Writes `config` as `proxy.toml` into a new folder.
    pub(crate) fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("proxy.toml"), config).unwrap();
        Self { directory, environment: Vec::new(), wrapper: Vec::new() }
    }

    /// Adds an environment variable; the program gets no others but `PATH` and `HOME`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has this command run the program.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// Adds a file beside the configuration.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    /// Where the configuration is.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("proxy.toml")
    }

    /// The program with `arguments`, ready to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut parts = self.wrapper.iter().map(String::as_str).chain([PROGRAM]);
        let mut command = Command::new(parts.next().unwrap_or(PROGRAM));
        command.args(parts).args(arguments).current_dir(&self.directory).env_clear().env("HOME", self.directory.path());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command that ends by itself, such as `check`.
    pub(crate) async fn output(&self, arguments: &[&str]) -> Output {
        within("the command ends", PATIENCE, self.command(arguments).kill_on_drop(true).output()).await.unwrap()
    }

    /// `keybearer run`, once its listeners are bound and it says that it is ready.
    pub(crate) async fn run(self) -> Proxy {
        let config = self.config();
        let process = Process::start(&mut self.command(&["run", "-c", path(&config)])).unwrap();
        let address = listening(&process, "default").await;
        let admin = listening(&process, "admin").await;
        let proxy = Proxy { process, address, admin, setup: self };
        eventually("the proxy is ready", async || (proxy.admin("/readyz").await?.status == 200).then_some(())).await;
        proxy
    }
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The address in the line that says that `listener` is listening.
async fn listening(process: &Process, listener: &str) -> SocketAddr {
    let announced = process.stderr.find(|lines| {
        lines.iter().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            // tracing writes an event's own fields beside the others or under `fields`; both will do.
            let fields = if line.get("fields").is_some() { &line["fields"] } else { &line };
            if fields["message"] != "listening" || fields["listener"] != listener {
                return None;
            }
            fields["address"].as_str()?.parse().ok()
        })
    });
    within("the proxy listens", PATIENCE, announced).await.unwrap_or_else(|| {
        panic!("no line about listener {listener}; it printed:\n{}{}", process.stdout.text(), process.stderr.text())
    })
}

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    /// Where callers go.
    pub(crate) address: SocketAddr,
    /// Where operators go.
    pub(crate) admin: SocketAddr,
    /// The folder it runs in, for further commands with the same configuration.
    pub(crate) setup: Setup,
}

impl Proxy {
    /// The admin listener's answer; none when nobody listens there.
    pub(crate) async fn admin(&self, target: &str) -> Option<http::Answer> {
        http::get(self.admin, target).await.ok()
    }

    /// The access log so far.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        self.process.stdout.lines().iter().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    /// Waits until the access log has `count` lines.
    pub(crate) async fn exchanges(&self, count: usize) -> Vec<Value> {
        let enough = self.process.stdout.find(|lines| (lines.len() >= count).then_some(()));
        within("the access log grows", PATIENCE, enough).await.expect("the proxy is still running");
        self.access_log()
    }

    /// The warnings so far, once there are `count`.
    pub(crate) async fn warnings(&self, count: usize) -> Vec<Value> {
        let found = self.process.stderr.find(|lines| {
            let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let warnings: Vec<_> = lines.filter(|line| line["level"] == "WARN").collect();
            (warnings.len() >= count).then_some(warnings)
        });
        within("the proxy warns", PATIENCE, found).await.expect("the proxy is still running")
    }
}
