//! Authorities that certificates are ordered from. The key of an external account is sealed, apart
//! from what is shown.

use std::collections::BTreeMap;

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Hostname, IssuerName, IssuerSpec, Problems};

use super::{
    Kind, Page, Store, StoreError, Verb,
    acme::forget_account,
    objects::{Object, Record},
};
use crate::seal::Sealed;

/// The most of them.
const MAX_ISSUERS: i64 = 20;

/// An authority: all of its spec but the key of its external account, which is sealed.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) name: IssuerName,
    pub(crate) eab_key: Option<Sealed>,
}

impl Object for Issuer {
    const KIND: Kind = Kind::Issuer;

    type Name = IssuerName;
    type Spec = IssuerSpec;
    /// The key of its external account.
    type Extra = Option<Sealed>;
    type Extras = BTreeMap<String, Sealed>;
    /// The keeper of certificates reads them by itself.
    type Meant = ();

    fn name(&self) -> &IssuerName {
        &self.name
    }

    async fn read_extras(
        connection: &mut SqliteConnection,
        name: Option<&IssuerName>,
    ) -> Result<Self::Extras, StoreError> {
        let rows = sqlx::query(
            "SELECT issuer, key_id, sealed FROM issuer_keys WHERE $1 IS NULL OR issuer = $1",
        );
        let rows = rows.bind(name.map(|name| &**name)).fetch_all(connection).await?;
        let of = |row: &SqliteRow| {
            let key = Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? };
            Ok((row.try_get("issuer")?, key))
        };
        rows.iter().map(of).collect()
    }

    fn extra(
        extras: &mut Self::Extras,
        name: &IssuerName,
        _: &IssuerSpec,
    ) -> Result<Option<Sealed>, StoreError> {
        Ok(extras.remove(&**name))
    }

    fn is_extra_of(&self, former: &Record<Self>) -> bool {
        self.eab_key == former.extra
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
        delete_key(writing, &self.name).await?;
        if let Some(key) = &self.eab_key {
            sqlx::query("INSERT INTO issuer_keys (issuer, key_id, sealed) VALUES ($1, $2, $3)")
                .bind(&*self.name)
                .bind(&key.key)
                .bind(&key.text)
                .execute(&mut *writing)
                .await?;
        }
        let all = sqlx::query("SELECT COUNT(*) AS count FROM objects WHERE kind = 'Issuer'");
        match all.fetch_one(writing).await?.try_get::<i64, _>("count")? {
            ..=MAX_ISSUERS => Ok(()),
            _ => Err(StoreError::TooManyIssuers { most: MAX_ISSUERS }),
        }
    }

    /// And its account and orders; what it has issued stays.
    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &IssuerName,
    ) -> Result<(), StoreError> {
        delete_key(writing, name).await?;
        forget_account(writing, name).await
    }
}

async fn delete_key(writing: &mut SqliteConnection, name: &IssuerName) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM issuer_keys WHERE issuer = $1").bind(&**name);
    delete.execute(writing).await?;
    Ok(())
}

impl Store {
    /// All authorities, in the order in which they are asked.
    pub(crate) async fn issuers(&self) -> Result<Vec<Record<Issuer>>, StoreError> {
        let (mut issuers, _) = self.list::<Issuer>(&Page::default()).await?;
        issuers.sort_by_key(|issuer| issuer.spec.rank);
        Ok(issuers)
    }
}
