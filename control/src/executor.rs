//! Does what the plan says, and tells what came of it. It chooses nothing.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Duration, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir_config::{Activity, EndpointId, HostName, Moment};
use weir_deploy::{Container, ContainerState, Provider, ProviderError};

use crate::{
    action::{Action, StopReason},
    event::Event,
    failpoint,
    failure::ActionError,
    vault::Vault,
};

/// Images that are pulled and containers that are made, at once.
const CREATES: usize = 4;
/// Containers that are ended or removed at once; each may take its grace.
const ENDS: usize = 8;
/// Starts at once: four of them load two cores fully.
const STARTS: usize = 8;
/// Freezes and thaws at once: they are short, and somebody waits for each thaw.
const THAWS: usize = 32;

/// Has room for so much at once, and keeps nothing waiting: an action that cannot begin now is
/// planned again when there is room, if it is still right then.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    /// Of each host, so that one whose engine hangs holds up no other.
    lanes: imbl::OrdMap<HostName, Lanes>,
    vault: Vault,
    activity: Arc<Activity>,
    events: mpsc::WeakSender<Event>,
    under_way: TaskTracker,
    abandoned: CancellationToken,
}

/// One host's engine, and what it may be asked at once.
#[derive(Clone, Debug)]
struct Lanes {
    provider: Arc<dyn Provider>,
    creates: Arc<Semaphore>,
    ends: Arc<Semaphore>,
    starts: Arc<Semaphore>,
    thaws: Arc<Semaphore>,
}

/// Leave to begin one action.
#[derive(Debug)]
pub(crate) struct Room {
    provider: Arc<dyn Provider>,
    /// Given back when dropped.
    permit: OwnedSemaphorePermit,
}

impl Lanes {
    fn new(provider: Arc<dyn Provider>) -> Self {
        let lane = |size| Arc::new(Semaphore::new(size));
        Self {
            provider,
            creates: lane(CREATES),
            ends: lane(ENDS),
            starts: lane(STARTS),
            thaws: lane(THAWS),
        }
    }
}

impl Executor {
    pub(crate) fn new(vault: Vault, activity: Arc<Activity>, events: &mpsc::Sender<Event>) -> Self {
        Self {
            lanes: imbl::OrdMap::new(),
            vault,
            activity,
            events: events.downgrade(),
            under_way: TaskTracker::new(),
            abandoned: CancellationToken::new(),
        }
    }

    /// From now on, actions on this host are this engine's.
    pub(crate) fn open(&mut self, host: HostName, provider: Arc<dyn Provider>) {
        self.lanes.insert(host, Lanes::new(provider));
    }

    /// From now on, only these hosts have room for actions.
    pub(crate) fn close_all_but(&mut self, is_kept: impl Fn(&HostName) -> bool) {
        self.lanes = self
            .lanes
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, lanes)| (name.clone(), lanes.clone()))
            .collect();
    }

    pub(crate) fn providers(&self) -> imbl::OrdMap<HostName, Arc<dyn Provider>> {
        let lanes = self.lanes.iter();
        lanes.map(|(name, lanes)| (name.clone(), lanes.provider.clone())).collect()
    }

    /// Waits for the actions under way, and abandons those that take longer than `limit`. When this
    /// returns, nothing asks the engine for anything.
    pub(crate) async fn end(self, limit: Duration) {
        self.under_way.close();
        if timeout(limit, self.under_way.wait()).await.is_err() {
            self.abandoned.cancel();
            self.under_way.wait().await;
        }
    }

    /// Room for this action, if there is any now.
    pub(crate) fn room_for(&self, action: &Action) -> Option<Room> {
        let lanes = self.lanes.get(&action.instance().host)?;
        let lane = match action {
            Action::Create(_) => &lanes.creates,
            Action::Stop { .. } | Action::Remove { .. } => &lanes.ends,
            Action::Start(_) => &lanes.starts,
            Action::Pause(_) | Action::Unpause(_) => &lanes.thaws,
        };
        let permit = lane.clone().try_acquire_owned().ok()?;
        Some(Room { provider: lanes.provider.clone(), permit })
    }

    /// Begins an action; its end is an event. `container` is what it acts on, as last seen.
    pub(crate) fn perform(&self, action: Action, container: Option<Container>, room: Room) {
        let this = self.clone();
        let abandoned = self.abandoned.clone();
        let performed = async move {
            let began = Moment::now();
            let Room { provider, permit } = room;
            failpoint::pass("before", action.verb());
            let result = this.run(&*provider, &action, container).await;
            failpoint::pass("after", action.verb());
            let took_ms = Moment::now().since(began).as_millis() as u64;
            match &result {
                Ok(_) => tracing::info!(%action, took_ms, "done"),
                Err(error) => tracing::warn!(%action, took_ms, %error, "failed"),
            }
            // Before the event, so that the turn that follows it finds the room.
            drop(permit);
            if let Some(events) = this.events.upgrade() {
                // Only fails when the loop is gone, and then nobody asks.
                let _ = events.send(Event::Done { action, result }).await;
            }
        };
        self.under_way.spawn(abandoned.run_until_cancelled_owned(performed));
    }

    /// Performs an action and returns the container as it is then.
    async fn run(
        &self,
        provider: &dyn Provider,
        action: &Action,
        container: Option<Container>,
    ) -> Result<Option<Container>, ActionError> {
        let in_state = |state| container.map(|container| Container { state, ..container });
        match action {
            Action::Create(spec) => {
                provider.create(spec, &self.vault.secrets_of(spec).await?).await?;
            }
            Action::Start(instance) => provider.start(instance).await?,
            // These change nothing but the state, and a wake does not wait for another look.
            Action::Pause(instance) => {
                provider.pause(instance).await?;
                return Ok(in_state(ContainerState::Paused));
            }
            Action::Unpause(instance) => {
                provider.unpause(instance).await?;
                return Ok(in_state(ContainerState::Running));
            }
            Action::Stop { instance, grace, why } => {
                if let StopReason::Failed(failure) = why {
                    tracing::warn!(%instance, reason = failure.reason.as_str(), failure.message);
                }
                provider.stop(instance, *grace).await?;
            }
            Action::Remove { instance, grace } => {
                match provider.stop(instance, *grace).await {
                    Ok(()) | Err(ProviderError::NoContainer(_)) => {}
                    // Removing ends it by force.
                    Err(error) => tracing::warn!(%instance, %error, "did not stop"),
                }
                failpoint::pass("amid", "remove");
                provider.remove(instance).await?;
                self.activity.remove_endpoint(&EndpointId::from(instance.clone()));
                return Ok(None);
            }
        }
        Ok(provider.inspect(action.instance()).await?)
    }
}
