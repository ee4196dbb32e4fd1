//! The proxies that Weir is measured beside, and Weir.
//!
//! All have one worker on one core, the same names, certificate and backend, kept-alive connections
//! on both sides, room for the load's connections, and no access log unless it says so.

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod pingora;
mod traefik;
mod weir;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    load::client::Client,
    process::Process,
    site::{CHANGING, NAMES, Site, free_address, host},
};

/// Reading 100,000 names takes some of them seconds.
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// How it was told the names.
    pub(crate) names: &'static str,
    pub(crate) addresses: Addresses,
    /// Where the certificate is that clients trust.
    pub(crate) roots: PathBuf,
    pub(crate) process: Process,
    /// Sends requests for [`CHANGING`] to another backend, if it can be told while it runs.
    pub(crate) change: Option<Change>,
}

/// Takes the backend's address.
pub(crate) type Change = Box<dyn FnMut(&Process, SocketAddr) -> anyhow::Result<()>>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// HTTP/2 without TLS; for most the same as `http`.
    pub(crate) h2c: Option<SocketAddr>,
}

/// All of them, in the order of the tables' columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Weir,
    WeirWithLog,
    Pingora,
    Nginx,
    Haproxy,
    Envoy,
    Traefik,
    Caddy,
}

impl Kind {
    fn start(self, site: &Site) -> anyhow::Result<Peer> {
        match self {
            Self::Weir => weir::start(site),
            Self::WeirWithLog => weir::start_with_access_log(site),
            Self::Pingora => pingora::start(site),
            Self::Nginx => nginx::start(site),
            Self::Haproxy => haproxy::start(site),
            Self::Envoy => envoy::start(site),
            Self::Traefik => traefik::start(site),
            Self::Caddy => caddy::start(site),
        }
    }
}

/// Starts them and waits until they serve.
pub(crate) async fn start(site: &Site, kinds: &[Kind]) -> anyhow::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for kind in kinds {
        let mut peer = kind.start(site).with_context(|| format!("{kind:?} cannot be started"))?;
        peer.wait_until_it_serves().await?;
        peers.push(peer);
    }
    Ok(peers)
}

impl Peer {
    /// The first, the last and the changing name are answered.
    async fn wait_until_it_serves(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        let names = [host(0), host(NAMES - 1), CHANGING.to_owned()];
        for name in names {
            loop {
                self.process.ensure_runs()?;
                match ask(self.addresses.http, &name).await {
                    Ok(200) => break,
                    answer if Instant::now() > deadline => {
                        bail!("{} does not serve {name}: {answer:?}", self.name)
                    }
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        Ok(())
    }
}

/// One that takes a connection before it serves may never answer it.
async fn ask(address: SocketAddr, name: &str) -> anyhow::Result<u16> {
    let answer = async { Client::connect(address).await?.get(name, "/").await };
    Ok(timeout(ANSWER, answer).await??.status)
}

impl Addresses {
    fn free() -> anyhow::Result<Self> {
        let http = free_address()?;
        Ok(Self { http, https: free_address()?, h2c: Some(http) })
    }
}

/// What a program prints when it is asked for its version: the first number of it.
pub(crate) fn version(program: &str, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(argument).output().with_context(|| {
        format!("{program} cannot be started; `scripts/setup bench` installs it")
    })?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // What comes before the word may be its path.
    let told = text.split_once("ersion").map_or(&*text, |(_, told)| told);
    let number = told
        .split(|c: char| c.is_whitespace() || c == '/')
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    Ok(number.context("no version")?.to_owned())
}

/// Which of the site's backends this is the address of.
fn number(backend: SocketAddr) -> u8 {
    match backend.ip() {
        IpAddr::V4(ip) => ip.octets()[3] - 1,
        IpAddr::V6(_) => 0,
    }
}

/// One call to an admin API.
fn call(address: SocketAddr, call: &str, headers: &str, body: &Value) -> anyhow::Result<()> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address)?;
    // In one piece, so that no half of it waits for the other's acknowledgement.
    let request = format!(
        "{call} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 2"), "{call}: {answer}");
    Ok(())
}
