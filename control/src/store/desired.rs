//! Everything as meant, and what of it has changed.

use std::sync::Arc;

use sqlx::Row;
use weir_config::Desired;

use super::{
    Kind, Store, StoreError,
    apps::{AppRecord, SELECT_APP},
    deployments::all_that_matter,
    parse_name,
    shards::{SELECT_SHARD, ShardRecord},
    signed, unsigned,
};
use crate::subject::Subject;

impl Store {
    /// Everything as meant, at the last committed revision.
    ///
    /// # Errors
    /// When the database fails. A spec that this Weir finds invalid is left out with a log line,
    /// so that one bad row does not stop all others.
    pub(crate) async fn desired(&self) -> Result<Desired, StoreError> {
        let mut reading = self.readers.begin().await?;
        let row = sqlx::query("SELECT rev FROM cluster WHERE one = 1").fetch_one(&mut *reading);
        let revision = unsigned(row.await?.try_get("rev")?);
        let mut desired = Desired { revision, ..Desired::default() };
        for row in &sqlx::query(SELECT_SHARD).fetch_all(&mut *reading).await? {
            match ShardRecord::of(row).and_then(|record| record.meant()) {
                Ok(shard) => {
                    desired.shards.insert(shard.name.clone(), Arc::new(shard));
                }
                Err(error) => {
                    tracing::error!(%error, "a shard cannot be read and is left as it is served");
                    desired.unreadable_shards.insert(parse_name(row)?);
                }
            }
        }
        let mut deployments = all_that_matter(&mut reading).await?;
        for row in &sqlx::query(SELECT_APP).fetch_all(&mut *reading).await? {
            let of_app = deployments.remove(row.try_get::<&str, _>("name")?);
            let of_app = of_app.unwrap_or_else(|| Ok(Vec::new()));
            match of_app
                .and_then(|of_app| AppRecord::of(row, of_app))
                .and_then(|record| self.meant(&record))
            {
                Ok(app) => {
                    desired.apps.insert(app.app.name.clone(), Arc::new(app));
                }
                Err(error) => {
                    tracing::error!(%error, "an app cannot be read; what runs of it is left alone");
                    desired.unreadable.insert(parse_name(row)?);
                }
            }
        }
        Ok(desired)
    }

    /// What has changed after a revision, and the revision up to which that is told. `None` if it
    /// is too long ago to tell.
    pub(crate) async fn changes_since(
        &self,
        revision: u64,
    ) -> Result<Option<(u64, Vec<Subject>)>, StoreError> {
        let rows = sqlx::query("SELECT rev, kind, name FROM changes WHERE rev > $1 ORDER BY rev")
            .bind(signed(revision))
            .fetch_all(&self.readers)
            .await?;
        let (mut last, mut changes) = (revision, Vec::new());
        for row in &rows {
            let rev = unsigned(row.try_get("rev")?);
            // Revisions have no gap, so a gap is the edge of what is kept.
            if rev != last + 1 {
                return Ok(None);
            }
            last = rev;
            let kind: String = row.try_get("kind")?;
            let changed = if kind == Kind::Shard.as_str() {
                Subject::Shard(parse_name(row)?)
            } else {
                Subject::App(parse_name(row)?)
            };
            if !changes.contains(&changed) {
                changes.push(changed);
            }
        }
        Ok(Some((last, changes)))
    }
}
