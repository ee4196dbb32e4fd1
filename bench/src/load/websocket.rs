//! WebSocket: frames that come back.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use crate::{peers::Peer, site::host};

/// With the example key of RFC 6455, section 1.3.
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const PAYLOAD: usize = 64;

pub(super) async fn run(peer: &Peer, connections: usize, time: Duration) -> anyhow::Result<u64> {
    let deadline = Instant::now() + time;
    let clients = (0..connections).map(|i| connection(peer, i, deadline));
    let counts = futures::future::try_join_all(clients).await?;
    Ok(counts.into_iter().sum())
}

async fn connection(peer: &Peer, i: usize, deadline: Instant) -> anyhow::Result<u64> {
    let mut client = Client::connect(peer.addresses.http).await?;
    let answer =
        client.ask(&format!("GET /echo HTTP/1.1\r\nHost: {}\r\n{UPGRADE}\r\n", host(i))).await?;
    ensure!(answer.status == 101, "answered {}", answer.status);
    // Binary, final, masked with zeros.
    let mut frame = vec![0x82, 0x80 | PAYLOAD as u8, 0, 0, 0, 0];
    frame.extend([b'x'; PAYLOAD]);
    let mut echo = vec![0; frame.len()];
    let mut count = 0;
    while Instant::now() < deadline {
        client.stream.write_all(&frame).await?;
        client.stream.read_exact(&mut echo).await?;
        ensure!(echo == frame, "an echo was not what was sent");
        count += 1;
    }
    Ok(count)
}
