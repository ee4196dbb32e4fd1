//! Connections: what they carry, and how long they last.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use weir_config::RecordType;
use weir_dns::{Options, TcpLimits};

use crate::{
    harness::{Served, question},
    zones::{name, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.
    ns.example. 3600 IN A 192.0.2.1";

fn served(tcp: TcpLimits) -> Served {
    Served::with([zone(ZONE)], &Options { tcp, ..Options::default() })
}

fn asked(id: u16) -> Vec<u8> {
    let mut message = question(&name("ns.example"), RecordType::A);
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

#[test]
fn a_connection_carries_many_questions_however_they_are_cut() {
    let served = served(TcpLimits::default());
    let mut connection = served.fast.connect();
    let framed = |id| {
        let message = asked(id);
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let all: Vec<u8> = (0..500).flat_map(framed).collect();
    for part in all.chunks(7) {
        connection.0.write_all(part).unwrap();
    }
    for id in 0..500_u16 {
        let answer = connection.receive().unwrap();
        assert_eq!(answer[..2], id.to_be_bytes());
        assert_eq!(answer, served.slow.udp(&asked(id)), "as over UDP");
    }
}

#[test]
fn one_that_says_nothing_or_too_little_is_closed() {
    let limits = TcpLimits {
        idle: Duration::from_millis(400),
        message: Duration::from_millis(200),
        ..TcpLimits::default()
    };
    let served = served(limits);
    for (sent, limit) in
        [(&b""[..], limits.idle), (b"\0", limits.message), (b"\0\x20\x12", limits.message)]
    {
        let mut connection = served.fast.connect();
        let begun = Instant::now();
        connection.0.write_all(sent).unwrap();
        assert_eq!(connection.receive(), None);
        assert!(begun.elapsed() >= limit, "{sent:?}");
    }
    // One that is used stays.
    let mut connection = served.fast.connect();
    let begun = Instant::now();
    while begun.elapsed() < 3 * limits.idle {
        connection.ask(&asked(1));
    }
    // A response is no question.
    let mut response = asked(1);
    response[2] |= 0x80;
    connection.send(&response);
    assert_eq!(connection.receive(), None);
}

#[test]
fn nobody_has_more_connections_than_he_may() {
    let served = served(TcpLimits { connections_per_client: 3, ..TcpLimits::default() });
    let mut open: Vec<_> = (0..3).map(|_| served.fast.connect()).collect();
    open.iter_mut().for_each(|connection| drop(connection.ask(&asked(1))));
    assert_eq!(served.fast.connect().receive(), None, "the fourth is closed");
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut connection = served.fast.connect();
        let message = asked(2);
        let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        if connection.0.write_all(&framed).is_ok() && connection.receive().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "there is room for one again");
    }
}
