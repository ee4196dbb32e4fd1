//! The real program through upgrades and crashes, on a state and on ports of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::site::{DOMAIN, sibling};

/// Far above what anything takes that is waited for here.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Server {
    program: PathBuf,
    dir: tempfile::TempDir,
    child: Child,
    /// Processes that took over, in order: the last one serves.
    successors: Mutex<Vec<u32>>,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    admin: SocketAddr,
    token: String,
    client: reqwest::Client,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = sibling("weir")?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut child = serve(&program, dir.path(), [any; 3])?;
        let addresses = addresses(dir.path(), &mut child).await;
        let [http, https, admin] = addresses.inspect_err(|_| {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let token = fs::read_to_string(dir.path().join("admin.token"))?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let successors = Mutex::default();
        Ok(Self { program, dir, child, successors, http, https, admin, token, client })
    }

    /// The certificate of the authority that its clients trust.
    pub(super) fn roots(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(super) fn host(app: &str) -> String {
        format!("{app}.{DOMAIN}")
    }

    /// Lets one program follow the other, as an operator does.
    pub(super) async fn upgrade(&self) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("upgrade").env("WEIR_STATE_DIR", self.dir.path());
        let output = command.output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "weir upgrade: {told}\n{}", self.complaints());
        let serving = fs::read_to_string(self.dir.path().join("serve.lock"))?.trim().parse()?;
        lock(&self.successors).push(serving);
        Ok(())
    }

    /// What an upgrade is not: an end without a word, and then a start.
    pub(super) fn crash(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.child = serve(&self.program, self.dir.path(), [self.http, self.https, self.admin])?;
        Ok(())
    }

    /// Waits until all processes have ended but the one that serves.
    pub(super) async fn predecessors_ended(&mut self) -> anyhow::Result<()> {
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
    pub(super) async fn put(&self, app: &str, spec: Value) -> anyhow::Result<()> {
        let manifest = json!({"kind": "App", "name": app, "spec": spec});
        let url = format!("http://{}/v1/apps/{app}?wait=30s", self.admin);
        let request = || self.client.put(&url).bearer_auth(&self.token).json(&manifest);
        self.ask(request).await.with_context(|| format!("the change of {app}")).map(drop)
    }

    /// How many snapshots there have been.
    pub(super) async fn generation(&self) -> anyhow::Result<u64> {
        let url = format!("http://{}/metrics", self.admin);
        let metrics = self.ask(|| self.client.get(&url)).await?;
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix("weir_snapshot_generation "));
        Ok(value.context("no generation in the metrics")?.parse::<f64>()? as u64)
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
    pub(super) fn complaints(&self) -> String {
        let log = fs::read_to_string(log(self.dir.path())).unwrap_or_default();
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

fn serve(program: &Path, dir: &Path, listeners: [SocketAddr; 3]) -> anyhow::Result<Child> {
    let [http, https, admin] = listeners.map(|address| address.to_string());
    let log = File::options().append(true).create(true).open(log(dir))?;
    Command::new(program)
        .args(["serve", "--http", &http, "--https", &https, "--admin", &admin])
        .args(["--base-domain", DOMAIN, "--shutdown-grace", GRACE, "--access-log", "false"])
        // No app here has a container.
        .args(["--docker", "/nonexistent/docker.sock"])
        .env("WEIR_STATE_DIR", dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))
}

fn log(dir: &Path) -> PathBuf {
    dir.join("weir.log")
}

/// Where it listens, as its log tells.
async fn addresses(dir: &Path, child: &mut Child) -> anyhow::Result<[SocketAddr; 3]> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(log(dir))?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events: Vec<_> = events.collect();
        let address = |message: &str| -> Option<SocketAddr> {
            let event = events.iter().find(|event| event["message"] == message)?;
            event["address"].as_str()?.parse().ok()
        };
        let told = ["http listens", "https listens", "the admin API listens"].map(address);
        if let [Some(http), Some(https), Some(admin)] = told {
            return Ok([http, https, admin]);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}: {text}");
        }
        ensure!(Instant::now() < deadline, "the server does not listen: {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A list of processes is whole even after a panic.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
