//! Load: the field's own tools where they can, and our own client for what they cannot.

pub(crate) mod client;
pub(crate) mod handshakes;
mod tools;
mod websocket;

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::{
    peers::{Addresses, Peer},
    site::Site,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// HTTP/1.1: each connection asks for one name after another, as soon as it is answered.
    Http { scheme: &'static str, connections: usize, path: &'static str },
    /// The same with a new connection for each request.
    Connections { connections: usize },
    /// 16 connections with 16 streams each, for one name.
    Http2 { scheme: &'static str },
    /// A TLS connection for each request; with a session of an earlier one, or without.
    Handshakes { resumed: bool },
    /// Connections on which one frame at a time goes there and back.
    WebSocket { connections: usize },
}

impl Load {
    pub(crate) fn is_offered_by(self, peer: &Peer) -> bool {
        !matches!(self, Self::Http2 { scheme: "http" }) || peer.addresses.h2c.is_some()
    }

    /// Loads the peer for that time. Returns how many requests (or echoes) were answered.
    ///
    /// # Errors
    /// When even one was answered wrongly or not at all: such a run measures something else.
    pub(crate) async fn run(self, site: &Site, peer: &Peer, time: Duration) -> anyhow::Result<u64> {
        let Addresses { http, https, h2c } = peer.addresses;
        let address = |scheme| if scheme == "https" { https } else { http };
        let requests = match self {
            Self::Http { scheme, connections, path } => {
                // The name instead of the address, because it is sent in the TLS handshake.
                let url = format!("{scheme}://localhost:{}", address(scheme).port());
                tools::wrk(site, &url, path, connections, "keep-alive", time)?
            }
            Self::Connections { connections } => {
                let url = format!("http://localhost:{}", http.port());
                tools::wrk(site, &url, "/", connections, "close", time)?
            }
            Self::Http2 { scheme: "https" } => tools::h2load("https", https, time)?,
            Self::Http2 { scheme } => tools::h2load(scheme, h2c.context("not offered")?, time)?,
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
