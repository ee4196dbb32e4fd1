//! One device: a machine in a network of its own, with a Docker Engine and the agent.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;
use weir_test_host::{Host, Reach};

use super::DEADLINE;
use crate::{server::Server, site::sibling};

pub(super) fn machine(image: &str) -> Host {
    let [machine] = Host::start_all([("bench", Reach::Agent)], image);
    machine
}

/// The agent on a machine, as one device. Another one may follow on the same machine.
pub(super) struct Device {
    pub(super) name: String,
    agent: Child,
    _state: tempfile::TempDir,
}

impl Device {
    /// By the printed line, until it is a host that answers.
    pub(super) async fn join(server: &Server, machine: &Host, name: &str) -> anyhow::Result<Self> {
        let invite = server.api("POST", "/v1/devices/actions/invite", json!({})).await?;
        let token = invite["token"].as_str().context("no token")?.to_owned();
        let control = format!("{}:{}", machine.gateway, server.devices()?);
        let state = tempfile::tempdir()?;
        let program = sibling("weir-agent")?;
        ensure!(
            program.exists(),
            "there is no weir-agent: cargo build --release -p weir-edge-agent --no-default-features"
        );
        let command = |args: &[&str]| {
            let mut command = machine.inside(&program);
            command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
            command.env("WEIR_AGENT_STATE_DIR", state.path());
            command.env("WEIR_AGENT_DOCKER", machine.socket_file());
            command
        };
        let args = ["enroll", "--control", &control, "--token", &token, "--name", name];
        ensure!(command(&args).status()?.success(), "{name} is not enrolled");
        let agent = command(&["run"]).spawn()?;
        let device = Self { name: name.to_owned(), agent, _state: state };
        let began = Instant::now();
        while server.api("GET", &format!("/v1/hosts/{name}"), Value::Null).await?["status"]["state"]
            != "ready"
        {
            ensure!(began.elapsed() < DEADLINE, "{name} is not ready");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(device)
    }

    /// The process of the agent: `nsenter` becomes it.
    pub(super) fn agent(&self) -> u32 {
        self.agent.id()
    }

    /// Of the only container that runs there.
    pub(super) fn container_address(&self, machine: &Host) -> anyhow::Result<String> {
        let id = machine.running().into_iter().next().context("nothing runs there")?;
        Ok(machine.docker(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &id]))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// A way from this machine to a container on another one, while this is kept.
pub(super) struct Route(String);

impl Route {
    pub(super) fn add(to: &str, via: &str) -> anyhow::Result<Self> {
        let added = Command::new("ip").args(["route", "add", to, "via", via]).status()?;
        ensure!(added.success(), "no route to {to}");
        Ok(Self(to.to_owned()))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // It goes with its interface, too.
        let _ = Command::new("ip").args(["route", "del", &self.0]).status();
    }
}
