//! A zone file as the records that are written of a zone.

use std::collections::BTreeMap;

use super::{DesiredZone, HostedZone, MAX_NAMES, WrittenSet, records::fits};
use crate::{DnsName, Entry, Place, Problem, Problems, RecordType, WrittenType, read_zone_file};

/// What a zone file says of a zone.
#[derive(Debug)]
pub struct ImportedZone {
    pub sets: BTreeMap<(DnsName, WrittenType), WrittenSet>,
    /// What is made by itself, as lines of a zone file.
    pub left_out: Vec<String>,
    /// Of the SOA, if there is one.
    pub serial: Option<u32>,
}

/// The records of one name and type, with the line of the first.
struct Gathered {
    ttl: Option<u32>,
    data: Vec<Vec<u8>>,
    line: usize,
}

/// More problems than this are not worth printing.
const MAX_PROBLEMS: usize = 100;

impl ImportedZone {
    /// Reads a zone file. SOA and NS of the zone's own name are left out.
    ///
    /// # Errors
    /// Every problem with its line, up to a hundred: of single records, else of what does not go
    /// together.
    pub fn read(text: &str, zone: &HostedZone) -> Result<Self, Problems> {
        let name = &zone.name;
        let mut gathered: BTreeMap<(DnsName, WrittenType), Gathered> = BTreeMap::new();
        let (mut left_out, mut serial) = (Vec::new(), None);
        read_zone_file(text, name.dns(), |Entry { name: owner, ttl, rtype, data, line }| {
            let own = [RecordType::SOA, RecordType::NS].map(WrittenType::Of);
            if owner == *name.dns() && own.contains(&rtype) {
                left_out.push(format!("{owner}. {rtype} {}", rtype.print(&data)));
                if rtype == own[0] {
                    serial = serial_of(&data);
                }
                return Ok(());
            }
            fits(name, &owner, rtype)?;
            let new = || Gathered { ttl, data: Vec::new(), line };
            let set = gathered.entry((owner, rtype)).or_insert_with(new);
            // In a set they have one TTL (RFC 2181 section 5.2): the shortest breaks no promise.
            set.ttl = match (set.ttl, ttl) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            set.data.push(data);
            Ok(())
        })?;
        let mut problems = Problems::default();
        let lines: BTreeMap<_, _> =
            gathered.iter().map(|((name, _), set)| (name.clone(), set.line)).collect();
        if lines.len() as u64 > MAX_NAMES {
            let message = format!("a zone has records at {MAX_NAMES} names at most");
            return Err(Problems(vec![Problem::new("", "too_many", message)]));
        }
        let mut desired = DesiredZone::new(zone.clone());
        let mut sets = BTreeMap::new();
        for ((owner, rtype), Gathered { ttl, data, line }) in gathered {
            match WrittenSet::new(rtype, ttl, data) {
                Ok(set) => {
                    desired.write(&owner, rtype, Some(set.clone()));
                    sets.insert((owner, rtype), set);
                }
                Err(why) => problems.push(at(line, format!("{owner} {rtype}: {why}"))),
            }
        }
        for (owner, line) in &lines {
            if problems.0.len() >= MAX_PROBLEMS {
                break;
            }
            if let Err(why) = desired.lint(owner) {
                problems.push(at(*line, why));
            }
        }
        problems.0.sort_by_key(|problem| problem.place.map(|place| place.line));
        problems.or_value(Self { sets, left_out, serial })
    }
}

fn at(line: usize, message: String) -> Problem {
    Problem { place: Some(Place { line, column: 1 }), ..Problem::new("", "conflict", message) }
}

/// The first of the five numbers behind its names.
fn serial_of(soa: &[u8]) -> Option<u32> {
    let numbers = soa.last_chunk::<20>()?;
    numbers.first_chunk().map(|serial| u32::from_be_bytes(*serial))
}
