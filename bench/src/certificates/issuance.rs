//! From nothing to a certificate of an authority: an account is made, an order, a proof.
//!
//! All order from the same Pebble, which finds every name by asking Weir's name server.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use reqwest::Method;
use rustls::ClientConfig;
use serde_json::json;

use super::{CertificateScale, pebble::Pebble, peers, server::Weir};
use crate::{
    load::client::{Client, trust},
    report::{Best, Report, Table},
    site::{DOMAIN, free_address},
};

/// Until a certificate is shown.
const DEADLINE: Duration = Duration::from_secs(60);

/// Orders of each peer at most: lego looks every few seconds only.
const OF_PEERS: usize = 5;

const WILDCARD: &str = "a wildcard, by DNS-01";
const NAME: &str = "a name, by HTTP-01";

pub(super) async fn measure(report: &mut Report, scale: CertificateScale) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let weir = Weir::start(tempfile::tempdir()?, &["--dns", "127.0.0.1:0"]).await?;
    let http = free_address()?;
    let pebble = Pebble::start(dir.path(), weir.dns()?, http).await?;
    let zone = json!({"kind": "Zone", "name": DOMAIN, "spec": {"addresses": ["127.0.0.1"]}});
    weir.api(Method::PUT, &format!("zones/{DOMAIN}"), zone).await?;
    let every_name = json!({"data": ["127.0.0.1"]});
    weir.api(Method::PUT, &format!("zones/{DOMAIN}/records/*/A"), every_name).await?;

    let name = "From nothing to a certificate";
    let mut table = Table::new(name, "ms", Best::Lowest);
    let mut samples = Vec::new();
    for _ in 0..scale.orders {
        let took = by_weir(&weir, &pebble).await?;
        table.add(WILDCARD, "weir", Ok(took.as_secs_f64() * 1000.0));
        samples.push(took);
    }
    let lego = peers::Lego::new(dir.path(), &weir)?;
    let orders = scale.orders.min(OF_PEERS);
    for i in 0..orders {
        let took = lego.order(&pebble, &format!("*.lego-{i}.{DOMAIN}"), peers::Proof::Dns);
        table.add(WILDCARD, "lego", took.map(milliseconds));
        let took = lego.order(&pebble, &format!("lego-{i}.{DOMAIN}"), peers::Proof::Http(http));
        table.add(NAME, "lego", took.map(milliseconds));
    }
    for i in 0..orders {
        let took = peers::by_caddy(dir.path(), &pebble, http, &format!("caddy-{i}.{DOMAIN}")).await;
        table.add(NAME, "caddy", took.map(milliseconds));
    }
    report.quantiles("a wildcard certificate from nothing", &mut samples, ["<= 1000", ""]);
    report.table(&table);
    Ok(())
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// Without an authority and without a certificate of any, until clients are shown one.
async fn by_weir(weir: &Weir, pebble: &Pebble) -> anyhow::Result<Duration> {
    // At first there is none.
    let _ = weir.api(Method::DELETE, "issuers/pebble", json!(null)).await;
    let _ = weir.api(Method::DELETE, &format!("certificates/{DOMAIN}"), json!(null)).await;
    let config = trust_of(&pebble.root)?;
    let host = format!("any.{DOMAIN}");
    let deleted = Instant::now();
    while Client::connect_tls(weir.https, &host, config.clone()).await.is_ok() {
        ensure!(deleted.elapsed() < DEADLINE, "the former certificate is still shown");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let began = Instant::now();
    weir.api(Method::PUT, "issuers/pebble", pebble.issuer()?).await?;
    shown(weir.https, &host, config, began).await
}

pub(super) fn trust_of(root: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    Ok(Arc::new(trust(root)?))
}

/// How long after `began` a client is shown a certificate that it trusts.
pub(super) async fn shown(
    https: std::net::SocketAddr,
    host: &str,
    config: Arc<ClientConfig>,
    began: Instant,
) -> anyhow::Result<Duration> {
    loop {
        match Client::connect_tls(https, host, config.clone()).await {
            Ok(_) => return Ok(began.elapsed()),
            Err(error) => ensure!(began.elapsed() < DEADLINE, "no certificate is shown: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
