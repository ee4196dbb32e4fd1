//! A thousand requests at once for one sleeping app.

use std::time::Instant;

use serde_json::json;

use crate::{
    report::Report,
    server::{Server, docker},
};

const REQUESTS: usize = 1000;

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.put_sleepy("herd").await?;
    server.sleep("herd", "stopped").await?;
    let since = docker(&["info", "--format", "{{.SystemTime}}"])?;
    let (client, url) = (server.client("herd")?, server.url("herd"));
    let began = Instant::now();
    let answers = futures::future::join_all((0..REQUESTS).map(|_| client.get(&url).send())).await;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let answered = answers.iter().filter(|a| a.as_ref().is_ok_and(|a| a.status() == 200)).count();
    let until = docker(&["info", "--format", "{{.SystemTime}}"])?;
    let events = docker(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        "event=start",
        "--filter",
        "label=weir.app=herd",
    ])?;
    report.figure(
        &format!("{REQUESTS} requests at once, asleep: answered"),
        answered as f64,
        "",
        "1000",
    );
    report.figure("  starts seen by the engine", events.lines().count() as f64, "", "1");
    report.figure("  until the last answer", took, "ms", "");
    server.api("DELETE", "/v1/apps/herd", json!({})).await?;
    Ok(())
}
