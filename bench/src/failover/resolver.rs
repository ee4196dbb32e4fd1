//! What clients behind a resolver see of a failover: an Unbound that asks our DNS, by what its
//! operator has told it of times.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

use super::{
    fault::Fault,
    scenario::Repeats,
    stage::{STEADY, Stage, ZONE, free_udp_port, place_in, question},
};
use crate::{ledger::server::DEADLINE, report::Report};

/// How Unbound keeps answers, and for how long clients may be led to a dead target: the TTL that
/// it goes by, and what there is beside it.
const KEEPS: [(&str, &str, Duration); 3] = [
    ("by TTL", "", STEADY),
    ("serve-expired", "serve-expired: yes\n", STEADY),
    ("cache-min-ttl 15 s", "cache-min-ttl: 15\nserve-expired: yes\n", Duration::from_secs(15)),
];
/// From the fault until the DNS answers otherwise, and for the resolver to ask.
const BESIDE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn measure(report: &mut Report, repeats: &Repeats) -> anyhow::Result<()> {
    for (name, options, ttl) in KEEPS {
        let mut times = Vec::new();
        for _ in 0..repeats.repeats {
            times.push(live_through(options).await.with_context(|| name.to_owned())?);
        }
        let aim = format!("<= {}", (ttl + BESIDE).as_millis());
        report.quantiles(
            &format!("S1 behind Unbound, {name}: fault to answer"),
            &mut times,
            ["", &aim],
        );
    }
    Ok(())
}

/// From the fault until the resolver leads to the standby.
async fn live_through(options: &str) -> anyhow::Result<Duration> {
    let mut stage = Stage::set(50, json!({})).await?;
    let unbound = Unbound::start(stage.dns, options)?;
    let deadline = Instant::now() + DEADLINE;
    while unbound.answer().await != Some(0) {
        ensure!(Instant::now() < deadline, "Unbound does not lead to the primary");
        sleep(LOOK).await;
    }
    let fault = Instant::now();
    stage.targets[0].set(Fault::Refuse)?;
    while unbound.answer().await != Some(1) {
        ensure!(Instant::now() < fault + DEADLINE, "Unbound never led to the standby");
        sleep(LOOK).await;
    }
    Ok(fault.elapsed())
}

struct Unbound {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Unbound {
    /// One that asks this server for our zone.
    fn start(dns: SocketAddr, options: &str) -> anyhow::Result<Self> {
        let (dir, address) = (tempfile::tempdir()?, free_udp_port()?);
        let (path, ip, port) = (dir.path().display(), address.ip(), address.port());
        let config = format!(
            "server:\ninterface: {ip}@{port}\ndo-daemonize: no\nchroot: \"\"\nusername: \"\"\n\
             directory: \"{path}\"\npidfile: \"{path}/pid\"\nuse-syslog: no\n\
             do-not-query-localhost: no\nmodule-config: \"iterator\"\nnum-threads: 1\ndo-ip6: no\n\
             local-zone: \"test.\" nodefault\n{options}\
             remote-control:\ncontrol-enable: no\n\
             stub-zone:\nname: {ZONE}\nstub-addr: {}@{}\n",
            dns.ip(),
            dns.port()
        );
        let file = dir.path().join("unbound.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("unbound");
        command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("unbound cannot be run; run `scripts/setup bench`")?;
        Ok(Self { child, address, _dir: dir })
    }

    /// The place of the target that it leads to, if it leads to one.
    async fn answer(&self) -> Option<usize> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
        let question = question();
        socket.send_to(&question, self.address).await.ok()?;
        let mut answer = [0; 512];
        let told = timeout(Duration::from_millis(500), socket.recv(&mut answer)).await;
        let length = told.ok()?.ok()?;
        place_in(&answer[..length])
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
