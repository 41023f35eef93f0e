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
        // In bytes times nanoseconds, so that waits of less than a second count in full.
        u128::from(bytes) * Duration::from_secs(1).as_nanos() < waited.as_nanos().saturating_mul(least.rate as u128)
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

    #[test]
    fn the_rate_holds_to_the_byte_however_short_the_waits_are() {
        for (over, rate, enough) in [(100, 1000, 100), (300, 64, 20), (999, 64, 64), (1500, 64, 96), (60_000, 64, 3840)]
        {
            let over = Duration::from_millis(over);
            let least = LeastPace { over, rate };
            assert!(Pace::default().is_too_slow(enough - 1, over, least), "{enough} in {over:?}");
            assert!(!Pace::default().is_too_slow(enough, over, least), "{enough} in {over:?}");
        }
        let widest = LeastPace { over: Duration::MAX, rate: usize::MAX };
        assert!(Pace::default().is_too_slow(usize::MAX, Duration::MAX, widest));
    }
}
