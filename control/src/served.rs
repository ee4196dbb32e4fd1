//! Whom a snapshot sends requests to.

use std::sync::Arc;

use weir_config::{AppName, Backends, Endpoint, EndpointId, MemberOf, Pool, RouteState, Snapshot};

/// Whether requests are sent to this one.
pub(crate) fn serves(snapshot: &Snapshot, id: &EndpointId) -> bool {
    endpoint(snapshot, id).is_some()
}

pub(crate) fn endpoint<'a>(snapshot: &'a Snapshot, id: &EndpointId) -> Option<&'a Endpoint> {
    let pool = match id {
        EndpointId::Instance(instance) => own_pool(snapshot, &instance.app),
        EndpointId::Member(member) => match &member.of {
            MemberOf::App(app) => own_pool(snapshot, app),
            MemberOf::Shard(shard) => snapshot.shard(shard),
            MemberOf::Target { policy, target } => {
                snapshot.policy(policy).and_then(|steered| steered.pool(target))
            }
        },
    };
    pool?.endpoints().iter().find(|endpoint| endpoint.id == *id)
}

/// The pool that an app is served by, if it has one of its own.
pub(crate) fn own_pool<'a>(snapshot: &'a Snapshot, app: &AppName) -> Option<&'a Arc<Pool>> {
    match &snapshot.app(app)?.state {
        RouteState::Serving(Backends::Own(pool)) => Some(pool),
        _ => None,
    }
}
