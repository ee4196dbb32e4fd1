//! One life of three vantages, two targets and a controller.

use std::time::Duration;

use weir_config::{FailoverLaw, Moment, Shares};

use super::{
    Fault, Report, Weather,
    path::{NEVER, Path},
    sky::{BURST_MEAN, BURST_MOST, PATHS, Sky, TARGETS, View},
};
use crate::{
    Decision, Event, Health, Phase, Quorum, Source, State, Verdict, is_cut_off, quality::PERIOD,
    step,
};

const PARTITION: Duration = Duration::from_secs(600);
/// Of clients, per second.
const RATE: f64 = 100.0;
/// A departure so shortly after a fault was decided on while there was one.
const AFTERMATH: Duration = Duration::from_secs(60);
/// When all vantages tell what they see all the time, nothing gets stale.
const ALWAYS: Moment = Moment(u64::MAX / 2);

struct World {
    sky: Sky,
    law: FailoverLaw,
    /// Of each vantage: to the targets, then to its references.
    paths: Vec<[Path; PATHS]>,
    /// When something happens next on any path of a vantage.
    next: Vec<Moment>,
    quorums: [Quorum; TARGETS],
    told: [Health; TARGETS],
    /// Of the controller, which is somewhere else while it steps.
    state: Option<State>,
    due: Moment,
    /// When the quorums have to judge again.
    disputes: Moment,
    next_period: Moment,
    next_restart: Moment,
    last_fault: Option<(Fault, Moment, Option<Moment>)>,
    transitions_before: u64,
    detected: bool,
    report: Report,
}

/// Lives through so many days.
pub(super) fn live(weather: &Weather, seed: u64, days: u64) -> Report {
    let end = Moment(days * 24 * 60 * 60 * 1000);
    let mut world = World::new(weather, seed);
    while let Some(now) = world.next().filter(|now| *now < end) {
        world.wake(now);
    }
    world.report
}

impl World {
    fn new(weather: &Weather, seed: u64) -> Self {
        let mut sky = Sky::new(weather, seed);
        let law = FailoverLaw::ordered(TARGETS);
        let paths: Vec<_> = (0..weather.vantages)
            .map(|_| std::array::from_fn(|_| Path::new(Moment(0), &mut sky.numbers)))
            .collect();
        Self {
            state: Some(State::new(&law, Moment(0))),
            quorums: std::array::from_fn(|_| Quorum::new(weather.vantages)),
            told: [Health::Unknown; TARGETS],
            due: NEVER,
            disputes: NEVER,
            next_period: Moment(0) + PERIOD,
            next_restart: weather.restarts.map_or(NEVER, |every| Moment(0) + every),
            last_fault: None,
            transitions_before: 0,
            detected: false,
            report: Report::new(weather.name),
            next: paths.iter().map(next).collect(),
            sky,
            law,
            paths,
        }
    }

    fn next(&self) -> Option<Moment> {
        let paths = self.next.iter().copied().min()?;
        let sky = self.sky.next_burst.min(self.sky.next_partition).min(self.sky.next_drift);
        let own = self.due.min(self.next_period).min(self.next_restart).min(self.sky.faults.until);
        Some(paths.min(sky).min(own).min(self.disputes))
    }

    fn wake(&mut self, now: Moment) {
        if self.sky.faults.until <= now {
            self.turn_fault(now);
        }
        if self.next_restart <= now {
            self.restart(now);
        }
        if self.sky.next_burst <= now {
            self.burst(now);
        }
        if self.sky.next_partition <= now {
            self.partition(now);
        }
        if self.sky.next_drift <= now {
            self.sky.drift(now);
            self.disturb(now, |_, _| true);
        }
        let mut spoke = false;
        for vantage in 0..self.paths.len() {
            spoke |= self.next[vantage] <= now && self.wake_vantage(vantage, now);
        }
        let mut events = Vec::new();
        if spoke || self.disputes <= now {
            self.judge(now, &mut events);
        }
        if self.next_period <= now {
            self.answers(now, &mut events);
            self.next_period = now + PERIOD;
        }
        if !events.is_empty() || self.due <= now {
            self.step(&events, now);
        }
    }

    /// Wakes the paths of a vantage that are due; whether one of them has changed its verdict.
    fn wake_vantage(&mut self, vantage: usize, now: Moment) -> bool {
        let paths = &mut self.paths[vantage];
        let (mut changed, mut doubts) = (false, false);
        for (path, one) in paths.iter_mut().enumerate().filter(|(_, one)| one.next <= now) {
            let before = one.verdict();
            one.wake(&mut View { sky: &mut self.sky, vantage, path }, now);
            let after = one.verdict();
            changed |= before != after;
            doubts |= before != after && after == Verdict::Doubtful;
        }
        let others = paths.iter_mut().enumerate().filter(|_| doubts);
        for (path, other) in others.filter(|(_, other)| other.verdict() == Verdict::Good) {
            other.ask(&mut View { sky: &mut self.sky, vantage, path }, now);
        }
        self.next[vantage] = next(paths);
        if changed {
            self.vote(vantage, now);
        }
        changed
    }

    fn vote(&mut self, vantage: usize, now: Moment) {
        let paths = &self.paths[vantage];
        let cut_off = is_cut_off(paths[TARGETS..].iter().map(Path::verdict));
        // Every other life, those who are cut off are it from the controller.
        if self.sky.is_silent(vantage) {
            return;
        }
        for (path, quorum) in paths.iter().zip(&mut self.quorums) {
            let verdict = (!cut_off).then(|| path.verdict());
            quorum.cast(vantage, verdict, ALWAYS.max(now));
        }
    }

    fn judge(&mut self, now: Moment, events: &mut Vec<Event>) {
        for target in 0..TARGETS {
            let health = self.quorums[target].judge(now);
            if self.told[target] != health {
                self.told[target] = health;
                events.push(Event::Health { target, health });
            }
        }
        self.disputes = self.quorums.iter().filter_map(|q| q.due(now)).min().unwrap_or(NEVER);
    }

    /// What targets have answered in the last period, drawn by what they are like.
    fn answers(&mut self, now: Moment, events: &mut Vec<Event>) {
        let Some(state) = &self.state else { return };
        let (sky, is_steady) = (&mut self.sky, state.phase() == Phase::Steady);
        if is_steady && sky.loss == 0.0 && sky.faults.now.is_none() {
            return;
        }
        let probes = self.paths.len() as u32 * 10;
        for target in 0..TARGETS {
            let mood = sky.faults.mood(target, now);
            let samples = sky.samples(probes, sky.loss, mood);
            events.push(Event::Answers { target, source: Source::Probes, samples });
            let share = f64::from(state.steering().shares.of(target)) / 10_000.0;
            let requests = (RATE * share * PERIOD.as_secs_f64()) as u32;
            if requests > 0 && !is_steady {
                let samples = sky.samples(requests, 0.001, mood);
                events.push(Event::Answers { target, source: Source::Clients, samples });
            }
        }
    }

    fn step(&mut self, events: &[Event], now: Moment) {
        let Some(state) = self.state.take() else { return };
        let shares = state.steering().shares;
        let (state, decisions) = step(&self.law, state, events, now);
        self.due = state.due(&self.law, now).unwrap_or(NEVER);
        self.state = Some(state);
        self.report.steps += 1;
        for decision in decisions {
            self.note(&decision, &shares, now);
        }
    }

    fn note(&mut self, decision: &Decision, before: &Shares, now: Moment) {
        match decision {
            Decision::Leave { target, .. } | Decision::Ease { target, .. } => {
                let is_recent =
                    |end: Option<Moment>| end.is_none_or(|end| now.since(end) < AFTERMATH);
                let right = self
                    .last_fault
                    .filter(|(fault, _, end)| fault.is_reason_to_leave(*target) && is_recent(*end));
                let Some((fault, began, _)) = right else {
                    self.report.wrong += 1;
                    return;
                };
                if !std::mem::replace(&mut self.detected, true) {
                    let detections = self.report.detections.entry(fault).or_default();
                    detections.take(now.since(began));
                }
            }
            Decision::Steer(steering) if steering.shares != *before => self.report.transitions += 1,
            _ => {}
        }
    }

    fn turn_fault(&mut self, now: Moment) {
        self.sky.faults.turn(&mut self.sky.numbers);
        match self.sky.faults.now {
            Some((fault, began)) => {
                self.report.faults += 1;
                self.detected = false;
                self.last_fault = Some((fault, began, None));
                self.transitions_before = self.report.transitions;
            }
            None => self.end_fault(now),
        }
        self.disturb(now, |_, path| path < TARGETS);
    }

    /// Counts what the fault has moved while it lasted.
    fn end_fault(&mut self, now: Moment) {
        if let Some((fault, _, end)) = &mut self.last_fault {
            *end = Some(now);
            let moved = self.report.transitions - self.transitions_before;
            let most = self.report.most_transitions.entry(*fault).or_default();
            *most = moved.max(*most);
        }
    }

    /// The process is killed and starts anew: what was decided is all that is left.
    fn restart(&mut self, now: Moment) {
        let every = self.sky.weather.restarts.unwrap_or_default();
        self.next_restart = now + every.mul_f64(0.5 + self.sky.numbers.fraction());
        let before = self.state.as_ref().map(|state| *state.steering());
        self.state = self.state.take().map(|state| state.after_restart(now));
        self.quorums = std::array::from_fn(|_| Quorum::new(self.paths.len()));
        self.told = [Health::Unknown; TARGETS];
        for (paths, next_of) in self.paths.iter_mut().zip(&mut self.next) {
            *paths = std::array::from_fn(|_| Path::new(now, &mut self.sky.numbers));
            *next_of = next(paths);
        }
        self.step(&[], now);
        if self.state.as_ref().map(|state| state.steering().shares) != before.map(|b| b.shares) {
            self.report.wrong += 1;
        }
    }

    fn burst(&mut self, now: Moment) {
        let sky = &mut self.sky;
        let vantage = sky.numbers.below(sky.bursts.len());
        let which = sky.numbers.below(PATHS + 1);
        let length = -BURST_MEAN * (1.0 - sky.numbers.fraction()).ln();
        sky.bursts[vantage][which] = now + Duration::from_secs_f64(length.min(BURST_MOST));
        sky.plan_burst(now);
        self.disturb(now, |v, path| v == vantage && (path == which || which == PATHS));
    }

    fn partition(&mut self, now: Moment) {
        self.sky.cut_off = !self.sky.cut_off;
        let every = self.sky.weather.partitions.unwrap_or_default();
        self.sky.next_partition = now + if self.sky.cut_off { PARTITION } else { every };
        if self.sky.tells_nobody {
            for vantage in 1..self.paths.len() {
                match self.sky.cut_off {
                    // What was heard last gets stale.
                    true => self.quorums.iter_mut().zip(&self.paths[vantage]).for_each(|(q, p)| {
                        q.cast(vantage, Some(p.verdict()), now);
                    }),
                    false => self.vote(vantage, now),
                }
            }
            self.disputes = now;
        } else {
            self.disturb(now, |vantage, _| vantage > 0);
        }
    }

    fn disturb(&mut self, now: Moment, concerned: impl Fn(usize, usize) -> bool) {
        for (vantage, paths) in self.paths.iter_mut().enumerate() {
            for (path, concerned_path) in paths.iter_mut().enumerate() {
                if concerned(vantage, path) {
                    concerned_path.disturb(&mut View { sky: &mut self.sky, vantage, path }, now);
                }
            }
            self.next[vantage] = next(paths);
        }
    }
}

fn next(paths: &[Path; PATHS]) -> Moment {
    paths.iter().map(|path| path.next).min().unwrap_or(NEVER)
}
