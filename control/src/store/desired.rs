//! Everything as meant, and what of it has changed.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use sqlx::{Row, SqliteConnection};
use weir_config::{
    App, AppName, Desired, FailoverName, FailoverPolicy, Host, HostName, Shard, ShardName, ZoneName,
};

use super::{
    Kind, Page, Store, StoreError, domains,
    objects::{Object, Record, select_page},
    parse_name, revision, signed, unsigned,
};

/// What a commit has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Changed {
    Host(HostName),
    Shard(ShardName),
    App(AppName),
    Zone(ZoneName),
    FailoverPolicy(FailoverName),
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
        let (hosts, unreadable_hosts) = self.all_meant::<Host>(&mut reading).await?;
        let (shards, unreadable_shards) = self.all_meant::<Shard>(&mut reading).await?;
        let (policies, unreadable_policies) =
            self.all_meant::<FailoverPolicy>(&mut reading).await?;
        let (apps, unreadable) = self.all_meant::<App>(&mut reading).await?;
        let mut desired = Desired {
            revision,
            unreadable,
            unreadable_shards,
            unreadable_hosts,
            unreadable_policies,
            ..Desired::default()
        };
        desired.hosts.extend(hosts);
        desired.shards.extend(shards);
        desired.policies.extend(policies);
        desired.apps.extend(apps);
        for (name, unverified) in domains::unverified(&mut reading, None).await? {
            if let Some(app) = desired.apps.get_mut(&name) {
                domains::hold_back(Arc::make_mut(app), &unverified);
            }
        }
        self.all_zones(&mut reading, &mut desired).await?;
        Ok(desired)
    }

    /// Those of a kind as the loop takes them, and the names of those that cannot be read.
    async fn all_meant<O: Object>(
        &self,
        reading: &mut SqliteConnection,
    ) -> Result<(Vec<(O::Name, Arc<O::Meant>)>, BTreeSet<O::Name>), StoreError>
    where
        O::Name: Ord,
    {
        let (rows, mut extras) = select_page::<O>(reading, &Page::default()).await?;
        let (mut all, mut unreadable) = (Vec::new(), BTreeSet::new());
        for row in &rows {
            let record = Record::<O>::of(row, &mut extras);
            match record
                .and_then(|record| Ok((record.name.clone(), record.meant(&self.base_domain)?)))
            {
                Ok((name, meant)) => all.push((name, Arc::new(meant))),
                Err(error) => {
                    tracing::error!(%error, kind = %O::KIND, "one cannot be read and is left as it is");
                    unreadable.insert(parse_name(row)?);
                }
            }
        }
        Ok((all, unreadable))
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
            let changed = match Kind::parse(&kind) {
                Some(Kind::Host) => Changed::Host(parse_name(row)?),
                Some(Kind::Shard) => Changed::Shard(parse_name(row)?),
                Some(Kind::App) => Changed::App(parse_name(row)?),
                Some(Kind::Zone) => Changed::Zone(parse_name(row)?),
                Some(Kind::FailoverPolicy) => Changed::FailoverPolicy(parse_name(row)?),
                // Nothing that the loop has to do with.
                Some(Kind::Provider | Kind::Issuer | Kind::Notifier) | None => continue,
            };
            if known.insert(changed.clone()) {
                changes.push(changed);
            }
        }
        Ok(Some((last, changes)))
    }
}
