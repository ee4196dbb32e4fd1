//! Notes what has come of operations.

use std::sync::Arc;

use tokio::sync::watch;
use weir_config::Moment;

use crate::{
    operations::outcome,
    reconciler::World,
    store::{Operation, Store},
};

/// Follows operations until they are settled, and notes what has come of them.
pub(crate) async fn settle_operations(store: Store, mut worlds: watch::Receiver<Arc<World>>) {
    let mut new = store.operations_changed();
    new.mark_changed();
    let mut open: Vec<Operation> = Vec::new();
    loop {
        tokio::select! {
            changed = new.changed() => {
                if changed.is_err() { return }
                match store.open_operations().await {
                    Ok(found) => open = found,
                    Err(error) => tracing::warn!(%error, "operations cannot be followed"),
                }
            }
            changed = worlds.changed() => if changed.is_err() { return },
        }
        let world = worlds.borrow_and_update().clone();
        let (now, mut settled) = (Moment::now(), Vec::new());
        open.retain(|operation| match outcome(operation, &world, now) {
            Some(outcome) => {
                settled.push((operation.number, outcome));
                false
            }
            None => true,
        });
        if settled.is_empty() {
            continue;
        }
        if let Err(error) = store.settle(&settled).await {
            // The next operation brings it up again.
            tracing::warn!(%error, "what came of operations cannot be noted");
        }
    }
}
