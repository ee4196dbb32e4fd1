//! Devices: one real one in a network of its own, and very many that are pretended.

mod device;
mod fleet;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;
use weir_test_host::Host;

use self::device::Device;
use crate::{
    process::{cpu_of, memory_of},
    report::{Best, Report, Table},
    server::Server,
};

pub(crate) use fleet::measure as fleet;

const APP: &str = "bench-edge";
/// The same container, reached by plain TCP.
const DIRECT: &str = "bench-edge-direct";
const ENROLMENTS: usize = 5;
const REQUESTS: usize = 2000;
const RETURNS: usize = 5;
/// What is sent at once, and how often.
const UPLOAD: usize = 64 << 20;
const UPLOADS: usize = 5;
const IDLE: Duration = Duration::from_secs(20);
/// Far above anything that is waited for.
const DEADLINE: Duration = Duration::from_secs(60);
const MIB: f64 = (1 << 20) as f64;

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start_with(&["--devices", "0.0.0.0:0"]).await?;
    let machine = device::machine(&crate::server::image()?);
    let mut first = Vec::new();
    for round in 0..ENROLMENTS {
        let began = Instant::now();
        let device = Device::join(&server, &machine, &format!("bench-{round}")).await?;
        server.put(APP, on(&device.name)).await?;
        until_answered(&server, APP).await?;
        first.push(began.elapsed());
        if round + 1 == ENROLMENTS {
            agent_alone(report, &device).await?;
            beside_tcp(report, &server, &device, &machine).await?;
            returns(report, &server, &machine).await?;
        }
        server.api("DELETE", &format!("/v1/apps/{APP}?wait=60s"), Value::Null).await?;
    }
    report.quantiles("from the invitation to the first answer", &mut first, ["", ""]);
    Ok(())
}

fn on(device: &str) -> Value {
    json!({
        "health": {"type": "http", "path": "/healthz", "interval": "1s"},
        "placement": {"hosts": {"device": device}},
    })
}

async fn until_answered(server: &Server, app: &str) -> anyhow::Result<()> {
    let client = server.client(app)?;
    let began = Instant::now();
    loop {
        let answer = client.get(server.url(app)).timeout(Duration::from_secs(2)).send().await;
        if answer.is_ok_and(|answer| answer.status() == 200) {
            return Ok(());
        }
        ensure!(began.elapsed() < DEADLINE, "{app} does not answer");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What the agent costs while nothing is asked.
async fn agent_alone(report: &mut Report, device: &Device) -> anyhow::Result<()> {
    let before = cpu_of(device.agent())?;
    sleep(IDLE).await;
    let share = (cpu_of(device.agent())? - before).as_secs_f64() / IDLE.as_secs_f64();
    report.figure("the agent, one app, nothing asked", share * 100.0, "% core", "");
    let memory = memory_of(device.agent())? as f64 / MIB;
    report.figure("the agent's memory (PSS)", memory, "MiB", "<= 15");
    Ok(())
}

/// The same container through the device's connection, and by a route to it.
async fn beside_tcp(
    report: &mut Report,
    server: &Server,
    device: &Device,
    machine: &Host,
) -> anyhow::Result<()> {
    let address = device.container_address(machine)?;
    let _route = device::Route::add(&address, &machine.address)?;
    let upstreams = json!({"upstreams": [format!("{address}:8080")]});
    let manifest = json!({"kind": "App", "name": DIRECT, "spec": upstreams});
    let path = format!("/v1/apps/{DIRECT}?wait=60s");
    server.api("PUT", &path, manifest).await?;
    until_answered(server, DIRECT).await?;
    let mut waits = [Vec::new(), Vec::new()];
    let clients = [server.client(APP)?, server.client(DIRECT)?];
    let apps = [APP, DIRECT];
    for _ in 0..REQUESTS {
        // By turns, so that both meet the machine in the same mood.
        for (i, waits) in waits.iter_mut().enumerate() {
            let began = Instant::now();
            let answer = clients[i].get(server.url(apps[i])).send().await?;
            ensure!(answer.status() == 200, "{}", answer.status());
            answer.bytes().await?;
            waits.push(began.elapsed());
        }
    }
    let [through, direct] = &mut waits;
    report.quantiles("a request through the device's connection", through, ["", ""]);
    report.quantiles("the same by plain TCP", direct, ["", ""]);

    let mut table = Table::new("A body of 64 MiB to an app", "MiB/s", Best::Highest);
    for _ in 0..UPLOADS {
        for (i, how) in ["device", "plain TCP"].into_iter().enumerate() {
            table.add("one upload", how, upload(&clients[i], &server.url(apps[i])).await);
        }
    }
    report.table(&table);
    server.api("DELETE", &path, Value::Null).await?;
    Ok(())
}

async fn upload(client: &reqwest::Client, url: &str) -> anyhow::Result<f64> {
    let body = vec![7; UPLOAD];
    let began = Instant::now();
    let answer = client.post(format!("{url}echo")).body(body).send().await?.text().await?;
    ensure!(answer.contains(&format!("body: {UPLOAD} bytes")), "{answer}");
    Ok(UPLOAD as f64 / MIB / began.elapsed().as_secs_f64())
}

/// From the moment that the line is mended to the first answer.
async fn returns(report: &mut Report, server: &Server, machine: &Host) -> anyhow::Result<()> {
    let mut returns = Vec::new();
    for _ in 0..RETURNS {
        machine.cut_off();
        // For as long as it takes both sides to notice.
        sleep(Duration::from_secs(15)).await;
        machine.connect();
        let began = Instant::now();
        until_answered(server, APP).await.context("after the return")?;
        returns.push(began.elapsed());
    }
    report.quantiles("from the mended line to an answer", &mut returns, ["<= 5000", ""]);
    Ok(())
}
