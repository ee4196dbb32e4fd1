//! Whether what is offered for one subject could be served.

use std::{collections::BTreeSet, sync::Arc};

use weir_config::{
    AppName, AppRoute, Backends, DesiredApp, EndpointId, FailoverName, MemberOf, Pool, RecordType,
    RouteState, ShardName, Snapshot, Steered, Zone, ZoneName,
};

use super::{View, size::MOST_IN_POOL};
use crate::{
    certificates::check_key,
    served::{own_pool, serves},
    subject::Subject,
};

/// Why a subject cannot be served as it is offered, if so it is.
pub(super) fn subject(subject: &Subject, view: &View<'_>) -> Option<String> {
    let checked = match subject {
        Subject::App(name) => match view.candidate.app(name) {
            Some(route) => app(name, route, view),
            None if view.desired.has_gone(name) => Ok(()),
            None => Err("it would no longer be served, but nobody has deleted it".to_owned()),
        },
        Subject::Shard(name) => match view.candidate.shard(name) {
            Some(offered) => pool(offered, |id| is_of_shard(id, name)),
            None => shard_gone(name, view),
        },
        Subject::Policy(name) => match view.candidate.policy(name) {
            Some(offered) => policy(name, offered, view),
            None => policy_gone(name, view),
        },
        Subject::Zone(name) => match view.candidate.zone(name.dns()) {
            Some(offered) => zone(name, offered, view),
            None if view.desired.has_gone_zone(name) => Ok(()),
            None => Err("it would no longer be served, but nobody has deleted it".to_owned()),
        },
    };
    checked.err()
}

fn app(name: &AppName, route: &AppRoute, view: &View<'_>) -> Result<(), String> {
    if route.app != *name {
        return Err(format!("its place is taken by the app {}", route.app));
    }
    let Some(wanted) = view.desired.apps.get(name) else {
        return Err("it would be served, but nobody wants it".to_owned());
    };
    hostnames(route, wanted, view)?;
    match &route.state {
        RouteState::Serving(Backends::Own(offered)) => {
            if offered.endpoints().is_empty() {
                return Err("it would be served by nobody".to_owned());
            }
            pool(offered, |id| is_of_app(id, name))
        }
        RouteState::Serving(Backends::Shards(shards)) => {
            let gone = shards.iter().find(|shard| view.candidate.shard(shard).is_none());
            match gone {
                _ if shards.is_empty() => Err("it would be served by nobody".to_owned()),
                Some(shard) => Err(format!("the shard {shard} that it names is not served")),
                None => Ok(()),
            }
        }
        RouteState::Serving(Backends::Failover(name)) => match view.candidate.policy(name) {
            Some(_) => Ok(()),
            None => Err(format!("the failover policy {name} that it names is not served")),
        },
        RouteState::Unavailable { reason, .. } if reason.is_empty() => {
            Err("it would be refused without a reason".to_owned())
        }
        RouteState::Asleep(_) => asleep(wanted, view),
        RouteState::Starting | RouteState::Unavailable { .. } => nothing_ready(wanted, view),
    }
}

/// Its names are those that it should have, and each leads to it.
fn hostnames(route: &AppRoute, wanted: &DesiredApp, view: &View<'_>) -> Result<(), String> {
    let names: BTreeSet<_> = route.hostnames.iter().map(ToString::to_string).collect();
    if names.len() != route.hostnames.len() {
        return Err("it would have a host name twice".to_owned());
    }
    if let Some(name) = wanted.app.hostnames.iter().find(|name| !route.hostnames.contains(name)) {
        return Err(format!("{name} would no longer lead to it"));
    }
    if let Some(name) = route.hostnames.iter().find(|name| !wanted.app.hostnames.contains(name)) {
        return Err(format!("{name} is not its own"));
    }
    for name in &route.hostnames {
        match view.candidate.route(&name.host, name.path()) {
            Some(found) if found.app == route.app => {}
            Some(found) => return Err(format!("{name} would lead to the app {}", found.app)),
            None => return Err(format!("{name} would lead nowhere")),
        }
    }
    Ok(())
}

/// It may sleep, or does.
fn asleep(wanted: &DesiredApp, view: &View<'_>) -> Result<(), String> {
    let name = &wanted.app.name;
    let state = view.observed.apps.get(name);
    let has_reason = wanted.app.sleep.is_some()
        || state.is_some_and(|state| state.asleep.is_some())
        || view.served.app(name).is_some_and(|route| matches!(route.state, RouteState::Asleep(_)))
        || view.observed.instances_of(name).any(|(_, instance)| instance.sleeps().is_some());
    if has_reason {
        Ok(())
    } else {
        Err("it would be held asleep, but it does not sleep".to_owned())
    }
}

/// It is not refused or held while one that serves it could go on doing so.
fn nothing_ready(wanted: &DesiredApp, view: &View<'_>) -> Result<(), String> {
    let name = &wanted.app.name;
    if own_pool(view.served, name).is_none() {
        return Ok(());
    }
    let number = wanted.target().map(|target| target.number);
    let ready = view.observed.instances_of(name).find(|(id, instance)| {
        Some(id.deployment) == number
            && id.ordinal < wanted.app.instances
            && instance.is_ready()
            && view.observed.host(&id.host).answers()
            && serves(view.served, &EndpointId::from((*id).clone()))
    });
    match ready {
        Some((id, _)) => Err(format!("it would not be served, though {id} is ready")),
        None => Ok(()),
    }
}

fn shard_gone(name: &ShardName, view: &View<'_>) -> Result<(), String> {
    if !view.desired.has_gone_shard(name) {
        return Err("it would be gone, but nobody has deleted it".to_owned());
    }
    let names_it = |route: &&Arc<AppRoute>| match &route.state {
        RouteState::Serving(Backends::Shards(shards)) => shards.contains(name),
        _ => false,
    };
    match view.candidate.apps().find(names_it) {
        Some(route) => Err(format!("the app {} is still served by it", route.app)),
        None => Ok(()),
    }
}

/// Shares belong to targets by their place, so that the one must be as the other.
fn policy(name: &FailoverName, offered: &Steered, view: &View<'_>) -> Result<(), String> {
    let Some(wanted) = view.desired.policies.get(name) else {
        return Err("it would be served, but nobody wants it".to_owned());
    };
    let meant = wanted.targets.iter().map(|target| &target.name);
    let shares = offered.steering.shares.as_slice().len();
    if !offered.targets.iter().map(|target| &target.name).eq(meant) {
        return Err("it would have other targets than those that are written".to_owned());
    }
    if shares != offered.targets.len() {
        return Err(format!("it has {} targets, but {shares} shares", offered.targets.len()));
    }
    offered.targets.iter().try_for_each(|target| {
        let of = MemberOf::Target { policy: name.clone(), target: target.name.clone() };
        pool(&target.pool, |id| matches!(id, EndpointId::Member(id) if id.of == of))
    })
}

fn policy_gone(name: &FailoverName, view: &View<'_>) -> Result<(), String> {
    if !view.desired.has_gone_policy(name) {
        return Err("it would be gone, but nobody has deleted it".to_owned());
    }
    let names_it = |route: &&Arc<AppRoute>| matches!(&route.state, RouteState::Serving(Backends::Failover(policy)) if policy == name);
    match view.candidate.apps().find(names_it) {
        Some(route) => Err(format!("the app {} is still served by it", route.app)),
        None => Ok(()),
    }
}

fn zone(name: &ZoneName, offered: &Zone, view: &View<'_>) -> Result<(), String> {
    let Some(wanted) = view.desired.zones.get(name) else {
        return Err("it would be served, but nobody wants it".to_owned());
    };
    let lacks = |rtype| offered.get(name.dns(), rtype).is_none();
    if let Some(rtype) = [RecordType::SOA, RecordType::NS].into_iter().find(|t| lacks(*t)) {
        return Err(format!("it would be served without {rtype} records at its name"));
    }
    if offered.len() < wanted.custom.len() {
        return Err("it would not have all records that are written".to_owned());
    }
    Ok(())
}

fn pool(pool: &Pool, is_own: impl Fn(&EndpointId) -> bool) -> Result<(), String> {
    let endpoints = pool.endpoints();
    if endpoints.len() > MOST_IN_POOL {
        return Err(format!("it would have more than {MOST_IN_POOL} endpoints"));
    }
    let ids: BTreeSet<_> = endpoints.iter().map(|endpoint| &endpoint.id).collect();
    if ids.len() != endpoints.len() {
        return Err("it would have an endpoint twice".to_owned());
    }
    for endpoint in endpoints {
        let (id, address) = (&endpoint.id, endpoint.address);
        if !is_own(id) {
            return Err(format!("{id} is not its own"));
        }
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(format!("{id} has no address: {address}"));
        }
    }
    Ok(())
}

fn is_of_app(id: &EndpointId, app: &AppName) -> bool {
    match id {
        EndpointId::Instance(id) => id.app == *app,
        EndpointId::Member(id) => matches!(&id.of, MemberOf::App(of) if of == app),
    }
}

fn is_of_shard(id: &EndpointId, shard: &ShardName) -> bool {
    match id {
        EndpointId::Instance(_) => false,
        EndpointId::Member(id) => matches!(&id.of, MemberOf::Shard(of) if of == shard),
    }
}

/// There is one for those who name no host, and a new one can be shown.
pub(super) fn certificates(served: &Snapshot, candidate: &Snapshot) -> Result<(), String> {
    let (former, latter) = (&served.certificates, &candidate.certificates);
    if Arc::ptr_eq(former, latter) {
        return Ok(());
    }
    if latter.fallback().is_none() && former.fallback().is_some() {
        return Err("there would be no certificate for the base domain".to_owned());
    }
    for certificate in latter.changed(former) {
        check_key(certificate)
            .map_err(|why| format!("the certificate of {:?}: {why}", certificate.names))?;
    }
    Ok(())
}
