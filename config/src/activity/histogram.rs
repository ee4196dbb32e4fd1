//! How long things take.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds, in seconds, of the latency buckets; one more bucket holds the rest.
pub const HISTOGRAM_BOUNDS_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Counts in fixed buckets, without a lock.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; HISTOGRAM_BOUNDS_SECONDS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram at one moment; the counts are per bucket, not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramReading {
    pub buckets: [u64; HISTOGRAM_BOUNDS_SECONDS.len() + 1],
    pub sum_seconds: f64,
}

impl HistogramReading {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = HISTOGRAM_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    pub(super) fn read(&self) -> HistogramReading {
        HistogramReading {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_seconds: self.sum_micros.load(Relaxed) as f64 / 1e6,
        }
    }
}
