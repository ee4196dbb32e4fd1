//! From what is meant and what is seen to what is to be served and done.
//!
//! [`plan`] is synchronous, deterministic and pure: no I/O, no clock, no chance. What it looks at it
//! plans from what is, not from what happened, so a lost event costs a delay and never correctness;
//! and it leaves the executor nothing to choose.

mod app;
mod cast;
mod failover;
mod instances;
mod members;
pub(crate) mod placement;
mod pool;
mod rollout;
mod route;
mod sleep;
mod steered_name;
#[cfg(test)]
pub(crate) mod tests;
mod zone;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use weir_config::{
    Activity, App, AppName, AppRoute, Desired, DesiredApp, EndpointId, HealthCheck, Hostname,
    InstanceId, Moment, Probe, Rollout, ShardName, SleepLevel, Snapshot,
};

use self::placement::Places;
use crate::{
    action::Action,
    agenda::Scope,
    host::HostSeen,
    instance::Instance,
    observed::Observed,
    subject::Subject,
    transition::{Stage, Transition},
};

/// What follows from the world as it is at one moment, for those that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What is to be served from now on, and in what it differs from what is served already; `None`
    /// if that is the same.
    pub(crate) snapshot: Option<(Arc<Snapshot>, BTreeSet<Subject>)>,
    pub(crate) subjects: BTreeMap<Subject, Planned>,
}

/// What follows for one subject.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) actions: Vec<Action>,
    /// How deep it is to sleep with this snapshot, if it does not already.
    pub(crate) asleep: Option<SleepLevel>,
    /// Whether its instances are where they would be dealt to, though they were not.
    pub(crate) converged: bool,
    /// Whom to probe.
    pub(crate) probes: BTreeMap<EndpointId, ProbeTarget>,
    /// What becomes of its deployments.
    pub(crate) transition: Option<Transition>,
    /// Whom to ask for through the public route.
    pub(crate) public_check: Option<PublicCheck>,
    /// Of a zone: the serial that is wanted next, when few are left.
    pub(crate) serials: Option<u64>,
    /// Of a zone: whether it is served as it should be.
    pub(crate) is_settled: bool,
    /// When to plan again though nothing happens.
    pub(crate) wake_at: Option<Moment>,
}

/// A request through the proxy's own listener, until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicCheck {
    pub(crate) stage: Stage,
    pub(crate) hostname: Hostname,
    pub(crate) path: String,
}

/// An endpoint to be probed until the target changes.
#[derive(Clone, Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) address: SocketAddr,
    pub(crate) check: Arc<HealthCheck>,
    pub(crate) epoch: u64,
    /// Whether the last verdict is that it is ready.
    pub(crate) ready: bool,
}

/// Plans those in scope. `activity` is only asked for the counters that go with a route; nothing is
/// read from them here.
pub(crate) fn plan(
    desired: &Desired,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
    scope: &Scope,
) -> Plan {
    let places = Places::new(desired, observed);
    let mut subjects = BTreeMap::new();
    let mut snapshot = (*observed.served).clone();
    let mut changed = BTreeSet::new();
    for subject in in_scope(scope, desired, observed).iter() {
        let mut planned = Planned::default();
        let is_changed = match subject {
            Subject::Shard(name) => {
                plan_shard(name, desired, observed, activity, &mut planned, &mut snapshot)
            }
            Subject::Policy(name) => {
                failover::plan_policy(name, desired, observed, activity, &mut snapshot)
            }
            Subject::Zone(name) => {
                zone::plan_zone(name, desired, observed, &mut planned, &mut snapshot)
            }
            Subject::App(name) => {
                plan_app(name, desired, &places, activity, now, &mut planned, &mut snapshot)
            }
        };
        if is_changed {
            changed.insert(subject.clone());
        }
        planned.actions.retain(|action| observed.host(&action.instance().host).answers());
        subjects.insert(subject.clone(), planned);
    }
    let is_same = changed.is_empty()
        && snapshot.revision == desired.revision
        && Arc::ptr_eq(&snapshot.certificates, &observed.certificates.served)
        && snapshot.http_challenges.ptr_eq(&observed.certificates.http_challenges)
        && snapshot.tls_challenges.ptr_eq(&observed.certificates.tls_challenges);
    if is_same {
        return Plan { snapshot: None, subjects };
    }
    snapshot.generation += 1;
    snapshot.revision = desired.revision;
    snapshot.certificates = observed.certificates.served.clone();
    snapshot.http_challenges = observed.certificates.http_challenges.clone();
    snapshot.tls_challenges = observed.certificates.tls_challenges.clone();
    Plan { snapshot: Some((Arc::new(snapshot), changed)), subjects }
}

/// Whom to look at; of everything, those too that are served or run and should not be.
fn in_scope<'a>(
    scope: &'a Scope,
    desired: &Desired,
    observed: &Observed,
) -> Cow<'a, BTreeSet<Subject>> {
    match scope {
        Scope::Some(subjects) => Cow::Borrowed(subjects),
        Scope::Everything => {
            let shards = observed.served.shards().map(|(name, _)| name);
            let shards = desired.shards.keys().chain(shards).cloned().map(Subject::Shard);
            let policies = observed.served.policies().map(|steered| &steered.policy);
            let policies = desired.policies.keys().chain(policies).cloned().map(Subject::Policy);
            let served = observed.served.apps().map(|route| &route.app);
            let running = observed.instances.keys().map(|id| &id.app);
            let apps = desired.apps.keys().chain(served).chain(running);
            let zones =
                observed.served.zones().filter_map(|zone| zone.name().to_string().parse().ok());
            let zones = desired.zones.keys().cloned().chain(zones).map(Subject::Zone);
            let apps = apps.cloned().map(Subject::App);
            Cow::Owned(shards.chain(policies).chain(apps).chain(zones).collect())
        }
    }
}

/// Plans a shard, and tells whether it is served otherwise than before.
fn plan_shard(
    name: &ShardName,
    desired: &Desired,
    observed: &Observed,
    activity: &Activity,
    planned: &mut Planned,
    snapshot: &mut Snapshot,
) -> bool {
    let served = snapshot.shard(name);
    let Some(shard) = desired.shards.get(name) else {
        let is_gone = served.is_some() && desired.has_gone_shard(name);
        if is_gone {
            snapshot.remove_shard(name);
        }
        return is_gone;
    };
    let pool = members::plan_shard(shard, observed, activity, planned);
    let is_changed = served.is_none_or(|served| !Arc::ptr_eq(served, &pool));
    if is_changed {
        snapshot.insert_shard(name.clone(), pool);
    }
    is_changed
}

/// Plans an app, and tells whether it is served otherwise than before.
fn plan_app(
    name: &AppName,
    desired: &Desired,
    places: &Places<'_>,
    activity: &Activity,
    now: Moment,
    planned: &mut Planned,
    snapshot: &mut Snapshot,
) -> bool {
    let observed = places.observed;
    let served = snapshot.app(name);
    let Some(app) = desired.apps.get(name) else {
        let is_gone = served.is_some() && desired.has_gone(name);
        if is_gone {
            snapshot.remove(name);
        }
        if desired.has_gone(name) {
            for (id, instance) in observed.instances_of(name) {
                instances::retire(id, instance, observed, &Rollout::default(), now, planned);
            }
        }
        return is_gone;
    };
    let route = plan_route(app, places, activity, now, planned, snapshot);
    let route = route.filter(|route| served.is_none_or(|served| **served != *route));
    let is_changed = route.is_some();
    if let Some(route) = route {
        snapshot.insert(route);
    }
    is_changed
}

/// Plans one app by what answers its requests, and returns its route; `None` when what is served
/// already is the best there is.
fn plan_route(
    app: &DesiredApp,
    places: &Places<'_>,
    activity: &Activity,
    now: Moment,
    planned: &mut Planned,
    snapshot: &Snapshot,
) -> Option<AppRoute> {
    let observed = places.observed;
    if !app.is_image() {
        return Some(members::plan_app(app, places, activity, now, planned, snapshot));
    }
    match unseen(app, places) {
        // Until the containers are known, what was served last is served on.
        Some(host) => route::unseen(app, observed, activity, &host.error),
        None => Some(app::plan_app(app, places, activity, now, planned)),
    }
}

/// A host that may have containers of an app that are not known yet.
pub(crate) fn unseen<'a>(app: &DesiredApp, places: &Places<'a>) -> Option<&'a HostSeen> {
    let observed = places.observed;
    let of_app = || places.of(app).map(|host| observed.host(&host.name));
    // When none of them has ever answered, nothing is known at all.
    of_app().find(|host| host.is_expected()).or_else(|| {
        of_app().find(|host| host.may_hold).filter(|_| !of_app().any(|h| h.is_listed()))
    })
}

impl PublicCheck {
    /// The app's own name is whole, and the path of its health check is known to be answered.
    fn of(app: &App, stage: Stage) -> Self {
        let path = match &app.health.probe {
            Probe::Http { path, .. } => path.clone(),
            Probe::Tcp => "/".to_owned(),
        };
        Self { stage, hostname: app.hostnames[0].host.clone(), path }
    }
}

impl ProbeTarget {
    /// Whether a probe of this one may go on as a probe of the other; it keeps its own verdict.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (self.address, &self.check, self.epoch) == (other.address, &other.check, other.epoch)
    }
}

impl Planned {
    fn wake_at(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |earliest| earliest.min(at)));
    }

    fn probe(&mut self, id: &InstanceId, instance: &Instance, check: &HealthCheck) {
        use weir_deploy::ContainerState::Running;
        let Some(container) = &instance.container else { return };
        if let (Running, Some(address)) = (container.state, container.address) {
            let target = ProbeTarget {
                address: SocketAddr::new(address, container.port),
                check: Arc::new(check.clone()),
                epoch: instance.epoch,
                ready: instance.health.is_ready(),
            };
            self.probes.insert(id.clone().into(), target);
        }
    }
}
