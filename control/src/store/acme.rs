//! As whom authorities know us, and orders under way.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Hostname, IssuerName};

use super::{Store, StoreError, objects::from_json, to_json};
use crate::{key_file::KeyFile, seal::Sealed, time::unix_millis};

/// As whom an authority knows us; without a URL it may not have heard of us yet.
#[derive(Debug)]
pub(crate) struct AccountRecord {
    pub(crate) url: Option<String>,
    /// PKCS #8, DER.
    pub(crate) key: Sealed,
}

/// An order under way; without a URL the authority may not have heard of it yet.
#[derive(Clone, Debug)]
pub(crate) struct OrderRecord {
    pub(crate) issuer: IssuerName,
    pub(crate) names: Vec<Hostname>,
    pub(crate) url: Option<String>,
    /// PEM, of the certificate's key.
    pub(crate) key: Sealed,
}

impl Store {
    /// The account with an issuer at this directory.
    pub(crate) async fn acme_account(
        &self,
        issuer: &IssuerName,
        directory: &str,
    ) -> Result<Option<AccountRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT url, key_id, sealed FROM acme_accounts WHERE issuer = $1 AND directory = $2",
        )
        .bind(&**issuer)
        .bind(directory)
        .fetch_optional(&self.readers)
        .await?;
        let of = |row: SqliteRow| {
            let key = Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? };
            Ok(AccountRecord { url: row.try_get("url")?, key })
        };
        row.map(of).transpose()
    }

    /// Keeps the key of an account that the authority has yet to hear of.
    pub(crate) async fn begin_account(
        &self,
        issuer: &IssuerName,
        directory: &str,
        key: &[u8],
        keys: &KeyFile,
    ) -> Result<(), StoreError> {
        self.write(async |writing| {
            let sealed = keys.keys()?.seal(&["acme-account", issuer], key)?;
            sqlx::query(
                "INSERT INTO acme_accounts (issuer, directory, url, key_id, sealed)
                 VALUES ($1, $2, NULL, $3, $4)
                 ON CONFLICT (issuer) DO UPDATE SET directory = excluded.directory,
                    url = excluded.url, key_id = excluded.key_id, sealed = excluded.sealed",
            )
            .bind(&**issuer)
            .bind(directory)
            .bind(&sealed.key)
            .bind(&sealed.text)
            .execute(writing)
            .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn account_is(
        &self,
        issuer: &IssuerName,
        url: &str,
    ) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("UPDATE acme_accounts SET url = $2 WHERE issuer = $1")
                .bind(&**issuer)
                .bind(url)
                .execute(writing)
                .await?;
            Ok(())
        })
        .await
    }

    /// Forgets the account with an issuer, and what was ordered by it.
    pub(crate) async fn forget_account(&self, issuer: &IssuerName) -> Result<(), StoreError> {
        self.write(async |writing| forget_account(writing, issuer).await).await
    }

    /// By the first of their names.
    pub(crate) async fn acme_order(
        &self,
        name: &Hostname,
    ) -> Result<Option<OrderRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT issuer, names, url, key_id, sealed FROM acme_orders WHERE name = $1",
        )
        .bind(&**name)
        .fetch_optional(&self.readers)
        .await?;
        let of = |row: SqliteRow| {
            let issuer: String = row.try_get("issuer")?;
            Ok(OrderRecord {
                issuer: issuer.parse().map_err(StoreError::Corrupt)?,
                names: from_json(&row, "names")?,
                url: row.try_get("url")?,
                key: Sealed { key: row.try_get("key_id")?, text: row.try_get("sealed")? },
            })
        };
        row.map(of).transpose()
    }

    /// Keeps the key of a certificate that is about to be ordered.
    pub(crate) async fn begin_order(
        &self,
        issuer: &IssuerName,
        names: &[Hostname],
        key_pem: &str,
        keys: &KeyFile,
    ) -> Result<(), StoreError> {
        let Some(name) = names.first() else { return Ok(()) };
        self.write(async |writing| {
            let sealed = keys.keys()?.seal(&["acme-order", name], key_pem.as_bytes())?;
            sqlx::query(
                "INSERT INTO acme_orders (name, issuer, names, url, key_id, sealed, created_at)
                 VALUES ($1, $2, $3, NULL, $4, $5, $6)
                 ON CONFLICT (name) DO UPDATE SET issuer = excluded.issuer,
                    names = excluded.names, url = excluded.url, key_id = excluded.key_id,
                    sealed = excluded.sealed, created_at = excluded.created_at",
            )
            .bind(&**name)
            .bind(&**issuer)
            .bind(to_json(&names)?)
            .bind(&sealed.key)
            .bind(&sealed.text)
            .bind(unix_millis())
            .execute(writing)
            .await?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn order_is(&self, name: &Hostname, url: &str) -> Result<(), StoreError> {
        self.write(async |writing| {
            sqlx::query("UPDATE acme_orders SET url = $2 WHERE name = $1")
                .bind(&**name)
                .bind(url)
                .execute(writing)
                .await?;
            Ok(())
        })
        .await
    }
}

/// See [`Store::forget_account`].
pub(super) async fn forget_account(
    writing: &mut SqliteConnection,
    issuer: &IssuerName,
) -> Result<(), StoreError> {
    for statement in
        ["DELETE FROM acme_accounts WHERE issuer = $1", "DELETE FROM acme_orders WHERE issuer = $1"]
    {
        sqlx::query(statement).bind(&**issuer).execute(&mut *writing).await?;
    }
    Ok(())
}
