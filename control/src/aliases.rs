//! Keeps up with what the targets of ALIAS records and the CDNs of failover policies lead to, off
//! the loop's path.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use weir_config::{Desired, DnsName, Found, RecordType, Resolver, TargetPlace};

use crate::{event::Event, reconciler::World, zones::Addresses};

/// A target is not asked for more often, whatever its TTL is.
const SHORTEST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3600);
/// After nobody has told; what was known is served on.
const RETRY: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(10);
/// Questions that are under way at once.
const AT_ONCE: usize = 16;

/// Asks for each target when it is new and when what is known of it runs out, until the loop is
/// gone.
pub(crate) async fn follow(
    resolver: Arc<dyn Resolver>,
    mut worlds: watch::Receiver<Arc<World>>,
    events: mpsc::Sender<Event>,
) {
    let mut due: BTreeMap<DnsName, Instant> = BTreeMap::new();
    let mut asking = JoinSet::new();
    let (mut zones, mut policies) = (imbl::OrdMap::new(), imbl::OrdMap::new());
    loop {
        let world = worlds.borrow_and_update().clone();
        let desired = &world.desired;
        // Nearly always nothing is new: the world changes with every request that wakes an app.
        if !desired.zones.ptr_eq(&zones) || !desired.policies.ptr_eq(&policies) {
            let targets = targets(desired);
            due.retain(|target, _| targets.contains(target));
            for target in targets {
                due.entry(target).or_insert_with(Instant::now);
            }
            (zones, policies) = (desired.zones.clone(), desired.policies.clone());
        }
        let now = Instant::now();
        for (target, at) in due.iter_mut().filter(|(_, at)| **at <= now) {
            if asking.len() == AT_ONCE {
                break;
            }
            *at = now + LIMIT + RETRY;
            let (resolver, target) = (resolver.clone(), target.clone());
            asking.spawn(async move {
                let asked = timeout(LIMIT, addresses(&*resolver, &target)).await;
                let late = |_| Err("it took too long".to_owned());
                let found = asked.unwrap_or_else(late);
                (target, found)
            });
        }
        let next = due.values().min().copied().unwrap_or_else(|| now + LONGEST);
        tokio::select! {
            changed = worlds.changed() => if changed.is_err() { return },
            () = sleep_until(next), if asking.len() < AT_ONCE => {}
            Some(Ok((target, found))) = asking.join_next() => {
                let again = match found {
                    Ok(found) => {
                        let again = Duration::from_secs(found.ttl.into()).clamp(SHORTEST, LONGEST);
                        let found = Event::Resolved(target.clone(), found);
                        if events.send(found).await.is_err() {
                            return;
                        }
                        again
                    }
                    Err(error) => {
                        tracing::warn!(%target, error, "where this name leads is not told");
                        RETRY
                    }
                };
                if let Some(at) = due.get_mut(&target) {
                    *at = Instant::now() + again;
                }
            }
        }
    }
}

fn targets(desired: &Desired) -> BTreeSet<DnsName> {
    let aliases = desired.zones.values().flat_map(|zone| zone.aliases.values());
    let aliases = aliases.map(|alias| alias.target.clone());
    let targets = desired.policies.values().flat_map(|policy| &policy.targets);
    let cdns = targets.filter_map(|target| match &target.place {
        TargetPlace::Cdn(name) => Some(DnsName::from(name)),
        TargetPlace::Addresses(_) | TargetPlace::Own => None,
    });
    aliases.chain(cdns).collect()
}

/// Of a name without addresses, in seconds.
const NOTHING_TTL: u32 = 60;

async fn addresses(resolver: &dyn Resolver, target: &DnsName) -> Result<Addresses, String> {
    let (v4, v6) = tokio::try_join!(
        resolver.lookup(target, RecordType::A),
        resolver.lookup(target, RecordType::AAAA)
    )?;
    let mut found = Addresses {
        v4: octets(&v4).map(<[u8; 4]>::into).collect(),
        v6: octets(&v6).map(<[u8; 16]>::into).collect(),
        ttl: v4.ttl.min(v6.ttl),
    };
    if found.is_empty() {
        found.ttl = NOTHING_TTL;
    }
    Ok(found)
}

fn octets<const N: usize>(found: &Found) -> impl Iterator<Item = [u8; N]> {
    found.data.iter().filter_map(|data| <[u8; N]>::try_from(&data[..]).ok())
}
