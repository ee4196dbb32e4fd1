//! What a host name of a failover policy leads to.

use weir_config::{
    DnsName, RecordSet, RecordType, Steered, SteeredTarget, TargetPlace,
    dns::{Choice, Health, Policy, Steering},
};

use crate::zones::Addresses;

const TYPES: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::CNAME];

/// The records of such a name: for each type the choices of all targets, so that a client has the
/// same target by each of them. `own` is where this Weir is reached. Where something else stands at
/// the name, a CNAME may not (RFC 1034 section 3.6.2): a CDN is then led to by its addresses.
pub(super) fn sets(steered: &Steered, own: &Addresses, takes_cname: bool) -> Vec<RecordSet> {
    let ttl = u32::try_from(steered.steering.ttl.as_secs()).unwrap_or(u32::MAX);
    let targets = steered.targets.iter().enumerate();
    let targets: Vec<_> = targets
        .map(|(place, target)| {
            let records = records(target, own, takes_cname, ttl);
            // One that leads nowhere is nobody's choice: a name with a share is never empty.
            let weight = if records.is_empty() { 0 } else { steered.steering.shares.of(place) };
            (target, records, weight)
        })
        .collect();
    let set = |rtype| {
        let choices = targets.iter().map(|(target, records, weight)| Choice {
            name: (&*target.name).into(),
            records: records.iter().find(|set| set.rtype() == rtype).cloned(),
            weight: *weight,
            networks: Default::default(),
            health: Health::Always,
        });
        let choices = choices.collect();
        // Without a record of this type there is no set.
        RecordSet::steered(Steering { policy: Policy::Weighted, choices }).ok()
    };
    TYPES.into_iter().filter_map(set).collect()
}

/// The records of one target.
fn records(target: &SteeredTarget, own: &Addresses, takes_cname: bool, ttl: u32) -> Vec<RecordSet> {
    match &target.place {
        TargetPlace::Cdn(name) if takes_cname => {
            let data = [DnsName::from(name).wire().to_vec()];
            RecordSet::new(RecordType::CNAME, ttl, data).into_iter().collect()
        }
        TargetPlace::Own => own.sets(ttl).collect(),
        TargetPlace::Cdn(_) | TargetPlace::Addresses(_) => {
            let addresses = target.pool.endpoints().iter().map(|endpoint| endpoint.address.ip());
            Addresses::of(addresses).sets(ttl).collect()
        }
    }
}
