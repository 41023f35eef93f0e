//! Whether bytes that come or go now and then come or go fast enough: a pause has its own limit, and a peer that ends
//! each pause in time could still take for ever.

use std::time::Duration;

/// How fast a peer has to be.
#[derive(Clone, Copy, Debug)]
pub struct LeastPace {
    /// The longest single pause, and what pauses add up to before the rate is looked at.
    pub over: Duration,
    /// Bytes a second; 0 is no limit.
    pub rate: usize,
}

/// What was waited for bytes, and what came of it. Time in which bytes were there and nobody wanted them does not count.
#[derive(Debug, Default)]
pub struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Notes `bytes` that were waited for; whether the peer is too slow, judged whenever the waits add up.
    pub fn is_too_slow(&mut self, bytes: usize, waited: Duration, least: LeastPace) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < least.over {
            return false;
        }
        let Self { waited, bytes } = std::mem::take(self);
        bytes < waited.as_secs().saturating_mul(least.rate as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastPace = LeastPace { over: Duration::from_secs(60), rate: 64 };

    #[test]
    fn a_peer_that_crawls_is_found_once_its_pauses_add_up() {
        let mut pace = Pace::default();
        let late = (0..10).find(|_| pace.is_too_slow(100, Duration::from_secs(10), LEAST));
        assert_eq!(late, Some(5), "ten bytes a second, after a minute");
    }

    #[test]
    fn a_peer_that_keeps_the_rate_goes_on_for_ever() {
        let mut pace = Pace::default();
        assert!((0..1000).all(|_| !pace.is_too_slow(640, Duration::from_secs(10), LEAST)));
        let none = LeastPace { rate: 0, ..LEAST };
        assert!((0..1000).all(|_| !pace.is_too_slow(1, Duration::from_secs(59), none)));
    }
}
