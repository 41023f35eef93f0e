//! Counts what a caller sends over HTTP/2, in windows of a second, and says when it is too much (RFC 9113 10.5).
//!
//! Frames that honest callers send in answer to ours (WINDOW_UPDATE, PING) are held against what was sent to them: a
//! caller that reads a hundred thousand small messages in a second may acknowledge each. What h2 bounds itself stays
//! bounded there: streams at a time, pending resets, errors that it answers with resets, small frames that it buffers,
//! frames of one header block.

use std::time::Duration;

use tokio::time::Instant;

use super::frames::{Frame, Frames};
use crate::metrics::Flood;
use crate::server::opening::PREFACE;
use crate::server::{Http2Limits, Limits};

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    /// RFC 9218.
    pub(super) const PRIORITY_UPDATE: u8 = 16;
}

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
const FIRST_FLAG: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Reasons by which a stream is reset because the caller made a mistake: PROTOCOL_ERROR, FLOW_CONTROL_ERROR,
/// STREAM_CLOSED, FRAME_SIZE_ERROR.
const MISTAKES: [u32; 4] = [1, 3, 5, 6];
const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Streams over the limit in a second: a caller may open many before it has read our SETTINGS.
const REFUSALS: u32 = 1_000;

/// CONTINUATION frames of a second beyond four for every request; h2 bounds those of one request.
const CONTINUATIONS: u32 = 100;

/// gRPC puts this many bytes before every message.
const SMALLEST_MESSAGE: u32 = 5;
const SMALL: u32 = 64;

/// What may be saved up of frames that answer ours: as much as a caller could owe after a pause.
const MOST_CREDIT: u32 = 65_536;

const WINDOW: Duration = Duration::from_secs(1);

/// What a caller is waited for; each has its own limit. The number tells one wait from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The first SETTINGS.
    Opening,
    /// The rest of a header block.
    Block(u64),
    /// The rest of a frame.
    Frame(u64),
    /// The rest of a DATA frame.
    Data(u64),
    /// Another request, on a connection without any.
    Idle(u64),
}

/// The books of one connection.
#[derive(Debug)]
pub(super) struct Census {
    limits: Http2Limits,
    acknowledged_within: Duration,
    received: Frames,
    sent: Frames,
    began: Instant,
    window: Instant,
    counts: [u32; Flood::ALL.len()],
    small: u32,
    credit: Credit,
    frames: u64,
    requests: u64,
    last_stream: u32,
    has_settings: bool,
    has_acknowledged: bool,
    is_in_block: bool,
}

/// Frames that the caller may send because of ours, or of its requests.
#[derive(Debug, Default)]
struct Credit {
    window_updates: u32,
    pings: u32,
    priorities: u32,
    continuations: u32,
}

fn earn(credit: &mut u32, frames: u32) {
    *credit = credit.saturating_add(frames).min(MOST_CREDIT);
}

impl Census {
    pub(super) fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        Self {
            limits: limits.http2,
            acknowledged_within: limits.header_timeout,
            received: Frames::after(PREFACE.len()),
            sent: Frames::default(),
            began: now,
            window: now,
            counts: [0; Flood::ALL.len()],
            small: 0,
            credit: Credit::default(),
            frames: 0,
            requests: 0,
            last_stream: 0,
            has_settings: false,
            has_acknowledged: false,
            is_in_block: false,
        }
    }

    /// Counts what the caller sent; how many frames that began.
    pub(super) fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<u32, Flood> {
        self.turn(now)?;
        let before = self.frames;
        while let Some(frame) = self.received.next(&mut bytes) {
            self.frames += 1;
            self.judge(frame)?;
        }
        Ok(u32::try_from(self.frames - before).unwrap_or(u32::MAX))
    }

    /// Counts what was sent to the caller. What that shows of the caller is too much at its next request at the latest.
    /// Whether h2 gave the connection up for a flood of its own finding.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_given_up = false;
        while let Some(frame) = self.sent.next(&mut bytes) {
            match frame.kind {
                kind::DATA | kind::HEADERS => {
                    earn(&mut self.credit.window_updates, 4);
                    earn(&mut self.credit.pings, 1);
                }
                kind::RST_STREAM if MISTAKES.contains(&frame.reason) => self.note(Flood::Provoked),
                kind::RST_STREAM if frame.reason == REFUSED_STREAM => self.note(Flood::Refused),
                kind::GOAWAY if frame.reason == ENHANCE_YOUR_CALM => is_given_up = true,
                _ => {}
            }
        }
        is_given_up
    }

    /// What the caller is waited for while nothing comes.
    pub(super) fn waits_for(&self, is_serving: bool) -> Option<Wait> {
        if !self.has_settings || (self.frames == 1 && !self.received.is_at_boundary()) {
            Some(Wait::Opening)
        } else if self.is_in_block {
            Some(Wait::Block(self.requests))
        } else if !self.received.is_at_boundary() && self.received.kind() == kind::DATA {
            Some(Wait::Data(self.frames))
        } else if !self.received.is_at_boundary() {
            Some(Wait::Frame(self.frames))
        } else {
            (!is_serving).then_some(Wait::Idle(self.requests))
        }
    }

    /// How long the connection has lasted.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether a frame of our own may be put between those that were sent, and what it says was seen last.
    pub(super) fn farewell(&self) -> Option<u32> {
        self.sent.is_at_boundary().then_some(self.last_stream)
    }

    /// Begins another window when this one is over.
    fn turn(&mut self, now: Instant) -> Result<(), Flood> {
        if now.saturating_duration_since(self.window) < WINDOW {
            return Ok(());
        }
        self.window = now;
        self.counts = [0; Flood::ALL.len()];
        self.small = 0;
        // RFC 9113 6.5.3: a caller that takes our SETTINGS and never says so keeps us from relying on them.
        let late = now.saturating_duration_since(self.began) >= self.acknowledged_within;
        if late && !self.has_acknowledged { Err(Flood::Settings) } else { Ok(()) }
    }

    fn judge(&mut self, frame: Frame) -> Result<(), Flood> {
        let limits = self.limits;
        let first_flag = frame.flags & FIRST_FLAG != 0;
        match frame.kind {
            kind::DATA if first_flag || frame.length >= SMALL => Ok(()),
            kind::DATA if frame.length >= SMALLEST_MESSAGE => {
                self.small += 1;
                if self.small > limits.tiny_data.saturating_mul(100) { Err(Flood::TinyData) } else { Ok(()) }
            }
            kind::DATA => self.count(Flood::TinyData, limits.tiny_data),
            kind::HEADERS => {
                self.open(frame);
                self.provoked()
            }
            kind::CONTINUATION => {
                self.is_in_block = frame.flags & END_HEADERS == 0;
                self.spend(|credit| &mut credit.continuations, Flood::Continuation, CONTINUATIONS)
            }
            kind::PRIORITY | kind::PRIORITY_UPDATE => {
                self.spend(|credit| &mut credit.priorities, Flood::Priority, limits.priorities)?;
                self.provoked()
            }
            kind::RST_STREAM => self.count(Flood::Reset, limits.resets),
            kind::SETTINGS if first_flag => {
                self.has_acknowledged = true;
                self.count(Flood::Settings, limits.settings)
            }
            kind::SETTINGS => {
                self.has_settings = true;
                self.count(Flood::Settings, limits.settings)
            }
            kind::PING => self.spend(|credit| &mut credit.pings, Flood::Ping, limits.pings),
            kind::WINDOW_UPDATE => {
                self.spend(|credit| &mut credit.window_updates, Flood::WindowUpdate, limits.window_updates)?;
                self.provoked()
            }
            // h2 ends the connection at the first of these that is wrong; a GOAWAY is the caller's to repeat.
            kind::PUSH_PROMISE | kind::GOAWAY => self.count(Flood::Unknown, limits.unknown),
            _ => self.count(Flood::Unknown, limits.unknown),
        }
    }

    /// A request, or its trailers.
    fn open(&mut self, frame: Frame) {
        self.is_in_block = frame.flags & END_HEADERS == 0;
        if frame.stream > self.last_stream {
            self.last_stream = frame.stream;
        }
        self.requests += 1;
        earn(&mut self.credit.window_updates, 4);
        earn(&mut self.credit.priorities, 2);
        earn(&mut self.credit.continuations, 4);
    }

    /// What the caller made us do, found when we sent it.
    fn provoked(&self) -> Result<(), Flood> {
        for (flood, limit) in [(Flood::Provoked, self.limits.resets), (Flood::Refused, REFUSALS)] {
            if self.counts.get(flood as usize).is_some_and(|count| *count > limit) {
                return Err(flood);
            }
        }
        Ok(())
    }

    fn spend(&mut self, of: impl Fn(&mut Credit) -> &mut u32, flood: Flood, limit: u32) -> Result<(), Flood> {
        let credit = of(&mut self.credit);
        if *credit > 0 {
            *credit -= 1;
            return Ok(());
        }
        self.count(flood, limit)
    }

    fn count(&mut self, flood: Flood, limit: u32) -> Result<(), Flood> {
        self.note(flood);
        let over = self.counts.get(flood as usize).is_some_and(|count| *count > limit);
        if over { Err(flood) } else { Ok(()) }
    }

    fn note(&mut self, flood: Flood) {
        if let Some(count) = self.counts.get_mut(flood as usize) {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
#[cfg(test)]
mod tests;
