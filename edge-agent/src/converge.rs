//! Makes the engine run what is to run here, when nobody else sees to it: after a start of the
//! machine or of the engine, and for as long as control is out of reach.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};
use weir_config::InstanceId;
use weir_deploy::{ContainerSpec, ContainerState, Provider, ProviderError};

use crate::{
    keeper::Keeper,
    slice::{Kept, Level},
};

/// How often everything is looked at though nothing is told.
const LOOK: Duration = Duration::from_secs(15);
/// Several things that happen at once are looked at once.
const SETTLE: Duration = Duration::from_millis(300);
/// Between two tries to reach the engine.
const RETRY: Duration = Duration::from_millis(500);
/// The wait before an instance that did not stay up is started again: doubles from one to the other.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// When an instance may be tried again, and how long the wait after that is.
type Waits = HashMap<InstanceId, (Instant, Duration)>;

/// What has to be done to bring an instance to where it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Make,
    Start,
    Unpause,
}

/// Runs for ever.
pub(crate) async fn keep(keeper: Arc<Keeper>) {
    let mut waits = Waits::new();
    let mut is_down = false;
    loop {
        if let Err(error) = follow(&keeper, &mut waits).await
            && !std::mem::replace(&mut is_down, true)
        {
            tracing::warn!(%error, "the engine is out of reach; trying again");
        }
        sleep(RETRY).await;
    }
}

/// From the engine's start to its end.
async fn follow(keeper: &Keeper, waits: &mut Waits) -> Result<(), ProviderError> {
    let mut events = keeper.engine.events().await?;
    // Whoever leads: an engine that has just started is behind.
    converge(keeper, waits).await?;
    loop {
        match timeout(LOOK, events.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(error),
            Ok(Some(Ok(_))) => sleep(SETTLE).await,
            Err(_) => keeper.engine.ping().await?,
        }
        match keeper.is_led() {
            true => adopt(keeper).await?,
            false => converge(keeper, waits).await?,
        }
    }
}

/// Takes for meant what runs while control leads: the note of its start may have been lost with a
/// damaged file.
async fn adopt(keeper: &Keeper) -> Result<(), ProviderError> {
    for instance in instances(keeper, |kept| kept.level == Level::Made) {
        let state = state(keeper, &instance).await?;
        if state == Some(Some(ContainerState::Running)) {
            keeper.adopt(&instance);
        }
    }
    Ok(())
}

/// How the container of an instance is, if there is one; `None` if the engine cannot look at it,
/// which is no reason not to see to the others.
async fn state(
    keeper: &Keeper,
    instance: &InstanceId,
) -> Result<Option<Option<ContainerState>>, ProviderError> {
    match keeper.engine.inspect(instance).await {
        Ok(container) => Ok(Some(container.map(|container| container.state))),
        Err(error @ ProviderError::Unreachable { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(%instance, %error, "cannot be looked at");
            Ok(None)
        }
    }
}

fn instances(keeper: &Keeper, which: impl Fn(&Kept) -> bool) -> Vec<InstanceId> {
    keeper.look(|slice| {
        let kept = slice.instances.values().filter(|kept| which(kept));
        kept.map(|kept| kept.spec.instance.clone()).collect()
    })
}

async fn converge(keeper: &Keeper, waits: &mut Waits) -> Result<(), ProviderError> {
    let instances = instances(keeper, |_| true);
    waits.retain(|instance, _| instances.contains(instance));
    for instance in instances {
        let Some(state) = state(keeper, &instance).await? else { continue };
        let name = instance.container_name();
        let wanted = keeper.look(|slice| {
            let kept = slice.instances.get(&name)?;
            Some((step(kept, state)?, kept.spec.clone(), kept.secrets()))
        });
        let Some((step, spec, secrets)) = wanted else {
            forgive(waits, &instance);
            continue;
        };
        let now = Instant::now();
        let (at, wait) = waits.get(&instance).copied().unwrap_or((now, FIRST_WAIT));
        if now < at {
            continue;
        }
        waits.insert(instance.clone(), (now + wait, (wait * 2).min(LONGEST_WAIT)));
        let secrets = secrets.map_err(ProviderError::Refused);
        let done = match secrets {
            Ok(secrets) => take(keeper, step, &spec, &secrets).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => tracing::info!(%instance, ?step, "brought to where it is to be"),
            Err(error @ ProviderError::Unreachable { .. }) => return Err(error),
            Err(error) => tracing::warn!(%instance, ?step, %error, "not where it is to be"),
        }
    }
    Ok(())
}

/// One that has stayed up for as long as it would have had to wait has come through.
fn forgive(waits: &mut Waits, instance: &InstanceId) {
    let is_over = waits.get(instance).is_some_and(|(at, wait)| Instant::now() > *at + *wait);
    if is_over {
        waits.remove(instance);
    }
}

async fn take(
    keeper: &Keeper,
    step: Step,
    spec: &ContainerSpec,
    secrets: &weir_config::Secrets,
) -> Result<(), ProviderError> {
    let (engine, instance) = (&keeper.engine, &spec.instance);
    match step {
        Step::Make => {
            engine.create(spec, secrets).await?;
            engine.start(instance).await
        }
        Step::Start => engine.start(instance).await,
        Step::Unpause => engine.unpause(instance).await,
    }
}

/// What is to be done about an instance, if anything is. What sleeps stays asleep, and what has
/// ended as it may has ended.
fn step(kept: &Kept, state: Option<ContainerState>) -> Option<Step> {
    if kept.level != Level::Running {
        return None;
    }
    match state {
        None => Some(Step::Make),
        Some(ContainerState::Created) => Some(Step::Start),
        Some(ContainerState::Exited { code, .. }) => {
            kept.spec.template.restart.restarts(code).then_some(Step::Start)
        }
        Some(ContainerState::Paused) => Some(Step::Unpause),
        Some(ContainerState::Running | ContainerState::Restarting | ContainerState::Dead) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, Mutex},
    };

    use serde_json::json;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::UnixListener,
    };
    use weir_config::Secrets;

    use super::*;
    use crate::{identity::Identity, slice::Slice, transport::Way};

    fn kept(restart: &str, level: Level) -> Kept {
        let template = json!({
            "image": "app", "port": 80, "command": [], "env": {}, "volumes": [], "ports": [],
            "resources": {"millicpus": null, "memory": null, "pids": 1}, "restart": restart,
        });
        let instance = json!({"app": "a", "deployment": 1, "ordinal": 0, "host": "pi"});
        let spec = ContainerSpec {
            instance: serde_json::from_value(instance).unwrap(),
            template: Arc::new(serde_json::from_value(template).unwrap()),
        };
        let mut kept = Kept::new(&spec, &Secrets::new());
        kept.level = level;
        kept
    }

    #[test]
    fn what_is_to_run_is_brought_up_and_what_sleeps_or_has_ended_is_left() {
        let exited = |code| Some(ContainerState::Exited { code, out_of_memory: false });
        for (restart, state, expected) in [
            ("always", None, Some(Step::Make)),
            ("always", Some(ContainerState::Created), Some(Step::Start)),
            ("always", exited(0), Some(Step::Start)),
            ("always", Some(ContainerState::Paused), Some(Step::Unpause)),
            ("always", Some(ContainerState::Running), None),
            ("always", Some(ContainerState::Restarting), None),
            ("on-failure", exited(0), None),
            ("on-failure", exited(137), Some(Step::Start)),
            ("never", exited(1), None),
        ] {
            assert_eq!(
                step(&kept(restart, Level::Running), state),
                expected,
                "{restart} {state:?}"
            );
            for level in [Level::Made, Level::Paused, Level::Stopped] {
                assert_eq!(step(&kept(restart, level), state), None, "{level:?} {state:?}");
            }
        }
    }

    /// An engine that fails at whatever it is asked; returns what that was.
    fn failing_engine(socket: &Path) -> Arc<Mutex<Vec<String>>> {
        const ANSWER: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\
            content-type: application/json\r\ncontent-length: 16\r\n\r\n{\"message\":\"no\"}";
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (listener, noted) = (UnixListener::bind(socket).unwrap(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                noted.lock().unwrap().push(line);
                stream.write_all(ANSWER).await.unwrap();
            }
        });
        asked
    }

    #[tokio::test]
    async fn one_that_cannot_be_looked_at_keeps_no_other_from_being_seen_to() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let asked = failing_engine(&socket);
        let mut slice = Slice::default();
        for app in ["a", "b"] {
            let mut kept = kept("always", Level::Running);
            kept.spec.instance.app = app.parse().unwrap();
            slice.instances.insert(kept.spec.instance.container_name(), kept);
        }
        slice.save(dir.path()).unwrap();
        let identity = Identity {
            name: "pi".parse().unwrap(),
            control: "control:1".to_owned(),
            transport: Way::Network,
            certificate: String::new(),
            authority: String::new(),
            cluster: "cluster".to_owned(),
            not_before: 0,
        };
        let keeper = Keeper::new(&identity, socket, dir.path().to_owned());
        converge(&keeper, &mut Waits::new()).await.unwrap();
        adopt(&keeper).await.unwrap();
        let asked = asked.lock().unwrap();
        for name in ["weir-a-1-0", "weir-b-1-0"] {
            assert!(asked.iter().any(|line| line.contains(name)), "{name}: {asked:?}");
        }
    }
}
