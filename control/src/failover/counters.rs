//! What the proxy has counted, as failover looks at it.

use weir_config::{
    Backends, FailoverName, FailoverPolicy, FailoverTarget, Incident, Moment, RouteState, Snapshot,
    Steered,
};

use super::passive::Levels;

/// Of each target.
pub(super) fn levels(snapshot: &Snapshot, policy: &FailoverPolicy) -> Vec<Levels> {
    let (steered, now) = (snapshot.policy(&policy.name), Moment::now());
    let of = |target: &FailoverTarget| {
        let pool = steered.and_then(|steered| steered.pool(&target.name)).cloned();
        let endpoints = pool.as_ref().map_or(&[][..], |pool| pool.endpoints());
        let is_ejected = !endpoints.is_empty();
        let mut levels = Levels { pool: pool.clone(), is_ejected, ..Levels::default() };
        for endpoint in endpoints {
            levels.answers += endpoint.activity.answers();
            levels.in_flight += endpoint.activity.in_flight();
            levels.is_ejected &= endpoint.is_ejected(now);
        }
        levels
    };
    policy.targets.iter().map(of).collect()
}

/// What the apps that are served by a policy have sent again.
pub(super) fn retried(snapshot: &Snapshot, policy: &FailoverName) -> u64 {
    let is_served_by = |state: &RouteState| matches!(state, RouteState::Serving(Backends::Failover(name)) if name == policy);
    let routes = snapshot.apps().filter(|route| is_served_by(&route.state));
    routes.map(|route| route.activity.counted(Incident::Retry)).sum()
}

/// Requests that are still on targets that get no more, of each.
pub(super) fn left(steered: &Steered) -> Vec<u64> {
    let places = steered.targets.iter().enumerate();
    let left = places.map(|(place, target)| match steered.steering.shares.of(place) {
        0 => target.pool.endpoints().iter().map(|e| e.activity.in_flight()).sum(),
        _ => 0,
    });
    left.collect()
}
