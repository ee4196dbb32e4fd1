//! Secrets: sealed in the store; those of an app opened for the container that is made and for nobody
//! else, those of a notifier for its messages.
//!
//! Without the key traffic and everything that runs go on, and only what needs a value waits. The
//! key file is read anew when a key is missed, so that one that is put back needs no restart.

mod issuers;
mod notifiers;
mod providers;
#[cfg(test)]
mod tests;
mod zone_keys;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
};

use weir_config::{App, AppName, Secret, SecretName, Secrets};
use weir_deploy::ContainerSpec;

use crate::{
    failpoint,
    failure::ActionError,
    key_file::{KeyFile, NoKey},
    mask::Mask,
    seal::{Keyring, SealError},
    store::{Cause, Kind, Operation, SealedSecret, Store, StoreError, WrittenSecrets},
};

pub(crate) use zone_keys::reseal as reseal_zone;

/// Clones share the keys.
#[derive(Clone, Debug)]
pub(crate) struct Vault {
    store: Store,
    keys: Arc<KeyFile>,
    /// Held for the time of a rotation, and of what must not come between: there is one at a time.
    rotation: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    NoKey(#[from] NoKey),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the key file cannot be written: {0}")]
    File(#[from] io::Error),
}

/// What a rotation came to.
#[derive(Debug)]
pub(crate) struct Rotated {
    /// The new key's name.
    pub(crate) key: String,
    /// How many values were sealed anew.
    pub(crate) resealed: u64,
    /// Those that could not be opened, as `app/NAME` or `Notifier/name`: they must be set again.
    pub(crate) unreadable: BTreeSet<String>,
    /// That it was, if anybody asked for it.
    pub(crate) operation: Option<Operation>,
}

impl Vault {
    /// Makes the key if nothing was ever sealed, and ends a rotation that was interrupted. A key
    /// that is lost is logged and no error: it is needed for new containers only.
    ///
    /// # Errors
    /// When a new key cannot be written, or the database fails.
    pub(crate) async fn open(file: PathBuf, store: Store) -> Result<Self, VaultError> {
        let keys = Arc::new(KeyFile::new(file));
        let vault = Self { store, keys, rotation: Arc::default() };
        match vault.keys.read() {
            Ok(keys) if keys.has_former() => _ = vault.seal_anew(&keys, None).await?,
            Ok(_) => {}
            Err(NoKey::Gone(_)) if !vault.store.has_sealed().await? => {
                vault.keys.write(Keyring::new())?;
            }
            Err(error) => tracing::error!(%error, "the secrets of apps cannot be read"),
        }
        Ok(vault)
    }

    /// The keys, for what else is sealed with them.
    pub(crate) fn keys(&self) -> &Arc<KeyFile> {
        &self.keys
    }

    /// Sets (`Some`) and removes secrets of an app: see [`Store::write_secrets`].
    pub(crate) async fn set(
        &self,
        app: &AppName,
        changes: &BTreeMap<SecretName, Option<Secret>>,
        actor: &str,
    ) -> Result<WrittenSecrets, StoreError> {
        self.store.write_secrets(app, changes, &self.keys, actor).await
    }

    /// Makes a new key and seals everything with it, in one transaction and with everything
    /// running. The former keys are let go when nothing needs them any more. Whenever it is
    /// interrupted, the file has every key that is needed.
    ///
    /// # Errors
    /// When the key file is damaged or cannot be written, or the database fails.
    pub(crate) async fn rotate(&self, cause: Cause<'_>) -> Result<Rotated, VaultError> {
        let _one_at_a_time = self.rotation.lock().await;
        let former = match self.keys.read() {
            Ok(former) => Some(former),
            Err(NoKey::Gone(_)) => self.keys.keys().ok(),
            Err(damaged) => return Err(damaged.into()),
        };
        let renewed = former.map_or_else(Keyring::new, |former| former.renewed());
        let keys = self.write(renewed)?;
        self.seal_anew(&keys, Some(cause)).await
    }

    async fn seal_anew(
        &self,
        keys: &Keyring,
        cause: Option<Cause<'_>>,
    ) -> Result<Rotated, VaultError> {
        let resealed = self.store.reseal(keys, cause).await?;
        self.write(keys.reduced(|key| resealed.former_keys.contains(key)))?;
        let (key, unreadable) = (keys.newest().to_owned(), resealed.unreadable);
        tracing::info!(key, resealed = resealed.count, ?unreadable, "secrets are sealed anew");
        let (resealed, operation) = (resealed.count, resealed.operation);
        Ok(Rotated { key, resealed, unreadable, operation })
    }

    fn write(&self, keys: Keyring) -> io::Result<Arc<Keyring>> {
        failpoint::pass("before", "key");
        let written = self.keys.write(keys);
        failpoint::pass("after", "key");
        written
    }

    /// The values of the secrets that a container is made with.
    ///
    /// # Errors
    /// [`ActionError::Secret`] for one that cannot be had.
    pub(crate) async fn secrets_of(&self, spec: &ContainerSpec) -> Result<Secrets, ActionError> {
        let versions = &spec.template.secrets;
        if versions.is_empty() {
            return Ok(Secrets::new());
        }
        let kept = self.store.sealed_secrets(&spec.instance.app).await;
        let value = |name: &SecretName, version: u64| match &kept {
            Ok(kept) => match kept.iter().find(|s| s.name == *name && s.version == version) {
                Some(sealed) => self.open_one(sealed).map_err(|error| error.to_string()),
                None => Err("it is no longer kept; set it again".to_owned()),
            },
            Err(error) => Err(error.to_string()),
        };
        let pair = |(name, version): (&SecretName, &u64)| match value(name, *version) {
            Ok(value) => Ok((name.clone(), value)),
            Err(why) => Err(ActionError::Secret { name: name.clone(), why }),
        };
        versions.iter().map(pair).collect()
    }

    /// What hides an app's secrets in what it writes: everything, if they cannot be known.
    pub(crate) async fn mask(&self, app: &AppName) -> Mask {
        match self.all_values(app).await {
            Ok(values) => Mask::new(values.iter().map(Secret::expose)),
            Err(error) => {
                tracing::debug!(%app, %error, "its output is hidden");
                Mask::Everything
            }
        }
    }

    async fn all_values(&self, app: &AppName) -> Result<Vec<Secret>, VaultError> {
        let kept = self.store.sealed_secrets(app).await?;
        if kept.is_empty() && self.store.find::<App>(app).await?.is_none() {
            // It was deleted, and may still write what is no longer known.
            return Err(StoreError::not_found(Kind::App, app).into());
        }
        kept.iter().map(|sealed| self.open_one(sealed)).collect()
    }

    fn open_one(&self, sealed: &SealedSecret) -> Result<Secret, VaultError> {
        self.open_with(|keyring| sealed.open(keyring))
    }

    /// With the keys that are known, or else with those of the file.
    fn open_with<T>(
        &self,
        open: impl Fn(&Keyring) -> Result<T, SealError>,
    ) -> Result<T, VaultError> {
        match open(&*self.keys.keys()?) {
            Err(SealError::UnknownKey(_)) => Ok(open(&*self.keys.read()?)?),
            opened => Ok(opened?),
        }
    }
}
