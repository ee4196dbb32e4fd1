//! Messages that nobody would send in earnest.

use std::{env, sync::Arc};

use hickory_proto::op::Message;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use weir_config::{
    DnsName, RecordSet, RecordType, Secondary, Snapshot, TsigAlgorithm, TsigKey, Zone,
};

use crate::{
    cookies::Cookies,
    counters::Counters,
    request::HEADER,
    respond::{Client, Responder, Transport},
    tsig::Signer,
};

const NOW: u64 = 1_700_000_000_000_000;

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn key() -> Arc<TsigKey> {
    let (name, algorithm) = (name("key.example"), TsigAlgorithm::HmacSha256);
    Arc::new(TsigKey { name, algorithm, secret: vec![7; 32].into() })
}

fn snapshot() -> Snapshot {
    let wire = |text| name(text).wire().to_vec();
    let soa = [wire("ns.example"), wire("admin.example"), vec![0; 20]].concat();
    let mut zone = Zone::new(name("example"));
    for (owner, rtype, data) in [
        ("example", RecordType::SOA, soa),
        ("example", RecordType::NS, wire("ns.example")),
        ("ns.example", RecordType::A, vec![192, 0, 2, 1]),
        ("mail.example", RecordType::MX, [&[0, 10][..], &wire("ns.example")].concat()),
        ("*.wild.example", RecordType::CNAME, wire("a.short.example")),
        ("short.example", RecordType::DNAME, wire("ns.example")),
        ("loop.example", RecordType::DNAME, wire("loop.loop.example")),
        ("child.example", RecordType::NS, wire("ns.child.example")),
        ("ns.child.example", RecordType::AAAA, vec![1; 16]),
        ("example", RecordType(65280), vec![0]),
    ] {
        zone.set(&name(owner), RecordSet::new(rtype, 60, [data]).unwrap()).unwrap();
    }
    let big = (191..200_u8).map(|i| vec![i; usize::from(i) + 1]);
    let big = RecordSet::new(RecordType::TXT, 60, big).unwrap();
    zone.set(&name("big.example"), big).unwrap();
    let address = ([192, 0, 2, 1], 53).into();
    zone.set_secondaries([Secondary { address, key: Some(key()) }].into());
    let mut snapshot = Snapshot::default();
    snapshot.insert_zone(Arc::new(zone));
    snapshot
}

/// A message that is right or nearly so.
fn message(random: &mut SmallRng) -> Vec<u8> {
    const LABELS: [&str; 12] = [
        "example",
        "ns",
        "mail",
        "wild",
        "short",
        "loop",
        "child",
        "big",
        "*",
        "x",
        "key",
        "a-label-that-is-as-long-as-a-label-can-be-so-that-few-of-them-fill",
    ];
    let mut message: Vec<u8> = random.random::<[u8; 2]>().into();
    message.extend_from_slice(&[random.random::<u8>() & 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for _ in 0..random.random_range(0..7) {
        let label = LABELS[random.random_range(0..LABELS.len())].as_bytes();
        let label = &label[..label.len().min(63)];
        message.push(label.len() as u8);
        message.extend(label.iter().map(|byte| match random.random_range(0..4) {
            0 => byte.to_ascii_uppercase(),
            _ => *byte,
        }));
    }
    if random.random_range(0..8) > 0 {
        message.extend_from_slice(b"\x07example");
    }
    const TYPES: [u16; 16] = [1, 1, 2, 5, 6, 15, 16, 28, 39, 43, 250, 251, 252, 255, 257, 65280];
    let rtype = TYPES[random.random_range(0..TYPES.len())];
    message.push(0);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, if random.random_range(0..16) > 0 { 1 } else { 3 }]);
    if random.random() {
        message[11] += 1;
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&random.random_range(0..5000_u16).to_be_bytes());
        message.extend_from_slice(&[0, u8::from(random.random_range(0..16) == 0), 128, 0]);
        let options: &[u8] = match random.random_range(0..6) {
            0 => b"\0\x0a\0\x0812345678",
            1 => b"\0\x0a\0\x181234567812345678abcdefgh",
            2 => b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02\0\x03\0\0",
            3 => b"\0\x0c\0\x02\0\0",
            _ => b"",
        };
        message.extend_from_slice(&(options.len() as u16).to_be_bytes());
        message.extend_from_slice(options);
    }
    if random.random_range(0..8) == 0 {
        Signer::new(key(), 1).sign(&mut message, NOW / 1_000_000);
    }
    message
}

/// Makes it wrong.
fn damage(message: &mut Vec<u8>, random: &mut SmallRng) {
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..=message.len());
        match random.random_range(0..5) {
            0 => message.truncate(at),
            1 => message.insert(at, random.random()),
            2 => message.extend_from_within(..at),
            _ => {
                if let Some(byte) = message.get_mut(at) {
                    *byte = random.random();
                }
            }
        }
    }
    if random.random_range(0..64) == 0 {
        *message = (0..random.random_range(0..600)).map(|_| random.random()).collect();
    }
}

/// `WEIR_FUZZ_PACKETS` of them, from `WEIR_FUZZ_SEED` on.
#[test]
fn whatever_is_sent_the_paths_agree_and_no_response_is_answered() {
    let number = |name: &str| env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
    let count = number("WEIR_FUZZ_PACKETS").unwrap_or(30_000);
    let seed = number("WEIR_FUZZ_SEED").unwrap_or_else(rand::random);
    println!("WEIR_FUZZ_SEED={seed} WEIR_FUZZ_PACKETS={count}");
    let mut random = SmallRng::seed_from_u64(seed);
    let responder = |is_slow| Responder {
        cookies: Cookies::new([7; 16]),
        nsid: Some(b"here"[..].into()),
        rate_limit: None,
        is_slow,
    };
    let (fast, slow, snapshot) = (responder(false), responder(true), snapshot());
    let (counters, mut answers) = (Counters::default(), [const { Vec::new() }; 3]);
    let mut answered = 0_u64;
    for _ in 0..count {
        let mut sent = message(&mut random);
        damage(&mut sent, &mut random);
        let transport = if random.random() { Transport::Udp } else { Transport::Tcp };
        let client = Client { address: [192, 0, 2, 1].into(), transport, now: NOW };
        let [one, other, again] = &mut answers;
        fast.respond(&snapshot, &sent, client, &counters, one);
        slow.respond(&snapshot, &sent, client, &counters, other);
        assert_eq!(one, other, "the paths differ in their answers to {sent:02x?}");
        let is_question = sent.len() >= HEADER && sent[2] & 0x80 == 0;
        assert_eq!(one.is_empty(), !is_question, "{sent:02x?}");
        if !is_question {
            continue;
        }
        answered += 1;
        assert_eq!((&one[..2], one[2] & 0x80), (&sent[..2], 0x80));
        assert!(transport == Transport::Tcp || one.len() <= 1232, "{} octets", one.len());
        assert!(Message::from_vec(one).is_ok(), "{one:02x?} to {sent:02x?}");
        fast.respond(&snapshot, one, client, &counters, again);
        assert!(again.is_empty(), "an answer to an answer");
    }
    assert!(answered > count / 4, "{answered} of {count} are questions");
}
