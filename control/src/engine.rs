//! Watches a host's engine: subscribe, then list, then follow; and list anew now and then, so that
//! correctness never depends on an event.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use weir_config::{Engine, Host, InstanceId, Moment};
use weir_deploy::{ContainerEvent, Provider, ProviderError};

use crate::{
    event::{Death, Event},
    mask::Mask,
    vault::Vault,
};

/// How often everything is listed though the events flow.
const RESYNC: Duration = Duration::from_secs(30);
/// Between two tries to reach an engine that is down: asking a socket costs next to nothing, and
/// after a restart of the engine its containers may have other addresses. One that is far away is
/// not asked more often than it is when it answers.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_millis(500);
/// The last lines of a process that died, for whoever has to find out why.
const LOG_TAIL: usize = 20;
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// Runs until the loop is gone.
pub(crate) async fn watch(
    host: Arc<Host>,
    provider: Arc<dyn Provider>,
    vault: Vault,
    events: mpsc::Sender<Event>,
) {
    let longest = match host.engine {
        // To ask for a device is to wait for it.
        Engine::Local | Engine::Device => LONGEST_RETRY,
        Engine::Unix(_) | Engine::Tcp { .. } | Engine::Ssh(_) => host.disconnect.interval(),
    };
    let mut retry = FIRST_RETRY;
    let mut last_error = None;
    while !events.is_closed() {
        match follow(&host, &provider, &vault, &events, &mut retry).await {
            Ok(()) => {
                tracing::warn!(host = %host.name, "the engine ended its stream of events; subscribing again")
            }
            Err(error) => {
                // An engine that stays away is told once, not every few seconds.
                if last_error.replace(error.clone()).as_ref() != Some(&error) {
                    tracing::warn!(host = %host.name, %error, "the engine is out of reach; trying again");
                }
                let host = host.name.clone();
                if events.send(Event::EngineDown { host, error }).await.is_err() {
                    return;
                }
            }
        }
        sleep(retry).await;
        retry = (retry * 2).min(longest);
    }
}

async fn follow(
    host: &Host,
    provider: &Arc<dyn Provider>,
    vault: &Vault,
    events: &mpsc::Sender<Event>,
    retry: &mut Duration,
) -> Result<(), ProviderError> {
    let interval = host.disconnect.interval();
    let limit = interval * 2;
    let info = within(limit, provider.info()).await?;
    let mut changes = within(limit, provider.events()).await?;
    *retry = FIRST_RETRY;
    let mut ask_at = Instant::now() + interval;
    loop {
        let began = Moment::now();
        let listing = provider.list().await?;
        let listed =
            Event::EngineListed { host: host.name.clone(), info: info.clone(), listing, began };
        if events.send(listed).await.is_err() {
            return Ok(());
        }
        let resync_at = Instant::now() + RESYNC;
        while Instant::now() < resync_at {
            // A connection that is cut off says nothing, so it has to be asked for.
            match timeout_at(ask_at, changes.next()).await {
                Ok(Some(Ok(change))) => {
                    look(provider.clone(), vault.clone(), change, events.clone());
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Ok(()),
                Err(_) => {
                    within(limit, provider.ping()).await?;
                    ask_at = Instant::now() + interval;
                    if events.send(Event::EngineAnswered(host.name.clone())).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    let in_time = timeout(limit, call).await;
    let call = "asking whether it is there".into();
    in_time.unwrap_or(Err(ProviderError::TimedOut { call, limit }))
}

/// Looks at a container that something happened to, and tells what it is now and why it died.
fn look(
    provider: Arc<dyn Provider>,
    vault: Vault,
    change: ContainerEvent,
    events: mpsc::Sender<Event>,
) {
    tokio::spawn(async move {
        let instance = change.instance;
        let began = Moment::now();
        if let Ok(container) = provider.inspect(&instance).await {
            let seen = Event::ContainerSeen { instance: instance.clone(), container, began };
            if events.send(seen).await.is_err() {
                return;
            }
        }
        if let Some(exit_code) = change.exit_code {
            let mask = vault.mask(&instance.app).await;
            let log_tail = log_tail(&*provider, &instance, &mask).await;
            let death = Death { at: change.at, exit_code, log_tail };
            // Only fails when the loop is gone.
            let _ = events.send(Event::Died { instance, death }).await;
        }
    });
}

/// The last lines that an instance wrote, as far as they can be had in time.
async fn log_tail(provider: &dyn Provider, instance: &InstanceId, mask: &Mask) -> Vec<String> {
    let deadline = Instant::now() + LOG_LIMIT;
    let mut tail = Vec::new();
    let logs = timeout_at(deadline, provider.logs(instance, Some(LOG_TAIL), false)).await;
    let Ok(Ok(mut lines)) = logs else { return tail };
    while let Ok(Some(line)) = timeout_at(deadline, lines.next()).await {
        tail.extend(line.ok().map(|line| mask.apply(line.text)));
    }
    tail
}
