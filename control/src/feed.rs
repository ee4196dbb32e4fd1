//! From commits in the store to events of the loop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use weir_config::{Desired, DesiredZone, FailoverPolicy, Host, Shard, ZoneName};

use crate::{
    event::{DesiredChange, Event},
    store::{Changed, ReadZone, Store, StoreError, Touched},
    vault::Vault,
};

/// Correctness does not depend on being told of a commit: this often is looked anyway.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// After a failed look.
const RETRY: Duration = Duration::from_secs(1);

/// The zones as they were told last: what has changed of one is read into it.
type Zones = BTreeMap<ZoneName, Arc<DesiredZone>>;

/// Follows the store from what was read of it, until the loop is gone.
pub(crate) async fn follow(store: Store, vault: Vault, read: Desired, events: mpsc::Sender<Event>) {
    let mut revisions = store.revisions();
    let mut seen = read.revision;
    let mut zones: Zones = read.zones.into_iter().collect();
    loop {
        let told = revisions.wait_for(|revision| *revision > seen);
        // Either way the store is asked; being told only makes it sooner.
        let _ = tokio::time::timeout(LOOK_ANYWAY, told).await;
        match change_since(&store, &vault, seen, &zones).await {
            Ok(change) if change.revision > seen => {
                seen = change.revision;
                note(&mut zones, &change);
                if events.send(Event::Desired(change)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the store could not be read; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Takes down how the zones of a change are now.
fn note(zones: &mut Zones, change: &DesiredChange) {
    if change.whole {
        zones.clear();
    }
    for (name, zone) in &change.zones {
        match zone {
            Some((zone, _)) => _ = zones.insert(name.clone(), zone.clone()),
            None => _ = zones.remove(name),
        }
    }
}

async fn change_since(
    store: &Store,
    vault: &Vault,
    seen: u64,
    zones: &Zones,
) -> Result<DesiredChange, StoreError> {
    let Some((revision, changes)) = store.changes_since(seen).await? else {
        return Ok(DesiredChange::whole(vault.desired().await?));
    };
    let mut change = DesiredChange { revision, ..DesiredChange::default() };
    for changed in changes {
        match changed {
            Changed::App(name) => match readable(store.meant_app(&name).await)? {
                Some(app) => change.apps.push((name, app.map(Arc::new))),
                None => _ = change.unreadable.insert(name),
            },
            Changed::Host(name) => match readable(store.meant::<Host>(&name).await)? {
                Some(host) => change.hosts.push((name, host.map(Arc::new))),
                None => _ = change.unreadable_hosts.insert(name),
            },
            Changed::Shard(name) => match readable(store.meant::<Shard>(&name).await)? {
                Some(shard) => change.shards.push((name, shard.map(Arc::new))),
                None => _ = change.unreadable_shards.insert(name),
            },
            Changed::FailoverPolicy(name) => {
                match readable(store.meant::<FailoverPolicy>(&name).await)? {
                    Some(policy) => change.policies.push((name, policy.map(Arc::new))),
                    None => _ = change.unreadable_policies.insert(name),
                }
            }
            Changed::Zone(name) => {
                let former = zones.get(&name).map(|zone| (&**zone, seen));
                match readable(store.zone(&name, former).await)? {
                    Some(Some(ReadZone { mut zone, touched })) => {
                        if touched == Touched::Everything {
                            zone.secondaries = vault.secondaries(&zone.zone);
                        }
                        change.zones.push((name, Some((Arc::new(zone), touched))));
                    }
                    Some(None) => change.zones.push((name, None)),
                    None => _ = change.unreadable_zones.insert(name),
                }
            }
        }
    }
    Ok(change)
}

/// `None` for what the database holds but this Weir cannot read.
fn readable<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::error!(%error, "a change cannot be read and is left out");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
