//! The loop: events in, one plan over the whole world, a snapshot and actions out.

use std::{collections::BTreeSet, pin::pin, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    time::{Duration, sleep},
};
use weir_config::{Activity, AppName, Desired, Moment, Publisher};

use crate::{
    event::{DesiredChange, Event},
    executor::Executor,
    observed::Observed,
    plan::plan,
    prober::Probers,
};

/// Room for the hints of a burst of requests; what does not fit is dropped and asked for again.
pub(crate) const EVENT_QUEUE: usize = 4096;
/// Events taken in before the next plan, so that a burst is planned for once.
const BATCH: usize = 1024;
/// A published snapshot may allow the next step (hold, then pause). More than a few such steps
/// without an event between them would be a plan that does not settle.
const MAX_TURNS: usize = 8;

/// The world at one moment, for those who only look.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
}

/// Owns everything that decisions are made from.
#[derive(Debug)]
pub(crate) struct Reactor {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) activity: Arc<Activity>,
    pub(crate) publisher: Publisher,
    pub(crate) executor: Executor,
    pub(crate) probers: Probers,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) worlds: watch::Sender<Arc<World>>,
    /// Turns in which something was to be done.
    pub(crate) turns: usize,
}

impl Reactor {
    /// Runs until it is told to stop, and gives back the right to publish.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) -> Publisher {
        let mut stopped = pin!(stopped);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake_at = self.turn();
            let pause = wake_at.map(|at| at.since(Moment::now()));
            tokio::select! {
                () = &mut stopped => return self.publisher,
                _ = self.events.recv_many(&mut batch, BATCH) => {}
                () = sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            }
            let now = Moment::now();
            for event in batch.drain(..) {
                self.take(event, now);
            }
        }
    }

    fn take(&mut self, event: Event, now: Moment) {
        match event {
            Event::Desired(change) => self.change(change, now),
            Event::ConnectFailed(endpoint) => self.probers.probe_now(&endpoint),
            // Whoever asked may have given up.
            Event::Pulse(asked) => drop(asked.send(())),
            event => {
                tracing::debug!(?event, "event");
                self.observed.apply(event, now);
            }
        }
    }

    pub(crate) fn change(&mut self, change: DesiredChange, now: Moment) {
        if change.whole {
            self.remove_others(&change, now);
        }
        for (name, shard) in change.shards {
            self.desired.unreadable_shards.remove(&name);
            let members = shard.as_ref().map_or(&[][..], |shard| &shard.members);
            self.observed.shard_changed(&name, members, now);
            match shard {
                Some(shard) => _ = self.desired.shards.insert(name, shard),
                None => _ = self.desired.shards.remove(&name),
            }
        }
        for (name, app) in change.apps {
            self.desired.unreadable.remove(&name);
            match app {
                Some(app) => {
                    let former = self.desired.apps.get(&name).map(Arc::as_ref);
                    self.observed.app_changed(former, &app, now);
                    self.desired.apps.insert(name, app);
                }
                None => self.remove(&name, now),
            }
        }
        self.desired.revision = change.revision;
        self.desired.unreadable.extend(change.unreadable);
        self.desired.unreadable_shards.extend(change.unreadable_shards);
    }

    /// Removes what is not in a change that is all there is.
    fn remove_others(&mut self, change: &DesiredChange, now: Moment) {
        // The observed ones too: the snapshot that was served last may hold one that was deleted
        // since.
        let known = self.desired.apps.keys().chain(self.observed.apps.keys());
        let kept: BTreeSet<_> = change.apps.iter().map(|(name, _)| name).collect();
        let gone: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        for name in gone.iter().filter(|name| !change.unreadable.contains(*name)) {
            self.remove(name, now);
        }
        let kept: BTreeSet<_> = change.shards.iter().map(|(name, _)| name).collect();
        let known = self.desired.shards.keys();
        let gone: Vec<_> = known.filter(|name| !kept.contains(name)).cloned().collect();
        for name in gone.iter().filter(|name| !change.unreadable_shards.contains(*name)) {
            self.desired.shards.remove(name);
            self.observed.shard_changed(name, &[], now);
        }
    }

    fn remove(&mut self, app: &AppName, now: Moment) {
        self.desired.apps.remove(app);
        self.observed.app_removed(app, now);
        self.activity.remove_app(app);
    }

    /// Plans until nothing more follows, and returns when to plan again though nothing happens.
    fn turn(&mut self) -> Option<Moment> {
        let mut wake_at = None;
        for turn in 0.. {
            let now = Moment::now();
            self.observed.sample(&self.activity);
            let plan = plan(&self.desired, &self.observed, &self.activity, now);
            wake_at = plan.wake_at;
            let mut actions = plan.actions;
            if !actions.is_empty() {
                // What found no room comes first in some later turn, whatever its name.
                let first = self.turns % actions.len();
                actions.rotate_left(first);
                self.turns = self.turns.wrapping_add(1);
            }
            for action in actions {
                let Some(room) = self.executor.room_for(&action) else { continue };
                tracing::info!(%action, "begins");
                let container = self.observed.container(action.instance());
                self.observed.begun(&action, now);
                self.executor.perform(action, container, room);
            }
            self.observed.fell_asleep(plan.asleep);
            self.probers.keep(plan.probes);
            let Some(snapshot) = plan.snapshot else { break };
            if let Err(error) = self.publisher.publish(snapshot.clone()) {
                tracing::error!(%error, "a snapshot was refused");
                break;
            }
            self.observed.published(snapshot, now);
            if turn == MAX_TURNS {
                tracing::error!("the plan does not settle");
                break;
            }
        }
        self.observed.forget_gone(&self.activity);
        let world = World { desired: self.desired.clone(), observed: self.observed.clone() };
        self.worlds.send_replace(Arc::new(world));
        wake_at
    }
}
