//! Failover policies, and apps in front of their targets: who gets which clients, as the law has it.

use std::{net::SocketAddr, sync::Arc};

use weir_config::{
    Activity, Backends, Balance, Desired, DesiredApp, Endpoint, EndpointId, FailoverName,
    FailoverTarget, MemberId, MemberOf, Reach, RouteState, Snapshot, Steered, SteeredTarget,
    TargetPlace,
};

use super::{placement::Places, pool::pool, route::unavailable};
use crate::observed::{Observed, PolicySeen, TargetSeen};

/// Plans a policy, and tells whether it is served otherwise than before. Until the law has spoken
/// on the targets as they are written, it is served as it was.
pub(super) fn plan_policy(
    name: &FailoverName,
    desired: &Desired,
    observed: &Observed,
    activity: &Activity,
    snapshot: &mut Snapshot,
) -> bool {
    let served = snapshot.policy(name).cloned();
    let Some(policy) = desired.policies.get(name) else {
        let is_gone = served.is_some() && desired.has_gone_policy(name);
        if is_gone {
            snapshot.remove_policy(name);
        }
        return is_gone;
    };
    let seen = observed.policies.get(name).filter(|seen| is_of(seen, &policy.targets));
    let Some(PolicySeen { steering, targets, .. }) = seen.map(AsRef::as_ref) else { return false };
    let targets = policy.targets.iter().zip(targets).map(|(meant, seen)| {
        let of = MemberOf::Target { policy: name.clone(), target: meant.name.clone() };
        let former = served.as_ref().and_then(|served| served.pool(&meant.name));
        let endpoints = endpoints(&of, meant, seen, activity);
        let pool = pool(former, endpoints, &Balance::default());
        let (name, place) = (meant.name.clone(), meant.place.clone());
        SteeredTarget { name, place, pool, is_down: seen.is_down }
    });
    let targets = targets.collect();
    let steered = match &served {
        Some(served) => served.steer(targets, *steering),
        None => Steered::new(name.clone(), targets, *steering),
    };
    let is_changed = served.is_none_or(|served| *served != steered);
    if is_changed {
        snapshot.insert_policy(Arc::new(steered));
    }
    is_changed
}

/// What requests for an app in front of a policy's targets meet.
pub(super) fn state(
    app: &DesiredApp,
    name: &FailoverName,
    places: &Places<'_>,
    snapshot: &Snapshot,
) -> RouteState {
    let Some(policy) = places.desired.policies.get(name) else {
        return unavailable(&format!("there is no failover policy {name}; apply it"));
    };
    if policy.targets.iter().any(|target| target.place == TargetPlace::Own) {
        return unavailable(&format!(
            "the failover policy {name} has Weir's own proxies as a target, which cannot be sent \
             requests by themselves; take that target out, or name another policy"
        ));
    }
    if snapshot.policy(name).is_some() {
        return RouteState::Serving(Backends::Failover(name.clone()));
    }
    // The law speaks in a moment; until then, what it was serves on.
    let served = places.observed.served.app(&app.app.name).map(|route| &route.state);
    match served {
        Some(RouteState::Serving(backends)) if !matches!(backends, Backends::Failover(_)) => {
            RouteState::Serving(backends.clone())
        }
        _ => RouteState::Starting,
    }
}

/// Whether it is about these targets.
fn is_of(seen: &PolicySeen, targets: &[FailoverTarget]) -> bool {
    let names = targets.iter().map(|target| &target.name);
    seen.targets.iter().map(|target| &target.name).eq(names)
        && seen.steering.shares.as_slice().len() == targets.len()
}

fn endpoints(
    of: &MemberOf,
    target: &FailoverTarget,
    seen: &TargetSeen,
    activity: &Activity,
) -> Vec<Endpoint> {
    let endpoint = |address| {
        let address = SocketAddr::new(address, target.check.port);
        // An address is a name.
        let name = address.to_string().parse().ok()?;
        let id = EndpointId::from(MemberId { of: of.clone(), name });
        let activity = activity.endpoint(&id);
        let (reach, weight, ready_since) = (Reach::Direct, 1, seen.good_since);
        Some(Endpoint { id, address, reach, weight, ready_since, activity })
    };
    seen.addresses.iter().copied().filter_map(endpoint).collect()
}
