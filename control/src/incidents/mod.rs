//! Follows the world, and keeps a record of what is wrong with it. The loop never waits for it.

mod rule;
pub(crate) mod rules;
mod tracker;

use std::{sync::Arc, time::Duration};

use prometheus::IntGaugeVec;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use weir_config::Moment;

pub(crate) use self::{rule::Rule, rules::Trouble, tracker::Key};
use self::{
    rules::{Surroundings, troubles},
    tracker::{Change, Tracker},
};
use crate::{
    reconciler::World,
    store::{Store, StoreError},
};

/// However much happens, the world is looked at no more often than this.
const PACE: Duration = Duration::from_secs(1);
/// What nobody tells of, as the end of a certificate, is looked for this often.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// Keeps incidents until the loop is gone. `changed` tells that an operator has resolved one.
pub(crate) async fn follow(
    store: Store,
    mut worlds: watch::Receiver<Arc<World>>,
    changed: Arc<Notify>,
    open: IntGaugeVec,
) {
    let mut tracker = Tracker::default();
    let mut is_stale = true;
    loop {
        let now = Moment::now();
        if is_stale {
            match store.open_incidents().await {
                Ok(keys) => {
                    tracker.adopt(keys, now);
                    is_stale = false;
                }
                Err(error) => tracing::error!(%error, "the open incidents cannot be read"),
            }
        }
        if !is_stale {
            let world = worlds.borrow_and_update().clone();
            look(&store, &mut tracker, &world, now).await;
            tell(&tracker, &open);
        }
        sleep(PACE).await;
        let wait = if is_stale || tracker.is_waiting() { Duration::ZERO } else { LOOK_ANYWAY };
        let woken = async {
            tokio::select! {
                world = worlds.changed() => world.map(|()| false),
                () = changed.notified() => Ok(true),
            }
        };
        match timeout(wait, woken).await {
            Ok(Ok(resolved)) => is_stale |= resolved,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

async fn look(store: &Store, tracker: &mut Tracker, world: &World, now: Moment) {
    let wall_clock = crate::time::unix_millis() / 1000;
    let around = Surroundings { store_is_full: store.is_full(), wall_clock };
    for change in tracker.step(troubles(world, around, now), now) {
        match write(store, &change).await {
            Ok(()) => tracker.written(change, now),
            // It is tried again with the next look; a store that fails is told of by others.
            Err(error) => {
                tracing::warn!(%error, "an incident cannot be written");
                return;
            }
        }
    }
}

async fn write(store: &Store, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Open(trouble) => {
            let Trouble { rule, subject, title, detail, .. } = trouble;
            tracing::warn!(rule = rule.as_str(), subject, detail, "an incident opens: {title}");
            store.open_incident(trouble).await
        }
        Change::Update(trouble) => store.update_incident(trouble).await,
        Change::Resolve((rule, subject)) => {
            tracing::info!(rule = rule.as_str(), subject, "an incident is over");
            store.resolve_gone((*rule, subject.as_str())).await
        }
    }
}

/// Counts the open incidents by rule.
pub(crate) fn gauge() -> IntGaugeVec {
    let options =
        prometheus::Opts::new("weir_incidents_open", "Incidents that are open, by their rule.");
    IntGaugeVec::new(options, &["rule"]).expect("a valid name of a metric")
}

fn tell(tracker: &Tracker, open: &IntGaugeVec) {
    for rule in Rule::ALL {
        let count = tracker.open().filter(|other| *other == rule).count();
        open.with_label_values(&[rule.as_str()]).set(count as i64);
    }
}
