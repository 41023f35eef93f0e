//! Child processes: what they print, line by line, and signals to exactly the ones we started.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{PATIENCE, within};

/// What a process printed on one stream so far.
#[derive(Clone)]
pub(crate) struct Printed {
    lines: Arc<Mutex<Vec<String>>>,
    /// How many lines there are; the sender goes when the stream ends.
    count: watch::Receiver<usize>,
}

impl Printed {
    fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                kept.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
                sender.send_modify(|count| *count += 1);
            }
        });
        Self { lines, count }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// All lines so far as one text.
    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until `find` finds something in the lines; none when the stream ended without it.
    pub(crate) async fn find<T>(&self, find: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let mut count = self.count.clone();
        loop {
            count.mark_unchanged();
            if let Some(found) = find(&self.lines.lock().unwrap()) {
                return Some(found);
            }
            if count.changed().await.is_err() {
                return find(&self.lines.lock().unwrap());
            }
        }
    }

    /// Waits for the end of the stream.
    pub(crate) async fn ended(&self) {
        self.find(|_| None::<()>).await;
    }
}

/// A process of ours; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Printed,
    pub(crate) stderr: Printed,
}

impl Process {
    /// Starts `command`, its standard input an open pipe.
    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = Printed::follow(child.stdout.take().unwrap());
        let stderr = Printed::follow(child.stderr.take().unwrap());
        Ok(Self { child, stdout, stderr })
    }

    /// Its id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("the process has not ended")).unwrap()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for it to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let status = within("the process ends", PATIENCE, self.child.wait()).await.unwrap();
        self.stdout.ended().await;
        self.stderr.ended().await;
        status
    }

    /// A figure of `/proc/PID/status` in bytes, such as `VmHWM`; none on systems without it.
    pub(crate) fn memory(&self, figure: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}
