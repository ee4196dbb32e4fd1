//! Zonemaster's opinion of a zone, in a network of its own: it asks on port 53 and nowhere else.

use std::{
    env,
    net::Ipv4Addr,
    process::{Command, Output},
    sync::Arc,
};

use tokio::runtime::Runtime;
use weir_config::{Snapshot, channel};
use weir_dns::{Options, Server, bind};

use crate::zones::zone;

const INSIDE: &str = "WEIR_TEST_INSIDE_NETWORK";
/// Nobody's, in a network that leads nowhere. Private ones would be an error.
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(45, 0, 0, 1), Ipv4Addr::new(46, 0, 0, 1)];
const ZONE: &str = "
    example. 3600 IN SOA ns1.example. hostmaster.example. 2026010101 14400 3600 1209600 3600
    example. 3600 IN NS ns1.example.
    example. 3600 IN NS ns2.example.
    example. 3600 IN MX 10 mail.example.
    ns1.example. 3600 IN A 45.0.0.1
    ns2.example. 3600 IN A 46.0.0.1
    mail.example. 3600 IN A 45.0.0.1
    www.example. 3600 IN CNAME mail.example.";

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

#[test]
fn zonemaster_finds_no_error() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let this = env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(this)
        .args(["--exact", "zonemaster::zonemaster_finds_no_error", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

fn inside() {
    run("ip", &["link", "set", "lo", "up"]);
    for server in SERVERS {
        let added = run("ip", &["address", "add", &format!("{server}/32"), "dev", "lo"]);
        assert!(added.status.success(), "{added:?}");
    }
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mut snapshot = Snapshot::empty(1, 0, Arc::default());
    snapshot.insert_zone(Arc::new(zone(ZONE)));
    let (_publisher, snapshots) = channel(snapshot);
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for server in SERVERS {
        let (sockets, listener) = bind((server, 53).into(), 1).unwrap();
        udp.extend(sockets);
        tcp.push(listener);
    }
    let server = Server::start(snapshots, udp, tcp, Options::default()).unwrap();
    let names = ["ns1.example/45.0.0.1", "ns2.example/46.0.0.1"];
    let output = run(
        "zonemaster-cli",
        &[
            "--no-ipv6",
            "--ns",
            names[0],
            "--ns",
            names[1],
            "--level",
            "INFO",
            "--no-time",
            "example",
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().count() > 3, "it has looked at something");
    let worst = text.lines().find(|line| line.starts_with("ERROR") || line.starts_with("CRITICAL"));
    assert_eq!(worst, None);
    server.stop();
}
