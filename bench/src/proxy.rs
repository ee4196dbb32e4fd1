//! Processor time of each proxy for the same work.

use std::time::Duration;

use anyhow::anyhow;

use crate::{
    Options,
    load::Load,
    peers::{self, Peer},
    process,
    report::{Best, Report, Table},
    site::Site,
};

const ROWS: &[(&str, Load)] = &[
    ("HTTP/1.1 keep-alive, 64 connections", http("http", 64, "/")),
    ("  256 connections", http("http", 256, "/")),
    ("  1,024 connections", http("http", 1024, "/")),
    ("  64 connections over TLS 1.3", http("https", 64, "/")),
    ("  64 connections, bodies of 100 KB", http("http", 64, "/large")),
    ("HTTP/2 over TLS, 16 connections x 16 streams", Load::Http2 { scheme: "https" }),
    ("HTTP/2 without TLS (h2c), 16 x 16", Load::Http2 { scheme: "http" }),
    ("HTTP/1.1, new connection each", Load::Connections { connections: 64 }),
    ("TLS, full handshake each", Load::Handshakes { resumed: false }),
    ("TLS, resumed handshake each", Load::Handshakes { resumed: true }),
    ("WebSocket echo, 64 connections", Load::WebSocket { connections: 64 }),
];

const fn http(scheme: &'static str, connections: usize, path: &'static str) -> Load {
    Load::Http { scheme, connections, path }
}

const METHOD: &str = "\
All have one worker on a core of its own, the same certificate (ECDSA P-256), backend and load,
kept-alive connections to the backend, and no access log but weir+log. HTTP/1.1 asks for all names
in turn, HTTP/2 for one (h2load knows no more), handshakes and WebSocket for a few.";

pub(crate) async fn measure(report: &mut Report, options: &Options) -> anyhow::Result<()> {
    process::make_room()?;
    let mut site = Site::start()?;
    let mut peers = peers::start(&site, &options.peers).await?;
    peers.iter().for_each(|peer| report.peer(peer));
    println!("{METHOD}");
    let mut table = Table::new("CPU of the proxy for a request", "µs", Best::Lowest);
    let mut handshakes = Table::new("TLS handshakes with a request each", "/s", Best::Highest);
    // Each round visits every cell, so that all meet the machine in the same moods. The first only
    // warms up.
    for round in 0..=options.runs {
        let time = Duration::from_secs(if round == 0 { 1 } else { options.seconds });
        for (name, load) in ROWS {
            for peer in peers.iter_mut().filter(|peer| load.is_offered_by(peer)) {
                let cost = cost(&site, peer, *load, time).await;
                if let Err(error) = &cost {
                    eprintln!("{name}: {}: {error:#}", peer.name);
                }
                if round == 0 {
                    continue;
                }
                if let Load::Handshakes { .. } = load {
                    let rate = cost.as_ref().map(|cost| 1e6 / cost);
                    handshakes.add(name, peer.name, rate.map_err(|error| anyhow!("{error:#}")));
                }
                table.add(name, peer.name, cost);
            }
        }
        site.ensure_runs()?;
        eprintln!("round {round} of {} is done", options.runs);
    }
    report.table(&table);
    report.table(&handshakes);
    Ok(())
}

/// Microseconds of processor time for a request.
async fn cost(site: &Site, peer: &mut Peer, load: Load, time: Duration) -> anyhow::Result<f64> {
    peer.process.ensure_runs()?;
    let before = peer.process.cpu()?;
    let requests = load.run(site, peer, time).await?;
    let spent = peer.process.cpu()?.saturating_sub(before);
    peer.process.clear_log()?;
    Ok(spent.as_secs_f64() * 1e6 / requests as f64)
}
