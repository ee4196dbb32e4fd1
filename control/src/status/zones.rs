//! The status of zones.

use weir_config::{DesiredZone, RecordType, Zone};

use crate::{
    api::wire::{Phase, ZoneStatus},
    reconciler::World,
    subject::Subject,
};

/// The status of a zone that the loop has taken in; `names` are those with records that were
/// written.
pub(crate) fn zone_status(zone: &DesiredZone, names: u64, world: &World) -> ZoneStatus {
    let name = &zone.zone.name;
    let served = world.observed.served.zone(name.dns());
    let refusal = world.refusals.get(&Subject::Zone(name.clone()));
    let is_late = world.observed.zones.dirty(name).is_none_or(|dirty| !dirty.is_nothing());
    let (phase, message) = match (refusal, served) {
        (Some(refusal), _) => (Phase::Failed, Some(refusal.message.clone())),
        (None, Some(served)) if !is_late => (Phase::Ready, unreachable_server(zone, served)),
        (None, _) => (Phase::Progressing, None),
    };
    ZoneStatus {
        phase,
        observed_generation: zone.generation,
        serial: served.and_then(|zone| zone.serial()),
        records: served.map_or(0, |zone| zone.len() as u64),
        names,
        message,
    }
}

/// What to do about a nameserver within the zone of which nobody is told the address.
fn unreachable_server(zone: &DesiredZone, served: &Zone) -> Option<String> {
    let own = zone.zone.nameservers.iter();
    let mut own = own.filter(|server| server.is_at_or_below(zone.zone.name.dns()));
    let has = |server, rtype| served.get(server, rtype).is_some();
    let server =
        own.find(|server| !has(server, RecordType::A) && !has(server, RecordType::AAAA))?;
    Some(format!(
        "the nameserver {server} has no address, so nobody finds it; write the public addresses of \
         this Weir in `addresses`, or A and AAAA records of {server}"
    ))
}
