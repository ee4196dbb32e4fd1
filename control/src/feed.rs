//! From commits in the store to events of the loop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    event::{DesiredChange, Event},
    store::{Store, StoreError},
};

/// Correctness does not depend on being told of a commit: this often is looked anyway.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// After a failed look.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the store from a revision on, until the loop is gone.
pub(crate) async fn follow(store: Store, mut seen: u64, events: mpsc::Sender<Event>) {
    let mut revisions = store.revisions();
    loop {
        let told = revisions.wait_for(|revision| *revision > seen);
        // Either way the store is asked; being told only makes it sooner.
        let _ = tokio::time::timeout(LOOK_ANYWAY, told).await;
        match change_since(&store, seen).await {
            Ok(change) if change.revision > seen => {
                seen = change.revision;
                if events.send(Event::Desired(change)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the store could not be read; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn change_since(store: &Store, seen: u64) -> Result<DesiredChange, StoreError> {
    match store.changes_since(seen).await? {
        Some((revision, names)) => {
            let mut apps = Vec::with_capacity(names.len());
            let mut unreadable = BTreeSet::new();
            for name in names {
                match store.desired_app(&name).await {
                    Ok(app) => apps.push((name, app.map(Arc::new))),
                    Err(error @ StoreError::Corrupt(_)) => {
                        tracing::error!(%error, "a change cannot be read and is left out");
                        unreadable.insert(name);
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(DesiredChange { revision, whole: false, apps, unreadable })
        }
        None => Ok(DesiredChange::whole(store.desired().await?)),
    }
}
