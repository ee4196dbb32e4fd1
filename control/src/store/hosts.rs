//! Hosts. The machine that Weir runs on is one whether it is written or not.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{Host, HostManifest, HostName};

use super::{
    Kind, Precondition, Store, StoreError, Written, next_revision,
    objects::{Meta, delete, from_json, upsert},
    record,
};

/// A host as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostRecord {
    pub(crate) manifest: HostManifest,
    pub(crate) meta: Meta,
}

pub(super) const SELECT_HOST: &str =
    "SELECT name, spec, generation, revision, created_at, updated_at
    FROM objects WHERE kind = 'Host'";

impl Store {
    pub(crate) async fn host(&self, host: &HostName) -> Result<Option<HostRecord>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        select_host(&mut reader, host).await
    }

    /// All hosts that are written, by name.
    pub(crate) async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        let select = format!("{SELECT_HOST} ORDER BY name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        // One that cannot be read is no reason not to see the others.
        Ok(rows.iter().filter_map(|row| HostRecord::of(row).ok()).collect())
    }

    pub(crate) async fn desired_host(&self, host: &HostName) -> Result<Option<Host>, StoreError> {
        match self.host(host).await? {
            Some(record) => record.meant().map(Some),
            None => Ok(host.is_local().then(Host::local)),
        }
    }

    /// Makes a host, or makes it what is written.
    ///
    /// # Errors
    /// Those of the precondition and of the database; nothing is changed.
    pub(crate) async fn put_host(
        &self,
        manifest: &HostManifest,
        host: &Host,
        precondition: Precondition,
        actor: &str,
    ) -> Result<Written<HostRecord>, StoreError> {
        let name = &host.name;
        let written = self.write(async |writing| {
            let former = select_host(writing, name).await?;
            precondition.check(former.as_ref().map(|f| &f.meta), Kind::Host, name)?;
            if let Some(former) = &former
                && former.manifest == *manifest
            {
                return Ok(Written { record: former.clone(), created: false, changed: false });
            }
            let revision = next_revision(writing).await?;
            upsert(writing, Kind::Host, name, &manifest.spec, revision).await?;
            record(writing, revision, actor, "put", Kind::Host, name).await?;
            let stored = select_host(writing, name).await?;
            let stored = stored.ok_or_else(|| StoreError::not_found(Kind::Host, name))?;
            Ok(Written { record: stored, created: former.is_none(), changed: true })
        });
        let written = written.await?;
        self.committed(written.record.meta.revision);
        Ok(written)
    }

    /// Removes a host. Whether something runs on it is not known here.
    ///
    /// # Errors
    /// Those of the database; nothing is changed.
    pub(crate) async fn delete_host(
        &self,
        host: &HostName,
        actor: &str,
    ) -> Result<u64, StoreError> {
        let deleted = self.write(async |writing| {
            let revision = next_revision(writing).await?;
            delete(writing, Kind::Host, host).await?;
            record(writing, revision, actor, "delete", Kind::Host, host).await?;
            Ok(revision)
        });
        let revision = deleted.await?;
        self.committed(revision);
        Ok(revision)
    }
}

impl HostRecord {
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let (kind, name) = (Kind::Host.as_str().to_owned(), row.try_get("name")?);
        let manifest = HostManifest { kind, name, spec: from_json(row, "spec")? };
        Ok(Self { manifest, meta: Meta::of(row)? })
    }

    pub(super) fn meant(&self) -> Result<Host, StoreError> {
        Host::from_manifest(&self.manifest).map_err(|problems| {
            StoreError::Corrupt(format!("Host/{}: {problems}", self.manifest.name))
        })
    }
}

async fn select_host(
    connection: &mut SqliteConnection,
    host: &HostName,
) -> Result<Option<HostRecord>, StoreError> {
    let select = format!("{SELECT_HOST} AND name = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**host);
    row.fetch_optional(connection).await?.as_ref().map(HostRecord::of).transpose()
}
