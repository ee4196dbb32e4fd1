//! Certificates, sealed, and what has failed of ordering them.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Hostname, IssuerName};

use super::{
    Cause, Store, StoreError, Target,
    operations::{Change, note_done},
    parse_name,
};
use crate::{
    acme::Failures, certificates::Source, key_file::KeyFile, seal::Sealed, time::unix_millis,
};

/// A certificate as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredCertificate {
    /// The first of its names.
    pub(crate) name: Hostname,
    pub(crate) source: Source,
    pub(crate) issuer: Option<IssuerName>,
    /// PEM.
    pub(crate) chain: String,
    /// PEM, of the key.
    pub(crate) sealed: Sealed,
    /// In seconds since the Unix epoch.
    pub(crate) renew_at: Option<i64>,
}

/// One to be kept.
#[derive(Debug)]
pub(crate) struct NewCertificate<'a> {
    pub(crate) name: &'a Hostname,
    pub(crate) source: Source,
    pub(crate) issuer: Option<&'a IssuerName>,
    pub(crate) chain_pem: &'a str,
    pub(crate) key_pem: &'a str,
    pub(crate) renew_at: Option<i64>,
}

const COLUMNS: &str = "name, source, issuer, chain, key_id, sealed, renew_at";
/// Read at once, so that very many do not need their memory twice.
const PAGE: i64 = 1000;

impl Store {
    /// Some of them by name, beginning after one.
    pub(crate) async fn certificates(
        &self,
        after: &str,
    ) -> Result<Vec<StoredCertificate>, StoreError> {
        let select =
            format!("SELECT {COLUMNS} FROM certificates WHERE name > $1 ORDER BY name LIMIT $2");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).bind(after).bind(PAGE);
        rows.fetch_all(&self.readers).await?.iter().map(StoredCertificate::of).collect()
    }

    pub(crate) async fn certificate(
        &self,
        name: &str,
    ) -> Result<Option<StoredCertificate>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM certificates WHERE name = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(name);
        let row = row.fetch_optional(&self.readers).await?;
        row.as_ref().map(StoredCertificate::of).transpose()
    }

    /// Keeps a certificate in the place of the former one of its name. An order of it is done, and
    /// what had failed before is forgotten. The audit log says what was before and what is after.
    ///
    /// # Errors
    /// [`StoreError::NoKey`] and those of the database; nothing is changed.
    pub(crate) async fn put_certificate(
        &self,
        new: &NewCertificate<'_>,
        keys: &KeyFile,
        (before, after): (Option<String>, String),
        cause: Cause<'_>,
    ) -> Result<StoredCertificate, StoreError> {
        let stored = self.write(async |writing| {
            // Inside the transaction: see `write_secrets`.
            let sealed = keys.keys()?.seal(&["certificate", new.name], new.key_pem.as_bytes())?;
            sqlx::query(
                "INSERT INTO certificates
                    (name, source, issuer, chain, key_id, sealed, renew_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (name) DO UPDATE SET source = excluded.source,
                    issuer = excluded.issuer, chain = excluded.chain, key_id = excluded.key_id,
                    sealed = excluded.sealed, renew_at = excluded.renew_at,
                    updated_at = excluded.updated_at",
            )
            .bind(&**new.name)
            .bind(new.source.as_str())
            .bind(new.issuer.map(|issuer| &**issuer))
            .bind(new.chain_pem)
            .bind(&sealed.key)
            .bind(&sealed.text)
            .bind(new.renew_at)
            .bind(unix_millis())
            .execute(&mut *writing)
            .await?;
            forget_order(writing, new.name).await?;
            note(writing, new.name, (before, Some(after)), cause).await?;
            Ok(StoredCertificate {
                name: new.name.clone(),
                source: new.source,
                issuer: new.issuer.cloned(),
                chain: new.chain_pem.to_owned(),
                sealed,
                renew_at: new.renew_at,
            })
        });
        let stored = stored.await?;
        self.operations_are_new();
        Ok(stored)
    }

    /// Removes a certificate, and everything about ordering it.
    pub(crate) async fn delete_certificate(
        &self,
        name: &Hostname,
        before: Option<String>,
        cause: Cause<'_>,
    ) -> Result<(), StoreError> {
        let deleted = self.write(async |writing| {
            let deleted = sqlx::query("DELETE FROM certificates WHERE name = $1")
                .bind(&**name)
                .execute(&mut *writing)
                .await?;
            forget_order(writing, name).await?;
            if deleted.rows_affected() > 0 {
                note(writing, name, (before, None), cause).await?;
            }
            Ok(())
        });
        deleted.await?;
        self.operations_are_new();
        Ok(())
    }

    pub(crate) async fn set_renewal(
        &self,
        name: &Hostname,
        renew_at: i64,
    ) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("UPDATE certificates SET renew_at = $2 WHERE name = $1")
                .bind(&**name)
                .bind(renew_at)
                .execute(writing)
                .await?;
            Ok(())
        })
        .await
    }

    /// What has failed and not succeeded since, by name.
    pub(crate) async fn acme_failures(&self) -> Result<Vec<(Hostname, Failures)>, StoreError> {
        let rows =
            sqlx::query("SELECT name, failures, next_at, message, is_limited FROM acme_failures")
                .fetch_all(&self.readers)
                .await?;
        let of = |row: &SqliteRow| {
            let failures = Failures {
                count: row.try_get::<i64, _>("failures")? as u32,
                next_at: row.try_get("next_at")?,
                message: row.try_get("message")?,
                is_limited: row.try_get::<i64, _>("is_limited")? != 0,
            };
            Ok((parse_name(row)?, failures))
        };
        rows.iter().map(of).collect()
    }

    /// Notes that an order has failed: it is over, whatever becomes of it.
    pub(crate) async fn order_failed(
        &self,
        name: &Hostname,
        failures: &Failures,
        is_over: bool,
    ) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query(
                "INSERT INTO acme_failures (name, failures, next_at, message, is_limited)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (name) DO UPDATE SET failures = excluded.failures,
                    next_at = excluded.next_at, message = excluded.message,
                    is_limited = excluded.is_limited",
            )
            .bind(&**name)
            .bind(i64::from(failures.count))
            .bind(failures.next_at)
            .bind(&failures.message)
            .bind(i64::from(failures.is_limited))
            .execute(&mut *writing)
            .await?;
            if is_over {
                sqlx::query("DELETE FROM acme_orders WHERE name = $1")
                    .bind(&**name)
                    .execute(writing)
                    .await?;
            }
            Ok(())
        })
        .await
    }
}

impl StoredCertificate {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let source: String = row.try_get("source")?;
        let issuer: Option<String> = row.try_get("issuer")?;
        Ok(Self {
            name: parse_name(row)?,
            source: Source::parse(&source).ok_or_else(|| StoreError::Corrupt(source))?,
            issuer: issuer.map(|name| name.parse().map_err(StoreError::Corrupt)).transpose()?,
            chain: row.try_get("chain")?,
            sealed: Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? },
            renew_at: row.try_get("renew_at")?,
        })
    }
}

/// Takes down who made what of a certificate.
async fn note(
    writing: &mut SqliteConnection,
    name: &Hostname,
    (before, after): (Option<String>, Option<String>),
    cause: Cause<'_>,
) -> Result<(), StoreError> {
    let change = Change { target: Target::certificate(name), revision: None, before, after };
    note_done(writing, cause, change, "done".to_owned()).await.map(drop)
}

async fn forget_order(
    connection: &mut SqliteConnection,
    name: &Hostname,
) -> Result<(), StoreError> {
    for statement in
        ["DELETE FROM acme_orders WHERE name = $1", "DELETE FROM acme_failures WHERE name = $1"]
    {
        sqlx::query(statement).bind(&**name).execute(&mut *connection).await?;
    }
    Ok(())
}
