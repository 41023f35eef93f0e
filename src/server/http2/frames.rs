//! Follows a stream of HTTP/2 frames by their headers alone (RFC 9113 4.1), however the bytes are cut.

/// Length of a frame's header.
const HEADER: usize = 9;

/// Frames whose payload says why they were sent; it is looked at together with the header.
const RESET: u8 = 3;
const GOAWAY: u8 = 7;

/// How much of a frame's payload there is to look at.
fn reason_within(kind: u8, length: u32) -> usize {
    match (kind, length) {
        (RESET, 4) => 4,
        (GOAWAY, 8..) => 8,
        _ => 0,
    }
}

/// One frame, as its header tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) stream: u32,
    /// Why a stream is reset or a connection given up; 0 in every other frame.
    pub(super) reason: u32,
}

/// How far a stream of frames was followed.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER + 8],
    have: usize,
    /// How much of the frame at hand to look at, once its header is there.
    wanted: usize,
    /// Bytes that do not matter before the next header.
    skip: u64,
    /// The kind of the frame at hand.
    kind: u8,
}

impl Frames {
    /// Begins after `preface` bytes.
    pub(super) fn after(preface: usize) -> Self {
        Self { skip: preface as u64, ..Self::default() }
    }

    /// Whether the last frame is complete.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// The kind of the frame at hand, or of the last one.
    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    /// The next frame whose header `bytes` complete; takes from them what was followed.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            let step = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            *bytes = bytes.get(step..).unwrap_or_default();
            self.skip -= step as u64;
            if bytes.is_empty() {
                return None;
            }
            let wanted = self.wanted.max(HEADER);
            let step = (wanted - self.have).min(bytes.len());
            let (taken, rest) = bytes.split_at_checked(step)?;
            self.header.iter_mut().skip(self.have).zip(taken).for_each(|(to, from)| *to = *from);
            self.have += step;
            *bytes = rest;
            if self.have < wanted {
                return None;
            }
            let frame = self.frame();
            self.kind = frame.kind;
            self.wanted = HEADER + reason_within(frame.kind, frame.length);
            if self.have < self.wanted {
                continue;
            }
            self.skip = u64::from(frame.length).saturating_sub((self.have - HEADER) as u64);
            (self.have, self.wanted) = (0, 0);
            return Some(frame);
        }
    }

    fn frame(&self) -> Frame {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3, p0, p1, p2, p3, p4, p5, p6, p7] = self.header;
        let reason = match self.have.saturating_sub(HEADER) {
            4 => u32::from_be_bytes([p0, p1, p2, p3]),
            8 => u32::from_be_bytes([p4, p5, p6, p7]),
            _ => 0,
        };
        Frame {
            kind,
            flags,
            length: u32::from_be_bytes([0, l0, l1, l2]),
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Frame, Frames};

    fn write(wire: &mut Vec<u8>, frame: &Frame) {
        wire.extend(&frame.length.to_be_bytes()[1..]);
        wire.extend([frame.kind, frame.flags]);
        wire.extend(frame.stream.to_be_bytes());
        if frame.kind == 3 && frame.length == 4 {
            wire.extend(frame.reason.to_be_bytes());
        } else if frame.kind == 7 && frame.length >= 8 {
            wire.extend([0xa5; 4]);
            wire.extend(frame.reason.to_be_bytes());
            wire.resize(wire.len() + frame.length as usize - 8, 0xa5);
        } else {
            wire.resize(wire.len() + frame.length as usize, 0xa5);
        }
    }

    fn follow(frames: &mut Frames, mut bytes: &[u8], into: &mut Vec<Frame>) {
        while let Some(frame) = frames.next(&mut bytes) {
            into.push(frame);
        }
        assert!(bytes.is_empty());
    }

    fn frame() -> impl Strategy<Value = Frame> {
        (0_u8..12, any::<u8>(), prop_oneof![Just(4_u32), 0..40_u32], 0..0x8000_0000_u32, any::<u32>()).prop_map(
            |(kind, flags, length, stream, reason)| {
                let reason = if super::reason_within(kind, length) > 0 { reason } else { 0 };
                Frame { kind, flags, length, stream, reason }
            },
        )
    }

    proptest! {
        /// B56: however its bytes are cut, a flood is counted.
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_frames(
            sent in proptest::collection::vec(frame(), 1..30),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let mut wire = super::super::super::opening::PREFACE.to_vec();
            let preface = wire.len();
            sent.iter().for_each(|frame| write(&mut wire, frame));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
            cuts.sort_unstable();
            let (mut frames, mut seen, mut from) = (Frames::after(preface), Vec::new(), 0);
            for cut in cuts.into_iter().chain([wire.len()]) {
                follow(&mut frames, &wire[from..cut], &mut seen);
                from = cut;
            }
            prop_assert_eq!(seen, sent);
            prop_assert!(frames.is_at_boundary());
        }
    }

    #[test]
    fn a_frame_is_told_by_its_header_before_its_payload_is_there() {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        follow(&mut frames, b"\0\0\x05\0\x01\0\0\0\x07ab", &mut seen);
        assert_eq!(seen, [Frame { kind: 0, flags: 1, length: 5, stream: 7, reason: 0 }]);
        assert!(!frames.is_at_boundary());
        follow(&mut frames, b"cde", &mut seen);
        assert!(frames.is_at_boundary() && seen.len() == 1);
    }
}
