//! The writer against sinks that break, block and come back.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::{AccessLog, CAPACITY, Pace, Writer};
use crate::access_log::line::tests::record;
use crate::access_log::sink::Sink;
use crate::access_log::{Record, RequestId, Target};

const PACE: Pace = Pace { linger: Duration::ZERO, retry: Duration::ZERO, end: Duration::from_secs(20) };

/// A sink that does at each write what the test says: at most so many bytes, or an error. The test sends the outcome
/// when it wants the write to happen; when it hangs up, everything is written.
struct Told {
    orders: Receiver<Result<usize, io::ErrorKind>>,
    entered: Sender<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Sink for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        let most = self.orders.recv().unwrap_or(Ok(usize::MAX)).map_err(io::Error::from)?;
        let count = most.min(bytes.len());
        self.written.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.written.lock().clear();
        Ok(())
    }
}

struct Fixture {
    log: AccessLog,
    writer: Writer,
    dropped: Counter,
    orders: Sender<Result<usize, io::ErrorKind>>,
    entered: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

fn fixture(capacity: usize) -> Fixture {
    let (orders, obeyed) = mpsc::channel();
    let (told, entered) = mpsc::channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Told { orders: obeyed, entered: told, written: Arc::clone(&written) };
    let dropped = Counter::default();
    let (log, writer) = AccessLog::start(Box::new(sink), capacity, PACE, dropped.clone()).unwrap();
    Fixture { log, writer, dropped, orders, entered, written }
}

fn numbered(number: usize) -> Record {
    Record { id: RequestId::sent(&number.into()).unwrap(), ..record() }
}

fn ids(written: &Mutex<Vec<u8>>) -> Vec<String> {
    let text = String::from_utf8(written.lock().clone()).unwrap();
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

#[test]
fn every_line_is_written_in_order_before_the_writer_is_gone() {
    let fixture = fixture(CAPACITY);
    drop(fixture.orders);
    for number in 0..1000 {
        fixture.log.write(&numbered(number));
    }
    drop(fixture.writer);
    assert_eq!(ids(&fixture.written), (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(fixture.dropped.get(), 0);
    fixture.log.write(&numbered(1000));
    assert_eq!(fixture.dropped.get(), 1, "a line after the end is counted");
}

#[test]
fn a_sink_that_breaks_within_a_line_and_comes_back_loses_nothing() {
    let fixture = fixture(CAPACITY);
    fixture.log.write(&numbered(1));
    fixture.orders.send(Ok(10)).unwrap();
    for error in [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe, io::ErrorKind::Interrupted] {
        fixture.orders.send(Err(error)).unwrap();
    }
    // Each order is met before the end: at the end a broken sink gets one more try only.
    for _ in 0..5 {
        fixture.entered.recv().unwrap();
    }
    fixture.log.write(&numbered(2));
    drop(fixture.orders);
    drop(fixture.writer);
    assert_eq!(ids(&fixture.written), ["1", "2"]);
    assert_eq!(fixture.dropped.get(), 0);
}

#[test]
fn a_sink_that_stays_broken_costs_counted_lines_and_nothing_else() {
    let fixture = fixture(2048);
    for _ in 0..100_000 {
        fixture.orders.send(Err(io::ErrorKind::BrokenPipe)).unwrap();
    }
    for number in 0..100 {
        fixture.log.write(&numbered(number));
    }
    drop(fixture.writer);
    assert_eq!(fixture.dropped.get(), 100);
    assert!(fixture.written.lock().is_empty());
}

#[test]
fn a_line_that_finds_no_room_is_dropped_and_counted_without_waiting() {
    let fixture = fixture(2048);
    fixture.log.write(&numbered(0));
    fixture.entered.recv().unwrap();
    // The thread is held in its write now; what comes meanwhile has to fit the buffer.
    for number in 1..=100 {
        fixture.log.write(&numbered(number));
    }
    let dropped = fixture.dropped.get();
    assert!(dropped > 80, "{dropped}");
    drop(fixture.orders);
    drop(fixture.writer);
    assert_eq!(ids(&fixture.written).len() as u64 + dropped, 101);
    assert_eq!(fixture.dropped.get(), dropped);
}

#[test]
fn a_reopened_file_begins_with_a_whole_line() {
    let fixture = fixture(CAPACITY);
    fixture.log.write(&numbered(1));
    fixture.entered.recv().unwrap();
    fixture.log.reopen();
    fixture.orders.send(Ok(10)).unwrap();
    fixture.orders.send(Err(io::ErrorKind::StorageFull)).unwrap();
    drop(fixture.orders);
    drop(fixture.writer);
    assert_eq!(ids(&fixture.written), ["1"]);
}

#[test]
fn a_file_is_appended_to_and_reopened_after_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let rotated = folder.path().join("access.log.1");
    std::fs::write(&path, "before\n").unwrap();
    let (log, writer) = AccessLog::open(&Target::File(path.clone()), Counter::default()).unwrap();
    log.write(&numbered(1));
    drop((log, writer));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);

    let (log, writer) = AccessLog::open(&Target::File(path.clone()), Counter::default()).unwrap();
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    log.write(&numbered(2));
    drop((log, writer));
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"id\":\"2\""));
    assert_eq!(std::fs::read_to_string(&rotated).unwrap().lines().count(), 2);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("access.log");
    let error = AccessLog::open(&Target::File(path.clone()), Counter::default()).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn off_writes_nothing_and_has_no_thread() {
    let dropped = Counter::default();
    let (log, writer) = AccessLog::open(&Target::Off, dropped.clone()).unwrap();
    log.write(&record());
    assert!(writer.thread.is_none());
    drop(writer);
    assert_eq!(dropped.get(), 0);
}
