//! What a proxy keeps in memory for names and for connections on which nothing happens.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::{
    Options,
    load::client::{Client, trust},
    peers::{self, Peer},
    process,
    report::{Best, Report, Table},
    site::{NAMES, Site, host},
};

const CONNECTIONS: usize = 10_000;

/// Connections that are made at a time.
const AT_ONCE: usize = 32;

/// For what is freed a moment later.
const REST: Duration = Duration::from_secs(2);

const MIB: f64 = (1 << 20) as f64;

pub(crate) async fn measure(report: &mut Report, options: &Options) -> anyhow::Result<()> {
    process::make_room()?;
    let site = Site::start()?;
    let mut table = Table::new("Memory of the proxy (PSS)", "MiB", Best::Lowest);
    let names = format!("{NAMES} names, nothing asked yet");
    let connections = format!("and {CONNECTIONS} idle TLS connections");
    for peer in peers::start(&site, &options.peers).await? {
        tokio::time::sleep(REST).await;
        let before = peer.process.memory()? as f64 / MIB;
        table.add(&names, peer.name, Ok(before));
        let after = with_connections(&peer).await;
        table.add(&connections, peer.name, after);
        report.peer(&peer);
    }
    report.table(&table);
    Ok(())
}

async fn with_connections(peer: &Peer) -> anyhow::Result<f64> {
    let config = Arc::new(trust(&peer.roots)?);
    let connect = |i| {
        let config = config.clone();
        async move {
            let name = host(i);
            let address = peer.addresses.https;
            let mut client = Client::connect_tls(address, &name, config).await?;
            ask(&mut client, &name).await?;
            anyhow::Ok((client, name))
        }
    };
    let clients = stream::iter(0..CONNECTIONS).map(connect).buffer_unordered(AT_ONCE);
    let mut clients: Vec<_> = clients.try_collect().await?;
    tokio::time::sleep(REST).await;
    let memory = peer.process.memory()? as f64 / MIB;
    // None was closed meanwhile.
    for (client, name) in &mut clients {
        ask(client, name).await?;
    }
    Ok(memory)
}

async fn ask(client: &mut Client<TlsStream<TcpStream>>, name: &str) -> anyhow::Result<()> {
    let status = client.get(name, "/").await?.status;
    ensure!(status == 200, "answered {status}");
    Ok(())
}
