//! Open-loop load: `load PORT CONNECTIONS RATE SECONDS REQUEST_FILE` sends the request `RATE` times a second, evenly
//! spread, and prints latencies as one JSON object.
//!
//! When a request is to be sent does not depend on the answers to earlier ones, and its latency counts from that
//! moment, not from when its connection came free: who answers late cannot thin out the load and does not look better
//! for it. Each connection is a thread, because blocking sockets and `nanosleep` are what keeps time best; each sends
//! every CONNECTIONS-th request. Only HTTP/1.1 answers with 200 and a Content-Length count; any other ends the run.
//! `benches/compare/run.py` runs it.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Beginning of a run that is not counted, in which proxies open their connections.
const SETTLING: Duration = Duration::from_millis(300);

/// An answer that takes longer ends the run.
const PATIENCE: Duration = Duration::from_secs(20);

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, connections, rate, seconds, file] = arguments.as_slice() else {
        eprintln!("load: expected PORT CONNECTIONS RATE SECONDS REQUEST_FILE; benches/compare/run.py runs it");
        return ExitCode::FAILURE;
    };
    match Plan::read(port, connections, rate, seconds, file).and_then(|plan| plan.run()) {
        Ok(measured) => {
            println!("{}", measured.json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be sent, and when.
struct Plan {
    port: u16,
    connections: u32,
    /// Between two requests of all connections together.
    interval: Duration,
    lasts: Duration,
    request: Vec<u8>,
}

impl Plan {
    fn read(port: &str, connections: &str, rate: &str, seconds: &str, file: &str) -> Result<Self, Failed> {
        Ok(Self {
            port: port.parse()?,
            connections: connections.parse()?,
            interval: Duration::from_secs_f64(1.0 / rate.parse::<f64>()?),
            lasts: SETTLING + Duration::from_secs_f64(seconds.parse()?),
            request: std::fs::read(file)?,
        })
    }

    fn run(&self) -> Result<Measured, Failed> {
        let sockets: Vec<TcpStream> = (0..self.connections).map(|_| self.connect()).collect::<Result<_, _>>()?;
        // Time for every thread to be there before the first request is due.
        let start = Instant::now() + Duration::from_millis(50);
        std::thread::scope(|scope| {
            let first = (0..self.connections).map(|number| start + self.interval * number);
            let threads: Vec<_> = sockets
                .into_iter()
                .zip(first)
                .map(|(socket, first)| scope.spawn(move || self.ask(socket, first, start)))
                .collect();
            let mut all = Measured::default();
            for thread in threads {
                all.add(&thread.join().map_err(|_| "a thread panicked")??);
            }
            Ok(all)
        })
    }

    fn connect(&self) -> Result<TcpStream, Failed> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// What one connection does: a request whenever one is due.
    fn ask(&self, mut socket: TcpStream, first: Instant, start: Instant) -> Result<Measured, Failed> {
        let mut measured = Measured::default();
        let mut answer = Answer { bytes: vec![0; 64 * 1024], filled: 0 };
        let mut due = first;
        while due < start + self.lasts {
            let was_free = Instant::now() <= due;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            socket.write_all(&self.request)?;
            answer.read(&mut socket)?;
            if due >= start + SETTLING {
                measured.latencies.count(due.elapsed());
                if was_free {
                    measured.delays.count(sent.saturating_duration_since(due));
                }
            }
            due += self.interval * self.connections;
        }
        Ok(measured)
    }
}

/// The answer being read.
struct Answer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Answer {
    /// Reads one answer to its last byte.
    fn read(&mut self, socket: &mut TcpStream) -> Result<(), Failed> {
        self.filled = 0;
        let head = loop {
            self.more(socket)?;
            let seen = self.bytes.get(..self.filled).unwrap_or_default();
            if let Some(end) = memchr::memmem::find(seen, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(self.bytes.get(..head).unwrap_or_default())?;
        if !text.starts_with("HTTP/1.1 200 ") {
            return Err(format!("not every request succeeded: {}", text.lines().next().unwrap_or_default()).into());
        }
        let mut left = (head + content_length(text)?).checked_sub(self.filled).ok_or("more came than was asked for")?;
        while left > 0 {
            self.filled = 0;
            self.more(socket)?;
            left = left.checked_sub(self.filled).ok_or("more came than was asked for")?;
        }
        Ok(())
    }

    fn more(&mut self, socket: &mut TcpStream) -> Result<(), Failed> {
        let read = socket.read(self.bytes.get_mut(self.filled..).unwrap_or_default())?;
        if read == 0 {
            return Err("the connection ended, or the head of an answer is too long".into());
        }
        self.filled += read;
        Ok(())
    }
}

fn content_length(head: &str) -> Result<usize, Failed> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().ok_or("an answer without Content-Length")?;
    Ok(length.trim().parse()?)
}

/// What a run, or a part of it, came to.
#[derive(Default)]
struct Measured {
    latencies: Histogram,
    /// How late this program itself was to send, where the connection was free in time: its own error.
    delays: Histogram,
}

impl Measured {
    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.delays.add(&other.delays);
    }

    fn json(&self) -> serde_json::Value {
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
        serde_json::json!({
            "requests": self.latencies.total,
            "p50_ms": milliseconds(self.latencies.quantile(0.5)),
            "p99_ms": milliseconds(self.latencies.quantile(0.99)),
            "p999_ms": milliseconds(self.latencies.quantile(0.999)),
            "max_ms": milliseconds(self.latencies.longest),
            "own_delay_p99_ms": milliseconds(self.delays.quantile(0.99)),
        })
    }
}

/// Steps within one doubling: what a quantile says is at most a sixty-fourth more than it was.
const STEPS: u64 = 64;

/// Durations in logarithmic buckets of nanoseconds, each doubling in [`STEPS`] equal ones.
#[derive(Default)]
struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    fn count(&mut self, duration: Duration) {
        let bucket = bucket(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// The upper end of the bucket in which the share `share` of all durations is reached, or the longest if less.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "counts are far below 2^52"
    )]
    fn quantile(&self, share: f64) -> Duration {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        reached.map_or(Duration::ZERO, |bucket| Duration::from_nanos(upper_end(bucket as u64)).min(self.longest))
    }
}

/// Values below two times [`STEPS`] have a bucket each; above, the highest seven bits decide.
fn bucket(nanoseconds: u64) -> usize {
    let doublings = u64::from((nanoseconds | STEPS).ilog2() - STEPS.ilog2());
    usize::try_from(doublings * STEPS + (nanoseconds >> doublings)).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper_end(bucket: u64) -> u64 {
    let doublings = (bucket / STEPS).saturating_sub(1);
    ((bucket - doublings * STEPS + 1) << doublings) - 1
}
