//! The keys of zones' secondaries: sealed where they stand in a zone's spec, and opened for what is
//! served.

use std::sync::Arc;

use weir_config::{
    Desired, DesiredZone, DnsName, HostedZone, Problem, Problems, SEALED_PREFIX, Secondary,
    TsigKey, ZoneKey, ZoneName, ZoneSpec, tsig_secret,
};
use zeroize::Zeroizing;

use super::{Vault, VaultError};
use crate::{
    seal::{Keyring, SealError, Sealed},
    store::StoreError,
};

impl Vault {
    /// Seals the secrets in a spec. One that is left out is that of the key of the same name in the
    /// spec as it is stored.
    ///
    /// # Errors
    /// [`StoreError::Records`] for one that is nowhere; when there is no key to seal with, or the
    /// database fails.
    pub(crate) async fn seal_keys(
        &self,
        zone: &ZoneName,
        spec: &mut ZoneSpec,
    ) -> Result<(), VaultError> {
        if spec.secondaries.iter().all(|secondary| secondary.key.is_none()) {
            return Ok(());
        }
        let former = self.store.find::<HostedZone>(zone).await?.map(|record| record.spec);
        let keyring = self.keys.keys()?;
        let mut problems = Problems::default();
        for (i, secondary) in spec.secondaries.iter_mut().enumerate() {
            let Some(key) = &mut secondary.key else { continue };
            key.secret = match key.secret.take() {
                Some(secret) => Some(seal(&keyring, zone, &key.name, secret.as_bytes())?),
                None => {
                    let former = former.iter().flat_map(|spec| &spec.secondaries);
                    let mut former = former.filter_map(|secondary| secondary.key.as_ref());
                    former.find(|former| former.name == key.name).and_then(|k| k.secret.clone())
                }
            };
            if key.secret.is_none() {
                let pointer = format!("/spec/secondaries/{i}/key/secret");
                let message = "no secret of this key is known yet; write it in base64";
                problems.push(Problem::new(pointer, "required", message));
            }
        }
        problems.or_value(()).map_err(|problems| StoreError::Records(problems).into())
    }

    /// The secondaries of a zone with their keys. Without its key one gets nothing.
    pub(crate) fn secondaries(&self, zone: &HostedZone) -> Arc<[Secondary]> {
        let secondary = |secondary: &weir_config::ZoneSecondary| {
            let address = secondary.address;
            let Some(key) = &secondary.key else { return Some(Secondary { address, key: None }) };
            match self.open_key(&zone.name, key) {
                Ok(key) => Some(Secondary { address, key: Some(Arc::new(key)) }),
                Err(error) => {
                    tracing::error!(zone = %zone.name, %address, %error, "a secondary's key");
                    None
                }
            }
        };
        zone.secondaries.iter().filter_map(secondary).collect()
    }

    /// Everything as meant, with the keys of secondaries.
    pub(crate) async fn desired(&self) -> Result<Desired, StoreError> {
        let mut desired = self.store.desired().await?;
        let has_secondaries = |zone: &&Arc<DesiredZone>| !zone.zone.secondaries.is_empty();
        let zones: Vec<_> = desired.zones.values().filter(has_secondaries).cloned().collect();
        for zone in zones {
            let secondaries = self.secondaries(&zone.zone);
            let zone = DesiredZone { secondaries, ..(*zone).clone() };
            desired.zones.insert(zone.zone.name.clone(), Arc::new(zone));
        }
        Ok(desired)
    }

    fn open_key(&self, zone: &ZoneName, key: &ZoneKey) -> Result<TsigKey, VaultError> {
        let sealed = key.secret.as_deref().and_then(sealed).ok_or(SealError::Broken)?;
        let name = key.name.to_string();
        let opened = match open(&*self.keys.keys()?, zone, &name, &sealed) {
            Err(SealError::UnknownKey(_)) => open(&*self.keys.read()?, zone, &name, &sealed)?,
            opened => opened?,
        };
        let secret = str::from_utf8(&opened).ok().and_then(tsig_secret);
        let secret = Zeroizing::new(secret.ok_or(SealError::Broken)?);
        Ok(TsigKey { name: key.name.clone(), algorithm: key.algorithm, secret })
    }
}

/// Seals the secrets of a stored spec with the newest key; returns how many, and the names and
/// former keys of those that could not be opened.
pub(crate) fn reseal(
    keyring: &Keyring,
    zone: &ZoneName,
    spec: &mut ZoneSpec,
) -> Result<(u64, Vec<(String, String)>), SealError> {
    let (mut count, mut unreadable) = (0, Vec::new());
    for key in spec.secondaries.iter_mut().filter_map(|secondary| secondary.key.as_mut()) {
        let Some(former) = key.secret.as_deref().and_then(sealed) else { continue };
        if former.key == keyring.newest() {
            continue;
        }
        match open(keyring, zone, &key.name, &former) {
            Ok(secret) => {
                key.secret = Some(seal(keyring, zone, &key.name, &secret)?);
                count += 1;
            }
            Err(_) => unreadable.push((format!("{zone}/{}", key.name), former.key)),
        }
    }
    Ok((count, unreadable))
}

fn seal(keyring: &Keyring, zone: &ZoneName, key: &str, secret: &[u8]) -> Result<String, SealError> {
    let name = canonical(key);
    let Sealed { key, text } = keyring.seal(&["tsig", zone, &name], secret)?;
    Ok(format!("{SEALED_PREFIX}{key}:{text}"))
}

fn open(
    keyring: &Keyring,
    zone: &ZoneName,
    key: &str,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    keyring.open(&["tsig", zone, &canonical(key)], sealed)
}

/// A name in the one way in which it is sealed, however it is written.
fn canonical(key: &str) -> String {
    key.parse::<DnsName>().map_or_else(|_| key.to_owned(), |name| name.to_string())
}

fn sealed(text: &str) -> Option<Sealed> {
    let (key, text) = text.strip_prefix(SEALED_PREFIX)?.split_once(':')?;
    Some(Sealed { key: key.to_owned(), text: text.to_owned() })
}
