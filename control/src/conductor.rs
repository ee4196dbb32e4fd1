//! Carries on the operations that take many steps of their own: rolling updates of shards, and
//! bringing instances to where they would be placed.
//!
//! Each step follows from what is stored and what is seen, and none from what was done before: so
//! after a restart they go on by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use weir_config::{AppName, Moment};

use crate::{
    event::Event,
    host::HostSeen,
    reconciler::World,
    rolling_update::{Step, step},
    status,
    store::{Operation, OperationState, Outcome, Store, StoreError, Verb},
    time::unix_millis,
};

/// Between two looks, so that a busy world is not looked at each time that it moves.
const PACE: Duration = Duration::from_millis(50);
/// After a look that failed, as on a full disk.
const RETRY: Duration = Duration::from_secs(2);
/// Instances that are not where they should be by then have somewhere else to stay.
const CONVERGE_LIMIT: Duration = Duration::from_secs(3600);

/// Carries them on until the loop is gone.
pub(crate) async fn conduct(
    store: Store,
    mut worlds: watch::Receiver<Arc<World>>,
    events: mpsc::Sender<Event>,
) {
    let mut operations = store.operations_changed();
    operations.mark_changed();
    let mut conductor = Conductor { store, events, began_at: BTreeMap::new() };
    let mut is_idle = true;
    loop {
        tokio::select! {
            changed = operations.changed() => if changed.is_err() { return },
            changed = worlds.changed(), if !is_idle => if changed.is_err() { return },
        }
        let world = worlds.borrow_and_update().clone();
        match conductor.round(&world).await {
            Ok(left) => is_idle = left == 0,
            Err(error) => {
                tracing::warn!(%error, "operations cannot be carried on; trying again");
                operations.mark_changed();
                sleep(RETRY).await;
            }
        }
        sleep(PACE).await;
    }
}

struct Conductor {
    store: Store,
    events: mpsc::Sender<Event>,
    /// The revision at which an operation was first seen: the world that it is about is no older.
    began_at: BTreeMap<u64, u64>,
}

impl Conductor {
    /// Takes the next step of each; returns how many go on.
    async fn round(&mut self, world: &World) -> Result<usize, StoreError> {
        let revision = *self.store.revisions().borrow();
        let mut open = self.store.open_operations().await?;
        open.retain(Operation::is_conducted);
        let is_open = |number: &u64| open.iter().any(|operation| operation.number == *number);
        self.began_at.retain(|number, _| is_open(number));
        let mut settled = Vec::new();
        for operation in &open {
            let began_at = *self.began_at.entry(operation.number).or_insert(revision);
            let is_known = world.observed.hosts.values().all(|host| !HostSeen::is_expected(host));
            if !is_known || world.observed.served.revision < began_at {
                continue;
            }
            let outcome = match Verb::parse(&operation.verb) {
                Some(Verb::RollingUpdate) => self.update(operation, world).await?,
                _ => self.converge(operation, world).await,
            };
            settled.extend(outcome.map(|outcome| (operation.number, outcome)));
        }
        if !settled.is_empty() {
            self.store.settle(&settled).await?;
        }
        Ok(open.len() - settled.len())
    }

    async fn update(
        &self,
        operation: &Operation,
        world: &World,
    ) -> Result<Option<Outcome>, StoreError> {
        let Some(update) = self.store.rolling_update(operation.number).await? else {
            let message = "what was to be updated is no longer known".to_owned();
            return Ok(Some(outcome(OperationState::Failed, message)));
        };
        match step(&update, world, Moment::now()) {
            Step::Wait => {}
            Step::Deploy(apps) => {
                for app in apps {
                    self.store.deploy_next(operation, &update.image, app).await?;
                }
            }
            Step::End(state, message) => return Ok(Some(outcome(state, message))),
        }
        Ok(None)
    }

    async fn converge(&self, operation: &Operation, world: &World) -> Option<Outcome> {
        let shard = operation.target.name.parse().ok().filter(|_| operation.target.kind == "Shard");
        let drift = status::drift(shard.as_ref(), world);
        if drift.is_empty() {
            let message = "every instance is where it would be placed".to_owned();
            return Some(outcome(OperationState::Succeeded, message));
        }
        if unix_millis() - operation.at > CONVERGE_LIMIT.as_millis() as i64 {
            let message = format!("{} instances are still on other hosts", drift.len());
            return Some(outcome(OperationState::Failed, message));
        }
        let is_told =
            |app: &AppName| world.observed.apps.get(app).is_some_and(|state| state.converging);
        let apps: BTreeSet<AppName> = drift.iter().filter_map(|d| d.app.parse().ok()).collect();
        let apps: Vec<_> = apps.into_iter().filter(|app| !is_told(app)).collect();
        if !apps.is_empty() {
            // If the loop is gone, whoever comes next carries it on.
            let _ = self.events.send(Event::ConvergeWanted(apps)).await;
        }
        None
    }
}

fn outcome(state: OperationState, message: String) -> Outcome {
    Outcome { state, message, at: unix_millis() }
}
