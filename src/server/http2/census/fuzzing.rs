//! What must hold for any bytes of an HTTP/2 caller, in any pieces: the same frames are counted, and none of a kind that
//! has a bound passes it. The frames are read here a second time, by their lengths alone.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a property that does not hold stops here, and says where"
)]

use tokio::time::Instant;

use super::super::frames::{Frame, Frames};
use super::{Census, kind};
use crate::metrics::Flood;
use crate::server::opening::PREFACE;
use crate::server::{Http2Limits, Limits};

/// Bounds that short input reaches.
const BOUNDS: Http2Limits = Http2Limits {
    streams: 4,
    resets: 3,
    pings: 3,
    settings: 3,
    priorities: 3,
    window_updates: 3,
    tiny_data: 3,
    unknown: 3,
};

/// What was found of a stream of bytes.
#[derive(Debug, PartialEq)]
struct Found {
    counts: Vec<u32>,
    /// Frames, requests, and the last stream.
    seen: (u64, u64, u32),
    credit: String,
    waits_for: Option<super::Wait>,
    farewell: Option<u32>,
    flood: Option<Flood>,
    is_given_up: bool,
}

/// Every frame that begins in `bytes`, by the plain reading of RFC 9113 4.1: kind, flags, length, stream, payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, usize, u32, &[u8])> {
    let mut all = Vec::new();
    while let Some((&[l0, l1, l2, kind, flags, s0, s1, s2, s3], rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let (payload, later) = rest.split_at(length.min(rest.len()));
        all.push((kind, flags, length, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload));
        bytes = later;
    }
    all
}

/// The followed frames are those of the plain reading, however the bytes are cut.
fn followed(bytes: &[u8], sizes: &[u8]) {
    let (mut follower, mut seen) = (Frames::default(), Vec::new());
    for mut piece in pieces(bytes, sizes) {
        while let Some(frame) = follower.next(&mut piece) {
            seen.push(frame);
        }
        assert!(piece.is_empty(), "all was followed");
    }
    let read = frames(bytes).into_iter().filter_map(|(kind, flags, length, stream, payload)| {
        let reason = |from: usize| payload.get(from..from + 4).map(|four| u32::from_be_bytes(four.try_into().unwrap()));
        let reason = match kind {
            kind::RST_STREAM if length == 4 => reason(0)?,
            kind::GOAWAY if length >= 8 => reason(4)?,
            _ => 0,
        };
        Some(Frame { kind, flags, length: u32::try_from(length).unwrap(), stream, reason })
    });
    assert_eq!(seen, read.collect::<Vec<_>>(), "the same frames");
}

fn pieces<'b>(bytes: &'b [u8], sizes: &[u8]) -> Vec<&'b [u8]> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    for size in sizes {
        let (piece, later) = rest.split_at(usize::from(*size).min(rest.len()));
        all.push(piece);
        rest = later;
    }
    all.push(rest);
    all
}

fn found(received: &[u8], sent: &[u8], sizes: &[u8], now: Instant) -> Found {
    let mut census = Census::new(&Limits { http2: BOUNDS, ..Limits::default() });
    census.window = now;
    let mut is_given_up = false;
    for piece in pieces(sent, sizes) {
        is_given_up |= census.send(piece);
    }
    let mut flood = None;
    for piece in pieces(received, sizes) {
        if let Err(found) = census.receive(piece, now) {
            flood = Some(found);
            break;
        }
    }
    Found {
        counts: census.counts.to_vec(),
        seen: (census.frames, census.requests, census.last_stream),
        credit: format!("{:?} {}", census.credit, census.small),
        waits_for: census.waits_for(false),
        farewell: census.farewell(),
        flood,
        is_given_up,
    }
}

/// Any bytes of a caller behind the preface, after any bytes of ours. The first byte tells how many of those behind it
/// are sizes of pieces, the second how many bytes are ours.
pub fn frame_stream(bytes: &[u8]) {
    let [choice, ours, rest @ ..] = bytes else { return };
    let (sizes, rest) = rest.split_at(usize::from(choice & 0x0f).min(rest.len()));
    let (sent, caller) = rest.split_at(usize::from(*ours).min(rest.len()));
    followed(caller, sizes);
    followed(sent, sizes);
    let received = [PREFACE, caller].concat();
    let now = Instant::now();
    let at_once = found(&received, sent, &[], now);
    let mut in_pieces = found(&received, sent, sizes, now);
    if at_once.flood.is_some() {
        // Where the caller's frame ends is followed no further then.
        in_pieces.waits_for = at_once.waits_for;
    }
    assert_eq!(at_once, in_pieces, "the same counts however it is cut");
    bounded(&at_once, caller, sent);
}

/// No kind of frame that nothing answers to is taken more often than its bound says.
fn bounded(found: &Found, caller: &[u8], sent: &[u8]) {
    // A reset is counted once its reason is there.
    let is_counted = |frame: &(u8, u8, usize, u32, &[u8])| frame.0 != kind::RST_STREAM || frame.4.len() == frame.2;
    let all: Vec<_> = frames(caller).into_iter().filter(is_counted).collect();
    let of = |wanted: &dyn Fn(u8, usize, u8) -> bool| {
        let count = all.iter().filter(|(kind, flags, length, _, _)| wanted(*kind, *length, *flags)).count();
        u32::try_from(count).unwrap()
    };
    let answers = u32::try_from(frames(sent).iter().filter(|frame| frame.0 <= kind::HEADERS).count()).unwrap();
    let requests = of(&|kind, _, _| kind == kind::HEADERS);
    for (what, count, bound) in [
        ("RST_STREAM", of(&|kind, _, _| kind == kind::RST_STREAM), BOUNDS.resets),
        ("SETTINGS", of(&|kind, _, _| kind == kind::SETTINGS), BOUNDS.settings),
        ("PING", of(&|kind, _, _| kind == kind::PING), BOUNDS.pings + answers),
        ("PRIORITY", of(&|kind, _, _| kind == kind::PRIORITY), BOUNDS.priorities + 2 * requests),
        (
            "WINDOW_UPDATE",
            of(&|kind, _, _| kind == kind::WINDOW_UPDATE),
            BOUNDS.window_updates + 4 * (requests + answers),
        ),
        ("DATA", of(&|kind, length, flags| kind == kind::DATA && length < 5 && flags & 1 == 0), BOUNDS.tiny_data),
        ("unknown", of(&|kind, _, _| kind > kind::CONTINUATION && kind != kind::PRIORITY_UPDATE), BOUNDS.unknown),
    ] {
        assert!(count <= bound || found.flood.is_some(), "{count} of {what} pass a bound of {bound}");
    }
}
