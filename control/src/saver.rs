//! Keeps the served snapshot on disk, so that a restart serves before anything outside answers.

use std::{path::PathBuf, time::Duration};

use weir_config::{LastGood, Snapshots};

use crate::state_dir::write_private;

/// At most this often: a burst of changes is one write.
const PACE: Duration = Duration::from_secs(1);

pub(crate) async fn keep_last_good(snapshots: Snapshots, file: PathBuf) {
    let mut saved = 0;
    let mut failing = false;
    loop {
        let snapshot = snapshots.newer_than(saved).await;
        saved = snapshot.generation;
        let file = file.clone();
        let write = tokio::task::spawn_blocking(move || {
            let bytes = serde_json::to_vec(&LastGood::of(&snapshot))?;
            write_private(&file, &bytes)
        });
        match write.await {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!(%error, "the served snapshot cannot be kept on disk");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "keeping the snapshot failed"),
        }
        tokio::time::sleep(PACE).await;
    }
}
