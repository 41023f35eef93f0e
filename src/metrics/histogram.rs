//! A histogram of durations that takes no lock: the library's own is a mutex around a vector.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

/// Upper bounds in microseconds, from what a cache answers to what a time-out ends.
const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Counts of durations up to each bound, and their sum.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    /// Nanoseconds; 64 bits hold 584 years of them.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos.div_ceil(1_000);
        let index = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets.get(index).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }

    /// Writes the series. The count is the sum of the buckets as read, so that the two never disagree in a scrape.
    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let finite = BOUNDS.iter().zip(&self.buckets);
        let mut buckets: Vec<(f64, u64)> =
            finite.map(|(bound, count)| (Duration::from_micros(*bound).as_secs_f64(), count.load(Relaxed))).collect();
        // The library writes `+Inf` for this bound only; `f64::MAX` would leave the exposition without its last bucket.
        buckets.push((f64::INFINITY, self.beyond.load(Relaxed)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.sum.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
