//! Notifiers: all that is written of one is sealed, because a URL may be a secret too.

use weir_config::{NotifierFormat, NotifierName, NotifierSpec};

use super::{Vault, VaultError};
use crate::store::{Cause, Notifier, Precondition, Record, StoreError, Written};

impl Vault {
    /// All that is written of a notifier; `None` if there is none.
    pub(crate) async fn notifier(
        &self,
        name: &NotifierName,
    ) -> Result<Option<NotifierSpec>, VaultError> {
        let record = self.store.find::<Notifier>(name).await?;
        record.map(|record| self.open_notifier(&record)).transpose()
    }

    /// Makes a notifier what is written; without a secret it keeps the one it has.
    ///
    /// # Errors
    /// [`StoreError::NoSigningSecret`], [`StoreError::TooManyNotifiers`], those of the precondition
    /// and of the key; nothing is changed.
    pub(crate) async fn put_notifier(
        &self,
        name: &NotifierName,
        written: NotifierSpec,
        precondition: Precondition,
        cause: Cause<'_>,
    ) -> Result<Written<Notifier>, VaultError> {
        // Nothing is sealed with a former key once a rotation has begun to seal everything anew.
        let _not_while_it_is_rotated = self.rotation.lock().await;
        let former = self.store.find::<Notifier>(name).await?;
        let kept = former.as_ref().map(|former| self.open_notifier(former));
        let spec = complete(written, &kept)?;
        let notifier = match (former, kept) {
            // The same again is sealed as it was, and so it is no change.
            (Some(former), Some(Ok(kept))) if kept == spec => Notifier {
                name: name.clone(),
                sealed: former.extra.sealed,
                has_secret: former.extra.has_secret,
            },
            _ => Notifier::new(name, &spec, &*self.keys.keys()?)?,
        };
        Ok(self.store.put(&spec.shown(), &notifier, precondition, cause).await?)
    }

    /// Which fields of a notifier writing it would change, of those that are not shown.
    ///
    /// # Errors
    /// As [`Self::put_notifier`].
    pub(crate) async fn hidden_changes_of_notifier(
        &self,
        name: &NotifierName,
        written: NotifierSpec,
    ) -> Result<Vec<&'static str>, VaultError> {
        let former = self.store.find::<Notifier>(name).await?;
        let kept = former.as_ref().map(|former| self.open_notifier(former));
        let spec = complete(written, &kept)?;
        let kept = kept.and_then(Result::ok);
        let mut changes = Vec::new();
        if kept.as_ref().map(|kept| &kept.url) != Some(&spec.url) {
            changes.push("url");
        }
        if kept.and_then(|kept| kept.secret) != spec.secret {
            changes.push("secret");
        }
        Ok(changes)
    }

    fn open_notifier(&self, record: &Record<Notifier>) -> Result<NotifierSpec, VaultError> {
        self.open_with(|keyring| Notifier::open(&record.name, &record.extra.sealed, keyring))
    }
}

/// What is written, with the secret that there is already.
fn complete(
    mut written: NotifierSpec,
    kept: &Option<Result<NotifierSpec, VaultError>>,
) -> Result<NotifierSpec, VaultError> {
    if written.secret.is_none()
        && let Some(Ok(kept)) = kept
    {
        written.secret.clone_from(&kept.secret);
    }
    let is_signed = written.format == NotifierFormat::Standard;
    match written.secret {
        None if is_signed => Err(StoreError::NoSigningSecret.into()),
        _ => Ok(written),
    }
}
