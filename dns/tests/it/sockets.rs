//! Addresses, several sockets at one of them, what is counted, and the end.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use prometheus::core::Collector;
use tokio::runtime::Runtime;
use weir_config::{RecordType, Snapshot, channel};
use weir_dns::{DnsMetrics, Options, Server, bind};

use crate::{
    harness::{Answer, question},
    zones::{name, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.
    ns.example. 3600 IN A 192.0.2.1";

fn start(address: SocketAddr, sockets: usize) -> (Runtime, Server, u16) {
    let (udp, tcp) = bind(address, sockets).unwrap();
    let port = tcp.local_addr().unwrap().port();
    let (runtime, server) = serve(udp, tcp);
    (runtime, server, port)
}

fn serve(udp: Vec<UdpSocket>, tcp: TcpListener) -> (Runtime, Server) {
    let runtime = Runtime::new().unwrap();
    let mut snapshot = Snapshot::empty(1, 0, Arc::default());
    snapshot.insert_zone(Arc::new(zone(ZONE)));
    let (_publisher, snapshots) = channel(snapshot);
    let server = {
        let _inside = runtime.enter();
        Server::start(snapshots, udp, vec![tcp], Options::default()).unwrap()
    };
    (runtime, server)
}

/// From a socket of its own, which takes an answer from nobody but whom it asked.
fn ask(address: SocketAddr, rtype: RecordType) -> Option<Answer> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let client = UdpSocket::bind(any).unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.send(&question(&name("ns.example"), rtype)).unwrap();
    let mut answer = [0; 512];
    let len = client.recv(&mut answer).ok()?;
    Some(Answer::read(&answer[..len]))
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let (_runtime, server, port) = start((Ipv4Addr::UNSPECIFIED, 0).into(), 1);
    for last in [1, 2, 3, 1] {
        let address = (Ipv4Addr::new(127, 0, 0, last), port).into();
        assert_eq!(ask(address, RecordType::A).unwrap().answer.len(), 1, "{address}");
    }
    server.stop();
    // A machine without IPv6 has no address of it.
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let (_runtime, server, port) = start((Ipv6Addr::UNSPECIFIED, 0).into(), 1);
        let address = (Ipv6Addr::LOCALHOST, port).into();
        assert_eq!(ask(address, RecordType::A).unwrap().answer.len(), 1);
        server.stop();
    }
}

/// As systemd hands it over: one socket of both families, for all threads.
#[test]
fn a_socket_of_both_families_answers_each_in_its_own() {
    let Ok(tcp) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else { return };
    let address = tcp.local_addr().unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    let udp = vec![socket.try_clone().unwrap(), socket];
    let (_runtime, server) = serve(udp, tcp);
    for ip in [
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::new(127, 0, 0, 2).into(),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        for _ in 0..10 {
            let answer = ask((ip, address.port()).into(), RecordType::A);
            assert_eq!(answer.unwrap().answer.len(), 1, "{ip}");
        }
    }
    server.stop();
}

#[test]
fn several_sockets_share_an_address_and_what_they_answer_is_counted() {
    let (_runtime, server, port) = start((Ipv4Addr::LOCALHOST, 0).into(), 4);
    let address = (Ipv4Addr::LOCALHOST, port).into();
    for _ in 0..100 {
        assert_eq!(ask(address, RecordType::A).unwrap().answer.len(), 1);
    }
    // A response, which gets nothing; the one behind it, perhaps of another socket, does.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(address).unwrap();
    client.send(&[0x12, 0x34, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    client.send(&[0x12, 0x34, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(client.recv(&mut [0; 512]).is_ok());
    let counted = counted(&server.metrics());
    assert_eq!(counted["weir_dns_responses_total udp NOERROR"], 100.0);
    assert_eq!(counted["weir_dns_responses_total udp NOTIMP"], 1.0);
    assert_eq!(counted["weir_dns_ignored_total udp"], 1.0);
    assert_eq!(counted["weir_dns_zones"], 1.0);
    server.stop();
    // Nobody is there any more, or nobody answers.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let _ = client.send(&question(&name("ns.example"), RecordType::A));
    assert!(client.recv(&mut [0; 512]).is_err());
}

fn counted(metrics: &DnsMetrics) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in metrics.collect() {
        for metric in family.get_metric() {
            let mut labels: Vec<_> = metric.get_label().iter().collect();
            labels.sort_by_key(|label| std::cmp::Reverse(label.name().to_owned()));
            let labels = labels.iter().map(|label| label.value());
            let name = [family.name()].into_iter().chain(labels).collect::<Vec<_>>().join(" ");
            let value = match family.get_field_type() {
                prometheus::proto::MetricType::GAUGE => metric.get_gauge().get_value(),
                _ => metric.get_counter().get_value(),
            };
            all.insert(name, value);
        }
    }
    all
}
