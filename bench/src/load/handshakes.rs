//! TLS handshakes, full ones and resumed ones, each with one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustls::{
    ClientConfig, HandshakeKind,
    client::{ClientSessionMemoryCache, Resumption},
};

use super::client::{Client, trust};
use crate::{peers::Peer, site::host};

/// Clients that connect again and again, each with sessions of its own.
const CLIENTS: usize = 16;

pub(super) async fn run(peer: &Peer, resumed: bool, time: Duration) -> anyhow::Result<u64> {
    let deadline = Instant::now() + time;
    let clients = (0..CLIENTS).map(|i| client(peer, host(i), resumed, deadline));
    let counts = futures::future::try_join_all(clients).await?;
    Ok(counts.into_iter().sum())
}

async fn client(
    peer: &Peer,
    name: String,
    resumed: bool,
    deadline: Instant,
) -> anyhow::Result<u64> {
    let mut config = trust(&peer.roots)?;
    config.resumption = match resumed {
        true => Resumption::store(Arc::new(ClientSessionMemoryCache::new(8))),
        false => Resumption::disabled(),
    };
    let config = Arc::new(config);
    let mut count = 0;
    while Instant::now() < deadline {
        let kind = connect_and_ask(peer, &name, &config).await?;
        // The first has no session to resume yet.
        let expected = match resumed && count > 0 {
            true => HandshakeKind::Resumed,
            false => HandshakeKind::Full,
        };
        ensure!(kind == expected, "a handshake was {kind:?}");
        count += 1;
    }
    Ok(count)
}

async fn connect_and_ask(
    peer: &Peer,
    name: &str,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<HandshakeKind> {
    let mut client = Client::connect_tls(peer.addresses.https, name, config.clone()).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let answer = client.ask(&request).await?;
    ensure!(answer.status == 200, "answered {}", answer.status);
    let kind = client.stream.get_ref().1.handshake_kind();
    Ok(kind.unwrap_or(HandshakeKind::Full))
}
