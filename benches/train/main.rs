//! Gives a build of keybearer that is made to be profiled (`-Cprofile-generate`) what proxies have to do, in about the
//! proportions in which they do it: `train FILE`. `deploy/release.sh` runs it between the two builds of a release.
//!
//! Callers over HTTP/1.1 and HTTP/2, plain and in TLS, ask APIs of the same four kinds, for answers of all sizes, with
//! and without bodies, over connections that are kept and connections that are not; once a token is refused that was good
//! before. What is missing here counts as rare and is compiled for size. Every answer is checked: a program that
//! does something else than proxying must not be what a release is made for. Only loopback is asked.

mod callers;
mod origin;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::callers::{Asked, Caller};
use crate::origin::Origin;

/// How long the program may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

type Failed = Box<dyn Error + Send + Sync>;

/// A version of HTTP, and whether it is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spoken {
    is_http2: bool,
    is_secure: bool,
}

impl Spoken {
    const ALL: [Self; 4] = [
        Self { is_http2: false, is_secure: false },
        Self { is_http2: false, is_secure: true },
        Self { is_http2: true, is_secure: false },
        Self { is_http2: true, is_secure: true },
    ];

    /// What an API that speaks so is called.
    fn name(self) -> &'static str {
        match (self.is_http2, self.is_secure) {
            (false, false) => "plain",
            (false, true) => "secure",
            (true, false) => "h2",
            (true, true) => "h2_secure",
        }
    }

    fn scheme(self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    fn alpn(self) -> &'static [u8] {
        if self.is_http2 { b"h2" } else { b"http/1.1" }
    }
}

/// Who asks whom for what, and how often over how many connections.
struct Lesson {
    from: Spoken,
    to: Spoken,
    asked: Asked,
    connections: usize,
    /// Requests of each connection.
    requests: usize,
    /// Connections that are opened one after the other in the place of each.
    times: usize,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(program), None) = (arguments.next(), arguments.next()) else {
        eprintln!("train: expected the program to train");
        return ExitCode::FAILURE;
    };
    match run(Path::new(&program)) {
        Ok(requests) => {
            eprintln!("train: {requests} requests were answered as they should be");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("train: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &Path) -> Result<usize, Failed> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let origin = Origin::start(folder.path()).await?;
        let mut requests = 0;
        for access_log in ["\"off\"", "{ file = \"access.log\" }"] {
            let mut pupil = Pupil::start(program, folder.path(), &origin, access_log)?;
            pupil.listens().await?;
            for lesson in lessons() {
                requests += give(&lesson, &pupil, &origin).await.map_err(|error| lesson.told(&*error))?;
            }
            pupil.end()?;
        }
        Ok(requests)
    })
}

fn lessons() -> Vec<Lesson> {
    let plain = Spoken::ALL[0];
    let mut lessons = Vec::new();
    for from in Spoken::ALL {
        for to in Spoken::ALL {
            // Most of the world is HTTP/1.1.
            let weight = if from == plain && !to.is_http2 { 8 } else { 1 };
            let connections = if from.is_http2 { 2 } else { 16 };
            let each = 16 / connections;
            let mut give = |asked, requests: usize| {
                let requests = requests * weight * each;
                lessons.push(Lesson { from, to, asked, connections, requests, times: 1 });
            };
            give(Asked::Small, 100);
            give(Asked::Sized(64 * 1024), 8);
            give(Asked::Sized(1024 * 1024), 1);
            give(Asked::Chunked(16 * 1024), 8);
            give(Asked::Posted(256), 20);
            give(Asked::Posted(16 * 1024), 8);
        }
        let once = Lesson { from, to: plain, asked: Asked::Small, connections: 8, requests: 1, times: 20 };
        lessons.push(once);
    }
    // Behind it all others find that their token is refused, and one of them renews it.
    lessons.push(Lesson { from: plain, to: plain, asked: Asked::Revoke, connections: 1, requests: 1, times: 1 });
    lessons.push(Lesson { from: plain, to: plain, asked: Asked::Small, connections: 16, requests: 50, times: 1 });
    lessons
}

impl Lesson {
    fn told(&self, error: &dyn Error) -> Failed {
        format!("{:?}, from {} to {}: {error}", self.asked, self.from.name(), self.to.name()).into()
    }
}

/// Has the connections of a lesson ask at the same time; how many requests that was.
async fn give(lesson: &Lesson, pupil: &Pupil, origin: &Origin) -> Result<usize, Failed> {
    let port = if lesson.from.is_secure { pupil.secure_port } else { pupil.port };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..lesson.connections {
        let (from, path, asked) = (lesson.from, lesson.asked.path(lesson.to), lesson.asked);
        let (requests, times, trust) = (lesson.requests, lesson.times, origin.trust());
        asking.spawn(async move {
            for _ in 0..times {
                let mut caller = Caller::connect(from, port, &trust).await?;
                for _ in 0..requests {
                    caller.ask(&path, asked).await?;
                }
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    Ok(lesson.connections * lesson.requests * lesson.times)
}

/// The program that is trained.
struct Pupil {
    child: Child,
    port: u16,
    secure_port: u16,
    log: PathBuf,
}

impl Pupil {
    fn start(program: &Path, folder: &Path, origin: &Origin, access_log: &str) -> Result<Self, Failed> {
        let [port, secure_port, admin_port] = origin::free_ports()?;
        let mut text = format!(
            r#"workers = 1
log = {{ level = "info", format = "json", access = {access_log} }}
admin.address = "127.0.0.1:{admin_port}"
listeners.plain.address = "127.0.0.1:{port}"
listeners.secure = {{ address = "127.0.0.1:{secure_port}", tls = {{ certificate = "certificate.pem", key = "key.pem" }} }}

[external_credentials.issuer]
token_endpoint = "http://127.0.0.1:{issuer}/token"
client_id = "train"
client_secret = {{ dangerous_literal = "train" }}
"#,
            issuer = origin.port(Spoken::ALL[0]),
        );
        for spoken in Spoken::ALL {
            let (name, scheme, port) = (spoken.name(), spoken.scheme(), origin.port(spoken));
            write!(text, "\n[named_credentials.{name}]\nurl = \"{scheme}://localhost:{port}/v1\"\n")?;
            writeln!(
                text,
                "external_credential = \"issuer\"\nhttp = \"{}\"",
                if spoken.is_http2 { "2" } else { "1.1" }
            )?;
            if spoken.is_secure {
                text.push_str("tls = { ca = \"certificate.pem\" }\n");
            }
        }
        std::fs::write(folder.join("proxy.toml"), text)?;
        let log = folder.join("log");
        let child = Command::new(program.canonicalize()?)
            .args(["run", "-c", "proxy.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        Ok(Self { child, port, secure_port, log })
    }

    /// Waits until it accepts connections.
    async fn listens(&mut self) -> Result<(), Failed> {
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if self.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                return Err(self.said("did not start"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks it to end, as an operator would: what it learned it writes down at its end.
    fn end(mut self) -> Result<(), Failed> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(self.said(&format!("ended with {status}"))) }
    }

    fn said(&self, what: &str) -> Failed {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("the program {what}; it said:\n{}", said.trim()).into()
    }
}

impl Drop for Pupil {
    /// A training that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
