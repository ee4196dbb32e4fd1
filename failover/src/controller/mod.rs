//! Who gets how much of a name's clients, and how that changes.

mod damping;
mod returning;
mod shares;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use weir_config::{AllDown, FailoverLaw, MAX_TARGETS, Moment, Shares, Steering, WHOLE};

pub use self::vocabulary::{Decision, Event, Frozen, Hold, Order, Phase, Standing, Why};
use self::{damping::Damping, shares::Each};
use crate::{
    Health, Samples, Source,
    quality::{Grade, Quality},
};

/// How long something has to have been quiet until answers may be kept for long again.
const CALM: Duration = Duration::from_secs(10);
/// While it is degraded, a target gives up more after each of these.
const EASE_FOR: Duration = Duration::from_secs(15);
/// What is left to it, in ten-thousandths.
const EASING: [u16; 3] = [7500, 5000, 0];
/// For so long a degraded target has to be fine before it counts as that.
const CLEAR_FOR: Duration = Duration::from_secs(60);
/// How long a freeze lasts that nobody asked for.
const FROZEN_FOR: Duration = Duration::from_secs(2 * 60 * 60);
/// After so long even a frozen target that is down is left.
const DEAD: Duration = Duration::from_secs(30);

/// All that is known and decided about one policy's targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    targets: Vec<Target>,
    damping: Damping,
    hold: Hold,
    all_down: bool,
    /// Until when answers are kept for a short time only, because of a suspicion.
    alert: Option<Moment>,
    /// Requests per second, smoothed.
    rate: f64,
    counted: Moment,
    steering: Steering,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Target {
    health: Health,
    /// Since when it is that.
    since: Moment,
    standing: Standing,
    quality: Quality,
}

/// Takes in what has happened and decides what follows. Pure: the same state, events and time give
/// the same decisions.
pub fn step(
    law: &FailoverLaw,
    mut state: State,
    events: &[Event],
    now: Moment,
) -> (State, Vec<Decision>) {
    let mut decisions = Vec::new();
    for event in events {
        state.take(law, event, now, &mut decisions);
    }
    state.expire(law, now, &mut decisions);
    // What becomes of one may have consequences for another.
    for _ in 0..=2 * state.targets.len() {
        let before = (state.kinds(), state.hold, state.all_down);
        state.decide(law, now, &mut decisions);
        if (state.kinds(), state.hold, state.all_down) == before {
            break;
        }
    }
    state.steer(law, now, &mut decisions);
    (state, decisions)
}

impl State {
    /// Nothing is known yet, and everybody has what the policy gives him.
    pub fn new(law: &FailoverLaw, now: Moment) -> Self {
        let target = Target {
            health: Health::Unknown,
            since: now,
            standing: Standing::In,
            quality: Quality::default(),
        };
        let shares = shares::shares(law, &[WHOLE; MAX_TARGETS], 0.0);
        Self {
            targets: vec![target; law.targets.len()],
            damping: Damping::default(),
            hold: Hold::None,
            all_down: false,
            alert: None,
            rate: 0.0,
            counted: now,
            steering: Steering { epoch: 1, shares, ttl: law.ttl.steady },
        }
    }

    /// As it was before a restart: what was decided still holds, what was known has to be seen anew.
    pub fn after_restart(mut self, now: Moment) -> Self {
        for target in &mut self.targets {
            (target.health, target.since) = (Health::Unknown, now);
            target.quality = Quality::default();
        }
        self.counted = now;
        self
    }

    /// With other targets: of each, the place that it had, if it had one. What was decided of those
    /// that stay still holds; one that is new gets clients as one that comes back does.
    pub fn retargeted(mut self, law: &FailoverLaw, former: &[Option<usize>], now: Moment) -> Self {
        let old = |place: &Option<usize>| self.targets.get((*place)?).cloned();
        let kept: Vec<_> = former.iter().map(old).collect();
        if kept.iter().all(Option::is_none) {
            let epoch = self.steering.epoch + 1;
            let mut anew = Self::new(law, now);
            anew.steering.epoch = epoch;
            return anew;
        }
        if let Hold::Forced { target, until } = self.hold {
            let place = former.iter().position(|place| *place == Some(target));
            self.hold = place.map_or(Hold::None, |target| Hold::Forced { target, until });
        }
        let new = Target {
            health: Health::Unknown,
            since: now,
            standing: Standing::Aside,
            quality: Quality::default(),
        };
        self.targets = kept.into_iter().map(|kept| kept.unwrap_or_else(|| new.clone())).collect();
        // Whoever is left serves, even if nobody has said yet that it is well.
        if self.targets.iter().all(|target| target.standing.is_out()) {
            let serves = |target: &Target| target.health != Health::Down;
            let place = self.targets.iter().position(serves).unwrap_or_default();
            self.targets[place].standing = Standing::In;
        }
        let shares = match self.hold {
            Hold::Forced { target, .. } => Shares::all_to(target, self.targets.len()),
            _ => self.shares(law),
        };
        self.steering = Steering { epoch: self.steering.epoch + 1, shares, ..self.steering };
        self
    }

    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    pub fn health(&self, target: usize) -> Health {
        self.targets.get(target).map_or(Health::Unknown, |target| target.health)
    }

    pub fn standing(&self, target: usize) -> Option<&Standing> {
        self.targets.get(target).map(|target| &target.standing)
    }

    pub fn hold(&self) -> Hold {
        self.hold
    }

    pub fn phase(&self) -> Phase {
        let any = |is: fn(&Standing) -> bool| self.targets.iter().any(|t| is(&t.standing));
        match self.hold {
            Hold::Frozen { .. } => Phase::Frozen,
            Hold::Forced { .. } => Phase::Forced,
            Hold::None if self.all_down => Phase::AllDown,
            Hold::None if any(|s| matches!(s, Standing::Easing { .. })) => Phase::FailingOver,
            Hold::None if any(|s| matches!(s, Standing::Returning { .. })) => Phase::ShiftingBack,
            Hold::None if any(|s| matches!(s, Standing::Out { .. })) => Phase::FailedOver,
            Hold::None if self.alert.is_some() => Phase::Suspect,
            Hold::None => Phase::Steady,
        }
    }

    /// When to step again after now, though nothing happens.
    pub fn due(&self, law: &FailoverLaw, now: Moment) -> Option<Moment> {
        let hold = match self.hold {
            Hold::None => None,
            Hold::Frozen { until, .. } | Hold::Forced { until, .. } => Some(until),
        };
        let dead = self.targets.iter().filter(|target| target.health == Health::Down);
        let dead = dead.filter(|_| self.is_damped()).map(|target| target.since + DEAD);
        let targets = self.targets.iter().flat_map(|target| self.target_due(law, target));
        let all = hold.into_iter().chain(self.alert).chain(dead).chain(targets.flatten());
        all.filter(|due| *due > now).min()
    }

    /// Whether an operator has taken over.
    fn is_suspended(&self) -> bool {
        matches!(self.hold, Hold::Forced { .. } | Hold::Frozen { by: Frozen::Operator, .. })
    }

    fn is_damped(&self) -> bool {
        matches!(self.hold, Hold::Frozen { by: Frozen::Damping, .. })
    }

    fn take(&mut self, law: &FailoverLaw, event: &Event, now: Moment, out: &mut Vec<Decision>) {
        match event {
            Event::Health { target, health } => {
                let Some(target) = self.targets.get_mut(*target) else { return };
                if target.health != *health {
                    // What it failed to answer while it was down says nothing of it any more.
                    if target.health >= Health::Mending && health.is_good() {
                        target.quality = Quality::default();
                    }
                    (target.health, target.since) = (*health, now);
                }
            }
            Event::Answers { target, source, samples } => {
                self.take_answers(*target, *source, *samples, now);
            }
            Event::Order(order) => self.obey(law, *order, now, out),
        }
    }

    fn take_answers(&mut self, target: usize, source: Source, samples: Samples, now: Moment) {
        let Some(concerned) = self.targets.get_mut(target) else { return };
        concerned.quality.take(source, samples, now);
        if source == Source::Probes {
            return;
        }
        let passed = now.since(self.counted).as_secs_f64();
        // Targets tell one after the other; each adds what it has had since then.
        let half = 0.5_f64.powf(passed / 10.0);
        self.rate = self.rate * half + f64::from(samples.count) * std::f64::consts::LN_2 / 10.0;
        self.counted = now;
        for (place, other) in self.targets.iter_mut().enumerate() {
            if let Standing::Returning { own, others, .. } = &mut other.standing {
                if place == target { own } else { others }.add(samples);
            }
        }
    }

    fn obey(&mut self, law: &FailoverLaw, order: Order, now: Moment, out: &mut Vec<Decision>) {
        match order {
            Order::Freeze { until } => {
                self.hold = Hold::Frozen { by: Frozen::Operator, until };
                out.push(Decision::Freeze { by: Frozen::Operator, until });
            }
            Order::Force { target, until } if target < self.targets.len() => {
                self.hold = Hold::Forced { target, until };
                out.push(Decision::Force { target, until });
            }
            Order::Force { .. } => {}
            Order::Release => self.release(law, now, out),
        }
    }

    fn expire(&mut self, law: &FailoverLaw, now: Moment, out: &mut Vec<Decision>) {
        self.damping.refresh(now);
        if let Hold::Frozen { until, .. } | Hold::Forced { until, .. } = self.hold
            && now >= until
        {
            self.release(law, now, out);
        }
    }

    /// The law takes over again. Whoever had no clients meanwhile gets them back by steps.
    fn release(&mut self, law: &FailoverLaw, now: Moment, out: &mut Vec<Decision>) {
        if let Hold::Forced { .. } = self.hold {
            let due = self.shares(law);
            let forced = self.steering.shares;
            for (place, target) in self.targets.iter_mut().enumerate() {
                if due.of(place) > 0 && forced.of(place) == 0 {
                    target.standing = Standing::Out { until: now, clean: None };
                } else if forced.of(place) > 0 {
                    target.standing = Standing::In;
                }
            }
        }
        if self.hold != Hold::None {
            self.hold = Hold::None;
            out.push(Decision::Release);
        }
    }

    fn decide(&mut self, law: &FailoverLaw, now: Moment, out: &mut Vec<Decision>) {
        if !self.is_suspended() {
            self.stand_by(law, now);
            self.leave(law, now, out);
        }
        if self.hold == Hold::None && !self.all_down {
            (0..self.targets.len()).for_each(|place| self.move_on(law, place, now, out));
        }
    }

    fn kinds(&self) -> Each<Option<Discriminant<Standing>>> {
        std::array::from_fn(|place| Some(discriminant(&self.targets.get(place)?.standing)))
    }

    /// Leaves whoever is down, if there is somewhere to go.
    fn leave(&mut self, law: &FailoverLaw, now: Moment, out: &mut Vec<Decision>) {
        let good = self.targets.iter().position(|target| target.health.is_good());
        let Some(good) = good else {
            if !self.all_down && self.targets.iter().all(|t| t.health >= Health::Mending) {
                self.all_down = true;
                out.push(Decision::AllDown);
            }
            return;
        };
        if std::mem::take(&mut self.all_down) {
            out.push(Decision::SomeUp { target: good });
        }
        let patience = if self.is_damped() { DEAD } else { Duration::ZERO };
        for place in 0..self.targets.len() {
            let target = &self.targets[place];
            let is_out = target.standing.is_out();
            if target.health == Health::Down && !is_out && now.since(target.since) >= patience {
                self.depart(law, place, Why::Down, now, out);
            }
        }
        if self.targets.iter().all(|target| target.standing != Standing::In) {
            self.let_somebody_serve(out);
        }
    }

    /// Takes a target out, and has it wait the longer the more has happened.
    fn depart(
        &mut self,
        law: &FailoverLaw,
        place: usize,
        why: Why,
        now: Moment,
        out: &mut Vec<Decision>,
    ) {
        let hold = self.damping.depart(law.hold_down, now);
        self.targets[place].standing = Standing::Out { until: now + hold, clean: None };
        out.push(Decision::Leave { target: place, why, hold });
        if self.hold == Hold::None && self.damping.is_too_much(now) {
            let (by, until) = (Frozen::Damping, now + FROZEN_FOR);
            self.hold = Hold::Frozen { by, until };
            out.push(Decision::Freeze { by, until });
        }
    }

    /// Admits the first one that is good at once, one that is on its way rather than one that is
    /// out: a hold-down never keeps clients on what is dead.
    fn let_somebody_serve(&mut self, out: &mut Vec<Decision>) {
        let good = || self.targets.iter().enumerate().filter(|(_, t)| t.health.is_good());
        let on_its_way = good().find(|(_, target)| !target.standing.is_out());
        if let Some((place, _)) = on_its_way.or_else(|| good().next()) {
            self.targets[place].standing = Standing::In;
            out.push(Decision::Restored { target: place });
        }
    }

    /// What the standings come to, whatever suspends them.
    fn shares(&self, law: &FailoverLaw) -> Shares {
        shares::shares(law, &self.admitted(law), self.rate)
    }

    fn admitted(&self, law: &FailoverLaw) -> Each<u16> {
        let mut admitted = [0; MAX_TARGETS];
        for (admitted, target) in admitted.iter_mut().zip(&self.targets) {
            *admitted = target.standing.admitted(law);
        }
        admitted
    }

    fn steer(&mut self, law: &FailoverLaw, now: Moment, out: &mut Vec<Decision>) {
        let shares = match self.hold {
            Hold::Forced { target, .. } => Shares::all_to(target, self.targets.len()),
            Hold::Frozen { by: Frozen::Operator, .. } => self.steering.shares,
            _ if self.all_down => match law.all_down {
                AllDown::FailOpen => shares::shares(law, &[WHOLE; MAX_TARGETS], self.rate),
                AllDown::LastGood => self.steering.shares,
                AllDown::FailClosed => Shares::by_weight(&[0; MAX_TARGETS][..self.targets.len()]),
            },
            _ => self.shares(law),
        };
        let uneasy =
            |(place, target): (usize, &Target)| target.health > Health::Up && shares.of(place) > 0;
        if self.targets.iter().enumerate().any(uneasy) {
            self.alert = Some(now + CALM);
        } else if self.alert.is_some_and(|until| now >= until) {
            self.alert = None;
        }
        let is_settled = self.targets.iter().all(|target| target.standing.is_settled());
        let is_steady = is_settled && self.alert.is_none() && !self.all_down;
        let ttl = if is_steady { law.ttl.steady } else { law.ttl.low };
        if shares != self.steering.shares || ttl != self.steering.ttl {
            self.steering = Steering { epoch: self.steering.epoch + 1, shares, ttl };
            out.push(Decision::Steer(self.steering));
        }
    }

    /// The one that a target is compared with: the best of the others that take clients or could.
    fn alternative(&self, place: usize) -> Option<usize> {
        let others = || self.targets.iter().enumerate().filter(|(other, _)| *other != place);
        let is_in = |target: &Target| target.standing == Standing::In && target.health.is_good();
        others().find(|(_, target)| is_in(target)).map(|(other, _)| other)
    }

    fn grade(&self, law: &FailoverLaw, place: usize, now: Moment) -> Grade {
        self.alternative(place).map_or(Grade::Fine, |other| {
            let (own, its) = (&self.targets[place].quality, &self.targets[other].quality);
            own.grade(its, &law.degraded, now)
        })
    }
}
