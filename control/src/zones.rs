//! What zones are made of beside what operators have written: the names of apps and of failover
//! policies, the addresses that aliases lead to, the challenges of certificate authorities. And which names of a zone may be
//! served otherwise than they should be.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use imbl::{OrdMap, OrdSet};
use weir_config::{
    App, DesiredZone, DnsName, FailoverName, HostedZone, Hostname, PlainHttp, RecordSet,
    RecordType, ZoneName, dns::suffixes,
};

use crate::store::Touched;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zones {
    zones: imbl::HashMap<DnsName, ZoneSeen>,
    /// Their names, so that those below another one are found without looking at all.
    in_order: OrdSet<DnsName>,
    /// The names that lead to apps, whichever zone they are in.
    bound: OrdMap<DnsName, Bound>,
    /// The names that failover policies steer.
    steered: OrdMap<DnsName, FailoverName>,
    /// By the name that is asked for.
    resolved: OrdMap<DnsName, Addresses>,
    /// What TXT records certificate authorities are to find.
    challenges: OrdMap<DnsName, OrdSet<String>>,
    /// Who may issue certificates for our zones, as CAA records have it; everybody if there are none.
    caa: Vec<Box<[u8]>>,
    /// The port that end users reach HTTPS at, if it is not 443.
    pub(crate) https_port: Option<u16>,
}

/// One zone.
#[derive(Clone, Debug)]
struct ZoneSeen {
    name: ZoneName,
    dirty: Dirty,
    /// Whether more serials have been asked for.
    is_taking_serials: bool,
}

/// What of a zone is to be looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Dirty {
    Names(OrdSet<DnsName>),
    Everything,
}

/// How many apps a name leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bound {
    apps: u32,
    /// Those that are served over plain HTTP too: nobody is told to come by HTTPS then.
    plain: u32,
}

impl Bound {
    pub(crate) fn is_https_only(self) -> bool {
        self.plain == 0
    }
}

/// What a name was found to lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
    /// In seconds.
    pub(crate) ttl: u32,
}

impl Zones {
    /// Below the base domain every name leads here, also one that no app has.
    pub(crate) fn new(base_domain: &Hostname, https_port: u16) -> Self {
        let https_port = (https_port != 443).then_some(https_port);
        let mut zones = Self { https_port, ..Self::default() };
        let below = DnsName::from(&base_domain.wildcard());
        zones.bound.insert(below, Bound { apps: 1, plain: 0 });
        zones
    }

    /// The zone that a name is in.
    pub(crate) fn zone_of(&self, name: &DnsName) -> Option<&ZoneName> {
        suffixes(name.wire()).find_map(|suffix| self.zones.get(suffix)).map(|zone| &zone.name)
    }

    /// The zones right below this one.
    pub(crate) fn zones_below<'a>(
        &'a self,
        zone: &'a ZoneName,
    ) -> impl Iterator<Item = &'a ZoneName> + 'a {
        let names = self.in_order.range(zone.dns().clone()..);
        let below = names.take_while(|name| name.is_at_or_below(zone.dns()));
        let zones = below.filter_map(|name| self.zones.get(name)).map(|below| &below.name);
        zones.filter(move |below| self.zone_above(below) == Some(zone))
    }

    /// The zone right below this one that a name of this one is in, if it is in one.
    pub(crate) fn below(&self, zone: &ZoneName, name: &DnsName) -> Option<&ZoneName> {
        let longer = |suffix: &&[u8]| suffix.len() > zone.dns().wire().len();
        let below = suffixes(name.wire()).take_while(longer).filter_map(|s| self.zones.get(s));
        below.last().map(|below| &below.name)
    }

    fn zone_above(&self, zone: &ZoneName) -> Option<&ZoneName> {
        self.zone_of(&zone.dns().parent()?)
    }

    pub(crate) fn dirty(&self, zone: &ZoneName) -> Option<&Dirty> {
        self.zones.get(zone.dns()).map(|zone| &zone.dirty)
    }

    pub(crate) fn is_taking_serials(&self, zone: &ZoneName) -> bool {
        self.zones.get(zone.dns()).is_some_and(|zone| zone.is_taking_serials)
    }

    pub(crate) fn take_serials(&mut self, zone: &ZoneName, is_taking: bool) {
        if let Some(zone) = self.zones.get_mut(zone.dns()) {
            zone.is_taking_serials = is_taking;
        }
    }

    /// Notes that a zone is served as it should be.
    pub(crate) fn is_served(&mut self, zone: &ZoneName) {
        if let Some(zone) = self.zones.get_mut(zone.dns()) {
            zone.dirty = Dirty::Names(OrdSet::new());
        }
    }

    pub(crate) fn bound(&self, name: &DnsName) -> Option<Bound> {
        self.bound.get(name).copied()
    }

    /// The names of a zone that lead to apps.
    pub(crate) fn bound_in<'a>(
        &'a self,
        zone: &'a ZoneName,
    ) -> impl Iterator<Item = &'a DnsName> + 'a {
        in_zone(self.bound.range(zone.dns().clone()..), zone, self)
    }

    /// The policy that steers a name.
    pub(crate) fn policy(&self, name: &DnsName) -> Option<&FailoverName> {
        self.steered.get(name)
    }

    /// The names of a zone that policies steer.
    pub(crate) fn steered_in<'a>(
        &'a self,
        zone: &'a ZoneName,
    ) -> impl Iterator<Item = &'a DnsName> + 'a {
        in_zone(self.steered.range(zone.dns().clone()..), zone, self)
    }

    pub(crate) fn challenges_in<'a>(
        &'a self,
        zone: &'a ZoneName,
    ) -> impl Iterator<Item = &'a DnsName> + 'a {
        in_zone(self.challenges.range(zone.dns().clone()..), zone, self)
    }

    /// What TXT records a certificate authority is to find at a name.
    pub(crate) fn challenges_at(&self, name: &DnsName) -> impl Iterator<Item = &String> {
        self.challenges.get(name).into_iter().flatten()
    }

    pub(crate) fn resolved(&self, target: &DnsName) -> Option<&Addresses> {
        self.resolved.get(target)
    }

    /// Notes a new, changed or removed zone; returns the others that are concerned.
    pub(crate) fn zone_changed(
        &mut self,
        name: &ZoneName,
        change: Option<(&HostedZone, &Touched)>,
    ) -> Option<ZoneName> {
        let Some((meant, touched)) = change else {
            self.zones.remove(name.dns());
            self.in_order.remove(name.dns());
            return self.touch_above(name);
        };
        if let Some(zone) = self.zones.get_mut(name.dns()) {
            zone.is_taking_serials = false;
            zone.dirty.add(touched.clone());
            let is_way = match touched {
                Touched::Names(names) => names.iter().any(|name| meant.nameservers.contains(name)),
                Touched::Everything => true,
            };
            return is_way.then(|| self.touch_above(name)).flatten();
        }
        let (name, dirty) = (name.clone(), Dirty::Everything);
        self.in_order.insert(name.dns().clone());
        let zone = ZoneSeen { name: name.clone(), dirty, is_taking_serials: false };
        self.zones.insert(name.dns().clone(), zone);
        self.touch_above(&name)
    }

    /// Has all of the zone above looked at, which leads to this one and has its names while it is
    /// not there.
    fn touch_above(&mut self, name: &ZoneName) -> Option<ZoneName> {
        let above = self.zone_above(name)?.clone();
        self.zones.get_mut(above.dns())?.dirty = Dirty::Everything;
        Some(above)
    }

    /// Notes that an app has these names now instead of those; returns the zones concerned.
    pub(crate) fn app_changed(
        &mut self,
        former: Option<&App>,
        latter: Option<&App>,
    ) -> BTreeSet<ZoneName> {
        let names = |app: Option<&App>| {
            let hosts = app.into_iter().flat_map(|app| &app.hostnames).map(|name| &name.host);
            hosts.map(DnsName::from).collect::<BTreeSet<_>>()
        };
        let is_plain =
            |app: Option<&App>| app.is_some_and(|app| app.policy.plain_http == PlainHttp::Serve);
        let (gone, come) = (names(former), names(latter));
        if gone == come && is_plain(former) == is_plain(latter) {
            return BTreeSet::new();
        }
        for name in &gone {
            let mut bound = self.bound.get(name).copied().unwrap_or_default();
            bound.apps = bound.apps.saturating_sub(1);
            bound.plain = bound.plain.saturating_sub(u32::from(is_plain(former)));
            match bound.apps {
                0 => _ = self.bound.remove(name),
                _ => _ = self.bound.insert(name.clone(), bound),
            }
        }
        for name in &come {
            let bound = self.bound.entry(name.clone()).or_default();
            bound.apps += 1;
            bound.plain += u32::from(is_plain(latter));
        }
        gone.union(&come).filter_map(|name| self.touch(name)).collect()
    }

    /// Notes that a failover policy has these names now instead of those; returns the zones
    /// concerned.
    pub(crate) fn policy_changed(
        &mut self,
        policy: &FailoverName,
        former: &[Hostname],
        latter: &[Hostname],
    ) -> BTreeSet<ZoneName> {
        let names =
            |hostnames: &[Hostname]| hostnames.iter().map(DnsName::from).collect::<Vec<_>>();
        let (former, latter) = (names(former), names(latter));
        for name in former.iter().filter(|name| !latter.contains(name)) {
            // One that moved to another policy meanwhile is that one's.
            if self.steered.get(name) == Some(policy) {
                self.steered.remove(name);
            }
        }
        for name in &latter {
            self.steered.insert(name.clone(), policy.clone());
        }
        former.iter().chain(&latter).filter_map(|name| self.touch(name)).collect()
    }

    /// Notes that these names are steered otherwise; returns the zones concerned.
    pub(crate) fn steered_anew(&mut self, hostnames: &[Hostname]) -> BTreeSet<ZoneName> {
        hostnames.iter().filter_map(|name| self.touch(&DnsName::from(name))).collect()
    }

    /// Notes what certificate authorities are to find, all of it; returns the zones concerned.
    pub(crate) fn challenges_changed(
        &mut self,
        challenges: OrdMap<DnsName, OrdSet<String>>,
    ) -> BTreeSet<ZoneName> {
        let former = std::mem::replace(&mut self.challenges, challenges);
        let latter = self.challenges.clone();
        let is_other = |name: &&DnsName| former.get(*name) != latter.get(*name);
        let names = former.keys().chain(latter.keys()).filter(is_other);
        names.filter_map(|name| self.touch(name)).collect()
    }

    /// Notes who may issue certificates for our zones; returns those concerned.
    pub(crate) fn caa_changed(&mut self, caa: Vec<Box<[u8]>>) -> BTreeSet<ZoneName> {
        if self.caa == caa {
            return BTreeSet::new();
        }
        self.caa = caa;
        let tops: Vec<_> = self.zones.keys().cloned().collect();
        tops.iter().filter_map(|top| self.touch(top)).collect()
    }

    /// At the top of a zone.
    pub(crate) fn caa(&self) -> &[Box<[u8]>] {
        &self.caa
    }

    /// Notes what a target of aliases leads to; `aliases` are the names that have its addresses.
    pub(crate) fn resolved_anew(
        &mut self,
        target: DnsName,
        addresses: Addresses,
        aliases: &[DnsName],
    ) -> BTreeSet<ZoneName> {
        if self.resolved.get(&target) == Some(&addresses) {
            return BTreeSet::new();
        }
        self.resolved.insert(target, addresses);
        aliases.iter().filter_map(|name| self.touch(name)).collect()
    }

    /// Has a name looked at; returns its zone.
    fn touch(&mut self, name: &DnsName) -> Option<ZoneName> {
        let zone = self.zone_of(name)?.clone();
        self.zones.get_mut(zone.dns())?.dirty.add(Touched::Names(vec![name.clone()]));
        Some(zone)
    }
}

/// Those of a map that are in a zone and in none below it.
fn in_zone<'a, V: 'a>(
    names: impl Iterator<Item = (&'a DnsName, &'a V)> + 'a,
    zone: &'a ZoneName,
    zones: &'a Zones,
) -> impl Iterator<Item = &'a DnsName> + 'a {
    // In the canonical order what is below a name follows it.
    let below = names.map(|(name, _)| name).take_while(|n| n.is_at_or_below(zone.dns()));
    below.filter(move |name| zones.zone_of(name) == Some(zone))
}

/// More names than this are looked at together.
const MOST_NAMES: usize = 10_000;

impl Dirty {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }

    fn add(&mut self, touched: Touched) {
        let Self::Names(names) = self else { return };
        match touched {
            Touched::Names(more) if names.len() + more.len() <= MOST_NAMES => names.extend(more),
            _ => *self = Self::Everything,
        }
    }
}

/// The names of a zone that have the addresses of this one.
pub(crate) fn aliases_of(zone: &DesiredZone, target: &DnsName) -> Vec<DnsName> {
    let leads_there = zone.aliases.iter().filter(|(_, alias)| alias.target == *target);
    leads_there.map(|(name, _)| name.clone()).collect()
}

impl Addresses {
    /// Those that are known for as long as anybody likes.
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut found = Self { ttl: u32::MAX, ..Self::default() };
        for address in addresses {
            match address {
                IpAddr::V4(address) => found.v4.push(address),
                IpAddr::V6(address) => found.v6.push(address),
            }
        }
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.iter().copied().map(IpAddr::V4);
        v4.chain(self.v6.iter().copied().map(IpAddr::V6))
    }

    /// As records that may be kept for so long at most, in seconds.
    pub(crate) fn sets(&self, ttl: u32) -> impl Iterator<Item = RecordSet> {
        let v4 = self.v4.iter().map(|address| address.octets());
        let v6 = self.v6.iter().map(|address| address.octets());
        let sets = [
            RecordSet::new(RecordType::A, ttl.min(self.ttl), v4),
            RecordSet::new(RecordType::AAAA, ttl.min(self.ttl), v6),
        ];
        // Without an address there is no set.
        sets.into_iter().flatten()
    }
}
