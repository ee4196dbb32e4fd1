//! Follows the world beside the loop, and notes what has happened: events, the logs of deployments,
//! and what has come of operations.
//!
//! Nothing here decides anything, and the loop never waits for it. It compares one world with the
//! next that it sees; worlds between them may pass unseen.

mod compare;
mod operations;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use weir_config::{AppName, Moment};

use self::compare::{Differences, compare};
pub(crate) use self::operations::settle_operations;
use crate::{
    api::wire::Phase,
    reconciler::World,
    status,
    store::{NewEvent, Note, Store},
};

/// Notes that wait to be written. What finds no room is counted, and told later.
const QUEUE: usize = 1024;
/// Notes written at once.
const BATCH: usize = 512;
/// Between two writes: they share the disk with those that somebody waits for.
const PACE: Duration = Duration::from_millis(100);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often what is too old is removed.
const PRUNE: Duration = Duration::from_hours(1);

/// Follows the worlds until there are no more.
pub(crate) async fn follow(mut worlds: watch::Receiver<Arc<World>>, notes: mpsc::Sender<Note>) {
    let mut history = History::new(worlds.borrow_and_update().clone(), notes);
    while worlds.changed().await.is_ok() {
        let world = worlds.borrow_and_update().clone();
        history.take(world, Moment::now());
    }
}

/// A queue of notes, and whoever writes them down.
pub(crate) fn notes() -> (mpsc::Sender<Note>, mpsc::Receiver<Note>) {
    mpsc::channel(QUEUE)
}

/// Writes notes to the store, and removes what is too old, until there are no more.
pub(crate) async fn write(store: Store, mut notes: mpsc::Receiver<Note>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut prune_at = Instant::now();
    while notes.recv_many(&mut batch, BATCH).await > 0 {
        while let Err(error) = store.note(batch.clone()).await {
            tracing::warn!(%error, "what happened cannot be noted; trying again");
            sleep(RETRY).await;
        }
        batch.clear();
        if Instant::now() >= prune_at {
            prune_at = Instant::now() + PRUNE;
            if let Err(error) = store.prune().await {
                tracing::warn!(%error, "what is too old cannot be removed; trying again later");
            }
        }
        sleep(PACE).await;
    }
}

/// What has been told, so that only what changes is.
struct History {
    former: Arc<World>,
    phases: BTreeMap<AppName, Phase>,
    notes: mpsc::Sender<Note>,
    /// Events that found no room.
    lost: u64,
}

impl History {
    fn new(world: Arc<World>, notes: mpsc::Sender<Note>) -> Self {
        Self { former: world, phases: BTreeMap::new(), notes, lost: 0 }
    }

    fn take(&mut self, world: Arc<World>, now: Moment) {
        let mut differences = compare(&self.former, &world);
        for app in std::mem::take(&mut differences.apps) {
            self.phase(&app, &world, now, &mut differences);
        }
        for event in differences.events {
            self.tell(event);
        }
        self.former = world;
    }

    fn phase(&mut self, name: &AppName, world: &World, now: Moment, found: &mut Differences) {
        let Some(app) = world.desired.apps.get(name) else {
            self.phases.remove(name);
            return;
        };
        let standing = status::standing(app, world, now);
        let phase = standing.phase;
        let former = self.phases.insert(name.clone(), phase).unwrap_or(Phase::Unknown);
        // What it was before this process began is not known.
        if former == phase || former == Phase::Unknown {
            return;
        }
        let (former, present) = (former.as_str(), phase.as_str());
        let reason = match &standing.failure {
            Some(failure) if matches!(phase, Phase::Failed | Phase::Degraded) => &failure.reason,
            _ => present,
        };
        let message = format!("{former} → {present}: {}", standing.summary());
        found.app(name, None, "PhaseChanged", reason, message);
    }

    /// Never waits: it is the worlds that must not be missed.
    fn tell(&mut self, event: NewEvent) {
        if self.lost > 0 {
            let lost = NewEvent {
                kind: "Host",
                name: weir_config::HostName::local().to_string(),
                deployment: None,
                what: "EventsLost",
                reason: "QueueFull".to_owned(),
                message: format!("{} events were not noted", self.lost),
            };
            match self.notes.try_send(Note::Event(lost)) {
                Ok(()) => self.lost = 0,
                Err(_) => return self.lost += 1,
            }
        }
        if self.notes.try_send(Note::Event(event)).is_err() {
            self.lost += 1;
        }
    }
}
