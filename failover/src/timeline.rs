//! An incident as it went, with everything that its decisions were made from: so it can be told,
//! measured, and lived through again.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use weir_config::{FailoverLaw, Moment};

use crate::{Decision, Event, Phase, State, controller::step};

/// More than this of one incident is not kept: it can be told as far as that, but not replayed.
const MAX_STEPS: usize = 10_000;
const MAX_NOTES: usize = 1000;
/// What was noted so shortly before an incident belongs to it.
const BEFORE: Duration = Duration::from_secs(30);
const MAX_BEFORE: usize = 64;

/// Something worth telling that decides nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A probe was late or failed, and none before it was.
    FirstMiss { vantage: String, target: usize, error: String },
    /// A vantage says that a target is bad.
    Bad { vantage: String, target: usize },
    /// The same has been proved good.
    Good { vantage: String, target: usize },
    /// Too few vantages say anything about a target.
    Blind { target: usize },
    /// The shares of this epoch are served.
    Served { by: Server, epoch: u64 },
    /// Requests that were still on a target after it was left, and the time of the last one's end.
    Leaked { target: usize, requests: u64 },
}

/// Who serves by the shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    Proxy,
    Dns,
}

/// One step of the controller: what it was told, and what it decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub at: Moment,
    pub events: Vec<Event>,
    pub decisions: Vec<Decision>,
}

/// From the first decision until everybody has again what the policy gives him.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub opened: Moment,
    pub closed: Option<Moment>,
    /// Right before the first step.
    before: State,
    pub steps: Vec<Step>,
    pub notes: Vec<(Moment, Note)>,
    /// Requests that were sent again, to another target.
    pub retried_requests: u64,
    /// Whether there were more steps than are kept.
    pub cut_short: bool,
}

/// What an incident came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// From the first miss to the first decision to leave.
    pub to_decision: Option<Duration>,
    /// From there to the proxy's serving it, and to DNS's.
    pub to_route: Option<Duration>,
    pub to_dns: Option<Duration>,
    pub leaked_requests: u64,
    pub retried_requests: u64,
    /// How often shares have changed.
    pub transitions: usize,
    pub lasted: Option<Duration>,
}

/// The controller's state, and the incident that is going on.
#[derive(Clone, Debug)]
pub struct Journal {
    state: State,
    incident: Option<Incident>,
    recent: VecDeque<(Moment, Note)>,
}

impl Journal {
    pub fn new(state: State) -> Self {
        Self { state, incident: None, recent: VecDeque::new() }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The incident that is going on.
    pub fn incident(&self) -> Option<&Incident> {
        self.incident.as_ref()
    }

    /// Goes on with one that was going on before a restart. It cannot be replayed beyond that.
    pub fn resume(&mut self, mut incident: Incident) {
        incident.cut_short = true;
        self.incident = Some(incident);
    }

    /// Steps the controller; returns its decisions, and the incident if that is over now.
    pub fn step(
        &mut self,
        law: &FailoverLaw,
        events: Vec<Event>,
        now: Moment,
    ) -> (Vec<Decision>, Option<Incident>) {
        let before = self.incident.is_none().then(|| self.state.clone());
        let (state, decisions) = step(law, self.state.clone(), &events, now);
        self.state = state;
        let is_calm = matches!(self.state.phase(), Phase::Steady | Phase::Suspect);
        if let Some(before) = before {
            if is_calm {
                return (decisions, None);
            }
            let notes = self.recent.drain(..).filter(|(at, _)| now.since(*at) <= BEFORE).collect();
            self.incident = Some(Incident {
                opened: now,
                closed: None,
                before,
                steps: Vec::new(),
                notes,
                retried_requests: 0,
                cut_short: false,
            });
        }
        let Some(incident) = &mut self.incident else { return (decisions, None) };
        incident.take(Step { at: now, events, decisions: decisions.clone() });
        if !is_calm {
            return (decisions, None);
        }
        incident.closed = Some(now);
        (decisions, self.incident.take())
    }

    /// Counts requests that were sent again, while there is an incident.
    pub fn count_retried(&mut self, requests: u64) {
        if let Some(incident) = &mut self.incident {
            incident.retried_requests += requests;
        }
    }

    /// Goes on by the law of other targets; see [`State::retargeted`]. An incident that is going on
    /// cannot be replayed any more.
    pub fn retarget(&mut self, law: &FailoverLaw, former: &[Option<usize>], now: Moment) {
        self.state = self.state.clone().retargeted(law, former, now);
        if let Some(incident) = &mut self.incident {
            incident.cut_short = true;
        }
    }

    /// Takes down what decides nothing.
    pub fn note(&mut self, note: Note, now: Moment) {
        match &mut self.incident {
            Some(incident) if incident.notes.len() < MAX_NOTES => incident.notes.push((now, note)),
            Some(_) => {}
            None => {
                self.recent.push_back((now, note));
                if self.recent.len() > MAX_BEFORE {
                    self.recent.pop_front();
                }
            }
        }
    }
}

impl Incident {
    fn take(&mut self, step: Step) {
        if self.steps.len() >= MAX_STEPS {
            self.cut_short = true;
        } else if !self.cut_short || !step.decisions.is_empty() {
            self.steps.push(step);
        }
    }

    /// Gives the controller what it was given then, from the state that it was in: what it decides
    /// now. `None` if not everything was kept.
    pub fn replay(&self, law: &FailoverLaw) -> Option<Vec<Vec<Decision>>> {
        if self.cut_short {
            return None;
        }
        let mut state = self.before.clone();
        let again = |was: &Step| {
            let (next, decisions) = step(law, state.clone(), &was.events, was.at);
            state = next;
            decisions
        };
        Some(self.steps.iter().map(again).collect())
    }

    /// What was wrong when a target was first seen to miss, of those times the last.
    pub fn first_error(&self, target: usize) -> Option<String> {
        self.notes.iter().rev().find_map(|(_, note)| match note {
            Note::FirstMiss { target: of, error, .. } if *of == target => Some(error.clone()),
            _ => None,
        })
    }

    pub fn figures(&self) -> Figures {
        let decisions = || self.steps.iter().flat_map(|s| s.decisions.iter().map(|d| (s.at, d)));
        let left = decisions().find_map(|(at, decision)| match decision {
            Decision::Leave { target, .. } => Some((at, *target)),
            _ => None,
        });
        let decided = left.map(|(at, _)| at);
        let first = |is: &dyn Fn(&Note) -> bool| {
            self.notes.iter().find(|(_, note)| is(note)).map(|(at, _)| *at)
        };
        // Of those before it, which came to nothing, there may be several.
        let missed = self.notes.iter().rev().find(|(at, note)| match note {
            Note::FirstMiss { target, .. } => left.is_some_and(|(l, t)| t == *target && *at <= l),
            _ => false,
        });
        let missed = missed.map(|(at, _)| *at);
        let epoch = decisions().find_map(|(at, decision)| match decision {
            Decision::Steer(steering) if Some(at) == decided => Some(steering.epoch),
            _ => None,
        });
        let served = |server| {
            let is = |note: &Note| match note {
                Note::Served { by, epoch: served } => *by == server && Some(*served) >= epoch,
                _ => false,
            };
            Some(first(&is)?.since(decided?))
        };
        let leaked = self.notes.iter().map(|(_, note)| match note {
            Note::Leaked { requests, .. } => *requests,
            _ => 0,
        });
        Figures {
            to_decision: decided.zip(missed).map(|(decided, missed)| decided.since(missed)),
            to_route: served(Server::Proxy),
            to_dns: served(Server::Dns),
            leaked_requests: leaked.sum(),
            retried_requests: self.retried_requests,
            transitions: self.transitions(),
            lasted: self.closed.map(|closed| closed.since(self.opened)),
        }
    }

    fn transitions(&self) -> usize {
        let mut shares = self.before.steering().shares;
        let steered = self.steps.iter().flat_map(|step| &step.decisions);
        let mut transitions = 0;
        for decision in steered {
            if let Decision::Steer(steering) = decision
                && steering.shares != shares
            {
                shares = steering.shares;
                transitions += 1;
            }
        }
        transitions
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Health, Order, Samples, Source};

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let health = prop_oneof![
            Just(Health::Up),
            Just(Health::Suspected),
            Just(Health::Doubted),
            Just(Health::Mending),
            Just(Health::Down),
        ];
        let health =
            (0..3_usize, health).prop_map(|(target, health)| Event::Health { target, health });
        let answers = (0..3_usize, 0..400_u32, 0..100_u32, any::<bool>());
        let answers = answers.prop_map(|(target, count, errors, probes)| {
            let samples = Samples { count, errors: errors.min(count), p95: 20.0 };
            let source = if probes { Source::Probes } else { Source::Clients };
            Event::Answers { target, source, samples }
        });
        let order = (0..3_u8, 0..3_usize, 0..10_000_000_u64).prop_map(|(order, target, until)| {
            let until = Moment(until);
            Event::Order(match order {
                0 => Order::Freeze { until },
                1 => Order::Force { target, until },
                _ => Order::Release,
            })
        });
        let event = prop_oneof![4 => health, 4 => answers, 1 => order];
        prop::collection::vec((0..60_000_u64, event), 1..200)
    }

    proptest! {
        #[test]
        fn an_incident_that_is_lived_through_again_is_decided_in_the_same_way(
            events in events(),
        ) {
            let law = FailoverLaw::ordered(3);
            let mut journal = Journal::new(State::new(&law, Moment(0)));
            let (mut now, mut incidents) = (Moment(0), Vec::new());
            for (pause, event) in events {
                now = now + Duration::from_millis(pause);
                let (decisions, over) = journal.step(&law, vec![event], now);
                let shares = journal.state().steering().shares;
                prop_assert!(shares.as_slice().iter().sum::<u16>() == weir_config::WHOLE);
                let steered = decisions.iter().filter(|d| matches!(d, Decision::Steer(_))).count();
                prop_assert!(steered <= 1, "{decisions:?}");
                // When nothing is due, nothing follows from stepping again.
                let (again, more) = step(&law, journal.state().clone(), &[], now);
                prop_assert_eq!(&again, journal.state());
                prop_assert!(more.is_empty(), "{:?}", more);
                incidents.extend(over);
            }
            incidents.extend(journal.incident().cloned());
            for incident in incidents {
                let text = serde_json::to_string(&incident).unwrap();
                let read: Incident = serde_json::from_str(&text).unwrap();
                let decided: Vec<_> = incident.steps.iter().map(|s| s.decisions.clone()).collect();
                prop_assert_eq!(read.replay(&law), Some(decided));
            }
        }
    }

    #[test]
    fn an_incident_tells_how_long_what_took() {
        let law = FailoverLaw::ordered(2);
        let mut journal = Journal::new(State::new(&law, Moment(0)));
        let health = |target, health| Event::Health { target, health };
        journal.step(&law, vec![health(0, Health::Up), health(1, Health::Up)], Moment(0));
        for (target, at) in [(0, 200), (0, 1000), (1, 1100)] {
            let (vantage, error) = ("local".to_owned(), "connection refused".to_owned());
            journal.note(Note::FirstMiss { vantage, target, error }, Moment(at));
        }
        journal.step(&law, vec![health(0, Health::Down)], Moment(1400));
        let epoch = journal.state().steering().epoch;
        journal.note(Note::Served { by: Server::Proxy, epoch: epoch - 1 }, Moment(1401));
        journal.note(Note::Served { by: Server::Proxy, epoch }, Moment(1402));
        journal.note(Note::Served { by: Server::Dns, epoch }, Moment(1409));
        journal.note(Note::Leaked { target: 0, requests: 3 }, Moment(1500));
        journal.count_retried(2);
        let figures = journal.incident().map(Incident::figures);
        let millis = |millis| Some(Duration::from_millis(millis));
        let expected = Figures {
            to_decision: millis(400),
            to_route: millis(2),
            to_dns: millis(9),
            leaked_requests: 3,
            retried_requests: 2,
            transitions: 1,
            lasted: None,
        };
        assert_eq!(figures, Some(expected));
    }
}
