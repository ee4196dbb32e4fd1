//! Weir's DNS server alone, with zones made for the bench: `bare-dns PORT ZONES NAMES`.

use std::{env, net::Ipv4Addr, sync::Arc};

use anyhow::Context;
use tokio::runtime::Builder;
use weir_config::{DnsName, RecordSet, RecordType, Snapshot, Zone, channel};
use weir_dns::{Options, Server, bind};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1).map(|argument| argument.parse::<u32>());
    let mut next = || arguments.next().context("bare-dns PORT ZONES NAMES");
    let (port, zones, names) = (next()??, next()??, next()??);
    let mut snapshot = Snapshot::empty(1, 1, Arc::default());
    for i in 0..zones {
        snapshot.insert_zone(Arc::new(zone(i, names)?));
    }
    let (_publisher, snapshots) = channel(snapshot);
    // One thread for UDP, as the peers have, and one for what is seldom.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let (udp, tcp) = bind((Ipv4Addr::LOCALHOST, u16::try_from(port)?).into(), 1)?;
    let _server = Server::start(snapshots, udp, vec![tcp], Options::default())?;
    runtime.block_on(std::future::pending())
}

/// The same records as in the zone files of the peers.
fn zone(i: u32, names: u32) -> anyhow::Result<Zone> {
    let name = |text: String| text.parse::<DnsName>().map_err(anyhow::Error::msg);
    let apex = name(format!("zone{i}.test"))?;
    let server = name(format!("ns.zone{i}.test"))?;
    let numbers = [1, 3600, 600, 86400, 300_u32].map(u32::to_be_bytes).concat();
    let soa = [server.wire(), server.wire(), &numbers].concat();
    let mut zone = Zone::new(apex.clone());
    zone.set(&apex, RecordSet::new(RecordType::SOA, 3600, [soa])?)?;
    zone.set(&apex, RecordSet::new(RecordType::NS, 3600, [server.wire()])?)?;
    zone.set(&server, RecordSet::new(RecordType::A, 3600, [[192, 0, 2, 1]])?)?;
    for host in 0..names {
        let address = (0x0a00_0000 + host).to_be_bytes();
        let set = RecordSet::new(RecordType::A, 300, [address])?;
        zone.set(&name(format!("host{host}.zone{i}.test"))?, set)?;
    }
    Ok(zone)
}
