//! The one clock that decisions are made by.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A point on the process's monotonic clock, in milliseconds since the clock was first read.
///
/// Wall-clock jumps do not move it, and as a plain number it fits an atomic and a test's arguments.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

impl Moment {
    pub fn now() -> Self {
        Self::at(Instant::now())
    }

    pub fn at(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*START);
        // Not `as_millis`, which divides 128 bits.
        Self(since.as_secs() * 1000 + u64::from(since.subsec_millis()))
    }

    /// Nanoseconds on the same clock, where milliseconds are too coarse.
    pub fn nanos_at(instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(*START);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_millis() as u64))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_millis() as u64))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0 as f64 / 1000.0)
    }
}
