//! Interim answers (1xx, RFC 9110 15.2) on their way from the exchange to the caller.
//!
//! hyper's server cannot send them. The exchange queues them here, ready to be sent, and the guard writes them where no
//! message of hyper's is under way. An exchange that queues none costs a flag.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut as _, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

/// More of them than this, or more bytes of them, not yet written, are dropped: the caller does not read.
const UNWRITTEN: usize = 16;
const UNWRITTEN_BYTES: usize = 16 * 1024;

/// The interim answers of the exchange at hand.
#[derive(Debug, Default)]
pub(super) struct Interims {
    /// Whether an exchange that may send some has not begun its answer.
    open: AtomicBool,
    queued: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: BytesMut,
    count: usize,
}

impl Interims {
    /// A new exchange begins; `may_have` unless its caller knows no interim answers.
    pub(super) fn open(&self, may_have: bool) {
        self.clear();
        self.open.store(may_have, Ordering::Relaxed);
    }

    /// The answer has begun: nothing may be queued any more. What is queued may still go out before its first byte.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Queues one, unless it is none or comes too late.
    pub(super) fn push(&self, status: StatusCode, headers: &HeaderMap) {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS || !self.is_open() {
            return;
        }
        let mut queue = self.queue.lock();
        let before = queue.bytes.len();
        if queue.count == UNWRITTEN {
            return;
        }
        write(&mut queue.bytes, status, headers);
        if queue.bytes.len() > UNWRITTEN_BYTES {
            queue.bytes.truncate(before);
            return;
        }
        queue.count += 1;
        self.queued.store(true, Ordering::Relaxed);
    }

    /// Whether the answer has not begun.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether there are any.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    /// Whole ones, to be written.
    pub(super) fn take(&self) -> BytesMut {
        let mut queue = self.queue.lock();
        self.queued.store(false, Ordering::Relaxed);
        queue.count = 0;
        queue.bytes.split()
    }

    /// Drops what is queued.
    pub(super) fn clear(&self) {
        if self.is_queued() {
            drop(self.take());
        }
    }
}

/// RFC 9112 4, RFC 9110 8.6: no such answer has a body, so nothing in it says how one would be framed. A [`HeaderMap`]
/// holds no name and no value that could end a line.
fn write(bytes: &mut BytesMut, status: StatusCode, headers: &HeaderMap) {
    bytes.put_slice(b"HTTP/1.1 ");
    bytes.put_slice(status.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(status.canonical_reason().unwrap_or("Interim").as_bytes());
    bytes.put_slice(b"\r\n");
    for (name, value) in headers {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            continue;
        }
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value.as_bytes());
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(length: usize) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.insert("link", HeaderValue::from_str(&"a".repeat(length)).unwrap());
        fields.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        fields
    }

    /// B28: an interim answer has no body and says nothing of one.
    #[test]
    fn an_interim_answer_is_written_without_framing_fields() {
        let interims = Interims::default();
        interims.open(true);
        interims.push(StatusCode::EARLY_HINTS, &fields(3));
        assert!(interims.is_queued());
        assert_eq!(&interims.take()[..], b"HTTP/1.1 103 Early Hints\r\nlink: aaa\r\n\r\n");
        assert!(!interims.is_queued());
    }

    #[test]
    fn what_is_no_interim_answer_or_comes_too_late_is_dropped() {
        let interims = Interims::default();
        interims.push(StatusCode::EARLY_HINTS, &fields(1));
        interims.open(true);
        interims.push(StatusCode::SWITCHING_PROTOCOLS, &fields(1));
        interims.push(StatusCode::OK, &fields(1));
        interims.close();
        interims.push(StatusCode::EARLY_HINTS, &fields(1));
        assert!(!interims.is_queued());
        interims.open(true);
        interims.push(StatusCode::PROCESSING, &HeaderMap::new());
        interims.open(true);
        assert!(!interims.is_queued(), "those of one exchange are not the next one's");
    }

    #[test]
    fn they_are_bounded_in_number_and_bytes() {
        let interims = Interims::default();
        interims.open(true);
        for _ in 0..100 {
            interims.push(StatusCode::PROCESSING, &HeaderMap::new());
        }
        assert_eq!(interims.take().len(), UNWRITTEN * b"HTTP/1.1 102 Processing\r\n\r\n".len());
        interims.push(StatusCode::EARLY_HINTS, &fields(9_000));
        interims.push(StatusCode::EARLY_HINTS, &fields(9_000));
        interims.push(StatusCode::EARLY_HINTS, &fields(1));
        let text = String::from_utf8(interims.take().to_vec()).unwrap();
        assert_eq!(text.matches("HTTP/1.1 103").count(), 2, "whole ones only");
        assert!(text.ends_with("link: a\r\n\r\n"));
    }
}
