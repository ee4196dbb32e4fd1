//! Who this device is. Made once, when it is enrolled; nothing here ever makes another one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use weir_config::HostName;

use crate::{files, transport::Way};

/// What control knows this device by, and this device control.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) name: HostName,
    /// `HOST:PORT`.
    pub(crate) control: String,
    pub(crate) transport: Way,
    /// PEM; the key itself is in a file of its own.
    pub(crate) certificate: String,
    /// Whose certificate control has to show (PEM).
    pub(crate) authority: String,
    /// What marks the containers that are Weir's.
    pub(crate) cluster: String,
    /// It was not earlier than this, in milliseconds since the Unix epoch, whatever the clock says.
    pub(crate) not_before: i64,
}

impl Identity {
    /// # Errors
    /// There is none, or it is damaged; and what to do.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<Self> {
        let file = file(dir);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("this device is not enrolled; `weir device invite` prints how it is")
            }
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged; restore it, or enrol this device anew", file.display())
        })
    }

    pub(crate) fn exists(dir: &Path) -> bool {
        file(dir).exists()
    }

    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        files::write(&file(dir), &serde_json::to_vec_pretty(self)?)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("identity.json")
}

pub(crate) fn key_file(dir: &Path) -> PathBuf {
    dir.join("device.key")
}
