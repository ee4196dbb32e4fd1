//! How much a wake through Weir takes beside the same call to the engine and the same request.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weir_config::{HostName, InstanceId};
use weir_deploy::{Docker, Provider};

use crate::{
    report::Report,
    server::{Server, docker, image},
};

/// The container that is woken without Weir.
const RAW: &str = "weir-bench-raw";

pub(crate) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let server = Server::start().await?;
    measure_level(report, &server, "paused", 200, 10.0).await?;
    measure_level(report, &server, "stopped", 40, 15.0).await
}

/// Alternates between the two, so that both meet the machine in the same mood.
async fn measure_level(
    report: &mut Report,
    server: &Server,
    level: &str,
    rounds: usize,
    aim: f64,
) -> anyhow::Result<()> {
    server.put_sleepy(level).await?;
    let raw = Raw::start()?;
    let client = server.client(level)?;
    let plain = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
    let (mut through, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        server.sleep(level, level).await?;
        through.push(timed(get(&client, &server.url(level))).await?);
        raw.sleep(level).await?;
        beside.push(timed(raw.wake(level, &plain)).await?);
    }
    let name = format!("wake from {level} through Weir");
    let [through, _] = report.quantiles(&name, &mut through, ["", ""]);
    let name = format!("wake from {level} by the engine alone");
    let [beside, _] = report.quantiles(&name, &mut beside, ["", ""]);
    let aim = format!("<= {aim}");
    report.figure(&format!("wake from {level}: Weir's own share"), through - beside, "ms", &aim);
    Ok(())
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

/// Until the first byte of the answer.
async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<()> {
    let status = client.get(url).send().await?.status();
    ensure!(status == 200, "{url} answered {status}");
    Ok(())
}

/// A container of the same image, made like Weir's own, and woken by the same calls.
struct Raw {
    engine: Docker,
    instance: InstanceId,
}

impl Raw {
    fn start() -> anyhow::Result<Self> {
        let instance = InstanceId {
            app: "bench-raw".parse().map_err(anyhow::Error::msg)?,
            deployment: 1,
            ordinal: 0,
            host: HostName::local(),
        };
        let name = instance.container_name();
        let _ = docker(&["rm", "--force", &name]);
        let label = |key: &str, value: &str| format!("--label=weir.{key}={value}");
        let (cluster, app) = (label("cluster", RAW), label("app", "bench-raw"));
        let (deployment, ordinal) = (label("deployment", "1"), label("ordinal", "0"));
        let (port, template) = (label("port", "8080"), label("template", "none"));
        let labels = [&cluster, &app, &deployment, &ordinal, &port, &template].map(|l| l.as_str());
        let run = ["run", "--detach", "--name", &name];
        docker(&[&run[..], &labels[..], &[&image()?]].concat())?;
        let socket = Path::new("/var/run/docker.sock");
        Ok(Self { engine: Docker::new(HostName::local(), socket, RAW), instance })
    }

    async fn sleep(&self, level: &str) -> anyhow::Result<()> {
        match level {
            "paused" => self.engine.pause(&self.instance).await?,
            _ => self.engine.stop(&self.instance, Duration::from_secs(10)).await?,
        }
        Ok(())
    }

    /// Wakes it and asks until it answers, without a pause between two tries.
    async fn wake(&self, level: &str, client: &reqwest::Client) -> anyhow::Result<()> {
        match level {
            "paused" => self.engine.unpause(&self.instance).await?,
            _ => self.engine.start(&self.instance).await?,
        }
        let container = self.engine.inspect(&self.instance).await?.context("no container")?;
        let url = format!("http://{}:8080/", container.address.context("no address")?);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match get(client, &url).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", &self.instance.container_name()]);
    }
}
