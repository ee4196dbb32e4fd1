//! Devices: machines in network namespaces, with a Docker Engine and the agent, that connect to a
//! Weir on this machine.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
};

use weir_test_host::{Host, Reach};

use super::{Weir, image};

/// When it is dropped, nothing of it is left.
pub struct Device {
    /// Before the machine, which takes its containers with it.
    agent: Mutex<Option<Child>>,
    pub machine: Host,
    state: tempfile::TempDir,
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
    }
}

/// The agent, built once.
fn program() -> PathBuf {
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
