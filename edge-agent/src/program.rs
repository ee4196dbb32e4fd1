//! Newer programs of this agent, which come from control when somebody says so.
//!
//! The installed one stays where it is, and is what the system starts: it gives way to a newer one,
//! by becoming it. A new one is on trial until it has come back to control. If it has not within a
//! minute, the kernel ends it (an alarm outlives the change of programs), the system starts the
//! installed one again, and that goes on with the former one.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use futures::StreamExt;
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_deploy::Program;

use crate::{ballast::Room, files};

/// Larger than any.
const MAX_SIZE: u64 = 256 << 20;

/// Which program this process became, by its digest; not set in the installed one.
const BECAME: &str = "WEIR_AGENT_BECAME";
/// Where the installed one is, for those that it became.
const INSTALLED: &str = "WEIR_AGENT_INSTALLED";

/// What is kept of newer programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Programs {
    /// The installed one that they are newer than. Where another one is installed, they are not.
    over: String,
    /// The digest of the one that has come back.
    kept: Option<String>,
    trial: Option<Trial>,
    /// What came of the last one, if it did not stay.
    failed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    digest: String,
    /// Whether it was given its chance.
    begun: bool,
}

/// What is to be done at a start.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// To try a new one.
    Try(String),
    /// To go on with the one that has come back.
    Keep(String),
    /// To go on as what is installed.
    Stay,
}

impl Programs {
    /// Whose turn it is, when the installed one is started.
    fn turn(&mut self, installed: &str) -> Turn {
        if self.over != installed && *self != Self::default() {
            *self = Self { over: installed.to_owned(), ..Self::default() };
        }
        match &mut self.trial {
            Some(Trial { digest, begun: begun @ false }) => {
                *begun = true;
                return Turn::Try(digest.clone());
            }
            Some(Trial { digest, begun: true }) => {
                let why = format!("{digest} did not come back in time");
                (self.failed, self.trial) = (Some(why), None);
            }
            None => {}
        }
        self.kept.clone().map_or(Turn::Stay, Turn::Keep)
    }

    fn load(dir: &Path) -> Self {
        let read = fs::read(dir.join("programs.json")).ok();
        // Damaged or missing, it says of none; the installed one is always there.
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn save(&self, dir: &Path) -> io::Result<()> {
        files::write(&dir.join("programs.json"), &serde_json::to_vec(self)?)
    }
}

fn kept(dir: &Path) -> PathBuf {
    dir.join("weir-agent")
}

fn on_trial(dir: &Path) -> PathBuf {
    dir.join("weir-agent.trial")
}

/// Becomes a newer program, if there is one and this is not one already. Returns if not.
pub(crate) fn give_way(dir: &Path, trial: Duration) -> anyhow::Result<()> {
    if env::var_os(BECAME).is_some() {
        return Ok(());
    }
    let installed = env::current_exe()?;
    let former = Programs::load(dir);
    let mut programs = former.clone();
    let mut turn = programs.turn(&stamp(&installed)?);
    if programs != former
        && let Err(error) = programs.save(dir)
    {
        tracing::error!(%error, "what is tried cannot be noted, so nothing is");
        turn = former.kept.map_or(Turn::Stay, Turn::Keep);
    }
    let error = match &turn {
        Turn::Stay => return Ok(()),
        Turn::Try(digest) => {
            tracing::info!(digest, "a new program is tried");
            // Zero would be no alarm.
            alarm::set((trial.as_secs() as u32).max(1));
            let error = become_it(&on_trial(dir), &installed, digest);
            alarm::cancel();
            (programs.failed, programs.trial) = (Some(format!("{digest}: {error}")), None);
            if let Err(error) = programs.save(dir) {
                tracing::error!(%error, "this cannot be noted");
            }
            error
        }
        Turn::Keep(digest) => become_it(&kept(dir), &installed, digest),
    };
    tracing::error!(%error, ?turn, "it cannot be run; the installed program goes on");
    Ok(())
}

/// Only returns if it cannot.
fn become_it(program: &Path, installed: &Path, digest: &str) -> io::Error {
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(BECAME, digest).env(INSTALLED, installed).exec()
}

/// Begins anew, as the installed program. Only returns if it cannot.
pub(crate) fn restart() -> io::Error {
    let installed = env::var_os(INSTALLED).map(PathBuf::from);
    match installed.map_or_else(env::current_exe, Ok) {
        Ok(installed) => {
            let mut command = Command::new(installed);
            command.args(env::args_os().skip(1)).env_remove(BECAME).env_remove(INSTALLED).exec()
        }
        Err(error) => error,
    }
}

/// The digest of the program that this process became, and what came of the last one that it did
/// not. One on trial has come back now, and stays.
pub(crate) fn came_back(dir: &Path) -> (Option<String>, Option<String>) {
    let became = env::var(BECAME).ok();
    let mut programs = Programs::load(dir);
    let is_tried = |trial: &Trial| trial.begun && became.as_ref() == Some(&trial.digest);
    if programs.trial.as_ref().is_some_and(is_tried) {
        alarm::cancel();
        (programs.kept, programs.failed, programs.trial) = (became.clone(), None, None);
        let stays = fs::rename(on_trial(dir), kept(dir)).and_then(|()| programs.save(dir));
        match stays {
            Ok(()) => tracing::info!(digest = became, "the new program stays"),
            Err(error) => tracing::error!(%error, "the new program cannot be kept"),
        }
    }
    (became, programs.failed)
}

/// Keeps a program, to be tried at the next start.
pub(crate) async fn take(dir: &Path, program: Program) -> anyhow::Result<()> {
    let Program { sha256, mut bytes } = program;
    if !Room::of(dir).is_some_and(Room::is_enough) {
        bail!("there is too little room on the device's disk");
    }
    let new = dir.join("weir-agent.new");
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o700);
    let mut file = options.open(&new).with_context(|| format!("{}", new.display()))?;
    let (mut digest, mut size) = (Sha256::new(), 0);
    while let Some(part) = bytes.next().await {
        let part = part.context("it did not come whole")?;
        size += part.len() as u64;
        if size > MAX_SIZE {
            bail!("it is larger than {} MiB", MAX_SIZE >> 20);
        }
        digest.update(&part);
        file.write_all(&part)?;
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != sha256 {
        bail!("what came is another program: its SHA-256 is {found}");
    }
    file.sync_all()?;
    drop(file);
    fs::rename(&new, on_trial(dir))?;
    let installed = env::var_os(INSTALLED).map(PathBuf::from);
    let installed = installed.map_or_else(env::current_exe, Ok)?;
    let mut programs = Programs::load(dir);
    programs.over = stamp(&installed)?;
    programs.trial = Some(Trial { digest: sha256, begun: false });
    Ok(programs.save(dir)?)
}

/// Tells one installed program from another, without reading it.
fn stamp(installed: &Path) -> io::Result<String> {
    let meta = fs::metadata(installed)?;
    Ok(format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_program_gets_one_chance_and_the_former_one_is_gone_back_to() {
        let trial = |begun| Some(Trial { digest: "new".to_owned(), begun });
        let programs = |kept: Option<&str>, trial| Programs {
            over: "1".to_owned(),
            kept: kept.map(str::to_owned),
            trial,
            failed: None,
        };
        let (tries, keeps) = (Turn::Try("new".to_owned()), Turn::Keep("old".to_owned()));
        for (mut programs, installed, turn, has_failed) in [
            (programs(None, None), "1", Turn::Stay, false),
            (programs(Some("old"), None), "1", keeps, false),
            (programs(Some("old"), trial(false)), "1", tries, false),
            (programs(Some("old"), trial(true)), "1", Turn::Keep("old".to_owned()), true),
            (programs(None, trial(true)), "1", Turn::Stay, true),
            // What an operator has installed since is newer than all of them.
            (programs(Some("old"), trial(false)), "2", Turn::Stay, false),
        ] {
            assert_eq!(programs.turn(installed), turn);
            assert_eq!(programs.failed.is_some(), has_failed, "{turn:?}");
            let again = programs.turn(installed);
            assert!(!matches!(again, Turn::Try(_)), "{turn:?}: never twice");
        }
    }

    #[tokio::test]
    async fn what_is_not_what_was_said_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let sent = |sha256: &str| Program {
            sha256: sha256.to_owned(),
            bytes: futures::stream::iter([Ok("pro".into()), Ok("gram".into())]).boxed(),
        };
        let refused = take(dir.path(), sent(&"0".repeat(64))).await.unwrap_err();
        assert!(refused.to_string().contains("another program"), "{refused}");
        assert_eq!(Programs::load(dir.path()), Programs::default());
        // Of `program`.
        let digest =
            Sha256::digest("program").iter().map(|b| format!("{b:02x}")).collect::<String>();
        take(dir.path(), sent(&digest)).await.unwrap();
        assert_eq!(fs::read(on_trial(dir.path())).unwrap(), b"program");
        assert_eq!(Programs::load(dir.path()).trial, Some(Trial { digest, begun: false }));
    }
}
