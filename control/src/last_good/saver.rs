//! Writes what is served, and the end of its trial.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};
use weir_config::{LastGood, Moment, Snapshot, Snapshots};

use super::{FORMER, GOOD_AFTER, NEWEST, Trial, zone_files::ZoneFiles};
use crate::state_dir::{StateDir, boot_id, write_private};

/// While a part of the process seems to stand still.
const LOOK: Duration = Duration::from_millis(500);
/// After zones could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// Runs until it is told to stop, and writes what is served then. As long as the process is not
/// `well`, nothing is taken for good.
///
/// A write comes [`GOOD_AFTER`] the one before at the soonest: so what is on disk is good by then
/// and is kept as the former one.
pub(crate) async fn keep(
    snapshots: Snapshots,
    dir: Arc<StateDir>,
    trial: Arc<Trial>,
    well: Arc<AtomicBool>,
    mut stop: oneshot::Receiver<()>,
) {
    let (newest, former) = (dir.file(NEWEST), dir.file(FORMER));
    let zones = Some(ZoneFiles::new(&dir));
    let mut saver = Saver { newest, former, trial, saved: 0, zones, again: None, failing: false };
    loop {
        let mut stopped = tokio::select! {
            _ = snapshots.newer_than(saver.saved) => false,
            () = saver.again() => false,
            _ = &mut stop => true,
        };
        while !stopped && !well.load(Relaxed) {
            stopped = timeout(LOOK, &mut stop).await.is_ok();
        }
        saver.save(snapshots.current(), stopped).await;
        // A stop does not wait for the pace.
        if !stopped && timeout(GOOD_AFTER, &mut stop).await.is_ok() {
            saver.save(snapshots.current(), true).await;
            stopped = true;
        }
        if stopped {
            return saver.trial.end();
        }
        if well.load(Relaxed) {
            saver.trial.settle(Moment::now());
        }
    }
}

struct Saver {
    newest: PathBuf,
    former: PathBuf,
    trial: Arc<Trial>,
    /// The generation on disk.
    saved: u64,
    /// `None` after a panic.
    zones: Option<ZoneFiles>,
    /// How soon zones are to be looked at that were put off.
    again: Option<Duration>,
    failing: bool,
}

impl Saver {
    /// Returns when something was put off that is not any more.
    async fn again(&self) {
        match self.again {
            Some(again) => tokio::time::sleep(again).await,
            None => std::future::pending().await,
        }
    }

    async fn save(&mut self, snapshot: Arc<Snapshot>, at_the_end: bool) {
        self.save_zones(snapshot.clone(), at_the_end).await;
        let generation = snapshot.generation;
        if generation == self.saved {
            return;
        }
        let (newest, former) = (self.newest.clone(), self.former.clone());
        // What this process wrote it has lived with since; see `keep`.
        let is_good = self.saved > 0 || !self.trial.began_on_trial();
        let write = spawn_blocking(move || {
            let bytes = serde_json::to_vec(&LastGood::of(&snapshot, &boot_id()))?;
            if is_good && newest.exists() {
                fs::rename(&newest, &former)?;
            }
            write_private(&newest, &bytes)
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

    async fn save_zones(&mut self, snapshot: Arc<Snapshot>, at_the_end: bool) {
        let Some(mut zones) = self.zones.take() else { return };
        let write = spawn_blocking(move || {
            let saved = zones.save(&snapshot, at_the_end);
            (zones, saved)
        });
        match write.await {
            Ok((zones, saved)) => {
                self.zones = Some(zones);
                self.again = saved.unwrap_or_else(|error| {
                    tracing::error!(%error, "the served zones cannot be kept on disk");
                    Some(RETRY)
                });
            }
            Err(panic) => {
                self.again = None;
                tracing::error!(%panic, "the served zones cannot be kept on disk");
            }
        }
    }
}
