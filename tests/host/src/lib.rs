//! Machines with a Docker Engine each: real ones, in network namespaces of this machine.

// For tests: a panic is a failed test with a place.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use nix::sched::{CloneFlags, setns};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::{Value, json};

/// How Weir reaches the engine of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// TCP without TLS.
    Tcp,
    /// TCP with certificates on both sides.
    Tls,
    Ssh,
    /// By an agent on it, which asks it by its own socket.
    Agent,
}

/// When it is dropped, or this process ends, nothing of it is left.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub address: String,
    /// This machine's address on the line to it.
    pub gateway: String,
    namespace: String,
    dir: PathBuf,
    reach: Reach,
    machine: Child,
}

const SSH_PORT: u16 = 2222;

impl Host {
    /// The address of each machine in the network of its containers.
    pub const FROM_CONTAINERS: &str = "172.30.0.1";

    /// Several at once, each with this image, which is one of this machine's own engine.
    pub fn start_all<const N: usize>(hosts: [(&str, Reach); N], image: &str) -> [Self; N] {
        let started = hosts.map(|(name, reach)| Self::start(name, reach));
        started.map(|mut host| {
            host.wait_until_ready();
            host.load(image);
            host
        })
    }

    fn start(name: &str, reach: Reach) -> Self {
        let namespace = format!("wt-{name}-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let dir = std::env::temp_dir().join(&namespace);
        fs::create_dir_all(&dir).unwrap();
        // Of the network for tests of network devices (RFC 2544), a line of two addresses.
        let (third, fourth) = (rand::random::<u8>(), rand::random::<u8>() & 0xfc);
        let at = |n: u8| format!("198.18.{third}.{}", fourth + n);
        let (gateway, address) = (at(1), at(2));
        let mut command =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/test-host"));
        command.arg(&namespace).arg(&dir).args([&gateway, &address]);
        let mut daemon = json!({"hosts": [format!("unix://{}/docker.sock", dir.display())]});
        match reach {
            Reach::Tcp => listen(&mut daemon, &format!("tcp://{address}:2375")),
            Reach::Tls => {
                listen(&mut daemon, &format!("tcp://{address}:2376"));
                make_certificates(&dir, &address);
                daemon["tlsverify"] = json!(true);
                for (option, file) in
                    [("tlscacert", "ca.pem"), ("tlscert", "server.pem"), ("tlskey", "server.key")]
                {
                    daemon[option] = json!(dir.join(file));
                }
            }
            Reach::Agent => {}
            Reach::Ssh => {
                make_keys(&dir, &address);
                command.args(sshd(&dir, &address));
            }
        }
        fs::write(dir.join("daemon.json"), daemon.to_string()).unwrap();
        let machine = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let name = name.to_owned();
        Self { name, address, gateway, namespace, dir, reach, machine }
    }

    fn wait_until_ready(&mut self) {
        // It says nothing else, so nothing is lost with the buffer.
        let output = BufReader::new(self.machine.stdout.as_mut().unwrap());
        let said = output.lines().next().and_then(Result::ok).unwrap_or_default();
        assert_eq!(said, "ready", "the host {} did not start; its log: {}", self.name, self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn load(&self, image: &str) {
        let pipe = format!("docker save {image} | docker -H {} load", self.socket());
        let loaded = Command::new("sh").args(["-c", &pipe]).stdout(Stdio::null()).status();
        assert!(loaded.unwrap().success(), "{pipe}");
    }

    fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.display())
    }

    /// A spec of it, with fields added or replaced.
    pub fn spec(&self, fields: &Value) -> Value {
        let (address, dir) = (&self.address, self.dir.display());
        let mut spec = match self.reach {
            Reach::Tcp => json!({"engine": format!("tcp://{address}:2375"), "insecure": true}),
            Reach::Tls => json!({
                "engine": format!("tcp://{address}:2376"),
                "tls": {"ca_file": format!("{dir}/ca.pem"), "cert_file": format!("{dir}/client.pem"),
                    "key_file": format!("{dir}/client.key")},
            }),
            Reach::Ssh => json!({
                "engine": format!("ssh://root@{address}:{SSH_PORT}"),
                "ssh": {"identity_file": format!("{dir}/login"),
                    "known_hosts_file": format!("{dir}/known_hosts")},
            }),
            Reach::Agent => json!({"engine": "device"}),
        };
        for (key, value) in fields.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    }

    /// Asks its engine directly.
    pub fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.socket()]).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Its containers: identities of those that run.
    pub fn running(&self) -> Vec<String> {
        let ids = self.docker(&["ps", "--quiet", "--no-trunc"]);
        ids.lines().map(str::to_owned).collect()
    }

    /// Listens on the machine: its containers reach it at [`Self::FROM_CONTAINERS`], also while it
    /// is cut off.
    pub fn listen(&self, port: u16) -> TcpListener {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        // Only a socket's maker has to be there. The thread that goes there does not come back.
        let listening = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            TcpListener::bind(("0.0.0.0", port)).unwrap()
        });
        listening.join().unwrap()
    }

    /// Cuts it off: its end of the line is dead, and so nothing refuses a connection either.
    pub fn cut_off(&self) {
        self.line("down");
    }

    pub fn connect(&self) {
        self.line("up");
    }

    fn line(&self, state: &str) {
        let set = ["-n", &self.namespace, "link", "set", "eth0", state];
        assert!(Command::new("ip").args(set).status().unwrap().success());
    }

    /// Its engine ends, with all that runs, and is started again: as after a power cut.
    pub fn restart_engine(&mut self) {
        let mut input = self.machine.stdin.as_ref().unwrap();
        input.write_all(b"restart\n").unwrap();
        self.wait_until_ready();
    }

    /// A program in its network.
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }

    pub fn socket_file(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Its engine accepts connections and does not answer.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.dir.join("pid")).unwrap();
        let sent = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its input is what it ends at.
        drop(self.machine.stdin.take());
        let _ = self.machine.wait();
    }
}

fn listen(daemon: &mut Value, address: &str) {
    daemon["hosts"].as_array_mut().unwrap().push(json!(address));
}

/// An authority, and what it signed for the engine and for its client.
fn make_certificates(dir: &Path, address: &str) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    for (name, usage) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new([address.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The keys of the machine and of who logs in, each known to the other.
fn make_keys(dir: &Path, address: &str) {
    for name in ["machine", "login"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.join(name))
            .status();
        assert!(made.unwrap().success(), "ssh-keygen is of the package openssh-client");
    }
    fs::copy(dir.join("login.pub"), dir.join("authorized_keys")).unwrap();
    let key = fs::read_to_string(dir.join("machine.pub")).unwrap();
    fs::write(dir.join("known_hosts"), format!("[{address}]:{SSH_PORT} {key}")).unwrap();
}

fn sshd(dir: &Path, address: &str) -> Vec<String> {
    let dir = dir.display();
    let mut command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null"].map(str::to_owned).to_vec();
    for option in [
        format!("HostKey={dir}/machine"),
        format!("AuthorizedKeysFile={dir}/authorized_keys"),
        format!("ListenAddress={address}:{SSH_PORT}"),
        format!("SetEnv=DOCKER_HOST=unix://{dir}/docker.sock"),
        "StrictModes=no".to_owned(),
        "PidFile=none".to_owned(),
    ] {
        command.extend(["-o".to_owned(), option]);
    }
    command
}
