//! Pilots in virtual time, and one at work.

mod work;

use std::{net::IpAddr, sync::Arc, time::Duration};

use weir_config::{FailoverPolicy, Moment, Steering, parse_documents};
use weir_failover::{Decision, Health, Incident, Order, Phase, TIMEOUT};

use super::{
    handle::{NotObeyed, Simulation},
    passive::Levels,
    pilot::{Decided, Heard, Kept, Pilot},
};

/// How a target treats what it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Refuses,
    Silent,
}

/// A pilot, its targets and its clock.
struct Sky {
    pilot: Pilot,
    moods: Vec<Mood>,
    now: Moment,
    /// What becomes of probes that are on their way, and when.
    coming: Vec<(Moment, usize, Moment, Heard)>,
    /// What was decided, and when.
    decided: Vec<(Moment, Decision)>,
    served: Vec<(Moment, Steering)>,
    closed: Vec<Incident>,
    probes: usize,
}

const BEGIN: Moment = Moment(1_700_000_000_000);

fn policy(fields: &str) -> Arc<FailoverPolicy> {
    let text = format!(
        "{{kind: FailoverPolicy, name: shop, spec: {{hostnames: [shop.example], targets: [
           {{name: one, addresses: [192.0.2.1, 192.0.2.2]}}, {{name: two, addresses: [192.0.2.3]}}]
           {fields}}}}}"
    );
    Arc::new(FailoverPolicy::read(parse_documents(&text).unwrap()[0].value.clone()).unwrap().1)
}

impl Sky {
    fn new(policy: Arc<FailoverPolicy>) -> Self {
        let seed = rand::random();
        println!("seed {seed}");
        Self::of(Pilot::new(policy, None, None, BEGIN, seed), BEGIN)
    }

    fn of(mut pilot: Pilot, now: Moment) -> Self {
        let targets = pilot.policy().targets.len();
        (0..targets).for_each(|target| {
            pilot.locate(target, vec![IpAddr::from([192, 0, 2, target as u8 + 1])]);
        });
        Self {
            pilot,
            moods: vec![Mood::Well; targets],
            now,
            coming: Vec::new(),
            decided: Vec::new(),
            served: Vec::new(),
            closed: Vec::new(),
            probes: 0,
        }
    }

    /// Lets so many milliseconds pass.
    fn wait(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            let next = self.coming.iter().map(|(at, ..)| *at).min().unwrap_or(end);
            let next = next.min(self.pilot.next(self.now)).min(end);
            self.now = next.max(self.now + Duration::from_millis(1));
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = self.now;
        let (come, coming) = std::mem::take(&mut self.coming).into_iter().partition(|c| c.0 <= now);
        self.coming = coming;
        let come: Vec<(Moment, usize, Moment, Heard)> = come;
        for (at, target, sent, heard) in come {
            self.pilot.heard(target, sent, heard, at);
        }
        for probe in self.pilot.probes(now) {
            self.probes += 1;
            self.send(probe.target, probe.patience);
        }
        let tells = self.pilot.is_time_to_tell(now);
        self.pilot.is_tick(now);
        let levels = vec![Levels::default(); self.moods.len()];
        let decided = self.pilot.decide(tells.then_some(&levels), now);
        self.take(decided);
    }

    fn take(&mut self, decided: Decided) {
        self.decided.extend(decided.decisions.into_iter().map(|decision| (self.now, decision)));
        self.closed.extend(decided.closed);
        if let Some(steering) = decided.steering {
            self.served.push((self.now, steering));
            self.pilot.is_served(steering.epoch, &[0, 0], self.now);
        }
    }

    fn send(&mut self, target: usize, patience: Duration) {
        let (now, took) = (self.now, Duration::from_millis(5));
        let error = || "connection refused".to_owned();
        match self.moods[target] {
            Mood::Well => self.coming.push((now + took, target, now, Heard::Answered(took))),
            Mood::Refuses => {
                let failed = Heard::Failed { error: error(), late: false };
                self.coming.push((now + took, target, now, failed));
            }
            Mood::Silent => {
                self.coming.push((now + patience, target, now, Heard::Late));
                let failed = Heard::Failed { error: "no answer".to_owned(), late: true };
                self.coming.push((now + TIMEOUT, target, now, failed));
            }
        }
    }

    fn order(&mut self, order: Order) {
        self.pilot.obey(order);
        let decided = self.pilot.decide(None, self.now);
        self.take(decided);
    }

    fn shares(&self) -> Vec<u16> {
        self.pilot.served().shares.into()
    }

    fn health(&self, target: usize) -> Health {
        self.pilot.targets()[target].health
    }

    fn leaves(&self) -> Vec<usize> {
        let left = self.decided.iter().filter_map(|(_, decision)| match decision {
            Decision::Leave { target, .. } => Some(*target),
            _ => None,
        });
        left.collect()
    }

    /// How long after `since` something else was served.
    fn took(&self, since: Moment) -> Duration {
        let (at, _) = self.served.iter().find(|(at, _)| *at >= since).expect("nothing was served");
        at.since(since)
    }

    /// The same after a restart: what is kept is what was written.
    fn restarted(self, policy: Arc<FailoverPolicy>, later: u64) -> Self {
        let text = serde_json::to_string(&self.pilot.kept(self.now)).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        let now = self.now + Duration::from_millis(later);
        let incident = self.pilot.journal().incident().cloned();
        let kept = Some((kept, *self.pilot.served()));
        let next = Self::of(Pilot::new(policy, kept, incident, now, 7), now);
        Self { moods: self.moods, ..next }
    }
}

const ALL: u16 = 10_000;

#[test]
fn what_dies_is_left_in_time_and_comes_back_by_steps() {
    for (mood, most) in [(Mood::Refuses, 1450), (Mood::Silent, 2150)] {
        let mut sky = Sky::new(policy(""));
        sky.wait(10_000);
        assert_eq!((sky.health(0), sky.health(1)), (Health::Up, Health::Up));
        assert!((18..=23).contains(&sky.probes), "once a second: {}", sky.probes);
        let fault = sky.now;
        sky.moods[0] = mood;
        sky.wait(3000);
        assert_eq!(sky.shares(), [0, ALL], "{:?}", sky.decided);
        assert!(sky.took(fault) <= Duration::from_millis(most), "{:?}", sky.took(fault));
        let figures = sky.pilot.journal().incident().unwrap().figures();
        assert!(figures.to_decision.is_some() && figures.to_route.is_some(), "{figures:?}");
        sky.moods[0] = Mood::Well;
        sky.wait(60_000 + 10_000);
        assert_eq!(sky.shares(), [500, 9500], "after a minute");
        // There are no requests to go by, so that each step takes four times as long.
        sky.wait(3 * 120_000 + 1000);
        assert_eq!(sky.shares(), [ALL, 0]);
        assert_eq!((sky.leaves(), sky.closed.len()), (vec![0], 1));
        let decided = sky.closed[0].steps.iter().map(|step| step.decisions.clone());
        let again = sky.closed[0].replay(&sky.pilot.policy().law);
        assert_eq!(again, Some(decided.collect()), "it is decided in the same way again");
    }
}

#[test]
fn where_the_origin_behind_both_fails_or_this_vantage_is_cut_off_nothing_moves() {
    let mut sky = Sky::new(policy(""));
    sky.wait(10_000);
    sky.moods.fill(Mood::Refuses);
    sky.wait(30_000);
    assert_eq!((sky.shares(), sky.leaves()), (vec![ALL, 0], vec![]));
    assert_eq!(sky.pilot.journal().state().phase(), Phase::AllDown);

    let mut sky = Sky::new(policy(""));
    sky.wait(10_000);
    sky.moods[0] = Mood::Silent;
    sky.wait(900);
    assert!(sky.pilot.is_in_doubt());
    sky.pilot.set_cut_off(true);
    sky.wait(30_000);
    assert_eq!((sky.shares(), sky.leaves()), (vec![ALL, 0], vec![]));
    assert_eq!(sky.health(0), Health::Doubted);
}

#[test]
fn a_restart_in_the_middle_shifts_nobody_twice() {
    let mut sky = Sky::new(policy(""));
    sky.wait(10_000);
    sky.moods[0] = Mood::Refuses;
    sky.wait(2000);
    let epoch = sky.pilot.served().epoch;
    let mut sky = sky.restarted(policy(""), 3000);
    assert_eq!((sky.shares(), sky.pilot.served().epoch), (vec![0, ALL], epoch));
    sky.wait(30_000);
    assert_eq!((sky.leaves(), sky.shares()), (vec![], vec![0, ALL]));
    assert!(sky.pilot.journal().incident().is_some(), "it goes on");
    // The same when the restart is long after the fault is gone.
    let mut sky = sky.restarted(policy(""), 200_000);
    sky.moods[0] = Mood::Well;
    sky.wait(3000);
    assert_eq!(sky.shares(), [0, ALL], "it has to prove itself first");
    sky.wait(65_000);
    assert_eq!(sky.shares(), [500, 9500]);
}

#[test]
fn in_another_mode_only_orders_change_what_is_served() {
    for (mode, is_advised) in [("advise", true), ("off", false)] {
        let mut sky = Sky::new(policy(&format!(", mode: {mode}")));
        sky.wait(10_000);
        sky.moods[0] = Mood::Refuses;
        sky.wait(10_000);
        assert_eq!(sky.health(0), Health::Down, "{mode}");
        assert_eq!((sky.shares(), !sky.leaves().is_empty()), (vec![ALL, 0], is_advised), "{mode}");
        let until = sky.now + Duration::from_secs(60);
        sky.order(Order::Force { target: 1, until });
        assert_eq!(sky.shares(), [0, ALL], "{mode}");
        let mut sky = sky.restarted(policy(&format!(", mode: {mode}")), 1000);
        assert_eq!(sky.shares(), [0, ALL], "an order outlives a restart");
        sky.wait(5000);
        sky.pilot.change(policy(""), sky.now);
        sky.order(Order::Release);
        assert_eq!(sky.shares(), [0, ALL], "{mode}, and then auto");
    }
}

#[test]
fn what_was_seen_while_it_was_off_counts_from_when_it_is_on() {
    let mut sky = Sky::new(policy(", mode: \"off\""));
    sky.wait(10_000);
    sky.moods[0] = Mood::Refuses;
    sky.wait(5000);
    assert_eq!(sky.shares(), [ALL, 0]);
    sky.pilot.change(policy(""), sky.now);
    sky.wait(1000);
    assert_eq!((sky.shares(), sky.leaves()), (vec![0, ALL], vec![0]));
}

#[test]
fn other_targets_are_taken_in_and_those_that_stay_stay_known() {
    let mut sky = Sky::new(policy(""));
    sky.wait(10_000);
    let text = "{kind: FailoverPolicy, name: shop, spec: {hostnames: [shop.example], targets: [
        {name: two, addresses: [192.0.2.3]}, {name: three, addresses: [192.0.2.4]}]}}";
    let value = parse_documents(text).unwrap()[0].value.clone();
    let epoch = sky.pilot.served().epoch;
    sky.pilot.change(Arc::new(FailoverPolicy::read(value).unwrap().1), sky.now);
    assert_eq!((sky.shares(), sky.health(0)), (vec![ALL, 0], Health::Up));
    assert!(sky.pilot.served().epoch > epoch);
    assert_eq!(sky.health(1), Health::Unknown);
    let kept = sky.pilot.kept(sky.now);
    let kept = Some((kept, *sky.pilot.served()));
    let next = Pilot::new(policy(""), kept, None, sky.now, 7);
    assert_eq!(Vec::from(next.served().shares), [0, ALL], "`two` serves, `one` is new");
}

#[test]
fn what_would_be_is_told_and_changes_nothing() {
    let mut sky = Sky::new(policy(""));
    sky.wait(10_000);
    let client: IpAddr = "203.0.113.9".parse().unwrap();
    let simulation =
        Simulation { targets: [("one".parse().unwrap(), false)].into(), clients: vec![client] };
    let would = sky.pilot.simulate(&simulation, sky.now).unwrap();
    assert_eq!(Vec::from(would.shares), [0, ALL]);
    assert_eq!(would.clients, [(client, Some("two".parse().unwrap()))]);
    assert_eq!(would.decisions, ["one is left: it is down; for 1m at least"]);
    assert_eq!((sky.shares(), sky.leaves()), (vec![ALL, 0], vec![]));
    let nobody = Simulation { targets: [("six".parse().unwrap(), false)].into(), clients: vec![] };
    assert_eq!(
        sky.pilot.simulate(&nobody, sky.now),
        Err(NotObeyed::NoTarget("six".parse().unwrap()))
    );
    let status = sky.pilot.status(None);
    assert_eq!((status.phase, status.targets[0].share), (Phase::Steady, ALL));
}

#[test]
fn a_target_with_several_addresses_is_asked_at_each_in_turn() {
    let mut sky = Sky::new(policy(""));
    let addresses: Vec<IpAddr> =
        ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap()).to_vec();
    sky.pilot.locate(0, addresses.clone());
    let mut asked = Vec::new();
    for second in 1..=6 {
        let now = BEGIN + Duration::from_millis(1000 * second);
        let probes = sky.pilot.probes(now);
        asked.extend(probes.iter().filter(|probe| probe.target == 0).map(|probe| probe.address));
    }
    assert!(asked.windows(2).all(|two| two[0] != two[1]), "{asked:?}");
    assert_eq!(asked.iter().filter(|address| **address == addresses[0]).count(), 3);
}

/// Waits until something is there.
async fn wait_for<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 30 s in vain");
}
