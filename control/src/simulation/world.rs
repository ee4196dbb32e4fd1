//! Everything there is, and what happens to it when.

mod trouble;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use weir_config::{
    Activity, App, AppName, Cause, Desired, DesiredApp, EndpointId, HostName, InstanceId, LastGood,
    Moment, Publisher, Snapshot, Snapshots, Source, channel,
};
use weir_deploy::ProviderError;

use super::{
    engine::{Engine, info},
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
/// What is kept is gone in the end.
const ROLLOUT: &str = ", rollout: {keep: 60s}";
/// Actions at once.
const ROOM: usize = 3;
/// How long trouble lasts.
const TROUBLE: Duration = Duration::from_secs(15 * 60);
/// Within this after it, everything is as meant: the longest back-off, and a deadline.
const CALM: Duration = Duration::from_secs(8 * 60);
/// Without requests, and longer than anything waits for: nothing is under way at the end.
const SILENCE: Duration = Duration::from_secs(4 * 60);

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) engine: Engine,
    pub(super) traffic: Traffic,
    pub(super) reconciler: Reconciler,
    pub(super) snapshots: Snapshots,
    /// What control believes to be under way.
    pub(super) in_flight: BTreeMap<InstanceId, Action>,
    /// Not every snapshot is served that is said to be: a broken loop, which must be caught.
    pub(super) forgets_to_publish: bool,
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
    Listing,
    Probing,
    EngineComesBack,
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
            engine: Engine::default(),
            traffic: Traffic::default(),
            reconciler: Reconciler::new(observed, Quarantine::default()),
            snapshots,
            in_flight: BTreeMap::new(),
            forgets_to_publish: false,
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
            self.reconciler.recording(app);
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
        let Some(stored) = self.store.apps.get(app) else { return };
        let mut changed = (**stored).clone();
        if transition.apply(&mut changed.deployments, self.now) != Ok(true) {
            let late = Event::NotRecorded(app.clone());
            return self.reconciler.take(late, &self.activity, self.now);
        }
        self.tell(|| format!("{app}: {transition:?}"));
        self.store.apps.insert(app.clone(), Arc::new(changed));
        self.store.revision += 1;
        self.feed(app);
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
            Happening::Listing => self.list(),
            Happening::Probing => self.probe(),
            Happening::Restart(id) => {
                let start_up = self.start_up();
                self.engine.restart(&id, start_up, self.now);
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
            Happening::EngineComesBack => {
                self.tell(|| "the engine is back".to_owned());
                self.engine.is_down = false;
                self.soon(Happening::Listing, 100);
            }
            Happening::ControlIsKilled => self.kill_control(),
        }
    }

    /// An action reaches the engine, or not; its end is told late, or as something else than it was.
    fn act(&mut self, action: Action) {
        if self.engine.is_down || (self.trouble && self.likely(3)) {
            let reason = "connection refused".to_owned();
            let error = ProviderError::Unreachable { endpoint: "simulated".to_owned(), reason };
            return self.soon(Happening::Ends(action, Err(error)), 50);
        }
        self.check_action(&action);
        let start_up = self.start_up();
        let done = self.engine.perform(&action, start_up, self.now);
        self.tell(|| format!("done: {action}: {:?}", done.as_ref().map(|_| ())));
        let result = if self.trouble && self.likely(3) {
            Err(ProviderError::TimedOut { call: "any", limit: Duration::from_secs(30) })
        } else {
            done.map(|_| ())
        };
        let took = if self.trouble && self.likely(5) { 40_000 } else { 300 };
        let (id, is_heard) = (action.instance().clone(), self.likely(80));
        self.soon(Happening::Ends(action, result), took);
        if is_heard {
            self.look(&id);
        }
    }

    fn end(&mut self, action: Action, result: Result<(), ProviderError>) {
        let id = action.instance();
        self.in_flight.remove(id);
        let result = result.map(|()| self.engine.look(id));
        let event = Event::Done { action, result: result.map_err(Into::into) };
        self.reconciler.take(event, &self.activity, self.now);
    }

    /// The containers as they are now, told a moment later.
    fn list(&mut self) {
        self.in_a_while(Happening::Listing, 30_000);
        if self.engine.is_down {
            return;
        }
        let listing = self.engine.listing();
        let listed =
            Event::EngineListed { host: HostName::local(), info: info(), listing, began: self.now };
        self.soon(Happening::Hears(listed), 50);
    }

    /// Control looks at one container because the engine told of it: late, twice, or not at all.
    fn look(&mut self, id: &InstanceId) {
        let times = if self.trouble { self.chance.random_range(0..3) } else { 1 };
        for _ in 0..times {
            let (instance, container) = (id.clone(), self.engine.look(id));
            let seen = Event::ContainerSeen { instance, container, began: self.now };
            let late = if self.likely(10) { 5_000 } else { 50 };
            self.soon(Happening::Hears(seen), late);
        }
    }

    fn probe(&mut self) {
        self.soon(Happening::Probing, 2_000);
        for (endpoint, target) in self.probes.clone() {
            let Some(id) = endpoint.instance() else { continue };
            let lies = self.trouble && self.chance.random_ratio(1, 500);
            let passes = self.engine.answers(id, self.now) != lies;
            let verdict = (target.epoch, passes);
            let last = self.verdicts.insert(endpoint.clone(), verdict);
            let is_news = match last {
                Some((epoch, told)) if epoch == target.epoch => told != passes,
                _ => passes != target.ready,
            };
            if is_news {
                let outcome = if passes { Ok(()) } else { Err("refused".to_owned()) };
                let probed = Event::Probed { endpoint, epoch: target.epoch, outcome };
                self.soon(Happening::Hears(probed), 20);
            }
        }
    }

    fn request(&mut self) {
        if self.silent {
            return;
        }
        let pause = match (self.forgets_to_publish, self.likely(5)) {
            // So many that one of them is in the way soon.
            (true, _) => 100,
            (false, true) => 600_000,
            (false, false) => 3_000,
        };
        self.in_a_while(Happening::RequestArrives, pause);
        let app = self.any(&APPS);
        let chance = self.chance.random_range(0..1000);
        let host = format!("{app}.test.example");
        match self.traffic.arrive(&self.snapshots, &host, chance, self.now) {
            Met::Instance(number) => {
                let long = if self.likely(5) { 120_000 } else { 500 };
                self.in_a_while(Happening::RequestEnds(number), long);
            }
            Met::Hold(number) => {
                self.hint(app);
                self.soon(Happening::Retries(number), 1_000);
            }
            Met::Refusal => {}
        }
    }

    /// One that is held tries again, and asks again for the wake.
    fn retry(&mut self, number: u64) {
        let Some(request) = self.traffic.end(number) else { return };
        let app = request.app.clone();
        drop(request);
        let chance = self.chance.random_range(0..1000);
        let host = format!("{app}.test.example");
        match self.traffic.arrive(&self.snapshots, &host, chance, self.now) {
            Met::Instance(number) => self.in_a_while(Happening::RequestEnds(number), 500),
            // Some clients have no patience.
            Met::Hold(number) if self.likely(95) => {
                self.hint(&app);
                self.soon(Happening::Retries(number), 1_000);
            }
            Met::Hold(number) => drop(self.traffic.end(number)),
            Met::Refusal => {}
        }
    }

    fn hint(&mut self, app: &str) {
        if !self.trouble || self.likely(80) {
            let wanted = Event::WakeWanted(app.parse().expect("a name"));
            self.soon(Happening::Hears(wanted), 5);
        }
    }

    fn begin_control(&mut self) {
        self.life += 1;
        self.probes.clear();
        self.verdicts.clear();
        let served = self.snapshots.current();
        let observed = Observed::new(served, self.now);
        self.reconciler = Reconciler::new(observed, Quarantine::default());
        let apps = self.store.apps.iter().map(|(name, app)| (name.clone(), Some(app.clone())));
        let (revision, apps) = (self.store.revision, apps.collect());
        let whole = DesiredChange { revision, apps, ..DesiredChange::whole(Desired::default()) };
        self.reconciler.take(Event::Desired(whole), &self.activity, self.now);
        self.soon(Happening::Listing, 500);
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

impl Happening {
    /// Whether it is lost when control is killed.
    fn is_control_s(&self) -> bool {
        matches!(
            self,
            Self::Records(..)
                | Self::Hears(_)
                | Self::Acts(_)
                | Self::Ends(..)
                | Self::Listing
                | Self::Probing
        )
    }
}
