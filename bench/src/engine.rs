//! A container engine that only keeps a table.

use std::{
    collections::BTreeMap,
    env,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::watch;
use weir_config::{InstanceId, Reach, Secrets};
use weir_deploy::{
    Container, ContainerEvent, ContainerSpec, ContainerState, EngineInfo, ExecOutput, Listing,
    LogLine, Provider, ProviderError, Stats, Stream,
};

/// An engine without containers, which says that it has them.
#[derive(Clone, Debug, Default)]
pub struct Engine(Arc<State>);

#[derive(Debug, Default)]
struct State {
    containers: Mutex<BTreeMap<InstanceId, Container>>,
    restarts: watch::Sender<()>,
    /// Of the address that containers get.
    last_byte: AtomicU8,
}

impl Engine {
    fn containers(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Container>> {
        // Whoever panicked while holding it has changed one whole container, or not.
        self.0.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those that the bench's backend listens on.
    fn address(&self) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, 1 + self.0.last_byte.load(Relaxed) % 8).into()
    }

    /// What runs has other addresses from now on, as after a restart of the machine.
    pub fn restart(&self) {
        self.0.last_byte.fetch_add(1, Relaxed);
        let address = self.address();
        for container in self.containers().values_mut() {
            container.address = container.address.map(|_| address);
        }
        self.0.restarts.send_replace(());
    }

    fn change(
        &self,
        instance: &InstanceId,
        change: impl FnOnce(&mut Container),
    ) -> Result<(), ProviderError> {
        let no_container = || ProviderError::NoContainer(instance.clone());
        self.containers().get_mut(instance).map(change).ok_or_else(no_container)
    }
}

#[async_trait]
impl Provider for Engine {
    async fn info(&self) -> Result<EngineInfo, ProviderError> {
        Ok(EngineInfo {
            name: "faked".to_owned(),
            version: "1".to_owned(),
            api_version: "1".to_owned(),
            os: "linux".to_owned(),
            arch: env::consts::ARCH.to_owned(),
            cpus: 1,
            memory: 1 << 30,
        })
    }

    async fn list(&self) -> Result<Listing, ProviderError> {
        let containers = self.containers().values().cloned().collect();
        Ok(Listing { containers, unknown: Vec::new() })
    }

    async fn inspect(&self, instance: &InstanceId) -> Result<Option<Container>, ProviderError> {
        Ok(self.containers().get(instance).cloned())
    }

    async fn create(&self, spec: &ContainerSpec, _: &Secrets) -> Result<(), ProviderError> {
        let container = Container {
            instance: spec.instance.clone(),
            id: spec.instance.to_string(),
            state: ContainerState::Created,
            started_at: 0,
            address: None,
            reach: Reach::Direct,
            port: spec.template.port,
            restarts: 0,
        };
        self.containers().entry(spec.instance.clone()).or_insert(container);
        Ok(())
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        let address = self.address();
        self.change(instance, |container| {
            container.state = ContainerState::Running;
            container.address = Some(address);
            container.started_at += 1;
        })
    }

    async fn pause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.change(instance, |container| container.state = ContainerState::Paused)
    }

    async fn unpause(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.change(instance, |container| container.state = ContainerState::Running)
    }

    async fn stop(&self, instance: &InstanceId, _: Duration) -> Result<(), ProviderError> {
        self.change(instance, |container| {
            container.state = ContainerState::Exited { code: 143, out_of_memory: false };
            container.address = None;
        })
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), ProviderError> {
        self.containers().remove(instance);
        Ok(())
    }

    async fn logs(
        &self,
        _: &InstanceId,
        _: Option<usize>,
        _: bool,
    ) -> Result<Stream<LogLine>, ProviderError> {
        Ok(stream::empty().boxed())
    }

    async fn stats(&self, _: &InstanceId) -> Result<Stats, ProviderError> {
        Ok(Stats::default())
    }

    async fn exec(
        &self,
        _: &InstanceId,
        _: &[String],
        _: Duration,
    ) -> Result<ExecOutput, ProviderError> {
        Err(ProviderError::Refused("nothing runs here".to_owned()))
    }

    async fn exact_image(&self, instance: &InstanceId) -> Result<String, ProviderError> {
        Ok(instance.to_string())
    }

    /// None, until it is restarted.
    async fn events(&self) -> Result<Stream<ContainerEvent>, ProviderError> {
        let mut restarts = self.0.restarts.subscribe();
        let end = async move { _ = restarts.changed().await };
        Ok(stream::once(end).filter_map(async |()| None).boxed())
    }
}
