//! What somebody does with an app and the machines that it runs on. Each step waits until it is
//! done, and everything is as it was wanted.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use weir_test_host::Host;

use super::{
    arrivals,
    book::Book,
    deployments::{Done, wait_for},
    server::Server,
};

pub(super) struct Operator<'a> {
    server: &'a Server,
    hosts: &'a [Host],
    book: &'a Book,
    app: &'static str,
    spec: Value,
    instances: u64,
    version: usize,
    pub(super) done: Done,
}

/// Instances in the usual run of things; at times there are more and fewer.
const INSTANCES: u64 = 3;

impl<'a> Operator<'a> {
    pub(super) fn new(
        server: &'a Server,
        hosts: &'a [Host],
        book: &'a Book,
        app: &'static str,
        spec: Value,
    ) -> Self {
        let (version, done) = (0, Done::default());
        Self { server, hosts, book, app, spec, instances: INSTANCES, version, done }
    }

    /// A bit of everything, and perhaps the loss of a host.
    pub(super) async fn round(&mut self, round: usize, loses: bool) -> anyhow::Result<()> {
        let host = &self.hosts[round % self.hosts.len()];
        self.deploy().await?;
        self.deploy().await?;
        self.roll_back().await?;
        self.scale(INSTANCES + 2).await?;
        self.deploy().await?;
        self.drain(host).await?;
        self.scale(INSTANCES - 1).await?;
        self.deploy().await?;
        self.roll_back().await?;
        self.scale(INSTANCES).await?;
        self.deploy().await?;
        if loses {
            self.lose(host, arrivals::numbers(round % self.hosts.len())).await?;
        }
        self.converge().await
    }

    /// Another version, by the next strategy.
    pub(super) async fn deploy(&mut self) -> anyhow::Result<()> {
        let rollouts = [
            json!({"strategy": "blue-green"}),
            json!({"strategy": "rolling"}),
            json!({"strategy": "canary", "steps": [50], "step_for": "500ms"}),
        ];
        let rollout = &rollouts[self.version % rollouts.len()];
        self.version += 1;
        self.spec["env"]["VERSION"] = json!(self.version.to_string());
        self.spec["rollout"] = rollout.clone();
        self.put(format!("version {} by {}", self.version, rollout["strategy"])).await?;
        self.done.deployments += 1;
        Ok(())
    }

    async fn scale(&mut self, instances: u64) -> anyhow::Result<()> {
        self.instances = instances;
        self.put(format!("{instances} instances")).await?;
        self.done.scalings += 1;
        Ok(())
    }

    async fn put(&self, what: String) -> anyhow::Result<()> {
        self.book.note(what.clone());
        let mut spec = self.spec.clone();
        spec["instances"] = json!(self.instances);
        let manifest = json!({"kind": "App", "name": self.app, "spec": spec});
        let path = format!("/v1/apps/{}", self.app);
        self.server.api("PUT", &path, manifest).await.context(what.clone())?;
        self.settled().await.context(what)
    }

    async fn roll_back(&mut self) -> anyhow::Result<()> {
        let before = self.live().await?;
        self.book.note(format!("back from deployment {before}"));
        let path = format!("/v1/apps/{}/actions/rollback", self.app);
        self.server.api("POST", &path, json!({})).await?;
        self.settled().await.context("a rollback")?;
        let after = self.live().await?;
        ensure!(after < before, "rolled back from {before} to {after}");
        self.done.rollbacks += 1;
        Ok(())
    }

    /// Empties a host, and lets it have instances again.
    async fn drain(&mut self, host: &Host) -> anyhow::Result<()> {
        let name = &host.name;
        self.book.note(format!("host {name} is to be drained"));
        let path = format!("/v1/hosts/{name}");
        self.server.api("POST", &format!("{path}/actions/drain"), json!({})).await?;
        wait_for(&format!("{name} to be empty"), async || {
            let shown = self.server.api("GET", &path, Value::Null).await?;
            Ok((shown["status"]["instances"] == 0).then_some(()))
        })
        .await?;
        self.book.note(format!("host {name} is empty"));
        self.settled().await?;
        self.server.api("POST", &format!("{path}/actions/uncordon"), json!({})).await?;
        self.done.drains += 1;
        Ok(())
    }

    /// Cuts a host off until it is lost and what it had is replaced, and lets it return.
    async fn lose(&mut self, host: &Host, upstreams: std::ops::Range<u16>) -> anyhow::Result<()> {
        let (name, from) = (&host.name, self.book.age());
        self.book.note(format!("host {name} is cut off"));
        host.cut_off();
        self.wait_for_state(name, "lost").await?;
        self.book.lose(upstreams, from);
        self.book.note(format!("host {name} is lost, and gets no requests any more"));
        self.settled().await?;
        self.book.note(format!("what host {name} had is replaced"));
        host.connect();
        self.wait_for_state(name, "ready").await?;
        let live = self.live().await?;
        wait_for("the duplicates to go", async || {
            let instances = self.instances().await?;
            let current = instances.iter().filter(|i| i["deployment"] == live);
            Ok((current.count() as u64 == self.instances).then_some(()))
        })
        .await?;
        self.book.note(format!("host {name} is back"));
        self.done.losses += 1;
        Ok(())
    }

    /// Brings every instance to where it belongs.
    async fn converge(&self) -> anyhow::Result<()> {
        self.book.note("instances are brought home".to_owned());
        self.server.api("POST", "/v1/hosts/actions/converge", json!({})).await?;
        wait_for("no drift", async || {
            let dry = json!({"dry_run": true});
            let drift = self.server.api("POST", "/v1/hosts/actions/converge", dry).await?;
            Ok(drift["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        })
        .await?;
        self.settled().await
    }

    /// Fails if the engines run anything that is not wanted, or do not run what is.
    pub(super) async fn nothing_is_left(&self) -> anyhow::Result<()> {
        let filter = format!("label=weir.app={}", self.app);
        let list = ["ps", "--quiet", "--filter", &filter, "--filter", "status=running"];
        wait_for("the engines to run what is wanted, and nothing else", async || {
            let running = self.hosts.iter().map(|host| host.docker(&list).lines().count() as u64);
            Ok((running.sum::<u64>() == self.instances).then_some(()))
        })
        .await
    }

    async fn wait_for_state(&self, host: &str, state: &str) -> anyhow::Result<()> {
        wait_for(&format!("{host} to be {state}"), async || {
            let shown = self.server.api("GET", &format!("/v1/hosts/{host}"), Value::Null).await?;
            Ok((shown["status"]["state"] == state).then_some(()))
        })
        .await
    }

    /// Waits until there is what is wanted, and nothing is on its way any more.
    async fn settled(&self) -> anyhow::Result<()> {
        wait_for("the app to be as it should be", async || {
            let shown = self.shown().await?;
            let status = &shown["status"];
            let is_ready = status["phase"] == "ready"
                && status["ready_instances"] == self.instances
                && status["deployment"] == status["live_deployment"];
            Ok(is_ready.then_some(()))
        })
        .await
    }

    async fn shown(&self) -> anyhow::Result<Value> {
        self.server.api("GET", &format!("/v1/apps/{}?wait=30s", self.app), Value::Null).await
    }

    async fn live(&self) -> anyhow::Result<u64> {
        self.shown().await?["status"]["live_deployment"].as_u64().context("nothing is live")
    }

    async fn instances(&self) -> anyhow::Result<Vec<Value>> {
        let mut list = self.server.api("GET", "/v1/instances", Value::Null).await?;
        let Value::Array(items) = list["items"].take() else { bail!("no list: {list}") };
        Ok(items.into_iter().filter(|item| item["app"] == self.app).collect())
    }
}
