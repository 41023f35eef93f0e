//! Rates: token buckets (GCRA) by governor, one atomic each.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// So many in a period, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(Quota);

impl Rate {
    /// One a second, one at once.
    pub const ONE_A_SECOND: Self = Self(Quota::per_second(NonZeroU32::MIN));

    /// `count` in every `period`; at most `burst` at once, `count` unless told. None for a period of zero, and where
    /// the pace is beyond one in a nanosecond.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration, burst: Option<NonZeroU32>) -> Option<Self> {
        let quota = Quota::with_period(period / count.get())?;
        Some(Self(quota.allow_burst(burst.unwrap_or(count))))
    }

    /// Reads `"100/s"`, `"600/m"` or `"10/h"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit.trim_start() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let digits = count.trim_end();
        let count = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        Self::new(count, Duration::from_secs(seconds), None)
    }

    /// How many may come at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.0.burst_size().get()
    }

    /// The time after which one more may come.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.0.replenish_interval()
    }
}

/// A bucket of one rate, full at first.
pub struct Bucket(DefaultDirectRateLimiter);

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(RateLimiter::direct(rate.0))
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(&self) -> Result<(), Duration> {
        self.0.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bucket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_and_a_unit_of_time() {
        for (text, burst, interval) in [
            ("100/s", 100, Duration::from_millis(10)),
            ("600 / m", 600, Duration::from_millis(100)),
            ("1/h", 1, Duration::from_secs(3600)),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate.burst(), rate.interval()), (burst, interval), "{text}");
        }
        for bad in ["", "100", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "100/d", "100/sec", "s/100", "4294967296/s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
        assert_eq!(Rate::new(NonZeroU32::MAX, Duration::from_secs(1), None), None, "less than a nanosecond each");
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_says_when_there_is_more() {
        let rate = Rate::new(NonZeroU32::MIN, Duration::from_secs(60), NonZeroU32::new(3)).unwrap();
        let bucket = Bucket::new(rate);
        for _ in 0..3 {
            assert_eq!(bucket.take(), Ok(()));
        }
        let wait = bucket.take().unwrap_err();
        assert!(wait > Duration::from_secs(50) && wait <= Duration::from_secs(60), "{wait:?}");
    }
}
