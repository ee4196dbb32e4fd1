//! Zones for the tests, written as in a zone file, one record to a line.

use weir_config::{DnsName, RecordSet, RecordType, Zone};

/// One record, in wire form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) owner: DnsName,
    pub(crate) ttl: u32,
    pub(crate) rtype: RecordType,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn name(text: &str) -> DnsName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A zone of these records; names are absolute, and the SOA tells the zone's.
pub(crate) fn zone(text: &str) -> Zone {
    let records: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(record).collect();
    let soa = records.iter().find(|record| record.rtype == RecordType::SOA).expect("a SOA");
    let mut zone = Zone::new(soa.owner.clone());
    let mut sorted = records.clone();
    sorted.sort();
    for set in sorted.chunk_by(|a, b| (&a.owner, a.rtype) == (&b.owner, b.rtype)) {
        let data = set.iter().map(|record| &record.data);
        let records = RecordSet::new(set[0].rtype, set[0].ttl, data);
        zone.set(&set[0].owner, records.unwrap_or_else(|error| panic!("{error}"))).unwrap();
    }
    zone
}

/// `owner ttl IN type data`; the class may be left out.
pub(crate) fn record(line: &str) -> Record {
    let mut words = line.split_whitespace().filter(|word| *word != "IN");
    let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line}"));
    let (owner, ttl, rtype) = (name(next()), next().parse().unwrap(), next().parse().unwrap());
    let words: Vec<_> = words.collect();
    Record { owner, ttl, rtype, data: data(rtype, &words) }
}

fn data(rtype: RecordType, words: &[&str]) -> Vec<u8> {
    let number = |word: &str| word.parse::<u32>().unwrap_or_else(|_| panic!("{word}"));
    let short = |word: &str| (number(word) as u16).to_be_bytes().to_vec();
    let wire = |word: &str| name(word).wire().to_vec();
    match rtype {
        RecordType::A => words[0].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        RecordType::AAAA => words[0].parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => wire(words[0]),
        RecordType::MX => [short(words[0]), wire(words[1])].concat(),
        RecordType::SRV => {
            let numbers = words[..3].iter().flat_map(|word| short(word));
            numbers.chain(wire(words[3])).collect()
        }
        RecordType::SOA => {
            let names = [wire(words[0]), wire(words[1])].concat();
            let numbers = words[2..].iter().flat_map(|word| number(word).to_be_bytes());
            names.into_iter().chain(numbers).collect()
        }
        RecordType::DS => {
            let digest = words[3].as_bytes().as_chunks::<2>().0.iter();
            let octet = |pair: &[u8; 2]| str::from_utf8(pair).unwrap().to_owned();
            let digest = digest.map(|pair| u8::from_str_radix(&octet(pair), 16).unwrap());
            let numbers = [number(words[1]) as u8, number(words[2]) as u8];
            short(words[0]).into_iter().chain(numbers).chain(digest).collect()
        }
        RecordType::TXT => {
            let text = words.join(" ").replace('"', "");
            [&[text.len() as u8][..], text.as_bytes()].concat()
        }
        _ => words.concat().into_bytes(),
    }
}
