//! Devices: machines in network namespaces, with a Docker Engine and the agent, that connect to a
//! Weir on this machine.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use weir_test_host::{Host, Reach};

use super::{DEADLINE, Weir, image, spec};

/// When it is dropped, nothing of it is left.
pub struct Device {
    /// Before the machine, which takes its containers with it.
    agent: Mutex<Option<Child>>,
    pub machine: Host,
    state: tempfile::TempDir,
    /// Set for its agent.
    env: Vec<(&'static str, String)>,
}

impl Device {
    pub fn start_all<const N: usize>(names: [&str; N]) -> [Self; N] {
        let program = program();
        assert!(program.exists(), "{}", program.display());
        let machines = names.map(|name| (name, Reach::Agent));
        Host::start_all(machines, &image()).map(|machine| Self {
            agent: Mutex::default(),
            machine,
            state: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        })
    }

    /// Trades an invitation for an identity.
    pub fn enrol(&self, weir: &Weir, token: &str) -> Output {
        let control = format!("{}:{}", self.machine.gateway, weir.devices().port());
        let name = self.machine.name.as_str();
        let args = ["enroll", "--control", &control, "--token", token, "--name", name];
        self.command(&args).output().unwrap()
    }

    /// Starts its agent.
    pub fn run(&self) {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let agent = self.command(&["run"]).stderr(log).spawn().unwrap();
        assert!(self.agent.lock().unwrap().replace(agent).is_none(), "it runs already");
    }

    /// Whether its agent has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut agent = self.agent.lock().unwrap();
        let ended = agent.as_mut().is_some_and(|agent| agent.try_wait().unwrap().is_some());
        if ended {
            *agent = None;
        }
        ended
    }

    /// Sets a variable of the environment for its agent, from its next start on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.env.push((name, value.to_owned()));
    }

    /// Puts what its agent keeps on a file system of its own, of so many bytes.
    pub fn keep_on_small_disk(&self, bytes: u64) {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(self.state.path());
        assert!(mount.status().unwrap().success());
    }

    /// Ends its agent as a power cut would.
    pub fn kill_agent(&self) {
        let agent = self.agent.lock().unwrap().take();
        let mut agent = agent.expect("it runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// A program of the agent's in its network.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.inside(&program());
        command.args(args);
        command.env("WEIR_AGENT_STATE_DIR", self.state.path());
        command.env("WEIR_AGENT_DOCKER", self.machine.socket_file());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A file of what it keeps.
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// What a client on the device itself gets of an app that runs there.
    pub fn ask(&self, path: &str) -> Option<String> {
        let id = self.machine.running().first()?.clone();
        let format = "{{.NetworkSettings.IPAddress}}";
        let address = self.machine.docker(&["inspect", "--format", format, &id]);
        let mut curl = self.machine.inside(&PathBuf::from("curl"));
        let url = format!("http://{address}:8080{path}");
        let answer = curl.args(["-sf", "--max-time", "2", &url]).output().unwrap();
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.state.path().join("agent.log")
    }

    /// What its agent has taken for itself, in bytes: its program, which a build for tests makes
    /// many times as large, is not counted.
    pub fn memory(&self) -> u64 {
        let agent = self.agent.lock().unwrap();
        // `nsenter` becomes the program that it starts.
        let pid = agent.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.lock().unwrap().take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // There is none, unless its disk was small.
        let mut umount = Command::new("umount");
        let _ = umount.arg("--quiet").arg(self.state.path()).stderr(Stdio::null()).status();
    }
}

/// The agent, built once.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let mut cargo = Command::new(env!("CARGO"));
            // Without a Tailscale of its own, which has its own tests.
            cargo.args(["build", "--quiet", "-p", "weir-edge-agent", "--no-default-features"]);
            let built =
                cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::null()).status();
            assert!(built.unwrap().success(), "the agent cannot be built");
            PathBuf::from(env!("CARGO_BIN_EXE_weir")).with_file_name("weir-agent")
        })
        .clone()
}

pub const DEVICES: [&str; 2] = ["--devices", "0.0.0.0:0"];

/// The printed line's token.
pub fn invite(weir: &Weir, args: &[&str]) -> String {
    let output = weir.cli(&[&["device", "invite"], args].concat());
    let line = told(&output);
    assert!(output.status.success(), "{line}");
    let command = String::from_utf8(output.stdout).unwrap();
    assert!(command.starts_with("weir-agent enroll --control "), "{command}");
    command.trim().rsplit(' ').next().unwrap().to_owned()
}

pub fn told(output: &Output) -> String {
    String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap()
}

pub fn enrol(weir: &Weir, device: &Device) {
    let enrolled = device.enrol(weir, &invite(weir, &[]));
    assert!(enrolled.status.success(), "{}\n{}", told(&enrolled), weir.log());
}

pub async fn host_state(weir: &Weir, name: &str) -> String {
    let (_, host) = weir.api("GET", &format!("/v1/hosts/{name}"), None).await;
    host["status"]["state"].as_str().unwrap_or("none").to_owned()
}

pub async fn wait_for_host(weir: &Weir, device: &Device, state: &str) {
    let name = &device.machine.name;
    let what = || format!("{name} to be {state}\n{}\n{}", device.log(), weir.log());
    let began = Instant::now();
    while host_state(weir, name).await != state {
        assert!(began.elapsed() < DEADLINE, "waited for {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A device that is enrolled, runs and is ready. It is noticed soon when it goes.
pub async fn join(weir: &Weir, device: &Device) {
    enrol(weir, device);
    device.run();
    wait_for_host(weir, device, "ready").await;
    let path = format!("/v1/hosts/{}", device.machine.name);
    let (_, mut host) = weir.api("GET", &path, None).await;
    host["spec"]["disconnect"] = json!({"after": "2s", "lost_after": "30s", "replace": false});
    let body = json!({"kind": "Host", "name": device.machine.name, "spec": host["spec"]});
    assert_eq!(weir.api("PUT", &path, Some(body)).await.0, 200);
    wait_for_host(weir, device, "ready").await;
}

pub fn on(device: &Device) -> Value {
    let mut spec =
        spec(json!({"sleep": {"pause_after": "1h", "stop_after": "2h", "min_awake": "1s"}}));
    spec["placement"] = json!({"hosts": {"device": device.machine.name}});
    spec
}

/// Identities and starts of the containers on a device.
pub fn incarnations(device: &Device) -> Vec<String> {
    let ids = device.machine.running();
    let format = "{{.Id}} {{.State.StartedAt}}";
    ids.iter().map(|id| device.machine.docker(&["inspect", "--format", format, id])).collect()
}
