//! Connections ended because of what their callers sent over HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// SETTINGS, or ours not acknowledged.
    Settings,
    /// PING.
    Ping,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// RST_STREAM.
    Reset,
    /// Errors that made us reset streams.
    Provoked,
    /// Streams beyond those allowed at a time.
    Refused,
    /// CONTINUATION.
    Continuation,
    /// DATA without data, or almost.
    TinyData,
    /// Frames of unknown types.
    Unknown,
    /// What the HTTP/2 library found itself: requests that are reset before they are looked at, frames of one header
    /// block, small frames that nobody has read yet.
    Other,
}

impl Flood {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Settings,
        Self::Ping,
        Self::Priority,
        Self::WindowUpdate,
        Self::Reset,
        Self::Provoked,
        Self::Refused,
        Self::Continuation,
        Self::TinyData,
        Self::Unknown,
        Self::Other,
    ];

    /// The word in metrics and in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Priority => "priority",
            Self::WindowUpdate => "window_update",
            Self::Reset => "reset",
            Self::Provoked => "provoked_reset",
            Self::Refused => "refused_stream",
            Self::Continuation => "continuation",
            Self::TinyData => "tiny_data",
            Self::Unknown => "unknown",
            Self::Other => "other",
        }
    }
}

/// Counts them by kind. Cloning costs one atomic increment.
#[derive(Clone, Debug, Default)]
pub struct Floods(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ended: [Counter; Flood::ALL.len()],
    /// The second since the epoch of the last line in the log.
    told: AtomicU64,
}

impl Floods {
    /// Counts a connection. Whether the log should say so: at most every ten seconds, `now` being seconds.
    pub fn ended(&self, flood: Flood, now: u64) -> bool {
        if let Some(counter) = self.0.ended.get(flood as usize) {
            counter.inc();
        }
        let told = self.0.told.load(Ordering::Relaxed);
        now >= told + 10 && self.0.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Flood::ALL.iter().zip(&self.0.ended).map(|(flood, counter)| (flood.word(), counter.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Flood, Floods};

    #[test]
    fn each_kind_has_its_place_and_the_log_is_not_flooded_in_turn() {
        for (place, flood) in Flood::ALL.iter().enumerate() {
            assert_eq!(*flood as usize, place);
        }
        let floods = Floods::default();
        let told = [100, 101, 109, 110, 111].map(|now| floods.ended(Flood::Ping, now));
        assert_eq!(told, [true, false, false, true, false]);
        assert_eq!(floods.counts().find(|(word, _)| *word == "ping"), Some(("ping", 5)));
    }
}
