//! How many retries an app's requests may make, so that a retry never becomes a storm.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Moment;

/// Requests and retries of the last ten seconds, each second in one word: its number (24 bits), its
/// retries (16 bits) and its requests (24 bits).
#[derive(Debug, Default)]
pub(super) struct RetryBudget([AtomicU64; SLOTS]);

/// Of seconds.
const WINDOW: u64 = 10;
/// More than the window, and a divisor of what the seconds' numbers wrap at.
const SLOTS: usize = 16;
const RETRY: u64 = 1 << 24;
const SECOND: u64 = 1 << 40;

/// In each second so many retries are allowed whatever the budget says, or a seldom used app would
/// have none.
const ALWAYS: u64 = 3;

impl RetryBudget {
    /// Counts a request.
    pub(super) fn request(&self, now: Moment) {
        self.add(second(now), 1);
    }

    /// Counts a retry, unless retries are already `percent` of the requests. Exact but for those
    /// that ask at the same instant.
    pub(super) fn retry(&self, percent: u8, now: Moment) -> bool {
        let this = second(now);
        let (mut requests, mut retries, mut just_now) = (0, 0, 0);
        for age in 0..WINDOW {
            let second = this.wrapping_sub(age) % RETRY;
            let word = self.0[second as usize % SLOTS].load(Relaxed);
            if word / SECOND == second {
                requests += word % RETRY;
                retries += word % SECOND / RETRY;
            }
            if age == 0 {
                just_now = retries;
            }
        }
        let allowed = just_now < ALWAYS || retries * 100 < requests * u64::from(percent);
        // So many in a second are no longer counted.
        let allowed = allowed && just_now < u64::from(u16::MAX) / 2;
        if allowed {
            self.add(this, RETRY);
        }
        allowed
    }

    fn add(&self, second: u64, count: u64) {
        let word = &self.0[second as usize % SLOTS];
        let former = word.load(Relaxed);
        let begins = former / SECOND != second;
        // Who loses this exchange finds the second begun.
        if !begins
            || word.compare_exchange(former, second * SECOND + count, Relaxed, Relaxed).is_err()
        {
            word.fetch_add(count, Relaxed);
        }
    }
}

/// The second's number, as far as it fits.
fn second(now: Moment) -> u64 {
    now.0 / 1000 % RETRY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &RetryBudget, percent: u8, now: Moment) -> usize {
        (0..10_000).take_while(|_| budget.retry(percent, now)).count()
    }

    #[test]
    fn retries_are_a_part_of_the_requests_of_ten_seconds() {
        let budget = RetryBudget::default();
        for second in 0..10 {
            (0..100).for_each(|_| budget.request(Moment(second * 1000 + 7)));
        }
        assert_eq!(retries(&budget, 20, Moment(9_999)), 200);
        // A second later a tenth of the requests is forgotten, and a few are always allowed.
        assert_eq!(retries(&budget, 20, Moment(10_000)), ALWAYS as usize);
        // When all requests and retries are forgotten, only those few remain.
        assert_eq!(retries(&budget, 20, Moment(60_000)), ALWAYS as usize);
    }

    #[test]
    fn an_app_that_is_seldom_asked_has_a_few() {
        let budget = RetryBudget::default();
        budget.request(Moment(0));
        assert_eq!(retries(&budget, 0, Moment(0)), ALWAYS as usize);
        assert_eq!(retries(&budget, 100, Moment(1000)), ALWAYS as usize);
    }

    #[test]
    fn the_window_does_not_mind_the_number_of_a_second_wrapping() {
        let budget = RetryBudget::default();
        let wraps = RETRY * 1000;
        for second in 0..10 {
            (0..10).for_each(|_| budget.request(Moment(wraps - 5000 + second * 1000)));
        }
        assert_eq!(retries(&budget, 50, Moment(wraps + 4000)), 50);
    }
}
