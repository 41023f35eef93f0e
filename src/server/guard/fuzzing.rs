//! What must hold for any bytes of an HTTP/1 caller, in any pieces: hyper is given a sequence of strictly well-formed
//! messages, byte for byte what was sent but for `Upgrade` fields that mean nothing, and in the place of what is refused
//! one harmless head. The messages are read here a second time, apart from the guard that is judged.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold stops here, and says where"
)]

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use self::message::{Length, Message};
use super::reading::HARMLESS;
use super::{Guard, Limits};
use crate::answer::Failure;
use crate::name::Name;
use crate::peer::Peer;
use crate::server::{Address, Connection, ListenerSettings};

mod message;

/// A caller that sends nothing before it is told to, and never closes.
struct Wire(Vec<u8>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.0.is_empty() {
            return Poll::Pending;
        }
        let rest = this.0.split_off(this.0.len().min(buf.remaining()));
        buf.put_slice(&this.0);
        this.0 = rest;
        Poll::Ready(Ok(()))
    }
}

/// What hyper was given, without the harmless head, and why nothing more came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) bytes: Vec<u8>,
    pub(super) failure: Option<Failure>,
}

/// Limits that short input reaches.
pub(super) fn limits() -> Limits {
    Limits { target: 100, header: 1_000, header_fields: 12, ..Limits::default() }
}

/// What hyper is given of `sent` in pieces of these sizes, the rest at once, into buffers with this much room. Needs a
/// runtime for its clock.
pub(super) fn given(sent: &[u8], sizes: &[u8], room: usize) -> Given {
    let listener = ListenerSettings::new(Name::parse("fuzz").unwrap(), Address::Tcp(([127, 0, 0, 1], 0).into()));
    let connection = Arc::new(Connection::new(Peer::Tcp(([127, 0, 0, 1], 1).into()), Arc::new(listener)));
    let mut guard = Guard::new(Wire(Vec::new()), Arc::clone(&connection), limits());
    let mut cx = Context::from_waker(Waker::noop());
    let (mut bytes, mut rest, mut space) = (Vec::new(), sent, vec![0; room]);
    for size in sizes.iter().map(|size| usize::from(*size)).chain([usize::MAX]) {
        let (piece, later) = rest.split_at(size.min(rest.len()));
        guard.io.0.extend_from_slice(piece);
        rest = later;
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut guard).poll_read(&mut cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => bytes.extend_from_slice(buf.filled()),
                Poll::Ready(Ok(())) => panic!("the end of what has no end"),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
    }
    let refused = (0..=sent.len()).find_map(|_| connection.called());
    if refused.is_some() {
        assert!(bytes.ends_with(HARMLESS), "a refused head is replaced");
        bytes.truncate(bytes.len() - HARMLESS.len());
    }
    Given { bytes, failure: refused.or(connection.body_failure()) }
}

/// Fails unless `given` is a sequence of well-formed messages, the last one perhaps not whole, and what was sent. How
/// many bytes of it are whole messages.
pub(super) fn whole_messages(sent: &[u8], given: &[u8]) -> usize {
    let (mut sent, mut rest) = (sent, given);
    while !rest.is_empty() {
        let message = Message::read(rest);
        let original = message::head_length(sent).expect("a whole head was sent");
        if message.asks_for_another_protocol {
            assert!(sent.starts_with(rest), "what was sent");
            assert_eq!(message.head, rest.len(), "nothing behind a request for another protocol");
            return given.len();
        }
        assert_eq!(message::without_upgrade(&sent[..original]), rest[..message.head], "the head that was sent");
        let body = match message.body {
            Length::Whole(length) => length,
            Length::More => rest.len() - message.head,
        };
        let (sent_body, given_body) = (&sent[original..], &rest[message.head..message.head + body]);
        assert!(sent_body.starts_with(given_body), "the body that was sent");
        if message.body == Length::More {
            return given.len() - rest.len();
        }
        (sent, rest) = (&sent[original + body..], &rest[message.head + body..]);
    }
    given.len()
}

/// Any bytes, cut in any way. The first byte tells how many of those behind it are sizes of pieces, and how large hyper's
/// buffer is.
pub fn guard(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let (sizes, sent) = rest.split_at(usize::from(choice & 0x0f).min(rest.len()));
    let room = [1, 23, 256, 8192][usize::from(choice >> 4 & 0x03)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    same_however_cut(sent, sizes, room);
}

/// The whole property. Needs a runtime for its clock.
pub(super) fn same_however_cut(sent: &[u8], sizes: &[u8], room: usize) {
    let (at_once, in_pieces) = (given(sent, &[], 8192), given(sent, sizes, room));
    let (whole, other) = (whole_messages(sent, &at_once.bytes), whole_messages(sent, &in_pieces.bytes));
    assert_eq!(at_once.bytes[..whole], in_pieces.bytes[..other], "the same messages however they are cut");
    assert_eq!(at_once.failure, in_pieces.failure, "the same failure however it is cut");
    if at_once.failure.is_none() {
        assert_eq!(at_once.bytes, in_pieces.bytes, "the same bytes however they are cut");
    }
}

/// Whether this head would be let through.
pub(in crate::server) fn passes(bytes: &[u8]) -> bool {
    let Limits { target, header, header_fields: fields, .. } = Limits::default();
    // What we add to a request of a caller that used its limits up.
    let limits = super::head::HeadLimits { target: 2 * target, header: 2 * header, fields: 2 * fields };
    super::head::judge(bytes, 0, limits).is_ok_and(|head| head.is_some())
}
