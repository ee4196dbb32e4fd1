//! The keys that secrets are sealed with, in a file of the state directory for its owner's eyes.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroizing;

use crate::{seal::Keyring, state_dir::write_private};

/// The file, and what is known of it.
#[derive(Debug)]
pub(crate) struct KeyFile {
    file: PathBuf,
    /// `None` until it could be read. Keys that the file has no more stay here: somebody may have
    /// read a row a moment before it was sealed anew.
    known: Mutex<Option<Arc<Keyring>>>,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error(
        "the key file {} is not there; put it back, or make a new key with `weir secret \
         rotate-key` and set the secrets again",
        .0.display()
    )]
    Gone(PathBuf),
    #[error(
        "the key file {}: {why}; put back the one that was there, or move it away, make a new key \
         with `weir secret rotate-key` and set the secrets again",
        file.display()
    )]
    Unreadable { file: PathBuf, why: String },
}

impl KeyFile {
    /// Does no I/O.
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// The keys as they are known, or else as the file has them.
    ///
    /// # Errors
    /// When it was never read and cannot be now.
    pub(crate) fn keys(&self) -> Result<Arc<Keyring>, NoKey> {
        let known = self.known().clone();
        known.map_or_else(|| self.read(), Ok)
    }

    /// The keys as the file has them, and those that are known beside.
    ///
    /// # Errors
    /// When it cannot be read; what is known stays known.
    pub(crate) fn read(&self) -> Result<Arc<Keyring>, NoKey> {
        let unreadable = |why| NoKey::Unreadable { file: self.file.clone(), why };
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NoKey::Gone(self.file.clone()));
            }
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let found = Keyring::parse(&text).map_err(unreadable)?;
        Ok(self.know(found))
    }

    /// Writes the file, and uses its keys from now on.
    ///
    /// # Errors
    /// Those of the disk; nothing is changed.
    pub(crate) fn write(&self, keys: Keyring) -> io::Result<Arc<Keyring>> {
        write_private(&self.file, keys.to_text().as_bytes())?;
        Ok(self.know(keys))
    }

    fn know(&self, keys: Keyring) -> Arc<Keyring> {
        let mut known = self.known();
        let all = Arc::new(match &*known {
            Some(known) => keys.joined(known),
            None => keys,
        });
        *known = Some(all.clone());
        all
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Keyring>>> {
        // Nothing panics while it is held, and what it holds is whole at every moment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
