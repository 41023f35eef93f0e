use std::time::Duration;

use tokio::time::Instant;

use super::super::frames::Frame;
use super::{Census, Wait};
use crate::metrics::Flood;
use crate::server::Limits;
use crate::server::opening::PREFACE;

fn wire(frame: &Frame) -> Vec<u8> {
    let mut wire = frame.length.to_be_bytes()[1..].to_vec();
    wire.extend([frame.kind, frame.flags]);
    wire.extend(frame.stream.to_be_bytes());
    if frame.kind == 3 {
        wire.extend(frame.reason.to_be_bytes());
    } else {
        wire.resize(wire.len() + frame.length as usize, 0);
    }
    wire
}

fn frame(kind: u8, flags: u8, length: u32) -> Vec<u8> {
    wire(&Frame { kind, flags, length, stream: 1, reason: 0 })
}

fn reset(reason: u32) -> Vec<u8> {
    wire(&Frame { kind: 3, flags: 0, length: 4, stream: 1, reason })
}

/// A connection that has begun and agreed on settings.
fn begun() -> Census {
    let mut census = Census::new(&Limits::default());
    let begin = [PREFACE, &frame(4, 0, 0), &frame(4, 1, 0)].concat();
    assert_eq!(census.receive(&begin, Instant::now()), Ok(2));
    census
}

/// How many of this frame a second may bring.
fn bound(frame: &[u8]) -> (u32, Flood) {
    let (mut census, now) = (begun(), Instant::now());
    let mut count = 0;
    loop {
        match census.receive(frame, now) {
            Ok(_) => count += 1,
            Err(flood) => return (count, flood),
        }
        assert!(count < 1_000_000);
    }
}

/// B56
#[tokio::test(start_paused = true)]
async fn every_kind_has_its_bound() {
    for (what, frame, expected) in [
        ("SETTINGS", frame(4, 0, 0), (18, Flood::Settings)),
        ("SETTINGS with ACK", frame(4, 1, 0), (18, Flood::Settings)),
        ("PING", frame(6, 0, 8), (100, Flood::Ping)),
        ("answers to PING", frame(6, 1, 8), (100, Flood::Ping)),
        ("PRIORITY", frame(2, 0, 5), (200, Flood::Priority)),
        ("PRIORITY_UPDATE", frame(16, 0, 5), (200, Flood::Priority)),
        ("WINDOW_UPDATE", frame(8, 0, 4), (500, Flood::WindowUpdate)),
        ("RST_STREAM", reset(8), (200, Flood::Reset)),
        ("CONTINUATION", frame(9, 0, 0), (100, Flood::Continuation)),
        ("empty DATA", frame(0, 0, 0), (2_000, Flood::TinyData)),
        ("DATA of 4 bytes", frame(0, 0, 4), (2_000, Flood::TinyData)),
        ("DATA of 5 bytes", frame(0, 0, 5), (200_000, Flood::TinyData)),
        ("GOAWAY", frame(7, 0, 8), (100, Flood::Unknown)),
        ("an unknown type", frame(0xfe, 0, 1), (100, Flood::Unknown)),
    ] {
        assert_eq!(bound(&frame), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_answers_us_and_what_carries_something_has_no_bound() {
    let (mut census, now) = (begun(), Instant::now());
    for _ in 0..100_000 {
        // A request, an answer in two frames, and a caller that acknowledges each for its stream and the connection.
        let request = [frame(1, 5, 20), frame(2, 0, 5), frame(8, 0, 4), frame(8, 0, 4)].concat();
        census.receive(&request, now).unwrap();
        assert!(!census.send(&[frame(1, 4, 20), frame(0, 1, 7)].concat()));
        census.receive(&[frame(8, 0, 4).repeat(4), frame(6, 0, 8)].concat(), now).unwrap();
        census.receive(&[frame(0, 0, 64), frame(0, 1, 0), frame(0, 0, 16_384)].concat(), now).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_later_the_count_begins_again() {
    let (mut census, now) = (begun(), Instant::now());
    for second in 0..10 {
        for _ in 0..100 {
            assert_eq!(census.receive(&frame(6, 0, 8), now + Duration::from_secs(second)), Ok(1));
        }
    }
    assert_eq!(census.receive(&frame(6, 0, 8), now + Duration::from_secs(9)), Err(Flood::Ping));
}

/// B56: what a caller makes us do counts as if it had done it (MadeYouReset).
#[tokio::test(start_paused = true)]
async fn resets_that_the_caller_provoked_are_its_own() {
    for (reason, limit, expected) in [
        (1, 200, Err(Flood::Provoked)),
        (3, 200, Err(Flood::Provoked)),
        (5, 200, Err(Flood::Provoked)),
        (7, 200, Ok(1)),
        (7, 1_000, Err(Flood::Refused)),
        // NO_ERROR after an early answer, CANCEL, INTERNAL_ERROR: ours.
        (0, 10_000, Ok(1)),
        (8, 10_000, Ok(1)),
        (2, 10_000, Ok(1)),
    ] {
        let mut census = begun();
        for _ in 0..=limit {
            census.send(&reset(reason));
        }
        assert_eq!(census.receive(&frame(1, 5, 0), Instant::now()), expected, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_never_acknowledged_end_the_connection() {
    let mut census = Census::new(&Limits::default());
    census.receive(&[PREFACE, &frame(4, 0, 0)].concat(), Instant::now()).unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(census.receive(&frame(6, 0, 8), Instant::now()), Ok(1));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(census.receive(&frame(6, 0, 8), Instant::now()), Err(Flood::Settings));
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_is_told_by_what_came() {
    let now = Instant::now();
    let mut census = Census::new(&Limits::default());
    assert_eq!(census.waits_for(false), Some(Wait::Opening));
    census.receive(PREFACE, now).unwrap();
    census.receive(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 1], now).unwrap();
    assert_eq!(census.waits_for(false), Some(Wait::Opening), "half of SETTINGS");
    census.receive(&[0; 5], now).unwrap();
    assert_eq!(census.waits_for(false), Some(Wait::Idle(0)));
    census.receive(&frame(6, 0, 8)[..11], now).unwrap();
    assert_eq!(census.waits_for(false), Some(Wait::Frame(2)));
    census.receive(&[0; 6], now).unwrap();
    census.receive(&frame(1, 1, 3), now).unwrap();
    assert_eq!(census.waits_for(true), Some(Wait::Block(1)), "no END_HEADERS");
    census.receive(&frame(9, 4, 3), now).unwrap();
    assert_eq!(census.waits_for(true), None);
    census.receive(&frame(0, 0, 3)[..10], now).unwrap();
    assert_eq!(census.waits_for(true), Some(Wait::Data(5)));
    census.receive(&[0; 2], now).unwrap();
    assert_eq!((census.waits_for(true), census.waits_for(false)), (None, Some(Wait::Idle(1))));
}
