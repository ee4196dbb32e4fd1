//! A small engine that does what it is told, in virtual time.

mod deployments;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use weir_config::{
    Activity, App, AppName, Backends, Cause, Certificate, DesiredApp, EndpointId, Host, HostName,
    InstanceId, Moment, Pool, Reach, RouteState, Shard, Snapshot, Source, Template,
};
use weir_deploy::{Container, ContainerState, EngineInfo, Listing, ProviderError};

use crate::{
    action::Action,
    agenda::Scope,
    certificates::CertificateState,
    event::{Death, DesiredChange, Event},
    observed::Observed,
    plan::{Planned, ProbeTarget, PublicCheck, plan},
    quarantine::Quarantine,
    reconciler::{Reconciler, World},
    served::own_pool,
    subject::Subject,
    transition::Transition,
};

/// As long as a drain waits before it looks again, and shorter than anything else that is waited for.
const MOMENT: Duration = Duration::from_millis(50);

/// One Weir in virtual time.
pub(super) struct Bench {
    pub(super) reconciler: Reconciler,
    pub(super) activity: Activity,
    pub(super) now: Moment,
    pub(super) engine: BTreeMap<InstanceId, Container>,
    /// Images whose process never gets ready.
    pub(super) broken: Vec<&'static str>,
    pub(super) images: BTreeMap<InstanceId, String>,
    /// The number of each app's last deployment.
    deployments: BTreeMap<AppName, u64>,
    /// Hosts that nothing reaches.
    pub(super) cut_off: Vec<HostName>,
    /// Addresses of members that do not answer.
    pub(super) down: Vec<&'static str>,
    /// What was told last of each member: for which epoch, and whether it answers.
    told: BTreeMap<EndpointId, (u64, bool)>,
    /// Whom the last plan of each subject has probed.
    probes: BTreeMap<Subject, BTreeMap<EndpointId, ProbeTarget>>,
    /// What a request through the public route fails with, if it does.
    pub(super) public_error: Option<&'static str>,
    /// What became of deployments, in order.
    transitions: Vec<(AppName, Transition)>,
    /// Images that the engine has not and cannot fetch.
    pub(super) missing: Vec<&'static str>,
    /// Every action taken, in order.
    pub(super) log: Vec<String>,
}

pub(crate) fn info() -> EngineInfo {
    EngineInfo {
        name: "bench".to_owned(),
        version: "1".to_owned(),
        api_version: "1.41".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        cpus: 2,
        memory: 1 << 30,
    }
}

fn value(text: &str) -> serde_json::Value {
    weir_config::parse_documents(text).unwrap()[0].value.clone()
}

/// One that nobody has signed.
pub(super) fn certificate(names: &[&str]) -> Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let signed = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    crate::certificates::parse(&signed.pem(), &key.serialize_pem()).unwrap()
}

impl Bench {
    /// Has these shown to clients.
    pub(super) fn show(&mut self, certificates: impl IntoIterator<Item = Arc<Certificate>>) {
        let served = Arc::new(certificates.into_iter().collect());
        let state = CertificateState { served, ..CertificateState::default() };
        self.tell(Event::Certificates(Box::new(state)));
    }

    pub(super) fn new() -> Self {
        let mut bench = Self::unlisted(Snapshot::empty(0, 0, Arc::default()));
        bench.list();
        bench
    }

    /// A Weir that has just begun, with what it served last.
    pub(super) fn unlisted(served: Snapshot) -> Self {
        let now = Moment(1_000_000);
        Self {
            reconciler: Reconciler::new(
                Observed::new(Arc::new(served), now),
                Quarantine::default(),
            ),
            activity: Activity::default(),
            now,
            engine: BTreeMap::new(),
            broken: Vec::new(),
            images: BTreeMap::new(),
            deployments: BTreeMap::new(),
            cut_off: Vec::new(),
            down: Vec::new(),
            told: BTreeMap::new(),
            probes: BTreeMap::new(),
            public_error: None,
            transitions: Vec::new(),
            missing: Vec::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn list(&mut self) {
        self.list_host(&HostName::local());
    }

    pub(super) fn list_host(&mut self, host: &HostName) {
        let of_host = self.engine.values().filter(|container| container.instance.host == *host);
        let listing = Listing { containers: of_host.cloned().collect(), unknown: Vec::new() };
        let (host, info, began) = (host.clone(), info(), self.now);
        self.pass(Duration::from_millis(1));
        self.tell(Event::EngineListed { host, info, listing, began });
    }

    pub(super) fn listing(&self) -> Listing {
        Listing { containers: self.engine.values().cloned().collect(), unknown: Vec::new() }
    }

    /// Makes a host what this spec says, and has its engine answer if it is a new one.
    pub(super) fn put_host(&mut self, name: &str, spec: &str) {
        let (_, host) =
            Host::read(value(&format!("kind: Host\nname: {name}\nspec: {spec}"))).unwrap();
        let (name, host) = (host.name.clone(), Arc::new(host));
        let is_new = !self.world().desired.hosts.contains_key(&name);
        self.change(|change| change.hosts.push((name.clone(), Some(host))));
        if is_new {
            self.list_host(&name);
            self.tell(Event::EngineAnswered(name));
        }
    }

    /// Nothing is heard of a host any more.
    pub(super) fn silence(&mut self, host: &str) {
        let error = ProviderError::TimedOut { call: "ping".into(), limit: MOMENT };
        self.tell(Event::EngineDown { host: host.parse().unwrap(), error });
    }

    /// Makes an app what this spec says; another image is another deployment.
    pub(super) fn put(&mut self, name: &str, spec: &str) {
        let value = value(&format!("kind: App\nname: {name}\nspec: {spec}"));
        let (_, app) = App::read(value, &"test.example".parse().unwrap()).unwrap();
        let former = self.world().desired.apps.get(&app.name);
        let generation = former.map_or(1, |former| former.generation + 1);
        let mut deployments = former.map_or_else(Vec::new, |former| former.deployments.clone());
        match &app.source {
            Source::Image(template) => {
                if deployments.first().is_none_or(|newest| newest.template != *template) {
                    let begin = self.begin(&app.name, template.clone());
                    begin.apply(&mut deployments, self.now).unwrap();
                }
            }
            _ => deployments.clear(),
        }
        let app = Arc::new(DesiredApp { app, unverified: Vec::new(), generation, deployments });
        self.change(|change| change.apps.push((app.app.name.clone(), Some(app))));
    }

    pub(super) fn put_shard(&mut self, name: &str, spec: &str) {
        let value = value(&format!("kind: Shard\nname: {name}\nspec: {spec}"));
        let (_, shard) = Shard::read(value).unwrap();
        self.change(|change| change.shards.push((shard.name.clone(), Some(Arc::new(shard)))));
    }

    pub(super) fn delete_shard(&mut self, name: &str) {
        let name = name.parse().unwrap();
        self.change(|change| change.shards.push((name, None)));
    }

    pub(super) fn delete(&mut self, name: &str) {
        let name = self.app(name);
        self.change(|change| change.apps.push((name, None)));
    }

    /// A commit.
    pub(super) fn change(&mut self, what: impl FnOnce(&mut DesiredChange)) {
        let revision = self.world().desired.revision + 1;
        let mut change = DesiredChange { revision, ..DesiredChange::default() };
        what(&mut change);
        self.tell(Event::Desired(change));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.reconciler.take(event, &self.activity, self.now);
    }

    pub(super) fn world(&self) -> &World {
        &self.reconciler.world
    }

    pub(super) fn observed(&self) -> &Observed {
        &self.world().observed
    }

    /// What a plan of this app would be.
    pub(super) fn planned(&self, app: &str) -> Planned {
        self.planned_for(Subject::App(self.app(app)))
    }

    pub(super) fn planned_for(&self, subject: Subject) -> Planned {
        let World { desired, observed, .. } = self.world();
        let scope = Scope::Some([subject].into());
        let mut plan = plan(desired, observed, &self.activity, self.now, &scope);
        plan.subjects.pop_first().expect("what was asked for").1
    }

    /// A new deployment.
    fn begin(&mut self, app: &AppName, template: Arc<Template>) -> Transition {
        let last = self.deployments.entry(app.clone()).or_default();
        *last += 1;
        Transition::Begin { number: *last, template, cause: Cause::Apply }
    }

    pub(super) fn app(&self, name: &str) -> AppName {
        name.parse().unwrap()
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Plans and does until nothing more follows within a moment; returns the actions taken on the
    /// way.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let before = self.log.len();
        for _ in 0..100 {
            if self.turn() {
                continue;
            }
            let due = self.reconciler.next_due();
            if self.now + MOMENT < due {
                return self.log[before..].to_vec();
            }
            self.now = self.now.max(due);
            if !self.turn() {
                return self.log[before..].to_vec();
            }
        }
        panic!("does not settle: {:#?}", self.log);
    }

    /// One plan and what follows from it, and what the probes find; false when nothing does.
    pub(super) fn turn(&mut self) -> bool {
        let mut moved = false;
        let plan = self.reconciler.plan(&self.activity, self.now).unwrap_or_default();
        for (subject, planned) in plan.subjects {
            for action in planned.actions {
                moved = true;
                self.log.push(action.to_string());
                self.reconciler.begun(&action, self.now);
                self.pass(Duration::from_millis(1));
                let result = match self.lacks_image(&action) {
                    Some(image) => {
                        Err(ProviderError::Image { image, reason: String::new() }.into())
                    }
                    None => Ok(self.perform(&action)),
                };
                self.tell(Event::Done { action, result });
            }
            if let (Subject::App(app), Some(transition)) = (&subject, &planned.transition) {
                moved |= self.record(app, transition);
            }
            moved |= self.check_publicly(&subject, planned.public_check);
            self.probes.insert(subject, planned.probes);
        }
        if let Some((snapshot, changed)) = plan.snapshot {
            moved = true;
            assert!(snapshot.generation > self.observed().served.generation, "generations grow");
            self.reconciler.published(snapshot, changed, self.now);
        }
        for (endpoint, target) in self.probes.clone().into_values().flatten() {
            moved |= self.probe(endpoint, &target);
        }
        moved
    }

    /// As the store does it.
    fn record(&mut self, app: &AppName, transition: &Transition) -> bool {
        let Some(former) = self.world().desired.apps.get(app) else { return false };
        let mut changed = (**former).clone();
        let moved = transition.apply(&mut changed.deployments, self.now).unwrap_or(false);
        if moved {
            self.transitions.push((app.clone(), transition.clone()));
            self.change(|change| change.apps.push((app.clone(), Some(Arc::new(changed)))));
        }
        moved
    }

    /// Tells once what a request through the public route gets.
    fn check_publicly(&mut self, subject: &Subject, check: Option<PublicCheck>) -> bool {
        let (Subject::App(app), Some(check)) = (subject, check) else { return false };
        let outcome = self.public_error.map_or(Ok(()), |error| Err(error.to_owned()));
        let told = Some((check.stage, outcome.clone()));
        let is_news = self.observed().apps[app].public != told;
        if is_news {
            let (app, stage) = (app.clone(), check.stage);
            self.tell(Event::PublicChecked { app, stage, outcome });
        }
        is_news
    }

    fn probe(&mut self, endpoint: EndpointId, target: &ProbeTarget) -> bool {
        let EndpointId::Instance(instance) = &endpoint else {
            return self.probe_member(endpoint, target);
        };
        let broken = self.broken.contains(&self.images[instance].as_str())
            || self.cut_off.contains(&instance.host);
        let seen = self.observed().instances.get(instance);
        let is_news = !broken
            && seen.is_some_and(|seen| seen.epoch == target.epoch && !seen.health.is_ready());
        if is_news {
            self.tell(Event::Probed { endpoint, epoch: target.epoch, outcome: Ok(()) });
        }
        is_news
    }

    /// Tells what a member's probe finds if that is news.
    fn probe_member(&mut self, endpoint: EndpointId, target: &ProbeTarget) -> bool {
        let is_up = !self.down.contains(&&*target.address.to_string());
        let told = self.told.insert(endpoint.clone(), (target.epoch, is_up));
        let is_news = is_up != target.ready && told != Some((target.epoch, is_up));
        if is_news {
            let outcome = if is_up { Ok(()) } else { Err("connection refused".to_owned()) };
            self.tell(Event::Probed { endpoint, epoch: target.epoch, outcome });
        }
        is_news
    }

    fn lacks_image(&self, action: &Action) -> Option<String> {
        let Action::Create(spec) = action else { return None };
        let image = &spec.template.image;
        self.missing.contains(&image.as_str()).then(|| image.clone())
    }

    pub(super) fn perform(&mut self, action: &Action) -> Option<Container> {
        let id = action.instance().clone();
        match action {
            Action::Create(spec) => {
                assert!(!self.engine.contains_key(&id), "{id} is made twice");
                self.images.insert(id.clone(), spec.template.image.clone());
                let container = Container {
                    instance: id.clone(),
                    id: format!("container-{id}"),
                    state: ContainerState::Created,
                    started_at: 0,
                    address: None,
                    reach: Reach::Direct,
                    port: spec.template.port,
                    restarts: 0,
                };
                self.engine.insert(id.clone(), container);
            }
            Action::Start(_) => {
                let address = IpAddr::from([10, 0, 0, 1 + self.engine.len() as u8]);
                self.change_container(&id, ContainerState::Running, Some(address));
                let now = self.engine_time();
                self.engine.get_mut(&id).unwrap().started_at = now;
            }
            Action::Pause(_) => {
                assert_eq!(self.observed().instances[&id].in_flight, 0, "{id} paused while in use");
                self.change_container(&id, ContainerState::Paused, self.engine[&id].address);
            }
            Action::Unpause(_) => {
                self.change_container(&id, ContainerState::Running, self.engine[&id].address);
            }
            Action::Stop { .. } => {
                self.change_container(
                    &id,
                    ContainerState::Exited { code: 143, out_of_memory: false },
                    None,
                );
            }
            Action::Remove { .. } => {
                self.engine.remove(&id);
            }
        }
        self.engine.get(&id).cloned()
    }

    pub(super) fn change_container(
        &mut self,
        id: &InstanceId,
        state: ContainerState,
        address: Option<IpAddr>,
    ) {
        let container = self.engine.get_mut(id).unwrap();
        (container.state, container.address) = (state, address);
    }

    /// The process of an instance ends by itself, and the engine has not started it again yet.
    pub(super) fn crash(&mut self, instance: &str, code: i64) {
        let id = self.instance(instance);
        self.change_container(&id, ContainerState::Restarting, None);
        self.pass(Duration::from_millis(1));
        let container = self.engine.get(&id).cloned();
        self.tell(Event::ContainerSeen { instance: id.clone(), container, began: self.now });
        self.die(id, self.engine_time(), code);
    }

    /// The engine has started a crashed process again, and its containers are listed.
    pub(super) fn engine_restarts(&mut self, instance: &str) {
        let id = self.instance(instance);
        self.change_container(&id, ContainerState::Running, Some([10, 0, 0, 9].into()));
        self.list();
    }

    pub(super) fn die(&mut self, instance: InstanceId, at: i128, exit_code: i64) {
        let death = Death { at, exit_code, log_tail: vec!["boom".to_owned()] };
        self.tell(Event::Died { instance, death });
    }

    pub(super) fn engine_time(&self) -> i128 {
        i128::from(self.now.0)
    }

    pub(super) fn instance(&self, text: &str) -> InstanceId {
        let found = self.engine.keys().find(|id| id.to_string() == text);
        found.unwrap_or_else(|| panic!("there is no {text}")).clone()
    }

    pub(super) fn route(&self, app: &str) -> &RouteState {
        &self.observed().served.app(&self.app(app)).expect("has a route").state
    }

    pub(super) fn served_by(&self, app: &str) -> Vec<String> {
        match self.route(app) {
            RouteState::Serving(Backends::Own(pool)) => {
                pool.endpoints().iter().map(|endpoint| endpoint.id.to_string()).collect()
            }
            other => vec![other.as_str().to_owned()],
        }
    }

    pub(super) fn shard(&self, name: &str) -> &Arc<Pool> {
        self.observed().served.shard(&name.parse().unwrap()).expect("has a pool")
    }

    pub(super) fn own_pool(&self, app: &str) -> &Arc<Pool> {
        own_pool(&self.observed().served, &self.app(app)).expect("has a pool")
    }

    /// A request begins; it ends when the lease is dropped.
    pub(super) fn request(&self, app: &str) -> weir_config::Lease {
        let activity = self.activity.app(&self.app(app));
        activity.touch(self.now);
        activity.begin()
    }

    pub(super) fn wake(&mut self, app: &str) {
        self.tell(Event::WakeWanted(self.app(app)));
    }
}
