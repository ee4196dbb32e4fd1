//! The world as control has seen it, and how each event changes what is known.
//!
//! Nothing here decides or does anything: [`crate::plan`] reads it, the reactor feeds it. An
//! action in flight is part of it, so that nothing is started twice.

mod levels;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use weir_config::{
    Activity, Answers, AppName, DeploymentState, Desired, DesiredApp, EndpointId,
    Host, HostName, InstanceId, Member, MemberOf, Moment, RouteState, ShardName, SleepLevel,
    Snapshot, Source,
};
use weir_deploy::{Container, ContainerState, EngineInfo, Listing, ProviderError};

use crate::{
    action::{Action, StopReason},
    agenda::Agenda,
    certificates::CertificateState,
    event::Event,
    failure::{ActionError, Failure, FailureReason},
    health::Health,
    host::HostSeen,
    instance::Instance,
    members::Members,
    served::{endpoint, own_pool, serves},
    subject::Subject,
    transition::Stage,
};

/// Everything seen. Cheap to clone, so that the API reads a copy and never waits for the loop.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) hosts: imbl::OrdMap<HostName, HostSeen>,
    pub(crate) instances: imbl::OrdMap<InstanceId, Instance>,
    pub(crate) members: Members,
    pub(crate) apps: imbl::OrdMap<AppName, AppState>,
    pub(crate) certificates: CertificateState,
    /// What the data plane serves now.
    pub(crate) served: Arc<Snapshot>,
}

/// One app's sleep and traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AppState {
    /// Requests in flight, held ones included, as sampled before the plan.
    pub(crate) in_flight: u64,
    pub(crate) last_request: Moment,
    /// Set until the app serves again.
    pub(crate) wake_wanted: bool,
    /// Put to sleep, or found asleep; cleared when it serves again.
    pub(crate) asleep: Option<SleepLevel>,
    pub(crate) awake_since: Moment,
    /// Its instances are being brought to the hosts that they would be dealt to.
    pub(crate) converging: bool,
    /// How far the target is, and was when the next three began.
    pub(crate) stage: Option<Stage>,
    /// The answers of the target's instances since it has been this far, as sampled.
    pub(crate) answers: Answers,
    /// All that they had given before that.
    answers_before: Option<Answers>,
    /// What came last of a request through the public route, and for which stage.
    pub(crate) public: Option<(Stage, Result<(), String>)>,
    /// Whether a transition is on its way to the store.
    pub(crate) is_recording: bool,
}

impl Observed {
    /// What is known at the start: the snapshot that was served last, and nothing of any host.
    pub(crate) fn new(served: Arc<Snapshot>, now: Moment) -> Self {
        let mut apps = imbl::OrdMap::new();
        for route in served.apps() {
            let asleep = match route.state {
                RouteState::Asleep(level) => Some(level),
                _ => None,
            };
            let state = AppState { asleep, awake_since: now, ..AppState::default() };
            apps.insert(route.app.clone(), state);
        }
        let hosts = imbl::OrdMap::unit(HostName::local(), HostSeen::new(true, now));
        let (instances, members) = (imbl::OrdMap::new(), Members::default());
        // Until more is known, what is shown to clients stays.
        let certificates = CertificateState {
            served: served.certificates.clone(),
            http_challenges: served.http_challenges.clone(),
            ..CertificateState::default()
        };
        Self { hosts, instances, members, apps, certificates, served }
    }

    pub(crate) fn host(&self, name: &HostName) -> &HostSeen {
        self.hosts.get(name).unwrap_or_else(|| HostSeen::unseen())
    }

    /// Takes in one event, and puts whom it may move on the agenda.
    pub(crate) fn apply(
        &mut self,
        event: Event,
        desired: &Desired,
        now: Moment,
        agenda: &mut Agenda,
    ) {
        match event {
            Event::EngineListed { host, info, listing, began } => {
                self.listed(&host, info, listing, began, now, agenda);
            }
            Event::EngineAnswered(host) => {
                if self.hosts.get_mut(&host).is_some_and(|host| host.answered(now)) {
                    agenda.touch_everything();
                }
            }
            Event::EngineDown { host, error } => {
                let policy = desired.hosts.get(&host).map(|host| &host.disconnect);
                if let (Some(seen), Some(policy)) = (self.hosts.get_mut(&host), policy)
                    && seen.silent(error.to_string(), policy, now)
                {
                    agenda.touch_everything();
                }
            }
            Event::ContainerSeen { instance, container, began } => {
                if self.seen(&instance, container, began, now) {
                    agenda.touch_instance(&instance);
                }
            }
            Event::Died { instance, death } => {
                agenda.touch_instance(&instance);
                if let Some(instance) = self.instances.get_mut(&instance) {
                    instance.died(death, now);
                }
            }
            Event::Done { action, result } => {
                agenda.touch_instance(action.instance());
                agenda.has_room();
                self.done(&action, result, now);
            }
            Event::Probed { endpoint, epoch, outcome } => {
                agenda.touch(Subject::from(&endpoint));
                match endpoint {
                    EndpointId::Instance(instance) => self.probed(&instance, epoch, outcome, now),
                    EndpointId::Member(member) => {
                        self.members.probed(&member, epoch, outcome, now);
                    }
                }
            }
            Event::WakeWanted(app) => {
                agenda.touch_app(&app);
                self.wake_wanted(app);
            }
            Event::SleepWanted(app, level) => {
                agenda.touch_app(&app);
                if let Some(state) = self.apps.get_mut(&app) {
                    (state.asleep, state.wake_wanted) = (Some(level), false);
                }
            }
            Event::ConvergeWanted(apps) => {
                for app in apps {
                    agenda.touch_app(&app);
                    self.apps.entry(app).or_default().converging = true;
                }
            }
            Event::PublicChecked { app, stage, outcome } => {
                agenda.touch_app(&app);
                if let Some(state) = self.apps.get_mut(&app) {
                    state.public = Some((stage, outcome));
                }
            }
            Event::NotRecorded(app) => {
                agenda.touch_app(&app);
                if let Some(state) = self.apps.get_mut(&app) {
                    state.is_recording = false;
                }
            }
            Event::Certificates(state) => {
                self.certificates = *state;
                agenda.touch_nobody();
            }
            Event::ConnectFailed(_)
            | Event::Desired(_)
            | Event::Pulse(_)
            | Event::SnapshotConfirmed => {}
        }
    }

    /// Notes a changed or new app: a change is verified awake, and tried at once.
    pub(crate) fn app_changed(
        &mut self,
        former: Option<&DesiredApp>,
        app: &DesiredApp,
        now: Moment,
    ) {
        let upstreams = match &app.app.source {
            Source::Upstreams(members) => members.as_slice(),
            Source::Image(_) | Source::Shards(_) => &[],
        };
        let served = own_pool(&self.served, &app.app.name).map(Arc::as_ref);
        self.members.set(&MemberOf::App(app.app.name.clone()), upstreams, served, now);
        let state = self.apps.entry(app.app.name.clone()).or_default();
        state.is_recording = false;
        let stage = app.target().map(Stage::of);
        if state.stage != stage {
            (state.stage, state.answers, state.answers_before) = (stage, Answers::default(), None);
        }
        let version = |app: &DesiredApp| (app.generation, app.target().map(|t| t.number));
        if former.is_none_or(|former| version(former) == version(app)) {
            state.awake_since = state.awake_since.max(now);
            return;
        }
        state.asleep = None;
        state.awake_since = now;
        self.retry_at_once(&app.app.name);
    }

    pub(crate) fn app_removed(&mut self, app: &AppName, now: Moment) {
        self.apps.remove(app);
        self.members.set(&MemberOf::App(app.clone()), &[], None, now);
        self.retry_at_once(app);
    }

    pub(crate) fn shard_changed(&mut self, name: &ShardName, members: &[Member], now: Moment) {
        let served = self.served.shard(name).map(Arc::as_ref);
        self.members.set(&MemberOf::Shard(name.clone()), members, served, now);
    }

    /// Notes a new, changed or removed host; `may_hold` says whether it was one before this process
    /// began. What was on one that is removed is nobody's business any more.
    pub(crate) fn host_changed(
        &mut self,
        name: &HostName,
        host: Option<&Host>,
        may_hold: bool,
        now: Moment,
    ) {
        if host.is_some() {
            self.hosts.entry(name.clone()).or_insert_with(|| HostSeen::new(may_hold, now));
            return;
        }
        self.hosts.remove(name);
        let of_host = self.instances.keys().filter(|id| id.host == *name).cloned();
        for id in of_host.collect::<Vec<_>>() {
            self.instances.remove(&id);
        }
    }

    /// Drops what nobody will ask for again.
    pub(crate) fn forget_gone(&mut self, activity: &Activity) {
        let served = &self.served;
        self.members.forget_gone(activity, |member| serves(served, &member.clone().into()));
    }

    fn retry_at_once(&mut self, app: &AppName) {
        self.change_where(
            |id, instance| id.app == *app && instance.failure.is_some(),
            |_, instance| instance.forgive(),
        );
    }

    /// Notes that a transition of an app's deployments is on its way to the store.
    pub(crate) fn recording(&mut self, app: &AppName) {
        self.apps.entry(app.clone()).or_default().is_recording = true;
    }

    /// Notes that an action has been handed to the executor.
    pub(crate) fn begun(&mut self, action: &Action, now: Moment) {
        let instance = self.instances.entry(action.instance().clone()).or_default();
        instance.doing = Some(action.clone());
        instance.changed_at = now;
        match action {
            Action::Start(_) => {
                instance.was_ready = false;
                instance.retry_at = None;
                instance.restarted(now);
            }
            Action::Stop { why, .. } => {
                instance.stopped_by_us = true;
                if let StopReason::Failed(failure) = why {
                    instance.fail(failure.clone(), now);
                }
            }
            Action::Remove { .. } => instance.stopped_by_us = true,
            Action::Create(_) | Action::Pause(_) | Action::Unpause(_) => {}
        }
    }

    /// Notes that an app is meant to sleep now, and how deep.
    pub(crate) fn fell_asleep(&mut self, app: &AppName, level: SleepLevel) {
        self.apps.entry(app.clone()).or_default().asleep = Some(level);
    }

    /// Notes that the instances of an app are where they would be dealt to.
    pub(crate) fn has_converged(&mut self, app: &AppName) {
        self.apps.entry(app.clone()).or_default().converging = false;
    }

    /// Notes that a snapshot is served, in which these have changed.
    pub(crate) fn published(
        &mut self,
        snapshot: Arc<Snapshot>,
        changed: &BTreeSet<Subject>,
        now: Moment,
    ) {
        let former = std::mem::replace(&mut self.served, snapshot);
        for subject in changed {
            let Subject::App(app) = subject else { continue };
            self.serves_otherwise(app, &former, now);
        }
    }

    /// Notes how an app is served now, after it was served as in `former`.
    fn serves_otherwise(&mut self, app: &AppName, former: &Snapshot, now: Moment) {
        let serving =
            |snapshot: &Snapshot| snapshot.app(app).is_some_and(|route| route.state.is_serving());
        if serving(&self.served) {
            let state = self.apps.entry(app.clone()).or_default();
            if !serving(former) {
                state.awake_since = now;
            }
            (state.asleep, state.wake_wanted) = (None, false);
        }
        let stale = |(id, instance): &(&InstanceId, &Instance)| {
            instance.left_at.is_some() == serves(&self.served, &(*id).clone().into())
        };
        for id in self.instances_of(app).filter(stale).map(|(id, _)| id.clone()).collect::<Vec<_>>()
        {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.left_at = instance.left_at.is_none().then_some(now);
            }
        }
    }

    pub(crate) fn container(&self, instance: &InstanceId) -> Option<Container> {
        self.instances.get(instance)?.container.clone()
    }

    /// These, in order, as they are known.
    pub(crate) fn known(&self, ids: Vec<InstanceId>) -> Vec<(InstanceId, &Instance)> {
        let with_known = |id| {
            let instance = self.instances.get(&id).unwrap_or_else(|| Instance::unseen());
            (id, instance)
        };
        ids.into_iter().map(with_known).collect()
    }

    /// Every instance of an app, of whatever deployment.
    pub(crate) fn instances_of(
        &self,
        app: &AppName,
    ) -> impl Iterator<Item = (&InstanceId, &Instance)> {
        // Deployments count from 1, so that no other host is before this one.
        let (app, host) = (app.clone(), HostName::local());
        let first = InstanceId { app: app.clone(), deployment: 0, ordinal: 0, host };
        self.instances.range(first..).take_while(move |(id, _)| id.app == app)
    }

    fn listed(
        &mut self,
        host: &HostName,
        info: EngineInfo,
        listing: Listing,
        began: Moment,
        now: Moment,
        agenda: &mut Agenda,
    ) {
        // One that is no host any more.
        let Some(seen) = self.hosts.get_mut(host) else { return };
        let (first_time, was_there) = (!seen.is_listed(), seen.answers());
        seen.listed(info, now);
        let out_of_reach = |id: &InstanceId, instance: &Instance| {
            id.host == *host && instance.failed_by(FailureReason::EngineUnreachable)
        };
        if !was_there || self.instances.iter().any(|(id, instance)| out_of_reach(id, instance)) {
            agenda.touch_everything();
        }
        self.change_where(out_of_reach, |_, instance| instance.forgive());
        if !was_there {
            // While it was away nothing could pass a check: that is no reason to end it.
            self.change_where(|id, _| id.host == *host, |_, instance| instance.health.excuse(now));
        }
        let found = listing.containers.iter().map(|container| &container.instance);
        let there: BTreeSet<_> = found.chain(&listing.unknown).collect();
        let ids = self.instances.keys();
        let is_missing = |id: &&InstanceId| id.host == *host && !there.contains(id);
        let missing: Vec<_> = ids.filter(is_missing).cloned().collect();
        for id in missing {
            if self.seen(&id, None, began, now) {
                agenda.touch_instance(&id);
            }
        }
        for container in listing.containers {
            let id = container.instance.clone();
            let adopted = first_time.then(|| self.adopt(&container, now));
            if self.seen(&id, Some(container), began, now) {
                agenda.touch_instance(&id);
            }
            if let Some(health) = adopted {
                let instance = self.instances.entry(id).or_default();
                instance.was_ready = matches!(health, Health::Ready { .. });
                instance.proven = instance.was_ready;
                instance.health = health;
            }
        }
        if first_time {
            self.find_sleepers();
        }
    }

    /// An instance that the last good snapshot sends requests to is ready until a probe says
    /// otherwise; so is a paused one, because only ready ones are paused.
    fn adopt(&self, container: &Container, now: Moment) -> Health {
        let served =
            endpoint(&self.served, &container.instance.clone().into()).filter(|endpoint| {
                let address = container.address.map(|ip| SocketAddr::new(ip, container.port));
                Some(endpoint.address) == address
            });
        match served {
            Some(endpoint) => Health::Ready { since: endpoint.ready_since },
            None if container.state == ContainerState::Paused => Health::Ready { since: now },
            None => Health::Starting { since: now, error: None },
        }
    }

    /// After a restart: an app with a paused container of its live deployment was asleep, and a
    /// container that has ended while its app slept was stopped by us. Those of other deployments
    /// are kept for a rollback.
    fn find_sleepers(&mut self) {
        for (id, instance) in &self.instances {
            // Not of an app that is gone: its containers only wait to be removed.
            let Some(state) = self.apps.get_mut(&id.app) else { continue };
            let live = state.stage.filter(|stage| stage.state == DeploymentState::Live);
            let is_live = live.is_some_and(|live| live.deployment == id.deployment);
            let is_paused = instance.state() == Some(ContainerState::Paused);
            if is_live && is_paused && state.asleep.is_none() {
                state.asleep = Some(SleepLevel::Paused);
            }
        }
        let apps = self.apps.clone();
        let slept = |id: &InstanceId| apps.get(&id.app).is_some_and(|app| app.asleep.is_some());
        self.change_where(
            |id, instance| {
                matches!(instance.state(), Some(ContainerState::Exited { .. })) && slept(id)
            },
            |_, instance| (instance.stopped_by_us, instance.proven) = (true, true),
        );
    }

    /// Changes the instances of which `wanted` holds, and copies no others.
    fn change_where(
        &mut self,
        wanted: impl Fn(&InstanceId, &Instance) -> bool,
        change: impl Fn(&InstanceId, &mut Instance),
    ) {
        let found: Vec<_> = self
            .instances
            .iter()
            .filter(|(id, instance)| wanted(id, instance))
            .map(|(id, _)| id.clone())
            .collect();
        for id in found {
            if let Some(instance) = self.instances.get_mut(&id) {
                change(&id, instance);
            }
        }
    }

    /// A hint that comes late, when the app serves already, asks for nothing.
    fn wake_wanted(&mut self, app: AppName) {
        if !self.served.app(&app).is_some_and(|route| route.state.is_serving()) {
            self.apps.entry(app).or_default().wake_wanted = true;
        }
    }

    /// Takes in a container as it was seen; returns whether that was news.
    fn seen(
        &mut self,
        id: &InstanceId,
        container: Option<Container>,
        began: Moment,
        now: Moment,
    ) -> bool {
        if container.is_none() && !self.instances.contains_key(id) {
            return false;
        }
        let instance = self.instances.entry(id.clone()).or_default();
        // What an action is changing, or has changed since the look began, is not to be unlearnt.
        if instance.doing.is_some() || instance.changed_at >= began || instance.looked_at > began {
            return false;
        }
        instance.looked_at = began;
        let is_news = instance.container != container;
        instance.look(container, now);
        // One that could not be made keeps its failure, and with it the wait before the next try.
        if instance.container.is_none() && instance.failure.is_none() {
            self.instances.remove(id);
        }
        is_news
    }

    fn done(
        &mut self,
        action: &Action,
        result: Result<Option<Container>, ActionError>,
        now: Moment,
    ) {
        let id = action.instance();
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.doing = None;
        instance.changed_at = now;
        match result {
            Ok(container) => {
                if let (Action::Start(_), Some(started)) = (action, &container) {
                    instance.begun_at = started.started_at;
                    instance.stopped_by_us = false;
                }
                instance.look(container, now);
            }
            Err(ActionError::Engine(ProviderError::NoContainer(_))) => instance.look(None, now),
            Err(error) => instance.fail(Failure::of_action(action, &error), now),
        }
        if let Some(death) = instance.unplaced_death.take() {
            instance.died(death, now);
        }
        if instance.container.is_none() && matches!(action, Action::Remove { .. }) {
            self.instances.remove(id);
        }
    }

    fn probed(&mut self, id: &InstanceId, epoch: u64, outcome: Result<(), String>, now: Moment) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        // Nor is a verdict on a process that is being frozen or ended of any worth.
        if instance.epoch != epoch || instance.is_leaving() {
            return;
        }
        instance.health.take(outcome, now);
        if instance.health.is_ready() {
            (instance.was_ready, instance.proven) = (true, true);
            instance.forgive();
        }
    }
}
