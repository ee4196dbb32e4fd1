//! A device's engine, asked through its agent.

use std::{io, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use weir_config::{HostName, InstanceId, Reach, Secrets};

use super::{
    devices::{Devices, NOT_CONNECTED},
    wire::{Call, exposed},
};
use crate::{
    provider::{
        Container, ContainerEvent, ContainerSpec, EngineInfo, ExecOutput, Listing, LogLine,
        Provider, ProviderError, Stats, Stream,
    },
    transport::Duplex,
};

/// Longer than an engine needs for anything but to fetch an image.
const CALL: Duration = Duration::from_secs(40);
/// How long the first question waits for the device to connect, so that it is asked at once when
/// it does.
const CONNECT: Duration = Duration::from_secs(5);
/// What is asked of an engine's process itself, beyond what that is given.
const EXEC: Duration = Duration::from_secs(40);

/// A device, as far as it is a host like any other.
#[derive(Clone, Debug)]
pub struct Device {
    name: HostName,
    devices: Devices,
}

impl Device {
    pub fn new(name: HostName, devices: Devices) -> Self {
        Self { name, devices }
    }

    async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ProviderError> {
        self.call_within("a call to a device", CALL, call).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        what: &'static str,
        limit: Duration,
        call: &Call,
    ) -> Result<T, ProviderError> {
        let link = self.devices.link(&self.name).ok_or_else(|| self.unreachable(&NOT_CONNECTED))?;
        match timeout(limit, link.call(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(ProviderError::TimedOut { call: what.into(), limit }),
        }
    }

    async fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        call: &Call,
    ) -> Result<Stream<T>, ProviderError> {
        let link = self.devices.link(&self.name).ok_or_else(|| self.unreachable(&NOT_CONNECTED))?;
        match timeout(CALL, link.stream(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => {
                Err(ProviderError::TimedOut { call: "a call to a device".into(), limit: CALL })
            }
        }
    }

    fn unreachable(&self, reason: &impl ToString) -> ProviderError {
        let endpoint = format!("the device {}", self.name);
        ProviderError::Unreachable { endpoint, reason: reason.to_string() }
    }

    /// Whatever a device says, its containers are on it and reached through it.
    fn own(&self, mut container: Container) -> Container {
        container.instance.host = self.name.clone();
        container.reach = Reach::Device;
        container
    }
}

#[async_trait]
impl Provider for Device {
    async fn info(&self) -> Result<EngineInfo, ProviderError> {
        if self.devices.link_within(&self.name, CONNECT).await.is_none() {
            return Err(self.unreachable(&NOT_CONNECTED));
        }
        self.call(&Call::Info).await
    }

    async fn ping(&self) -> Result<(), ProviderError> {
        self.call(&Call::Ping).await
    }

    async fn list(&self) -> Result<Listing, ProviderError> {
        let Listing { containers, mut unknown } = self.call(&Call::List).await?;
        let containers = containers.into_iter().map(|container| self.own(container)).collect();
        unknown.iter_mut().for_each(|instance| instance.host = self.name.clone());
        Ok(Listing { containers, unknown })
    }

    async fn inspect(&self, instance: &InstanceId) -> Result<Option<Container>, ProviderError> {
        let found: Option<Container> = self.call(&Call::Inspect(instance.clone())).await?;
        Ok(found.map(|container| self.own(container)))
    }

    /// Without a limit of its own: an image may be on its way for long, and a device that is gone
    /// is noticed by the connection.
    async fn create(&self, spec: &ContainerSpec, secrets: &Secrets) -> Result<(), ProviderError> {
        let call = Call::Create { spec: spec.clone(), secrets: exposed(secrets) };
        self.call_within("create", Duration::from_hours(6), &call).await
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.call(&Call::Start(instance.clone())).await
    }

    async fn pause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.call(&Call::Pause(instance.clone())).await
    }

    async fn unpause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.call(&Call::Unpause(instance.clone())).await
    }

    async fn stop(&self, instance: &InstanceId, grace: Duration) -> Result<(), ProviderError> {
        let call = Call::Stop { instance: instance.clone(), grace };
        self.call_within("stop", grace.saturating_add(CALL), &call).await
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.call(&Call::Remove(instance.clone())).await
    }

    async fn logs(
        &self,
        instance: &InstanceId,
        tail: Option<usize>,
        follow: bool,
    ) -> Result<Stream<LogLine>, ProviderError> {
        self.stream(&Call::Logs { instance: instance.clone(), tail, follow }).await
    }

    async fn stats(&self, instance: &InstanceId) -> Result<Stats, ProviderError> {
        self.call(&Call::Stats(instance.clone())).await
    }

    async fn exec(
        &self,
        instance: &InstanceId,
        command: &[String],
        limit: Duration,
    ) -> Result<ExecOutput, ProviderError> {
        let call = Call::Exec { instance: instance.clone(), command: command.to_vec(), limit };
        self.call_within("exec", limit.saturating_add(EXEC), &call).await
    }

    async fn exact_image(&self, instance: &InstanceId) -> Result<String, ProviderError> {
        self.call(&Call::ExactImage(instance.clone())).await
    }

    async fn events(&self) -> Result<Stream<ContainerEvent>, ProviderError> {
        self.stream(&Call::Events).await
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Duplex>> {
        self.devices.dial(&self.name, address).await
    }
}
