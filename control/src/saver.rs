//! Keeps the served snapshot on disk, so that a restart serves before anything outside answers.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};
use weir_config::{LastGood, Snapshot, Snapshots};

use crate::state_dir::{boot_id, write_private};

/// At most this often: a burst of changes is one write.
const PACE: Duration = Duration::from_secs(1);

/// Runs until it is told to stop, and writes what is served then.
pub(crate) async fn keep_last_good(
    snapshots: Snapshots,
    file: PathBuf,
    mut stop: oneshot::Receiver<()>,
) {
    let mut saver = Saver { file, saved: 0, failing: false };
    loop {
        let stopped = tokio::select! {
            _ = snapshots.newer_than(saver.saved) => false,
            _ = &mut stop => true,
        };
        saver.save(snapshots.current()).await;
        if stopped {
            return;
        }
        // A stop does not wait for the pace.
        if timeout(PACE, &mut stop).await.is_ok() {
            return saver.save(snapshots.current()).await;
        }
    }
}

struct Saver {
    file: PathBuf,
    /// The generation on disk.
    saved: u64,
    failing: bool,
}

impl Saver {
    async fn save(&mut self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        let file = self.file.clone();
        let write = spawn_blocking(move || {
            write_private(&file, &serde_json::to_vec(&LastGood::of(&snapshot, &boot_id()))?)
        });
        match write.await.map_err(io::Error::other).flatten() {
            Ok(()) => (self.saved, self.failing) = (generation, false),
            // A disk that stays full is told once, not every second.
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the served snapshot cannot be kept on disk");
            }
            Err(_) => {}
        }
    }
}
