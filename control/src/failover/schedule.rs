//! When one vantage asks one target.

use std::time::Duration;

use weir_config::{Moment, Numbers};
use weir_failover::{CONFIRM, INTERVAL, Sample, Sight, Verdict, pause};

/// How this process sees one target, and when it asks it next.
#[derive(Debug)]
pub(super) struct Schedule {
    sight: Sight,
    /// When the next regular probe is due.
    regular: Moment,
    /// When the next one is due that confirms a doubt.
    confirm: Option<Moment>,
    /// When the last one was sent.
    sent: Moment,
}

impl Schedule {
    /// Targets are not asked all at once.
    pub(super) fn new(now: Moment, numbers: &mut Numbers) -> Self {
        let first = now + INTERVAL.mul_f64(numbers.fraction());
        Self { sight: Sight::default(), regular: first, confirm: None, sent: Moment(0) }
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.sight.verdict()
    }

    /// After how long a probe that is sent now is late.
    pub(super) fn patience(&self) -> Duration {
        self.sight.patience()
    }

    /// What an answer usually takes; `None` before there was one.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.sight.round_trip()
    }

    pub(super) fn next(&self) -> Moment {
        self.confirm.map_or(self.regular, |confirm| confirm.min(self.regular))
    }

    /// Whether a probe is to be sent now.
    pub(super) fn is_due(&mut self, now: Moment, numbers: &mut Numbers) -> bool {
        let mut is_due = false;
        if self.confirm.is_some_and(|at| at <= now) {
            self.confirm = self.sight.is_in_doubt(now).then(|| now + CONFIRM);
            is_due = self.confirm.is_some();
        }
        if self.regular <= now {
            self.regular = now + pause(numbers);
            is_due = true;
        }
        if is_due {
            self.sent = now;
        }
        is_due
    }

    /// Has it asked at once: something else speaks against it, or a fellow is in doubt.
    pub(super) fn ask_now(&mut self, now: Moment) {
        self.regular = self.regular.min(now);
    }

    /// Takes in what became of a probe, or what clients have met, which has it asked at once.
    pub(super) fn take(&mut self, sample: Sample, now: Moment) {
        if matches!(sample, Sample::Clients { .. }) && now.since(self.sent) >= CONFIRM {
            self.ask_now(now);
        }
        let was_in_doubt = self.sight.is_in_doubt(now);
        self.sight.take(sample, now);
        if !was_in_doubt && self.sight.is_in_doubt(now) {
            // At once, and then regularly.
            self.confirm = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for so long, with these answers, and tells when it asked.
    fn asked(schedule: &mut Schedule, from: u64, millis: u64, answers: bool) -> Vec<u64> {
        let mut numbers = Numbers(7);
        let mut sent = Vec::new();
        for at in from..from + millis {
            let now = Moment(at);
            if schedule.next() <= now && schedule.is_due(now, &mut numbers) {
                sent.push(at);
                schedule.take(
                    match answers {
                        true => Sample::Answered { sent: now, took: Duration::from_millis(1) },
                        false => Sample::Failed { sent: now, late: false },
                    },
                    now,
                );
            }
        }
        sent
    }

    #[test]
    fn it_asks_each_second_and_in_doubt_at_once_and_every_100_ms() {
        let mut schedule = Schedule::new(Moment(10_000), &mut Numbers(1));
        let sent = asked(&mut schedule, 10_000, 8000, true);
        assert!((8..=9).contains(&sent.len()), "{sent:?}");
        assert!(sent.windows(2).all(|two| (900..=1000).contains(&(two[1] - two[0]))), "{sent:?}");
        assert_eq!(schedule.verdict(), Verdict::Good);
        let sent = asked(&mut schedule, 18_000, 2000, false);
        let bad = sent.iter().take_while(|at| **at - sent[0] <= 400).count();
        assert!((5..=6).contains(&bad), "at once and then every 100 ms: {sent:?}");
        assert_eq!(schedule.verdict(), Verdict::Bad);
        // It is not asked so often for ever.
        asked(&mut schedule, 20_000, 10_000, false);
        let sent = asked(&mut schedule, 30_000, 5000, false);
        assert!((5..=6).contains(&sent.len()), "{sent:?}");
    }
}
