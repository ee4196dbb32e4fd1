//! Failover policies: what is served by them, in the proxy and in the DNS.

use std::{net::IpAddr, sync::Arc, time::Duration};

use weir_config::{
    Backends, DnsName, FailoverName, FailoverPolicy, Moment, Numbers, RecordType, RouteState,
    Shares, Steered, Steering, WrittenType, dns::Chosen, parse_documents,
};

use super::{bench::Bench, zones::ZoneBench};
use crate::{
    event::Event,
    observed::{PolicySeen, TargetSeen},
};

const CDNS: &str = "{hostnames: [www.example.com, example.com],
    targets: [{name: a, cdn: a.cdn.test}, {name: b, cdn: b.cdn.test}]}";
/// Where the targets of [`CDNS`] are found.
const FOUND: [&[&str]; 2] = [&["192.0.2.10", "2001:db8::a"], &["192.0.2.20"]];

fn shop() -> FailoverName {
    "shop".parse().unwrap()
}

/// Makes the policy `shop` what this spec says; none if there is none.
fn write(bench: &mut Bench, spec: Option<&str>) {
    let policy = spec.map(|spec| {
        let text = format!("kind: FailoverPolicy\nname: shop\nspec: {spec}");
        let value = parse_documents(&text).unwrap()[0].value.clone();
        Arc::new(FailoverPolicy::read(value).unwrap().1)
    });
    bench.change(|change| change.policies.push((shop(), policy)));
    bench.settle();
}

/// Tells what the law has come to, for targets at these addresses.
fn steer(bench: &mut Bench, weights: &[u64], ttl: u64, targets: &[(&str, &[&str])]) {
    let target = |(name, addresses): &(&str, &[&str])| TargetSeen {
        name: name.parse().unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        is_down: false,
        good_since: Moment(0),
    };
    let ttl = Duration::from_secs(ttl);
    let steering = Steering { epoch: 1, shares: Shares::by_weight(weights), ttl };
    let targets = targets.iter().map(target).collect();
    bench.tell(Event::Steered(shop(), Arc::new(PolicySeen { steering, targets, trouble: None })));
    bench.settle();
}

fn steer_cdns(bench: &mut Bench, weights: &[u64], ttl: u64) {
    steer(bench, weights, ttl, &[("a", FOUND[0]), ("b", FOUND[1])]);
}

fn served(bench: &Bench) -> &Arc<Steered> {
    bench.observed().served.policy(&shop()).unwrap()
}

fn unavailable(bench: &Bench, app: &str) -> String {
    match bench.route(app) {
        RouteState::Unavailable { reason, .. } => reason.clone(),
        other => panic!("{other:?}"),
    }
}

/// What a client is answered at a name: `TTL TYPE data`, or `-` if there is nothing of the type.
fn answer(zones: &ZoneBench, at: &str, rtype: RecordType, client: IpAddr) -> String {
    let snapshot = &zones.bench.observed().served;
    let name: DnsName = at.parse().unwrap();
    let Some(set) = zones.served().get(&name, rtype) else { return "-".to_owned() };
    let records = match set.steering().map(|s| s.choose(snapshot, client, Moment(0))) {
        None | Some(Chosen::Everything) => set,
        Some(Chosen::Records(records)) => records,
        Some(Chosen::OtherTypes | Chosen::Nothing) => return "-".to_owned(),
    };
    let print = WrittenType::Of(rtype);
    let data: Vec<_> = records.data().map(|data| print.print(data)).collect();
    format!("{} {rtype} {}", records.ttl(), data.join(", "))
}

#[test]
fn an_app_goes_to_the_targets_of_its_policy_once_the_law_has_spoken() {
    let mut bench = Bench::new();
    bench.put("front", "{failover: shop}");
    bench.settle();
    assert_eq!(unavailable(&bench, "front"), "there is no failover policy shop; apply it");
    write(&mut bench, Some(CDNS));
    assert_eq!(*bench.route("front"), RouteState::Starting);
    // On targets that were others: as it was.
    steer(&mut bench, &[1], 30, &[("a", FOUND[0])]);
    assert_eq!(*bench.route("front"), RouteState::Starting);
    steer_cdns(&mut bench, &[1, 0], 30);
    assert_eq!(*bench.route("front"), RouteState::Serving(Backends::Failover(shop())));
    let first = served(&bench).clone();
    let ids: Vec<_> = first.targets[0].pool.endpoints().iter().map(|e| e.id.to_string()).collect();
    assert_eq!(ids, ["failover/shop/a/192.0.2.10:443", "failover/shop/a/[2001:db8::a]:443"]);
    assert_eq!(first.targets[0].pool.endpoints()[0].address.port(), 443, "that of its check");
    assert!(!bench.turn(), "a settled world plans nothing");
    // Another TTL alone moves nobody, and makes nothing that takes time anew.
    steer_cdns(&mut bench, &[1, 0], 5);
    assert!(Arc::ptr_eq(&served(&bench).buckets, &first.buckets));
    assert!(Arc::ptr_eq(&served(&bench).targets[0].pool, &first.targets[0].pool));
    write(&mut bench, None);
    assert_eq!(unavailable(&bench, "front"), "there is no failover policy shop; apply it");
    assert!(bench.observed().served.policy(&shop()).is_none());
}

#[test]
fn an_app_cannot_be_in_front_of_itself() {
    let mut bench = Bench::new();
    let own = "{hostnames: [a.com], targets: [{name: own, own: true}]}";
    write(&mut bench, Some(own));
    steer(&mut bench, &[1], 30, &[("own", &["127.0.0.1"])]);
    bench.put("front", "{failover: shop}");
    bench.settle();
    let why = unavailable(&bench, "front");
    assert!(why.contains("Weir's own proxies as a target"), "{why}");
}

#[test]
fn addresses_that_are_left_are_forgotten_once_nobody_is_on_them() {
    let mut bench = Bench::new();
    write(&mut bench, Some(CDNS));
    steer_cdns(&mut bench, &[1, 0], 30);
    let endpoint = served(&bench).targets[1].pool.endpoints()[0].clone();
    let lease = endpoint.activity.begin();
    endpoint.activity.answered(false, Duration::ZERO);
    steer(&mut bench, &[1, 0], 30, &[("a", FOUND[0]), ("b", &["192.0.2.21"])]);
    let count = |bench: &mut Bench| {
        bench.reconciler.world.observed.forget_gone(&bench.activity);
        bench.activity.endpoints().iter().filter(|(id, _)| *id == endpoint.id).count()
    };
    assert_eq!(count(&mut bench), 1, "somebody is on it");
    drop(lease);
    assert_eq!(count(&mut bench), 0);
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

#[test]
fn a_name_leads_to_the_cdn_of_the_client_and_the_top_of_a_zone_to_its_addresses() {
    let mut zones = ZoneBench::new();
    write(&mut zones.bench, Some(CDNS));
    steer_cdns(&mut zones.bench, &[1, 0], 30);
    let ask = |zones: &ZoneBench, at: &str, rtype| answer(zones, at, rtype, CLIENT);
    assert_eq!(ask(&zones, "www.example.com", RecordType::CNAME), "30 CNAME a.cdn.test.");
    assert_eq!(ask(&zones, "www.example.com", RecordType::A), "-");
    assert_eq!(ask(&zones, "example.com", RecordType::CNAME), "-");
    assert_eq!(ask(&zones, "example.com", RecordType::A), "30 A 192.0.2.10");
    assert_eq!(ask(&zones, "example.com", RecordType::AAAA), "30 AAAA 2001:db8::a");
    let serial = zones.serial();
    steer_cdns(&mut zones.bench, &[0, 1], 5);
    assert_eq!(zones.serial(), serial + 1);
    assert_eq!(ask(&zones, "www.example.com", RecordType::CNAME), "5 CNAME b.cdn.test.");
    assert_eq!(ask(&zones, "example.com", RecordType::A), "5 A 192.0.2.20");
    assert_eq!(ask(&zones, "example.com", RecordType::AAAA), "-", "it has no such address");
    // Written anew, with other targets: as it was until the law has spoken on those.
    let one = CDNS.replace("{name: a, cdn: a.cdn.test}, ", "");
    write(&mut zones.bench, Some(&one));
    assert_eq!(ask(&zones, "www.example.com", RecordType::CNAME), "5 CNAME b.cdn.test.");
    steer(&mut zones.bench, &[1], 30, &[("b", FOUND[1])]);
    assert_eq!(ask(&zones, "www.example.com", RecordType::CNAME), "30 CNAME b.cdn.test.");
    write(&mut zones.bench, Some(CDNS));
    // Nobody has a share.
    steer_cdns(&mut zones.bench, &[0, 0], 5);
    for (at, rtype) in [("www.example.com", RecordType::CNAME), ("example.com", RecordType::A)] {
        assert_eq!(ask(&zones, at, rtype), "-", "{at}");
    }
    write(&mut zones.bench, None);
    zones.check("www", &[]);
}

#[test]
fn what_is_written_by_hand_wins_and_an_app_of_the_name_does_not() {
    let mut zones = ZoneBench::new();
    zones.app("shop", "www.example.com", "");
    write(&mut zones.bench, Some(CDNS));
    steer_cdns(&mut zones.bench, &[1, 0], 30);
    zones.check("www", &["CNAME a.cdn.test."]);
    zones.write("www", "A", &["203.0.113.9"]);
    zones.check("www", &["A 203.0.113.9"]);
    zones.write("www", "A", &[]);
    // Beside something else, a CNAME may not be.
    zones.write("www", "TXT", &["x"]);
    zones.check("www", &["A 192.0.2.10", "TXT \"x\"", "AAAA 2001:db8::a"]);
    zones.write("www", "TXT", &[]);
    zones.check("www", &["CNAME a.cdn.test."]);
    write(&mut zones.bench, None);
    zones.check("www", &["A 192.0.2.1", "AAAA 2001:db8::1", "HTTPS 1 . alpn=h2"]);
}

/// The goal of all of this: whoever looks the name up is sent to where the proxy would send him.
#[test]
fn the_dns_and_the_proxy_agree_on_every_client() {
    let mut zones = ZoneBench::new();
    let mixed = "{hostnames: [www.example.com], sharing: weighted, targets: [
        {name: a, cdn: a.cdn.test}, {name: b, addresses: [192.0.2.20]}, {name: own, own: true}]}";
    write(&mut zones.bench, Some(mixed));
    let mut numbers = Numbers(7);
    for weights in [[1, 1, 1], [5, 95, 0], [0, 50, 50], [100, 0, 0], [33, 1, 66]] {
        let own: &[&str] = &["127.0.0.1"];
        let targets = [("a", FOUND[0]), ("b", FOUND[1]), ("own", own)];
        steer(&mut zones.bench, &weights, 30, &targets);
        let steered = served(&zones.bench).clone();
        for _ in 0..2_000 {
            let bits = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
            let v4 = bits & 1 == 0;
            let client: IpAddr = if v4 {
                ((bits >> 96) as u32).to_be_bytes().into()
            } else {
                bits.to_be_bytes().into()
            };
            let expected = match &*steered.target(client).unwrap().name {
                "a" => ["30 CNAME a.cdn.test.", "-", "-"],
                "b" => ["-", "30 A 192.0.2.20", "-"],
                _ => ["-", "30 A 192.0.2.1", "30 AAAA 2001:db8::1"],
            };
            let types = [RecordType::CNAME, RecordType::A, RecordType::AAAA];
            let told = types.map(|rtype| answer(&zones, "www.example.com", rtype, client));
            assert_eq!(told, expected, "{client} by {weights:?}");
        }
    }
}
