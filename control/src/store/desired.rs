//! Everything as meant, and what of it has changed.

use std::{collections::HashSet, sync::Arc};

use sqlx::Row;
use weir_config::{App, AppName, Desired, Host, HostName, Shard, ShardName, ZoneName};

use super::{
    Kind, Page, Store, StoreError,
    objects::{Record, select_page},
    parse_name, revision, signed, unsigned,
};

/// What a commit has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Changed {
    Host(HostName),
    Shard(ShardName),
    App(AppName),
    Zone(ZoneName),
}

impl Store {
    /// Everything as meant, at the last committed revision.
    ///
    /// # Errors
    /// When the database fails. A spec that this Weir finds invalid is left out with a log line,
    /// so that one bad row does not stop all others.
    pub(crate) async fn desired(&self) -> Result<Desired, StoreError> {
        let mut reading = self.readers.begin().await?;
        let revision = revision(&mut reading).await?;
        let (mut desired, all) = (Desired { revision, ..Desired::default() }, Page::default());
        let (rows, mut extras) = select_page::<Host>(&mut reading, &all).await?;
        for row in &rows {
            match Record::<Host>::of(row, &mut extras)
                .and_then(|record| record.meant(&self.base_domain))
            {
                Ok(host) => {
                    desired.hosts.insert(host.name.clone(), Arc::new(host));
                }
                Err(error) => {
                    tracing::error!(%error, "a host cannot be read and is left as it is");
                    desired.unreadable_hosts.insert(parse_name(row)?);
                }
            }
        }
        let (rows, mut extras) = select_page::<Shard>(&mut reading, &all).await?;
        for row in &rows {
            match Record::<Shard>::of(row, &mut extras)
                .and_then(|record| record.meant(&self.base_domain))
            {
                Ok(shard) => {
                    desired.shards.insert(shard.name.clone(), Arc::new(shard));
                }
                Err(error) => {
                    tracing::error!(%error, "a shard cannot be read and is left as it is served");
                    desired.unreadable_shards.insert(parse_name(row)?);
                }
            }
        }
        let (rows, mut extras) = select_page::<App>(&mut reading, &all).await?;
        for row in &rows {
            match Record::<App>::of(row, &mut extras)
                .and_then(|record| record.meant(&self.base_domain))
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
        self.all_zones(&mut reading, &mut desired).await?;
        Ok(desired)
    }

    /// What has changed after a revision, and the revision up to which that is told. `None` if it
    /// is too long ago to tell.
    pub(crate) async fn changes_since(
        &self,
        revision: u64,
    ) -> Result<Option<(u64, Vec<Changed>)>, StoreError> {
        let rows = sqlx::query("SELECT rev, kind, name FROM changes WHERE rev > $1 ORDER BY rev")
            .bind(signed(revision))
            .fetch_all(&self.readers)
            .await?;
        let (mut last, mut changes, mut known) = (revision, Vec::new(), HashSet::new());
        for row in &rows {
            let rev = unsigned(row.try_get("rev")?);
            // Revisions have no gap, so a gap is the edge of what is kept.
            if rev != last + 1 {
                return Ok(None);
            }
            last = rev;
            let kind: String = row.try_get("kind")?;
            let changed = match kind {
                kind if kind == Kind::Host.as_str() => Changed::Host(parse_name(row)?),
                kind if kind == Kind::Shard.as_str() => Changed::Shard(parse_name(row)?),
                kind if kind == Kind::Zone.as_str() => Changed::Zone(parse_name(row)?),
                _ => Changed::App(parse_name(row)?),
            };
            if known.insert(changed.clone()) {
                changes.push(changed);
            }
        }
        Ok(Some((last, changes)))
    }
}
