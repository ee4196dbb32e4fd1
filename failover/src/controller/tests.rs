//! The law, told in short scripts.

use std::time::Duration;

use weir_config::{AllDown, FailoverLaw, Moment, Steering};

use super::{Decision, Event, Frozen, Hold, Order, Phase, State, Why, step};
use crate::{Health, Samples, Source};

/// A controller and its clock.
struct Script {
    law: FailoverLaw,
    state: Option<State>,
    now: Moment,
    decisions: Vec<(Moment, Decision)>,
}

impl Script {
    fn new(law: FailoverLaw) -> Self {
        let state = Some(State::new(&law, Moment(0)));
        let mut script = Self { law, state, now: Moment(0), decisions: Vec::new() };
        (0..script.law.targets.len()).for_each(|target| script.health(target, Health::Up));
        script
    }

    fn state(&self) -> &State {
        self.state.as_ref().unwrap()
    }

    fn tell(&mut self, events: &[Event]) {
        let (state, decisions) = step(&self.law, self.state.take().unwrap(), events, self.now);
        self.state = Some(state);
        self.decisions.extend(decisions.into_iter().map(|decision| (self.now, decision)));
    }

    fn health(&mut self, target: usize, health: Health) {
        self.tell(&[Event::Health { target, health }]);
    }

    fn answers(&mut self, target: usize, count: u32, errors: u32) {
        let samples = Samples { count, errors, p95: 20.0 };
        self.tell(&[Event::Answers { target, source: Source::Clients, samples }]);
    }

    /// Lets time pass, stepping whenever the controller wants to be stepped.
    fn wait(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.state().due(&self.law, self.now).filter(|due| *due <= end) {
            self.now = due;
            self.tell(&[]);
        }
        self.now = end;
    }

    fn shares(&self) -> Vec<u16> {
        self.state().steering().shares.into()
    }

    fn count(&self, is: impl Fn(&Decision) -> bool) -> usize {
        self.decisions.iter().filter(|(_, decision)| is(decision)).count()
    }
}

const ALL: u16 = 10_000;

fn primary_and_standby() -> Script {
    Script::new(FailoverLaw::ordered(2))
}

#[test]
fn what_is_down_is_left_at_once_and_comes_back_by_steps_behind_gates() {
    let mut script = primary_and_standby();
    assert_eq!(script.shares(), [ALL, 0]);
    script.wait(100);
    script.health(0, Health::Down);
    assert_eq!(script.shares(), [0, ALL]);
    assert_eq!(script.state().steering().ttl, Duration::from_secs(5));
    script.wait(30);
    script.health(0, Health::Up);
    script.wait(59);
    assert_eq!(script.shares(), [0, ALL], "it has not been well for a minute");
    script.wait(1);
    for share in [500, 2500, 5000] {
        assert_eq!(script.shares(), [share, ALL - share]);
        assert_eq!(script.state().phase(), Phase::ShiftingBack);
        script.answers(0, 200, 0);
        script.answers(1, 800, 1);
        script.wait(29);
        assert_eq!(script.shares(), [share, ALL - share], "a step takes its time");
        script.wait(1);
    }
    assert_eq!((script.shares(), script.state().phase()), (vec![ALL, 0], Phase::Steady));
    assert_eq!(script.state().steering().ttl, Duration::from_secs(30));
}

#[test]
fn what_it_did_not_answer_while_it_was_down_is_not_held_against_it() {
    let mut script = primary_and_standby();
    script.health(0, Health::Down);
    for (target, errors) in [(0, 60), (1, 0)] {
        let samples = Samples { count: 60, errors, p95: 20.0 };
        script.tell(&[Event::Answers { target, source: Source::Probes, samples }]);
    }
    script.health(0, Health::Mending);
    script.health(0, Health::Up);
    script.wait(60);
    assert_eq!(script.shares(), [500, 9500]);
}

#[test]
fn few_requests_make_a_step_longer_and_errors_end_it() {
    let mut script = primary_and_standby();
    script.health(0, Health::Down);
    script.health(0, Health::Up);
    script.wait(60);
    assert_eq!(script.shares(), [500, 9500]);
    script.answers(0, 10, 0);
    script.wait(119);
    assert_eq!(script.shares(), [500, 9500]);
    script.wait(1);
    assert_eq!(script.shares(), [2500, 7500]);
    script.answers(1, 600, 0);
    script.answers(0, 200, 20);
    assert_eq!(script.shares(), [0, ALL]);
    let last = script.decisions.iter().rev().nth(1).map(|(_, decision)| decision.clone());
    let hold = Duration::from_secs(120);
    assert_eq!(last, Some(Decision::Leave { target: 0, why: Why::Gate, hold }), "twice as long");
}

#[test]
fn where_the_origin_behind_both_fails_nothing_moves() {
    for first in [0, 1] {
        let mut script = primary_and_standby();
        script.health(first, Health::Doubted);
        script.health(1 - first, Health::Doubted);
        script.health(0, Health::Down);
        assert_eq!(script.shares(), [ALL, 0], "the other one is in doubt");
        script.health(1, Health::Down);
        assert_eq!(script.state().phase(), Phase::AllDown);
        script.wait(600);
        script.health(0, Health::Mending);
        script.health(1, Health::Mending);
        script.health(first, Health::Up);
        script.health(1 - first, Health::Up);
        script.wait(600);
        assert_eq!((script.shares(), script.state().phase()), (vec![ALL, 0], Phase::Steady));
        assert_eq!(script.count(|d| matches!(d, Decision::Leave { .. })), 0);
    }
}

#[test]
fn when_all_are_down_the_policy_says_what_is_served() {
    for (all_down, shares) in [
        (AllDown::LastGood, [0, ALL]),
        (AllDown::FailOpen, [ALL, 0]),
        (AllDown::FailClosed, [0, 0]),
    ] {
        let mut script = Script::new(FailoverLaw { all_down, ..FailoverLaw::ordered(2) });
        script.health(0, Health::Down);
        script.health(1, Health::Down);
        assert_eq!(script.shares(), shares, "{all_down:?}");
        // The first one that is well again gets everything, whatever its hold-down is.
        script.health(0, Health::Up);
        assert_eq!(script.shares(), [ALL, 0], "{all_down:?}");
    }
}

#[test]
fn a_standby_that_dies_and_comes_back_moves_nobody() {
    let mut script = Script::new(FailoverLaw::ordered(3));
    script.health(1, Health::Down);
    script.wait(10);
    script.health(0, Health::Down);
    assert_eq!(script.shares(), [0, 0, ALL], "the next in order that is well");
    script.health(2, Health::Down);
    assert_eq!(script.state().phase(), Phase::AllDown);
    script.health(1, Health::Up);
    assert_eq!(script.shares(), [0, ALL, 0]);

    let mut script = primary_and_standby();
    script.health(1, Health::Down);
    script.wait(5);
    script.health(1, Health::Up);
    assert_eq!(script.count(|_| true), 0, "{:?}", script.decisions);
    assert_eq!(script.state().phase(), Phase::Steady);
}

#[test]
fn who_goes_too_often_stays_away_and_somebody_has_to_look() {
    let mut script = primary_and_standby();
    let mut holds = Vec::new();
    while script.state().hold() == Hold::None {
        script.health(0, Health::Down);
        script.health(0, Health::Up);
        holds.extend(script.decisions.drain(..).filter_map(|(_, decision)| match decision {
            Decision::Leave { hold, .. } => Some(hold.as_secs()),
            _ => None,
        }));
        // Until it has all its share again.
        while script.state().hold() == Hold::None && script.shares() != [ALL, 0] {
            script.wait(1);
        }
    }
    assert_eq!(holds, [60, 120, 240, 480, 960], "more than four within an hour");
    assert!(matches!(script.state().hold(), Hold::Frozen { by: Frozen::Damping, .. }));
    assert_eq!(script.shares(), [0, ALL]);
    // A frozen name still leaves what stays dead.
    script.health(1, Health::Down);
    script.wait(29);
    assert_eq!(script.shares(), [0, ALL]);
    script.wait(1);
    assert_eq!(script.shares(), [ALL, 0]);
    script.wait(2 * 60 * 60);
    assert_eq!(script.state().hold(), Hold::None, "two hours are over");
}

#[test]
fn what_is_clearly_worse_is_left_by_steps() {
    let mut script = Script::new(FailoverLaw { gate: gate(), ..FailoverLaw::ordered(2) });
    let mut seen = Vec::new();
    for second in 0..200 {
        script.wait(1);
        // Clients of one and probes of both; a tenth fails for half a minute.
        let errors = if second < 60 { 4 } else { 0 };
        for (target, errors) in [(0, errors), (1, 0)] {
            let samples = Samples { count: 40, errors, p95: 20.0 };
            script.tell(&[Event::Answers { target, source: Source::Probes, samples }]);
        }
        if seen.last() != Some(&script.shares()[0]) {
            seen.push(script.shares()[0]);
        }
    }
    assert_eq!(seen[..4], [ALL, 7500, 5000, 0], "{seen:?}");
    let whys = |d: &Decision| matches!(d, Decision::Leave { why: Why::Degraded, .. });
    assert_eq!(script.count(whys), 1);

    // The same errors on both sides are nobody's in particular.
    let mut script = primary_and_standby();
    for _ in 0..200 {
        script.wait(1);
        for target in [0, 1] {
            let samples = Samples { count: 40, errors: 4, p95: 20.0 };
            script.tell(&[Event::Answers { target, source: Source::Probes, samples }]);
        }
    }
    assert_eq!(script.count(|_| true), 0, "{:?}", script.decisions);
}

fn gate() -> weir_config::Gate {
    FailoverLaw::ordered(2).gate
}

#[test]
fn an_operator_can_freeze_force_and_release() {
    let mut script = primary_and_standby();
    let until = script.now + Duration::from_secs(600);
    script.tell(&[Event::Order(Order::Freeze { until })]);
    script.health(0, Health::Down);
    assert_eq!(script.shares(), [ALL, 0], "frozen is frozen");
    script.tell(&[Event::Order(Order::Release)]);
    assert_eq!(script.shares(), [0, ALL]);

    let mut script = primary_and_standby();
    let until = script.now + Duration::from_secs(600);
    script.tell(&[Event::Order(Order::Force { target: 1, until })]);
    assert_eq!((script.shares(), script.state().phase()), (vec![0, ALL], Phase::Forced));
    script.wait(600);
    assert_eq!(script.shares(), [0, ALL], "its clients come back by steps");
    script.wait(60);
    assert_eq!(script.shares(), [500, 9500]);
}

#[test]
fn a_suspicion_makes_answers_short_lived_and_moves_nobody() {
    let mut script = primary_and_standby();
    script.health(0, Health::Suspected);
    let Steering { ttl, .. } = *script.state().steering();
    assert_eq!((ttl, script.shares()), (Duration::from_secs(5), vec![ALL, 0]));
    script.health(0, Health::Up);
    script.wait(9);
    assert_eq!(script.state().phase(), Phase::Suspect);
    script.wait(1);
    assert_eq!(script.state().steering().ttl, Duration::from_secs(30));
}

/// Goal F8.
#[test]
fn a_restart_goes_on_from_what_was_decided() {
    let mut script = primary_and_standby();
    script.health(0, Health::Down);
    let text = serde_json::to_string(script.state()).unwrap();
    let state: State = serde_json::from_str(&text).unwrap();
    assert_eq!(&state, script.state());
    script.state = Some(state.after_restart(script.now));
    script.tell(&[]);
    script.health(1, Health::Up);
    script.health(0, Health::Up);
    assert_eq!(script.shares(), [0, ALL]);
    script.wait(60);
    assert_eq!(script.shares(), [500, 9500], "the hold-down goes on");
}

#[test]
fn other_targets_change_nothing_for_those_that_stay() {
    let mut script = primary_and_standby();
    script.health(0, Health::Down);
    // The standby stays, and a new one is preferred to it.
    script.law = FailoverLaw::ordered(3);
    let former = [None, Some(0), Some(1)];
    let epoch = script.state().steering().epoch;
    script.state = script.state.take().map(|s| s.retargeted(&script.law, &former, script.now));
    assert_eq!((script.shares(), script.state().steering().epoch), (vec![0, 0, ALL], epoch + 1));
    script.health(0, Health::Up);
    script.wait(59);
    assert_eq!(script.shares(), [0, 0, ALL], "it has to prove itself as any other");
    script.wait(1);
    assert_eq!(script.shares(), [500, 0, 9500]);

    // The only one that was in is gone.
    script.law = FailoverLaw::ordered(1);
    script.state = script.state.take().map(|s| s.retargeted(&script.law, &[Some(1)], script.now));
    assert_eq!(script.shares(), [ALL]);
}
