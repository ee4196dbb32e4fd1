use serde_json::{Value, json};

use super::*;
use crate::{RecordType, WrittenType};

fn manifest(spec: &Value) -> Value {
    json!({"kind": "Zone", "name": "Example.com.", "spec": spec})
}

fn zone() -> HostedZone {
    HostedZone::read(manifest(&json!({"addresses": ["192.0.2.1"]}))).unwrap().1
}

#[test]
fn a_zone_needs_to_know_where_weir_is_and_nothing_else() {
    let zone = zone();
    assert_eq!(&*zone.name, "example.com");
    assert_eq!(zone.nameservers, ["ns1.example.com".parse().unwrap()]);
    assert_eq!(zone.hostmaster.to_string(), "hostmaster.example.com");
    assert_eq!(zone.ttl.records, 300);
    assert!(zone.auto && zone.soa.retry < zone.soa.refresh && zone.soa.refresh < zone.soa.expire);

    let spec = json!({"nameservers": ["ns.other.net"], "hostmaster": "a.b@Example.org"});
    let (_, zone) = HostedZone::read(manifest(&spec)).unwrap();
    assert_eq!(zone.hostmaster.to_string(), r"a\.b.example.org");
}

#[test]
fn every_problem_is_told_with_its_field() {
    let spec = json!({
        "nameservers": ["a..b", "*.example.com", "ns1.example.com", "NS1.example.com."],
        "addresses": ["192.0.2", "0.0.0.0"],
        "hostmaster": "nobody",
        "ttl": {"auto": "3650d"},
        "soa": {"refresh": "1w", "expire": "1d"},
        "secondaries": [
            {"address": "ns2.example.com"},
            {"address": "192.0.2.2", "key": {"name": "", "algorithm": "hmac-md5", "secret": "AAAA"}},
        ],
    });
    let problems = HostedZone::read(manifest(&spec)).unwrap_err();
    let found: Vec<_> = problems.0.iter().map(|p| &*p.pointer).collect();
    assert_eq!(
        found,
        [
            "/spec/addresses/0",
            "/spec/addresses/1",
            "/spec/nameservers/0",
            "/spec/nameservers/1",
            "/spec/nameservers/3",
            "/spec/hostmaster",
            "/spec/soa",
            "/spec/secondaries/0/address",
            "/spec/secondaries/1/key/secret",
            "/spec/secondaries/1/key/name",
            "/spec/secondaries/1/key/algorithm",
        ]
    );
    let problems = HostedZone::read(manifest(&json!({}))).unwrap_err();
    assert_eq!(problems.0[0].pointer, "/spec/addresses");
}

#[test]
fn a_name_is_written_with_or_without_the_zones() {
    let zone: ZoneName = "example.com".parse().unwrap();
    for (written, expected) in [
        ("@", "example.com"),
        ("www", "www.example.com"),
        ("WWW.Example.com.", "www.example.com"),
        ("a.b", "a.b.example.com"),
        ("*", "*.example.com"),
        ("example.org", "example.org.example.com"),
    ] {
        assert_eq!(zone.within(written).unwrap().to_string(), expected, "{written}");
    }
    for bad in [".", "*.com", "a..b", ""] {
        assert!(bad.parse::<ZoneName>().is_err(), "{bad}");
    }
}

fn spec(name: &str, rtype: &str, data: &[&str]) -> RecordSetSpec {
    let data = data.iter().map(|&line| line.to_owned()).collect();
    RecordSetSpec { name: name.to_owned(), r#type: rtype.to_owned(), ttl: None, data }
}

#[test]
fn a_set_is_read_with_every_problem() {
    let name: ZoneName = "example.com".parse().unwrap();
    let (owner, rtype, set) = spec("www", "mx", &["10 b", "5 a.", "10 b."]).read(&name).unwrap();
    assert_eq!(
        (owner.to_string(), rtype),
        ("www.example.com".into(), WrittenType::Of(RecordType::MX))
    );
    let set = set.unwrap();
    assert_eq!(set.spec(&owner).data, ["5 a.", "10 b."], "the same record twice is one");
    assert!(spec("www", "MX", &[]).read(&name).unwrap().2.is_none(), "no data is no set");
    for (set, pointer, part) in [
        (spec("a..b", "A", &[]), "/name", "two dots"),
        (spec("a", "AXFR", &[]), "/type", "can be asked for"),
        (spec("a", "A", &["192.0.2.1", "x"]), "/data/1", "IPv4"),
        (spec("a", "CNAME", &["x.", "y."]), "/data", "one CNAME record at most"),
        (spec("@", "SOA", &[]), "/name", "made by itself"),
        (spec("@", "NS", &["x."]), "/name", "`nameservers`"),
        (spec("@", "CNAME", &["x."]), "/name", "write an ALIAS"),
        (RecordSetSpec { ttl: Some(1 << 31), ..spec("a", "A", &["192.0.2.1"]) }, "/ttl", "seconds"),
    ] {
        let problems = set.read(&name).unwrap_err();
        assert_eq!(problems.0[0].pointer, pointer, "{problems}");
        assert!(problems.0[0].message.contains(part), "{problems}");
    }
    let many: Vec<_> = (0..1001).map(|i| format!("10.0.{}.{}", i / 256, i % 256)).collect();
    let many = spec("a", "A", &many.iter().map(|a| &**a).collect::<Vec<_>>());
    assert!(many.read(&name).unwrap_err().to_string().contains("at most 1000"));
}

#[test]
fn what_does_not_go_together_is_told() {
    let check = |sets: &[(&str, &str, &str)], at: &str, expected: Result<(), &str>| {
        let zone = zone();
        let name = zone.name.clone();
        let mut desired = DesiredZone::new(zone);
        for (name_of, rtype, data) in sets {
            let (owner, rtype, set) = spec(name_of, rtype, &[data]).read(&name).unwrap();
            desired.write(&owner, rtype, set);
        }
        let found = desired.lint(&name.within(at).unwrap());
        match expected {
            Ok(()) => assert_eq!(found, Ok(()), "{sets:?}"),
            Err(part) => {
                let told = found.unwrap_err();
                assert!(told.contains(part), "{told}");
            }
        }
    };
    check(&[("a", "A", "192.0.2.1"), ("a", "TXT", "x"), ("@", "ALIAS", "b.")], "a", Ok(()));
    check(&[("a", "CNAME", "b."), ("a", "TXT", "x")], "a", Err("has a CNAME, beside which"));
    check(&[("a", "ALIAS", "b."), ("a", "TXT", "x")], "a", Ok(()));
    check(&[("a", "ALIAS", "b."), ("a", "A", "192.0.2.1")], "a", Err("has an ALIAS, which"));
    check(&[("a", "DNAME", "b."), ("a", "TXT", "x")], "a", Ok(()));
    check(&[("a", "DNAME", "b."), ("x.y.a", "TXT", "x")], "a", Err("records below it"));
    check(&[("a", "DNAME", "b."), ("x.y.a", "TXT", "x")], "x.y.a", Err("is below a.example.com"));
    check(&[("@", "DNAME", "b."), ("x", "ALIAS", "x.")], "x", Err("is below example.com"));
    check(&[("s", "NS", "ns.other.net.")], "s", Ok(()));
    check(&[("s", "NS", "ns.s.example.com.")], "s", Err("(glue)"));
    let glue = ("ns.s", "A", "192.0.2.1");
    check(&[("s", "NS", "ns.s.example.com."), glue], "s", Ok(()));
    check(&[("s", "NS", "ns.s.example.com.")], "ns.s", Err("(glue)"));
}
