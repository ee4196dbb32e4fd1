//! What must hold whatever happens.

use std::collections::BTreeSet;

use weir_config::{Backends, RouteState, Snapshot};
use weir_deploy::ContainerState;

use super::world::World;
use crate::{
    action::{Action, StopReason},
    host::HostSeen,
    plan::placement::Places,
    reconciler,
};

impl World {
    /// Before an action reaches the engine.
    pub(super) fn check_action(&self, action: &Action) {
        let id = action.instance();
        let in_use = match action {
            Action::Pause(_) => "paused in use",
            Action::Stop { why: StopReason::Sleep, .. } => "stopped for sleep in use",
            Action::Stop { why: StopReason::MakesRoom, .. } => "stopped for another in use",
            Action::Remove { .. } => "removed in use",
            _ => return,
        };
        let requests = self.traffic.are_on(id);
        if requests == 0 {
            return;
        }
        // Their time to end was up, or they are on a process that is not there any more.
        let seen = &self.reconciler.world.observed.instances[id];
        let drain = self.drain_of(&id.app);
        let had_time = seen.left_at.is_some_and(|at| self.now >= at + drain);
        let runs = self.engines.state(id) == Some(ContainerState::Running);
        let is_drained = !matches!(action, Action::Pause(_)) && had_time;
        assert!(is_drained || !runs, "{id} is {in_use} by {requests} requests");
    }

    /// Before an action is begun.
    pub(super) fn check_begun(&self, action: &Action) {
        let id = action.instance();
        assert!(!self.in_flight.contains_key(id), "{action}: something is done to it already");
    }

    /// Before a snapshot is served.
    pub(super) fn check_snapshot(&self, snapshot: &Snapshot) {
        let observed = &self.reconciler.world.observed;
        assert!(snapshot.generation > observed.served.generation, "generations only grow");
        if !observed.hosts.values().all(HostSeen::is_listed) {
            return;
        }
        for route in snapshot.apps() {
            let RouteState::Serving(Backends::Own(pool)) = &route.state else { continue };
            for endpoint in pool.endpoints() {
                let Some(id) = endpoint.id.instance() else { continue };
                let ready = observed.instances.get(id).is_some_and(|seen| seen.is_ready());
                assert!(ready, "requests are sent to {id}, which is not known to be ready");
            }
        }
    }

    /// When trouble has been over for long.
    pub(super) fn check_settled(&self) {
        for app in self.reconciler.world.desired.apps.values() {
            let name = &app.app.name;
            // It was called off before it was live, for a newer one that failed.
            let Some(deployment) = app.target() else { continue };
            let reconciler::World { desired, observed, .. } = &self.reconciler.world;
            let wanted = Places::new(desired, observed).place(app, deployment).instances;
            let wanted: BTreeSet<_> = wanted.into_iter().collect();
            let served = self.snapshots.current();
            let route = &served.app(name).expect("every app has a route").state;
            if matches!(&*deployment.template.image, "missing" | "broken") {
                continue;
            }
            let doing: Vec<_> =
                self.in_flight.values().filter(|a| a.instance().app == *name).collect();
            assert!(doing.is_empty(), "a settled world has nothing to do: {doing:?}");
            match route {
                RouteState::Asleep(_) => {}
                RouteState::Serving(Backends::Own(pool)) => {
                    let serving: BTreeSet<_> =
                        pool.endpoints().iter().filter_map(|e| e.id.instance().cloned()).collect();
                    assert_eq!(serving, wanted, "{name} is served by what is wanted");
                }
                other => panic!("{name} is {} in the end", other.as_str()),
            }
            let there = self.engines.containers.keys().filter(|id| id.app == *name);
            assert_eq!(
                there.cloned().collect::<BTreeSet<_>>(),
                wanted,
                "{name}: nothing is left over"
            );
        }
        let known = |id: &&weir_config::InstanceId| {
            self.reconciler.world.desired.apps.contains_key(&id.app)
        };
        let orphans: Vec<_> = self.engines.containers.keys().filter(|id| !known(id)).collect();
        assert!(orphans.is_empty(), "containers of apps that are gone: {orphans:?}");
    }
}
