//! What has happened between two worlds: pure, so that it can be tested in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use imbl::ordmap::DiffItem;
use weir_config::{
    AppName, AppRoute, DesiredApp, InstanceId, MemberId, MemberOf, RouteState, Source,
};
use weir_deploy::ContainerState;

use crate::{
    action::Action,
    failure::FailureReason,
    health::Health,
    host::HostState,
    instance::Instance,
    members::MemberState,
    observed::Observed,
    reconciler::World,
    store::{DeploymentId, Kind, NewEvent},
};

/// What two worlds differ in.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// In the order in which they follow from each other: what was meant, done, and served.
    pub(crate) events: Vec<NewEvent>,
    /// Deployments that are new.
    pub(super) deployments: Vec<DeploymentId>,
    /// Apps that may be in another phase.
    pub(super) apps: BTreeSet<AppName>,
    /// Instances that are not as they were.
    pub(super) instances: Vec<InstanceId>,
}

/// Costs what has changed, not what there is: both worlds share what has not.
pub(crate) fn compare(former: &World, present: &World) -> Differences {
    let mut differences = Differences::default();
    differences.hosts(former, present);
    differences.desired(former, present);
    differences.instances(&former.observed, &present.observed);
    differences.members(former, present);
    differences.routes(former, present);
    for item in former.observed.apps.diff(&present.observed.apps) {
        let (DiffItem::Add(name, _)
        | DiffItem::Remove(name, _)
        | DiffItem::Update { new: (name, _), .. }) = item;
        differences.apps.insert(name.clone());
    }
    differences
}

impl Differences {
    /// What has to be looked at when nothing is known of what was before; of deployments, only these
    /// have been told of.
    pub(super) fn everything(&mut self, world: &World, told: &BTreeMap<AppName, u64>) {
        self.instances.extend(world.observed.instances.keys().cloned());
        for (name, app) in &world.desired.apps {
            self.apps.insert(name.clone());
            let number = app.newest().map(|made| made.number);
            let is_new = |number| told.get(name).is_none_or(|told| *told < number);
            let is_found = self.deployments.iter().any(|found| found.app == *name);
            if number.is_some_and(is_new) && !is_found {
                self.deployment(app, None);
            }
        }
    }

    fn hosts(&mut self, former: &World, present: &World) {
        for item in former.desired.hosts.diff(&present.desired.hosts) {
            let (name, what) = spec_change(&item);
            self.object(Kind::Host, name, what, "Applied", format!("the host: {what}"));
        }
        for item in former.observed.hosts.diff(&present.observed.hosts) {
            let DiffItem::Update { old: (_, old), new: (name, new) } = item else { continue };
            let what = match new.state {
                state if state == old.state || old.state == HostState::Unknown => continue,
                HostState::Unknown => continue,
                HostState::Ready => "HostReady",
                HostState::Suspect => "HostSuspect",
                HostState::Disconnected => "HostDisconnected",
                HostState::Lost => "HostLost",
                HostState::Returned => "HostReturned",
            };
            let error = new.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let message = format!("{} → {}{error}", old.state, new.state);
            let reason = if new.answers() { "EngineAnswers" } else { "EngineUnreachable" };
            self.object(Kind::Host, name, what, reason, message);
        }
    }

    fn desired(&mut self, former: &World, present: &World) {
        for item in former.desired.shards.diff(&present.desired.shards) {
            let (name, what) = spec_change(&item);
            self.object(Kind::Shard, name, what, "Applied", format!("the shard: {what}"));
        }
        for item in former.desired.zones.diff(&present.desired.zones) {
            // What becomes of its records is told by the operations.
            if let DiffItem::Update { old: (_, old), new: (_, new) } = &item
                && old.generation == new.generation
            {
                continue;
            }
            let (name, what) = spec_change(&item);
            self.object(Kind::Zone, name, what, "Applied", format!("the zone: {what}"));
        }
        for item in former.desired.policies.diff(&present.desired.policies) {
            let (name, what) = spec_change(&item);
            let message = format!("the failover policy: {what}");
            self.object(Kind::FailoverPolicy, name, what, "Applied", message);
        }
        for item in former.desired.apps.diff(&present.desired.apps) {
            match item {
                DiffItem::Add(name, app) => {
                    self.app(name, None, "Created", "Applied", "the app was made".to_owned());
                    self.deployment(app, None);
                }
                DiffItem::Update { old: (_, old), new: (name, new) } => {
                    if old.generation != new.generation {
                        let message = format!("the spec is at generation {} now", new.generation);
                        self.app(name, None, "Changed", "Applied", message);
                    }
                    self.deployment(new, Some(old));
                }
                DiffItem::Remove(name, _) => {
                    self.app(name, None, "Deleted", "Deleted", "the app was deleted".to_owned());
                }
            }
        }
    }

    fn deployment(&mut self, app: &DesiredApp, former: Option<&DesiredApp>) {
        let number = |app: &DesiredApp| app.newest().map(|made| made.number);
        let Some(made) = app.newest() else { return };
        if former.and_then(number) == Some(made.number) {
            return;
        }
        let name = app.app.name.clone();
        self.deployments.push(DeploymentId { app: name, number: made.number });
        let message = format!("deployment {} of {}", made.number, made.template.image);
        self.app(&app.app.name, Some(made.number), "DeploymentMade", "Applied", message);
    }

    fn instances(&mut self, former: &Observed, present: &Observed) {
        for item in former.instances.diff(&present.instances) {
            let (id, old, new) = match item {
                DiffItem::Add(id, new) => (id, Instance::unseen(), new),
                DiffItem::Remove(id, old) => (id, old, Instance::unseen()),
                DiffItem::Update { old: (_, old), new: (id, new) } => (id, old, new),
            };
            // Before those of a host were listed, all of them would be new.
            if former.host(&id.host).is_listed() {
                self.instance(id, old, new);
            }
            self.instances.push(id.clone());
            self.apps.insert(id.app.clone());
        }
    }

    fn instance(&mut self, id: &InstanceId, old: &Instance, new: &Instance) {
        let mut tell = |what, reason: &str, message: String| {
            self.app(&id.app, Some(id.deployment), what, reason, format!("{id}: {message}"));
        };
        if let Some(Action::Create(spec)) = &new.doing
            && old.doing != new.doing
        {
            let image = &spec.template.image;
            tell("InstanceCreating", "Planned", format!("making the container from {image}"));
        }
        if let (None, Some(container)) = (&old.container, &new.container) {
            let id: String = container.id.chars().take(12).collect();
            tell("InstanceCreated", "Done", format!("container {id}"));
        }
        let runs = |state| matches!(state, Some(ContainerState::Running | ContainerState::Paused));
        let process = |instance: &Instance| {
            instance.container.as_ref().map(|made| (made.id.clone(), made.started_at))
        };
        let same_process = runs(old.state()) && process(old) == process(new);
        match (old.state(), new.state()) {
            (Some(ContainerState::Paused), Some(ContainerState::Running)) if same_process => {
                tell("InstanceResumed", "Woken", "goes on".to_owned());
            }
            (Some(ContainerState::Running), Some(ContainerState::Paused)) => {
                tell("InstancePaused", "Idle", "is frozen".to_owned());
            }
            (_, new) if runs(new) && !same_process => {
                tell("InstanceStarted", "Done", "the process runs".to_owned());
            }
            (old, Some(ContainerState::Exited { .. })) if runs(old) && new.failure.is_none() => {
                tell("InstanceStopped", "Planned", "the process was ended".to_owned());
            }
            (Some(_), None) => tell("InstanceRemoved", "Planned", "is gone".to_owned()),
            _ => {}
        }
        match (&old.health, &new.health) {
            (Health::Starting { .. } | Health::Unhealthy { .. }, Health::Ready { .. }) => {
                tell("InstanceReady", "Probed", "takes requests".to_owned());
            }
            (Health::Ready { .. }, Health::Unhealthy { error, .. }) => {
                let reason = FailureReason::HealthCheckFailed.as_str();
                tell("InstanceUnhealthy", reason, error.clone());
            }
            _ => {}
        }
        if let Some(failure) = &new.failure
            && (old.failure.is_none() || new.failures > old.failures)
        {
            let what = match failure.reason {
                FailureReason::InstanceExited => "InstanceExited",
                _ => "InstanceFailed",
            };
            let last = failure.log_tail.last().map(|line| format!("; it wrote last: {line}"));
            let message = format!("{}{}", failure.message, last.unwrap_or_default());
            tell(what, failure.reason.as_str(), message);
        }
    }

    fn members(&mut self, former: &World, present: &World) {
        let changed = former.observed.members.changes(&present.observed.members);
        let mut shards = BTreeSet::new();
        for (id, old, new) in changed {
            self.member(&id, old, new);
            match id.of {
                MemberOf::App(app) => _ = self.apps.insert(app),
                MemberOf::Shard(shard) => _ = shards.insert(shard),
                MemberOf::Target { .. } => {}
            }
        }
        if shards.is_empty() {
            return;
        }
        for app in present.desired.apps.values() {
            if let Source::Shards(names) = &app.app.source
                && names.iter().any(|name| shards.contains(name))
            {
                self.apps.insert(app.app.name.clone());
            }
        }
    }

    fn member(&mut self, id: &MemberId, old: Option<&MemberState>, new: Option<&MemberState>) {
        let health = |state: Option<&MemberState>| state.map(|state| state.health.clone());
        let (what, reason, message) = match (health(old), health(new)) {
            (Some(Health::Ready { .. }), Some(Health::Unhealthy { error, .. })) => {
                ("MemberUnhealthy", FailureReason::HealthCheckFailed.as_str(), error)
            }
            (Some(Health::Ready { .. }), _) => return,
            (_, Some(Health::Ready { .. })) => {
                ("MemberReady", "Probed", "takes requests".to_owned())
            }
            _ => return,
        };
        let (kind, name) = match &id.of {
            MemberOf::App(app) => (Kind::App, app.to_string()),
            MemberOf::Shard(shard) => (Kind::Shard, shard.to_string()),
            // Those have health of another sort, which is no observed member's.
            MemberOf::Target { .. } => return,
        };
        self.object(kind, &name, what, reason, format!("{}: {message}", id.name));
    }

    fn routes(&mut self, former: &World, present: &World) {
        let (former, present) = (&former.observed.served, &present.observed.served);
        let generation = present.generation;
        for (name, route) in present.changed_apps(former) {
            let (reason, as_what) =
                route.map_or(("Removed", "nothing"), |route: &AppRoute| match &route.state {
                    RouteState::Serving(_) => ("Serving", "serving"),
                    RouteState::Asleep(_) => ("Asleep", "asleep"),
                    RouteState::Starting => ("Starting", "starting"),
                    RouteState::Unavailable { .. } => ("Unavailable", "unavailable"),
                });
            let message = format!("served as {as_what} by snapshot {generation}");
            self.app(&name, None, "RouteChanged", reason, message);
            self.apps.insert(name);
        }
    }

    fn object(
        &mut self,
        kind: Kind,
        name: &str,
        what: &'static str,
        reason: &str,
        message: String,
    ) {
        let (kind, name, reason) = (kind.as_str(), name.to_owned(), reason.to_owned());
        self.events.push(NewEvent { kind, name, deployment: None, what, reason, message });
    }

    pub(super) fn app(
        &mut self,
        name: &AppName,
        deployment: Option<u64>,
        what: &'static str,
        reason: &str,
        message: String,
    ) {
        self.apps.insert(name.clone());
        let (kind, name, reason) = (Kind::App.as_str(), name.to_string(), reason.to_owned());
        self.events.push(NewEvent { kind, name, deployment, what, reason, message });
    }
}

fn spec_change<'a, K, V>(item: &DiffItem<'a, 'a, K, V>) -> (&'a K, &'static str) {
    match *item {
        DiffItem::Add(name, _) => (name, "Created"),
        DiffItem::Update { new: (name, _), .. } => (name, "Changed"),
        DiffItem::Remove(name, _) => (name, "Deleted"),
    }
}
