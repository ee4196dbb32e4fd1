//! NSD keeps a copy: it is told of changes, and fetches the zone with a signature.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use tempfile::TempDir;
use weir_config::{DnsName, RecordSet, RecordType, Secondary, TsigAlgorithm, TsigKey, Zone};

use crate::{
    harness::{Answer, Served, Tcp, question},
    servers::{Process, command, free_port},
    zones::{name, zone},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// `c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=` in NSD's configuration.
const SECRET: &[u8] = b"secret-secret-secret-secret-1234";

fn key() -> Option<Arc<TsigKey>> {
    let (name, algorithm) = (name("transfer.key"), TsigAlgorithm::HmacSha256);
    Some(Arc::new(TsigKey { name, algorithm, secret: SECRET.to_vec().into() }))
}

fn soa(serial: u32) -> RecordSet {
    let names = [name("ns.example").wire(), name("admin.example").wire()].concat();
    let numbers = [serial, 3600, 600, 86400, 60].map(u32::to_be_bytes).concat();
    RecordSet::new(RecordType::SOA, 3600, [[names, numbers].concat()]).unwrap()
}

fn large(secondaries: Vec<Secondary>, hosts: u32) -> Zone {
    let mut zone = zone(
        "example. 3600 IN SOA ns.example. admin.example. 1 3600 600 86400 60
         example. 3600 IN NS ns.example.
         ns.example. 3600 IN A 192.0.2.1",
    );
    for i in 0..hosts {
        let address = RecordSet::new(RecordType::A, 300, [i.to_be_bytes()]).unwrap();
        zone.set(&name(&format!("host{i}.example")), address).unwrap();
    }
    zone.set_secondaries(secondaries.into());
    zone
}

struct Nsd {
    address: SocketAddr,
    _process: Process,
    _dir: TempDir,
}

impl Nsd {
    fn start(port: u16, primary: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("nsd.conf");
        let (dir_name, primary) = (dir.path().display(), format!("127.0.0.1@{}", primary.port()));
        let text = format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{dir_name}\"\n  \
             database: \"\"\n  pidfile: \"{dir_name}/pid\"\n  xfrdfile: \"{dir_name}/xfrd\"\n  \
             zonelistfile: \"{dir_name}/zones\"\n  xfrdir: \"{dir_name}\"\n  server-count: 1\n  \
             logfile: \"{dir_name}/log\"\n  rrl-ratelimit: 0\n\
             remote-control:\n  control-enable: no\n\
             key:\n  name: \"transfer.key\"\n  algorithm: hmac-sha256\n  \
             secret: \"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=\"\n\
             zone:\n  name: example\n  zonefile: \"{dir_name}/example.zone\"\n  \
             allow-notify: 127.0.0.1 transfer.key\n  request-xfr: {primary} transfer.key\n"
        );
        fs::write(&config, text).unwrap();
        let process = Process::start(command("nsd").arg("-d").arg("-c").arg(&config));
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self { address, _process: process, _dir: dir }
    }

    /// Waits until it answers with this serial number.
    fn has(&self, serial: u32) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(&question(&name("example"), RecordType::SOA)).is_none_or(|answer| {
            answer.answer.first().is_none_or(|soa| !is_serial(&soa.data, serial))
        }) {
            assert!(Instant::now() < deadline, "the secondary does not get to {serial}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, message: &[u8]) -> Option<Answer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(message).ok()?;
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).ok()?;
        Some(Answer::read(&buffer[..len]))
    }
}

fn is_serial(soa: &[u8], serial: u32) -> bool {
    soa[soa.len() - 20..][..4] == serial.to_be_bytes()
}

#[test]
fn nsd_fetches_a_large_zone_and_follows_its_changes() {
    let port = free_port();
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let secondary = Secondary { address, key: key() };
    let mut served = Served::start([large(vec![secondary], 200_000)]);
    let nsd = Nsd::start(port, served.fast.address);
    nsd.has(1);
    let asked = question(&name("host199999.example"), RecordType::A);
    assert_eq!(nsd.ask(&asked).unwrap().answer[0].data, 199_999_u32.to_be_bytes());

    let change = |served: &mut Served, serial, owner: &DnsName| {
        let set = RecordSet::new(RecordType::A, 300, [[192, 0, 2, 7]]).unwrap();
        served.change(|snapshot| {
            let mut zone = Zone::clone(snapshot.zone(&name("example")).unwrap());
            zone.set(&name("example"), soa(serial)).unwrap();
            zone.set(owner, set).unwrap();
            snapshot.insert_zone(Arc::new(zone));
        });
    };
    let begun = Instant::now();
    change(&mut served, 2, &name("new.example"));
    nsd.has(2);
    println!("200,000 records: {:?} from a change to the secondary's answer", begun.elapsed());
    let asked = question(&name("new.example"), RecordType::A);
    assert_eq!(nsd.ask(&asked).unwrap().answer[0].data, [192, 0, 2, 7]);
}

/// All messages of a transfer, until its SOA is there for the second time.
fn transfer(connection: &mut Tcp, message: &[u8]) -> Vec<Answer> {
    connection.send(message);
    let (mut messages, mut soas) = (Vec::new(), 0);
    while soas < 2 {
        let answer = Answer::read(&connection.receive().expect("another message"));
        let is_over = answer.rcode != ResponseCode::NoError;
        soas += answer.answer.iter().filter(|r| r.rtype == RecordType::SOA).count();
        messages.push(answer);
        if is_over {
            break;
        }
    }
    messages
}

#[test]
fn only_a_secondary_gets_a_zone_and_gets_all_of_it() {
    let axfr = question(&name("example"), RecordType::AXFR);
    let here: SocketAddr = (Ipv4Addr::LOCALHOST, 53).into();
    let elsewhere: SocketAddr = ([192, 0, 2, 9], 53).into();
    for (secondaries, is_sent) in [
        (vec![], false),
        (vec![Secondary { address: elsewhere, key: None }], false),
        (vec![Secondary { address: here, key: key() }], false),
        (vec![Secondary { address: here, key: None }], true),
    ] {
        let served = Served::start([large(secondaries, 5000)]);
        let mut connection = served.fast.connect();
        let messages = transfer(&mut connection, &axfr);
        if !is_sent {
            assert_eq!(messages[0].rcode, ResponseCode::Refused);
            continue;
        }
        assert!(messages.len() > 3 && messages.iter().all(|m| m.bytes.len() <= 16 << 10));
        let records: usize = messages.iter().map(|message| message.answer.len()).sum();
        assert_eq!(records, 5000 + 4, "every record once, and the SOA twice");
        // The connection goes on.
        assert_eq!(transfer(&mut connection, &axfr).len(), messages.len());
        let other = question(&name("www.example"), RecordType::AXFR);
        assert_eq!(transfer(&mut connection, &other)[0].rcode, ResponseCode::NotAuth);
    }
}

/// `kdig` checks the signature of each message.
#[test]
fn kdig_believes_a_signed_transfer_and_signed_answers() {
    let here = (Ipv4Addr::LOCALHOST, 53).into();
    let served = Served::start([large(vec![Secondary { address: here, key: key() }], 20_000)]);
    let kdig = |secret: &str, rest: &[&str]| {
        let port = served.fast.address.port().to_string();
        let key = format!("hmac-sha256:transfer.key:{secret}");
        let mut command = Command::new("kdig");
        command.args(["@127.0.0.1", "-p", &port, "-y", &key, "+retry=0"]).args(rest);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let right = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=";
    let (is_good, text) = kdig(right, &["example", "AXFR"]);
    assert!(is_good && text.contains("Received") && text.contains("20004 records"), "{text:.500}");
    for rest in [&["example", "SOA", "+notcp"][..], &["ns.example", "A", "+tcp"]] {
        let (is_good, text) = kdig(right, rest);
        assert!(is_good && text.contains("status: NOERROR") && text.contains("TSIG"), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }
    // The serial number that it has is ours, so that there is nothing to send but that.
    let (is_good, text) = kdig(right, &["example", "IXFR=1"]);
    assert!(is_good && text.contains("1 records"), "{text}");
    let (_, text) = kdig("d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3JvbmctMTI=", &["example", "SOA"]);
    assert!(text.contains("status: BADSIG") && text.contains("ANSWER: 0"), "{text}");
}

/// A secondary that only listens.
fn listener() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_secondary_that_is_silent_keeps_no_other_waiting() {
    let (silent, heard) = (listener(), listener());
    let secondary =
        |socket: &UdpSocket| Secondary { address: socket.local_addr().unwrap(), key: None };
    let both = vec![secondary(&silent), secondary(&heard)];
    let zones = (0..100).map(|i| {
        let apex = name(&format!("z{i}.example"));
        let mut zone = Zone::new(apex.clone());
        zone.set(&apex, soa(7)).unwrap();
        zone.set_secondaries(both.clone().into());
        zone
    });
    let _served = Served::start(zones);
    let (begun, mut told) = (Instant::now(), std::collections::BTreeSet::new());
    while told.len() < 100 {
        let mut message = [0; 512];
        let (len, from) = heard.recv_from(&mut message).unwrap();
        let message = &mut message[..len];
        assert_eq!(message[2] & 0x78, 4 << 3, "NOTIFY");
        told.insert(
            message[12..len].iter().take_while(|octet| **octet != 0).copied().collect::<Vec<_>>(),
        );
        message[2] |= 0x80;
        heard.send_to(message, from).unwrap();
    }
    // To be silent for a zone takes a secondary half a minute.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
