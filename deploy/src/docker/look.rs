//! What is: the engine, its containers, and what they use.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use bollard::{
    models::{
        ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerStatsResponse,
        NetworkSettings, PortBinding,
    },
    query_parameters::{InspectContainerOptions, ListContainersOptions, StatsOptions},
};
use futures::{StreamExt, stream};
use weir_config::{InstanceId, Reach};

use super::{
    CALL, Docker,
    errors::Failure,
    labels::{self, Labels},
};
use crate::provider::{Container, ContainerState, EngineInfo, Listing, ProviderError, Stats};

/// Containers that are inspected at once; more would only queue up in the engine.
const INSPECTIONS: usize = 8;

impl Docker {
    /// The instance's container, if there is one that this Weir made.
    pub(crate) async fn find(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<Container>, ProviderError> {
        let raw = self.inspect_raw(&instance.container_name()).await?;
        Ok(raw.filter(|raw| self.is_ours(raw)).as_ref().and_then(|raw| self.container(raw)))
    }

    /// The instance's container, which must exist.
    pub(crate) async fn get(&self, instance: &InstanceId) -> Result<Container, ProviderError> {
        self.find(instance).await?.ok_or_else(|| ProviderError::NoContainer(instance.clone()))
    }

    /// The summaries of a list have neither exit codes nor counts of restarts, so each container is
    /// inspected too.
    pub(crate) async fn list_ours(&self) -> Result<Listing, Failure> {
        let label = format!("{}={}", labels::CLUSTER, self.cluster);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let request = async |client: bollard::Docker| client.list_containers(Some(options)).await;
        let summaries = self.call("list", CALL, request).await?;
        let looks = stream::iter(summaries).map(async |summary| {
            let id = summary.id.unwrap_or_default();
            let labels = summary.labels.unwrap_or_default();
            (self.inspect_raw(&id).await, labels::instance(&labels, &self.host))
        });
        let mut looks = looks.buffer_unordered(INSPECTIONS);
        let mut listing = Listing::default();
        while let Some((look, instance)) = looks.next().await {
            match look {
                // One that was removed in between is not listed.
                Ok(raw) => {
                    listing.containers.extend(raw.as_ref().and_then(|raw| self.container(raw)))
                }
                Err(failure @ Failure::Known(ProviderError::Unreachable { .. })) => {
                    return Err(failure);
                }
                Err(_) => listing.unknown.extend(instance),
            }
        }
        Ok(listing)
    }

    /// A container by name or identity, whoever made it.
    pub(crate) async fn inspect_raw(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, Failure> {
        let request = async |client: bollard::Docker| {
            client.inspect_container(name, None::<InspectContainerOptions>).await
        };
        match self.call("inspect", CALL, request).await {
            Ok(raw) => Ok(Some(raw)),
            Err(Failure::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) fn is_ours(&self, raw: &ContainerInspectResponse) -> bool {
        labels_of(raw)
            .and_then(|labels| labels.get(labels::CLUSTER))
            .is_some_and(|cluster| **cluster == *self.cluster)
    }

    pub(crate) async fn engine_info(&self) -> Result<EngineInfo, Failure> {
        let request =
            async |client: bollard::Docker| Ok((client.version().await?, client.info().await?));
        let (version, info) = self.call("info", CALL, request).await?;
        Ok(EngineInfo {
            name: info.name.unwrap_or_default(),
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            os: version.os.unwrap_or_default(),
            arch: version.arch.unwrap_or_default(),
            cpus: info.ncpu.unwrap_or_default().max(0) as u64,
            memory: info.mem_total.unwrap_or_default().max(0) as u64,
        })
    }

    pub(crate) async fn stats_of(&self, id: &str) -> Result<Stats, Failure> {
        let options = StatsOptions { stream: false, one_shot: true };
        let request = async |client: bollard::Docker| {
            let first = client.stats(id, Some(options)).next().await;
            Ok(first.transpose()?.unwrap_or_default())
        };
        Ok(stats(self.call("stats", CALL, request).await?))
    }
}

pub(crate) fn labels_of(raw: &ContainerInspectResponse) -> Option<&Labels> {
    raw.config.as_ref()?.labels.as_ref()
}

impl Docker {
    /// A container as control knows it; `None` if somebody changed it so that it means nothing to us.
    pub(crate) fn container(&self, raw: &ContainerInspectResponse) -> Option<Container> {
        let container = self.known(raw);
        if container.is_none() {
            let name = raw.name.as_deref().unwrap_or_default();
            tracing::warn!(
                name,
                id = raw.id,
                "this container has our label, but not our other labels or not their name"
            );
        }
        container
    }

    fn known(&self, raw: &ContainerInspectResponse) -> Option<Container> {
        let labels = labels_of(raw)?;
        let state = state(raw.state.as_ref()?)?;
        let awake = matches!(state, ContainerState::Running | ContainerState::Paused);
        let instance = labels::instance(labels, &self.host)?;
        // An image made from a container keeps its labels, and so does what is run from that image.
        if raw.name.as_deref()?.trim_start_matches('/') != instance.container_name() {
            return None;
        }
        let port = labels::port(labels)?;
        let network = raw.network_settings.as_ref().filter(|_| awake);
        let reached = match self.address {
            None => network.and_then(address).map(|address| (address, port)),
            Some(host) => network.and_then(|network| published(network, port, host)),
        };
        Some(Container {
            instance,
            id: raw.id.clone()?,
            state,
            started_at: raw.state.as_ref().and_then(started_at).unwrap_or_default(),
            address: reached.map(|(address, _)| address),
            reach: Reach::Direct,
            port: reached.map_or(port, |(_, port)| port),
            restarts: raw.restart_count.unwrap_or_default().max(0) as u64,
        })
    }
}

/// The engine writes the year 1 for a container that was never started.
fn started_at(raw: &bollard::models::ContainerState) -> Option<i128> {
    let time: jiff::Timestamp = raw.started_at.as_deref()?.parse().ok()?;
    Some(time.as_nanosecond().max(0))
}

fn state(raw: &bollard::models::ContainerState) -> Option<ContainerState> {
    Some(match raw.status? {
        Status::CREATED => ContainerState::Created,
        // One that is being stopped serves until its process has ended.
        Status::RUNNING | Status::STOPPING => ContainerState::Running,
        Status::PAUSED => ContainerState::Paused,
        Status::RESTARTING => ContainerState::Restarting,
        Status::EXITED => ContainerState::Exited {
            code: raw.exit_code.unwrap_or_default(),
            out_of_memory: raw.oom_killed.unwrap_or_default(),
        },
        Status::REMOVING | Status::DEAD => ContainerState::Dead,
        Status::EMPTY => return None,
    })
}

/// The address on the default bridge, which this host reaches without a published port; on an
/// engine that has another default network, the address on that.
fn address(settings: &NetworkSettings) -> Option<IpAddr> {
    let networks = settings.networks.as_ref()?;
    let first = || networks.iter().min_by_key(|(name, _)| *name).map(|(_, network)| network);
    networks.get("bridge").or_else(first)?.ip_address.as_ref()?.parse().ok()
}

/// Where a container's port is published at its host's address.
fn published(network: &NetworkSettings, port: u16, host: IpAddr) -> Option<(IpAddr, u16)> {
    let bindings = network.ports.as_ref()?.get(&format!("{port}/tcp"))?.as_ref()?;
    let at = |binding: &PortBinding| binding.host_ip.as_deref()?.parse::<IpAddr>().ok();
    let binding = bindings.iter().find(|binding| at(binding) == Some(host))?;
    Some((host, binding.host_port.as_deref()?.parse().ok()?))
}

fn stats(raw: ContainerStatsResponse) -> Stats {
    let cpu = raw.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage).unwrap_or_default();
    let memory = raw.memory_stats.unwrap_or_default();
    // The kernel gives these pages back when anybody needs them. Control groups version 1 have
    // both names, of which the longer includes the child groups.
    let cache = memory.stats.and_then(|stats| {
        stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied()
    });
    let network = raw.networks.unwrap_or_default().into_iter().map(|(interface, network)| {
        let bytes = (network.rx_bytes.unwrap_or_default(), network.tx_bytes.unwrap_or_default());
        (interface, bytes)
    });
    Stats {
        cpu: Duration::from_nanos(cpu),
        memory: memory.usage.unwrap_or_default().saturating_sub(cache.unwrap_or_default()),
        processes: raw.pids_stats.and_then(|pids| pids.current).unwrap_or_default(),
        network: network.collect(),
    }
}
