//! How an endpoint answers, by which a new deployment is judged.

use std::{
    ops::{AddAssign, Sub},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::histogram::{HISTOGRAM_BOUNDS_SECONDS, Histogram};

/// Counts an endpoint's answers, without a lock.
#[derive(Debug, Default)]
pub(super) struct AnswerCounts {
    failures: AtomicU64,
    unanswered: AtomicU64,
    latency: Histogram,
}

impl AnswerCounts {
    pub(super) fn count(&self, is_failure: bool, took: Duration) {
        self.latency.record(took);
        if is_failure {
            self.failures.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_unanswered(&self, took: Duration) {
        self.count(true, took);
        self.unanswered.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Answers {
        Answers {
            failures: self.failures.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            by_latency: self.latency.read().buckets,
        }
    }
}

/// Answers of an endpoint, or of several, from one moment to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Those with a status of 5xx, and those that never came.
    pub failures: u64,
    /// Those of them that never came: refused, broken off, or too late.
    pub unanswered: u64,
    /// By [`HISTOGRAM_BOUNDS_SECONDS`], from when the request was forwarded.
    by_latency: [u64; HISTOGRAM_BOUNDS_SECONDS.len() + 1],
}

impl Answers {
    pub fn total(&self) -> u64 {
        self.by_latency.iter().sum()
    }

    /// The part of them that are failures; 0 of none.
    pub fn error_rate(&self) -> f64 {
        part(self.failures, self.total())
    }

    /// What this part of them, from 0 to 1, took at most: within a bucket as if they were spread
    /// evenly. Zero of none.
    pub fn percentile(&self, part: f64) -> Duration {
        let rank = part * self.total() as f64;
        let (mut below, mut from) = (0.0, 0.0);
        for (n, upper) in self.by_latency.iter().zip(HISTOGRAM_BOUNDS_SECONDS) {
            let n = *n as f64;
            if n > 0.0 && below + n >= rank {
                return Duration::from_secs_f64(from + (upper - from) * (rank - below) / n);
            }
            (below, from) = (below + n, upper);
        }
        Duration::from_secs_f64(if self.total() == 0 { 0.0 } else { from })
    }

    /// The part of them that surely took longer: those beyond the bucket that `limit` is in.
    pub fn slower_than(&self, limit: Duration) -> f64 {
        let limit = limit.as_secs_f64();
        let within = HISTOGRAM_BOUNDS_SECONDS.partition_point(|bound| *bound < limit);
        part(self.by_latency.iter().skip(within + 1).sum(), self.total())
    }
}

fn part(n: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

impl AddAssign for Answers {
    fn add_assign(&mut self, other: Self) {
        self.failures += other.failures;
        self.unanswered += other.unanswered;
        self.by_latency.iter_mut().zip(other.by_latency).for_each(|(sum, n)| *sum += n);
    }
}

impl Sub for Answers {
    type Output = Self;

    /// Those since then; counters that began anew count from their beginning.
    fn sub(self, earlier: Self) -> Self {
        if self.total() < earlier.total() {
            return self;
        }
        let since = |i: usize| self.by_latency[i].saturating_sub(earlier.by_latency[i]);
        Self {
            failures: self.failures.saturating_sub(earlier.failures),
            unanswered: self.unanswered.saturating_sub(earlier.unanswered),
            by_latency: std::array::from_fn(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_failed_and_that_were_slow() {
        let counts = AnswerCounts::default();
        assert_eq!((counts.read().error_rate(), counts.read().total()), (0.0, 0));
        for i in 0..100 {
            counts.count(i < 5, Duration::from_millis(if i < 2 { 800 } else { 20 }));
        }
        let before = counts.read();
        assert_eq!((before.total(), before.error_rate()), (100, 0.05));
        assert_eq!(before.slower_than(Duration::from_millis(500)), 0.02);
        assert_eq!(before.slower_than(Duration::from_millis(600)), 0.0, "it cannot be known");
        let millis = |part| (before.percentile(part).as_secs_f64() * 1000.0).round();
        assert_eq!((millis(0.0), millis(0.98), millis(1.0)), (10.0, 25.0, 1000.0));
        assert_eq!(Answers::default().percentile(0.95), Duration::ZERO);
        counts.count_unanswered(Duration::ZERO);
        let since = counts.read() - before;
        assert_eq!((since.total(), since.error_rate(), since.unanswered), (1, 1.0, 1));
        assert_eq!(AnswerCounts::default().read() - before, Answers::default());
    }
}
