//! The real program through upgrades and crashes, on a state and on ports of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    site::{DOMAIN, sibling},
    weir,
};

/// Far above what anything takes that is waited for here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    dir: tempfile::TempDir,
    more: Vec<String>,
    child: Child,
    /// Processes that took over, in order: the last one serves.
    successors: Mutex<Vec<u32>>,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    admin: SocketAddr,
    token: String,
    client: reqwest::Client,
}

impl Server {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// With more arguments.
    pub(crate) async fn start_with(more: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let more: Vec<_> = more.iter().map(ToString::to_string).collect();
        let mut child = serve(dir.path(), weir::any(), &more)?;
        let [http, https, admin] = weir::listening(dir.path(), &mut child).await?;
        let token = weir::token(dir.path())?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let successors = Mutex::default();
        Ok(Self { dir, more, child, successors, http, https, admin, token, client })
    }

    /// The certificate of the authority that its clients trust.
    pub(crate) fn roots(&self) -> PathBuf {
        weir::roots(self.dir.path())
    }

    pub(crate) fn host(app: &str) -> String {
        format!("{app}.{DOMAIN}")
    }

    /// Lets one program follow the other, as an operator does.
    pub(crate) async fn upgrade(&self) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(sibling("weir")?);
        command.arg("upgrade").env("WEIR_STATE_DIR", self.dir.path());
        let output = command.output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "weir upgrade: {told}\n{}", self.complaints());
        let serving = fs::read_to_string(self.dir.path().join("serve.lock"))?.trim().parse()?;
        lock(&self.successors).push(serving);
        Ok(())
    }

    /// What an upgrade is not: an end without a word, and then a start.
    pub(crate) fn crash(&mut self) -> anyhow::Result<()> {
        self.kill();
        let listen = [self.http, self.https, self.admin];
        self.child = serve(self.dir.path(), listen, &self.more)?;
        Ok(())
    }

    /// Waits until all processes have ended but the one that serves.
    pub(crate) async fn predecessors_ended(&mut self) -> anyhow::Result<()> {
        let mut former = lock(&self.successors).clone();
        if former.pop().is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait()?.is_none() || former.iter().any(|pid| self.is_ours(*pid)) {
            ensure!(Instant::now() < deadline, "a process lives on that has a successor");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Makes an app, or changes it. This is no request of the ledger: during an upgrade it is asked
    /// for again, until it is done.
    pub(crate) async fn put(&self, app: &str, spec: Value) -> anyhow::Result<()> {
        let manifest = json!({"kind": "App", "name": app, "spec": spec});
        let url = format!("http://{}/v1/apps/{app}?wait=30s", self.admin);
        let request = || self.client.put(&url).bearer_auth(&self.token).json(&manifest);
        self.ask(request).await.with_context(|| format!("the change of {app}")).map(drop)
    }

    /// Asks the admin API for something, once.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let url = format!("http://{}{path}", self.admin);
        let request = self.client.request(method.parse()?, url).bearer_auth(&self.token);
        let answer = request.json(&body).timeout(2 * DEADLINE).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{method} {path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// How many snapshots there have been.
    pub(crate) async fn generation(&self) -> anyhow::Result<u64> {
        let url = format!("http://{}/metrics", self.admin);
        let metrics = self.ask(|| self.client.get(&url)).await?;
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix("weir_snapshot_generation "));
        Ok(value.context("no generation in the metrics")?.parse::<f64>()? as u64)
    }

    /// A look at its metrics.
    pub(crate) fn metrics(&self) -> reqwest::RequestBuilder {
        let url = format!("http://{}/metrics", self.admin);
        self.client.get(url).timeout(DEADLINE)
    }

    async fn ask(&self, request: impl Fn() -> reqwest::RequestBuilder) -> anyhow::Result<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = async {
                let answer = request().timeout(DEADLINE).send().await?;
                let (status, text) = (answer.status(), answer.text().await?);
                ensure!(status.is_success(), "{status}: {text}");
                anyhow::Ok(text)
            };
            match answer.await {
                Ok(text) => return Ok(text),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Warnings and errors in its log.
    pub(crate) fn complaints(&self) -> String {
        let log = fs::read_to_string(weir::log(self.dir.path())).unwrap_or_default();
        let severe = ["\"WARN\"", "\"ERROR\""];
        let bad = log.lines().filter(|line| severe.iter().any(|level| line.contains(level)));
        bad.collect::<Vec<_>>().join("\n")
    }

    /// Whether it is one of the processes that were started on this state directory, and lives.
    fn is_ours(&self, pid: u32) -> bool {
        let variable = format!("WEIR_STATE_DIR={}", self.dir.path().display());
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|line| line == variable.as_bytes())
    }

    fn kill(&mut self) {
        // They may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in lock(&self.successors).drain(..) {
            if self.is_ours(pid) {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Longer than any WebSocket of ours lives.
const GRACE: &str = "60s";

fn serve(dir: &Path, listen: weir::Addresses, more: &[String]) -> anyhow::Result<Child> {
    let mut command = weir::serve(dir, listen)?;
    command
        .args(["--shutdown-grace", GRACE, "--access-log", "false"])
        // No app here has a container.
        .args(["--docker", "/nonexistent/docker.sock"])
        .args(more);
    weir::spawn(&mut command, dir)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A list of processes is whole even after a panic.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
