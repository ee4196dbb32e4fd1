//! Zones made by chance, as valid as servers ask for, and questions about them.

use std::fmt::Write;

use rand::{RngExt, rngs::SmallRng, seq::IndexedRandom};
use weir_config::{DnsName, RecordType};

use crate::zones::name;

pub(crate) struct RandomZone {
    pub(crate) apex: DnsName,
    flavour: &'static Flavour,
    records: Vec<(DnsName, RecordType, String)>,
}

/// What a zone is mostly made of.
struct Flavour {
    labels: &'static [&'static str],
    /// Labels of a name below the zone's.
    depths: &'static [usize],
    kinds: &'static [Kind],
}

/// What is added at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Alias,
    /// Several aliases, one after the other.
    Chain,
    Dname,
    /// A delegation to a nameserver below it, with its address.
    Cut,
    /// To one that has the name of what is delegated.
    CutToItself,
    /// To any name, with an address or without.
    CutToAny,
    /// What the parent says of a zone: at a delegation, if there is one.
    Signer,
}

const LABELS: &[&str] = &["a", "b", "c", "*", "ns"];
const LONG: &str = "sixty-octets-and-no-more-are-in-this-label-which-is-very-long";
const LONGEST: &str = "sixty-three-octets-is-the-most-that-a-label-may-have-and-it-has";

const FLAVOURS: &[Flavour] = &[
    Flavour {
        labels: LABELS,
        depths: &[0, 1, 1, 1, 2, 2, 3],
        kinds: &[Kind::Data, Kind::Data, Kind::Data, Kind::Alias, Kind::Dname, Kind::Cut],
    },
    // Aliases that lead to aliases, in loops and to delegations.
    Flavour {
        labels: &["a", "b", "*"],
        depths: &[0, 1, 1, 2],
        kinds: &[Kind::Alias, Kind::Chain, Kind::Dname, Kind::Dname, Kind::Data, Kind::CutToAny],
    },
    // Delegations with something at and below them.
    Flavour {
        labels: &["a", "b", "*"],
        depths: &[1, 1, 2, 3],
        kinds: &[
            Kind::Cut,
            Kind::CutToItself,
            Kind::CutToAny,
            Kind::Signer,
            Kind::Alias,
            Kind::Dname,
            Kind::Data,
            Kind::Data,
        ],
    },
    // Wildcards, and names between them.
    Flavour {
        labels: &["*", "*", "a"],
        depths: &[1, 2, 2, 3, 4],
        kinds: &[Kind::Data, Kind::Data, Kind::Alias, Kind::CutToAny, Kind::Dname],
    },
    // Names that are as long as names may be, or longer.
    Flavour {
        labels: &["a", "*", LONG, LONGEST],
        depths: &[1, 2, 3],
        kinds: &[Kind::Data, Kind::Alias, Kind::Dname, Kind::Dname],
    },
];

impl RandomZone {
    pub(crate) fn new(i: usize, random: &mut SmallRng) -> Self {
        let apex = name(&format!("z{i}.test"));
        let soa = "ns.else.where. admin.else.where. 1 3600 600 86400 300";
        let records = vec![
            (apex.clone(), RecordType::SOA, soa.to_owned()),
            (apex.clone(), RecordType::NS, "ns.else.where.".to_owned()),
        ];
        let mut zone = Self { apex, flavour: &FLAVOURS[i % FLAVOURS.len()], records };
        for _ in 0..random.random_range(2..16) {
            let kind = *zone.flavour.kinds.choose(random).unwrap();
            let owner = zone.name(random);
            zone.add(kind, owner, random);
        }
        zone
    }

    /// Adds what would go with the records that are there.
    fn add(&mut self, kind: Kind, owner: DnsName, random: &mut SmallRng) {
        let has_type = |rtype| self.has(&owner, rtype);
        let is_there = self.records.iter().any(|(o, _, _)| *o == owner);
        let has_below =
            self.records.iter().any(|(o, _, _)| *o != owner && o.is_at_or_below(&owner));
        if has_type(RecordType::CNAME) || self.is_below(&owner, RecordType::DNAME) {
            return;
        }
        let is_apex = owner == self.apex;
        let may_lead = !is_apex && !owner.is_wildcard() && !has_type(RecordType::DNAME);
        let target = match random.random_range(0..6) {
            0 => name("out.else.where"),
            _ => self.name(random),
        };
        let byte: u8 = random.random();
        match kind {
            Kind::Data => self.add_data(owner, &target, byte, random),
            Kind::Alias if !is_there => self.push(&owner, RecordType::CNAME, &target),
            Kind::Chain if !is_there => {
                self.push(&owner, RecordType::CNAME, &target);
                if target.is_at_or_below(&self.apex) {
                    self.add(*[Kind::Chain, Kind::Data].choose(random).unwrap(), target, random);
                }
            }
            Kind::Dname
                if !has_below
                    && !owner.is_wildcard()
                    && !has_type(RecordType::DNAME)
                    && (is_apex || !has_type(RecordType::NS)) =>
            {
                self.push(&owner, RecordType::DNAME, &target);
            }
            Kind::Cut if may_lead => {
                let Ok(server) = owner.child(b"ns") else { return };
                if self.has(&server, RecordType::CNAME) {
                    return;
                }
                self.push(&owner, RecordType::NS, &server);
                self.records.push((server, RecordType::A, format!("192.0.2.{byte}")));
                if random.random() {
                    self.push(&owner, RecordType::NS, &name("ns.else.where"));
                }
            }
            Kind::CutToItself if may_lead => {
                self.push(&owner, RecordType::NS, &owner);
                self.records.push((owner, RecordType::A, format!("192.0.2.{byte}")));
            }
            Kind::CutToAny if may_lead => self.push(&owner, RecordType::NS, &target),
            Kind::Signer if may_lead => {
                let digest = format!("{byte} 8 2 {:064x}", byte);
                self.records.push((owner, RecordType::DS, digest));
            }
            _ => {}
        }
    }

    fn add_data(&mut self, owner: DnsName, target: &DnsName, byte: u8, random: &mut SmallRng) {
        let (rtype, data) = match random.random_range(0..7) {
            0 => (RecordType::MX, format!("10 {target}.")),
            1 => (RecordType::SRV, format!("0 0 53 {target}.")),
            2 => (RecordType::AAAA, format!("2001:db8::{byte:x}")),
            3 => (RecordType::TXT, format!("\"text{byte}\"")),
            _ => (RecordType::A, format!("192.0.2.{byte}")),
        };
        self.records.push((owner, rtype, data));
    }

    fn push(&mut self, owner: &DnsName, rtype: RecordType, target: &DnsName) {
        self.records.push((owner.clone(), rtype, format!("{target}.")));
    }

    fn has(&self, owner: &DnsName, rtype: RecordType) -> bool {
        self.records.iter().any(|(o, t, _)| o == owner && *t == rtype)
    }

    fn is_below(&self, owner: &DnsName, rtype: RecordType) -> bool {
        let above = std::iter::successors(owner.parent(), DnsName::parent);
        above.into_iter().any(|above| self.has(&above, rtype))
    }

    fn name(&self, random: &mut SmallRng) -> DnsName {
        let depth = *self.flavour.depths.choose(random).unwrap();
        self.below(self.apex.clone(), depth, random)
    }

    /// A name with more labels, as far as there is room for them.
    fn below(&self, name: DnsName, labels: usize, random: &mut SmallRng) -> DnsName {
        (0..labels).fold(name, |name, _| {
            let label = self.flavour.labels.choose(random).unwrap();
            name.child(label.as_bytes()).unwrap_or(name)
        })
    }

    /// A name in wire form, in whatever case, and a type.
    pub(crate) fn question(&self, random: &mut SmallRng) -> (Vec<u8>, RecordType) {
        let near = match random.random_range(0..4) {
            0 => self.name(random),
            _ => self.records.choose(random).unwrap().0.clone(),
        };
        let owner = self.below(near, *[0, 0, 0, 1, 1, 2, 3].choose(random).unwrap(), random);
        let mut wire = owner.wire().to_vec();
        if random.random_range(0..8) == 0 {
            // Lengths of labels are below the letters.
            wire.make_ascii_uppercase();
        }
        const TYPES: [RecordType; 14] = [
            RecordType::A,
            RecordType::A,
            RecordType::A,
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::MX,
            RecordType::SRV,
            RecordType::NS,
            RecordType::CNAME,
            RecordType::DNAME,
            RecordType::SOA,
            RecordType::DS,
            RecordType::ANY,
            RecordType(65_280),
        ];
        (wire, *TYPES.choose(random).unwrap())
    }

    /// As a zone file.
    pub(crate) fn text(&self) -> String {
        self.records.iter().fold(String::new(), |mut text, (owner, rtype, data)| {
            let _ = writeln!(text, "{owner}. 300 IN {rtype} {data}");
            text
        })
    }
}
