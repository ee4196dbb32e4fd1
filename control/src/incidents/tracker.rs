//! From what is wrong at one moment to incidents: opened when trouble lasts, resolved when it has
//! been gone for a while. Pure: the time is an argument.

use std::{collections::BTreeMap, time::Duration};

use weir_config::Moment;

use super::{Rule, rules::Trouble};

/// What identifies an incident while it is open.
pub(crate) type Key = (Rule, String);

/// Details that change all the time are told this often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What is to be written. It is offered again until it [is](Tracker::written).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Open(Trouble),
    Update(Trouble),
    Resolve(Key),
}

#[derive(Debug, Default)]
pub(crate) struct Tracker {
    watched: BTreeMap<Key, Watched>,
}

#[derive(Debug)]
struct Watched {
    since: Moment,
    /// `None` while it is there.
    gone_since: Option<Moment>,
    /// As it was written last, and when; `None` if it is not open.
    open: Option<(Option<Trouble>, Moment)>,
}

impl Tracker {
    /// Takes over those that are open in the store.
    pub(crate) fn adopt(&mut self, open: impl IntoIterator<Item = Key>, now: Moment) {
        for watched in self.watched.values_mut() {
            watched.open = None;
        }
        for key in open {
            let watched = Watched { since: now, gone_since: Some(now), open: None };
            self.watched.entry(key).or_insert(watched).open = Some((None, now));
        }
    }

    /// Takes in what is wrong now, and says what is to be written.
    pub(crate) fn step(&mut self, troubles: Vec<Trouble>, now: Moment) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut there: BTreeMap<Key, Trouble> = BTreeMap::new();
        for trouble in troubles {
            there.entry((trouble.rule, trouble.subject.clone())).or_insert(trouble);
        }
        for (key, watched) in &mut self.watched {
            if !there.contains_key(key) {
                let gone_since = *watched.gone_since.get_or_insert(now);
                if watched.open.is_some() && gone_since + key.0.resolved_after() <= now {
                    changes.push(Change::Resolve(key.clone()));
                }
            }
        }
        // What never became an incident is forgotten at once: its time begins anew.
        self.watched.retain(|_, watched| watched.open.is_some() || watched.gone_since.is_none());
        for (key, trouble) in there {
            let confirmed_after = key.0.confirmed_after();
            let watched = self.watched.entry(key).or_insert_with(|| Watched {
                since: now,
                gone_since: None,
                open: None,
            });
            watched.gone_since = None;
            match &watched.open {
                None if watched.since + confirmed_after <= now => {
                    changes.push(Change::Open(trouble));
                }
                Some((told, at)) if differs(told.as_ref(), &trouble, *at, now) => {
                    changes.push(Change::Update(trouble));
                }
                _ => {}
            }
        }
        changes
    }

    /// A change has been written.
    pub(crate) fn written(&mut self, change: Change, now: Moment) {
        match change {
            Change::Open(trouble) | Change::Update(trouble) => {
                let key = (trouble.rule, trouble.subject.clone());
                if let Some(watched) = self.watched.get_mut(&key) {
                    watched.open = Some((Some(trouble), now));
                }
            }
            Change::Resolve(key) => {
                self.watched.remove(&key);
            }
        }
    }

    /// Whether time alone will change something.
    pub(crate) fn is_waiting(&self) -> bool {
        self.watched.values().any(|watched| watched.open.is_none() || watched.gone_since.is_some())
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = Rule> {
        self.watched.iter().filter(|(_, watched)| watched.open.is_some()).map(|(key, _)| key.0)
    }
}

fn differs(told: Option<&Trouble>, trouble: &Trouble, at: Moment, now: Moment) -> bool {
    let Some(told) = told else { return true };
    let essence = |trouble: &Trouble| (trouble.severity, trouble.title.clone());
    essence(told) != essence(trouble) || (told != trouble && at + TELL_EVERY <= now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_config::Severity;

    fn trouble(detail: &str) -> Trouble {
        Trouble {
            rule: Rule::AppUnhealthy,
            subject: "App/shop".to_owned(),
            severity: Severity::Critical,
            title: "nothing serves shop".to_owned(),
            detail: detail.to_owned(),
        }
    }

    /// Steps and writes whatever is to be written.
    fn step(tracker: &mut Tracker, troubles: &[Trouble], at: u64) -> Vec<Change> {
        let now = Moment(1_000_000) + Duration::from_secs(at);
        let changes = tracker.step(troubles.to_vec(), now);
        changes.iter().for_each(|change| tracker.written(change.clone(), now));
        changes
    }

    #[test]
    fn a_blink_opens_nothing_and_a_gap_resolves_nothing() {
        let (mut tracker, t) = (Tracker::default(), trouble("a"));
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 0), []);
        assert_eq!(step(&mut tracker, &[], 4), []);
        assert!(!tracker.is_waiting());
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 9), [], "its time begins anew");
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 13), []);
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 14), [Change::Open(t.clone())]);
        assert_eq!(step(&mut tracker, &[], 20), []);
        assert_eq!(step(&mut tracker, &[], 29), []);
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 29), []);
        assert_eq!(step(&mut tracker, &[], 60), []);
        let key = (t.rule, t.subject.clone());
        assert_eq!(step(&mut tracker, &[], 70), [Change::Resolve(key)]);
        assert_eq!(tracker.open().count(), 0);
    }

    #[test]
    fn a_detail_is_told_now_and_then_and_a_graver_case_at_once() {
        let mut tracker = Tracker::default();
        step(&mut tracker, &[trouble("a")], 0);
        step(&mut tracker, &[trouble("a")], 10);
        assert_eq!(step(&mut tracker, &[trouble("b")], 20), []);
        assert_eq!(step(&mut tracker, &[trouble("c")], 40), [Change::Update(trouble("c"))]);
        let graver = Trouble { title: "worse".to_owned(), ..trouble("c") };
        assert_eq!(step(&mut tracker, std::slice::from_ref(&graver), 41), [Change::Update(graver)]);
    }

    #[test]
    fn what_could_not_be_written_is_offered_again_and_what_is_open_is_taken_over() {
        let (mut tracker, t) = (Tracker::default(), trouble("a"));
        let now = Moment(1_000_000);
        tracker.step(vec![t.clone()], now);
        let later = now + Duration::from_secs(11);
        for _ in 0..2 {
            assert_eq!(tracker.step(vec![t.clone()], later), [Change::Open(t.clone())]);
        }
        let mut next = Tracker::default();
        next.adopt([(t.rule, t.subject.clone())], now);
        assert_eq!(next.step(Vec::new(), now), [], "it may not have been looked at yet");
        let much_later = now + Duration::from_secs(31);
        assert_eq!(next.step(Vec::new(), much_later).len(), 1);
    }

    #[test]
    fn what_an_operator_resolves_is_opened_again_if_its_cause_is_there() {
        let (mut tracker, t) = (Tracker::default(), trouble("a"));
        step(&mut tracker, std::slice::from_ref(&t), 0);
        step(&mut tracker, std::slice::from_ref(&t), 10);
        tracker.adopt([], Moment(1_000_000));
        assert_eq!(step(&mut tracker, std::slice::from_ref(&t), 11), [Change::Open(t)]);
    }
}
