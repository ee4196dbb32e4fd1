//! Follows the world beside the loop, and notes what has happened: events, the logs of deployments,
//! and what has come of operations.
//!
//! Nothing here decides anything, and the loop never waits for it. It compares one world with the
//! next that it sees; worlds between them may pass unseen.

pub(crate) mod compare;
mod operations;
mod output;
mod transitions;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use weir_config::{AppName, DeploymentState, HostName, Moment};

use self::{
    compare::{Differences, compare},
    output::Outputs,
};
pub(crate) use self::{operations::settle_operations, transitions::Transitions};
use crate::{
    api::wire::Phase,
    engines::Providers,
    reconciler::World,
    status,
    store::{DeploymentId, KnownLog, NewEvent, Note, Store},
    time::unix_millis,
    vault::Vault,
};

/// Notes of a kind that wait to be written. An event that finds no room is counted, and told later;
/// a line of output waits in its container's log.
pub(crate) const QUEUE: usize = 1024;
/// Lines written at once.
const BATCH: usize = 512;
/// Between two writes: they share the disk with those that somebody waits for.
const PACE: Duration = Duration::from_millis(100);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often what is too old is removed.
const PRUNE: Duration = Duration::from_hours(1);

/// Where that which is noticed goes.
pub(crate) struct Told {
    pub(crate) events: mpsc::Sender<Note>,
    /// What containers write.
    pub(crate) lines: mpsc::Sender<Note>,
    pub(crate) transitions: watch::Sender<Transitions>,
}

/// Follows the worlds until there are no more.
pub(crate) async fn follow(
    mut worlds: watch::Receiver<Arc<World>>,
    store: Store,
    providers: Providers,
    vault: Vault,
    tell: Told,
) {
    let known = loop {
        match store.known_deployment_logs().await {
            Ok(known) => break known,
            Err(error) => tracing::warn!(%error, "the logs of deployments cannot be read"),
        }
        sleep(RETRY).await;
    };
    let Told { events, lines, transitions } = tell;
    let outputs = Outputs::new(providers, store, vault, lines);
    let world = worlds.borrow_and_update().clone();
    let mut history = History::new(world.clone(), &known, outputs, events, transitions);
    history.take(world, Moment::now());
    while worlds.changed().await.is_ok() {
        let world = worlds.borrow_and_update().clone();
        history.take(world, Moment::now());
    }
}

/// Writes notes to the store, and removes what is too old, until there are no more. What is told
/// by the worlds goes before what containers write, of which there may be much.
pub(crate) async fn write(
    store: Store,
    mut events: mpsc::Receiver<Note>,
    mut lines: mpsc::Receiver<Note>,
) {
    let (mut batch, mut written) = (Vec::with_capacity(QUEUE), Vec::with_capacity(BATCH));
    let mut prune_at = Instant::now();
    loop {
        let received = tokio::select! {
            biased;
            received = events.recv_many(&mut batch, QUEUE) => received,
            received = lines.recv_many(&mut written, BATCH) => received,
            () = sleep_until(prune_at) => {
                prune_at = Instant::now() + PRUNE;
                if let Err(error) = store.prune().await {
                    tracing::warn!(%error, "what is too old cannot be removed; trying again later");
                }
                continue;
            }
        };
        if received == 0 {
            return;
        }
        batch.append(&mut written);
        while let Err(error) = store.note(&batch).await {
            tracing::warn!(%error, "what happened cannot be noted; trying again");
            sleep(RETRY).await;
        }
        batch.clear();
        sleep(PACE).await;
    }
}

/// What has been told, so that only what changes is.
struct History {
    former: Arc<World>,
    /// Whether a world has been seen in which it was known what runs.
    is_complete: bool,
    phases: BTreeMap<AppName, Phase>,
    /// The newest deployment of each app that was told of.
    told: BTreeMap<AppName, u64>,
    transitions: watch::Sender<Transitions>,
    /// The deployments that are not settled.
    logs: BTreeMap<AppName, OpenLog>,
    outputs: Outputs,
    /// What is settled now, for after the events that led to it.
    ends: Vec<(DeploymentId, &'static str)>,
    events: mpsc::Sender<Note>,
    /// Events that found no room.
    lost: u64,
}

/// The log of a deployment that is not settled.
struct OpenLog {
    number: u64,
    /// Whether it has failed, and that is told. It is tried again all the same.
    has_failed: bool,
}

impl History {
    fn new(
        world: Arc<World>,
        known: &[KnownLog],
        outputs: Outputs,
        events: mpsc::Sender<Note>,
        transitions: watch::Sender<Transitions>,
    ) -> Self {
        let (mut logs, mut ends, mut told) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for KnownLog { deployment, has_ended, is_newest } in known {
            let DeploymentId { app, number } = deployment.clone();
            match (is_newest, has_ended) {
                (true, false) => {
                    let log = OpenLog { number, has_failed: false };
                    logs.insert(app.clone(), log);
                }
                (false, false) => ends.push((deployment.clone(), "superseded")),
                (_, true) => {}
            }
            if *is_newest {
                told.insert(app, number);
            }
        }
        Self {
            former: world,
            is_complete: false,
            phases: BTreeMap::new(),
            told,
            transitions,
            logs,
            outputs,
            ends,
            events,
            lost: 0,
        }
    }

    fn take(&mut self, world: Arc<World>, now: Moment) {
        let mut differences = compare(&self.former, &world);
        if !self.is_complete {
            // What happened while nobody looked.
            differences.everything(&world, &self.told);
            differences.apps.extend(self.logs.keys().cloned());
            self.is_complete = world.observed.hosts.values().all(|host| !host.is_expected());
        }
        for made in &differences.deployments {
            self.told.insert(made.app.clone(), made.number);
            let log = OpenLog { number: made.number, has_failed: false };
            if let Some(former) = self.logs.insert(made.app.clone(), log) {
                let (app, number) = (made.app.clone(), former.number);
                self.ends.push((DeploymentId { app, number }, "superseded"));
            }
        }
        for instance in &differences.instances {
            let log = self.logs.get(&instance.app);
            if log.is_some_and(|log| log.number == instance.deployment) {
                let seen = world.observed.instances.get(instance);
                let container = seen.and_then(|instance| instance.container.as_ref());
                self.outputs.follow(instance, container);
            }
        }
        for app in std::mem::take(&mut differences.apps) {
            self.look_at(&app, &world, now, &mut differences);
        }
        for event in differences.events {
            self.tell(event);
        }
        for (deployment, state) in self.ends.drain(..) {
            self.outputs.end(deployment, state);
        }
        self.former = world;
    }

    fn look_at(&mut self, name: &AppName, world: &World, now: Moment, found: &mut Differences) {
        let Some(app) = world.desired.apps.get(name) else {
            self.phases.remove(name);
            self.told.remove(name);
            self.transitions.send_if_modified(|transitions| transitions.forget(name));
            return self.settle(name, None, "deleted");
        };
        let standing = status::standing(app, world, now);
        let conditions = status::conditions(app, &standing, world);
        self.transitions.send_if_modified(|transitions| transitions.take(name, &conditions));
        let phase = standing.phase;
        let former = self.phases.insert(name.clone(), phase).unwrap_or(Phase::Unknown);
        // What it was before this process began is not known.
        if former != phase && former != Phase::Unknown {
            let (former, present) = (former.as_str(), phase.as_str());
            let reason = match &standing.failure {
                Some(failure) if matches!(phase, Phase::Failed | Phase::Degraded) => {
                    &failure.reason
                }
                _ => present,
            };
            let message = format!("{former} → {present}: {}", standing.summary());
            found.app(name, None, "PhaseChanged", reason, message);
        }
        let Some(newest) = app.newest() else { return };
        if !newest.state.is_under_way() {
            return self.settle(name, Some(newest.number), newest.state.as_str());
        }
        // One that nothing stands in for is tried again and again: it has failed for now.
        match phase {
            Phase::Failed if app.live().is_none() => self.fail_for_now(name, newest.number),
            Phase::Progressing => {
                if let Some(log) = self.logs.get_mut(name) {
                    log.has_failed = false;
                }
            }
            _ => {}
        }
    }

    /// Ends the log of a deployment that may still go on.
    fn fail_for_now(&mut self, name: &AppName, number: u64) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.number == number) else { return };
        if !std::mem::replace(&mut log.has_failed, true) {
            let deployment = DeploymentId { app: name.clone(), number };
            self.ends.push((deployment, DeploymentState::Failed.as_str()));
        }
    }

    /// Ends the log of an app's deployment, if it goes on, now that the one of this number is in
    /// this state.
    fn settle(&mut self, name: &AppName, number: Option<u64>, state: &'static str) {
        let Some(log) = self.logs.remove(name) else { return };
        let deployment = DeploymentId { app: name.clone(), number: log.number };
        let state = match number {
            Some(number) if number != log.number => "superseded",
            _ => state,
        };
        self.ends.push((deployment, state));
    }

    /// Never waits: it is the worlds that must not be missed.
    fn tell(&mut self, event: NewEvent) {
        let at = unix_millis();
        if self.lost > 0 {
            let lost = NewEvent {
                kind: "Host",
                name: HostName::local().to_string(),
                deployment: None,
                what: "EventsLost",
                reason: "QueueFull".to_owned(),
                message: format!("{} events were not noted", self.lost),
            };
            match self.events.try_send(Note::Event { at, event: lost, is_step: false }) {
                Ok(()) => self.lost = 0,
                Err(_) => return self.lost += 1,
            }
        }
        let is_step = DeploymentId::of(&event).is_some_and(|deployment| self.goes_on(&deployment));
        if self.events.try_send(Note::Event { at, event, is_step }).is_err() {
            self.lost += 1;
        }
    }

    /// Whether a deployment's log goes on, or did until this world. What its instances do later is
    /// no step of it.
    fn goes_on(&self, deployment: &DeploymentId) -> bool {
        let log = self.logs.get(&deployment.app);
        log.is_some_and(|log| log.number == deployment.number)
            || self.ends.iter().any(|(ended, _)| ended == deployment)
    }
}
