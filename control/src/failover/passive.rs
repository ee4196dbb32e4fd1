//! What clients' requests say of a target, read from the proxy's counters.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use weir_config::{Answers, Moment, Pool};
use weir_failover::Samples;

/// How often the counters are read.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// And where nothing was asked for since the last time.
pub(super) const IDLE_TICK: Duration = Duration::from_millis(250);
/// What is looked at is so long ago at most.
const WINDOW: Duration = Duration::from_millis(500);
/// So many without an answer in that, and half of all since the first, are no accident;
const MANY: u64 = 20;
/// fewer where they have ejected all endpoints.
const EJECTED: u64 = 5;
/// Nothing may be answered for so long before it is suspicious.
const SILENCE: Duration = Duration::from_millis(200);

/// The counters of a target's endpoints, together.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    /// Whose counters they are.
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) answers: Answers,
    pub(super) in_flight: u64,
    /// Whether there are endpoints and all of them are ejected.
    pub(super) is_ejected: bool,
}

/// One target's answers to clients.
#[derive(Debug, Default)]
pub(super) struct Passive {
    /// What was counted at each of the last ticks, the newest last.
    ticks: VecDeque<(Moment, Levels)>,
    /// When something was answered last, and how much was in flight then.
    answered: Option<(Moment, u64)>,
    /// What had been counted when [`Self::samples`] was asked last.
    told: Option<Levels>,
}

impl Levels {
    /// Whether both are of the same counters.
    fn are_of(&self, pool: &Option<Arc<Pool>>) -> bool {
        self.pool.as_ref().map(Arc::as_ptr) == pool.as_ref().map(Arc::as_ptr)
    }
}

impl Passive {
    /// Takes in what is counted now. Since when most requests, or all, get no answer, if so it is.
    pub(super) fn look(&mut self, levels: &Levels, now: Moment) -> Option<Moment> {
        if !self.ticks.back().is_some_and(|(_, last)| last.are_of(&levels.pool)) {
            self.ticks.clear();
        }
        let last = self.ticks.back().map(|(_, last)| last.answers.total());
        if last.is_none_or(|last| last != levels.answers.total()) || levels.in_flight == 0 {
            self.answered = Some((now, levels.in_flight));
        }
        self.ticks.push_back((now, levels.clone()));
        // One is kept from before the window: what is in it is the difference to that.
        while self.ticks.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.ticks.pop_front();
        }
        self.failing_since(levels).or_else(|| self.silent_since(levels, now))
    }

    /// Whether nothing is asked of it.
    pub(super) fn is_idle(&self) -> bool {
        let mut last = self.ticks.iter().rev().map(|(_, levels)| levels);
        let (Some(last), Some(before)) = (last.next(), last.next()) else { return true };
        last.in_flight == 0 && last.answers.total() == before.answers.total()
    }

    /// The answers since this was asked last.
    pub(super) fn samples(&mut self, levels: &Levels) -> Option<Samples> {
        let before = self.told.replace(levels.clone()).filter(|told| told.are_of(&levels.pool))?;
        let since = levels.answers - before.answers;
        let count = u32::try_from(since.total()).unwrap_or(u32::MAX);
        (count > 0).then(|| Samples {
            count,
            errors: u32::try_from(since.failures).unwrap_or(u32::MAX),
            p95: since.percentile(0.95).as_secs_f32() * 1000.0,
        })
    }

    fn failing_since(&self, levels: &Levels) -> Option<Moment> {
        let mut ticks = self.ticks.iter().zip(self.ticks.iter().skip(1));
        // The first of them came after the tick before the one that shows it.
        let is_first = |a: &Levels, b: &Levels| a.answers.unanswered != b.answers.unanswered;
        let ((began, before), _) = ticks.find(|((_, a), (_, b))| is_first(a, b))?;
        let since = levels.answers - before.answers;
        let enough = if levels.is_ejected { EJECTED } else { MANY };
        (since.unanswered >= enough && since.unanswered * 2 >= since.total()).then_some(*began)
    }

    fn silent_since(&self, levels: &Levels, now: Moment) -> Option<Moment> {
        let (answered, in_flight) = self.answered?;
        let came = levels.in_flight.saturating_sub(in_flight);
        (came >= MANY && now.since(answered) >= SILENCE).then_some(answered)
    }
}

#[cfg(test)]
mod tests {
    use weir_config::{Activity, Balance, EndpointId, MemberId, MemberOf};

    use super::*;

    /// Ticks of 50 ms, in each of which so many are answered, refused, or hang from then on; at
    /// which of them there is a signal, and since when.
    fn check(ticks: &[(usize, usize, usize)], is_ejected: bool, signal: Option<(usize, u64)>) {
        let id = EndpointId::from(MemberId {
            of: MemberOf::Shard("s".parse().unwrap()),
            name: "one".parse().unwrap(),
        });
        let endpoint = Activity::default().endpoint(&id);
        let (mut passive, mut hang) = (Passive::default(), 0);
        let mut found = None;
        for (tick, (good, bad, hanging)) in ticks.iter().enumerate() {
            (0..*good).for_each(|_| endpoint.answered(false, Duration::from_millis(3)));
            (0..*bad).for_each(|_| endpoint.unanswered(Duration::from_millis(1)));
            hang += *hanging as u64;
            let answers = endpoint.answers();
            let levels = Levels { answers, in_flight: hang, is_ejected, ..Levels::default() };
            let since = passive.look(&levels, Moment(50 * tick as u64));
            found = found.or_else(|| since.map(|since| (tick, since.0)));
        }
        assert_eq!(found, signal, "{ticks:?}");
    }

    #[test]
    fn many_failures_in_a_moment_are_told_with_their_beginning() {
        let well = [(5, 0, 0); 20];
        check(&well, false, None);
        let dies = [&well[..], &[(0, 5, 0); 10]].concat();
        check(&dies, false, Some((23, 950)));
        check(&dies, true, Some((20, 950)));
        check(&[(0, 0, 0), (0, 4, 0), (0, 4, 0)], false, None);
        check(&[(0, 0, 0), (0, 4, 0), (0, 4, 0)], true, Some((2, 0)));
        check(&[(5, 1, 0); 60], false, None);
    }

    #[test]
    fn what_answers_nothing_any_more_is_told_and_what_has_long_requests_is_not() {
        let well = [(5, 0, 0); 20];
        let hangs = [&well[..], &[(0, 0, 5); 10]].concat();
        check(&hangs, false, Some((23, 950)));
        check(&[(1, 0, 5); 60], false, None);
        // Some that never end.
        let streams = [&[(1, 0, 19)][..], &[(0, 0, 0); 60]].concat();
        check(&streams, false, None);
    }

    #[test]
    fn samples_are_those_since_the_last_ones() {
        let id = EndpointId::from(MemberId {
            of: MemberOf::Shard("s".parse().unwrap()),
            name: "one".parse().unwrap(),
        });
        let (endpoint, mut passive) = (Activity::default().endpoint(&id), Passive::default());
        let levels = || Levels { answers: endpoint.answers(), ..Levels::default() };
        endpoint.answered(true, Duration::from_millis(3));
        assert_eq!(passive.samples(&levels()), None, "who knows how old they are");
        endpoint.answered(true, Duration::from_millis(3));
        endpoint.answered(false, Duration::from_millis(3));
        let samples = passive.samples(&levels()).unwrap();
        assert_eq!((samples.count, samples.errors), (2, 1));
        assert!((2.5..=5.0).contains(&samples.p95), "{samples:?}");
        assert_eq!(passive.samples(&levels()), None);
        endpoint.answered(true, Duration::from_millis(3));
        let pool = Some(Arc::new(Pool::new(Vec::new(), Balance::default())));
        let others = Levels { pool, ..levels() };
        assert_eq!(passive.samples(&others), None, "other endpoints have other counters");
    }
}
