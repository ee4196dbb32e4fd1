//! Clients that come back after an upgrade, each with the session that it got before.

use std::{fs, path::Path, sync::Arc};

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    client::{ClientSessionMemoryCache, Resumption},
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::{book::Book, changes::Pool, server::Server};
use crate::{load::client::Client, report::Report};

const APP: &str = "returning";

/// At once.
const CONCURRENCY: usize = 64;

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    for (name, version, clients) in [("1.3", &TLS13, 10_000), ("1.2", &TLS12, 1_000)] {
        let [fresh, upgraded] = returning(version, clients).await?;
        let what = format!("TLS {name}: resumed by {clients} at first");
        report.figure(&what, fresh as f64, "", "0");
        let what = format!("TLS {name}: resumed by {clients} after an upgrade");
        report.figure(&what, upgraded as f64, "", &clients.to_string());
        ensure!((fresh, upgraded) == (0, clients), "not every client resumed its session");
    }
    Ok(())
}

/// How many resumed a session before an upgrade, when they had none, and after it.
async fn returning(
    version: &'static SupportedProtocolVersion,
    clients: usize,
) -> anyhow::Result<[usize; 2]> {
    let (server, book) = (Server::start().await?, Arc::new(Book::new()));
    let _pool = Pool::start(&server, APP, &book).await?;
    let trust = trust(&server.roots(), version)?;
    let client = |_| {
        // The session with the server, and room for its key exchange.
        let mut config = trust.clone();
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
        Arc::new(config)
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    let before = resumed(&server, &clients).await?;
    server.upgrade().await?;
    Ok([before, resumed(&server, &clients).await?])
}

/// Lets all of them connect and ask once. Returns how many resumed a session.
async fn resumed(server: &Server, clients: &[Arc<ClientConfig>]) -> anyhow::Result<usize> {
    let host = Server::host(APP);
    let connect = async |config: &Arc<ClientConfig>| {
        let mut client = Client::connect_tls(server.https, &host, config.clone()).await?;
        // With the answer come tickets.
        let answer = client.get(&host, "/0").await?;
        ensure!(answer.status == 200, "answered {}", answer.status);
        Ok(client.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed))
    };
    let connections = stream::iter(clients).map(connect).buffer_unordered(CONCURRENCY);
    let resumed = connections.try_filter(|resumed| std::future::ready(*resumed));
    Ok(resumed.try_collect::<Vec<_>>().await?.len())
}

fn trust(roots: &Path, version: &'static SupportedProtocolVersion) -> anyhow::Result<ClientConfig> {
    let pem = fs::read(roots)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        store.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_protocol_versions(&[version]);
    Ok(config.with_root_certificates(store).with_no_client_auth())
}
