//! From an operator's wish to the first request that meets it: a deployment whose image is there,
//! and a rollback.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::{report::Report, server::Server};

const APP: &str = "rollout";
const ROUNDS: u32 = 20;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client(APP)?;
    let path = format!("/v1/apps/{APP}");
    let rollback = format!("{path}/actions/rollback");
    // It is served, and the loop is done with it.
    let settled = async || {
        let shown = server.api("GET", &format!("{path}?wait=60s"), json!(null)).await?;
        ensure!(shown["status"]["phase"] == "ready", "{APP} is not ready: {shown:#}");
        anyhow::Ok(())
    };
    let routed = async |version: u32, since: Instant| {
        let expected = format!("version {version},");
        loop {
            let text = client.get(server.url(APP)).send().await?.error_for_status()?.text().await?;
            if text.contains(&expected) {
                return anyhow::Ok(since.elapsed());
            }
            ensure!(since.elapsed() < LIMIT, "version {version} does not answer: {text}");
        }
    };
    let deploy = async |version: u32| {
        server.put(APP, json!({"env": {"VERSION": version.to_string()}})).await
    };
    deploy(0).await?;
    settled().await?;
    let (mut deployments, mut rollbacks) = (Vec::new(), Vec::new());
    for version in 1..=ROUNDS {
        let began = Instant::now();
        let (wanted, took) = tokio::join!(deploy(version), routed(version, began));
        wanted?;
        deployments.push(took?);
        settled().await?;
        let began = Instant::now();
        let back = server.api("POST", &rollback, json!({}));
        let (wanted, took) = tokio::join!(back, routed(version - 1, began));
        wanted?;
        rollbacks.push(took?);
        settled().await?;
        let to = json!({"to": u64::from(version) + 1});
        server.api("POST", &format!("{rollback}?wait=60s"), to).await?;
    }
    let name = "deployment with its image there, to its first request";
    report.quantiles(name, &mut deployments, ["<= 1500", ""]);
    report.quantiles("rollback, to its first request", &mut rollbacks, ["<= 1000", ""]);
    Ok(())
}
