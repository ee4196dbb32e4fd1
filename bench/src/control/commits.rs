//! From a change of an app by the API to the first request that meets it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    ledger::server::Server,
    load::client::Client,
    report::Report,
    site::{DOMAIN, Site},
};

/// So many change apps at once, each one its own.
const WRITERS: [u64; 3] = [1, 4, 16];
/// Of each of these, by all of them together.
const CHANGES: u64 = 2_000;

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let (server, site) = (Server::start().await?, Site::start()?);
    for writers in WRITERS {
        let left = AtomicU64::new(CHANGES);
        let writer = |n| write(n, &left, &server, &site);
        let all = futures::future::try_join_all((0..writers).map(writer)).await?;
        let (mut routed, stale): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut routed = routed.drain(..).flatten().collect::<Vec<_>>();
        let name = format!("change by the API to routed, {writers} at once");
        report.quantiles(&name, &mut routed, ["", "<= 25"]);
        report.figure("  answered before it was served", stale.iter().sum::<u64>() as f64, "", "0");
    }
    Ok(())
}

/// Gives an app another host name and asks for it, again and again. How long each took, and how
/// often the first request for it was not served.
async fn write(
    n: u64,
    left: &AtomicU64,
    server: &Server,
    site: &Site,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let (app, mut took, mut stale) = (format!("written-{n}"), Vec::new(), 0);
    let put = async |name: &str| {
        let spec = json!({
            "upstreams": [site.backend(0)],
            "hostnames": [name],
            "http": "serve",
        });
        let manifest = json!({"kind": "App", "name": app, "spec": spec});
        server.api("PUT", &format!("/v1/apps/{app}"), manifest).await
    };
    put(&format!("first-{n}.{DOMAIN}")).await?;
    server.api("GET", &format!("/v1/apps/{app}?wait=30s"), json!(null)).await?;
    let mut client = Client::<TcpStream>::connect(server.http).await?;
    while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
        let name = format!("written-{n}-{}.{DOMAIN}", took.len());
        let began = Instant::now();
        put(&name).await?;
        while client.get(&name, "/").await?.status != 200 {
            stale += 1;
            ensure!(began.elapsed() < Duration::from_secs(10), "{name} is not served");
        }
        took.push(began.elapsed());
    }
    Ok((took, stale))
}
