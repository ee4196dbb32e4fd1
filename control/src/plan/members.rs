//! Shards, and apps that are no images: whom to probe, and who takes requests.

use std::sync::Arc;

use weir_config::{
    Activity, AppRoute, Backends, Balance, DesiredApp, Endpoint, EndpointId, HealthCheck, Member,
    MemberOf, Moment, Pool, Reach, RouteState, Shard, Snapshot, Source,
};

use super::{
    Planned, ProbeTarget, failover, instances::retire, placement::Places, pool::are_upstreams,
    route,
};
use crate::{members::Seen, observed::Observed, served::own_pool};

/// A group of members and how they are to share a load.
struct Group<'a> {
    of: MemberOf,
    members: &'a [Member],
    check: &'a HealthCheck,
    balance: &'a Balance,
    /// What it is served by now.
    served: Option<&'a Arc<Pool>>,
}

/// The pool of a shard. One without a ready member is there too, and empty: a request for it is
/// refused at once, instead of being sent where it is known to fail.
pub(super) fn plan_shard(
    shard: &Shard,
    observed: &Observed,
    activity: &Activity,
    plan: &mut Planned,
) -> Arc<Pool> {
    let group = Group {
        of: MemberOf::Shard(shard.name.clone()),
        members: &shard.members,
        check: &shard.health,
        balance: &shard.balance,
        served: observed.served.shard(&shard.name),
    };
    let served = group.served.cloned();
    let planned = group.plan(observed, activity, plan).or(served);
    planned.unwrap_or_else(|| Arc::new(Pool::new(Vec::new(), shard.balance.clone())))
}

/// The route of an app that is no image; what is left of one that it was is removed.
pub(super) fn plan_app(
    app: &DesiredApp,
    places: &Places<'_>,
    activity: &Activity,
    now: Moment,
    plan: &mut Planned,
    snapshot: &Snapshot,
) -> AppRoute {
    let observed = places.observed;
    for (id, instance) in observed.instances_of(&app.app.name) {
        retire(id, instance, observed, &app.app.rollout, now, plan);
    }
    let state = match &app.app.source {
        Source::Shards(shards) => RouteState::Serving(Backends::Shards(shards.clone())),
        Source::Failover(policy) => failover::state(app, policy, places, snapshot),
        Source::Upstreams(members) => upstreams(app, members, observed, activity, plan),
        // The store makes the deployment of an image in one write with it.
        Source::Image(_) => RouteState::Starting,
    };
    route::with_state(app, state, activity)
}

/// Serves by the upstreams that are ready. What served before does so until then: upstreams that
/// have moved until it is known how they are, and what is no upstream for ever if need be.
fn upstreams(
    app: &DesiredApp,
    members: &[Member],
    observed: &Observed,
    activity: &Activity,
    plan: &mut Planned,
) -> RouteState {
    let DesiredApp { app, .. } = app;
    let served = own_pool(&observed.served, &app.name);
    let of = MemberOf::App(app.name.clone());
    let group = Group { of, members, check: &app.health, balance: &app.balance, served };
    let pool = group.plan(observed, activity, plan);
    match (pool, observed.served.app(&app.name).map(|route| &route.state)) {
        (Some(pool), _) if !pool.endpoints().is_empty() => RouteState::Serving(Backends::Own(pool)),
        (None, Some(RouteState::Serving(backends))) => RouteState::Serving(backends.clone()),
        (Some(_), Some(RouteState::Serving(backends))) if !are_upstreams(backends) => {
            RouteState::Serving(backends.clone())
        }
        (Some(_), _) => route::unavailable("no upstream passes its health check"),
        (None, _) => RouteState::Starting,
    }
}

impl Group<'_> {
    /// Probes the members, and returns the pool of those that are ready; `None` as long as none
    /// is and not all of them have been heard of.
    fn plan(
        self,
        observed: &Observed,
        activity: &Activity,
        plan: &mut Planned,
    ) -> Option<Arc<Pool>> {
        let seen = || observed.members.seen(&self.of, self.members);
        let check = Arc::new(self.check.clone());
        let mut is_known = true;
        for Seen { id, state, .. } in seen() {
            is_known &= state.health.is_known();
            let target = ProbeTarget {
                address: state.address,
                check: check.clone(),
                epoch: state.epoch,
                ready: state.health.is_ready(),
            };
            plan.probes.insert(id.into(), target);
        }
        let ready = || {
            seen().filter_map(|Seen { id, weight, state }| {
                Some((EndpointId::from(id), state.address, weight, state.health.ready_since()?))
            })
        };
        if !is_known && ready().next().is_none() {
            return None;
        }
        // In nearly every turn, nothing has changed here.
        let is_same = |pool: &&Arc<Pool>| {
            let served = pool.endpoints().iter();
            let served = served.map(|e| (e.id.clone(), e.address, e.weight, e.ready_since));
            served.eq(ready()) && pool.balance() == self.balance
        };
        if let Some(pool) = self.served.filter(is_same) {
            return Some(pool.clone());
        }
        let endpoints = ready().map(|(id, address, weight, ready_since)| {
            let activity = activity.endpoint(&id);
            Endpoint { id, address, reach: Reach::Direct, weight, ready_since, activity }
        });
        Some(Arc::new(Pool::new(endpoints.collect(), self.balance.clone())))
    }
}
