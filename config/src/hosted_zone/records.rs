//! The records of a zone as operators write them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{HostedZone, ZoneName};
use crate::{
    DnsName, Problem, Problems, RecordSet, RecordType, Secondary, WrittenType, Zone,
    zone_file::MAX_SECONDS,
};

/// The most names with records of one zone.
pub const MAX_NAMES: u64 = 1_000_000;
/// The most records of one name and type.
const MAX_RECORDS: usize = 1000;

/// The records of one name and type, as the API takes and shows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordSetSpec {
    /// The whole name; in a change also as it is within the zone: `www`, or `@` for the zone's own.
    #[serde(default)]
    pub name: String,
    /// As `A`, `MX` or `TYPE65280`; `ALIAS` leads to another name's addresses, also at the zone's own
    /// name.
    #[serde(default)]
    pub r#type: String,
    /// In seconds; left out, the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The data of each record as in a zone file, in which all names are absolute; none deletes the
    /// set.
    #[serde(default)]
    pub data: Vec<String>,
}

/// The records of one name and type, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenSet {
    pub rtype: WrittenType,
    /// In seconds; `None` for that of the zone.
    pub ttl: Option<u32>,
    records: RecordSet,
}

/// A name that has the addresses of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub target: DnsName,
    /// In seconds.
    pub ttl: u32,
}

/// The serials that may be served without asking the store again. They never wrap here; what is
/// served is the remainder by 2^32 (RFC 1982).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serials {
    pub first: u64,
    pub last: u64,
}

/// A zone as meant. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DesiredZone {
    pub zone: HostedZone,
    /// Of the store, as of which it is so.
    pub revision: u64,
    /// Grows by one with every change of the spec.
    pub generation: u64,
    /// Grows when all records are written anew at once.
    pub content: u64,
    /// Only what operators have written: without SOA and NS of the zone itself. It shares structure
    /// with the zone that is served.
    pub custom: Zone,
    pub aliases: imbl::OrdMap<DnsName, Alias>,
    pub serials: Serials,
    /// With their keys.
    pub secondaries: Arc<[Secondary]>,
}

impl RecordSetSpec {
    /// What it means within a zone: the set of a name, or that there is to be none.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn read(
        &self,
        zone: &ZoneName,
    ) -> Result<(DnsName, WrittenType, Option<WrittenSet>), Problems> {
        let mut problems = Problems::default();
        let name = problems.take("/name", "bad_name", zone.within(&self.name));
        let rtype = problems.take("/type", "bad_type", self.r#type.parse::<WrittenType>());
        if self.ttl.is_some_and(|ttl| ttl > MAX_SECONDS) {
            let message = format!("write 0 to {MAX_SECONDS} seconds");
            problems.push(Problem::new("/ttl", "out_of_range", message));
        }
        let (Some(name), Some(rtype)) = (name, rtype) else { return Err(problems) };
        let mut data = Vec::with_capacity(self.data.len());
        for (i, line) in self.data.iter().enumerate() {
            data.extend(problems.take(&format!("/data/{i}"), "bad_data", rtype.parse(line)));
        }
        problems.take("/name", "conflict", fits(zone, &name, rtype));
        if !problems.0.is_empty() || data.is_empty() {
            return problems.or_value((name, rtype, None));
        }
        let set = WrittenSet::new(rtype, self.ttl, data);
        let set = problems.take("/data", "bad_data", set);
        problems.or_value((name, rtype, set))
    }
}

/// Whether operators write such records at a name.
///
/// # Errors
/// What to do instead.
pub(crate) fn fits(zone: &ZoneName, name: &DnsName, rtype: WrittenType) -> Result<(), String> {
    let is_own = name == zone.dns();
    match rtype {
        _ if !name.is_at_or_below(zone.dns()) => Err(format!("{name} is not in the zone {zone}")),
        WrittenType::Of(RecordType::SOA) => {
            Err("the SOA is made by itself; its times are in the zone's `soa`".to_owned())
        }
        WrittenType::Of(RecordType::NS) if is_own => {
            Err("these NS records are made by themselves, from the zone's `nameservers`".to_owned())
        }
        WrittenType::Of(RecordType::CNAME) if is_own => {
            Err("the zone's own name has other records already; write an ALIAS".to_owned())
        }
        _ => Ok(()),
    }
}

impl WrittenSet {
    /// From the data of each record in wire form.
    ///
    /// # Errors
    /// Why they are no set.
    pub fn new(rtype: WrittenType, ttl: Option<u32>, data: Vec<Vec<u8>>) -> Result<Self, String> {
        if data.len() > MAX_RECORDS {
            return Err(format!("a name has at most {MAX_RECORDS} records of one type"));
        }
        let records = RecordSet::new(rtype.form(), ttl.unwrap_or_default(), data);
        let records = records.map_err(|why| why.to_string())?;
        Ok(Self { rtype, ttl, records })
    }

    /// The data of each record, in wire form.
    pub fn data(&self) -> impl Iterator<Item = &[u8]> {
        self.records.data()
    }

    /// As it is shown.
    pub fn spec(&self, name: &DnsName) -> RecordSetSpec {
        RecordSetSpec {
            name: name.to_string(),
            r#type: self.rtype.to_string(),
            ttl: self.ttl,
            data: self.data().map(|data| self.rtype.print(data)).collect(),
        }
    }
}

impl PartialEq for DesiredZone {
    /// By what tells one state of it from another: there may be a million records.
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision
            && self.generation == other.generation
            && self.zone.name == other.zone.name
    }
}

impl DesiredZone {
    /// One without records.
    pub fn new(zone: HostedZone) -> Self {
        Self {
            revision: 0,
            generation: 0,
            content: 0,
            custom: Zone::new(zone.name.dns().clone()),
            aliases: imbl::OrdMap::new(),
            serials: Serials::default(),
            secondaries: Arc::default(),
            zone,
        }
    }

    /// Takes in that a name has these records of a type now, or none.
    pub fn write(&mut self, name: &DnsName, rtype: WrittenType, set: Option<WrittenSet>) {
        let ttl = |set: &WrittenSet| set.ttl.unwrap_or(self.zone.ttl.records);
        match (rtype, set) {
            (WrittenType::Alias, Some(set)) => {
                let target = set.data().next().and_then(|data| DnsName::from_wire(data).ok());
                if let Some(target) = target {
                    let ttl = ttl(&set);
                    self.aliases.insert(name.clone(), Alias { target, ttl });
                }
            }
            (WrittenType::Alias, None) => _ = self.aliases.remove(name),
            (WrittenType::Of(_), Some(set)) => {
                let records = match set.ttl {
                    Some(_) => set.records,
                    None => set.records.with_ttl(ttl(&set)),
                };
                // What is outside of the zone was refused when it was written.
                let _ = self.custom.set(name, records);
            }
            (WrittenType::Of(rtype), None) => _ = self.custom.remove(name, rtype),
        }
    }
}
