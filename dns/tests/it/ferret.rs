//! The cases of Ferret: a zone, a question, and what BIND, NSD, Knot and PowerDNS answer to it.

use std::{fs::File, io::BufRead, io::BufReader, path::Path};

use flate2::read::GzDecoder;
use serde::Deserialize;
use weir_config::RecordType;

use crate::{
    harness::{Answer, Served},
    zones::{Record, record, zone},
};

#[derive(Deserialize)]
struct Case {
    id: u32,
    query: Query,
    zone: String,
    responses: Vec<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    name: String,
    r#type: String,
}

#[derive(Deserialize)]
struct Response {
    servers: Vec<String>,
    rcode: String,
    flags: Vec<String>,
    answer: Vec<String>,
    authority: Vec<String>,
    additional: Vec<String>,
}

#[test]
fn every_case_on_which_three_of_four_servers_agree_is_answered_as_they_do() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ferret-cases.jsonl.gz");
    let lines = BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines();
    let mut served = Served::start([]);
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in lines {
        let case: Case = serde_json::from_str(&line.unwrap()).unwrap();
        let Some(expected) = case.responses.iter().find(|r| r.servers.len() >= 3) else { continue };
        let zone = zone(&case.zone);
        let apex = zone.name().clone();
        served.serve_only(zone);
        let answer = served.ask(&case.query.name, &case.query.r#type);
        compared += 1;
        if let Some(what) = difference(&answer, expected, &apex) {
            wrong.push(format!("case {}: {what}", case.id));
        }
    }
    assert!(compared > 6000, "{compared} cases are too few");
    let few = wrong.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{few}", wrong.len());
}

/// What differs. Beside an answer, what else the servers tell may be left out, and is.
fn difference(answer: &Answer, expected: &Response, apex: &weir_config::DnsName) -> Option<String> {
    let records = |lines: &[String]| {
        let mut records: Vec<_> = lines.iter().map(|line| record(line)).collect();
        records.sort();
        records.dedup();
        records
    };
    let is_positive = !expected.answer.is_empty();
    let is_needed = |r: &Record| !(is_positive && r.rtype == RecordType::NS && r.owner == *apex);
    let mut authority = records(&expected.authority);
    authority.retain(is_needed);
    let mut additional = records(&expected.additional);
    additional.retain(|_| !is_positive);
    let rcode = answer.rcode.to_str().replace(' ', "").to_uppercase();
    let same_rcode = match expected.rcode.as_str() {
        "NOERROR" => rcode == "NOERROR",
        "NXDOMAIN" => rcode.contains("NON-EXISTENTDOMAIN") || rcode == "NXDOMAIN",
        other => rcode == other,
    };
    let is_same = same_rcode
        && answer.authoritative == expected.flags.iter().any(|flag| flag == "AA")
        && answer.answer == records(&expected.answer)
        && answer.authority == authority
        && answer.additional == additional;
    (!is_same).then(|| {
        format!(
            "{answer:?}\n  instead of {} {:?} {:?} {:?} {:?}",
            expected.rcode,
            expected.flags,
            expected.answer,
            expected.authority,
            expected.additional
        )
    })
}
