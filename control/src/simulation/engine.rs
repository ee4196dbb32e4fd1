//! The container engines of all hosts, with processes that start slowly, crash, or never get ready.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use weir_config::{HostName, InstanceId, Moment, Reach};
use weir_deploy::{Container, ContainerState, EngineInfo, Listing, ProviderError};

use crate::action::Action;

/// What is true, whatever the loop has heard of it.
#[derive(Debug, Default)]
pub(super) struct Engines {
    pub(super) containers: BTreeMap<InstanceId, Process>,
    addresses: u32,
    /// Those that do not answer, each with whether its whole host is cut off.
    pub(super) down: BTreeMap<HostName, bool>,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) container: Container,
    image: String,
    /// From then on it answers probes.
    pub(super) ready_at: Option<Moment>,
    /// Which of the container's processes it is.
    pub(super) epoch: u32,
}

pub(super) fn info() -> EngineInfo {
    EngineInfo {
        name: "simulated".to_owned(),
        version: "1".to_owned(),
        api_version: "1.41".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        cpus: 2,
        memory: 1 << 30,
    }
}

impl Engines {
    pub(super) fn is_down(&self, host: &HostName) -> bool {
        self.down.contains_key(host)
    }

    pub(super) fn listing(&self, host: &HostName) -> Listing {
        let of_host = self.containers.iter().filter(|(id, _)| id.host == *host);
        let containers = of_host.map(|(_, process)| process.container.clone());
        Listing { containers: containers.collect(), unknown: Vec::new() }
    }

    pub(super) fn look(&self, id: &InstanceId) -> Option<Container> {
        self.containers.get(id).map(|process| process.container.clone())
    }

    pub(super) fn state(&self, id: &InstanceId) -> Option<ContainerState> {
        self.containers.get(id).map(|process| process.container.state)
    }

    /// Whether a probe of it passes.
    pub(super) fn answers(&self, id: &InstanceId, now: Moment) -> bool {
        let is_ready = |process: &Process| {
            process.container.state == ContainerState::Running
                && process.ready_at.is_some_and(|at| at <= now)
        };
        let is_cut_off = self.down.get(&id.host) == Some(&true);
        !is_cut_off && self.containers.get(id).is_some_and(is_ready)
    }

    /// Does what it is told, and says what the container is then. `start_up` is how long a process
    /// takes to be ready.
    pub(super) fn perform(
        &mut self,
        action: &Action,
        start_up: Duration,
        now: Moment,
    ) -> Result<Option<Container>, ProviderError> {
        let id = action.instance();
        if let Action::Create(spec) = action {
            if spec.template.image == "missing" {
                let (image, reason) = ("missing".to_owned(), "not found".to_owned());
                return Err(ProviderError::Image { image, reason });
            }
            let made = self.containers.entry(id.clone()).or_insert_with(|| Process {
                container: Container {
                    instance: id.clone(),
                    id: format!("{id}/{}", now.0),
                    state: ContainerState::Created,
                    started_at: 0,
                    address: None,
                    reach: Reach::Direct,
                    port: spec.template.port,
                    restarts: 0,
                },
                image: spec.template.image.clone(),
                ready_at: None,
                epoch: 0,
            });
            return Ok(Some(made.container.clone()));
        }
        if let Action::Remove { .. } = action {
            self.containers.remove(id);
            return Ok(None);
        }
        let state = self.state(id).ok_or_else(|| ProviderError::NoContainer(id.clone()))?;
        match (action, state) {
            (Action::Start(_), ContainerState::Paused) => {
                return Err(ProviderError::Refused("it is paused".to_owned()));
            }
            (Action::Start(_), ContainerState::Running) => {}
            (Action::Start(_), _) => self.begin(id, start_up, now),
            (Action::Pause(_), ContainerState::Running) => self.set(id, ContainerState::Paused),
            (Action::Pause(_), ContainerState::Paused) => {}
            (Action::Pause(_), _) => {
                return Err(ProviderError::Refused("it does not run".to_owned()));
            }
            (Action::Unpause(_), ContainerState::Paused) => self.set(id, ContainerState::Running),
            (Action::Unpause(_), _) => {}
            (Action::Stop { .. }, _) => self.end(id, 143),
            (Action::Create(_) | Action::Remove { .. }, _) => {}
        }
        Ok(self.look(id))
    }

    /// A new process of a container.
    pub(super) fn begin(&mut self, id: &InstanceId, start_up: Duration, now: Moment) {
        self.addresses += 1;
        let address = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + self.addresses));
        let Some(process) = self.containers.get_mut(id) else { return };
        process.epoch += 1;
        process.ready_at = (process.image != "broken").then_some(now + start_up);
        process.container.state = ContainerState::Running;
        process.container.started_at = i128::from(now.0);
        process.container.address = Some(address);
    }

    /// The engine starts a process again that ended by itself.
    pub(super) fn restart(&mut self, id: &InstanceId, start_up: Duration, now: Moment) {
        if self.state(id) == Some(ContainerState::Restarting) {
            self.begin(id, start_up, now);
            if let Some(process) = self.containers.get_mut(id) {
                process.container.restarts += 1;
            }
        }
    }

    /// Its process ends by itself; false if there is none.
    pub(super) fn crash(&mut self, id: &InstanceId) -> bool {
        if self.state(id) != Some(ContainerState::Running) {
            return false;
        }
        self.set(id, ContainerState::Restarting);
        true
    }

    fn end(&mut self, id: &InstanceId, code: i64) {
        self.set(id, ContainerState::Exited { code, out_of_memory: false });
    }

    fn set(&mut self, id: &InstanceId, state: ContainerState) {
        let Some(process) = self.containers.get_mut(id) else { return };
        process.container.state = state;
        if !matches!(state, ContainerState::Running | ContainerState::Paused) {
            process.container.address = None;
        }
    }
}
