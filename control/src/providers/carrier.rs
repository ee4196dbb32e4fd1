//! Carries what is served by failover policies to their providers: each policy in a task of its own,
//! until it is there, and again when somebody else has changed it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use weir_config::{DnsName, FailoverName, FailoverPolicy, ProviderName, TargetPlace};

use super::{Adapter, Again, Place, Refusal, Wanted, WantedTarget};
use crate::{reconciler::World, time::unix_millis, vault::Vault};

/// How often it is looked whether what was made is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);
/// The wait after a failed try: doubles from one to the other.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Nobody is waited for longer, whatever he asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// How far a provider is with a policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Carried {
    pub(crate) provider: ProviderName,
    /// The epoch that is to be there.
    pub(crate) epoch: u64,
    /// When it was tried last, in milliseconds since the Unix epoch.
    pub(crate) at: i64,
    /// Why it is not there.
    pub(crate) error: Option<String>,
}

pub(crate) type AllCarried = BTreeMap<FailoverName, Carried>;

/// What a policy's provider is to have.
type Load = (ProviderName, Wanted);

/// Carries what is served, without end, and tells how far that is.
pub(crate) async fn carry(
    vault: Vault,
    mut worlds: watch::Receiver<Arc<World>>,
    told: watch::Sender<AllCarried>,
) {
    let mut under_way: BTreeMap<FailoverName, Carrier> = BTreeMap::new();
    loop {
        let world = worlds.borrow_and_update().clone();
        let loads: BTreeMap<_, _> = world
            .desired
            .policies
            .values()
            .filter_map(|policy| Some((policy.name.clone(), load(policy, &world)?)))
            .collect();
        let gone = |name: &FailoverName| !loads.contains_key(name);
        if under_way.keys().any(gone) {
            under_way.retain(|name, _| !gone(name));
            told.send_modify(|told| told.retain(|name, _| !gone(name)));
        }
        for (name, load) in loads {
            match under_way.get(&name) {
                Some(carrier) => {
                    _ = carrier.wants.send_if_modified(|wants| {
                        let is_new = *wants != load;
                        *wants = load;
                        is_new
                    })
                }
                None => _ = under_way.insert(name, Carrier::new(load, vault.clone(), told.clone())),
            }
        }
        if worlds.changed().await.is_err() {
            return;
        }
    }
}

/// What a policy's names are to lead to in zones that are hosted elsewhere, if any of them is there.
fn load(policy: &FailoverPolicy, world: &World) -> Option<Load> {
    let provider = policy.provider.clone()?;
    let steered = world.observed.served.policy(&policy.name)?;
    let is_elsewhere = |name: &DnsName| world.observed.zones.zone_of(name).is_none();
    let hostnames = policy.hostnames.iter().filter(|name| is_elsewhere(&DnsName::from(*name)));
    let hostnames: Vec<_> = hostnames.cloned().collect();
    let targets = policy.targets.iter().enumerate().filter_map(|(place, target)| {
        let share = steered.steering.shares.of(place);
        let place = match &target.place {
            TargetPlace::Cdn(name) => Place::Cname(name.clone()),
            TargetPlace::Addresses(addresses) => Place::Addresses(addresses.clone()),
            // Refused beside a provider: where this is, nobody has said.
            TargetPlace::Own => return None,
        };
        Some(WantedTarget { name: target.name.clone(), share, place })
    });
    let targets = targets.collect();
    let steering = &steered.steering;
    let ttl = u32::try_from(steering.ttl.as_secs()).unwrap_or(u32::MAX);
    let (policy, epoch) = (policy.name.clone(), steering.epoch);
    let is_any = !hostnames.is_empty();
    is_any.then_some((provider, Wanted { policy, epoch, hostnames, targets, ttl }))
}

/// The task of one policy. It ends what it has begun before it begins with what is wanted next: of
/// two calls under way at once, nobody knows which comes last.
struct Carrier {
    wants: watch::Sender<Load>,
    _task: AbortOnDropHandle<()>,
}

impl Carrier {
    fn new(load: Load, vault: Vault, told: watch::Sender<AllCarried>) -> Self {
        let (wants, wanted) = watch::channel(load);
        let _task = AbortOnDropHandle::new(tokio::spawn(run(vault, wanted, told)));
        Self { wants, _task }
    }
}

async fn run(vault: Vault, mut wanted: watch::Receiver<Load>, told: watch::Sender<AllCarried>) {
    let (mut failures, mut id) = (0, crate::random::hex(16));
    loop {
        let (provider, want) = wanted.borrow_and_update().clone();
        let done = attempt(&vault, &provider, &want, &id).await;
        let (wait, error) = match done {
            Ok(wait) => {
                failures = 0;
                (wait, None)
            }
            Err(refusal) => {
                failures += 1;
                let (policy, why) = (&want.policy, &refusal.message);
                tracing::warn!(%policy, %provider, why, "a provider is behind");
                (pause(&refusal, failures), Some(refusal.message))
            }
        };
        let carried = Carried { provider, epoch: want.epoch, at: unix_millis(), error };
        told.send_modify(|told| _ = told.insert(want.policy.clone(), carried));
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => (failures, id) = (0, crate::random::hex(16)),
                Err(_) => return,
            },
            () = sleep(wait) => {}
        }
    }
}

/// One try; after how long to look again.
async fn attempt(
    vault: &Vault,
    provider: &ProviderName,
    wanted: &Wanted,
    id: &str,
) -> Result<Duration, Refusal> {
    let spec = vault.provider(provider).await;
    let spec = spec.map_err(|error| Refusal::soon(error.to_string()))?;
    let spec = spec.ok_or_else(|| Refusal::changed("the provider is gone"))?;
    let adapter = Adapter::new(&spec)?;
    if adapter.converge(id, wanted).await? {
        tracing::info!(policy = %wanted.policy, %provider, epoch = wanted.epoch, "carried");
    }
    Ok(if adapter.may_drift() { LOOK_AGAIN } else { Duration::MAX })
}

/// The wait after so many failures, a fifth more or less: what failed together is not tried
/// together.
fn pause(refusal: &Refusal, failures: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let own = doubled.min(LONGEST_RETRY);
    let least = match refusal.again {
        Again::Soon => own,
        Again::After(asked) => asked.clamp(own, LONGEST_WAIT),
        Again::Changed => LONGEST_RETRY,
    };
    least.mul_f64(rand::random_range(1.0..1.2))
}
