//! What is served, on disk: a restart serves it before anything outside answers.
//!
//! What has just been served for the first time is on trial: should the process die twice of the
//! same, it is left out the next time, and what was served before takes its place.

mod saver;
#[cfg(test)]
mod tests;
mod trial;
mod zone_files;

use std::{fs, io, path::Path, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use weir_config::{Activity, LastGood, Snapshot};

pub(crate) use self::{saver::keep, trial::Trial, zone_files::zones};
use crate::{
    quarantine::{Contents, Convicted, fingerprint},
    state_dir::{StateDir, boot_id, write_private},
    subject::Subject,
};

/// What the process has lived with for so long is good.
pub(crate) const GOOD_AFTER: Duration = Duration::from_secs(2);

const NEWEST: &str = "last-good.json";
/// The one before, with which the process has lived.
const FORMER: &str = "last-good.prev.json";
/// What was being served for the first time when the process died, if it did.
const ATTEMPTS: &str = "attempts.jsonl";
/// The same, of the process before that one.
const SUSPECTS: &str = "suspects.json";
const QUARANTINE: &str = "quarantine.json";

/// The snapshot to begin with, if there is one that can be read: the last one, but for what the
/// process has died of twice, which is as it was before. Never fails: what cannot be read is told
/// and left out.
pub(crate) fn recover(dir: &StateDir, activity: &Activity) -> Option<Snapshot> {
    let convicted = convict(dir);
    let newest = load(&dir.file(NEWEST), activity);
    let mut snapshot = match newest {
        Some(snapshot) => snapshot,
        None => load(&dir.file(FORMER), activity)
            .inspect(|_| tracing::warn!("serving from the last snapshot but one"))?,
    };
    if !convicted.contents.is_empty() {
        let former = load(&dir.file(FORMER), activity).unwrap_or_default();
        if replace(&mut snapshot, &convicted.contents, &former) {
            keep_file(&dir.file(NEWEST), &LastGood::of(&snapshot, &boot_id()));
        }
    }
    trial::begin_again(dir, &snapshot);
    zones(dir).into_iter().for_each(|zone| snapshot.insert_zone(zone));
    Some(snapshot)
}

/// Adds what was on trial at this death of the process and at the one before.
fn convict(dir: &StateDir) -> Convicted {
    let mut convicted: Convicted = read(&dir.file(QUARANTINE)).unwrap_or_default();
    let attempted = trial::attempted(dir);
    let suspects: Contents = read(&dir.file(SUSPECTS)).unwrap_or_default();
    let is_suspect = |(subject, print): &(&String, &u64)| suspects.get(*subject) == Some(*print);
    let twice: Contents =
        attempted.iter().filter(is_suspect).map(|(s, print)| (s.clone(), *print)).collect();
    if !twice.is_empty() {
        for subject in twice.keys() {
            tracing::error!(%subject, "died twice while this was first served: it is left out");
        }
        convicted.contents.extend(twice);
        convicted.times += 1;
        keep_file(&dir.file(QUARANTINE), &convicted);
    }
    if !attempted.is_empty() {
        keep_file(&dir.file(SUSPECTS), &attempted);
    }
    convicted
}

/// Puts what was served before in the place of what is convicted; returns whether there was any.
fn replace(snapshot: &mut Snapshot, convicted: &Contents, former: &Snapshot) -> bool {
    let mut replaced = false;
    let apps: Vec<_> = snapshot.apps().map(|route| Subject::App(route.app.clone())).collect();
    let shards: Vec<_> = snapshot.shards().map(|(name, _)| Subject::Shard(name.clone())).collect();
    for subject in apps.iter().chain(&shards) {
        let guilty = convicted.get(&subject.to_string());
        if guilty.is_none() || guilty.copied() != fingerprint(subject, snapshot) {
            continue;
        }
        replaced = true;
        match subject {
            Subject::App(name) => {
                snapshot.remove(name);
                let route = former.app(name).filter(|r| Some(r.fingerprint()) != guilty.copied());
                if let Some(route) = route {
                    snapshot.insert((**route).clone());
                }
            }
            Subject::Zone(_) | Subject::Policy(_) => {}
            Subject::Shard(name) => match former.shard(name) {
                Some(pool) if Some(pool.fingerprint()) != guilty.copied() => {
                    snapshot.insert_shard(name.clone(), pool.clone());
                }
                _ => snapshot.remove_shard(name),
            },
        }
    }
    replaced
}

fn load(file: &Path, activity: &Activity) -> Option<Snapshot> {
    read::<LastGood>(file).map(|saved| saved.restore(activity, &boot_id()))
}

/// What a file holds, if it is there and whole.
fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot be read");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(file = %file.display(), %error, "is damaged"))
        .ok()
}

/// Writes a file that only a crash needs: without it, one more crash is needed.
fn keep_file(file: &Path, value: &impl Serialize) {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    if let Err(error) = write_private(file, &bytes) {
        tracing::warn!(file = %file.display(), %error, "cannot be written");
    }
}

fn remove_file(file: &Path) {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %file.display(), %error, "cannot be removed");
        }
        _ => {}
    }
}
