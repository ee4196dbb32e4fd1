//! The loop: events in, one plan over the whole world, a snapshot and actions out.

use std::{pin::pin, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use weir_config::{Activity, Moment, Publisher};

use crate::{
    action::Action,
    engines::Engines,
    event::Event,
    executor::Executor,
    last_good::Trial,
    prober::Probers,
    public_check::PublicChecks,
    reconciler::{Reconciler, World},
    recorder::Decision,
    subject::Subject,
    transition::Transition,
};

/// Room for the hints of a burst of requests; what does not fit is dropped and asked for again.
pub(crate) const EVENT_QUEUE: usize = 4096;
/// Events taken in before the next plan, so that a burst is planned for once.
const BATCH: usize = 1024;
/// A published snapshot may allow the next step (hold, then pause). More than a few such steps
/// without an event between them would be a plan that does not settle.
const MAX_TURNS: usize = 8;

/// Drives the reconciler: events in, a snapshot and actions out.
#[derive(Debug)]
pub(crate) struct Reactor {
    pub(crate) reconciler: Reconciler,
    pub(crate) activity: Arc<Activity>,
    pub(crate) publisher: Publisher,
    pub(crate) engines: Engines,
    pub(crate) executor: Executor,
    pub(crate) probers: Probers,
    pub(crate) public_checks: PublicChecks,
    pub(crate) recorder: mpsc::Sender<Decision>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) worlds: watch::Sender<Arc<World>>,
    /// Told of what is served for the first time before it is.
    pub(crate) trial: Arc<Trial>,
}

impl Reactor {
    /// Runs until it is told to stop, and gives back the right to publish.
    pub(crate) async fn run(mut self, stopped: impl Future<Output = ()>) -> Publisher {
        let mut stopped = pin!(stopped);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.turn();
            let pause = self.reconciler.next_due().since(Moment::now());
            tokio::select! {
                () = &mut stopped => return self.publisher,
                _ = self.events.recv_many(&mut batch, BATCH) => {}
                () = sleep(pause) => {}
            }
            let now = Moment::now();
            for event in batch.drain(..) {
                self.take(event, now);
            }
        }
    }

    pub(crate) fn take(&mut self, event: Event, now: Moment) {
        match event {
            Event::ConnectFailed(endpoint) => self.probers.probe_now(&endpoint),
            // Whoever asked may have given up.
            Event::Pulse(asked) => drop(asked.send(())),
            event => {
                tracing::debug!(?event, "event");
                self.reconciler.take(event, &self.activity, now);
            }
        }
    }

    /// Plans until nothing more follows.
    fn turn(&mut self) {
        self.engines.keep(&self.reconciler.world.desired.hosts, &mut self.executor);
        for turn in 0.. {
            let now = Moment::now();
            let Some(plan) = self.reconciler.plan(&self.activity, now) else { break };
            if turn == MAX_TURNS {
                tracing::error!("the plan does not settle");
            }
            let snapshot = plan.snapshot;
            for (subject, planned) in plan.subjects {
                for action in planned.actions {
                    self.begin(&subject, action, now);
                }
                self.record(&subject, planned.transition, planned.serials);
                if let Subject::App(app) = &subject {
                    self.public_checks.keep(app, planned.public_check);
                }
                self.probers.keep(subject, planned.probes);
            }
            let Some((snapshot, changed)) = snapshot else { continue };
            self.trial.begin(&snapshot, &changed, now);
            match self.publisher.publish(snapshot.clone()) {
                Ok(()) => self.reconciler.published(snapshot, changed, now),
                Err(error) => tracing::error!(%error, "a snapshot was refused"),
            }
            if turn >= MAX_TURNS {
                break;
            }
        }
        let world = &mut self.reconciler.world;
        world.observed.forget_gone(&self.activity);
        self.worlds.send_replace(Arc::new(world.clone()));
    }

    /// What finds no room is decided again when there is some.
    fn record(&mut self, subject: &Subject, transition: Option<Transition>, serials: Option<u64>) {
        let decision = match (subject, transition, serials) {
            (Subject::App(app), Some(transition), _) => {
                tracing::info!(%app, ?transition, "a deployment moves");
                Decision::Transition(app.clone(), transition)
            }
            (Subject::Zone(zone), _, Some(next)) => Decision::Serials(zone.clone(), next),
            _ => return,
        };
        match self.recorder.try_send(decision) {
            Ok(()) => self.reconciler.recording(subject),
            Err(_) => self.reconciler.postponed(subject.clone()),
        }
    }

    fn begin(&mut self, subject: &Subject, action: Action, now: Moment) {
        let Some(room) = self.executor.room_for(&action) else {
            return self.reconciler.postponed(subject.clone());
        };
        tracing::info!(%action, "begins");
        let container = self.reconciler.world.observed.container(action.instance());
        self.reconciler.begun(&action, now);
        self.executor.perform(action, container, room);
    }
}
