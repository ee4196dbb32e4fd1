//! How well a target answers, beside the alternative.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::{DegradedLimits, Moment};

/// The answers of one target in some while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    pub count: u32,
    /// 5xx, timeouts and broken connections among them.
    pub errors: u32,
    /// The 95th percentile of their times, in milliseconds.
    pub p95: f32,
}

/// Whose answers they are. What probes ask for and what clients ask for fail differently, so only
/// like is compared with like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Clients,
    Probes,
}

/// What is compared is so long ago at most.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);
const PERIODS: usize = 6;
/// Fewer answers say nothing.
const ENOUGH: u32 = 50;
/// So many, for the 95th percentile of clients' or of probes' answers.
const ENOUGH_FOR_P95: [u32; 2] = [200, 20];
/// For so many periods in a row it has to be too slow.
const SLOW_PERIODS: usize = 3;
/// How many standard deviations a difference has to be off before it is none by chance: in a
/// month there are 250,000 looks at it.
const SIGMAS: f64 = 4.5;
/// How many times as bad as the alternative is clearly worse.
const TIMES: f64 = 2.0;
/// From here on, what answers badly is as good as dead.
const HOPELESS: f64 = 0.5;

/// What comparing a target with its alternative comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// Clearly within the limits.
    Fine,
    /// Neither: nothing is begun, nothing that was begun is ended.
    Between,
    Degraded,
    /// Most of its answers fail, and the alternative's do not.
    Hopeless,
}

/// The last minute of a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quality {
    windows: [Window; 2],
}

/// The last periods, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    periods: [Samples; PERIODS],
    /// When the newest one began, in periods.
    newest: u64,
}

impl Samples {
    pub(crate) fn add(&mut self, other: Self) {
        let count = self.count + other.count;
        if count > 0 {
            let sum = self.p95 * self.count as f32 + other.p95 * other.count as f32;
            self.p95 = sum / count as f32;
        }
        self.count = count;
        self.errors += other.errors;
    }

    /// The part that fails, and the variance of that, as if four more had been asked of which two
    /// failed (Agresti and Coull, 1998): so a few answers without an error are no proof.
    fn error_rate(&self) -> (f64, f64) {
        let count = f64::from(self.count) + 4.0;
        let rate = (f64::from(self.errors) + 2.0) / count;
        (rate, rate * (1.0 - rate) / count)
    }

    /// The part that fails, as counted.
    pub(crate) fn plain_error_rate(&self) -> f64 {
        f64::from(self.errors) / f64::from(self.count.max(1))
    }

    /// By how many standard deviations its part of failures is above that many times the other's,
    /// and so much.
    pub(crate) fn worse_by(&self, other: &Self, times: f64, allowed: f64) -> f64 {
        let ((own, own_variance), (its, its_variance)) = (self.error_rate(), other.error_rate());
        let sigma = (own_variance + times * times * its_variance).sqrt();
        (own - times * its - allowed) / sigma
    }
}

impl Quality {
    pub(crate) fn take(&mut self, source: Source, samples: Samples, now: Moment) {
        self.windows[source as usize].take(samples, now);
    }

    /// Compares it with the alternative, by limits that are this much as wide.
    pub(crate) fn grade(&self, other: &Self, limits: &DegradedLimits, now: Moment) -> Grade {
        let errors = [Source::Clients, Source::Probes].into_iter().find_map(|source| {
            let own = self.windows[source as usize].recent(now, ENOUGH)?;
            let its = other.windows[source as usize].recent(now, ENOUGH)?;
            Some(by_errors(&own, &its, limits.error_rate))
        });
        let latency = [Source::Clients, Source::Probes].into_iter().find_map(|source| {
            let own = self.windows[source as usize].slowness(now, source)?;
            let its = other.windows[source as usize].slowness(now, source)?;
            Some(by_latency(own, its, limits.latency))
        });
        errors.unwrap_or(Grade::Fine).max(latency.unwrap_or(Grade::Fine))
    }
}

fn by_errors(own: &Samples, its: &Samples, limit: f64) -> Grade {
    const CLEAR: f64 = 0.8;
    let (rate, other) = (own.plain_error_rate(), its.plain_error_rate());
    let is_worse = own.worse_by(its, TIMES, 0.0) > SIGMAS;
    if is_worse && rate >= HOPELESS && other <= limit {
        Grade::Hopeless
    } else if is_worse && rate > limit {
        Grade::Degraded
    } else if rate <= CLEAR * limit || rate <= CLEAR * TIMES * other {
        Grade::Fine
    } else {
        Grade::Between
    }
}

/// Of the least slow and the slowest of the last periods, of both.
fn by_latency(own: (f32, f32), its: (f32, f32), limit: Duration) -> Grade {
    const CLEAR: f32 = 0.8;
    let limit = |other: f32| (limit.as_secs_f32() * 1000.0).max(TIMES as f32 * other);
    if own.0 > limit(its.1) {
        Grade::Degraded
    } else if own.1 <= CLEAR * limit(its.0) {
        Grade::Fine
    } else {
        Grade::Between
    }
}

impl Window {
    fn take(&mut self, samples: Samples, now: Moment) {
        let period = period_of(now);
        let passed = period.saturating_sub(self.newest);
        if passed > 0 {
            let passed = usize::try_from(passed).unwrap_or(PERIODS).min(PERIODS);
            self.periods.rotate_right(passed);
            self.periods[..passed].fill(Samples::default());
            self.newest = period;
        }
        self.periods[0].add(samples);
    }

    /// As many of the last periods as it takes to have enough; `None` if there is not enough.
    fn recent(&self, now: Moment, enough: u32) -> Option<Samples> {
        let mut sum = Samples::default();
        for period in self.since(now) {
            sum.add(*period);
            if sum.count >= enough {
                return Some(sum);
            }
        }
        None
    }

    /// The least and the greatest 95th percentile of the last whole periods; `None` if there are
    /// too few answers to tell.
    fn slowness(&self, now: Moment, source: Source) -> Option<(f32, f32)> {
        let whole = self.since(now).iter().skip(usize::from(self.newest == period_of(now)));
        let (mut count, mut periods) = (0, 0);
        let (mut least, mut greatest) = (f32::MAX, 0.0_f32);
        for period in whole.take(SLOW_PERIODS).filter(|period| period.count > 0) {
            count += period.count;
            periods += 1;
            least = least.min(period.p95);
            greatest = greatest.max(period.p95);
        }
        let is_enough = periods == SLOW_PERIODS && count >= ENOUGH_FOR_P95[source as usize];
        is_enough.then_some((least, greatest))
    }

    /// Those that are not too long ago.
    fn since(&self, now: Moment) -> &[Samples] {
        let passed = period_of(now).saturating_sub(self.newest);
        let left = PERIODS.saturating_sub(usize::try_from(passed).unwrap_or(PERIODS));
        &self.periods[..left]
    }
}

fn period_of(now: Moment) -> u64 {
    now.0 / PERIOD.as_millis() as u64
}
