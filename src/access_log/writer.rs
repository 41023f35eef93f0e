//! From the workers to the sink: lines are collected in one bounded buffer, one thread writes them in batches.
//!
//! The buffer is bytes behind a lock that is held for one copy of some hundred bytes, rather than a channel of lines:
//! no allocation per line, a bound on memory instead of on a number, and a batch is ready to write as it is. A worker
//! never waits for the sink: when the buffer is full the line is dropped and counted.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

use super::line::Pen;
use super::sink::{OpenError, OpenTarget, Sink};
use super::{Record, Target};

/// The most bytes that wait to be written; as many again are being written.
const CAPACITY: usize = 4 * 1024 * 1024;

/// A buffer that grew beyond this in a burst is given back.
const USUAL: usize = 256 * 1024;

/// How fast things go.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The shortest time from batch to batch: under load a hundred writes a second instead of one for each line.
    linger: Duration,
    /// The time to the next try after a failed write.
    retry: Duration,
    /// How long the end of the process waits for a sink that does not move.
    end: Duration,
}

const PACE: Pace =
    Pace { linger: Duration::from_millis(10), retry: Duration::from_secs(1), end: Duration::from_secs(2) };

/// The access log as the data path sees it. Cloning is cheap; when it is off, writing costs one comparison.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Arc<Shared>>);

/// Keeps the writing thread; when dropped, what was collected is written and the thread ends.
#[derive(Debug)]
#[must_use = "dropping it ends the access log"]
pub struct Writer {
    shared: Option<Arc<Shared>>,
    thread: Option<JoinHandle<()>>,
    patience: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Tells an idle thread that there is something to do.
    work: Condvar,
    /// Tells a lingering thread that it had better not.
    urgent: Condvar,
    /// Tells [`Writer`] that the thread is done.
    finished: Condvar,
    capacity: usize,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    count: u64,
    reopen: bool,
    closed: bool,
    finished: bool,
}

thread_local! {
    static PEN: RefCell<Pen> = RefCell::new(Pen::new());
}

impl AccessLog {
    /// Opens `target` and starts the thread that writes; lines that are given up are counted in `dropped`.
    ///
    /// # Errors
    /// [`OpenError`] when the target cannot be opened.
    pub fn open(target: &Target, dropped: Counter) -> Result<(Self, Writer), OpenError> {
        match OpenTarget::open(target)? {
            Some(sink) => Self::start(Box::new(sink), CAPACITY, PACE, dropped),
            None => Ok((Self::off(), Writer { shared: None, thread: None, patience: Duration::ZERO })),
        }
    }

    /// A log that writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether lines are written, and [`Record::asked`] is wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn start(sink: Box<dyn Sink>, capacity: usize, pace: Pace, dropped: Counter) -> Result<(Self, Writer), OpenError> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            urgent: Condvar::new(),
            finished: Condvar::new(),
            capacity,
            dropped,
        });
        let job = Job { shared: Arc::clone(&shared), sink, pace, failing: false };
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || job.run());
        let thread = thread.map_err(OpenError::Thread)?;
        let writer = Writer { shared: Some(Arc::clone(&shared)), thread: Some(thread), patience: pace.end };
        Ok((Self(Some(shared)), writer))
    }

    /// Adds the line of a finished exchange. Never waits for the sink.
    pub fn write(&self, record: &Record) {
        let (Some(shared), Some(asked)) = (&self.0, &record.asked) else { return };
        PEN.with_borrow_mut(|pen| {
            if pen.write(record, asked).is_err() || !shared.push(&pen.line) {
                shared.dropped.inc();
            }
        });
    }

    /// Opens the file again under its name before the next line is written, for log rotation.
    pub fn reopen(&self) {
        if let Some(shared) = &self.0 {
            shared.state.lock().reopen = true;
            shared.work.notify_one();
        }
    }
}

impl Shared {
    /// Whether there was room for the line.
    fn push(&self, line: &[u8]) -> bool {
        let mut state = self.state.lock();
        let before = state.lines.len();
        if state.closed || before + line.len() > self.capacity {
            return false;
        }
        state.lines.extend_from_slice(line);
        state.count += 1;
        let after = state.lines.len();
        drop(state);
        if before == 0 {
            self.work.notify_one();
        }
        let half = self.capacity / 2;
        if before < half && after >= half {
            self.urgent.notify_one();
        }
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (Some(shared), Some(thread)) = (self.shared.take(), self.thread.take()) else { return };
        let deadline = Instant::now() + self.patience;
        let mut state = shared.state.lock();
        state.closed = true;
        shared.work.notify_one();
        shared.urgent.notify_one();
        while !state.finished && !shared.finished.wait_until(&mut state, deadline).timed_out() {}
        let finished = state.finished;
        drop(state);
        // A pipe that nobody reads holds the thread in its write; the end of the process does not wait for it.
        if finished && thread.join().is_err() {
            tracing::error!("the thread that writes the access log has panicked");
        }
    }
}

/// The writing thread.
struct Job {
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    pace: Pace,
    failing: bool,
}

/// What is being written.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    written: usize,
    count: u64,
}

/// What the state asked for when a batch was taken.
struct Asked {
    reopen: bool,
    closed: bool,
}

impl Job {
    fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            let asked = self.take(&mut batch);
            if asked.reopen {
                // A new file begins with a whole line.
                batch.rewind_to_line();
                let reopened = self.sink.reopen();
                self.note(&reopened);
            }
            let written = self.write(&mut batch);
            self.note(&written);
            if asked.closed {
                self.shared.dropped.inc_by(batch.unwritten_lines());
                break;
            }
            let pause = if written.is_ok() { self.pace.linger } else { self.pace.retry };
            self.pause(pause);
        }
        self.shared.state.lock().finished = true;
        self.shared.finished.notify_one();
    }

    /// Waits until there is something to do. A batch that is not written yet is kept, and tried again.
    fn take(&self, batch: &mut Batch) -> Asked {
        let mut state = self.shared.state.lock();
        if batch.is_written() {
            while state.lines.is_empty() && !state.closed && !state.reopen {
                self.shared.work.wait(&mut state);
            }
            batch.bytes.clear();
            batch.bytes.shrink_to(USUAL);
            batch.written = 0;
            std::mem::swap(&mut batch.bytes, &mut state.lines);
            batch.count = std::mem::take(&mut state.count);
        } else if state.closed {
            // The last try writes everything there is.
            batch.bytes.append(&mut state.lines);
            batch.count += std::mem::take(&mut state.count);
        }
        Asked { reopen: std::mem::take(&mut state.reopen), closed: state.closed }
    }

    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        while let Some(rest) = batch.bytes.get(batch.written..).filter(|rest| !rest.is_empty()) {
            match self.sink.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => batch.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says it once when writing begins to fail, and once when it works again.
    fn note(&mut self, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) if self.failing => tracing::info!("the access log can be written again"),
            Err(error) if !self.failing => {
                tracing::warn!(%error, "the access log cannot be written; lines wait, and are dropped when memory for them ends");
            }
            Ok(()) | Err(_) => {}
        }
        self.failing = outcome.is_err();
    }

    fn pause(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut state = self.shared.state.lock();
        let half = self.shared.capacity / 2;
        // While the sink fails there is no hurry: more lines are no reason to try sooner.
        while !state.closed && (self.failing || state.lines.len() < half) {
            if self.shared.urgent.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
    }
}

impl Batch {
    fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn rewind_to_line(&mut self) {
        let done = self.bytes.get(..self.written).unwrap_or_default();
        self.written = done.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    }

    /// Lines of which not all is written.
    fn unwritten_lines(&self) -> u64 {
        let done = self.bytes.get(..self.written).unwrap_or_default();
        let done = done.iter().filter(|byte| **byte == b'\n').count();
        self.count.saturating_sub(u64::try_from(done).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
