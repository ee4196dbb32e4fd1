//! An authority, and as whom it knows us.

use std::fmt;

use instant_acme::{Account, AccountBuilder, Error, ExternalAccountKey, Key, NewAccount};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weir_config::{IssuerName, IssuerSpec};
use zeroize::Zeroizing;

use super::{client::Client, order::Stop};
use crate::{
    certificates::Surroundings,
    failpoint,
    key_file::KeyFile,
    store::{self, Record, Store},
};

/// An authority that can be asked.
pub(crate) struct Issuer {
    pub(crate) name: IssuerName,
    pub(crate) spec: IssuerSpec,
    pub(super) client: Client,
    eab: Option<ExternalAccountKey>,
}

impl Issuer {
    /// # Errors
    /// Why it cannot be asked.
    pub(crate) fn new(record: Record<store::Issuer>, keys: &KeyFile) -> Result<Self, String> {
        let Record { name, spec, extra: eab_key, .. } = record;
        let client = Client::new(spec.roots.as_deref())
            .map_err(|error| format!("its roots cannot be used: {error}"))?;
        let eab = match (&spec.eab, &eab_key) {
            (None, _) => None,
            (Some(_), None) => return Err("its external account has no key".to_owned()),
            (Some(eab), Some(sealed)) => {
                let keys = keys.keys().map_err(|error| error.to_string())?;
                let key = keys.open(&["eab", &name], sealed).map_err(|error| error.to_string())?;
                Some(ExternalAccountKey::new(eab.key_id.clone(), &decoded(&key)?))
            }
        };
        Ok(Self { name, spec, client, eab })
    }

    /// The account, made if need be.
    pub(super) async fn account(
        &self,
        client: Client,
        around: &Surroundings,
    ) -> Result<Account, Stop> {
        let _one_at_a_time = around.accounts.lock().await;
        let (store, keys, directory) = (&around.store, &around.keys, &self.spec.directory);
        let known = store.acme_account(&self.name, directory).await?;
        let builder = Account::builder_with_http(Box::new(client));
        let Some(known) = known else { return self.make(builder, around).await };
        let key = keys.keys()?.open(&["acme-account", &self.name], &known.key)?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        match known.url {
            Some(url) => Ok(builder.from_parts(url, key, directory.clone()).await?),
            None => self.tell(builder, key, store).await,
        }
    }

    /// Keeps the key before the authority hears of it, so that it never knows two of us. What is
    /// tied to an external account comes with a key of the library's making.
    async fn make(&self, builder: AccountBuilder, around: &Surroundings) -> Result<Account, Stop> {
        let (store, keys, directory) = (&around.store, &around.keys, &self.spec.directory);
        let Some(eab) = &self.eab else {
            let (_, key) = Key::generate_pkcs8()?;
            store.begin_account(&self.name, directory, key.secret_pkcs8_der(), keys).await?;
            return self.tell(builder, key, store).await;
        };
        let contacts = self.contacts();
        let contacts: Vec<_> = contacts.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: self.spec.terms_agreed,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&new, directory.clone(), Some(eab)).await?;
        let key = credentials.private_key().secret_pkcs8_der();
        store.begin_account(&self.name, directory, key, keys).await?;
        store.account_is(&self.name, account.id()).await?;
        Ok(account)
    }

    /// Tells the authority of an account, which it may know already.
    async fn tell(
        &self,
        builder: AccountBuilder,
        key: PrivatePkcs8KeyDer<'static>,
        store: &Store,
    ) -> Result<Account, Stop> {
        let pair = (Key::from_pkcs8_der(key.clone_key())?, PrivateKeyDer::Pkcs8(key));
        let (account, _) = builder.create_from_key(pair, self.spec.directory.clone()).await?;
        failpoint::pass("after", "account");
        let contacts = self.contacts();
        if !contacts.is_empty() {
            let contacts: Vec<_> = contacts.iter().map(String::as_str).collect();
            account.update_contacts(&contacts).await?;
        }
        store.account_is(&self.name, account.id()).await?;
        Ok(account)
    }

    fn contacts(&self) -> Vec<String> {
        self.spec.emails.iter().map(|email| format!("mailto:{email}")).collect()
    }
}

fn decoded(key: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(key);
    decoded.map(Zeroizing::new).map_err(|error| format!("its external account's key: {error}"))
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}
