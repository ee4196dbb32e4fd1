//! The zones that are served, each in a file of its own: one may have a million records, and is
//! written only when it has changed, and the more seldom the longer that takes.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use weir_config::{DnsName, Snapshot, Zone};

use crate::state_dir::{StateDir, write_private};

const DIR: &str = "zones";
/// Of all time, a zone is written for one part of so many.
const PAUSES: u32 = 20;

/// The zones as they are on disk.
#[derive(Debug)]
pub(super) struct ZoneFiles {
    dir: PathBuf,
    kept: HashMap<DnsName, Kept>,
    /// What lies in the directory from before is not known yet.
    is_new: bool,
}

#[derive(Debug)]
struct Kept {
    zone: Arc<Zone>,
    /// When it may be written again.
    next: Instant,
}

impl ZoneFiles {
    pub(super) fn new(dir: &StateDir) -> Self {
        Self { dir: dir.file(DIR), kept: HashMap::new(), is_new: true }
    }

    /// Writes what has changed; blocks for as long. At the end nothing is put off. Returns how soon
    /// to come again, if something is.
    pub(super) fn save(
        &mut self,
        snapshot: &Snapshot,
        at_the_end: bool,
    ) -> io::Result<Option<Duration>> {
        let mut again: Option<Instant> = None;
        if snapshot.zones().len() > 0 || !self.kept.is_empty() || self.is_new && self.dir.exists() {
            fs::create_dir_all(&self.dir)?;
            self.remove_others(snapshot)?;
        }
        for zone in snapshot.zones() {
            let kept = self.kept.get(zone.name());
            if kept.is_some_and(|kept| Arc::ptr_eq(&kept.zone, zone)) {
                continue;
            }
            if let Some(kept) = kept.filter(|kept| Instant::now() < kept.next && !at_the_end) {
                again = Some(again.map_or(kept.next, |again| again.min(kept.next)));
                continue;
            }
            let begun = Instant::now();
            write_private(&file(&self.dir, zone.name()), &serde_json::to_vec(&**zone)?)?;
            let next = Instant::now() + begun.elapsed() * PAUSES;
            self.kept.insert(zone.name().clone(), Kept { zone: zone.clone(), next });
        }
        Ok(again.map(|again| again.saturating_duration_since(Instant::now())))
    }

    /// Removes the files of zones that are served no more.
    fn remove_others(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let gone = self.kept.keys().any(|name| snapshot.zone(name).is_none());
        if !gone && !std::mem::take(&mut self.is_new) {
            return Ok(());
        }
        self.kept.retain(|name, _| snapshot.zone(name).is_some());
        let files: BTreeSet<_> = snapshot.zones().map(|z| file(&self.dir, z.name())).collect();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !files.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// The zones that were served last. What cannot be read is told and left out.
pub(crate) fn zones(dir: &StateDir) -> Vec<Arc<Zone>> {
    let Ok(entries) = fs::read_dir(dir.file(DIR)) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files = files.filter(|file| file.extension().is_some_and(|end| end == "json"));
    let read = |file: PathBuf| {
        let zone = fs::File::open(&file).map_err(serde_json::Error::io).and_then(|opened| {
            serde_json::from_reader::<_, Zone>(BufReader::with_capacity(1 << 16, opened))
        });
        zone.inspect_err(|error| tracing::warn!(file = %file.display(), %error, "is damaged")).ok()
    };
    files.filter_map(read).map(Arc::new).collect()
}

/// A name of a domain may be longer than that of a file, and have other characters.
fn file(dir: &Path, name: &DnsName) -> PathBuf {
    let digest = Sha256::digest(name.wire());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    dir.join(format!("{hex}.json"))
}

#[cfg(test)]
mod tests {
    use weir_config::{RecordSet, RecordType};

    use super::*;

    fn zone(name: &str, serial: u32) -> Arc<Zone> {
        let name: DnsName = name.parse().unwrap();
        let mut zone = Zone::new(name.clone());
        let data = [name.wire(), name.wire(), &serial.to_be_bytes(), &[0; 16]].concat();
        zone.set(&name, RecordSet::new(RecordType::SOA, 60, [data]).unwrap()).unwrap();
        Arc::new(zone)
    }

    fn saved(dir: &StateDir) -> Vec<(String, u32)> {
        let zones = zones(dir);
        let mut all: Vec<_> =
            zones.iter().map(|z| (z.name().to_string(), z.serial().unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn zones_are_there_again_and_those_that_were_deleted_are_not() {
        let path = tempfile::tempdir().unwrap();
        let dir = StateDir::open(path.path()).unwrap();
        let mut files = ZoneFiles::new(&dir);
        let mut snapshot = Snapshot::default();
        assert_eq!(files.save(&snapshot, false).unwrap(), None);
        assert!(!dir.file(DIR).exists(), "without zones there is nothing to keep");
        let long = format!("{0}.{0}.{0}.example", "/".repeat(60));
        snapshot.insert_zone(zone("a.example", 1));
        snapshot.insert_zone(zone(&long, 1));
        files.save(&snapshot, false).unwrap();
        assert_eq!(saved(&dir), [(long.clone(), 1), ("a.example".to_owned(), 1)]);

        // What has just been written waits, but not at the end.
        files.kept.get_mut(zone("a.example", 1).name()).unwrap().next =
            Instant::now() + Duration::from_secs(60);
        snapshot.insert_zone(zone("a.example", 2));
        assert!(files.save(&snapshot, false).unwrap().unwrap() > Duration::from_secs(50));
        assert_eq!(saved(&dir)[1].1, 1);
        files.save(&snapshot, true).unwrap();
        assert_eq!(saved(&dir)[1].1, 2);

        snapshot.remove_zone(&long.parse().unwrap());
        files.save(&snapshot, false).unwrap();
        assert_eq!(saved(&dir).len(), 1);
        // Also those of a former process.
        ZoneFiles::new(&dir).save(&Snapshot::default(), false).unwrap();
        assert_eq!(saved(&dir), []);
    }
}
