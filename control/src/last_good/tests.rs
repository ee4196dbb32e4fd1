//! Deaths, and what the next process begins with.

use std::{collections::BTreeSet, fs};

use weir_config::{
    AppRoute, Backends, Endpoint, EndpointId, HostName, InstanceId, LastGood, MemberId, MemberOf,
    Pool, Reach, RouteState,
};

use super::*;
use crate::quarantine::Quarantine;
use weir_config::Moment;

const NOW: Moment = Moment(1_000_000);

struct Bench {
    dir: tempfile::TempDir,
    activity: Activity,
}

/// A life of the process.
struct Life {
    state: StateDir,
    trial: Trial,
    snapshot: Snapshot,
}

fn subject() -> Subject {
    Subject::App("shop".parse().unwrap())
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), activity: Activity::default() }
    }

    fn begin(&self) -> Life {
        let state = StateDir::open(self.dir.path()).unwrap();
        let snapshot = recover(&state, &self.activity).unwrap_or_default();
        let trial = Trial::open(&state, &snapshot, NOW);
        Life { state, trial, snapshot }
    }

    /// One app at a host name.
    fn snapshot(&self, generation: u64, hostname: &str) -> Snapshot {
        let mut snapshot = Snapshot::empty(generation, generation, std::sync::Arc::default());
        let app = "shop".parse().unwrap();
        let (wake_timeout, queue) = AppRoute::wait_of(None);
        snapshot.insert(AppRoute {
            activity: self.activity.app(&app),
            app,
            hostnames: vec![hostname.parse().unwrap()],
            state: RouteState::Starting,
            policy: std::sync::Arc::default(),
            wake_timeout,
            queue,
        });
        snapshot
    }
}

impl Life {
    fn serve(&self, snapshot: &Snapshot) {
        self.trial.begin(snapshot, &BTreeSet::from([subject()]), NOW);
    }

    fn save(&self, name: &str, snapshot: &Snapshot) {
        let bytes = serde_json::to_vec(&LastGood::of(snapshot, &boot_id())).unwrap();
        fs::write(self.state.file(name), bytes).unwrap();
    }

    fn serves(&self, hostname: &str) -> bool {
        self.snapshot.route(hostname, "/").is_some()
    }

    fn shuns(&self, snapshot: &Snapshot) -> bool {
        self.trial.quarantine(NOW).finds(&subject(), snapshot, NOW).is_some()
    }
}

#[test]
fn what_the_process_dies_of_twice_is_left_out_and_what_was_before_takes_its_place() {
    let bench = Bench::new();
    let (good, poison) = (bench.snapshot(1, "good.com"), bench.snapshot(2, "poison.com"));
    let life = bench.begin();
    life.save(FORMER, &good);
    life.save(NEWEST, &poison);
    life.serve(&poison);
    drop(life);

    let life = bench.begin();
    assert!(life.serves("poison.com"), "dying once may be chance");
    assert!(!life.shuns(&poison));
    drop(life);

    // It was on trial from the start of this one, without being served anew.
    let life = bench.begin();
    assert!(life.serves("good.com") && !life.serves("poison.com"));
    assert!(life.shuns(&poison) && !life.shuns(&good));
    let later = NOW + std::time::Duration::from_secs(31);
    let quarantine: Quarantine = life.trial.quarantine(NOW);
    assert!(quarantine.finds(&subject(), &poison, later).is_none(), "it is tried again");
    drop(life);

    let life = bench.begin();
    assert!(life.shuns(&poison), "and not forgotten");
    life.serve(&poison);
    life.trial.settle(NOW + GOOD_AFTER);
    drop(life);
    assert!(!bench.begin().shuns(&poison), "until the process has lived with it");
}

#[test]
fn what_the_process_has_lived_with_or_ended_with_in_order_is_no_suspect() {
    let bench = Bench::new();
    let snapshot = bench.snapshot(1, "good.com");
    for round in 0..4 {
        let life = bench.begin();
        life.serve(&snapshot);
        life.save(NEWEST, &snapshot);
        match round % 2 {
            0 => life.trial.settle(NOW + GOOD_AFTER),
            _ => life.trial.end(),
        }
    }
    let life = bench.begin();
    assert!(life.serves("good.com") && !life.shuns(&snapshot));
    assert_eq!(fs::read(life.state.file(ATTEMPTS)).unwrap(), b"");
}

/// As an app that wakes and falls asleep again and again, and has just done so at each death.
#[test]
fn what_the_process_has_lived_with_is_not_on_trial_when_it_comes_again() {
    let bench = Bench::new();
    let (awake, asleep) = (bench.snapshot(1, "awake.com"), bench.snapshot(2, "asleep.com"));
    for _ in 0..3 {
        let life = bench.begin();
        assert!(!life.shuns(&awake) && !life.shuns(&asleep));
        life.serve(&awake);
        life.serve(&asleep);
        life.trial.settle(NOW + GOOD_AFTER);
        life.serve(&awake);
        life.save(NEWEST, &awake);
        assert_eq!(fs::read(life.state.file(ATTEMPTS)).unwrap(), b"");
    }
}

/// As an app with other upstreams and nothing else that is new: those an operator has written.
#[test]
fn other_members_are_on_trial_and_other_instances_are_not() {
    let bench = Bench::new();
    let served_by = |id: EndpointId, port| {
        let mut snapshot = bench.snapshot(1, "good.com");
        let endpoint = Endpoint {
            id,
            address: ([127, 0, 0, 1], port).into(),
            reach: Reach::Direct,
            weight: 1,
            ready_since: Moment::default(),
            activity: Default::default(),
        };
        let mut route = (**snapshot.app(&"shop".parse().unwrap()).unwrap()).clone();
        let pool = Pool::new(vec![endpoint], Default::default());
        route.state = RouteState::Serving(Backends::Own(pool.into()));
        snapshot.insert(route);
        fingerprint(&subject(), &snapshot)
    };
    let of = MemberOf::App("shop".parse().unwrap());
    let member = |name: &str| MemberId { of: of.clone(), name: name.parse().unwrap() }.into();
    assert_ne!(served_by(member("a"), 1), served_by(member("b"), 1));
    assert_eq!(served_by(member("a"), 1), served_by(member("a"), 2), "it is found elsewhere");
    let (app, host) = ("shop".parse().unwrap(), HostName::local());
    let first = InstanceId { app, deployment: 1, ordinal: 0, host };
    let second = InstanceId { deployment: 2, ..first.clone() };
    let instance = EndpointId::Instance;
    assert_eq!(served_by(instance(first), 1), served_by(instance(second), 1));
}

#[test]
fn two_deaths_of_different_things_convict_nobody() {
    let bench = Bench::new();
    for (generation, hostname) in [(1, "a.com"), (2, "b.com"), (3, "c.com")] {
        let life = bench.begin();
        let snapshot = bench.snapshot(generation, hostname);
        assert!(!life.shuns(&snapshot));
        // Not on disk when it died: the next one does not begin with it.
        life.serve(&snapshot);
    }
    assert!(!bench.begin().state.file(QUARANTINE).exists());
}

#[test]
fn a_damaged_file_gives_way_to_the_former_one_and_both_to_nothing() {
    let bench = Bench::new();
    let whole = serde_json::to_vec(&LastGood::of(&bench.snapshot(7, "good.com"), &boot_id()));
    let whole = whole.unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"\xff\xfe", b"{}", b"[1]"] {
        let life = bench.begin();
        life.save(FORMER, &bench.snapshot(6, "former.com"));
        fs::write(life.state.file(NEWEST), damaged).unwrap();
        for name in [ATTEMPTS, SUSPECTS, QUARANTINE] {
            fs::write(life.state.file(name), damaged).unwrap();
        }
        drop(life);
        let life = bench.begin();
        assert!(life.serves("former.com"), "{damaged:?}");
        fs::write(life.state.file(FORMER), damaged).unwrap();
        drop(life);
        assert_eq!(bench.begin().snapshot.apps().count(), 0);
    }
}
