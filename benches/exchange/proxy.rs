//! The proxy under callgrind: started, asked a number of times over one connection per worker, ended, counted.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::origin::Origin;

/// How long the proxy may take for anything at all; generous, because valgrind is slow and machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the access log goes.
#[derive(Clone, Copy)]
pub(crate) enum AccessLog {
    Off,
    File,
}

/// What is measured: a request, and the settings it meets.
pub(crate) struct Setting<'a> {
    /// The name in `instructions.toml`.
    pub(crate) name: &'static str,
    /// The program.
    pub(crate) proxy: &'a Path,
    pub(crate) workers: u32,
    /// What the caller sends, to the last byte.
    pub(crate) request: String,
    pub(crate) access_log: AccessLog,
    pub(crate) upstream: &'a Origin,
    /// Where tokens come from.
    pub(crate) issuer: &'a Origin,
}

impl Setting<'_> {
    /// Instructions that the proxy executed for `requests` requests, start and end included.
    pub(crate) fn count(&self, requests: u32, folder: &Path) -> Result<u64, Box<dyn Error>> {
        let folder = folder.join(format!("{}-{requests}", self.name));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("proxy.toml"), self.configuration(&folder)?)?;
        let mut proxy = Proxy::start(self.proxy, &folder)?;
        let asked = self.ask(requests, proxy.port);
        proxy.end()?;
        asked?;
        instructions(&folder)
    }

    fn configuration(&self, folder: &Path) -> io::Result<String> {
        let (scheme, host, tls) = match &self.upstream.certificate {
            None => ("http", "127.0.0.1", ""),
            Some(certificate) => {
                std::fs::write(folder.join("ca.pem"), certificate)?;
                ("https", "localhost", "tls = { ca = \"ca.pem\" }")
            }
        };
        let access_log = match self.access_log {
            AccessLog::Off => "\"off\"",
            AccessLog::File => "{ file = \"access.log\" }",
        };
        Ok(format!(
            r#"workers = {workers}

[listeners.default]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[log]
level = "info"
format = "json"
access = {access_log}

[named_credentials.orders]
url = "{scheme}://{host}:{port}/v1"
external_credential = "issuer"
{tls}

[external_credentials.issuer]
token_endpoint = "http://{issuer}/token"
client_id = "bench"
client_secret = {{ dangerous_literal = "bench" }}
"#,
            workers = self.workers,
            port = self.upstream.address.port(),
            issuer = self.issuer.address,
        ))
    }

    /// Sends the request again and again, each after the answer to the one before; the workers take turns, because each
    /// was handed one of the connections.
    fn ask(&self, requests: u32, port: u16) -> Result<(), Box<dyn Error>> {
        let mut callers = (0..self.workers).map(|_| Caller::connect(port)).collect::<Result<Vec<_>, _>>()?;
        for number in 0..requests {
            let turn = usize::try_from(number % self.workers)?;
            let caller = callers.get_mut(turn).ok_or("no worker")?;
            caller.ask(&self.request).map_err(|error| format!("request {number}: {error}"))?;
        }
        Ok(())
    }
}

/// A connection to the proxy.
struct Caller {
    socket: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Caller {
    fn connect(port: u16) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket: BufReader::new(socket), line: String::new(), body: Vec::new() })
    }

    /// Sends `request` and reads all of the answer, which has to be a 200.
    fn ask(&mut self, request: &str) -> Result<(), Box<dyn Error>> {
        self.socket.get_mut().write_all(request.as_bytes())?;
        self.read_line()?;
        if !self.line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the answer was {:?}", self.line.trim_end()).into());
        }
        let mut length = 0;
        loop {
            self.read_line()?;
            let Some((name, value)) = self.line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        self.body.resize(length, 0);
        Ok(self.socket.read_exact(&mut self.body)?)
    }

    fn read_line(&mut self) -> io::Result<usize> {
        self.line.clear();
        self.socket.read_line(&mut self.line)
    }
}

/// The running program.
struct Proxy {
    child: Child,
    /// Where it listens for callers.
    port: u16,
    stderr: std::thread::JoinHandle<String>,
}

impl Proxy {
    /// Starts `program` in `folder` and waits until it listens.
    fn start(program: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new("valgrind")
            .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
            .arg(format!("--callgrind-out-file={}", folder.join("callgrind").display()))
            .arg(program)
            .args(["run", "-c", "proxy.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("valgrind does not start: {error}"))?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
        let mut seen = String::new();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            seen.push_str(&line);
            seen.push('\n');
            listening(&line)
        });
        let Some(port) = port else {
            child.wait()?;
            return Err(format!("the proxy did not start:\n{seen}").into());
        };
        let stderr = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        Ok(Self { child, port, stderr })
    }

    /// Asks it to end, as an operator would, and waits until it has.
    fn end(&mut self) -> Result<(), Box<dyn Error>> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        let stderr = std::mem::replace(&mut self.stderr, std::thread::spawn(String::new));
        Err(format!("the proxy ended with {status}:\n{}", stderr.join().unwrap_or_default()).into())
    }
}

impl Drop for Proxy {
    /// A harness that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port, if this line of the log says that the callers' listener has one.
fn listening(line: &str) -> Option<u16> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = |name| event.get(name).or_else(|| event.get("fields")?.get(name))?.as_str();
    if field("listener")? != "default" {
        return None;
    }
    field("address")?.rsplit_once(':')?.1.parse().ok()
}

/// Adds up what callgrind wrote for each thread but the first: that one starts the program, and the
/// entropy it gathers for that costs hundreds of millions of instructions, never the same number twice.
fn instructions(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for file in outputs(folder)? {
        let text = std::fs::read_to_string(&file)?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
        sum += totals.ok_or_else(|| format!("{} has no totals", file.display()))?.trim().parse::<u64>()?;
    }
    if sum == 0 { Err("callgrind counted nothing".into()) } else { Ok(sum) }
}

fn outputs(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("callgrind-") && name != "callgrind-01" {
            found.push(path);
        }
    }
    Ok(found)
}
