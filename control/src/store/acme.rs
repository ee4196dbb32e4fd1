//! Authorities, as whom they know us, and orders under way.

use sqlx::{Row, sqlite::SqliteRow};
use weir_config::{EabSpec, Hostname, IssuerName, IssuerSpec};
use zeroize::Zeroizing;

use super::{Store, StoreError, objects::from_json, parse_name, to_json};
use crate::{key_file::KeyFile, seal::Sealed, time::unix_millis};

/// An authority as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct IssuerRecord {
    pub(crate) name: IssuerName,
    /// Without the key of the external account.
    pub(crate) spec: IssuerSpec,
    pub(crate) eab_key: Option<Sealed>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

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

const ISSUER: &str = "name, spec, key_id, sealed, created_at, updated_at";

impl Store {
    /// In the order in which they are asked.
    pub(crate) async fn issuers(&self) -> Result<Vec<IssuerRecord>, StoreError> {
        let select = format!("SELECT {ISSUER} FROM issuers ORDER BY name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        let mut issuers: Vec<_> =
            rows.iter().map(IssuerRecord::of).collect::<Result<_, StoreError>>()?;
        issuers.sort_by_key(|issuer| issuer.spec.rank);
        Ok(issuers)
    }

    /// Makes an issuer what is written; without a key of an external account it keeps the one it
    /// has. Returns whether it is new.
    pub(crate) async fn put_issuer(
        &self,
        name: &IssuerName,
        spec: &IssuerSpec,
        keys: &KeyFile,
    ) -> Result<bool, StoreError> {
        let mut shown = spec.clone();
        let key = shown.eab.as_mut().and_then(|eab| eab.key.take()).map(Zeroizing::new);
        self.write(async |writing| {
            let sealed = match &key {
                Some(key) => Some(keys.keys()?.seal(&["eab", name], key.as_bytes())?),
                None => None,
            };
            let former = sqlx::query("SELECT name FROM issuers WHERE name = $1").bind(&**name);
            let is_new = former.fetch_optional(&mut *writing).await?.is_none();
            sqlx::query(
                "INSERT INTO issuers (name, spec, key_id, sealed, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $5)
                 ON CONFLICT (name) DO UPDATE SET spec = excluded.spec,
                    key_id = COALESCE(excluded.key_id, issuers.key_id),
                    sealed = COALESCE(excluded.sealed, issuers.sealed),
                    updated_at = excluded.updated_at",
            )
            .bind(&**name)
            .bind(to_json(&shown)?)
            .bind(sealed.as_ref().map(|sealed| &sealed.key))
            .bind(sealed.as_ref().map(|sealed| &sealed.text))
            .bind(unix_millis())
            .execute(&mut *writing)
            .await?;
            Ok(is_new)
        })
        .await
    }

    /// Removes an issuer with its account and orders; what it has issued stays. False if there was
    /// none.
    pub(crate) async fn delete_issuer(&self, name: &IssuerName) -> Result<bool, StoreError> {
        self.write(async |writing| {
            for statement in [
                "DELETE FROM acme_accounts WHERE issuer = $1",
                "DELETE FROM acme_orders WHERE issuer = $1",
            ] {
                sqlx::query(statement).bind(&**name).execute(&mut *writing).await?;
            }
            let deleted = sqlx::query("DELETE FROM issuers WHERE name = $1").bind(&**name);
            Ok(deleted.execute(writing).await?.rows_affected() > 0)
        })
        .await
    }

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

impl IssuerRecord {
    fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let key: Option<String> = row.try_get("key_id")?;
        let text: Option<String> = row.try_get("sealed")?;
        Ok(Self {
            name: parse_name(row)?,
            spec: from_json(row, "spec")?,
            eab_key: key.zip(text).map(|(key, text)| Sealed { key, text }),
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }

    /// Whether it needs the key of an external account and has none.
    pub(crate) fn lacks_key(spec: &IssuerSpec, former: Option<&Self>) -> bool {
        let lacks = |eab: &EabSpec| eab.key.is_none();
        spec.eab.as_ref().is_some_and(lacks) && former.is_none_or(|former| former.eab_key.is_none())
    }
}
