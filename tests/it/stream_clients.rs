//! WebSocket, event streams and gRPC with the clients that people use, before and after their token was revoked: every
//! stream is whole, byte for byte, and nobody notices the renewal.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tokio::process::Command;

use super::support::process::Process;
use super::support::proxy::Proxy;
use super::support::servers::{Servers, run};
use super::support::{PATIENCE, http, npm, unavailable, within};

/// What is copied into the build folder; the two that npm reads come first.
const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("../streams/package.json")),
    ("package-lock.json", include_str!("../streams/package-lock.json")),
    ("grants.mjs", include_str!("../streams/grants.mjs")),
    ("upstream.mjs", include_str!("../streams/upstream.mjs")),
    ("caller.mjs", include_str!("../streams/caller.mjs")),
];

/// Streams that each caller tries.
const LINES: usize = 9;

/// The upstream, and a proxy before it.
struct Scene {
    _upstream: Process,
    folder: &'static Path,
    control: u16,
    servers: Servers,
    proxy: Proxy,
}

impl Scene {
    async fn start() -> Option<Self> {
        static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let folder = match FOLDER.get_or_init(|| npm::install("streams", &FILES)) {
            Ok(folder) => folder.as_path(),
            Err(why) => return unavailable(why),
        };
        let upstream = Process::start(Command::new("node").arg(folder.join("upstream.mjs"))).expect("node starts");
        let ready = upstream.stdout.find(|lines| lines.first().cloned());
        let ready = within("the upstream starts", PATIENCE, ready).await;
        let ready = ready.unwrap_or_else(|| panic!("no upstream:\n{}", upstream.stderr.text()));
        let ports: Value = serde_json::from_str(&ready).unwrap();
        let port = |name: &str| u16::try_from(ports[name].as_u64().unwrap()).unwrap();
        let servers = Servers::start().await;
        let rpc = format!(
            "[named_credentials.rpc]\nurl = \"http://127.0.0.1:{}/keybearer.Streams\"\n\
             match = {{ path = \"/keybearer.Streams\" }}\nexternal_credential = \"issuer\"\n",
            port("rpc"),
        );
        let web = format!("http://127.0.0.1:{}", port("web"));
        let config = servers.config(&web, "match = { path = \"/ws\" }\n", "") + &rpc;
        Some(Self { _upstream: upstream, folder, control: port("control"), servers, proxy: run(&config).await })
    }

    /// Runs `command` before and after the tokens were revoked.
    async fn calls(&self, mut command: impl FnMut(&str) -> Command, lines: usize) {
        let authority = self.proxy.address.to_string();
        for token in ["a first", "a renewed"] {
            let output = within("the caller ends", PATIENCE, command(&authority).kill_on_drop(true).output()).await;
            let output = output.unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            let good = printed.lines().filter(|line| line.ends_with(" ok")).count();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!((good, printed.lines().count()), (lines, lines), "with {token} token: {printed}{errors}");
            let control = ([127, 0, 0, 1], self.control).into();
            http::get(control, "/revoke").await.unwrap();
        }
        assert_eq!(self.servers.issuer.token_requests(), 2, "one renewal");
    }
}

#[tokio::test]
async fn node_s_ws_and_grpc_js_stream_through_a_renewal() {
    let Some(scene) = Scene::start().await else { return };
    let command = |authority: &str| {
        let mut node = Command::new("node");
        node.arg(scene.folder.join("caller.mjs")).arg(authority);
        node
    };
    scene.calls(command, LINES + 2).await;
}

#[tokio::test]
async fn python_s_websockets_and_grpcio_stream_through_a_renewal() {
    let packages = match python_packages() {
        Ok(packages) => packages,
        Err(why) => return unavailable(&why).unwrap_or_default(),
    };
    let Some(scene) = Scene::start().await else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/caller.py");
    let command = |authority: &str| {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages).arg(&script).arg(authority);
        python
    };
    scene.calls(command, LINES).await;
}

fn python_packages() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("streams-python");
    if folder.join("grpc").is_dir() && folder.join("websockets").is_dir() {
        return Ok(folder);
    }
    let mut install = std::process::Command::new("python3");
    install.args(["-m", "pip", "install", "-q", "--no-input", "--target"]).arg(&folder).args(["grpcio", "websockets"]);
    let output = install.output().map_err(|_| "python3 is not installed".to_owned())?;
    if !output.status.success() {
        return Err(format!("pip cannot install grpcio and websockets: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(folder)
}
