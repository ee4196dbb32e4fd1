//! Keeps the served snapshot on disk, so that a restart serves before anything outside answers.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use weir_config::{LastGood, Snapshot, Snapshots};

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
        let write = tokio::task::spawn_blocking(move || save(&snapshot, &file));
        match write.await.map_err(io::Error::other).flatten() {
            Ok(()) => failing = false,
            Err(error) => {
                // A disk that stays full is told once, not every second.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "the served snapshot cannot be kept on disk");
                }
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Writes the snapshot now.
pub(crate) fn save(snapshot: &Snapshot, file: &Path) -> io::Result<()> {
    write_private(file, &serde_json::to_vec(&LastGood::of(snapshot))?)
}
