//! Zones: what is written, what follows by itself, and what a change costs.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use weir_config::{
    DesiredZone, HostedZone, RecordSetSpec, RecordType, Serials, WrittenType, Zone, ZoneManifest,
    ZoneName, parse_documents,
};

use super::bench::Bench;
use crate::{
    certificates::CertificateState,
    event::{DesiredChange, Event},
    store::Touched,
    subject::Subject,
    zones::{Addresses, Zones},
};

const BASE: &str = "apps.example.com";

/// A Weir that answers for `example.com`, below which its base domain is.
pub(super) struct ZoneBench {
    pub(super) bench: Bench,
    zone: DesiredZone,
}

fn name(text: &str) -> ZoneName {
    text.parse().unwrap()
}

fn desired(zone: &str, spec: &str) -> DesiredZone {
    let text = format!("kind: Zone\nname: {zone}\nspec: {spec}");
    let manifest: ZoneManifest = parse_documents(&text).unwrap()[0].decode().unwrap();
    let zone = HostedZone::from_manifest(&manifest).unwrap();
    let serials = Serials { first: 100, last: 1100 };
    DesiredZone { serials, ..DesiredZone::new(zone) }
}

impl ZoneBench {
    pub(super) fn new() -> Self {
        let mut bench = Bench::new();
        bench.reconciler.world.observed.zones = Zones::new(&BASE.parse().unwrap(), 443);
        let zone = desired("example.com", "{addresses: [192.0.2.1, 2001:db8::1]}");
        let mut this = Self { bench, zone };
        this.tell(Touched::Everything);
        this
    }

    fn tell(&mut self, touched: Touched) {
        self.tell_of(self.zone.clone(), touched);
    }

    fn tell_of(&mut self, zone: DesiredZone, touched: Touched) {
        let (name, zone) = (zone.zone.name.clone(), Arc::new(zone));
        self.bench.change(|change| change.zones.push((name, Some((zone, touched)))));
        self.bench.settle();
    }

    /// Writes a set; without data it is deleted.
    pub(super) fn write(&mut self, at: &str, rtype: &str, data: &[&str]) {
        let data = data.iter().map(|&line| line.to_owned()).collect();
        let spec = RecordSetSpec { name: at.into(), r#type: rtype.into(), ttl: None, data };
        let (owner, rtype, set) = spec.read(&self.zone.zone.name).unwrap();
        self.zone.write(&owner, rtype, set);
        self.zone.revision += 1;
        let is_cut = matches!(rtype, WrittenType::Of(RecordType::NS | RecordType::DNAME));
        let touched = if is_cut { Touched::Everything } else { Touched::Names(vec![owner]) };
        self.tell(touched);
    }

    pub(super) fn app(&mut self, app: &str, hostname: &str, more: &str) {
        let spec = format!("{{upstreams: [\"10.0.0.1:80\"], hostnames: [{hostname}]{more}}}");
        self.bench.put(app, &spec);
        self.bench.settle();
    }

    pub(super) fn served(&self) -> &Arc<Zone> {
        self.bench.observed().served.zone(self.zone.zone.name.dns()).unwrap()
    }

    pub(super) fn serial(&self) -> u32 {
        self.served().serial().unwrap()
    }

    /// The sets of a name, as `TYPE data, data`.
    #[track_caller]
    pub(super) fn check(&self, at: &str, expected: &[&str]) {
        let at = self.zone.zone.name.within(at).unwrap();
        let sets = self.served().sets_at(&at).iter().map(|set| {
            let rtype = WrittenType::Of(set.rtype());
            let data: Vec<_> = set.data().map(|data| rtype.print(data)).collect();
            format!("{rtype} {}", data.join(", "))
        });
        assert_eq!(sets.collect::<Vec<_>>(), expected, "{at}");
    }
}

const OWN: [&str; 3] = ["A 192.0.2.1", "AAAA 2001:db8::1", "HTTPS 1 . alpn=h2"];

#[test]
fn soa_ns_and_the_names_of_apps_are_there_by_themselves() {
    let mut zones = ZoneBench::new();
    zones.check(
        "@",
        &[
            "NS ns1.example.com.",
            "SOA ns1.example.com. hostmaster.example.com. 100 14400 3600 1209600 300",
        ],
    );
    zones.check("ns1", &OWN[..2]);
    zones.check("*.apps", &OWN);
    zones.check("www", &[]);
    zones.app("shop", "www.example.com", "");
    zones.check("www", &OWN);
    // Who may come by HTTP is not told to come by HTTPS.
    zones.app("old", "old.example.com", ", http: serve");
    zones.check("old", &OWN[..2]);
    zones.app("old", "new.example.com", ", http: serve");
    zones.check("old", &[]);
    zones.bench.delete("shop");
    zones.bench.settle();
    zones.check("www", &[]);
    assert_eq!(zones.serial(), 104, "each change has a serial of its own");
}

#[test]
fn what_is_written_wins_and_what_was_before_returns() {
    let mut zones = ZoneBench::new();
    zones.app("shop", "www.example.com", "");
    zones.write("www", "A", &["203.0.113.9"]);
    zones.check("www", &["A 203.0.113.9"]);
    zones.write("www", "A", &[]);
    zones.check("www", &OWN);
    zones.write("www", "TXT", &["x"]);
    zones.check("www", &["A 192.0.2.1", "TXT \"x\"", "AAAA 2001:db8::1", "HTTPS 1 . alpn=h2"]);
    zones.write("www", "HTTPS", &["0 other.example."]);
    zones.check("www", &["A 192.0.2.1", "TXT \"x\"", "AAAA 2001:db8::1", "HTTPS 0 other.example."]);
    zones.write("www", "TXT", &[]);
    zones.write("www", "HTTPS", &[]);
    zones.write("www", "CNAME", &["other.example."]);
    zones.check("www", &["CNAME other.example."]);
    zones.write("ns1", "A", &["203.0.113.53"]);
    zones.check("ns1", &["A 203.0.113.53"]);
    // What is below a delegation is the other servers'.
    zones.write("apps", "NS", &["ns.other.net."]);
    zones.check("shop.apps", &[]);
    zones.check("*.apps", &[]);
    zones.write("apps", "NS", &[]);
    zones.check("*.apps", &OWN);
}

#[test]
fn an_alias_has_the_addresses_that_were_found() {
    let mut zones = ZoneBench::new();
    zones.app("shop", "example.com", "");
    zones.write("@", "ALIAS", &["shop.example.net."]);
    let ns_and_soa = |zones: &ZoneBench| zones.served().sets_at(zones.zone.zone.name.dns()).len();
    assert_eq!(ns_and_soa(&zones), 2, "nothing is known of it yet");
    let found = Addresses { v4: vec![[203, 0, 113, 7].into()], v6: vec![], ttl: 30 };
    let tell = |zones: &mut ZoneBench, found: &Addresses| {
        let target = "shop.example.net".parse().unwrap();
        zones.bench.tell(Event::Resolved(target, found.clone()));
        zones.bench.settle();
    };
    tell(&mut zones, &found);
    let set = zones.served().get(zones.zone.zone.name.dns(), RecordType::A).unwrap().clone();
    assert_eq!((set.first(), set.ttl()), (&[203, 0, 113, 7][..], 30), "no longer than it is known");
    let serial = zones.serial();
    tell(&mut zones, &found);
    assert_eq!(zones.serial(), serial, "the same again changes nothing");
    zones.write("@", "ALIAS", &[]);
    assert_eq!(ns_and_soa(&zones), 5, "the app's own addresses return");
}

#[test]
fn challenges_stand_beside_what_is_written() {
    let mut zones = ZoneBench::new();
    zones.write("_acme-challenge.www", "TXT", &["mine"]);
    zones.write("_acme-challenge.moved", "CNAME", &["elsewhere.example."]);
    let wanted = |values: &[(&str, &[&str])]| {
        let mut wanted = OrdMap::new();
        for (name, values) in values {
            let values: OrdSet<_> = values.iter().map(|&value| value.to_owned()).collect();
            wanted.insert(name.parse().unwrap(), values);
        }
        let state = CertificateState { dns_challenges: wanted, ..CertificateState::default() };
        Event::Certificates(Box::new(state))
    };
    zones.bench.tell(wanted(&[
        ("_acme-challenge.example.com", &["a", "b"]),
        ("_acme-challenge.www.example.com", &["c"]),
        ("_acme-challenge.moved.example.com", &["d"]),
    ]));
    zones.bench.settle();
    zones.check("_acme-challenge", &["TXT \"a\", \"b\""]);
    zones.check("_acme-challenge.www", &["TXT \"c\", \"mine\""]);
    zones.check("_acme-challenge.moved", &["CNAME elsewhere.example."]);
    zones.bench.tell(wanted(&[("_acme-challenge.example.com", &["b"])]));
    zones.bench.settle();
    zones.check("_acme-challenge", &["TXT \"b\""]);
    zones.check("_acme-challenge.www", &["TXT \"mine\""]);
    // Also when all of it is made anew.
    zones.tell(Touched::Everything);
    zones.check("_acme-challenge", &["TXT \"b\""]);
}

#[test]
fn a_zone_within_another_takes_its_names_and_gives_them_back() {
    let mut zones = ZoneBench::new();
    zones.app("shop", "www.inner.example.com", "");
    zones.check("www.inner", &OWN);
    zones.tell_of(desired("inner.example.com", "{addresses: [192.0.2.2]}"), Touched::Everything);
    zones.check("www.inner", &[]);
    let served = &zones.bench.observed().served;
    let inner = served.zone(name("inner.example.com").dns()).unwrap();
    assert_eq!(inner.sets_at(&"www.inner.example.com".parse().unwrap()).len(), 2);
    zones.bench.change(|change| change.zones.push((name("inner.example.com"), None)));
    zones.bench.settle();
    zones.check("www.inner", &OWN);
}

#[test]
fn a_zone_leads_to_those_below_it_unless_something_else_is_written() {
    let mut zones = ZoneBench::new();
    let inner = desired("inner.example.com", "{addresses: [192.0.2.2]}");
    let deep = desired("deep.inner.example.com", "{addresses: [192.0.2.3]}");
    zones.tell_of(deep, Touched::Everything);
    zones.check("deep.inner", &["NS ns1.deep.inner.example.com."]);
    zones.check("ns1.deep.inner", &["A 192.0.2.3"]);
    zones.tell_of(inner.clone(), Touched::Everything);
    zones.check("inner", &["NS ns1.inner.example.com."]);
    zones.check("ns1.inner", &["A 192.0.2.2"]);
    // That is between them now.
    zones.check("deep.inner", &[]);
    zones.check("ns1.deep.inner", &[]);

    // The addresses are those that the zone itself has.
    let mut moved = inner.clone();
    let server: weir_config::DnsName = "ns1.inner.example.com".parse().unwrap();
    let data = vec!["203.0.113.53".to_owned()];
    let spec = RecordSetSpec { name: server.to_string(), r#type: "A".into(), ttl: None, data };
    let (owner, rtype, set) = spec.read(&moved.zone.name).unwrap();
    moved.write(&owner, rtype, set);
    zones.tell_of(moved, Touched::Names(vec![server]));
    zones.check("ns1.inner", &["A 203.0.113.53"]);
    let elsewhere = desired("inner.example.com", "{nameservers: [ns.other.net]}");
    zones.tell_of(elsewhere, Touched::Everything);
    zones.check("inner", &["NS ns.other.net."]);
    zones.check("ns1.inner", &[]);
    zones.tell_of(inner, Touched::Everything);

    // What is written of a name wins, and what is written of its nameserver.
    zones.write("ns1.inner", "A", &["203.0.113.1"]);
    zones.check("ns1.inner", &["A 203.0.113.1"]);
    zones.write("ns1.inner", "A", &[]);
    zones.write("inner", "NS", &["ns.elsewhere.net."]);
    zones.check("inner", &["NS ns.elsewhere.net."]);
    zones.check("ns1.inner", &[]);
    zones.write("inner", "NS", &[]);
    zones.check("inner", &["NS ns1.inner.example.com."]);
    zones.bench.change(|change| change.zones.push((name("inner.example.com"), None)));
    zones.bench.settle();
    zones.check("inner", &[]);
    zones.check("deep.inner", &["NS ns1.deep.inner.example.com."]);
}

#[test]
fn a_restart_goes_on_after_the_serial_that_was_served_and_only_if_something_changed() {
    let mut zones = ZoneBench::new();
    zones.write("www", "A", &["192.0.2.7"]);
    assert_eq!(zones.serial(), 101);
    let served = (*zones.bench.observed().served).clone();
    let restarted = |served: &weir_config::Snapshot, zone: &DesiredZone| {
        let mut bench = Bench::unlisted(served.clone());
        bench.reconciler.world.observed.zones = Zones::new(&BASE.parse().unwrap(), 443);
        let mut desired = bench.world().desired.clone();
        desired.zones.insert(zone.zone.name.clone(), Arc::new(zone.clone()));
        bench.tell(Event::Desired(DesiredChange::whole(desired)));
        bench.settle();
        let zone = bench.observed().served.zone(zone.zone.name.dns()).unwrap();
        zone.serial().unwrap()
    };
    let mut zone = zones.zone.clone();
    zone.serials = Serials { first: 2000, last: 3000 };
    assert_eq!(restarted(&served, &zone), 101, "the same zone keeps its serial");
    let more = RecordSetSpec {
        name: "x".into(),
        r#type: "A".into(),
        ttl: None,
        data: vec!["192.0.2.8".into()],
    };
    let (owner, rtype, set) = more.read(&zone.zone.name).unwrap();
    zone.write(&owner, rtype, set);
    assert_eq!(restarted(&served, &zone), 2000);
    // The database is an older copy, and the clock has gone back.
    zone.serials = Serials { first: 50, last: 1074 };
    assert_eq!(restarted(&served, &zone), 102);
    // Serials wrap (RFC 1982).
    zone.serials = Serials { first: (1 << 32) + 5, last: (1 << 32) + 500 };
    assert_eq!(restarted(&served, &zone), 5 + (102 - 5), "101 is later than 5");
    zone.serials = Serials { first: (1 << 32) - 1, last: (1 << 32) + 500 };
    assert_eq!(restarted(&served, &zone), 102, "and later than the last one before the wrap");
}

#[test]
fn no_serial_is_served_that_was_not_taken() {
    let mut zones = ZoneBench::new();
    zones.zone.serials = Serials { first: 100, last: 101 };
    zones.write("a", "A", &["192.0.2.7"]);
    assert_eq!(zones.serial(), 101);
    let subject = Subject::Zone(zones.zone.zone.name.clone());
    zones.write("b", "A", &["192.0.2.7"]);
    assert_eq!(zones.serial(), 101, "none is left");
    zones.check("b", &[]);
    let planned = zones.bench.planned_for(subject.clone());
    assert_eq!(planned.serials, Some(102), "so more are asked for");
    zones.bench.reconciler.recording(&subject);
    assert_eq!(zones.bench.planned_for(subject).serials, None, "once");
    zones.zone.serials.last = 2000;
    zones.tell(Touched::Names(Vec::new()));
    zones.check("b", &["A 192.0.2.7"]);
    assert_eq!(zones.serial(), 102);
}

#[test]
fn many_changes_at_once_are_the_same_as_one_by_one() {
    let mut zones = ZoneBench::new();
    zones.app("shop", "www.example.com", "");
    for i in 0..50 {
        zones.write(&format!("n{i}"), "A", &["192.0.2.7"]);
    }
    zones.write("www", "A", &["192.0.2.7"]);
    let by_one = zones.served().clone();
    zones.tell(Touched::Everything);
    assert_eq!(*zones.served(), by_one, "made anew it is the same, so nothing is served anew");
}

#[test]
fn the_gate_lets_no_zone_lose_much_that_nobody_asked_for() {
    let mut zones = ZoneBench::new();
    for i in 0..50 {
        zones.write(&format!("n{i}"), "A", &["192.0.2.7"]);
    }
    // A feed that fell behind tells everything, of which most is gone.
    let mut desired_all = zones.bench.world().desired.clone();
    let lost = desired("example.com", "{addresses: [192.0.2.1, 2001:db8::1]}");
    desired_all.zones.insert(lost.zone.name.clone(), Arc::new(lost));
    zones.bench.tell(Event::Desired(DesiredChange::whole(desired_all)));
    zones.bench.settle();
    zones.check("n7", &["A 192.0.2.7"]);
    assert_eq!(zones.bench.world().refusals.len(), 1);
    zones.bench.tell(Event::SnapshotConfirmed);
    zones.bench.settle();
    zones.check("n7", &[]);
    assert!(zones.bench.world().refusals.is_empty());
    // What an operator does is asked for.
    for i in 0..50 {
        zones.write(&format!("n{i}"), "A", &["192.0.2.7"]);
    }
    zones.zone.custom = Zone::new(zones.zone.zone.name.dns().clone());
    zones.tell(Touched::Everything);
    zones.check("n7", &[]);
}
