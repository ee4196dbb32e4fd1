//! One flight for each policy.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use weir_config::{FailoverName, FailoverPolicy, Moment, Snapshots, Steering};

use super::{
    clock::Clock,
    flight::Flight,
    handle::{Command, Commands, FailoverHandle},
    metrics::FailoverMetrics,
    pilot::Kept,
    references::References,
};
use crate::{
    event::Event,
    reconciler::World,
    store::{SavedFailover, Store},
};

/// Probes that are under way at a time, of all policies.
const MOST_PROBES: usize = 512;
/// After the store has failed.
const RETRY: Duration = Duration::from_secs(1);
/// Commands that wait for one policy.
const QUEUE: usize = 16;

/// What failover works with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    pub(crate) events: mpsc::Sender<Event>,
    /// Where our own proxy takes HTTPS from here.
    pub(crate) own: Option<SocketAddr>,
    /// Servers that have nothing to do with any target: where most of them are not to be reached,
    /// it is this machine that is cut off.
    pub(crate) references: Vec<SocketAddr>,
    pub(crate) metrics: FailoverMetrics,
}

/// What all flights share.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) with: Surroundings,
    pub(super) clock: Clock,
    pub(super) references: References,
    pub(super) probes: Arc<Semaphore>,
}

/// One policy's flight.
#[derive(Debug)]
struct Running {
    policy: watch::Sender<Arc<FailoverPolicy>>,
    commands: mpsc::Sender<Command>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The way to it, and the task that runs until the loop is gone.
pub(crate) fn keep(
    with: Surroundings,
    worlds: watch::Receiver<Arc<World>>,
) -> (FailoverHandle, impl Future<Output = ()> + Send) {
    let (handle, commands) = FailoverHandle::new();
    (handle, run(with, worlds, commands))
}

async fn run(with: Surroundings, mut worlds: watch::Receiver<Arc<World>>, mut commands: Commands) {
    let mut kept = load(&with.store).await;
    let last = kept.values().map(|(kept, _)| kept.at).max().unwrap_or_default();
    let mut tasks = JoinSet::new();
    let (references, asking) = References::new(with.references.clone(), rand::random());
    tasks.spawn(asking);
    let around = Arc::new(Around {
        with,
        clock: Clock::new(last),
        references,
        probes: Arc::new(Semaphore::new(MOST_PROBES)),
    });
    let mut running: BTreeMap<FailoverName, Running> = BTreeMap::new();
    let mut policies: imbl::OrdMap<FailoverName, Arc<FailoverPolicy>> = imbl::OrdMap::new();
    loop {
        let world = worlds.borrow_and_update().clone();
        let desired = &world.desired.policies;
        if !desired.ptr_eq(&policies) {
            running.retain(|name, _| desired.contains_key(name));
            for (name, former) in &policies {
                if desired.get(name) != Some(former) {
                    around.with.metrics.forget(former);
                }
            }
            for (name, policy) in desired {
                match running.get(name) {
                    Some(running) => running.change(policy),
                    None => {
                        let kept = kept.remove(name);
                        let started = start(&around, policy, kept, &worlds, &mut tasks);
                        running.insert(name.clone(), started);
                    }
                }
            }
            policies = desired.clone();
        }
        tokio::select! {
            changed = worlds.changed() => if changed.is_err() { return },
            Some((name, command)) = commands.recv() => {
                // Of one that has too much to do already, nobody waits for an answer.
                if let Some(running) = running.get(&name) {
                    let _ = running.commands.try_send(command);
                }
            }
            // Those of policies that are gone end, and no other.
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "a part of failover has ended");
                    return;
                }
            }
        }
    }
}

impl Running {
    fn change(&self, policy: &Arc<FailoverPolicy>) {
        self.policy.send_if_modified(|former| {
            let is_new = former != policy;
            former.clone_from(policy);
            is_new
        });
    }
}

fn start(
    around: &Arc<Around>,
    policy: &Arc<FailoverPolicy>,
    kept: Option<(Kept, Steering)>,
    worlds: &watch::Receiver<Arc<World>>,
    tasks: &mut JoinSet<()>,
) -> Running {
    let (sender, policies) = watch::channel(policy.clone());
    let (commands, received) = mpsc::channel(QUEUE);
    let flight = Flight::fly(around.clone(), policies, kept, worlds.clone(), received);
    Running { policy: sender, commands, task: tasks.spawn(flight) }
}

/// What was kept of each policy. One that cannot be read begins anew.
async fn load(store: &Store) -> BTreeMap<FailoverName, (Kept, Steering)> {
    let saved = loop {
        match store.failover_states().await {
            Ok(saved) => break saved,
            Err(error) => tracing::error!(%error, "what failover had decided cannot be read"),
        }
        sleep(RETRY).await;
    };
    let read = |saved: SavedFailover| match serde_json::from_str(&saved.state) {
        Ok(kept) => Some((saved.policy, (kept, saved.steering))),
        Err(error) => {
            let policy = saved.policy;
            tracing::error!(%policy, %error, "what was decided for it cannot be read: it begins anew");
            None
        }
    };
    saved.into_iter().filter_map(read).collect()
}

impl Around {
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }
}
