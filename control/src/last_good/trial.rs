//! What is being served for the first time, noted on disk before it is, so that the next process
//! knows what this one died of.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use weir_config::{Moment, Snapshot};

use super::{ATTEMPTS, GOOD_AFTER, QUARANTINE, SUSPECTS, keep_file, read, remove_file};
use crate::{
    quarantine::{Contents, Convicted, Quarantine, fingerprint},
    state_dir::StateDir,
    subject::Subject,
};

/// Of a change of more than this, the rest is not noted: such a change is nobody's in particular.
const MOST_NOTED: usize = 1000;
/// The most changes that are on trial at once; older ones are taken for good.
const MOST_ATTEMPTS: usize = 1000;
/// The most that is remembered as good; what is forgotten is on trial once more.
const MOST_GOOD: usize = 100_000;

/// What the process before this one died with is forgotten when this one has lived so long.
const FORGET_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Trial {
    file: PathBuf,
    suspects_file: PathBuf,
    quarantine_file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Opened for appending; `None` if it cannot be.
    journal: Option<File>,
    attempts: VecDeque<(Moment, Contents)>,
    /// What has been lived with: an app that falls asleep and wakes again and again is not on trial
    /// each time.
    good: BTreeSet<u64>,
    opened: Moment,
    /// Whether some of what this process began with was on trial when the former one died.
    began_on_trial: bool,
    /// What the process before this one died with.
    suspects: Contents,
    convicted: Convicted,
}

impl Trial {
    /// Goes on from what [`super::recover`] has left, with what it has found.
    pub(crate) fn open(dir: &StateDir, served: &Snapshot, now: Moment) -> Self {
        let file = dir.file(ATTEMPTS);
        let begun = attempted(dir);
        let good = prints(served).filter(|(subject, print)| begun.get(subject) != Some(print));
        let good = good.map(|(_, print)| print).take(MOST_GOOD).collect();
        let began_on_trial = !begun.is_empty();
        let journal = open(&file)
            .inspect_err(|error| tracing::warn!(%error, "what is first served cannot be noted"));
        let state = State {
            journal: journal.ok(),
            attempts: (!begun.is_empty()).then_some((now, begun)).into_iter().collect(),
            good,
            opened: now,
            began_on_trial,
            suspects: read(&dir.file(SUSPECTS)).unwrap_or_default(),
            convicted: read(&dir.file(QUARANTINE)).unwrap_or_default(),
        };
        let (suspects_file, quarantine_file) = (dir.file(SUSPECTS), dir.file(QUARANTINE));
        Self { file, suspects_file, quarantine_file, state: Mutex::new(state) }
    }

    /// What is not to be served for now.
    pub(crate) fn quarantine(&self, now: Moment) -> Quarantine {
        Quarantine::new(self.state().convicted.clone(), now)
    }

    /// To be called before these are served. It writes a line and waits for no disk: the line is
    /// for who comes after a crash of the process, not of the machine.
    pub(crate) fn begin(&self, snapshot: &Snapshot, changed: &BTreeSet<Subject>, now: Moment) {
        let prints = changed
            .iter()
            .take(MOST_NOTED)
            .filter_map(|subject| Some((subject.to_string(), fingerprint(subject, snapshot)?)));
        let mut contents: Contents = prints.collect();
        let mut state = self.state();
        contents.retain(|_, print| !state.good.contains(print));
        if contents.is_empty() {
            return;
        }
        if state.attempts.len() == MOST_ATTEMPTS {
            state.attempts.pop_front();
        }
        if let Some(journal) = &mut state.journal {
            // Without the line nothing is worse than without this module.
            let _ = journal.write_all(&line(&contents));
        }
        state.attempts.push_back((now, contents));
    }

    /// Takes for good what the process has lived with for a while.
    pub(crate) fn settle(&self, now: Moment) {
        let mut state = self.state();
        let mut good = Vec::new();
        while let Some((since, _)) = state.attempts.front()
            && *since + GOOD_AFTER <= now
        {
            good.extend(state.attempts.pop_front().map(|(_, contents)| contents));
        }
        if !good.is_empty() {
            self.acquit(&mut state, &good);
        }
        // What has not come up again will not.
        if !state.suspects.is_empty() && state.opened + FORGET_AFTER <= now {
            state.suspects.clear();
            remove_file(&self.suspects_file);
        }
    }

    /// The process ends in order: it has died of nothing.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        let good: Vec<_> = state.attempts.drain(..).map(|(_, contents)| contents).collect();
        if !good.is_empty() {
            self.acquit(&mut state, &good);
        }
    }

    /// Whether some of what this process began with may be what the former one died of.
    pub(super) fn began_on_trial(&self) -> bool {
        self.state().began_on_trial
    }

    fn acquit(&self, state: &mut State, good: &[Contents]) {
        let prints = good.iter().flat_map(Contents::values);
        if state.good.len() + prints.clone().count() > MOST_GOOD {
            state.good.clear();
        }
        state.good.extend(prints.take(MOST_GOOD));
        let left: Vec<u8> =
            state.attempts.iter().flat_map(|(_, contents)| line(contents)).collect();
        let journal = rewrite(&self.file, &left)
            .inspect_err(|error| tracing::warn!(%error, "what is first served cannot be noted"));
        state.journal = journal.ok();
        let lived = |contents: &mut Contents| {
            let before = contents.len();
            for (subject, print) in good.iter().flatten() {
                if contents.get(subject) == Some(print) {
                    contents.remove(subject);
                }
            }
            before != contents.len()
        };
        if lived(&mut state.suspects) {
            match state.suspects.is_empty() {
                true => remove_file(&self.suspects_file),
                false => keep_file(&self.suspects_file, &state.suspects),
            }
        }
        if lived(&mut state.convicted.contents) {
            match state.convicted.contents.is_empty() {
                true => remove_file(&self.quarantine_file),
                false => keep_file(&self.quarantine_file, &state.convicted),
            }
        }
    }

    /// Nothing panics while it holds the lock; if it did, the notes would be as good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the journal says was on trial. A line that was cut off by a crash ends it.
pub(super) fn attempted(dir: &StateDir) -> Contents {
    let text = fs::read(dir.file(ATTEMPTS)).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    lines.map_while(|line| serde_json::from_slice::<Contents>(line).ok()).flatten().collect()
}

/// Begins the journal of a new process: with what the former died with, as far as it is in the
/// snapshot that this one begins with.
pub(super) fn begin_again(dir: &StateDir, snapshot: &Snapshot) {
    let attempted = attempted(dir);
    if attempted.is_empty() {
        return;
    }
    let again: Contents =
        prints(snapshot).filter(|(subject, print)| attempted.get(subject) == Some(print)).collect();
    let lines = if again.is_empty() { Vec::new() } else { line(&again) };
    if let Err(error) = rewrite(&dir.file(ATTEMPTS), &lines) {
        tracing::warn!(%error, "what is first served cannot be noted");
    }
}

/// Everything that is served, and how.
fn prints(snapshot: &Snapshot) -> impl Iterator<Item = (String, u64)> {
    let apps = snapshot.apps().map(|route| Subject::App(route.app.clone()));
    let shards = snapshot.shards().map(|(name, _)| Subject::Shard(name.clone()));
    apps.chain(shards)
        .filter_map(|subject| Some((subject.to_string(), fingerprint(&subject, snapshot)?)))
}

fn line(contents: &Contents) -> Vec<u8> {
    let mut line = serde_json::to_vec(contents).unwrap_or_default();
    line.push(b'\n');
    line
}

fn open(file: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(file)
}

fn rewrite(file: &std::path::Path, content: &[u8]) -> io::Result<File> {
    let mut journal = open(file)?;
    journal.set_len(0)?;
    journal.write_all(content)?;
    Ok(journal)
}
