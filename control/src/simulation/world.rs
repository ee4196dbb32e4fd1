//! Everything there is, and what happens to it when.

mod clients;
mod engines;
mod trouble;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use weir_config::{
    Activity, App, AppName, Cause, DeploymentState, Desired, DesiredApp, EndpointId, Host,
    HostName, InstanceId, LastGood, Moment, Publisher, Snapshot, Snapshots, Source, channel,
};
use weir_deploy::ProviderError;

use super::{
    engine::{Engines, info},
    traffic::{Met, Traffic},
};
use crate::{
    action::Action,
    event::{Death, DesiredChange, Event},
    observed::Observed,
    plan::{ProbeTarget, PublicCheck},
    quarantine::Quarantine,
    reconciler::Reconciler,
    subject::Subject,
    transition::Transition,
};

const APPS: [&str; 3] = ["blog", "shop", "wiki"];
/// Most of them work.
const IMAGES: [&str; 6] = ["one", "two", "three", "four", "broken", "missing"];
/// In half of the worlds there is the machine that Weir runs on and nothing else.
const HOSTS: [&str; 3] = ["local", "b", "c"];
/// What is kept is gone in the end.
const ROLLOUTS: [&str; 3] = [
    ", rollout: {keep: 60s}",
    ", rollout: {keep: 60s, strategy: rolling}",
    ", rollout: {keep: 60s, strategy: canary, steps: [20, 50], step_for: 10s}",
];
/// Actions at once.
const ROOM: usize = 3;
/// How long trouble lasts.
const TROUBLE: Duration = Duration::from_secs(10 * 60);
/// An engine is away for no longer than this.
const AWAY: Duration = Duration::from_secs(2 * 60);
/// Within this after it, everything is as meant: an engine that is away, the longest back-off, and a
/// deadline.
const CALM: Duration = Duration::from_secs(9 * 60);
/// Without new requests, and longer than anything waits for: the last request may take four minutes
/// and the way to the deepest sleep two, and nothing is under way at the end.
const SILENCE: Duration = Duration::from_secs(7 * 60);

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) engines: Engines,
    pub(super) traffic: Traffic,
    pub(super) reconciler: Reconciler,
    pub(super) snapshots: Snapshots,
    /// What control believes to be under way.
    pub(super) in_flight: BTreeMap<InstanceId, Action>,
    /// Not every snapshot is served that is said to be: a broken loop, which must be caught.
    pub(super) forgets_to_publish: bool,
    hosts: &'static [&'static str],
    publisher: Publisher,
    activity: Arc<Activity>,
    store: Store,
    probes: BTreeMap<EndpointId, ProbeTarget>,
    /// The verdict told last of each probe's epoch.
    verdicts: BTreeMap<EndpointId, (u64, bool)>,
    /// Snapshots as they were kept on disk.
    kept: (Moment, Arc<Snapshot>),
    /// Which of control's lives it is: what was meant for a former one is lost.
    life: u32,
    agenda: BinaryHeap<Reverse<(Moment, u64, u32)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    chance: StdRng,
    told: bool,
    trouble: bool,
    silent: bool,
}

/// What is meant, as it survives control's end.
#[derive(Default)]
struct Store {
    apps: BTreeMap<AppName, Arc<DesiredApp>>,
    numbers: BTreeMap<AppName, u64>,
    hosts: BTreeMap<HostName, Arc<Host>>,
    revision: u64,
}

#[derive(Debug)]
enum Happening {
    /// Control hears of something.
    Hears(Event),
    /// A decision is written.
    Records(AppName, Transition),
    /// An action reaches the engine.
    Acts(Action),
    Ends(Action, Result<(), ProviderError>),
    Listing(HostName),
    Probing,
    EngineComesBack(HostName),
    Restart(InstanceId),
    RequestArrives,
    RequestEnds(u64),
    Retries(u64),
    OperatorActs,
    ProcessCrashes,
    EngineGoesAway,
    ControlIsKilled,
}

impl World {
    pub(super) fn new(seed: u64, told: bool) -> Self {
        let now = Moment(1_000_000_000);
        let served = Snapshot::empty(1, 0, Arc::default());
        let (publisher, snapshots) = channel(served);
        let observed = Observed::new(snapshots.current(), now);
        let kept = (now, snapshots.current());
        let mut world = Self {
            now,
            engines: Engines::default(),
            traffic: Traffic::default(),
            reconciler: Reconciler::new(observed, Quarantine::default()),
            snapshots,
            in_flight: BTreeMap::new(),
            forgets_to_publish: false,
            hosts: &HOSTS[..1],
            publisher,
            activity: Arc::default(),
            store: Store::default(),
            probes: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            kept,
            life: 0,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            chance: StdRng::seed_from_u64(seed),
            told,
            trouble: true,
            silent: false,
        };
        if world.likely(50) {
            world.hosts = &HOSTS;
        }
        for name in world.hosts {
            world.put_host(name, "");
        }
        for name in APPS {
            world.put(name);
        }
        world.begin_control();
        world.in_a_while(Happening::RequestArrives, 1_000);
        world.in_a_while(Happening::OperatorActs, 60_000);
        world.in_a_while(Happening::ProcessCrashes, 60_000);
        world.in_a_while(Happening::EngineGoesAway, 300_000);
        world.in_a_while(Happening::ControlIsKilled, 300_000);
        world
    }

    pub(super) fn live_through_trouble(&mut self) {
        self.live_until(self.now + TROUBLE);
    }

    /// Nothing more goes wrong; then everything becomes as meant, and nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.trouble = false;
        for name in self.hosts {
            self.put_host(name, "");
        }
        self.live_until(self.now + CALM);
        self.silent = true;
        self.live_until(self.now + SILENCE);
        self.check_settled();
    }

    fn live_until(&mut self, end: Moment) {
        loop {
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let next = next.unwrap_or(end).min(self.reconciler.next_due()).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            while let Some(Reverse((at, number, life))) = self.agenda.peek().copied()
                && at <= self.now
            {
                self.agenda.pop();
                let Some(happening) = self.happenings.remove(&number) else { continue };
                if life == self.life || !happening.is_control_s() {
                    self.happen(happening);
                }
                // Sometimes several things happen before control looks again.
                if self.likely(70) {
                    break;
                }
            }
            self.turn();
        }
    }

    /// Does what the reactor does.
    fn turn(&mut self) {
        for turn in 0.. {
            assert!(turn < 50, "the plan does not settle");
            let Some(plan) = self.reconciler.plan(&self.activity, self.now) else { break };
            for (subject, planned) in plan.subjects {
                for action in planned.actions {
                    self.begin(&subject, action);
                }
                if let Subject::App(app) = &subject {
                    self.decide(app, planned.transition, planned.public_check);
                }
                self.probes.retain(|endpoint, _| Subject::from(endpoint) != subject);
                self.probes.extend(planned.probes);
            }
            let Some((snapshot, changed)) = plan.snapshot else { continue };
            self.check_snapshot(&snapshot);
            if !(self.forgets_to_publish && self.likely(50)) {
                self.publisher.publish(snapshot.clone()).expect("a newer generation");
            }
            self.reconciler.published(snapshot.clone(), changed, self.now);
            if self.now.since(self.kept.0) > Duration::from_secs(1) {
                self.kept = (self.now, snapshot);
            }
        }
    }

    /// A decision is on its way to the store; a request through the public route is answered.
    fn decide(
        &mut self,
        app: &AppName,
        transition: Option<Transition>,
        check: Option<PublicCheck>,
    ) {
        if let Some(transition) = transition {
            self.reconciler.recording(&Subject::App(app.clone()));
            self.soon(Happening::Records(app.clone(), transition), 20);
        }
        let told = |check: &PublicCheck| {
            let state = self.reconciler.world.observed.apps.get(app);
            state.and_then(|state| state.public.as_ref()).is_some_and(|(at, _)| *at == check.stage)
        };
        if let Some(PublicCheck { stage, .. }) = check.filter(|check| !told(check)) {
            let (app, outcome) = (app.clone(), Ok(()));
            self.soon(Happening::Hears(Event::PublicChecked { app, stage, outcome }), 20);
        }
    }

    fn record(&mut self, app: &AppName, transition: &Transition) {
        if !self.change(app, transition) && self.store.apps.contains_key(app) {
            let late = Event::NotRecorded(Subject::App(app.clone()));
            self.reconciler.take(late, &self.activity, self.now);
        }
    }

    /// Writes a transition of an app's deployments, unless it comes too late or cannot be.
    fn change(&mut self, app: &AppName, transition: &Transition) -> bool {
        let Some(stored) = self.store.apps.get(app) else { return false };
        let mut changed = (**stored).clone();
        if transition.apply(&mut changed.deployments, self.now) != Ok(true) {
            return false;
        }
        self.tell(|| format!("{app}: {transition:?}"));
        self.store.apps.insert(app.clone(), Arc::new(changed));
        self.store.revision += 1;
        self.feed(app);
        true
    }

    fn begin(&mut self, subject: &Subject, action: Action) {
        if self.in_flight.len() >= ROOM {
            return self.reconciler.postponed(subject.clone());
        }
        self.tell(|| format!("begins: {action}"));
        self.check_begun(&action);
        self.in_flight.insert(action.instance().clone(), action.clone());
        self.reconciler.begun(&action, self.now);
        self.soon(Happening::Acts(action), 20);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Hears(event) => self.reconciler.take(event, &self.activity, self.now),
            Happening::Acts(action) => self.act(action),
            Happening::Ends(action, result) => self.end(action, result),
            Happening::Listing(host) => self.list(host),
            Happening::Probing => self.probe(),
            Happening::Restart(id) => {
                let start_up = self.start_up();
                self.engines.restart(&id, start_up, self.now);
                self.look(&id);
            }
            Happening::Records(app, transition) => self.record(&app, &transition),
            Happening::RequestArrives => self.request(),
            Happening::RequestEnds(number) => {
                if let Some(request) = self.traffic.end(number) {
                    self.activity.app(&request.app).touch(self.now);
                }
            }
            Happening::Retries(number) => self.retry(number),
            Happening::OperatorActs => self.operate(),
            Happening::ProcessCrashes => self.crash(),
            Happening::EngineGoesAway => self.lose_engine(),
            Happening::EngineComesBack(host) => {
                self.tell(|| format!("the engine of {host} is back"));
                self.engines.down.remove(&host);
                self.soon(Happening::Listing(host), 100);
            }
            Happening::ControlIsKilled => self.kill_control(),
        }
    }

    fn begin_control(&mut self) {
        self.life += 1;
        self.probes.clear();
        self.verdicts.clear();
        let served = self.snapshots.current();
        let observed = Observed::new(served, self.now);
        self.reconciler = Reconciler::new(observed, Quarantine::default());
        let apps =
            self.store.apps.keys().map(|name| (name.clone(), self.store.meant(name, self.now)));
        let hosts = self.store.hosts.iter().map(|(name, host)| (name.clone(), Some(host.clone())));
        let (revision, apps, hosts) = (self.store.revision, apps.collect(), hosts.collect());
        let nothing = DesiredChange::whole(Desired::default());
        let whole = DesiredChange { revision, apps, hosts, ..nothing };
        self.reconciler.take(Event::Desired(whole), &self.activity, self.now);
        for host in self.hosts {
            self.soon(Happening::Listing(host.parse().expect("a name")), 500);
        }
        self.soon(Happening::Probing, 500);
    }

    pub(super) fn drain_of(&self, app: &AppName) -> Duration {
        let app = self.reconciler.world.desired.apps.get(app);
        app.map_or_else(|| weir_config::Rollout::default().drain, |app| app.app.rollout.drain)
    }

    fn start_up(&mut self) -> Duration {
        Duration::from_millis(self.chance.random_range(10..5_000))
    }

    fn any<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.chance.random_range(0..of.len())]
    }

    /// True in so many of a hundred cases.
    fn likely(&mut self, percent: u32) -> bool {
        self.chance.random_ratio(percent, 100)
    }

    /// Within so many milliseconds.
    fn soon(&mut self, happening: Happening, within: u64) {
        let after = self.chance.random_range(1..=within);
        self.sequence += 1;
        let at = self.now + Duration::from_millis(after);
        self.agenda.push(Reverse((at, self.sequence, self.life)));
        self.happenings.insert(self.sequence, happening);
    }

    /// After so many milliseconds on average.
    fn in_a_while(&mut self, happening: Happening, mean: u64) {
        self.soon(happening, 2 * mean);
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{} {}", self.now, what());
        }
    }
}

impl Store {
    /// An app as the loop is told of it: with the deployments that matter.
    fn meant(&self, app: &AppName, now: Moment) -> Option<Arc<DesiredApp>> {
        let mut meant = (**self.apps.get(app)?).clone();
        let newest = meant.newest().map(|newest| newest.number);
        meant.deployments.retain(|deployment| {
            deployment.state <= DeploymentState::Live
                || deployment.kept_until.is_some_and(|until| now < until)
                || Some(deployment.number) == newest
        });
        Some(Arc::new(meant))
    }
}

impl Happening {
    /// Whether it is lost when control is killed.
    fn is_control_s(&self) -> bool {
        matches!(
            self,
            Self::Records(..)
                | Self::Hears(_)
                | Self::Acts(_)
                | Self::Ends(..)
                | Self::Listing(_)
                | Self::Probing
        )
    }
}
