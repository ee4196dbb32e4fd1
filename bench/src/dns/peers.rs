//! Servers that the DNS of Weir is measured beside, and that.

use std::{
    fmt::Write as _,
    fs,
    io::{BufWriter, Write as _},
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};

use super::Shape;
use crate::{peers::version, process::Process, site::sibling};

/// Reading a million names takes some of them a while.
const START: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Weir,
    Nsd,
    Knot,
    PowerDns,
    Gdnsd,
}

pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) process: Process,
    pub(super) port: u16,
    pub(super) version: String,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Weir, Self::Nsd, Self::Knot, Self::PowerDns, Self::Gdnsd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nsd => "nsd",
            Self::Knot => "knot",
            Self::PowerDns => "powerdns",
            Self::Gdnsd => "gdnsd",
        }
    }

    fn version(self) -> anyhow::Result<String> {
        match self {
            Self::Weir => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Nsd => version("nsd", "-v"),
            Self::Knot => version("knotd", "--version"),
            Self::PowerDns => version("pdns_server", "--version"),
            Self::Gdnsd => version("gdnsd", "-h"),
        }
    }

    /// What starts it, its configuration written into `dir`.
    fn command(self, dir: &Path, shape: Shape, port: u16) -> anyhow::Result<Command> {
        let shown = dir.display();
        let zones = || (0..shape.zones).map(|i| format!("zone{i}.test"));
        let each = |head: String, show: &dyn Fn(&str) -> String| {
            zones().fold(head, |text, zone| text + &show(&zone))
        };
        Ok(match self {
            Self::Weir => {
                let mut command = Command::new(sibling("bare-dns")?);
                command.args(
                    [u32::from(port), shape.zones as u32, shape.names as u32]
                        .map(|n| n.to_string()),
                );
                command
            }
            Self::Nsd => {
                let head = format!(
                    "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n database: \"\"\n \
                     zonesdir: \"{shown}\"\n pidfile: \"{shown}/pid\"\n \
                     xfrdfile: \"{shown}/xfrd\"\n zonelistfile: \"{shown}/list\"\n \
                     xfrdir: \"{shown}\"\n server-count: 1\n rrl-ratelimit: 0\n \
                     minimal-responses: yes\nremote-control:\n control-enable: no\n"
                );
                let show = |zone: &str| format!("zone:\n name: {zone}\n zonefile: zones/{zone}\n");
                fs::write(dir.join("config"), each(head, &show))?;
                with_arguments("nsd", &["-d", "-c", &format!("{shown}/config")])
            }
            Self::Knot => {
                let head = format!(
                    "server:\n  listen: 127.0.0.1@{port}\n  rundir: {shown}\n  udp-workers: 1\n  \
                     tcp-workers: 1\n  background-workers: 1\ndatabase:\n  storage: {shown}/db\n\
                     template:\n  - id: default\n    storage: {shown}/zones\n    \
                     zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\nzone:\n"
                );
                let show = |zone: &str| format!("  - domain: {zone}\n    file: {zone}\n");
                fs::write(dir.join("config"), each(head, &show))?;
                with_arguments("knotd", &["-c", &format!("{shown}/config")])
            }
            Self::PowerDns => {
                let show = |zone: &str| {
                    format!("zone \"{zone}\" {{ type master; file \"{shown}/zones/{zone}\"; }};\n")
                };
                fs::write(dir.join("named.conf"), each(String::new(), &show))?;
                let config = format!(
                    "launch=bind\nbind-config={shown}/named.conf\nlocal-address=127.0.0.1\n\
                     local-port={port}\ndaemon=no\nguardian=no\nsocket-dir={shown}\n\
                     receiver-threads=1\ndistributor-threads=1\nloglevel=0\n"
                );
                fs::write(dir.join("pdns.conf"), config)?;
                with_arguments("pdns_server", &[&format!("--config-dir={shown}")])
            }
            Self::Gdnsd => {
                let config = format!(
                    "options => {{\n listen => 127.0.0.1:{port}\n udp_threads = 1\n \
                     tcp_threads = 1\n run_dir = {shown}/run\n state_dir = {shown}/state\n}}\n"
                );
                fs::write(dir.join("config"), config)?;
                for folder in ["run", "state"] {
                    fs::create_dir_all(dir.join(folder))?;
                }
                with_arguments("gdnsd", &["-c", &shown.to_string(), "start"])
            }
        })
    }
}

fn with_arguments(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

impl Server {
    /// Starts it and waits until it answers for the first and the last zone.
    pub(super) fn start(dir: &Path, kind: Kind, shape: Shape) -> anyhow::Result<Self> {
        let dir = dir.join(format!("{}-{}-{}", kind.name(), shape.zones, shape.names));
        fs::create_dir_all(dir.join("zones"))?;
        if kind != Kind::Weir {
            (0..shape.zones).try_for_each(|i| write_zone(&dir.join("zones"), i, shape.names))?;
        }
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let command = kind.command(&dir, shape, port)?;
        let process = Process::measured(&dir, kind.name(), &command)?;
        let mut server = Self { kind, process, port, version: kind.version()? };
        for zone in [0, shape.zones - 1] {
            server.wait_for(zone)?;
        }
        Ok(server)
    }

    fn wait_for(&mut self, zone: usize) -> anyhow::Result<()> {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        client.connect((Ipv4Addr::LOCALHOST, self.port))?;
        client.set_read_timeout(Some(Duration::from_millis(100)))?;
        let label = format!("zone{zone}");
        let question =
            [b"\0\x01\0\0\0\x01\0\0\0\0\0\0", &[label.len() as u8][..], label.as_bytes()].concat();
        let question = [&question[..], b"\x04test\0\0\x06\0\x01"].concat();
        let deadline = Instant::now() + START;
        loop {
            self.process.ensure_runs()?;
            let mut answer = [0; 512];
            // Refused while nobody listens yet.
            let _ = client.send(&question);
            if client.recv(&mut answer).is_ok() && answer[3] & 0xf == 0 && answer[7] == 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("zone{zone}.test is not served");
            }
        }
    }

    /// In MiB.
    pub(super) fn memory(&self) -> anyhow::Result<f64> {
        Ok(self.process.memory()? as f64 / f64::from(1 << 20))
    }
}

/// The same records as `bare-dns` makes.
fn write_zone(dir: &Path, i: usize, names: usize) -> anyhow::Result<()> {
    let path: PathBuf = dir.join(format!("zone{i}.test"));
    let mut file = BufWriter::new(fs::File::create(path)?);
    let (apex, server) = (format!("zone{i}.test."), format!("ns.zone{i}.test."));
    writeln!(file, "{apex} 3600 IN SOA {server} {server} 1 3600 600 86400 300")?;
    writeln!(file, "{apex} 3600 IN NS {server}\n{server} 3600 IN A 192.0.2.1")?;
    let mut line = String::new();
    for host in 0..names {
        line.clear();
        let address = Ipv4Addr::from(0x0a00_0000 + u32::try_from(host)?);
        writeln!(line, "host{host}.{apex} 300 IN A {address}")?;
        file.write_all(line.as_bytes())?;
    }
    ensure!(file.flush().is_ok(), "the zone cannot be written");
    Ok(())
}
