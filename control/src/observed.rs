//! The world as control has seen it, and how each event changes what is known.
//!
//! Nothing here decides or does anything: [`crate::plan`] reads it, the reactor feeds it. An
//! action in flight is part of it, so that nothing is started twice.

mod engines;
mod levels;
mod meant;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use weir_config::{
    Activity, Answers, AppName, Desired, DesiredApp, EndpointId, FailoverName, HostName,
    InstanceId, Moment, RouteState, SleepLevel, Snapshot, Source, Steering, TargetName,
};
use weir_deploy::Container;

use crate::{
    action::{Action, StopReason},
    agenda::Agenda,
    certificates::CertificateState,
    event::Event,
    failover::FailoverTrouble,
    host::HostSeen,
    instance::Instance,
    members::Members,
    served::serves,
    subject::Subject,
    transition::Stage,
    zones::{Zones, aliases_of},
};

/// Everything seen. Cheap to clone, so that the API reads a copy and never waits for the loop.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) hosts: imbl::OrdMap<HostName, HostSeen>,
    pub(crate) instances: imbl::OrdMap<InstanceId, Instance>,
    pub(crate) members: Members,
    pub(crate) apps: imbl::OrdMap<AppName, AppState>,
    pub(crate) certificates: CertificateState,
    pub(crate) zones: Zones,
    /// What the law of failover has come to.
    pub(crate) policies: imbl::OrdMap<FailoverName, Arc<PolicySeen>>,
    /// Endpoints of targets that are served no more, and may still be used.
    left: Vec<EndpointId>,
    /// What the data plane serves now.
    pub(crate) served: Arc<Snapshot>,
}

/// How the clients of a failover policy are shared, and where its targets are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PolicySeen {
    pub(crate) steering: Steering,
    /// In the order of the shares.
    pub(crate) targets: Vec<TargetSeen>,
    /// What is wrong, if something is.
    pub(crate) trouble: Option<FailoverTrouble>,
}

/// One target of a failover policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetSeen {
    pub(crate) name: TargetName,
    /// As they were found; none of one that is not known yet.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) is_down: bool,
    /// Since when it has been as good as it is. What clients met before is held against it no more,
    /// and connections from before are not used again.
    pub(crate) good_since: Moment,
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
    pub(crate) may_sleep: bool,
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
            tls_challenges: served.tls_challenges.clone(),
            ..CertificateState::default()
        };
        let (zones, policies, left) = (Zones::default(), imbl::OrdMap::new(), Vec::new());
        Self { hosts, instances, members, apps, certificates, zones, policies, left, served }
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
            Event::EngineListed { host, info, mut listing, began } => {
                self.leave_out_strays(&mut listing, desired);
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
                if !self.is_stray(&instance, desired) && self.seen(&instance, container, began, now)
                {
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
            Event::NotRecorded(subject) => {
                match &subject {
                    Subject::App(app) => {
                        if let Some(state) = self.apps.get_mut(app) {
                            state.is_recording = false;
                        }
                    }
                    Subject::Zone(zone) => self.zones.take_serials(zone, false),
                    Subject::Shard(_) | Subject::Policy(_) => {}
                }
                agenda.touch(subject);
            }
            Event::Resolved(target, addresses) => {
                let zones = desired.zones.values();
                let aliases: Vec<_> = zones.flat_map(|zone| aliases_of(zone, &target)).collect();
                agenda.touch_zones(self.zones.resolved_anew(target, addresses, &aliases));
            }
            Event::Certificates(state) => {
                let challenges = state.dns_challenges.clone();
                agenda.touch_zones(self.zones.challenges_changed(challenges));
                agenda.touch_zones(self.zones.caa_changed(state.caa()));
                self.certificates = *state;
                agenda.touch_nobody();
            }
            Event::ConnectFailed(_)
            | Event::Desired(_)
            | Event::Pulse(_)
            | Event::Steered(..)
            | Event::SnapshotConfirmed => {}
        }
    }

    /// Drops what nobody will ask for again.
    pub(crate) fn forget_gone(&mut self, activity: &Activity) {
        let served = &self.served;
        self.left.retain(|target| {
            let is_back = serves(served, target);
            let is_used = activity.in_flight_on(target) > 0;
            if !is_back && !is_used {
                activity.remove_endpoint(target);
            }
            is_used && !is_back
        });
        self.members.forget_gone(activity, |member| serves(served, &member.clone().into()));
    }

    /// Notes that what was decided of this one is on its way to the store.
    pub(crate) fn recording(&mut self, subject: &Subject) {
        match subject {
            Subject::App(app) => self.apps.entry(app.clone()).or_default().is_recording = true,
            Subject::Zone(zone) => self.zones.take_serials(zone, true),
            Subject::Shard(_) | Subject::Policy(_) => {}
        }
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
            match subject {
                Subject::App(app) => self.serves_otherwise(app, &former, now),
                Subject::Zone(zone) => self.zones.is_served(zone),
                Subject::Policy(policy) => self.steers_otherwise(policy, &former),
                Subject::Shard(_) => {}
            }
        }
    }

    /// Notes whom a policy has left: addresses of CDNs come and go.
    fn steers_otherwise(&mut self, policy: &FailoverName, former: &Snapshot) {
        let targets = former.policy(policy).map_or(&[][..], |steered| &steered.targets);
        let endpoints = targets.iter().flat_map(|target| target.pool.endpoints());
        let gone = endpoints.map(|endpoint| &endpoint.id).filter(|id| !serves(&self.served, id));
        self.left.extend(gone.cloned());
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
}

/// The apps in front of a policy's targets.
pub(crate) fn users<'a>(
    desired: &'a Desired,
    policy: &'a FailoverName,
) -> impl Iterator<Item = &'a AppName> {
    let names_it = move |(_, app): &(&AppName, &Arc<DesiredApp>)| matches!(&app.app.source, Source::Failover(name) if name == policy);
    desired.apps.iter().filter(names_it).map(|(name, _)| name)
}
