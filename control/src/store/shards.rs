//! Shards, and which apps name them.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use weir_config::{AppName, Shard, ShardManifest, ShardName};

use super::{
    Kind, Precondition, Store, StoreError, Written, next_revision,
    objects::{Meta, delete, from_json, upsert},
    parse_name, record,
};

/// A shard as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardRecord {
    pub(crate) manifest: ShardManifest,
    pub(crate) meta: Meta,
}

pub(super) const SELECT_SHARD: &str =
    "SELECT name, spec, generation, revision, created_at, updated_at
    FROM objects WHERE kind = 'Shard'";

impl Store {
    pub(crate) async fn shard(&self, shard: &ShardName) -> Result<Option<ShardRecord>, StoreError> {
        let mut reader = self.readers.acquire().await?;
        select_shard(&mut reader, shard).await
    }

    /// All shards, by name.
    pub(crate) async fn shards(&self) -> Result<Vec<ShardRecord>, StoreError> {
        let select = format!("{SELECT_SHARD} ORDER BY name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(&self.readers).await?;
        // One that cannot be read is no reason not to see the others.
        Ok(rows.iter().filter_map(|row| ShardRecord::of(row).ok()).collect())
    }

    pub(crate) async fn desired_shard(
        &self,
        shard: &ShardName,
    ) -> Result<Option<Shard>, StoreError> {
        self.shard(shard).await?.map(|record| record.meant()).transpose()
    }

    /// Makes a shard, or makes it what is written.
    ///
    /// # Errors
    /// Those of the precondition and of the database; nothing is changed.
    pub(crate) async fn put_shard(
        &self,
        manifest: &ShardManifest,
        shard: &Shard,
        precondition: Precondition,
        actor: &str,
    ) -> Result<Written<ShardRecord>, StoreError> {
        let name = &shard.name;
        let written = self.write(async |writing| {
            let former = select_shard(writing, name).await?;
            precondition.check(former.as_ref().map(|f| &f.meta), Kind::Shard, name)?;
            if let Some(former) = &former
                && former.manifest == *manifest
            {
                return Ok(Written { record: former.clone(), created: false, changed: false });
            }
            let revision = next_revision(writing).await?;
            upsert(writing, Kind::Shard, name, &manifest.spec, revision).await?;
            record(writing, revision, actor, "put", Kind::Shard, name).await?;
            let stored = select_shard(writing, name).await?;
            let stored = stored.ok_or_else(|| StoreError::not_found(Kind::Shard, name))?;
            Ok(Written { record: stored, created: former.is_none(), changed: true })
        });
        let written = written.await?;
        self.committed(written.record.meta.revision);
        Ok(written)
    }

    /// Removes a shard that no app names.
    ///
    /// # Errors
    /// [`StoreError::ShardInUse`], and those of the database; nothing is changed.
    pub(crate) async fn delete_shard(
        &self,
        shard: &ShardName,
        actor: &str,
    ) -> Result<u64, StoreError> {
        let deleted = self.write(async |writing| {
            let revision = next_revision(writing).await?;
            delete(writing, Kind::Shard, shard).await?;
            let users = users(writing, shard).await?;
            if !users.is_empty() {
                return Err(StoreError::ShardInUse { shard: shard.clone(), apps: users });
            }
            record(writing, revision, actor, "delete", Kind::Shard, shard).await?;
            Ok(revision)
        });
        let revision = deleted.await?;
        self.committed(revision);
        Ok(revision)
    }
}

impl ShardRecord {
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        let (kind, name) = (Kind::Shard.as_str().to_owned(), row.try_get("name")?);
        let manifest = ShardManifest { kind, name, spec: from_json(row, "spec")? };
        Ok(Self { manifest, meta: Meta::of(row)? })
    }

    pub(super) fn meant(&self) -> Result<Shard, StoreError> {
        Shard::from_manifest(&self.manifest).map_err(|problems| {
            StoreError::Corrupt(format!("Shard/{}: {problems}", self.manifest.name))
        })
    }
}

async fn select_shard(
    connection: &mut SqliteConnection,
    shard: &ShardName,
) -> Result<Option<ShardRecord>, StoreError> {
    let select = format!("{SELECT_SHARD} AND name = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(select)).bind(&**shard);
    row.fetch_optional(connection).await?.as_ref().map(ShardRecord::of).transpose()
}

/// Notes which shards an app names, each with its place in it; all of them must exist.
pub(super) async fn name_shards(
    connection: &mut SqliteConnection,
    app: &AppName,
    shards: &[(String, &ShardName)],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM app_shards WHERE app = $1")
        .bind(&**app)
        .execute(&mut *connection)
        .await?;
    for (pointer, shard) in shards {
        let named = sqlx::query(
            "INSERT INTO app_shards (app, shard)
             SELECT $1, name FROM objects WHERE kind = 'Shard' AND name = $2
             ON CONFLICT (app, shard) DO UPDATE SET shard = excluded.shard",
        )
        .bind(&**app)
        .bind(&***shard)
        .execute(&mut *connection)
        .await?;
        if named.rows_affected() == 0 {
            let (pointer, shard) = (pointer.clone(), (*shard).clone());
            return Err(StoreError::NoSuchShard { pointer, shard });
        }
    }
    Ok(())
}

async fn users(
    connection: &mut SqliteConnection,
    shard: &ShardName,
) -> Result<Vec<AppName>, StoreError> {
    let rows = sqlx::query("SELECT app AS name FROM app_shards WHERE shard = $1 ORDER BY app")
        .bind(&**shard)
        .fetch_all(connection)
        .await?;
    rows.iter().map(parse_name).collect()
}
