//! Weir itself, without a container engine.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;
use serde_json::Value;

use crate::{process, weir};

pub(super) struct Weir {
    dir: tempfile::TempDir,
    arguments: &'static [&'static str],
    child: Child,
    client: reqwest::Client,
    pub(super) https: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) token: String,
}

/// Until a very large state is taken in.
const READY: Duration = Duration::from_secs(300);

impl Weir {
    pub(super) async fn start(
        dir: tempfile::TempDir,
        arguments: &'static [&'static str],
    ) -> anyhow::Result<Self> {
        let (child, [_, https, admin]) = run(dir.path(), arguments).await?;
        let token = weir::token(dir.path())?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { dir, arguments, child, client, https, admin, token })
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends it and starts it anew. Returns when it was started.
    pub(super) async fn restart(&mut self) -> anyhow::Result<Instant> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        self.child.wait()?;
        // Where the new one listens is in a log of its own.
        fs::remove_file(weir::log(self.dir()))?;
        let began = Instant::now();
        let (child, [_, https, admin]) = run(self.dir.path(), self.arguments).await?;
        (self.child, self.https, self.admin) = (child, https, admin);
        Ok(began)
    }

    pub(super) async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        let url = format!("http://{}/readyz", self.admin);
        while !self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            ensure!(Instant::now() < deadline, "it is not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(super) async fn api(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> anyhow::Result<Value> {
        let request =
            self.client.request(method.clone(), format!("http://{}/v1/{path}", self.admin));
        let answer = request.bearer_auth(&self.token).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{method} {path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Where its name server answers.
    pub(super) fn dns(&self) -> anyhow::Result<SocketAddr> {
        let log = fs::read_to_string(weir::log(self.dir()))?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = events.into_iter().find(|event| event["message"] == "dns listens");
        let address = told.as_ref().and_then(|told| told["address"].as_str());
        Ok(address.context("it does not say where it answers")?.parse()?)
    }

    /// In bytes (PSS).
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        process::memory_of(self.child.id())
    }
}

async fn run(dir: &Path, arguments: &[&str]) -> anyhow::Result<(Child, weir::Addresses)> {
    let mut command = weir::serve(dir, weir::any())?;
    command.args(["--docker", "/nonexistent/docker.sock"]).args(arguments);
    let mut child = weir::spawn(&mut command, dir)?;
    let addresses = weir::listening(dir, &mut child).await?;
    Ok((child, addresses))
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
