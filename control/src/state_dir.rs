//! The directory that holds everything one Weir must keep, and the lock on it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use weir_config::{Activity, Snapshot, Zone};

use crate::{last_good, random};

/// A locked state directory. The lock ends with the process, however that ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error(
        "the state directory {path} is used by another `weir serve`{}; stop that one, or choose \
         another with --state-dir", holder(.process)
    )]
    Locked { path: PathBuf, process: String },
    #[error("the state directory {path} cannot be used: {error}")]
    Unusable { path: PathBuf, error: io::Error },
}

fn holder(process: &str) -> String {
    if process.is_empty() { String::new() } else { format!(" (process {process})") }
}

impl StateDir {
    /// Makes the directory if needed, for its owner's eyes only, and locks it.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("serve.lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // Only for the message: without it the message is shorter.
                let _ = lock.read_to_string(&mut process);
                return Err(StateDirError::Locked { path: path.to_owned(), process });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for another process's message; a full disk is no reason not to serve.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The database's file. It is there when this returns, since SQLite would make it readable by
    /// everyone; the files that SQLite makes beside it are as private as it is.
    pub(crate) fn database(&self) -> io::Result<PathBuf> {
        let file = Self::database_in(&self.path);
        OpenOptions::new().append(true).create(true).mode(0o600).open(&file)?;
        Ok(file)
    }

    /// Where a state directory has its database.
    pub(crate) fn database_in(path: &Path) -> PathBuf {
        path.join("weir.db")
    }

    /// What the secrets in the database are sealed with. Whoever has only one of the two has none.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.file("secrets.key")
    }

    /// What this Weir is called where requests may go round (RFC 8586): made once and kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn cdn_id(&self) -> io::Result<String> {
        let file = self.file("cdn.id");
        let is_one = |id: &String| id.strip_prefix("weir-").is_some_and(is_hex);
        if let Some(kept) = fs::read_to_string(&file).ok().filter(is_one) {
            return Ok(kept);
        }
        let id = format!("weir-{}", random::hex(8));
        write_private(&file, id.as_bytes())?;
        Ok(id)
    }

    /// The snapshot to begin with, if one was served before: the last one that the process lived
    /// with.
    pub fn last_good(&self, activity: &Activity) -> Option<Snapshot> {
        last_good::recover(self, activity)
    }

    /// The zones that were served last. They are part of [`Self::last_good`].
    pub fn zones(&self) -> Vec<Arc<Zone>> {
        last_good::zones(self)
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What tells one boot of this machine from another (`random(4)`); empty if the system does not
/// tell.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Replaces a file whole or not at all, readable by its owner only.
///
/// # Errors
/// Those of the disk; the former file is then as it was, or the new one is there already.
pub fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&fresh, file)?;
    // Else a loss of power may undo the renaming, though what relies on it is on the disk.
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
