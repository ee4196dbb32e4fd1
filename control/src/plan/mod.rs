//! From what is meant and what is seen to what is to be served and done.
//!
//! [`plan`] is synchronous, deterministic and pure: no I/O, no clock, no chance. It looks at the
//! whole world each time, so a lost event costs a delay and never correctness, and it leaves the
//! executor nothing to choose.

mod app;
mod members;
mod pool;
mod route;
mod sleep;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use weir_config::{
    Activity, AppName, AppRoute, Desired, DesiredApp, EndpointId, HealthCheck, InstanceId, Moment,
    Rollout, SleepLevel, Snapshot,
};

use crate::{
    action::Action,
    instance::Instance,
    observed::{Engine, Observed},
};

/// What follows from the world as it is at one moment.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What is to be served from now on; `None` if that is what is served already.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    pub(crate) actions: Vec<Action>,
    /// Apps that fall asleep with this snapshot, or deeper than before.
    pub(crate) asleep: Vec<(AppName, SleepLevel)>,
    /// Whom to probe.
    pub(crate) probes: BTreeMap<EndpointId, ProbeTarget>,
    /// When to plan again though nothing happens.
    pub(crate) wake_at: Option<Moment>,
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

/// Plans the whole world. `activity` is only asked for the counters that go with a route; nothing
/// is read from them here.
pub(crate) fn plan(
    desired: &Desired,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
) -> Plan {
    let mut plan = Plan::default();
    let mut snapshot = (*observed.served).clone();
    let mut changed = snapshot.revision != desired.revision
        || !Arc::ptr_eq(&snapshot.certificates, &observed.certificates);
    for (name, shard) in &desired.shards {
        let pool = members::plan_shard(shard, observed, activity, &mut plan);
        if snapshot.shard(name).is_none_or(|served| !Arc::ptr_eq(served, &pool)) {
            snapshot.insert_shard(name.clone(), pool);
            changed = true;
        }
    }
    for app in desired.apps.values() {
        let Some(route) = plan_app(app, observed, activity, now, &mut plan) else { continue };
        if snapshot.app(&app.app.name).is_none_or(|served| **served != route) {
            snapshot.insert(route);
            changed = true;
        }
    }
    changed |= remove_gone(&mut snapshot, desired);
    for (id, instance) in &observed.instances {
        if desired.has_gone(&id.app) {
            app::retire(id, instance, observed, &Rollout::default(), now, &mut plan);
        }
    }
    if !matches!(observed.engine, Engine::Up(_)) {
        plan.actions.clear();
    }
    if changed {
        snapshot.generation += 1;
        snapshot.revision = desired.revision;
        snapshot.certificates = observed.certificates.clone();
        plan.snapshot = Some(Arc::new(snapshot));
    }
    plan
}

/// Takes what should not be from a snapshot; tells whether there was any.
fn remove_gone(snapshot: &mut Snapshot, desired: &Desired) -> bool {
    let apps = snapshot.apps().map(|route| &route.app);
    let apps: Vec<_> = apps.filter(|app| desired.has_gone(app)).cloned().collect();
    let shards = snapshot.shards().map(|(name, _)| name);
    let shards: Vec<_> = shards.filter(|name| desired.has_gone_shard(name)).cloned().collect();
    apps.iter().for_each(|app| snapshot.remove(app));
    shards.iter().for_each(|shard| snapshot.remove_shard(shard));
    !(apps.is_empty() && shards.is_empty())
}

/// Plans one app by what answers its requests, and returns its route; `None` when what is served
/// already is the best there is.
fn plan_app(
    app: &DesiredApp,
    observed: &Observed,
    activity: &Activity,
    now: Moment,
    plan: &mut Plan,
) -> Option<AppRoute> {
    let Some(deployment) = &app.deployment else {
        return Some(members::plan_app(app, observed, activity, now, plan));
    };
    match &observed.engine {
        // Until the containers are known, what was served last is served on.
        Engine::Unknown { error } => route::unseen(app, observed, activity, error),
        Engine::Up(_) | Engine::Down { .. } => {
            Some(app::plan_app(app, deployment, observed, activity, now, plan))
        }
    }
}

impl ProbeTarget {
    /// Whether a probe of this one may go on as a probe of the other; it keeps its own verdict.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (self.address, &self.check, self.epoch) == (other.address, &other.check, other.epoch)
    }
}

impl Plan {
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
