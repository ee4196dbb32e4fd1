//! Whether an endpoint is ejected, in atomics that all snapshots share.
//!
//! It is a process that fails, not an address or a name: one that is ready after another, or after
//! it was not, begins with a clean sheet. Of a shard's member, the failures of all its apps count
//! together, each by its app's own policy: what fails for one most likely fails for all, and a
//! member in a bad way is left alone the sooner.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::{Moment, Outlier};

/// What requests have found an endpoint to be worth.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The process that the rest is about: since when it has been ready.
    process: AtomicU64,
    /// In a row.
    failures: AtomicU32,
    /// In a row.
    ejections: AtomicU32,
    /// When it may be tried again; 0 if it is not ejected.
    until: AtomicU64,
}

/// How an endpoint stood when it was chosen for a request. What becomes of the request is judged
/// by that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Good,
    /// Its ejection is over, and this request decides whether it ends.
    OnTrial,
    /// It is ejected, but too many others are, too.
    Ejected,
}

/// An ejection gets no longer than 2 to the power of this times the first.
const MAX_DOUBLINGS: u32 = 4;

impl Record {
    pub(super) fn is_ejected(&self, now: Moment) -> bool {
        self.until.load(Relaxed) > now.0
    }

    /// Whether it is about this process. For a newer one than before, it begins anew.
    pub(super) fn is_of(&self, process: Moment) -> bool {
        let former = self.process.load(Acquire);
        if former < process.0 && self.process.fetch_max(process.0, AcqRel) < process.0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.until.store(0, Relaxed);
        }
        former <= process.0
    }

    /// The standing of an endpoint that a request has chosen. `None`: its ejection is over, but
    /// another request has just begun to try it, and this one must choose again.
    pub(super) fn stand(&self, policy: &Outlier, now: Moment) -> Option<Standing> {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return Some(Standing::Good);
        }
        if until > now.0 {
            return Some(Standing::Ejected);
        }
        // The trial has as long as the first ejection; should nothing come of it, another follows.
        let next = (now + policy.ejection).0.max(now.0 + 1);
        let claimed = self.until.compare_exchange(until, next, AcqRel, Relaxed);
        claimed.is_ok().then_some(Standing::OnTrial)
    }

    pub(super) fn succeeded(&self, standing: Standing) {
        // Nearly always there is nothing to write, and the cache line stays shared.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if standing != Standing::Good {
            self.ejections.store(0, Relaxed);
            self.until.store(0, Relaxed);
        }
    }

    /// Counts a failure; returns whether it ejects.
    pub(super) fn failed(&self, standing: Standing, policy: &Outlier, now: Moment) -> bool {
        let until = self.until.load(Acquire);
        match standing {
            // Chosen although it is ejected: that it fails is no news.
            Standing::Ejected => false,
            Standing::OnTrial => self.eject(until, policy, now),
            // It was ejected while this request was under way.
            Standing::Good if until != 0 => false,
            Standing::Good => {
                let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
                failures >= policy.failures && self.eject(until, policy, now)
            }
        }
    }

    fn eject(&self, until: u64, policy: &Outlier, now: Moment) -> bool {
        let doublings = self.ejections.load(Relaxed).min(MAX_DOUBLINGS);
        let next = (now + policy.ejection * (1 << doublings)).0.max(now.0 + 1);
        let ejected = self.until.compare_exchange(until, next, AcqRel, Relaxed).is_ok();
        if ejected {
            self.ejections.fetch_add(1, Relaxed);
            self.failures.store(0, Relaxed);
        }
        ejected
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const POLICY: Outlier =
        Outlier { failures: 3, ejection: Duration::from_secs(10), max_ejected_percent: 50 };

    fn fail(record: &Record, times: usize, now: Moment) -> bool {
        (0..times).any(|_| record.failed(Standing::Good, &POLICY, now))
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_forgives() {
        let (record, now) = (Record::default(), Moment(1000));
        assert!(!fail(&record, 2, now));
        record.succeeded(Standing::Good);
        assert!(!fail(&record, 2, now));
        assert_eq!(record.stand(&POLICY, now), Some(Standing::Good));
        assert!(fail(&record, 1, now));
        assert!(record.is_ejected(now) && record.is_ejected(Moment(10_999)));
        assert!(!record.is_ejected(Moment(11_000)));
    }

    #[test]
    fn one_request_tries_it_and_decides() {
        let (record, now) = (Record::default(), Moment(0));
        assert!(fail(&record, 3, now));
        assert_eq!(record.stand(&POLICY, now), Some(Standing::Ejected));
        let due = Moment(10_000);
        assert_eq!(record.stand(&POLICY, due), Some(Standing::OnTrial));
        assert_eq!(record.stand(&POLICY, due), Some(Standing::Ejected), "one is enough");
        // A request of before the ejection is late evidence, to either side.
        record.succeeded(Standing::Good);
        assert!(!fail(&record, 9, due) && record.is_ejected(due));
        record.succeeded(Standing::OnTrial);
        assert_eq!(record.stand(&POLICY, due), Some(Standing::Good));
        // A trial that nothing comes of, because its client left, is followed by another.
        assert!(fail(&record, 3, due));
        let due = due + POLICY.ejection;
        assert_eq!(record.stand(&POLICY, due), Some(Standing::OnTrial));
        assert_eq!(record.stand(&POLICY, due + POLICY.ejection), Some(Standing::OnTrial));
    }

    #[test]
    fn each_ejection_in_a_row_doubles_it_up_to_sixteen_times() {
        let (record, mut now) = (Record::default(), Moment(5));
        assert!(fail(&record, 3, now));
        for seconds in [10, 20, 40, 80, 160, 160] {
            let due = now + Duration::from_secs(seconds);
            assert!(record.is_ejected(Moment(due.0 - 1)) && !record.is_ejected(due), "{seconds}");
            assert_eq!(record.stand(&POLICY, due), Some(Standing::OnTrial));
            assert!(record.failed(Standing::OnTrial, &POLICY, due));
            now = due;
        }
        record.succeeded(Standing::Ejected);
        assert!(!record.is_ejected(now), "one that answers although it is ejected, is not");
        assert!(fail(&record, 3, now));
        assert!(!record.is_ejected(now + POLICY.ejection), "and begins anew");
    }

    #[test]
    fn a_new_process_begins_anew_and_what_is_late_of_the_former_one_is_not_its_fault() {
        let (record, now) = (Record::default(), Moment(1000));
        assert!(record.is_of(Moment(0)) && record.is_of(Moment(7)));
        assert!(fail(&record, 3, now) && record.is_ejected(now));
        assert!(record.is_of(Moment(7)) && record.is_ejected(now), "it is the same");
        assert!(record.is_of(Moment(900)) && !record.is_ejected(now));
        assert!(!record.is_of(Moment(7)));
        assert!(fail(&record, 3, now) && !record.is_ejected(now + POLICY.ejection), "not doubled");
    }

    #[test]
    fn nothing_is_ejected_where_nothing_should_be() {
        let never = Outlier { failures: u32::MAX, ..POLICY };
        let record = Record::default();
        assert!((0..10_000).all(|_| !record.failed(Standing::Good, &never, Moment(1))));
    }
}
