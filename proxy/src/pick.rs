//! Which of an app's endpoints a request goes to.

use std::{cell::LazyCell, sync::Arc};

use weir_config::{
    AppRoute, Backends, Choice, Endpoint, EndpointId, Moment, Pool, RouteState, Snapshot,
};

use crate::{asked::Asked, targets};

/// Of its pool, or of the target of a failover policy that its client goes to. Endpoints that failed
/// this request come last.
pub(crate) fn pick<'a>(
    snapshot: &'a Snapshot,
    route: &'a AppRoute,
    asked: &Asked<'_>,
    failed: &[EndpointId],
    now: Moment,
) -> Option<&'a Endpoint> {
    match &route.state {
        RouteState::Serving(Backends::Failover(policy)) => {
            targets::pick(route, snapshot.policy(policy)?, asked, failed, now)
        }
        RouteState::Serving(backends) => {
            from_pool(route, snapshot.pool(backends, asked.host)?, asked, failed, now)
        }
        _ => None,
    }
}

/// As the pool balances, among those that may take one more request and are not ejected.
fn from_pool<'a>(
    route: &AppRoute,
    pool: &'a Pool,
    asked: &Asked<'_>,
    failed: &[EndpointId],
    now: Moment,
) -> Option<&'a Endpoint> {
    // Looked at only when an ejected one is met.
    let too_many = LazyCell::new(|| too_many_ejected(route, pool, now));
    let takes =
        |endpoint: &Endpoint| has_room(route, endpoint) && (!endpoint.is_ejected(now) || *too_many);
    // As most pools are.
    if let [only] = pool.endpoints() {
        return Some(only).filter(|only| takes(only));
    }
    let key = pool.balance().hash.as_ref().and_then(|hashed| asked.key(hashed));
    let choice = Choice { key, random: rand::random(), now };
    if failed.is_empty() {
        return pool.pick(choice, takes);
    }
    let untried = |endpoint: &Endpoint| !failed.contains(&endpoint.id) && takes(endpoint);
    pool.pick(choice, untried).or_else(|| pool.pick(choice, takes))
}

/// Whether there are endpoints, and each carries as many requests as it may.
pub(crate) fn is_full(snapshot: &Snapshot, route: &AppRoute, asked: &Asked<'_>) -> bool {
    let is_full = |pool: &Arc<Pool>| {
        let endpoints = pool.endpoints();
        !endpoints.is_empty() && !endpoints.iter().any(|endpoint| has_room(route, endpoint))
    };
    match &route.state {
        RouteState::Serving(Backends::Failover(policy)) => snapshot
            .policy(policy)
            .is_some_and(|steered| steered.targets.iter().any(|target| is_full(&target.pool))),
        RouteState::Serving(backends) => snapshot.pool(backends, asked.host).is_some_and(is_full),
        _ => false,
    }
}

pub(crate) fn has_room(route: &AppRoute, endpoint: &Endpoint) -> bool {
    endpoint.activity.load() < u64::from(route.policy.limits.in_flight_per_instance)
}

/// Whether so many are ejected that the fault cannot be theirs.
fn too_many_ejected(route: &AppRoute, pool: &Pool, now: Moment) -> bool {
    let endpoints = pool.endpoints();
    let ejected = endpoints.iter().filter(|endpoint| endpoint.is_ejected(now)).count();
    ejected * 100 > endpoints.len() * usize::from(route.policy.outlier.max_ejected_percent)
}
