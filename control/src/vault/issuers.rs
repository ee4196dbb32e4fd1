//! Authorities: the key of an external account is sealed, and nothing else of one.

use weir_config::{IssuerName, IssuerSpec};
use zeroize::Zeroizing;

use super::{Vault, VaultError};
use crate::{
    seal::Sealed,
    store::{Cause, Issuer, Precondition, StoreError, Written},
};

impl Vault {
    /// Makes an authority what is written; without the key of its external account it keeps the one
    /// it has.
    ///
    /// # Errors
    /// [`StoreError::NoEabKey`], [`StoreError::TooManyIssuers`], those of the precondition and of
    /// the key file; nothing is changed.
    pub(crate) async fn put_issuer(
        &self,
        name: &IssuerName,
        written: &IssuerSpec,
        precondition: Precondition,
        cause: Cause<'_>,
    ) -> Result<Written<Issuer>, VaultError> {
        // Nothing is sealed with a former key once a rotation has begun to seal everything anew.
        let _not_while_it_is_rotated = self.rotation.lock().await;
        let kept = self.eab_key(name).await?;
        let eab_key = match (&written.eab, kept) {
            (None, _) => None,
            (Some(eab), kept) => match (&eab.key, kept) {
                (None, None) => return Err(StoreError::NoEabKey.into()),
                (None, Some((sealed, _))) => Some(sealed),
                // The same again is sealed as it was, and so it is no change.
                (Some(key), Some((sealed, Some(kept)))) if *kept == *key => Some(sealed),
                (Some(key), _) => Some(self.keys.keys()?.seal(&["eab", name], key.as_bytes())?),
            },
        };
        let issuer = Issuer { name: name.clone(), eab_key };
        Ok(self.store.put(&written.shown(), &issuer, precondition, cause).await?)
    }

    /// Which fields of an authority writing it would change, of those that are not shown.
    ///
    /// # Errors
    /// As [`Self::put_issuer`].
    pub(crate) async fn hidden_changes_of_issuer(
        &self,
        name: &IssuerName,
        written: &IssuerSpec,
    ) -> Result<Vec<&'static str>, VaultError> {
        let Some(eab) = &written.eab else { return Ok(Vec::new()) };
        let kept = self.eab_key(name).await?;
        Ok(match (&eab.key, kept) {
            (None, None) => return Err(StoreError::NoEabKey.into()),
            (None, Some(_)) => Vec::new(),
            (Some(key), Some((_, Some(kept)))) if *kept == *key => Vec::new(),
            (Some(_), _) => vec!["eab.key"],
        })
    }

    /// The key of its external account, and what it is if it can be opened.
    async fn eab_key(
        &self,
        name: &IssuerName,
    ) -> Result<Option<(Sealed, Option<Zeroizing<String>>)>, VaultError> {
        let former = self.store.find::<Issuer>(name).await?;
        let Some(sealed) = former.and_then(|former| former.extra) else { return Ok(None) };
        let opened = self.open_with(|keyring| keyring.open(&["eab", name], &sealed)).ok();
        let text = opened.and_then(|key| String::from_utf8(key.to_vec()).ok());
        Ok(Some((sealed, text.map(Zeroizing::new))))
    }
}
