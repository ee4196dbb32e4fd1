//! Who answers for zones that are hosted elsewhere. What is secret of them is sealed, apart from what
//! is shown.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{FailoverName, Hostname, Problems, ProviderName, ProviderSpec};

use super::{
    Kind, StoreError, Verb,
    objects::{Object, Record},
    parse_name,
};
use crate::seal::{Keyring, SealError, Sealed};

/// The most of them.
const MAX_PROVIDERS: i64 = 50;

/// A provider: all that is written, sealed. Its spec is what may be shown of that.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: ProviderName,
    pub(crate) sealed: Sealed,
}

impl Provider {
    pub(crate) fn new(
        name: &ProviderName,
        spec: &ProviderSpec,
        keyring: &Keyring,
    ) -> Result<Self, StoreError> {
        let text = serde_json::to_vec(spec).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        Ok(Self { name: name.clone(), sealed: keyring.seal(&place(name), &text)? })
    }

    /// All that was written of one.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`]; [`SealError::Broken`] for what was not sealed for this one.
    pub(crate) fn open(
        name: &ProviderName,
        sealed: &Sealed,
        keyring: &Keyring,
    ) -> Result<ProviderSpec, SealError> {
        let text = keyring.open(&place(name), sealed)?;
        serde_json::from_slice(&text).map_err(|_| SealError::Broken)
    }
}

fn place(name: &ProviderName) -> [&str; 2] {
    ["provider", name]
}

impl Object for Provider {
    const KIND: Kind = Kind::Provider;

    type Name = ProviderName;
    type Spec = ProviderSpec;
    type Extra = Sealed;
    type Extras = BTreeMap<String, Sealed>;
    /// The loop has nothing to do with it.
    type Meant = ();

    fn name(&self) -> &ProviderName {
        &self.name
    }

    async fn read_extras(
        connection: &mut SqliteConnection,
        name: Option<&ProviderName>,
    ) -> Result<Self::Extras, StoreError> {
        let rows =
            sqlx::query("SELECT name, key_id, sealed FROM providers WHERE $1 IS NULL OR name = $1");
        let rows = rows.bind(name.map(|name| &**name)).fetch_all(connection).await?;
        let of = |row: &SqliteRow| {
            let sealed = Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? };
            Ok((row.try_get("name")?, sealed))
        };
        rows.iter().map(of).collect()
    }

    fn extra(
        extras: &mut Self::Extras,
        name: &ProviderName,
        _: &ProviderSpec,
    ) -> Result<Sealed, StoreError> {
        let missing = || StoreError::Corrupt(format!("Provider/{name}: its secret is missing"));
        extras.remove(&**name).ok_or_else(missing)
    }

    fn is_extra_of(&self, former: &Record<Self>) -> bool {
        self.sealed == former.extra
    }

    fn meant(_: &Record<Self>, _: &Hostname) -> Result<(), Problems> {
        Ok(())
    }

    async fn write_extra(
        &self,
        writing: &mut SqliteConnection,
        _: Option<&Record<Self>>,
        _: Verb,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO providers (name, key_id, sealed) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed",
        )
        .bind(&*self.name)
        .bind(&self.sealed.key)
        .bind(&self.sealed.text)
        .execute(&mut *writing)
        .await?;
        let all = sqlx::query("SELECT COUNT(*) AS count FROM providers").fetch_one(writing).await?;
        match all.try_get::<i64, _>("count")? {
            ..=MAX_PROVIDERS => Ok(()),
            _ => Err(StoreError::TooManyProviders { most: MAX_PROVIDERS }),
        }
    }

    /// # Errors
    /// [`StoreError::ProviderInUse`].
    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &ProviderName,
    ) -> Result<(), StoreError> {
        let users = sqlx::query(
            "SELECT policy AS name FROM failover_providers WHERE provider = $1 ORDER BY policy",
        );
        let users = users.bind(&**name).fetch_all(&mut *writing).await?;
        let policies: Vec<FailoverName> = users.iter().map(parse_name).collect::<Result<_, _>>()?;
        if !policies.is_empty() {
            return Err(StoreError::ProviderInUse { provider: name.clone(), policies });
        }
        let delete = sqlx::query("DELETE FROM providers WHERE name = $1").bind(&**name);
        delete.execute(writing).await?;
        Ok(())
    }
}

/// Notes by which provider a policy is carried out, if by any; it must exist.
pub(super) async fn name_provider(
    writing: &mut SqliteConnection,
    policy: &FailoverName,
    provider: Option<&ProviderName>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM failover_providers WHERE policy = $1")
        .bind(&**policy)
        .execute(&mut *writing)
        .await?;
    let Some(provider) = provider else { return Ok(()) };
    let named = sqlx::query(
        "INSERT INTO failover_providers (policy, provider)
         SELECT $1, name FROM providers WHERE name = $2",
    );
    let named = named.bind(&**policy).bind(&**provider).execute(writing).await?;
    match named.rows_affected() {
        0 => Err(StoreError::NoSuchProvider { provider: provider.clone() }),
        _ => Ok(()),
    }
}
