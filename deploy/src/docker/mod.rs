//! A Docker Engine, of this machine or another one.
//!
//! Nothing is kept between two calls: each makes its own connection, so an engine that is down at
//! the start, or is restarted or upgraded later, works again as soon as it answers. The paths that
//! bollard sends carry no API version, so every engine answers in the newest one it speaks, and
//! there is none to negotiate. What a newer engine added is an `Option` in bollard's types.
//!
//! Every verb first looks at the container and then acts on the engine's own identity of it: a
//! container of the same name that this Weir did not make is never touched, nor one that took the
//! name in between.

mod create;
mod endpoint;
mod errors;
mod events;
mod exec;
mod labels;
mod logs;
mod look;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard::query_parameters::{
    RemoveContainerOptions, StartContainerOptions, StopContainerOptions,
};
use tokio::time::{Instant, sleep, timeout};
use weir_config::{Host, HostName, InstanceId, Secrets};

use self::{endpoint::Endpoint, errors::Failure};
use crate::provider::{
    Container, ContainerEvent, ContainerSpec, ContainerState, EngineInfo, ExecOutput, Listing,
    LogLine, Provider, ProviderError, Stats, Stream,
};

/// Longer than an engine under load needs for anything it does itself.
const CALL: Duration = Duration::from_secs(30);
/// How often we look whether something has come to its end that the engine gives no notice of.
const POLL: Duration = Duration::from_millis(20);

/// A Docker Engine, as far as it concerns one Weir. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Docker {
    /// The machine whose engine it is.
    host: HostName,
    endpoint: Endpoint,
    /// Where the ports are published and reached of containers that are not on this machine.
    address: Option<IpAddr>,
    /// The label `weir.cluster` of the containers that are ours.
    cluster: Arc<str>,
}

impl Docker {
    /// The engine of this machine, whose containers are reached at their own addresses.
    ///
    /// Does no I/O: an engine that is not there is an error of the first call that needs it.
    pub fn new(host: HostName, socket: &Path, cluster: &str) -> Self {
        let endpoint = Endpoint::Unix(socket.into());
        Self { host, endpoint, address: None, cluster: cluster.into() }
    }

    /// The engine of a host; `local` is the socket of this machine's. `None` of a device, whose
    /// engine is asked by the agent there.
    pub fn of(host: &Host, local: &Path, cluster: &str) -> Option<Self> {
        let endpoint = Endpoint::new(&host.engine, local)?;
        let (host, address) = (host.name.clone(), host.address);
        Some(Self { host, endpoint, address, cluster: cluster.into() })
    }

    /// Whether the engine has an image already; if it cannot say, that is not known.
    pub async fn has_image(&self, image: &str) -> bool {
        let request = async |client: bollard::Docker| client.inspect_image(image).await;
        self.call("inspect an image", CALL, request).await.is_ok()
    }

    /// The address that this machine has in the network of its containers.
    ///
    /// # Errors
    /// The engine does not answer, or has no such network.
    pub async fn bridge(&self) -> Result<IpAddr, ProviderError> {
        let request = async |client: bollard::Docker| client.inspect_network("bridge", None).await;
        let network = self.call("inspect a network", CALL, request).await?;
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let address = configs.into_iter().find_map(|config| config.gateway?.parse().ok());
        let missing = "the engine has no network `bridge` with an address of this machine";
        address.ok_or_else(|| ProviderError::Refused(missing.to_owned()))
    }

    /// Makes one request, or a few that belong together, within a limit.
    async fn call<T, F>(
        &self,
        call: &'static str,
        limit: Duration,
        request: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let client = self.client(limit)?;
        match timeout(limit, request(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failure(error, call, limit)),
            Err(_) => Err(Failure::Known(ProviderError::TimedOut { call: call.into(), limit })),
        }
    }

    /// A client that waits at most `limit` for the beginning of an answer.
    fn client(&self, limit: Duration) -> Result<bollard::Docker, Failure> {
        let endpoint = self.endpoint.clone();
        let transport = move |request| endpoint.clone().send(request);
        // In whole seconds, so that ours, which may be shorter than one, comes first.
        let seconds = limit.as_secs().saturating_add(1);
        let (address, version) = (Some("http://docker"), bollard::API_DEFAULT_VERSION);
        bollard::Docker::connect_with_custom_transport(transport, address, seconds, version)
            .map_err(|error| self.failure(error, "connect", limit))
    }

    /// Removes a container by its identity, and returns when it is gone.
    async fn remove_id(&self, id: &str) -> Result<(), Failure> {
        // Volumes without a name belong to the container and would be left behind for ever.
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let began = Instant::now();
        while began.elapsed() < CALL {
            let request = async |client: bollard::Docker| {
                client.remove_container(id, Some(options.clone())).await
            };
            match self.call("remove", CALL, request).await {
                Err(Failure::Refused { status: 404, .. }) => return Ok(()),
                // Another removal is under way: asking again is how to learn of its end.
                Err(Failure::Refused { status: 409, message }) if message.contains("progress") => {
                    sleep(POLL).await;
                }
                done => return done,
            }
        }
        Err(Failure::Known(ProviderError::TimedOut { call: "remove".into(), limit: CALL }))
    }
}

#[async_trait]
impl Provider for Docker {
    async fn info(&self) -> Result<EngineInfo, ProviderError> {
        Ok(self.engine_info().await?)
    }

    async fn ping(&self) -> Result<(), ProviderError> {
        let request = async |client: bollard::Docker| client.ping().await.map(drop);
        Ok(self.call("ping", CALL, request).await?)
    }

    async fn list(&self) -> Result<Listing, ProviderError> {
        Ok(self.list_ours().await?)
    }

    async fn inspect(&self, instance: &InstanceId) -> Result<Option<Container>, ProviderError> {
        self.find(instance).await
    }

    async fn create(&self, spec: &ContainerSpec, secrets: &Secrets) -> Result<(), ProviderError> {
        self.make(spec, secrets).await
    }

    /// The engine refuses to start a paused container; `unpause` is what that one needs.
    async fn start(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        let container = self.get(instance).await?;
        let request = async |client: bollard::Docker| {
            client.start_container(&container.id, None::<StartContainerOptions>).await
        };
        self.call("start", CALL, request).await.map_err(|failure| failure.of(instance))
    }

    async fn pause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        let container = self.get(instance).await?;
        if container.state == ContainerState::Paused {
            return Ok(());
        }
        let request = async |client: bollard::Docker| client.pause_container(&container.id).await;
        self.call("pause", CALL, request).await.map_err(|failure| failure.of(instance))
    }

    async fn unpause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        let container = self.get(instance).await?;
        if container.state != ContainerState::Paused {
            return Ok(());
        }
        let request = async |client: bollard::Docker| client.unpause_container(&container.id).await;
        self.call("unpause", CALL, request).await.map_err(|failure| failure.of(instance))
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        let container = self.get(instance).await?;
        if container.state == ContainerState::Paused {
            // A frozen process would not hear the signal.
            self.unpause(instance).await?;
        }
        let seconds = grace.as_millis().div_ceil(1000).min(i32::MAX as u128) as i32;
        let options = StopContainerOptions { t: Some(seconds), signal: None };
        let request = async |client: bollard::Docker| {
            client.stop_container(&container.id, Some(options)).await
        };
        let limit = grace.saturating_add(CALL);
        self.call("stop", limit, request).await.map_err(|failure| failure.of(instance))
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        match self.find(instance).await? {
            Some(container) => Ok(self.remove_id(&container.id).await?),
            None => Ok(()),
        }
    }

    async fn logs(
        &self,
        instance: &InstanceId,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Stream<LogLine>, ProviderError> {
        self.log_lines(instance, tail, follow).await
    }

    async fn stats(&self, instance: &InstanceId) -> Result<Stats, ProviderError> {
        let container = self.get(instance).await?;
        self.stats_of(&container.id).await.map_err(|failure| failure.of(instance))
    }

    async fn exact_image(&self, instance: &InstanceId) -> Result<String, ProviderError> {
        self.image_of(instance).await
    }

    async fn exec(
        &self,
        instance: &InstanceId,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, ProviderError> {
        let container = self.get(instance).await?;
        let output = self.exec_in(&container.id, command, limit).await;
        output.map_err(|failure| failure.of(instance))
    }

    async fn events(&self) -> Result<Stream<ContainerEvent>, ProviderError> {
        Ok(self.subscribe().await?)
    }
}
