//! Unbound resolves through the server, with its letters mixed and its names cut short.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use weir_config::RecordType;

use crate::{
    harness::{Answer, Served, question},
    servers::{Process, command, free_port},
    zones::{name, zone},
};

const ZONE: &str = "
    example. 3600 IN SOA ns.example. admin.example. 1 2 3 4 300
    example. 3600 IN NS ns.example.
    ns.example. 3600 IN A 127.0.0.1
    a.b.c.d.example. 3600 IN A 192.0.2.1
    www.example. 60 IN CNAME any.wild.example.
    *.wild.example. 60 IN A 192.0.2.2
    old.example. 60 IN DNAME c.d.example.";

#[test]
fn unbound_resolves_names_of_every_kind() {
    let many: String = (0..200).map(|i| format!("big.example. 60 IN A 192.0.3.{i}\n")).collect();
    let served = Served::start([zone(&format!("{ZONE}\n{many}"))]);
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let (path, ours) = (dir.path().display(), served.fast.address.port());
    let config = format!(
        "server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n directory: \"{path}\"\n pidfile: \"{path}/pid\"\n use-syslog: no\n \
         do-not-query-localhost: no\n module-config: \"iterator\"\n use-caps-for-id: yes\n \
         qname-minimisation-strict: yes\n num-threads: 1\n do-ip6: no\n\
         remote-control:\n control-enable: no\n\
         stub-zone:\n name: example\n stub-addr: 127.0.0.1@{ours}\n"
    );
    let file = dir.path().join("unbound.conf");
    fs::write(&file, config).unwrap();
    let _unbound = Process::start(command("unbound").arg("-d").arg("-c").arg(&file));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let ask = |owner: &str, rtype| loop {
        let mut buffer = [0; 8192];
        // Refused while it does not listen yet.
        let _ = client.send(&question(&name(owner), rtype));
        if let Ok(len) = client.recv(&mut buffer) {
            break Answer::read(&buffer[..len]);
        }
        assert!(Instant::now() < deadline, "unbound does not answer");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut wrong = Vec::new();
    for (owner, rtype, rcode, last) in [
        ("a.b.c.d.example", RecordType::A, ResponseCode::NoError, Some(1)),
        ("b.c.d.example", RecordType::A, ResponseCode::NoError, None),
        ("www.example", RecordType::A, ResponseCode::NoError, Some(2)),
        ("x.y.wild.example", RecordType::A, ResponseCode::NoError, Some(2)),
        ("a.b.old.example", RecordType::A, ResponseCode::NoError, Some(1)),
        ("ns.example", RecordType::AAAA, ResponseCode::NoError, None),
        ("nothing.example", RecordType::A, ResponseCode::NXDomain, None),
    ] {
        let answer = ask(owner, rtype);
        let address = answer.answer.iter().find(|record| record.rtype == rtype);
        let found = (answer.rcode, address.map(|record| record.data[3]));
        if found != (rcode, last) {
            wrong.push((owner, found));
        }
    }
    // By TCP, since it is too long for UDP; what Unbound then says to us is cut short again.
    let big = ask("big.example", RecordType::A);
    assert_eq!(wrong, []);
    assert_eq!((big.rcode, big.truncated), (ResponseCode::NoError, true));
}
