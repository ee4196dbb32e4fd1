//! Who is to be planned, and when.
//!
//! A turn looks at what has changed and at what is due, and at everything once in a while: so a
//! turn costs what has happened and not what there is, and still nothing depends on being told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use weir_config::{AppName, InstanceId, Moment, ZoneName};

use crate::subject::Subject;

/// Everything is planned anew at least this often, whatever was told.
pub(crate) const RESYNC: Duration = Duration::from_secs(60);
/// How many of those that found no room are tried again when an action ends.
const SECOND_TRIES: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Agenda {
    everything: bool,
    next_resync: Moment,
    /// Those that something has happened to.
    touched: BTreeSet<Subject>,
    /// Whether there is news of none of them, as of a revision that changes nothing for the loop.
    has_other_news: bool,
    /// Those that have to be looked at though nothing happens, by when.
    due: BTreeSet<(Moment, Subject)>,
    due_at: BTreeMap<Subject, Moment>,
    /// Those whose actions found no room, in the order in which they found none.
    postponed: VecDeque<Subject>,
    is_postponed: BTreeSet<Subject>,
}

/// Whom a turn looks at.
#[derive(Debug, PartialEq)]
pub(crate) enum Scope {
    Everything,
    Some(BTreeSet<Subject>),
}

impl Agenda {
    pub(crate) fn touch(&mut self, subject: Subject) {
        self.touched.insert(subject);
    }

    pub(crate) fn touch_app(&mut self, app: &AppName) {
        self.touch(Subject::App(app.clone()));
    }

    pub(crate) fn touch_instance(&mut self, instance: &InstanceId) {
        self.touch_app(&instance.app);
    }

    pub(crate) fn touch_zones(&mut self, zones: impl IntoIterator<Item = ZoneName>) {
        self.touched.extend(zones.into_iter().map(Subject::Zone));
    }

    pub(crate) fn touch_everything(&mut self) {
        self.everything = true;
    }

    /// Makes a turn due that looks at nobody.
    pub(crate) fn touch_nobody(&mut self) {
        self.has_other_news = true;
    }

    /// Has a subject planned again once an action has ended.
    pub(crate) fn postpone(&mut self, subject: Subject) {
        if self.is_postponed.insert(subject.clone()) {
            self.postponed.push_back(subject);
        }
    }

    /// An action has ended: there is room again.
    pub(crate) fn has_room(&mut self) {
        let again = self.postponed.len().min(SECOND_TRIES);
        for subject in self.postponed.drain(..again) {
            self.is_postponed.remove(&subject);
            self.touched.insert(subject);
        }
    }

    /// Notes when a subject that was planned is to be planned again though nothing happens.
    pub(crate) fn plan_again(&mut self, subject: &Subject, at: Option<Moment>) {
        let former = match at {
            Some(at) => self.due_at.insert(subject.clone(), at),
            None => self.due_at.remove(subject),
        };
        if former == at {
            return;
        }
        if let Some(former) = former {
            self.due.remove(&(former, subject.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, subject.clone()));
        }
    }

    /// When the next turn is due though nothing happens.
    pub(crate) fn next_due(&self) -> Moment {
        let earliest = self.due.first().map(|(at, _)| *at);
        earliest.map_or(self.next_resync, |at| at.min(self.next_resync))
    }

    /// Whom to plan now; `None` if there is nobody.
    pub(crate) fn take(&mut self, now: Moment) -> Option<Scope> {
        if self.everything || self.next_resync <= now {
            self.everything = false;
            self.next_resync = now + RESYNC;
            self.touched.clear();
            self.has_other_news = false;
            return Some(Scope::Everything);
        }
        while let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let Some((_, subject)) = self.due.pop_first() else { break };
            self.due_at.remove(&subject);
            self.touched.insert(subject);
        }
        let touched = std::mem::take(&mut self.touched);
        let has_news = std::mem::take(&mut self.has_other_news) || !touched.is_empty();
        has_news.then_some(Scope::Some(touched))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> Subject {
        Subject::App(name.parse().unwrap())
    }

    fn some(names: &[&str]) -> Option<Scope> {
        Some(Scope::Some(names.iter().map(|name| app(name)).collect()))
    }

    /// One that has just looked at everything.
    fn agenda(now: Moment) -> Agenda {
        let mut agenda = Agenda::default();
        assert_eq!(agenda.take(now), Some(Scope::Everything), "it begins with everything");
        agenda
    }

    #[test]
    fn what_was_touched_is_planned_once_and_what_is_due_when_it_is() {
        let now = Moment(1_000_000);
        let mut agenda = agenda(now);
        assert_eq!(agenda.take(now), None);
        agenda.touch_nobody();
        assert_eq!(agenda.take(now), some(&[]), "a turn that looks at nobody");
        assert_eq!(agenda.take(now), None);
        agenda.touch(app("a"));
        agenda.touch(app("a"));
        assert_eq!(agenda.take(now), some(&["a"]));
        assert_eq!(agenda.take(now), None);

        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        agenda.plan_again(&app("a"), Some(later));
        agenda.plan_again(&app("b"), Some(later));
        agenda.plan_again(&app("a"), Some(soon));
        agenda.plan_again(&app("b"), None);
        assert_eq!(agenda.next_due(), soon);
        assert_eq!(agenda.take(soon), some(&["a"]));
        assert_eq!(agenda.take(later), None, "neither the former date nor the one called off");
        assert_eq!(agenda.take(now + RESYNC), Some(Scope::Everything));
    }

    #[test]
    fn those_that_found_no_room_are_tried_again_in_order() {
        let now = Moment(1_000_000);
        let mut agenda = agenda(now);
        let names: Vec<_> = (0..SECOND_TRIES + 1).map(|n| format!("n{n:02}")).collect();
        names.iter().for_each(|name| agenda.postpone(app(name)));
        agenda.postpone(app("n00"));
        assert_eq!(agenda.take(now), None, "not before there is room");
        agenda.has_room();
        let first: Vec<_> = names[..SECOND_TRIES].iter().map(String::as_str).collect();
        assert_eq!(agenda.take(now), some(&first));
        agenda.has_room();
        assert_eq!(agenda.take(now), some(&["n16"]));
    }
}
