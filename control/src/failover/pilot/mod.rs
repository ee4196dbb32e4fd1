//! One policy's controller with all that it is told: no I/O, no clock, no chance.

mod status;
mod watched;

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use weir_config::{
    FailoverMode, FailoverPolicy, FailoverTarget, Moment, Numbers, Steering, TargetName,
    TargetPlace,
};
use weir_failover::{
    Decision, Event, Frozen, Incident, Journal, Note, Order, Sample, Server, Source, State, Verdict,
};

pub(super) use self::watched::{Heard, Probe, Watched};
use super::passive::{IDLE_TICK, Levels, TICK};

/// What targets have answered is told to the law this often.
const TELL: Duration = Duration::from_secs(2);
/// This process, as a vantage: so far the only one.
const LOCAL: &str = "local";

/// One policy's controller.
#[derive(Debug)]
pub(super) struct Pilot {
    policy: Arc<FailoverPolicy>,
    journal: Journal,
    /// In the policy's order.
    targets: Vec<Watched>,
    /// What is to be served. In another mode than `auto` only orders change it.
    served: Steering,
    /// Whether this vantage is itself cut off.
    is_cut_off: bool,
    orders: Vec<Order>,
    /// Whether the law is to be told of all targets anew: in mode `off` it was told nothing.
    retell: bool,
    /// When the law wants to be asked again.
    due: Option<Moment>,
    next_tell: Moment,
    next_tick: Moment,
    numbers: Numbers,
}

/// What has been decided.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) decisions: Vec<Decision>,
    /// What is to be served from now on.
    pub(super) steering: Option<Steering>,
    /// The incident that is over with this.
    pub(super) closed: Option<Incident>,
}

/// What is kept of a controller over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// In the order of the state's.
    targets: Vec<TargetName>,
    state: State,
    /// When that was.
    pub(super) at: Moment,
}

impl Pilot {
    /// Goes on from what was kept and what was served by that, and with the incident that was going
    /// on.
    pub(super) fn new(
        policy: Arc<FailoverPolicy>,
        kept: Option<(Kept, Steering)>,
        incident: Option<Incident>,
        now: Moment,
        seed: u64,
    ) -> Self {
        let mut numbers = Numbers(seed);
        let watched = |_: &FailoverTarget| Watched::new(now, &mut numbers);
        let targets = policy.targets.iter().map(watched).collect();
        let (journal, served) = match kept {
            None => {
                let state = State::new(&policy.law, now);
                let served = *state.steering();
                (Journal::new(state), served)
            }
            Some((kept, served)) => {
                let mut journal = Journal::new(kept.state.after_restart(now));
                if let Some(incident) = incident {
                    journal.resume(incident);
                }
                let former = places(&kept.targets, &policy.targets);
                let served = match is_same(&former, kept.targets.len()) {
                    true => served,
                    false => {
                        journal.retarget(&policy.law, &former, now);
                        *journal.state().steering()
                    }
                };
                (journal, served)
            }
        };
        Self {
            policy,
            journal,
            targets,
            served,
            is_cut_off: false,
            orders: Vec::new(),
            retell: false,
            // What is kept may be due, and a hold may have ended meanwhile.
            due: Some(now),
            next_tell: now + TELL,
            next_tick: now,
            numbers,
        }
    }

    pub(super) fn policy(&self) -> &Arc<FailoverPolicy> {
        &self.policy
    }

    pub(super) fn targets(&self) -> &[Watched] {
        &self.targets
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(super) fn served(&self) -> &Steering {
        &self.served
    }

    pub(super) fn kept(&self, now: Moment) -> Kept {
        Kept {
            targets: self.policy.targets.iter().map(|target| target.name.clone()).collect(),
            state: self.journal.state().clone(),
            at: now,
        }
    }

    /// Goes on by a policy that was written anew. A target that is asked as before stays known.
    pub(super) fn change(&mut self, policy: Arc<FailoverPolicy>, now: Moment) {
        let former = std::mem::replace(&mut self.policy, policy);
        let names: Vec<_> = former.targets.iter().map(|target| target.name.clone()).collect();
        let places = places(&names, &self.policy.targets);
        let is_asked_as = |place: usize, target: &FailoverTarget| {
            let (former, hostname) = (&former.targets[place], &former.hostnames[0]);
            let is_there = match (&former.place, &target.place) {
                // A region that gains or loses an address is the same.
                (TargetPlace::Addresses(_), TargetPlace::Addresses(_)) => true,
                (former, latter) => former == latter,
            };
            is_there && former.check == target.check && *hostname == self.policy.hostnames[0]
        };
        let mut known: Vec<_> = std::mem::take(&mut self.targets).into_iter().map(Some).collect();
        for (place, target) in places.iter().zip(&self.policy.targets) {
            let same = place.filter(|place| is_asked_as(*place, target));
            let watched = same.and_then(|place| known[place].take());
            let anew = || Watched::new(now, &mut self.numbers);
            self.targets.push(watched.unwrap_or_else(anew));
        }
        if !is_same(&places, names.len()) {
            self.journal.retarget(&self.policy.law, &places, now);
            self.served = *self.journal.state().steering();
        }
        (self.retell, self.due) = (true, Some(now));
    }

    /// Where a target is.
    pub(super) fn locate(&mut self, target: usize, addresses: Vec<IpAddr>) {
        self.targets[target].addresses = addresses;
    }

    pub(super) fn set_cut_off(&mut self, is_cut_off: bool) {
        self.is_cut_off = is_cut_off;
    }

    /// What an operator wants. It is obeyed with the next decision.
    pub(super) fn obey(&mut self, order: Order) {
        self.orders.push(order);
    }

    /// Takes down that what was decided is served, on which targets how many requests were left.
    pub(super) fn is_served(&mut self, epoch: u64, left: &[u64], now: Moment) {
        for by in [Server::Proxy, Server::Dns] {
            self.journal.note(Note::Served { by, epoch }, now);
        }
        for (target, requests) in left.iter().enumerate().filter(|(_, left)| **left > 0) {
            self.journal.note(Note::Leaked { target, requests: *requests }, now);
        }
    }

    pub(super) fn count_retried(&mut self, requests: u64) {
        self.journal.count_retried(requests);
    }

    /// The probes to be sent now.
    pub(super) fn probes(&mut self, now: Moment) -> Vec<Probe> {
        let mut probes = Vec::new();
        for (target, watched) in self.targets.iter_mut().enumerate() {
            if !watched.schedule.is_due(now, &mut self.numbers) {
                continue;
            }
            let Some(address) = watched.next_address() else { continue };
            let patience = watched.schedule.patience();
            watched.asked = Some(now);
            probes.push(Probe { target, address, patience });
        }
        probes
    }

    /// Takes in what became of a probe that was sent then.
    pub(super) fn heard(&mut self, target: usize, sent: Moment, heard: Heard, now: Moment) {
        let Some(watched) = self.targets.get_mut(target) else { return };
        watched.probes.count(&heard);
        let sample = heard.sample(sent);
        let error = match heard {
            Heard::Answered(_) => None,
            Heard::Late => Some("it has not answered yet".to_owned()),
            Heard::Failed { error, .. } => Some(error),
        };
        if let (None, Some(error)) = (&watched.error, &error) {
            let (vantage, error) = (LOCAL.to_owned(), error.clone());
            self.journal.note(Note::FirstMiss { vantage, target, error }, now);
        }
        watched.error = error;
        watched.schedule.take(sample, now);
        self.spread_doubt(now);
    }

    /// Takes in what the proxy has counted of each target. Most requests failing is no verdict, but a
    /// reason to ask at once.
    pub(super) fn look(&mut self, levels: &[Levels], now: Moment) {
        for (target, levels) in levels.iter().enumerate() {
            self.look_at(target, levels, now);
        }
        if self.targets.iter().all(|watched| watched.passive.is_idle()) {
            self.next_tick = now + IDLE_TICK;
        }
    }

    fn look_at(&mut self, target: usize, levels: &Levels, now: Moment) {
        let Some(watched) = self.targets.get_mut(target) else { return };
        let Some(since) = watched.passive.look(levels, now) else { return };
        if watched.error.is_none() && watched.schedule.verdict() == Verdict::Good {
            let (vantage, error) = (LOCAL.to_owned(), "clients get no answers".to_owned());
            watched.error = Some(error.clone());
            self.journal.note(Note::FirstMiss { vantage, target, error }, since);
        }
        watched.schedule.take(Sample::Clients { since }, now);
        self.spread_doubt(now);
    }

    /// Whether the proxy's counters are to be looked at.
    pub(super) fn is_tick(&mut self, now: Moment) -> bool {
        let is_tick = self.next_tick <= now;
        if is_tick {
            self.next_tick = now + TICK;
        }
        is_tick
    }

    /// Whether it is time to tell what targets have answered; see [`Self::tell`].
    pub(super) fn is_time_to_tell(&self, now: Moment) -> bool {
        self.next_tell <= now
    }

    /// What is decided by now. `levels` are what the proxy has counted of each target, if it is time
    /// to tell.
    pub(super) fn decide(&mut self, levels: Option<&[Levels]>, now: Moment) -> Decided {
        let mut events: Vec<_> = self.orders.drain(..).map(Event::Order).collect();
        self.vote(now, &mut events);
        if std::mem::take(&mut self.retell) {
            let healths = self.targets.iter().map(|watched| watched.health).enumerate();
            events.extend(healths.map(|(target, health)| Event::Health { target, health }));
        }
        if let Some(levels) = levels {
            self.tell(levels, now, &mut events);
        }
        if self.policy.mode == FailoverMode::Off {
            events.retain(|event| matches!(event, Event::Order(_)));
        }
        if events.is_empty() && self.due.is_none_or(|due| due > now) {
            return Decided::default();
        }
        let (decisions, closed) = self.journal.step(&self.policy.law, events, now);
        let state = self.journal.state();
        self.due = state.due(&self.policy.law, now);
        let is_to_serve = self.policy.mode == FailoverMode::Auto || is_ordered(&decisions);
        let steering = (is_to_serve && *state.steering() != self.served).then(|| *state.steering());
        self.served = steering.unwrap_or(self.served);
        Decided { decisions, steering, closed }
    }

    /// When something is to be done though nothing happens.
    pub(super) fn next(&self, now: Moment) -> Moment {
        let votes = self.targets.iter().filter_map(|watched| watched.quorum.due(now));
        let asked = self.targets.iter().map(|watched| watched.schedule.next());
        let soonest = asked.chain(votes).chain(self.due).min();
        self.next_tell.min(self.next_tick).min(soonest.unwrap_or(self.next_tick))
    }

    /// Who is in doubt has its fellows asked as well: they may have the same trouble.
    fn spread_doubt(&mut self, now: Moment) {
        let is_new = |watched: &Watched| {
            watched.schedule.verdict() == Verdict::Doubtful && watched.said != Verdict::Doubtful
        };
        if !self.targets.iter().any(is_new) {
            return;
        }
        for watched in &mut self.targets {
            if watched.schedule.verdict() == Verdict::Good {
                watched.schedule.ask_now(now);
            }
            watched.said = watched.schedule.verdict();
        }
    }

    /// Whether this vantage is in doubt about any target, which its references may explain.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.targets.iter().any(|watched| watched.said == Verdict::Doubtful)
    }

    fn vote(&mut self, now: Moment, events: &mut Vec<Event>) {
        for (target, watched) in self.targets.iter_mut().enumerate() {
            let verdict = watched.schedule.verdict();
            let was_bad = watched.was_bad();
            watched.said = verdict;
            watched.quorum.cast(0, (!self.is_cut_off).then_some(verdict), now);
            let health = watched.quorum.judge(now);
            if health == watched.health {
                continue;
            }
            let vantage = LOCAL.to_owned();
            match verdict {
                Verdict::Bad => self.journal.note(Note::Bad { vantage, target }, now),
                Verdict::Good if was_bad => self.journal.note(Note::Good { vantage, target }, now),
                _ => {}
            }
            if watched.quorum.is_blind(now) {
                self.journal.note(Note::Blind { target }, now);
            }
            if health.is_good() && was_bad {
                watched.good_since = Some(now);
            }
            watched.health = health;
            events.push(Event::Health { target, health });
        }
    }

    /// Tells the law what targets have answered.
    fn tell(&mut self, levels: &[Levels], now: Moment, events: &mut Vec<Event>) {
        self.next_tell = now + TELL;
        for (target, (watched, levels)) in self.targets.iter_mut().zip(levels).enumerate() {
            let clients = watched.passive.samples(levels).map(|told| (Source::Clients, told));
            let probes = watched.probes.samples().map(|told| (Source::Probes, told));
            let told = clients.into_iter().chain(probes);
            events.extend(told.map(|(source, samples)| Event::Answers { target, source, samples }));
        }
    }
}

/// The place that each target had, if it had one.
fn places(former: &[TargetName], targets: &[FailoverTarget]) -> Vec<Option<usize>> {
    let place = |target: &FailoverTarget| former.iter().position(|name| *name == target.name);
    targets.iter().map(place).collect()
}

/// Whether so many targets are where they were.
fn is_same(places: &[Option<usize>], former: usize) -> bool {
    places.len() == former && places.iter().enumerate().all(|(at, place)| *place == Some(at))
}

/// Whether an operator has decided, or what he had decided is over.
fn is_ordered(decisions: &[Decision]) -> bool {
    decisions.iter().any(|decision| {
        matches!(
            decision,
            Decision::Force { .. }
                | Decision::Release
                | Decision::Freeze { by: Frozen::Operator, .. }
        )
    })
}
