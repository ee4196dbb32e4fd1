//! The gate, before snapshots of the plan and before poisoned ones.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use weir_config::{
    AppRoute, Backends, Certificate, Endpoint, EndpointId, MemberId, MemberOf, Pool, Reach,
    RouteState, SleepLevel, Snapshot,
};

use super::{
    bench::{Bench, certificate},
    seconds,
};
use crate::{
    event::{DesiredChange, Event},
    gate::{Cause, Gate},
    quarantine::{Convicted, Quarantine, fingerprint},
    subject::Subject,
};

/// Apps over one upstream each, and some over a shard.
fn bench_with(apps: usize) -> Bench {
    let mut bench = Bench::new();
    bench.put_shard("east", "{members: [{name: a, address: \"10.2.0.1:80\"}]}");
    for i in 0..apps {
        let source = match i % 5 {
            0 => "shards: [east]".to_owned(),
            _ => format!("upstreams: [\"10.3.{}.{}:80\"]", i / 200, i % 200 + 1),
        };
        bench.put(&format!("app{i}"), &format!("{{{source}, hostnames: [h{i}.com, h{i}.org/x]}}"));
    }
    bench.settle();
    bench
}

/// All that is meant, as a feed that fell behind tells it, without those that `is_lost`.
fn tell_whole(bench: &mut Bench, is_lost: impl Fn(usize) -> bool) {
    let mut desired = bench.world().desired.clone();
    desired.revision += 1;
    let lost: Vec<_> = desired.apps.keys().enumerate().filter(|(i, _)| is_lost(*i)).collect();
    let lost: Vec<_> = lost.into_iter().map(|(_, name)| name.clone()).collect();
    lost.iter().for_each(|name| _ = desired.apps.remove(name));
    bench.tell(Event::Desired(DesiredChange::whole(desired)));
}

fn served_apps(bench: &Bench) -> usize {
    bench.observed().served.apps().count()
}

fn causes(bench: &Bench) -> Vec<Cause> {
    bench.world().refusals.values().map(|refusal| refusal.cause).collect()
}

#[test]
fn a_loss_that_nobody_asked_for_is_held_and_the_rest_goes_on() {
    let mut bench = bench_with(50);
    tell_whole(&mut bench, |i| i < 30);
    bench.put("app49", "{upstreams: [\"10.3.0.50:80\"], hostnames: [new.com]}");
    bench.settle();
    assert_eq!(served_apps(&bench), 50, "the last good one goes on serving");
    assert!(causes(&bench).iter().all(|cause| matches!(cause, Cause::Held { .. })));
    assert_eq!(causes(&bench).len(), 30);
    let message = &bench.world().refusals.values().next().unwrap().message;
    assert!(message.contains("90 of ") && message.contains("host names"), "{message}");
    assert!(bench.observed().served.route("new.com", "/").is_some(), "others are not held up");

    bench.pass(seconds(59));
    bench.settle();
    assert_eq!(served_apps(&bench), 50);
    bench.pass(seconds(2));
    bench.settle();
    assert_eq!(served_apps(&bench), 20, "it lasts, so it is the truth");
    assert!(bench.world().refusals.is_empty());
}

#[test]
fn what_is_held_goes_through_when_it_is_confirmed_and_is_forgotten_when_it_is_undone() {
    let mut bench = bench_with(50);
    tell_whole(&mut bench, |i| i < 30);
    bench.settle();
    assert_eq!(served_apps(&bench), 50);
    let mut undone = bench_with(50);
    let desired = undone.world().desired.clone();
    tell_whole(&mut undone, |i| i < 30);
    undone.settle();
    undone.tell(Event::Desired(DesiredChange::whole(desired)));
    undone.settle();
    assert!(undone.world().refusals.is_empty());
    undone.pass(seconds(120));
    undone.settle();
    assert_eq!(served_apps(&undone), 50);

    bench.tell(Event::SnapshotConfirmed);
    bench.settle();
    assert_eq!(served_apps(&bench), 20);
}

#[test]
fn deletions_and_small_losses_are_not_held() {
    let mut bench = bench_with(50);
    for i in 0..45 {
        bench.delete(&format!("app{i}"));
    }
    bench.settle();
    assert_eq!(served_apps(&bench), 5, "each of them was asked for");
    let mut bench = bench_with(6);
    tell_whole(&mut bench, |_| true);
    bench.settle();
    assert_eq!(served_apps(&bench), 0, "18 names are few");
}

#[test]
fn endpoints_that_all_fail_at_once_are_held_and_those_whose_process_ended_are_not() {
    let mut bench = Bench::new();
    for i in 0..5 {
        bench.put(&format!("app{i}"), "{image: a, instances: 8}");
    }
    bench.settle();
    let pools =
        |bench: &Bench| (0..5).map(|i| bench.served_by(&format!("app{i}")).len()).sum::<usize>();
    assert_eq!(pools(&bench), 40);
    let ids: Vec<_> = bench.engine.keys().cloned().collect();
    for id in ids.iter().filter(|id| id.ordinal < 5) {
        let epoch = bench.observed().instances[id].epoch;
        let outcome = Err("connection refused".to_owned());
        bench.tell(Event::Probed { endpoint: id.clone().into(), epoch, outcome });
    }
    // One plan, before the bench's probes find them well again.
    bench.turn();
    assert_eq!(pools(&bench), 40, "it may be the prober that fails");
    assert_eq!(causes(&bench).len(), 5);
    bench.settle();
    assert!(bench.world().refusals.is_empty(), "they are back");

    for id in ids.iter().filter(|id| id.ordinal < 5) {
        bench.crash(&id.to_string(), 1);
    }
    bench.turn();
    assert_eq!(pools(&bench), 15, "what has ended serves nobody");
    assert!(bench.world().refusals.is_empty());
}

#[test]
fn what_the_process_died_of_twice_is_not_served_until_it_changes_or_a_while_has_passed() {
    let mut first = bench_with(3);
    first.put("app1", "{upstreams: [\"10.3.0.2:80\"], hostnames: [poison.com]}");
    first.settle();
    let poison = Subject::App("app1".parse().unwrap());
    let print = fingerprint(&poison, &first.observed().served).unwrap();

    let quarantined = || {
        let mut bench = bench_with(3);
        let contents = [(poison.to_string(), print)].into();
        let convicted = Convicted { contents, times: 1 };
        let served = bench.observed().clone();
        let desired = bench.world().desired.clone();
        bench.reconciler =
            crate::reconciler::Reconciler::new(served, Quarantine::new(convicted, bench.now));
        bench.tell(Event::Desired(DesiredChange::whole(desired.clone())));
        bench.settle();
        let mut next = desired;
        next.revision += 1;
        let app = first.world().desired.apps[&bench.app("app1")].clone();
        next.apps.insert(bench.app("app1"), app);
        bench.tell(Event::Desired(DesiredChange::whole(next)));
        bench.settle();
        bench
    };
    let mut bench = quarantined();
    assert!(bench.observed().served.route("poison.com", "/").is_none());
    assert!(bench.observed().served.route("h1.com", "/").is_some(), "it is served as before");
    assert!(matches!(causes(&bench)[..], [Cause::Quarantined { .. }]));
    bench.pass(seconds(31));
    bench.settle();
    assert!(bench.observed().served.route("poison.com", "/").is_some(), "it is tried again");

    let mut bench = quarantined();
    bench.put("app1", "{upstreams: [\"10.3.0.2:80\"], hostnames: [better.com]}");
    bench.settle();
    assert!(bench.observed().served.route("better.com", "/").is_some());

    let mut bench = quarantined();
    bench.tell(Event::SnapshotConfirmed);
    bench.settle();
    assert!(bench.observed().served.route("poison.com", "/").is_some(), "an operator knows better");
}

/// Chance that can be had again (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Does one harm to a snapshot, and says whom it is about.
fn poison(snapshot: &mut Snapshot, chance: &mut Chance) -> Option<Subject> {
    let routes: Vec<_> = snapshot.apps().cloned().collect();
    if routes.is_empty() {
        return None;
    }
    let (victim, other) =
        (&routes[chance.below(routes.len())], &routes[chance.below(routes.len())]);
    let mut route: AppRoute = (**victim).clone();
    let own_pool = |endpoints| Backends::Own(Arc::new(Pool::new(endpoints, Default::default())));
    let alien = |address: &str| Endpoint {
        id: EndpointId::from(MemberId {
            of: MemberOf::App(route.app.clone()),
            name: "x".parse().unwrap(),
        }),
        address: address.parse().unwrap(),
        reach: Reach::Direct,
        weight: 1,
        ready_since: Default::default(),
        activity: Arc::default(),
    };
    match chance.below(18) {
        0 => {
            snapshot.remove(&victim.app);
            return Some(Subject::App(victim.app.clone()));
        }
        1 => route.hostnames.extend(other.hostnames.clone()),
        2 => route.hostnames = other.hostnames.clone(),
        3 => route.hostnames.clear(),
        4 => _ = route.hostnames.pop(),
        5 => route.hostnames.push(route.hostnames[0].clone()),
        6 => route.hostnames.push("stranger.com".parse().unwrap()),
        7 => route.state = RouteState::Serving(own_pool(Vec::new())),
        8 => route.state = RouteState::Serving(own_pool(vec![alien("0.0.0.0:80")])),
        9 => route.state = RouteState::Serving(own_pool(vec![alien("10.0.0.1:0")])),
        10 => {
            let twice = vec![alien("10.0.0.1:80"), alien("10.0.0.1:80")];
            route.state = RouteState::Serving(own_pool(twice));
        }
        11 => {
            let shards = Arc::from(["nowhere".parse().unwrap()]);
            route.state = RouteState::Serving(Backends::Shards(shards));
        }
        12 => route.state = RouteState::Serving(Backends::Shards(Arc::from([]))),
        13 => {
            let retry_after = Duration::ZERO;
            route.state = RouteState::Unavailable { reason: String::new(), retry_after };
        }
        14 => route.state = RouteState::Asleep(SleepLevel::Paused),
        15 => {
            snapshot.remove_shard(&"east".parse().unwrap());
            return Some(Subject::Shard("east".parse().unwrap()));
        }
        16 => {
            let pool = Pool::new(vec![alien("10.0.0.1:80")], Default::default());
            snapshot.insert_shard("east".parse().unwrap(), Arc::new(pool));
            return Some(Subject::Shard("east".parse().unwrap()));
        }
        _ => route.app = "nobodys".parse().unwrap(),
    }
    let subject = Subject::App(route.app.clone());
    snapshot.insert(route);
    Some(subject)
}

/// What every snapshot must be that leaves the gate.
fn check_whole(bench: &Bench, snapshot: &Snapshot) {
    let former = &bench.observed().served;
    assert_eq!(snapshot.generation, former.generation + 1);
    for (name, app) in &bench.world().desired.apps {
        for hostname in &app.app.hostnames {
            let found = snapshot.route(&hostname.host, hostname.path()).map(|route| &route.app);
            assert_eq!(found, Some(name), "{hostname}");
        }
    }
    assert_eq!(snapshot.apps().count(), bench.world().desired.apps.len());
    for route in snapshot.apps() {
        let RouteState::Serving(backends) = &route.state else { continue };
        for hostname in &route.hostnames {
            let pool = snapshot.pool(backends, &hostname.host);
            let first = pool.and_then(|pool| pool.endpoints().first()).expect("somebody serves");
            assert!(first.address.port() > 0 && !first.address.ip().is_unspecified());
        }
    }
    assert!(snapshot.certificates.find("test.example").is_some(), "it has its certificate");
}

#[test]
fn no_poisoned_snapshot_gets_past_the_gate() {
    let seed = 20_260_711;
    println!("seed {seed}");
    let mut chance = Chance(seed);
    let mut bench = bench_with(40);
    let certificate = Arc::new(certificate(&["test.example"]));
    bench.show([certificate.clone()]);
    bench.settle();
    let observed = bench.observed().clone();
    let desired = bench.world().desired.clone();
    let (mut passed, mut stopped) = (0, 0);
    for round in 0..10_000 {
        let mut gate = Gate::new(&observed.served, Quarantine::default());
        let mut offered = (*observed.served).clone();
        offered.generation = match chance.below(10) {
            0 => chance.next(),
            1 => offered.generation,
            _ => offered.generation + 1,
        };
        offered.revision += chance.below(2) as u64;
        let harms = chance.below(6);
        let changed: BTreeSet<_> =
            (0..harms).filter_map(|_| poison(&mut offered, &mut chance)).collect();
        match chance.below(10) {
            0 => offered.certificates = Arc::default(),
            1 => {
                let chain = [format!("garbage {round}").as_bytes().into()].into();
                let damaged = Certificate { chain, ..(*certificate).clone() };
                offered.certificates = Arc::new([Arc::new(damaged)].into_iter().collect());
            }
            _ => {}
        }
        let subjects = changed.clone();
        let offered = Some((Arc::new(offered), changed));
        let checked = gate.check(offered, subjects.iter(), &desired, &observed, bench.now);
        match checked {
            Some((snapshot, accepted)) => {
                passed += 1;
                check_whole(&bench, &snapshot);
                assert!(accepted.iter().all(|s| !gate.refusals().contains_key(s)));
            }
            None => stopped += 1,
        }
    }
    println!("{passed} passed in part or whole, {stopped} were stopped");
    assert!(passed > 1000 && stopped > 1000, "{passed} {stopped}");
}
