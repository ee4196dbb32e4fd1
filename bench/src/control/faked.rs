//! The program `faked` as it was built beside this one.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    load::client::Client,
    process::Process,
    site::{DOMAIN, Site, sibling},
    weir,
};

/// Far above what anything takes that is waited for here.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

pub(super) struct Faked {
    pub(super) process: Process,
    dir: tempfile::TempDir,
    http: SocketAddr,
    admin: SocketAddr,
    client: reqwest::Client,
}

impl Faked {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(sibling("faked")?);
        command.arg(dir.path().join("state")).arg(DOMAIN);
        let mut process = Process::measured(dir.path(), "faked", &command)?;
        let deadline = Instant::now() + DEADLINE;
        let [http, _https, admin] = loop {
            process.ensure_runs()?;
            let said = fs::read_to_string(dir.path().join("faked.log"))?;
            let addresses = said.lines().next().unwrap_or_default().split(' ');
            let addresses: Vec<SocketAddr> = addresses.flat_map(str::parse).collect();
            if let Ok(addresses) = addresses.try_into() {
                break addresses;
            }
            ensure!(Instant::now() < deadline, "faked does not say where it listens: {said}");
            sleep(Duration::from_millis(10)).await;
        };
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { process, dir, http, admin, client })
    }

    pub(super) async fn api(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let url = format!("http://{}{path}", self.admin);
        let token = weir::token(&self.dir.path().join("state"))?;
        let request = self.client.request(method.parse()?, url).bearer_auth(token);
        let answer = request.json(&body).timeout(DEADLINE).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{method} {path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Makes an app whose containers say that they are the site's backend.
    pub(super) async fn put(&self, app: &str, sleep: Value, site: &Site) -> anyhow::Result<()> {
        let spec = json!({
            "image": "faked",
            "port": site.backend(0).port(),
            "health": {"type": "tcp"},
            "http": "serve",
            "sleep": sleep,
        });
        let manifest = json!({"kind": "App", "name": app, "spec": spec});
        self.api("PUT", &format!("/v1/apps/{app}"), manifest).await.map(drop)
    }

    /// How many instances are in a state.
    pub(super) async fn count(&self, state: &str) -> anyhow::Result<usize> {
        let list = self.api("GET", "/v1/instances", Value::Null).await?;
        let Some(items) = list["items"].as_array() else { bail!("no list: {list}") };
        Ok(items.iter().filter(|item| item["state"] == state).count())
    }

    /// Restarts the engine. What runs has other addresses then.
    pub(super) fn restart_engine(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    /// Asks an app; which of the backend's addresses has answered.
    pub(super) async fn ask(&self, app: &str) -> anyhow::Result<String> {
        let mut client = Client::<TcpStream>::connect(self.http).await?;
        let answer = client.get(&format!("{app}.{DOMAIN}"), "/").await.context("no answer")?;
        ensure!(answer.status == 200, "{app} answered {}", answer.status);
        Ok(answer.backend().to_owned())
    }
}
