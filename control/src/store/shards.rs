//! Shards, and which apps name them.

use sqlx::SqliteConnection;
use weir_config::{AppName, Hostname, Problems, Shard, ShardManifest, ShardName, ShardSpec};

use super::{
    Kind, StoreError,
    objects::{Object, Record},
    parse_name,
};

impl Object for Shard {
    const KIND: Kind = Kind::Shard;

    type Name = ShardName;
    type Spec = ShardSpec;
    type Extra = ();
    type Extras = ();
    type Meant = Self;

    fn name(&self) -> &ShardName {
        &self.name
    }

    fn extra(_: &mut (), _: &ShardName, _: &ShardSpec) -> Result<(), StoreError> {
        Ok(())
    }

    fn meant(record: &Record<Self>, _: &Hostname) -> Result<Self, Problems> {
        let (kind, name) = (Kind::Shard.as_str().to_owned(), record.name.to_string());
        Self::from_manifest(&ShardManifest { kind, name, spec: record.spec.clone() })
    }

    /// # Errors
    /// [`StoreError::ShardInUse`].
    async fn delete_extra(
        writing: &mut SqliteConnection,
        name: &ShardName,
    ) -> Result<(), StoreError> {
        let apps = users(writing, name).await?;
        if apps.is_empty() {
            return Ok(());
        }
        Err(StoreError::ShardInUse { shard: name.clone(), apps })
    }
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

/// The apps that name a shard, for whatever.
pub(super) async fn users(
    connection: &mut SqliteConnection,
    shard: &ShardName,
) -> Result<Vec<AppName>, StoreError> {
    let rows = sqlx::query("SELECT app AS name FROM app_shards WHERE shard = $1 ORDER BY app")
        .bind(&**shard)
        .fetch_all(connection)
        .await?;
    rows.iter().map(parse_name).collect()
}
