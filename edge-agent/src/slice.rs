//! What this device is to run, on its disk.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use weir_config::{InstanceId, Secret, SecretName, Secrets};
use weir_deploy::ContainerSpec;
use zeroize::Zeroizing;

use crate::{ballast, files};

/// The part of what is meant that concerns this device, as it was told last.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Slice {
    /// Of the control that was listened to last.
    pub(crate) epoch: u64,
    /// By the names of their containers.
    pub(crate) instances: BTreeMap<String, Kept>,
}

/// One instance that is to be here.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) spec: ContainerSpec,
    /// As clear as they are in the engine's own files; this one is for the same eyes only.
    secrets: BTreeMap<SecretName, String>,
    pub(crate) level: Level,
}

/// How far an instance is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    Made,
    Running,
    Paused,
    Stopped,
}

impl Kept {
    pub(crate) fn new(spec: &ContainerSpec, secrets: &Secrets) -> Self {
        let exposed =
            |(name, secret): (&SecretName, &Secret)| (name.clone(), secret.expose().to_owned());
        let secrets = secrets.iter().map(exposed).collect();
        Self { spec: spec.clone(), secrets, level: Level::Made }
    }

    /// Whether it calls other apps.
    pub(crate) fn calls_others(&self) -> bool {
        !self.spec.template.calls.is_empty()
    }

    /// The secrets that its container is made with.
    pub(crate) fn secrets(&self) -> Result<Secrets, String> {
        let secret = |(name, value): (&SecretName, &String)| {
            Ok((name.clone(), Secret::new(Zeroizing::new(value.clone()))?))
        };
        self.secrets.iter().map(secret).collect()
    }
}

impl Slice {
    /// What is kept in a directory. A file that is damaged is set aside, and the one before it
    /// counts; without any, nothing is to run here until control says so.
    pub(crate) fn load(dir: &Path) -> Self {
        for file in [file(dir), former(dir)] {
            let read = fs::read(&file).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            match read {
                Ok(slice) => return slice,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "is damaged: set aside");
                    if let Err(error) = fs::rename(&file, file.with_extension("damaged")) {
                        tracing::error!(file = %file.display(), %error, "cannot be set aside");
                    }
                }
            }
        }
        Self::default()
    }

    /// Keeps this in a directory, and what was there before beside it. On a full disk the ballast
    /// makes room for it.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        match keep(dir, &bytes) {
            Err(error) if error.kind() == ErrorKind::StorageFull && ballast::drop_it(dir) => {
                keep(dir, &bytes)
            }
            kept => kept,
        }
    }

    pub(crate) fn set(&mut self, instance: &InstanceId, level: Level) {
        if let Some(kept) = self.instances.get_mut(&instance.container_name()) {
            kept.level = level;
        }
    }
}

fn keep(dir: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::rename(file(dir), former(dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    files::write(&file(dir), bytes)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("slice.json")
}

fn former(dir: &Path) -> PathBuf {
    dir.join("slice.former.json")
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { spec, level, .. } = self;
        f.debug_struct("Kept").field("spec", spec).field("level", level).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(epoch: u64) -> Slice {
        Slice { epoch, ..Slice::default() }
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_one_before_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Slice::load(dir.path()).epoch, 0);
        slice(1).save(dir.path()).unwrap();
        slice(2).save(dir.path()).unwrap();
        assert_eq!(Slice::load(dir.path()).epoch, 2);
        for damage in ["", "{\"epoch\":", "\0\0\0\0"] {
            slice(3).save(dir.path()).unwrap();
            slice(4).save(dir.path()).unwrap();
            fs::write(file(dir.path()), damage).unwrap();
            assert_eq!(Slice::load(dir.path()).epoch, 3, "{damage:?}");
            assert!(dir.path().join("slice.damaged").exists());
        }
        fs::write(former(dir.path()), "x").unwrap();
        assert_eq!(Slice::load(dir.path()).epoch, 0);
        assert_eq!(Slice::load(dir.path()).epoch, 0, "and again");
    }
}
