use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Activity, LastGood, Snapshot};

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn a(last: u8) -> RecordSet {
    RecordSet::new(RecordType::A, 300, [[192, 0, 2, last]]).unwrap()
}

fn soa(ttl: u32, serial: u32, minimum: u32) -> RecordSet {
    let mut data = b"\x02ns\x07example\0\x05admin\x07example\0".to_vec();
    for number in [serial, 2, 3, 4, minimum] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    RecordSet::new(RecordType::SOA, ttl, [data]).unwrap()
}

#[test]
fn a_name_is_read_in_presentation_form_and_shown_in_it() {
    for (text, wire, shown) in [
        (".", &b"\0"[..], "."),
        ("Example.COM.", b"\x07example\x03com\0", "example.com"),
        ("*.a", b"\x01*\x01a\0", "*.a"),
        (r"a\.b.c", b"\x03a.b\x01c\0", r"a\.b.c"),
        (r"\000\255\032x.c", b"\x04\0\xff x\x01c\0", r"\000\255\032x.c"),
        (r"a\;b\\", b"\x04a;b\\\0", r"a\;b\\"),
        ("_acme-challenge.a", b"\x0f_acme-challenge\x01a\0", "_acme-challenge.a"),
    ] {
        let name = name(text);
        assert_eq!(name.wire(), wire, "{text}");
        assert_eq!(name.to_string(), shown);
        assert_eq!(DnsName::from_wire(wire), Ok(name));
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    let long = "x.".repeat(128);
    for (text, why) in [
        ("", "the root is written `.`"),
        ("a..b", "two dots"),
        (".a", "begins with one"),
        (&"x".repeat(64), "63 octets"),
        (&long, "255 octets"),
        (r"a\", "three digits"),
        (r"a\25", "three digits"),
        (r"a\256", "three digits"),
    ] {
        let error = text.parse::<DnsName>().unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert_eq!("x.".repeat(127).parse::<DnsName>().unwrap().wire().len(), MAX_NAME);
    for wire in [&b""[..], b"\x01", b"\x01a", b"\0\0", b"\x01a\0x", b"\xc0\x0c", b"\x40"] {
        assert!(DnsName::from_wire(wire).is_err(), "{wire:?}");
    }
}

#[test]
fn names_know_what_is_above_and_below_them() {
    let www = name("www.example.com");
    assert_eq!(www.parent(), Some(name("example.com")));
    assert_eq!(DnsName::root().parent(), None);
    assert!(www.is_at_or_below(&name("example.com")) && www.is_at_or_below(&www));
    assert!(www.is_at_or_below(&DnsName::root()));
    assert!(!name("example.com").is_at_or_below(&www));
    // The octets of the one are the end of the other's, but not at a label's begin.
    assert!(!name(r"a\001b").is_at_or_below(&name("b")));
    assert_eq!(www.wildcard(), Ok(name("*.www.example.com")));
    assert!(name("*.a").is_wildcard() && !name("**.a").is_wildcard());
    assert_eq!(www.labels().collect::<Vec<_>>(), [&b"www"[..], b"example", b"com"]);
    let relative = |text| DnsName::parse_relative(text, &name("example")).unwrap();
    assert_eq!(relative("a.b"), name("a.b.example"));
    assert_eq!((relative("a."), relative("@")), (name("a"), name("example")));
    let host: crate::Hostname = "*.Example.com".parse().unwrap();
    assert_eq!(DnsName::from(&host), name("*.example.com"));
}

#[test]
fn names_are_in_canonical_order() {
    // RFC 4034 section 6.1.
    let ordered = [
        "example",
        "a.example",
        "yljkjljk.a.example",
        "Z.a.example",
        "zABC.a.EXAMPLE",
        "z.example",
        r"\001.z.example",
        "*.z.example",
        r"\200.z.example",
    ];
    let ordered = ordered.map(name);
    assert!(ordered.is_sorted(), "{ordered:?}");
    assert!(ordered.iter().zip(&ordered[1..]).all(|(one, next)| one != next));
}

#[test]
fn types_have_their_name_or_number() {
    assert_eq!("aaaa".parse(), Ok(RecordType::AAAA));
    assert_eq!("type65280".parse(), Ok(RecordType(65280)));
    assert_eq!("TYPE1".parse(), Ok(RecordType::A));
    assert_eq!(RecordType(65280).to_string(), "TYPE65280");
    assert_eq!(RecordType::HTTPS.to_string(), "HTTPS");
    for bad in ["", "B", "TYPE", "TYPE65536", "TYPE-1"] {
        assert!(bad.parse::<RecordType>().is_err(), "{bad}");
    }
}

#[test]
fn a_set_is_encoded_once_as_it_goes_into_an_answer() {
    let data = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 1]];
    let set = RecordSet::new(RecordType::A, 0x0102_0304, data).unwrap();
    assert_eq!(set.len(), 2, "equal records are one");
    let one = b"\xc0\x0c\0\x01\0\x01\x01\x02\x03\x04\0\x04\xc0\0\x02\x01";
    assert_eq!(&set.encoded()[..16], one);
    assert_eq!(set.ownerless().map(<[u8]>::len).collect::<Vec<_>>(), [14, 14]);
    assert!(set.data().eq(&data[..2]));
    let soon = set.with_ttl(7);
    assert_eq!((soon.ttl(), soon.len()), (7, 2));
    assert_eq!(soon, RecordSet::new(RecordType::A, 7, data).unwrap());
}

#[test]
fn what_is_no_set_is_refused() {
    let new = |rtype, ttl, data: &[&[u8]]| RecordSet::new(rtype, ttl, data).unwrap_err();
    assert_eq!(new(RecordType::A, 0, &[]), NotASet::Empty(RecordType::A));
    assert_eq!(new(RecordType::A, 0, &[b"123"]), NotASet::Data(RecordType::A));
    assert_eq!(new(RecordType::NS, 0, &[b"\x01a"]), NotASet::Data(RecordType::NS));
    assert_eq!(new(RecordType::SOA, 0, &[&[0; 21]]), NotASet::Data(RecordType::SOA));
    assert_eq!(new(RecordType::ANY, 0, &[b""]), NotASet::Meta(RecordType::ANY));
    assert_eq!(new(RecordType::TXT, 1 << 31, &[b"\0"]), NotASet::Ttl);
    let two: [&[u8]; 2] = [b"\x01a\0", b"\x01b\0"];
    assert_eq!(new(RecordType::CNAME, 0, &two), NotASet::Several(RecordType::CNAME));
    assert_eq!(new(RecordType::TXT, 0, &[&[0; 64_000]]), NotASet::Large(RecordType::TXT));
}

#[test]
fn a_zone_knows_its_serial_and_how_long_a_negative_answer_is_kept() {
    let mut zone = Zone::new(name("example"));
    assert_eq!((zone.serial(), zone.negative_soa()), (None, None));
    zone.set(&name("example"), soa(3600, 7, 60)).unwrap();
    assert_eq!((zone.serial(), zone.soa()), (Some(7), Some(&soa(3600, 7, 60))));
    assert_eq!(zone.negative_soa(), Some(&soa(60, 7, 60)));
    zone.set(&name("example"), soa(30, 8, 60)).unwrap();
    assert_eq!((zone.serial(), zone.negative_soa()), (Some(8), Some(&soa(30, 8, 60))));
    assert!(zone.set(&name("www.example"), soa(1, 1, 1)).is_err());
    assert!(zone.set(&name("example.com"), a(1)).is_err());
    assert_eq!(zone.len(), 1);
    let former = zone.clone();
    zone.set(&name("a.b.example"), a(1)).unwrap();
    zone.set(&name("example"), soa(30, 9, 60)).unwrap();
    let changed: Vec<_> = zone.changed_names(&former).cloned().collect();
    assert_eq!(changed, [name("example"), name("a.b.example")]);
    zone.remove(&name("a.b.example"), RecordType::A);
    zone.remove(&name("example"), RecordType::SOA);
    assert_eq!((zone.serial(), zone.negative_soa(), zone.len()), (None, None, 0));
}

#[test]
fn a_zone_knows_whether_names_above_matter() {
    let mut zone = Zone::new(name("example"));
    let ns = RecordSet::new(RecordType::NS, 1, [b"\x01a\0"]).unwrap();
    let dname = RecordSet::new(RecordType::DNAME, 1, [b"\x01a\0"]).unwrap();
    zone.set(&name("example"), ns.clone()).unwrap();
    assert!(!zone.has_cuts(), "its own name servers cut nothing off");
    zone.set(&name("sub.example"), ns.clone()).unwrap();
    zone.set(&name("sub.example"), ns.with_ttl(2)).unwrap();
    zone.set(&name("example"), dname).unwrap();
    zone.remove(&name("sub.example"), RecordType::NS);
    assert!(zone.has_cuts());
    zone.remove(&name("example"), RecordType::DNAME);
    assert!(!zone.has_cuts());
}

#[test]
fn the_zone_with_the_longest_name_holds_a_name() {
    let mut snapshot = Snapshot::default();
    for zone in ["example", "sub.example", "other"] {
        snapshot.insert_zone(Arc::new(Zone::new(name(zone))));
    }
    let zone_of = |snapshot: &Snapshot, of: &str| {
        snapshot.zone_of(name(of).wire()).map(|zone| zone.name().to_string())
    };
    for (of, zone) in [
        ("www.example", Some("example")),
        ("a.b.sub.example", Some("sub.example")),
        ("sub.example", Some("sub.example")),
        ("xsub.example", Some("example")),
        ("com", None),
        (".", None),
    ] {
        assert_eq!(zone_of(&snapshot, of).as_deref(), zone, "{of}");
    }
    snapshot.remove_zone(&name("sub.example"));
    assert_eq!(zone_of(&snapshot, "sub.example").as_deref(), Some("example"));
    assert_eq!(snapshot.zones().len(), 2);
    snapshot.insert_zone(Arc::new(Zone::new(DnsName::root())));
    assert_eq!(zone_of(&snapshot, "com").as_deref(), Some("."));
}

#[test]
fn zones_and_challenges_are_there_again_after_a_restart() {
    let mut zone = Zone::new(name("example"));
    zone.set(&name("example"), soa(3600, 7, 60)).unwrap();
    zone.set(&name("a.b.example"), a(1)).unwrap();
    let key = TsigKey {
        name: name("key"),
        algorithm: TsigAlgorithm::HmacSha512,
        secret: b"\x01\xff".to_vec().into(),
    };
    let address = ([192, 0, 2, 1], 53).into();
    assert_eq!(format!("{key:?}"), "TsigKey(key, hmac-sha512)");
    zone.set_secondaries([Secondary { address, key: Some(key.into()) }].into());
    let text = serde_json::to_string(&zone).unwrap();
    assert_eq!(serde_json::from_str::<Zone>(&text).unwrap(), zone);
    let mut snapshot = Snapshot::default();
    snapshot.http_challenges.insert("token".into(), "token.thumbprint".into());

    let text = serde_json::to_string(&LastGood::of(&snapshot, "boot")).unwrap();
    let saved: LastGood = serde_json::from_str(&text).unwrap();
    let restored = saved.restore(&Activity::default(), "boot");
    assert_eq!(restored.http_challenges.get("token").map(|s| &**s), Some("token.thumbprint"));
}

/// Few labels, so that names meet.
fn any_name() -> impl Strategy<Value = DnsName> {
    let label = prop::sample::select(vec!["a", "b", "*", "c"]);
    vec(label, 0..5).prop_map(|mut labels| {
        labels.push("example");
        name(&labels.join("."))
    })
}

proptest! {
    #[test]
    fn any_name_reads_as_it_is_shown(labels in vec(vec(any::<u8>(), 1..20), 0..8)) {
        let wire = labels.iter().flat_map(|l| [&[l.len() as u8][..], l].concat());
        let wire: Vec<u8> = wire.chain([0]).collect();
        let name = DnsName::from_wire(&wire).unwrap();
        prop_assert_eq!(&name.to_string().parse::<DnsName>().unwrap(), &name);
        prop_assert_eq!(name.wire(), wire.to_ascii_lowercase());
    }

    #[test]
    fn octets_that_are_a_name_are_one(octets in vec(any::<u8>(), 0..12)) {
        if let Ok(name) = DnsName::from_wire(&octets) {
            let labels: usize = name.labels().map(|label| label.len() + 1).sum();
            prop_assert_eq!(labels + 1, octets.len());
        }
    }

    /// After any changes a zone is what it would be if it were made anew.
    #[test]
    fn a_changed_zone_is_the_one_that_is_made_anew(
        changes in vec((any_name(), any::<bool>(), 0..3_u8), 0..60)
    ) {
        let mut zone = Zone::new(name("example"));
        let mut left = BTreeMap::new();
        for (at, is_set, last) in changes {
            if is_set {
                zone.set(&at, a(last)).unwrap();
                left.insert(at, a(last));
            } else {
                prop_assert_eq!(zone.remove(&at, RecordType::A), left.remove(&at));
            }
        }
        let mut anew = Zone::new(name("example"));
        for (at, set) in &left {
            anew.set(at, set.clone()).unwrap();
        }
        prop_assert_eq!(&zone, &anew);
        prop_assert_eq!(zone.len(), left.len());
        prop_assert!(zone.iter().eq(&left));
        prop_assert_eq!(zone.changed_names(&anew).count(), 0);
        prop_assert!(zone.changed_names(&Zone::new(name("example"))).eq(left.keys()));
        for at in left.keys().flat_map(|at| std::iter::successors(Some(at.clone()), DnsName::parent)) {
            let exists = at.is_at_or_below(zone.name());
            prop_assert_eq!(zone.node(at.wire()).is_some(), exists, "{}", at);
            if let (Ok(wildcard), true) = (at.wildcard(), exists) {
                let node = zone.node(at.wire()).unwrap();
                prop_assert_eq!(node.has_wildcard(), zone.node(wildcard.wire()).is_some());
            }
        }
    }
}

/// Who copies a zone cannot choose: it gets what most clients are given.
#[test]
fn secondaries_are_told_what_has_a_share_and_a_cname_or_addresses() {
    let address = |last: u8| RecordSet::new(RecordType::A, 30, [[192, 0, 2, last]]).unwrap();
    let cname = |to: &str| {
        let to: DnsName = to.parse().unwrap();
        RecordSet::new(RecordType::CNAME, 30, [to.wire()]).unwrap()
    };
    let steered = |choices: &[(u16, Option<RecordSet>)]| {
        let choices = choices.iter().zip(["a", "b", "c"]).map(|((weight, records), name)| Choice {
            name: name.into(),
            records: records.clone(),
            weight: *weight,
            networks: Default::default(),
            health: Health::Always,
        });
        RecordSet::steered(Steering { policy: Policy::Weighted, choices: choices.collect() })
    };
    let lasts = |set: RecordSet| set.data().map(|data| data[3]).collect::<Vec<_>>();
    let three = |weights: [u16; 3]| {
        let sets = [1, 2, 3].map(address).map(Some);
        steered(&weights.into_iter().zip(sets).collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(lasts(three([1, 0, 0])), [1]);
    assert_eq!(lasts(three([0, 1, 3])), [2, 3]);
    assert_eq!(lasts(three([0, 0, 0])), [1, 2, 3], "nobody has one");
    let cnames = [(5, Some(cname("a.test"))), (95, Some(cname("b.test")))];
    assert_eq!(steered(&cnames).unwrap().first(), cname("b.test").first());
    for (weights, told) in [([9, 1], RecordType::CNAME), ([1, 9], RecordType::A)] {
        let fellows = [
            steered(&[(weights[0], Some(cname("a.test"))), (weights[1], None)]).unwrap(),
            steered(&[(weights[0], None), (weights[1], Some(address(1)))]).unwrap(),
        ];
        let kept = fellows.iter().filter(|set| set.is_told(&fellows)).map(RecordSet::rtype);
        assert_eq!(kept.collect::<Vec<_>>(), [told], "{weights:?}");
    }
    assert_eq!(steered(&[(1, None)]), Err(NotASet::Choices));
}
