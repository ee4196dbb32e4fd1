//! From a change of a large zone to the first answer that shows it.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use weir_config::{DnsName, RecordSet, RecordType, Snapshot, Zone, channel};
use weir_dns::{Options, Server, bind};

use crate::report::Report;

const NAMES: u32 = 1_000_000;
const CHANGES: u32 = 1000;
const SOCKETS: usize = 2;

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let name = |text: String| text.parse::<DnsName>().map_err(anyhow::Error::msg);
    let apex = name("zone.test".to_owned())?;
    let soa = [apex.wire(), apex.wire(), &[0; 20]].concat();
    let mut zone = Zone::new(apex.clone());
    zone.set(&apex, RecordSet::new(RecordType::SOA, 3600, [soa])?)?;
    let began = Instant::now();
    for host in 0..NAMES {
        let set = RecordSet::new(RecordType::A, 300, [host.to_be_bytes()])?;
        zone.set(&name(format!("host{host}.zone.test"))?, set)?;
    }
    report.figure("a zone of 1,000,000 names is made", began.elapsed().as_secs_f64(), "s", "");

    let mut snapshot = Snapshot::empty(1, 1, Arc::default());
    snapshot.insert_zone(Arc::new(zone));
    let (mut publisher, snapshots) = channel(snapshot.clone());
    let (udp, tcp) = bind((Ipv4Addr::LOCALHOST, 0).into(), SOCKETS)?;
    let address = tcp.local_addr()?;
    let server = Server::start(snapshots, udp, vec![tcp], Options::default())?;
    // The kernel divides clients between the sockets by their ports.
    let clients = (0..4 * SOCKETS).map(|_| {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        client.connect(address)?;
        client.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(client)
    });
    let clients = clients.collect::<std::io::Result<Vec<_>>>()?;
    let mut samples = Vec::new();
    for i in 0..CHANGES {
        let host = name(format!("host{}.zone.test", i * 7919 % NAMES))?;
        let value = (u32::MAX - i).to_be_bytes();
        let began = Instant::now();
        if let Some(zone) = snapshot.zone(&apex) {
            let mut zone = Zone::clone(zone);
            zone.set(&host, RecordSet::new(RecordType::A, 300, [value])?)?;
            snapshot.insert_zone(Arc::new(zone));
        }
        snapshot.generation += 1;
        publisher.publish(Arc::new(snapshot.clone()))?;
        for client in &clients {
            ensure!(answer(client, &host)?.ends_with(&value), "a socket answers as before");
        }
        samples.push(began.elapsed());
    }
    report.quantiles("DNS: change to its answer on every socket", &mut samples, ["", "<= 20"]);
    server.stop();
    Ok(())
}

pub(super) fn answer(client: &UdpSocket, host: &DnsName) -> anyhow::Result<Vec<u8>> {
    let header = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    client.send(&[&header[..], host.wire(), &[0, 1, 0, 1]].concat())?;
    let mut answer = vec![0; 512];
    let len = client.recv(&mut answer)?;
    answer.truncate(len);
    Ok(answer)
}
