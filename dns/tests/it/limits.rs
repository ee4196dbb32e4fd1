//! Cookies, and how much is answered to whom.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use weir_config::RecordType;
use weir_dns::{Options, Rate};

use crate::{
    harness::{Answer, Running, Served, question, with_edns},
    zones::{name, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.
    ns.example. 3600 IN A 192.0.2.1
    *.wild.example. 3600 IN A 192.0.2.1
    child.example. 3600 IN NS ns.child.example.";

/// A question with the client's cookie and what the server once gave.
fn with_cookie(message: Vec<u8>, server: &[u8]) -> Vec<u8> {
    let cookie = [&b"\0\x0a"[..], &(8 + server.len() as u16).to_be_bytes(), b"12345678", server];
    with_edns(message, 1232, 0, &cookie.concat())
}

/// The cookie at the end of an answer, which the server has made.
fn server_cookie(answer: &[u8]) -> [u8; 16] {
    let (rest, server) = answer.split_last_chunk::<16>().unwrap();
    assert!(rest.ends_with(b"\0\x0a\0\x1812345678"), "{answer:02x?}");
    *server
}

#[test]
fn a_client_gets_a_cookie_and_is_known_by_it() {
    let rate = Some(Rate { per_second: 1, slip: 0 });
    let served = Served::with([zone(ZONE)], &Options { rate, ..Options::default() });
    let asked = || question(&name("ns.example"), RecordType::A);
    let given = server_cookie(&served.fast.udp(&with_cookie(asked(), b"")));
    assert_eq!(given[..4], [1, 0, 0, 0]);
    // Beyond the rate, but known.
    for _ in 0..50 {
        let answer = served.fast.udp(&with_cookie(asked(), &given));
        assert_eq!(Answer::read(&answer).answer.len(), 1);
        server_cookie(&answer);
    }
    // A cookie that is not ours is none.
    let mut forged = given;
    forged[15] ^= 1;
    let burst = (0..20).map(|_| with_cookie(asked(), &forged)).collect::<Vec<_>>();
    assert!(answered(&served.fast, &burst).len() <= 2);
    // Without a question, it is the cookie that is asked for.
    let mut alone = with_cookie(asked()[..12].to_vec(), b"");
    alone[5] = 0;
    let answer = served.slow.udp(&alone);
    server_cookie(&answer);
    assert_eq!(Answer::read(&answer).rcode, ResponseCode::NoError);
}

/// Sends all of them and takes what comes back.
fn answered(server: &Running, messages: &[Vec<u8>]) -> Vec<Answer> {
    messages.iter().for_each(|message| server.send(message));
    server.set_patience(Duration::from_millis(300));
    let answers = std::iter::from_fn(|| server.receive()).map(|bytes| Answer::read(&bytes));
    let answers = answers.collect();
    server.set_patience(Duration::from_secs(10));
    answers
}

#[test]
fn one_network_gets_no_more_of_the_same_answer_than_it_may() {
    let rate = Rate { per_second: 10, slip: 2 };
    let options = Options { rate: Some(rate), ..Options::default() };
    for (what, ask) in [
        ("one name", (|_| "ns.example".to_owned()) as fn(usize) -> String),
        ("names that do not exist", |i| format!("x{i}.example")),
        ("names that a wildcard stands for", |i| format!("x{i}.wild.example")),
        ("names of another zone", |i| format!("x{i}.child.example")),
        ("names that are not ours", |i| format!("x{i}.com")),
    ] {
        let served = Served::with([zone(ZONE)], &options);
        for server in [&served.fast, &served.slow] {
            let messages =
                (0..100).map(|i| question(&name(&ask(i)), RecordType::A)).collect::<Vec<_>>();
            let answers = answered(server, &messages);
            let (slipped, whole): (Vec<_>, Vec<_>) =
                answers.into_iter().partition(|answer| answer.truncated);
            // What the rate gives at once, and while they are sent.
            assert!((10..=15).contains(&whole.len()), "{what}: {} whole", whole.len());
            assert!((40..=46).contains(&slipped.len()), "{what}: {} slipped", slipped.len());
            let is_bare = |answer: &Answer| answer.answer.is_empty() && answer.authority.is_empty();
            assert!(slipped.iter().all(is_bare));
        }
        // By TCP, everybody gets what he asks for.
        let mut connection = served.fast.connect();
        for i in 0..100 {
            let message = question(&name(&ask(i)), RecordType::A);
            assert!(!Answer::read(&connection.ask(&message)).truncated);
        }
    }
}

#[test]
fn different_answers_do_not_take_each_others_room() {
    let rate = Some(Rate { per_second: 5, slip: 0 });
    let served = Served::with([zone(ZONE)], &Options { rate, ..Options::default() });
    for (owner, rtype) in [
        ("ns.example", RecordType::A),
        ("example", RecordType::NS),
        ("example", RecordType::SOA),
        ("ns.example", RecordType::AAAA),
        ("nothing.example", RecordType::A),
        ("x.wild.example", RecordType::A),
        ("x.child.example", RecordType::A),
    ] {
        let messages = vec![question(&name(owner), rtype); 3];
        assert_eq!(answered(&served.fast, &messages).len(), 3, "{owner} {rtype}");
    }
}
