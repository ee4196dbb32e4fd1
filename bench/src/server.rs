//! The real program on a state of its own, and the tests' web app behind it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::{site::DOMAIN, weir};

pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
    https: SocketAddr,
    admin: SocketAddr,
    token: String,
    image: String,
    /// Whose containers are to be removed.
    apps: Mutex<BTreeSet<String>>,
}

impl Server {
    /// Starts the `weir` that was built beside this program.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(args: &[&str]) -> anyhow::Result<Self> {
        let image = image()?;
        let dir = tempfile::tempdir()?;
        let mut serve = weir::serve(dir.path(), weir::any())?;
        let mut child = weir::spawn(serve.args(args), dir.path())?;
        let [_, https, admin] = weir::listening(dir.path(), &mut child).await?;
        let token = weir::token(dir.path())?;
        Ok(Self { child, dir, https, admin, token, image, apps: Mutex::default() })
    }

    pub(crate) async fn api(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let answer = reqwest::Client::new()
            .request(method.parse()?, format!("http://{}{path}", self.admin))
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{method} {path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Makes the web app, awake until it is told to sleep.
    pub(crate) async fn put_sleepy(&self, app: &str) -> anyhow::Result<()> {
        let sleep = json!({"pause_after": null, "stop_after": null, "min_awake": "0s"});
        self.put(app, json!({"sleep": sleep})).await
    }

    /// Makes the web app what is wanted, and waits until it is.
    pub(crate) async fn put(&self, app: &str, mut spec: Value) -> anyhow::Result<()> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned());
        spec["image"] = json!(self.image);
        let manifest = json!({"kind": "App", "name": app, "spec": spec});
        let shown = self.api("PUT", &format!("/v1/apps/{app}?wait=60s"), manifest).await?;
        ensure!(shown["status"]["phase"] == "ready", "{app} is not ready: {shown:#}");
        Ok(())
    }

    /// Puts the app to sleep and waits until it is.
    pub(crate) async fn sleep(&self, app: &str, level: &str) -> anyhow::Result<()> {
        let path = format!("/v1/apps/{app}/actions/sleep?wait=60s");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // The former request may not have ended on the server's side yet: that is a conflict.
            match self.api("POST", &path, json!({"level": level})).await {
                Ok(shown) if shown["status"]["phase"] == level => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    pub(crate) fn client(&self, app: &str) -> anyhow::Result<reqwest::Client> {
        let pem = fs::read(weir::roots(self.dir.path()))?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .resolve(&format!("{app}.{DOMAIN}"), self.https)
            .no_proxy();
        Ok(client.build()?)
    }

    /// The port by which devices come in, if it was started with `--devices`.
    pub(crate) fn devices(&self) -> anyhow::Result<u16> {
        let log = fs::read_to_string(weir::log(self.dir.path()))?;
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut told = events.filter(|event| event["message"] == "devices may come");
        let address = told.find_map(|event| event["address"].as_str()?.parse::<SocketAddr>().ok());
        Ok(address.context("devices may not come")?.port())
    }

    /// The certificate of the authority that its clients trust (PEM).
    pub(crate) fn authority(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(weir::roots(self.dir.path()))?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, app: &str) -> String {
        format!("https://{app}.{DOMAIN}:{}/", self.https.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let apps = self.apps.get_mut().unwrap_or_else(PoisonError::into_inner);
        for app in apps.iter() {
            let filter = format!("label=weir.app={app}");
            let containers = docker(&["ps", "--all", "--quiet", "--filter", &filter]);
            for container in containers.unwrap_or_default().lines() {
                let _ = docker(&["rm", "--force", container]);
            }
        }
    }
}

pub(crate) fn docker(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(args).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {}: {error}", args.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

pub(crate) fn image() -> anyhow::Result<String> {
    let made = Command::new("scripts/test-image").stderr(Stdio::inherit()).output()?;
    ensure!(made.status.success(), "scripts/test-image failed; run this from the project's root");
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}
