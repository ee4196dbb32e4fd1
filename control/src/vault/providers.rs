//! Providers: all that is written of one is sealed, because a URL may be a secret too.

use weir_config::{ProviderName, ProviderSpec};

use super::{Vault, VaultError};
use crate::store::{Cause, Precondition, Provider, Record, StoreError, Written};

impl Vault {
    /// All that is written of a provider; `None` if there is none.
    pub(crate) async fn provider(
        &self,
        name: &ProviderName,
    ) -> Result<Option<ProviderSpec>, VaultError> {
        let record = self.store.find::<Provider>(name).await?;
        record.map(|record| self.open_provider(&record)).transpose()
    }

    /// Makes a provider what is written; without a secret it keeps the one it has.
    ///
    /// # Errors
    /// [`StoreError::NoProviderSecret`], [`StoreError::TooManyProviders`], those of the precondition
    /// and of the key; nothing is changed.
    pub(crate) async fn put_provider(
        &self,
        name: &ProviderName,
        written: ProviderSpec,
        precondition: Precondition,
        cause: Cause<'_>,
    ) -> Result<Written<Provider>, VaultError> {
        // Nothing is sealed with a former key once a rotation has begun to seal everything anew.
        let _not_while_it_is_rotated = self.rotation.lock().await;
        let former = self.store.find::<Provider>(name).await?;
        let kept = former.as_ref().map(|former| self.open_provider(former)).and_then(Result::ok);
        let spec = complete(written, kept.as_ref())?;
        let provider = match (former, kept) {
            // The same again is sealed as it was, and so it is no change.
            (Some(former), Some(kept)) if kept == spec => {
                Provider { name: name.clone(), sealed: former.extra }
            }
            _ => Provider::new(name, &spec, &*self.keys.keys()?)?,
        };
        Ok(self.store.put(&spec.shown(), &provider, precondition, cause).await?)
    }

    /// Whether writing a provider would change what is not shown of it.
    ///
    /// # Errors
    /// As [`Self::put_provider`].
    pub(crate) async fn changes_provider_secret(
        &self,
        name: &ProviderName,
        written: ProviderSpec,
    ) -> Result<bool, VaultError> {
        let former = self.store.find::<Provider>(name).await?;
        let kept = former.map(|former| self.open_provider(&former)).and_then(Result::ok);
        let spec = complete(written, kept.as_ref())?;
        let url = |spec: &ProviderSpec| spec.webhook.as_ref().map(|webhook| webhook.url.clone());
        Ok(kept.is_none_or(|kept| kept.secret() != spec.secret() || url(&kept) != url(&spec)))
    }

    fn open_provider(&self, record: &Record<Provider>) -> Result<ProviderSpec, VaultError> {
        self.open_with(|keyring| Provider::open(&record.name, &record.extra, keyring))
    }
}

/// What is written, with the secret that there is already.
fn complete(
    written: ProviderSpec,
    kept: Option<&ProviderSpec>,
) -> Result<ProviderSpec, VaultError> {
    let spec = match kept {
        Some(kept) => written.or_secret_of(kept),
        None => written,
    };
    match spec.secret() {
        Some(_) => Ok(spec),
        None => Err(StoreError::NoProviderSecret { pointer: spec.secret_pointer() }.into()),
    }
}
