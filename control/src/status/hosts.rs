//! The status of hosts, and what is on another one than it would be dealt to.

use weir_config::{Host, ShardName};

use crate::{
    api::wire::{DriftResource, HostStatus},
    observed::Observed,
    plan::placement::Places,
    reconciler::World,
};

/// The status of a host.
pub(crate) fn host_status(host: &Host, observed: &Observed) -> HostStatus {
    let seen = observed.host(&host.name);
    let info = seen.info.as_ref();
    HostStatus {
        state: seen.state.to_string(),
        message: seen.error.clone(),
        engine: info.map(|info| {
            format!("Docker {} (API {}), {}/{}", info.version, info.api_version, info.os, info.arch)
        }),
        address: host.address.map(|address| address.to_string()),
        cpus: info.map(|info| info.cpus),
        memory: info.map(|info| info.memory),
        instances: observed.instances.keys().filter(|id| id.host == host.name).count() as u64,
    }
}

/// The instances that are on other hosts than they would be dealt to; only of apps that are placed
/// on a shard, if one is named.
pub(crate) fn drift(shard: Option<&ShardName>, world: &World) -> Vec<DriftResource> {
    let World { desired, observed, .. } = world;
    let places = Places::new(desired, observed);
    let of_shard = |placed: Option<&ShardName>| shard.is_none() || placed == shard;
    let apps = desired.apps.values();
    let apps = apps.filter(|app| of_shard(app.app.placement.shard.as_ref()));
    let drifted = apps.flat_map(|app| places.drift(app));
    drifted
        .map(|id| DriftResource {
            app: id.app.to_string(),
            instance: id.to_string(),
            host: id.host.to_string(),
        })
        .collect()
}
