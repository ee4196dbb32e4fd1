//! Load: the field's own tools where they can, and our own client for what they cannot.

pub(crate) mod client;
pub(crate) mod handshakes;
mod tools;
mod websocket;

use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::{peers::Peer, site::Site};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Each connection asks for one name after another, each as soon as the former is answered.
    Http { tls: bool, connections: usize, path: &'static str, close: bool },
    /// 16 connections with 16 streams each, for one name.
    Http2 { tls: bool },
    /// A TLS connection for each request; with a session of an earlier one, or without.
    Handshakes { resumed: bool },
    /// Connections on which one frame at a time goes there and back.
    WebSocket { connections: usize },
}

impl Load {
    /// Loads the peer for that time. Returns how many requests (or echoes) were answered.
    ///
    /// # Errors
    /// When even one was answered wrongly or not at all: such a run measures something else.
    pub(crate) async fn run(self, site: &Site, peer: &Peer, time: Duration) -> anyhow::Result<u64> {
        let requests = match self {
            Self::Http { tls, connections, path, close } => {
                let (scheme, address) = match tls {
                    true => ("https", peer.addresses.https),
                    false => ("http", peer.addresses.http),
                };
                // The name instead of the address, because it is sent in the TLS handshake.
                let url = format!("{scheme}://localhost:{}{path}", address.port());
                tools::wrk(site, &url, connections, close, time)?
            }
            Self::Http2 { tls: true } => tools::h2load("https", peer.addresses.https, time)?,
            Self::Http2 { tls: false } => match peer.addresses.h2c {
                Some(address) => tools::h2load("http", address, time)?,
                None => bail!("not offered"),
            },
            Self::Handshakes { resumed } => handshakes::run(peer, resumed, time).await?,
            Self::WebSocket { connections } => websocket::run(peer, connections, time).await?,
        };
        ensure!(requests > 0, "nothing was answered");
        Ok(requests)
    }
}

/// The first number before this word in a tool's output.
fn number_before(text: &str, word: &str) -> anyhow::Result<u64> {
    let words: Vec<_> = text.split_whitespace().collect();
    let pair = words.windows(2).find(|pair| pair[1].trim_end_matches(',') == word);
    let pair = pair.with_context(|| format!("no `{word}` in: {text}"))?;
    Ok(pair[0].parse()?)
}
