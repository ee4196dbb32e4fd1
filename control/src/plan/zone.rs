//! The zones as they are to be served: what operators have written, and what follows by itself.
//!
//! A change of one name costs that name. Only what may concern all of a zone has it made anew, and
//! that begins with what operators have written as it is, so that it costs the names that have
//! something by themselves.

use std::sync::Arc;

use weir_config::{
    Desired, DesiredZone, DnsName, HostedZone, RecordSet, RecordType, Snapshot, Zone, ZoneName,
    rdata,
};

use super::{Planned, steered_name};
use crate::{
    observed::Observed,
    zones::{Addresses, Dirty, Zones},
};

/// When fewer than this are left, more serials are asked for.
const FEW_SERIALS: u64 = 512;

/// Plans a zone, and tells whether it is served otherwise than before.
pub(super) fn plan_zone(
    name: &ZoneName,
    desired: &Desired,
    observed: &Observed,
    planned: &mut Planned,
    snapshot: &mut Snapshot,
) -> bool {
    let served = snapshot.zone(name.dns()).cloned();
    let Some(meant) = desired.zones.get(name) else {
        let is_gone = served.is_some() && desired.has_gone_zone(name);
        if is_gone {
            snapshot.remove_zone(name.dns());
        }
        return is_gone;
    };
    let Some(dirty) = observed.zones.dirty(name) else { return false };
    if served.is_some() && dirty.is_nothing() {
        return false;
    }
    let making = Making::new(meant, desired, &observed.zones, snapshot);
    let mut zone = match (&served, dirty) {
        (Some(served), Dirty::Names(names)) => {
            let mut zone = (**served).clone();
            names.iter().for_each(|name| making.make(name, &mut zone));
            zone
        }
        _ => making.whole(served.as_deref()),
    };
    let is_same = |served: &Arc<Zone>| {
        zone.changed_names(served).next().is_none() && zone.secondaries() == served.secondaries()
    };
    if served.as_ref().is_some_and(is_same) {
        planned.is_settled = true;
        return false;
    }
    let serials = meant.serials;
    let next = next_serial(served.as_ref().and_then(|zone| zone.serial()), serials.first);
    if next + FEW_SERIALS > serials.last && !observed.zones.is_taking_serials(name) {
        planned.serials = Some(next);
    }
    // What is served with a serial is never another thing, also after a crash.
    if next > serials.last {
        return false;
    }
    making.set_soa(next as u32, &mut zone);
    snapshot.insert_zone(Arc::new(zone));
    true
}

/// The serial after the one that is served, and not before `first`.
fn next_serial(served: Option<u32>, first: u64) -> u64 {
    // Of two serials the later one is less than 2^31 ahead (RFC 1982 section 3.2).
    let ahead = served.map_or(u32::MAX, |served| served.wrapping_sub(first as u32));
    if ahead < 1 << 31 { first + u64::from(ahead) + 1 } else { first }
}

/// Everything that a zone is made from.
struct Making<'a> {
    meant: &'a DesiredZone,
    desired: &'a Desired,
    zones: &'a Zones,
    /// How policies are served, from the same moment on as this zone.
    snapshot: &'a Snapshot,
    /// The addresses of this Weir.
    own: Addresses,
    https: Option<RecordSet>,
    nameservers: Option<RecordSet>,
}

impl<'a> Making<'a> {
    fn new(
        meant: &'a DesiredZone,
        desired: &'a Desired,
        zones: &'a Zones,
        snapshot: &'a Snapshot,
    ) -> Self {
        let zone = &meant.zone;
        let port = zones.https_port.map(|port| format!(" port={port}")).unwrap_or_default();
        // What the proxy offers, beside HTTP/1.1 that everybody expects (RFC 9460 section 7.1).
        let https = rdata::parse_line(RecordType::HTTPS, &format!("1 . alpn=h2{port}")).ok();
        let https =
            https.and_then(|data| RecordSet::new(RecordType::HTTPS, zone.ttl.auto, [data]).ok());
        let (own, nameservers) = (own_addresses(zone), nameservers(zone));
        Self { meant, desired, zones, snapshot, own, https, nameservers }
    }

    /// All of it. What operators have written is there already.
    fn whole(&self, served: Option<&Zone>) -> Zone {
        let zone = &self.meant.zone;
        let mut made = self.meant.custom.clone();
        made.set_secondaries(self.meant.secondaries.clone());
        self.make(zone.name.dns(), &mut made);
        let in_zone = zone.nameservers.iter().filter(|n| self.zones.zone_of(n) == Some(&zone.name));
        for name in in_zone
            .chain(self.meant.aliases.keys())
            .chain(self.zones.bound_in(&zone.name))
            .chain(self.zones.challenges_in(&zone.name))
            .chain(self.zones.steered_in(&zone.name))
            .chain(self.delegations())
        {
            self.make(name, &mut made);
        }
        // So that it is equal to what is served if nothing else has changed.
        if let Some(serial) = served.and_then(Zone::serial) {
            self.set_soa(serial, &mut made);
        }
        made
    }

    /// Makes one name what it should be.
    fn make(&self, name: &DnsName, zone: &mut Zone) {
        let wanted = self.sets(name);
        let is_wanted = |rtype| wanted.iter().any(|set: &RecordSet| set.rtype() == rtype);
        let served = zone.sets_at(name).iter().map(RecordSet::rtype);
        let gone = served.filter(|rtype| *rtype != RecordType::SOA && !is_wanted(*rtype));
        for rtype in gone.collect::<Vec<_>>() {
            zone.remove(name, rtype);
        }
        for set in wanted {
            if zone.get(name, set.rtype()) != Some(&set) {
                // All names are in this zone.
                let _ = zone.set(name, set);
            }
        }
    }

    /// The records of a name, but for the SOA.
    fn sets(&self, name: &DnsName) -> Vec<RecordSet> {
        let zone = &self.meant.zone;
        let mut sets = self.meant.custom.sets_at(name).to_vec();
        if let Some(below) = self.zones.below(&zone.name, name) {
            self.delegate(below, name, &mut sets);
            return sets;
        }
        if name == zone.name.dns() {
            sets.extend(self.nameservers.clone());
        }
        if name == zone.name.dns() && !sets.iter().any(|set| set.rtype() == RecordType::CAA) {
            let caa = self.zones.caa();
            sets.extend(RecordSet::new(RecordType::CAA, zone.ttl.auto, caa).ok());
        }
        let has = |sets: &[RecordSet], rtype| sets.iter().any(|set| set.rtype() == rtype);
        let leads = [RecordType::A, RecordType::AAAA, RecordType::CNAME];
        if let Some(alias) = self.meant.aliases.get(name) {
            let found = self.zones.resolved(&alias.target);
            sets.extend(found.into_iter().flat_map(|found| found.sets(alias.ttl)));
        } else if !leads.into_iter().any(|rtype| has(&sets, rtype)) {
            let steered = self.steered(name, sets.is_empty());
            let follows = zone.auto && steered.is_none() && !self.is_cut_off(name);
            let bound = self.zones.bound(name).filter(|_| follows);
            if zone.nameservers.contains(name) {
                sets.extend(self.own.sets(zone.ttl.nameservers));
            } else if let Some(steered) = steered {
                sets.extend(steered);
            } else if bound.is_some() {
                sets.extend(self.own.sets(zone.ttl.auto));
            }
            let is_told = bound.is_some_and(|bound| bound.is_https_only()) && !self.own.is_empty();
            if is_told && !has(&sets, RecordType::HTTPS) {
                sets.extend(self.https.clone());
            }
        }
        self.add_challenges(name, &mut sets);
        sets
    }

    /// The records of a name that a failover policy steers.
    fn steered(&self, name: &DnsName, is_free: bool) -> Option<Vec<RecordSet>> {
        let policy = self.zones.policy(name).filter(|_| !self.is_cut_off(name))?;
        let steered = self.snapshot.policy(policy)?;
        let takes_cname = is_free && name != self.meant.zone.name.dns();
        Some(steered_name::sets(steered, &self.own, takes_cname))
    }

    /// The names that lead to the zones below this one.
    fn delegations(&self) -> impl Iterator<Item = &'a DnsName> + use<'a> {
        let desired = self.desired;
        let below = self.zones.zones_below(&self.meant.zone.name);
        below.filter_map(|name| desired.zones.get(name)).flat_map(|below| {
            let (top, servers) = (below.zone.name.dns(), below.zone.nameservers.iter());
            std::iter::once(top).chain(servers.filter(move |server| server.is_at_or_below(top)))
        })
    }

    /// Adds what leads to another zone of ours: its nameservers, and the addresses of those within
    /// it, as far as none are written. Who copies this zone needs them, and may have no other.
    fn delegate(&self, to: &ZoneName, name: &DnsName, sets: &mut Vec<RecordSet>) {
        let Some(below) = self.desired.zones.get(to) else { return };
        let leads = |set: &RecordSet| matches!(set.rtype(), RecordType::CNAME | RecordType::DNAME);
        if self.meant.custom.sets_at(to.dns()).iter().any(leads) || self.is_cut_off(to.dns()) {
            return;
        }
        if name == to.dns() {
            sets.extend(nameservers(&below.zone));
        }
        let is_address = |set: &RecordSet| matches!(set.rtype(), RecordType::A | RecordType::AAAA);
        if !below.zone.nameservers.contains(name) || sets.iter().any(is_address) {
            return;
        }
        let there = below.custom.sets_at(name).iter().filter(|set| is_address(set));
        sets.extend(there.cloned());
        if !sets.iter().any(is_address) {
            sets.extend(own_addresses(&below.zone).sets(below.zone.ttl.nameservers));
        }
    }

    /// Whether what is at a name is not answered, because a delegation or a DNAME leads elsewhere.
    fn is_cut_off(&self, name: &DnsName) -> bool {
        let custom = &self.meant.custom;
        if !custom.has_cuts() {
            return false;
        }
        let is_own = |name: &DnsName| name == self.meant.zone.name.dns();
        let mut at = Some(name.clone());
        while let Some(cut) = at.filter(|at| at.is_at_or_below(self.meant.zone.name.dns())) {
            let is_delegated = !is_own(&cut) && custom.get(&cut, RecordType::NS).is_some();
            let leads_on = cut != *name && custom.get(&cut, RecordType::DNAME).is_some();
            if is_delegated || leads_on {
                return true;
            }
            at = cut.parent();
        }
        false
    }

    /// They stand beside what operators have written there, but not beside a CNAME.
    fn add_challenges(&self, name: &DnsName, sets: &mut Vec<RecordSet>) {
        let mut challenges = self.zones.challenges_at(name).peekable();
        if challenges.peek().is_none() || sets.iter().any(|s| s.rtype() == RecordType::CNAME) {
            return;
        }
        // What an authority is to find is shorter than a text may be.
        let text = |value: &String| [&[value.len() as u8], value.as_bytes()].concat();
        let former = sets.iter().position(|set| set.rtype() == RecordType::TXT);
        let former = former.map(|at| sets.remove(at));
        let own: Vec<_> = former.iter().flat_map(|set| set.data()).map(<[u8]>::to_vec).collect();
        let data = own.into_iter().chain(challenges.map(text));
        sets.extend(RecordSet::new(RecordType::TXT, 0, data).ok().or(former));
    }

    fn set_soa(&self, serial: u32, zone: &mut Zone) {
        let meant = &self.meant.zone;
        let Some(primary) = meant.nameservers.first() else { return };
        let mut data = [primary.wire(), meant.hostmaster.wire()].concat();
        let (soa, negative) = (meant.soa, meant.ttl.negative);
        for number in [serial, soa.refresh, soa.retry, soa.expire, negative] {
            data.extend(number.to_be_bytes());
        }
        if let Ok(set) = RecordSet::new(RecordType::SOA, meant.ttl.nameservers, [data]) {
            let _ = zone.set(meant.name.dns(), set);
        }
    }
}

fn own_addresses(zone: &HostedZone) -> Addresses {
    Addresses::of(zone.addresses.iter().copied())
}

fn nameservers(zone: &HostedZone) -> Option<RecordSet> {
    let names = zone.nameservers.iter().map(DnsName::wire);
    RecordSet::new(RecordType::NS, zone.ttl.nameservers, names).ok()
}
