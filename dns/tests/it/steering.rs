//! Answers that are chosen by who asks and by what the proxy knows of health.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use weir_config::{
    Activity, AppName, AppRoute, Balance, Endpoint, EndpointId, MemberId, MemberOf, Moment,
    Networks, Pool, Reach, RecordSet, RecordType, RouteState, ShardName, Snapshot, Zone,
    dns::{Choice, Health, Policy, Steering},
};

use crate::{
    harness::{Served, question, with_edns},
    zones::{name, zone},
};

fn steered(policy: Policy, choices: impl IntoIterator<Item = Choice>) -> Zone {
    let mut zone = zone(
        "example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
         example. 3600 IN NS ns.example.",
    );
    let steering = Steering { policy, choices: choices.into_iter().collect() };
    if !steering.choices.is_empty() {
        zone.set(&name("www.example"), RecordSet::steered(steering).unwrap()).unwrap();
    }
    zone
}

fn choice(last: u8, weight: u16, health: Health) -> Choice {
    let records = RecordSet::new(RecordType::A, 30, [[192, 0, 2, last]]).unwrap();
    let (name, networks) = (format!("c{last}").into(), Networks::default());
    Choice { name, records: Some(records), weight, networks, health }
}

/// The last octet of each address that a client of this network is given, and for which prefix.
fn ask(served: &Served, network: [u8; 3]) -> (Vec<u8>, u8) {
    let subnet = [&[0, 8, 0, 7, 0, 1, 24, 0][..], &network].concat();
    let asked = question(&name("www.example"), RecordType::A);
    let answer = served.ask_bytes(&with_edns(asked, 1232, 0, &subnet));
    let scope = answer.bytes[answer.bytes.len() - 4];
    (answer.answer.iter().map(|record| record.data[3]).collect(), scope)
}

fn shard() -> ShardName {
    "east".parse().unwrap()
}

fn app() -> AppName {
    "shop".parse().unwrap()
}

fn set_members(snapshot: &mut Snapshot, members: usize) {
    let activity = Activity::default();
    let endpoints = (0..members).map(|i| {
        let of = MemberOf::Shard(shard());
        let id = EndpointId::Member(MemberId { of, name: format!("m{i}").parse().unwrap() });
        let (address, activity) = (([127, 0, 0, 1], 80).into(), activity.endpoint(&id));
        Endpoint { id, address, reach: Reach::Direct, weight: 1, ready_since: Moment(0), activity }
    });
    snapshot.insert_shard(shard(), Arc::new(Pool::new(endpoints.collect(), Balance::default())));
}

fn set_state(snapshot: &mut Snapshot, state: RouteState) {
    let (wake_timeout, queue) = AppRoute::wait_of(None);
    let activity = Activity::default().app(&app());
    let (policy, hostnames) = (Arc::default(), vec!["shop.com".parse().unwrap()]);
    let app = app();
    snapshot.insert(AppRoute { app, hostnames, state, policy, wake_timeout, queue, activity });
}

fn unavailable() -> RouteState {
    let reason = "it is broken".to_owned();
    RouteState::Unavailable { reason, retry_after: std::time::Duration::ZERO }
}

#[test]
fn an_answer_fails_over_to_what_is_healthy() {
    let choices = [
        choice(1, 1, Health::Shard(shard())),
        choice(2, 1, Health::App(app())),
        choice(3, 1, Health::App("nobody".parse().unwrap())),
    ];
    let mut served = Served::start([steered(Policy::Failover, choices)]);
    let client = [198, 51, 100];
    assert_eq!(ask(&served, client), (vec![1, 2, 3], 24), "nobody is healthy: all are as good");
    served.change(|snapshot| set_state(snapshot, RouteState::Starting));
    assert_eq!(ask(&served, client).0, [2]);
    served.change(|snapshot| set_members(snapshot, 1));
    assert_eq!(ask(&served, client).0, [1]);
    served.change(|snapshot| set_members(snapshot, 0));
    assert_eq!(ask(&served, client).0, [2], "it has no member that takes requests");
    served.change(|snapshot| set_state(snapshot, unavailable()));
    assert_eq!(ask(&served, client).0, [1, 2, 3]);
}

#[test]
fn weights_share_the_clients_and_move_no_more_than_they_have_to() {
    let clients: Vec<_> = (0..3000_u32).map(|i| [10, (i >> 8) as u8, i as u8]).collect();
    let weighted = |weights: [u16; 3]| {
        let choices = (1..).zip(weights).map(|(i, weight)| choice(i, weight, Health::Always));
        steered(Policy::Weighted, choices)
    };
    let mut served = Served::start([weighted([1, 2, 1])]);
    let given = |served: &Served| -> Vec<u8> {
        clients.iter().map(|client| ask(served, *client).0[0]).collect()
    };
    let before = given(&served);
    let mut shares = BTreeMap::new();
    before.iter().for_each(|last| *shares.entry(*last).or_insert(0) += 1);
    for (last, share) in [(1, 750), (2, 1500), (3, 750)] {
        assert!((share - 150..share + 150).contains(&shares[&last]), "{shares:?}");
    }
    served.serve_only(weighted([3, 2, 1]));
    let after = given(&served);
    let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    assert!(moved.iter().all(|(_, to)| **to == 1), "only to the one that has gained");
    assert!((600..900).contains(&moved.len()), "{} moved", moved.len());
    served.serve_only(weighted([0, 2, 1]));
    assert!(!given(&served).contains(&1));
}

#[test]
fn a_client_is_sent_to_what_is_near() {
    let near = Networks::parse(&["10.1.0.0/16"]).unwrap();
    let choices = [
        choice(1, 1, Health::Always),
        Choice { networks: near, ..choice(2, 1, Health::App(app())) },
    ];
    let mut served = Served::start([steered(Policy::Failover, choices)]);
    served.change(|snapshot| set_state(snapshot, RouteState::Starting));
    assert_eq!(ask(&served, [10, 1, 7]), (vec![2], 24));
    assert_eq!(ask(&served, [10, 2, 7]), (vec![1], 24));
    // Who tells no network is himself the client: 127.0.0.1.
    assert_eq!(served.ask("www.example", "A").answer[0].data, [192, 0, 2, 1]);
    served.change(|snapshot| set_state(snapshot, unavailable()));
    assert_eq!(ask(&served, [10, 1, 7]).0, [1], "far is better than broken");
}

#[test]
fn what_is_steered_is_there_again_after_a_restart() {
    let near = Networks::parse(&["10.1.0.0/16", "2001:db8::/32"]).unwrap();
    let choices = [
        Choice { networks: near, ..choice(1, 7, Health::Shard(shard())) },
        choice(2, 1, Health::App(app())),
    ];
    let zone = steered(Policy::Weighted, choices);
    let text = serde_json::to_string(&zone).unwrap();
    assert_eq!(serde_json::from_str::<Zone>(&text).unwrap(), zone);
}

/// One target is led to by a CNAME, the other by its address.
fn mixed(shares: [u16; 2]) -> Zone {
    let mut zone = steered(Policy::Weighted, []);
    let cname = RecordSet::new(RecordType::CNAME, 30, [name("a.cdn.test").wire()]).unwrap();
    let address = RecordSet::new(RecordType::A, 30, [[192, 0, 2, 2]]).unwrap();
    for records in [[Some(cname), None], [None, Some(address)]] {
        let choices = records.into_iter().zip(shares).zip(["a", "b"]);
        let choices = choices.map(|((records, weight), name)| Choice {
            name: name.into(),
            records,
            weight,
            networks: Networks::default(),
            health: Health::Always,
        });
        let steering = Steering { policy: Policy::Weighted, choices: choices.collect() };
        zone.set(&name("www.example"), RecordSet::steered(steering).unwrap()).unwrap();
    }
    zone
}

#[test]
fn a_client_is_led_on_by_a_cname_or_given_addresses_and_nobody_both() {
    let mut served = Served::start([mixed([1, 0])]);
    let answers = |served: &Served, rtype: &str| -> Vec<RecordType> {
        served.ask("www.example", rtype).answer.iter().map(|record| record.rtype).collect()
    };
    for rtype in ["A", "AAAA", "CNAME", "ANY", "TXT"] {
        assert_eq!(answers(&served, rtype), [RecordType::CNAME], "{rtype}");
    }
    served.serve_only(mixed([0, 1]));
    for (rtype, given) in
        [("A", &[RecordType::A][..]), ("ANY", &[RecordType::A]), ("AAAA", &[]), ("CNAME", &[])]
    {
        assert_eq!(answers(&served, rtype), given, "{rtype}");
    }
    served.serve_only(mixed([0, 0]));
    for rtype in ["A", "CNAME", "ANY"] {
        let answer = served.ask("www.example", rtype);
        assert!(answer.answer.is_empty(), "{rtype}: nobody has a share");
        assert_eq!((answer.rcode, answer.authority.len()), (ResponseCode::NoError, 1), "{rtype}");
    }
}

/// Shares go to and fro while it is asked all the time.
#[test]
fn no_answer_is_empty_while_somebody_has_a_share() {
    let zones = [[1, 0], [0, 1], [1, 3], [3, 1]].map(|[first, second]| {
        let choices = [choice(1, first, Health::Always), choice(2, second, Health::Always)];
        steered(Policy::Weighted, choices)
    });
    let mut served = Served::start(zones[..1].to_vec());
    let address = served.fast.address;
    let is_over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let asked = question(&name("www.example"), RecordType::A);
            let (mut count, mut answer) = (0, [0; 512]);
            while !is_over.load(Relaxed) {
                socket.send(&asked).unwrap();
                let length = socket.recv(&mut answer).unwrap();
                assert_eq!(answer[6..8], [0, 1], "{:02x?}", &answer[..length]);
                count += 1;
            }
            count
        });
        for swap in 0..10_000 {
            served.serve_only(zones[swap % zones.len()].clone());
        }
        is_over.store(true, Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 100, "{asked}");
}
