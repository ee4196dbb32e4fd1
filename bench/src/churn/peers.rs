//! Each peer told of a change in the way that it offers, while one client asks without a pause.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use tokio::net::TcpStream;

use crate::{
    Options,
    load::client::Client,
    peers::{self, Change, Peer},
    process,
    report::{Best, Report, Table, quantile},
    site::{BACKENDS, CHANGING, Site},
};

/// The most changes for each peer, and the longest that they are made for.
const CHANGES: usize = 500;
const TIME: Duration = Duration::from_secs(15);

/// A change that is not seen after so long never will be.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn measure(report: &mut Report, options: &Options) -> anyhow::Result<()> {
    process::make_room()?;
    let site = Site::start()?;
    let mut table =
        Table::new("Change to first conforming request, one at a time", "ms", Best::Lowest);
    for mut peer in peers::start(&site, &options.peers).await? {
        report.peer(&peer);
        let Some(mut change) = peer.change.take() else { continue };
        match changes(&site, &peer, &mut change).await {
            Ok(latencies) => {
                table.add("p50", peer.name, Ok(quantile(&latencies, 0.5)));
                table.add("p99", peer.name, Ok(quantile(&latencies, 0.99)));
            }
            Err(error) => table.add("p50", peer.name, Err(error)),
        }
    }
    report.table(&table);
    Ok(())
}

/// How long each change took to be seen, in ms and in order.
async fn changes(site: &Site, peer: &Peer, change: &mut Change) -> anyhow::Result<Vec<f64>> {
    let mut asker = Asker { peer, client: None };
    let mut latencies = Vec::new();
    let began = Instant::now();
    while latencies.len() < CHANGES && began.elapsed() < TIME {
        let n = 1 + (latencies.len() % (usize::from(BACKENDS) - 1)) as u8;
        let to = site.backend(n);
        let changed = Instant::now();
        change(&peer.process, to)?;
        while !asker.is_answered_by(&to.ip().to_string()).await? {
            ensure!(changed.elapsed() < DEADLINE, "the change to {to} was never seen");
        }
        latencies.push(changed.elapsed().as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Asks for the changing name on one connection, and on another when that is closed.
struct Asker<'a> {
    peer: &'a Peer,
    client: Option<Client<TcpStream>>,
}

impl Asker<'_> {
    async fn is_answered_by(&mut self, address: &str) -> anyhow::Result<bool> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.peer.addresses.http).await?,
        };
        // A proxy may close a connection at any time between two requests.
        let Ok(answer) = client.get(CHANGING, "/").await else { return Ok(false) };
        if answer.status != 200 {
            bail!("{} answered {}", self.peer.name, answer.status);
        }
        self.client = Some(client);
        Ok(answer.backend() == address)
    }
}
