//! The zone of RFC 4592 section 2.2.1, and what it says is answered from it.

use hickory_proto::op::ResponseCode;

use crate::{
    harness::Served,
    zones::{name, record, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example.com. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.com.
    example. 3600 IN NS ns.example.net.
    *.example. 3600 IN TXT \"this is a wildcard\"
    *.example. 3600 IN MX 10 host1.example.
    sub.*.example. 3600 IN TXT \"this is not a wildcard\"
    host1.example. 3600 IN A 192.0.2.1
    _ssh._tcp.host1.example. 3600 IN SRV 0 0 22 host1.example.
    _ssh._tcp.host2.example. 3600 IN SRV 0 0 22 host2.example.
    subdel.example. 3600 IN NS ns.example.com.
    subdel.example. 3600 IN NS ns.example.net.";

#[test]
fn the_zone_of_the_standard_is_answered_as_it_says() {
    let served = Served::start([zone(ZONE)]);
    let negative = record("example. 300 IN SOA ns.example.com. admin.example. 1 2 3 4 300");
    let wildcard = |owner: &str, rest: &str| vec![record(&format!("{owner} 3600 IN {rest}"))];

    // Responses that are synthesized from a wildcard.
    for (owner, rtype, rest) in [
        ("host3.example.", "MX", "MX 10 host1.example."),
        ("foo.bar.example.", "TXT", "TXT \"this is a wildcard\""),
    ] {
        let answer = served.ask(owner, rtype);
        assert_eq!(answer.answer, wildcard(owner, rest), "{owner} {rtype}");
        assert!(answer.authoritative && answer.authority.is_empty());
    }
    // A name that a wildcard stands for, without records of the type: no error, no data.
    let answer = served.ask("host3.example.", "A");
    assert_eq!((answer.rcode, &answer.authority), (ResponseCode::NoError, &vec![negative.clone()]));
    assert_eq!(answer.answer, []);

    // Responses that are not: because the name exists, also if only because of names below it;
    // because it is below one that exists; because there is no wildcard below that.
    for (owner, rtype, rcode) in [
        ("host1.example.", "MX", ResponseCode::NoError),
        ("sub.*.example.", "MX", ResponseCode::NoError),
        ("_telnet._tcp.host1.example.", "SRV", ResponseCode::NXDomain),
        ("ghost.*.example.", "MX", ResponseCode::NXDomain),
        ("_tcp.host1.example.", "TXT", ResponseCode::NoError),
        ("host2.example.", "A", ResponseCode::NoError),
    ] {
        let answer = served.ask(owner, rtype);
        assert_eq!(answer.rcode, rcode, "{owner} {rtype}");
        assert_eq!((answer.answer, answer.authority), (vec![], vec![negative.clone()]), "{owner}");
    }
    // Because it is another zone's.
    let answer = served.ask("host.subdel.example.", "A");
    assert!(answer.answer.is_empty() && !answer.authoritative);
    assert_eq!(
        answer.authority.iter().map(|r| &r.owner).collect::<Vec<_>>(),
        [&name("subdel.example"), &name("subdel.example")]
    );
    // The wildcard itself can be asked for, and what is below it is none.
    assert_eq!(
        served.ask("*.example.", "MX").answer,
        wildcard("*.example.", "MX 10 host1.example.")
    );
    let below = served.ask("sub.*.example.", "TXT");
    assert_eq!(below.answer, wildcard("sub.*.example.", "TXT \"this is not a wildcard\""));
}
