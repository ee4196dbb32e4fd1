//! Does what the plan says, and tells what came of it. It chooses nothing.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use weir_config::{Activity, Moment};
use weir_deploy::{Container, ContainerState, Provider, ProviderError};

use crate::{
    action::{Action, StopReason},
    event::Event,
};

/// Slow work on the engine at once. A start of a container loads two cores fully with four.
const BULK: usize = 4;
/// Wakes at once: they are short, and somebody waits for each.
const WAKES: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Executor {
    provider: Arc<dyn Provider>,
    activity: Arc<Activity>,
    events: mpsc::WeakSender<Event>,
    bulk: Arc<Semaphore>,
    wakes: Arc<Semaphore>,
}

impl Executor {
    pub(crate) fn new(
        provider: Arc<dyn Provider>,
        activity: Arc<Activity>,
        events: &mpsc::Sender<Event>,
    ) -> Self {
        let (bulk, wakes) = (Arc::new(Semaphore::new(BULK)), Arc::new(Semaphore::new(WAKES)));
        Self { provider, activity, events: events.downgrade(), bulk, wakes }
    }

    /// Begins an action; its end is an event. `container` is what it acts on, as last seen.
    pub(crate) fn perform(&self, action: Action, container: Option<Container>) {
        let this = self.clone();
        tokio::spawn(async move {
            let lane = match action {
                Action::Start(_) | Action::Pause(_) | Action::Unpause(_) => &this.wakes,
                Action::Create(_) | Action::Stop { .. } | Action::Remove { .. } => &this.bulk,
            };
            // The semaphores are never closed; without a permit the work would only be unbounded.
            let _permit = lane.acquire().await.ok();
            let began = Moment::now();
            let result = this.run(&action, container).await;
            let took_ms = Moment::now().since(began).as_millis() as u64;
            match &result {
                Ok(_) => tracing::info!(%action, took_ms, "done"),
                Err(error) => tracing::warn!(%action, took_ms, %error, "failed"),
            }
            if let Some(events) = this.events.upgrade() {
                // Only fails when the loop is gone, and then nobody asks.
                let _ = events.send(Event::Done { action, result }).await;
            }
        });
    }

    /// Performs an action and returns the container as it is then.
    async fn run(
        &self,
        action: &Action,
        container: Option<Container>,
    ) -> Result<Option<Container>, ProviderError> {
        let provider = &self.provider;
        let in_state = |state| container.map(|container| Container { state, ..container });
        match action {
            Action::Create(spec) => provider.create(spec).await?,
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
                provider.remove(instance).await?;
                self.activity.remove_instance(instance);
                return Ok(None);
            }
        }
        provider.inspect(action.instance()).await
    }
}
