//! Random zones and questions, answered beside BIND, NSD, Knot and PowerDNS.

use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use rand::{SeedableRng, rngs::SmallRng};
use weir_config::{DnsName, RecordType};

use crate::{
    harness::{Answer, Served, question_of, with_edns},
    peers::Peer,
    random_zone::RandomZone,
    zones::{Record, zone},
};

/// `WEIR_DIFFERENTIAL_QUESTIONS` of them, from `WEIR_DIFFERENTIAL_SEED` on.
#[test]
fn whatever_most_of_four_other_servers_answer_is_answered() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let count = number("WEIR_DIFFERENTIAL_QUESTIONS").unwrap_or(6000);
    let seed = number("WEIR_DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
    println!("WEIR_DIFFERENTIAL_SEED={seed} WEIR_DIFFERENTIAL_QUESTIONS={count}");
    let mut random = SmallRng::seed_from_u64(seed);
    let zones: Vec<_> = (0..100).map(|i| RandomZone::new(i, &mut random)).collect();
    let served = Served::start(zones.iter().map(|random| zone(&random.text())));
    let peers = [Peer::bind(&zones), Peer::nsd(&zones), Peer::knot(&zones), Peer::powerdns(&zones)];
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut alone: BTreeMap<_, u64> = BTreeMap::new();
    for i in 0..count {
        let of = &zones[i as usize % zones.len()];
        let (owner, rtype) = of.question(&mut random);
        let message = with_edns(question_of(&owner, rtype, 1), 1232, 0, &[]);
        let see = |answer: &Answer| Seen::new(answer, rtype, &of.apex);
        let ours = see(&served.ask_bytes(&message));
        let theirs = peers.each_ref().map(|peer| see(&peer.ask(&message)));
        // What is told to who asks for anything differs more: there it has to be three.
        let least = if rtype == RecordType::ANY { 3 } else { 2 };
        let Some(majority) = majority(&theirs, least) else { continue };
        compared += 1;
        for (peer, _) in peers.iter().zip(&theirs).filter(|(_, seen)| *seen != majority) {
            *alone.entry(peer.name).or_default() += 1;
        }
        // Names are compressed by each in its way, and aliases that lead in circles followed for a
        // while: what has room in one server's answer need not have it in another's.
        let has_other_room = majority.truncated != ours.truncated;
        if ours != *majority && !has_other_room {
            let owner = DnsName::from_wire(&owner).unwrap();
            let text = of.text();
            wrong.push(format!("{owner} {rtype}:\n {ours:?}\n instead of\n {majority:?}\n{text}"));
        }
    }
    println!("{compared} of {count} questions have one answer of most; else: {alone:?}");
    assert!(compared * 10 > count * 9, "{compared} of {count} are too few");
    let few = wrong.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{few}", wrong.len());
}

/// What more servers answer than anything else, and `least` of them at least.
fn majority(seen: &[Seen; 4], least: usize) -> Option<&Seen> {
    let count = |one: &Seen| seen.iter().filter(|other| *other == one).count();
    let most = seen.iter().max_by_key(|one| count(one))?;
    let rivals = seen.iter().filter(|one| *one != most);
    let next = rivals.map(count).max().unwrap_or_default();
    (count(most) > next.max(least - 1)).then_some(most)
}

/// What of an answer matters: beside an answer, what else servers tell is left out by ours.
#[derive(Debug, PartialEq)]
struct Seen {
    rcode: ResponseCode,
    authoritative: bool,
    truncated: bool,
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

impl Seen {
    fn new(answer: &Answer, rtype: RecordType, apex: &DnsName) -> Self {
        let is_positive = !answer.answer.is_empty();
        let is_needed =
            |r: &&Record| !(is_positive && r.rtype == RecordType::NS && r.owner == *apex);
        let sorted = |records: Vec<&Record>| {
            let mut records: Vec<_> = records.into_iter().cloned().collect();
            records.sort();
            records.dedup();
            records
        };
        let mut seen = Self {
            rcode: answer.rcode,
            authoritative: answer.authoritative,
            truncated: answer.truncated,
            answer: sorted(answer.answer.iter().collect()),
            authority: sorted(answer.authority.iter().filter(is_needed).collect()),
            additional: sorted(answer.additional.iter().filter(|_| !is_positive).collect()),
        };
        // Of what is there, who asks for anything is told one set or all (RFC 8482): whose it is
        // is the same. Of an answer that is too long, what is left is up to the server.
        let is_anything = rtype == RecordType::ANY;
        if is_anything || seen.truncated {
            seen.answer.truncate(usize::from(is_anything));
            for record in &mut seen.answer {
                (record.rtype, record.data) = (RecordType::ANY, Vec::new());
            }
        }
        if seen.truncated {
            (seen.authority, seen.additional) = Default::default();
        }
        seen
    }
}
