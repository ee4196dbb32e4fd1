//! The real program before targets that break, clients who ask for them through it, and somebody
//! who looks all the while at what it serves.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::{
    net::UdpSocket,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    clients::Clients,
    fault::{CHECK, Target},
};
use crate::ledger::server::{DEADLINE, Server};

pub(super) const ZONE: &str = "failover.test";
const HOST: &str = "www.failover.test";
const POLICY: &str = "shop";
/// The primary and the standby.
const NAMES: [&str; 2] = ["a", "b"];
/// For how long resolvers may keep an answer while all is well.
pub(super) const STEADY: Duration = Duration::from_secs(5);
/// So often what is served is looked at, in the DNS and in the proxy.
const LOOK: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(10)];

pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) targets: [Target; 2],
    pub(super) clients: Clients,
    pub(super) seen: Served,
    pub(super) dns: SocketAddr,
}

/// What was served, and from when on.
#[derive(Clone)]
pub(super) struct Served {
    seen: Arc<Mutex<Log>>,
    looking: Arc<[JoinHandle<()>; 2]>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// The shares of the targets in the proxy.
    pub(super) shares: Vec<(Instant, Vec<f64>)>,
    /// The place of the target that the DNS answers with; `None` of an empty answer.
    pub(super) answers: Vec<(Instant, Option<usize>)>,
}

impl Stage {
    /// A stage on which all is well: the primary has everything.
    pub(super) async fn set(rate: u32, spec: serde_json::Value) -> anyhow::Result<Self> {
        let dns = free_udp_port()?;
        let server = Server::start_with(&["--dns", &dns.to_string()]).await?;
        let primary = Target::start(NAMES[0], Ipv4Addr::new(127, 71, 0, 1).into()).await?;
        let standby = Target::start(NAMES[1], Ipv4Addr::new(127, 71, 0, 2).into()).await?;
        let targets = [primary, standby];
        let zone = json!({"kind": "Zone", "name": ZONE, "spec": {"addresses": ["127.0.0.1"]}});
        server.api("PUT", &format!("/v1/zones/{ZONE}"), zone).await?;
        let policy = policy(&targets, spec);
        server.api("PUT", &format!("/v1/failover-policies/{POLICY}"), policy).await?;
        let app = json!({
            "failover": POLICY,
            "hostnames": [HOST],
            "http": "serve",
            "timeouts": {"connect": "300ms", "read": "1s"},
            "retries": {"attempts": 2, "back_off": "5ms", "budget_percent": 100},
        });
        server.put("shop", app).await?;
        let seen = Served::watch(&server, dns);
        let clients = Clients::start(server.http, HOST, rate)?;
        let stage = Self { server, targets, clients, seen, dns };
        stage.wait_for("the primary to have everything", |log| log.all_at(0).is_some()).await?;
        // Until targets have proved themselves, nobody is left for them.
        stage.wait_until_proven().await?;
        Ok(stage)
    }

    /// Waits until what was served is as it should be.
    pub(super) async fn wait_for(
        &self,
        what: &str,
        holds: impl Fn(&Log) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + 2 * DEADLINE;
        while !holds(&self.seen.log()) {
            ensure!(
                Instant::now() < deadline,
                "waited in vain for {what}: {:?}\n{}",
                self.seen.log(),
                self.server.complaints()
            );
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn wait_until_proven(&self) -> anyhow::Result<()> {
        let path = format!("/v1/failover-policies/{POLICY}/status");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let shown = self.server.api("GET", &path, serde_json::Value::Null).await?;
            let targets = shown["targets"].as_array().context("it shows no targets")?;
            let is_up = |target: &serde_json::Value| target["health"] == "up";
            if targets.len() == NAMES.len() && targets.iter().all(is_up) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the targets are not proven: {shown}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn policy(targets: &[Target], more: serde_json::Value) -> serde_json::Value {
    let target = |target: &Target| {
        json!({
            "name": target.name,
            "addresses": [target.address.ip()],
            "check": {"path": CHECK, "port": target.address.port(), "tls": false},
        })
    };
    let mut spec = json!({
        "hostnames": [HOST],
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "ttl": {"steady": format!("{}s", STEADY.as_secs()), "low": "1s"},
    });
    if let (Some(spec), serde_json::Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({"kind": "FailoverPolicy", "name": POLICY, "spec": spec})
}

impl Served {
    fn watch(server: &Server, dns: SocketAddr) -> Self {
        let seen: Arc<Mutex<Log>> = Arc::default();
        let metrics = server.metrics();
        let looking = [
            tokio::spawn(look_at_dns(dns, seen.clone())),
            tokio::spawn(look_at_shares(metrics, seen.clone())),
        ];
        Self { seen, looking: Arc::new(looking) }
    }

    pub(super) fn log(&self) -> Log {
        lock(&self.seen).clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if Arc::strong_count(&self.looking) == 1 {
            self.looking.iter().for_each(JoinHandle::abort);
        }
    }
}

impl Log {
    /// From when on the target at this place has had everything, in the proxy and in the DNS, if it
    /// has.
    pub(super) fn all_at(&self, place: usize) -> Option<[Instant; 2]> {
        let (routed, shares) = self.shares.last()?;
        let (answered, answer) = self.answers.last()?;
        let is_all = shares.get(place).is_some_and(|share| *share == 1.0);
        (is_all && *answer == Some(place)).then_some([*routed, *answered])
    }

    /// How often the shares have changed since then.
    pub(super) fn transitions(&self, since: Instant) -> usize {
        self.shares.iter().filter(|(at, _)| *at >= since).count()
    }

    pub(super) fn empty_answers(&self) -> usize {
        self.answers.iter().filter(|(_, answer)| answer.is_none()).count()
    }
}

async fn look_at_shares(metrics: reqwest::RequestBuilder, seen: Arc<Mutex<Log>>) {
    loop {
        sleep(LOOK[1]).await;
        let Some(request) = metrics.try_clone() else { return };
        let Ok(answer) = request.send().await else { continue };
        let (Ok(text), at) = (answer.text().await, Instant::now()) else { continue };
        let share = |target: &&str| {
            let start = format!("weir_failover_share{{policy=\"{POLICY}\",target=\"{target}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
        };
        let shares: Vec<_> = NAMES.iter().filter_map(share).collect();
        let mut log = lock(&seen);
        if !shares.is_empty() && log.shares.last().is_none_or(|(_, last)| *last != shares) {
            log.shares.push((at, shares));
        }
    }
}

async fn look_at_dns(server: SocketAddr, seen: Arc<Mutex<Log>>) {
    let question = question();
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { return };
    loop {
        sleep(LOOK[0]).await;
        let mut answer = [0; 512];
        let asked = socket.send_to(&question, server).await;
        let told = timeout(Duration::from_millis(500), socket.recv(&mut answer)).await;
        let (Ok(_), Ok(Ok(length))) = (asked, told) else { continue };
        let is_good = answer[3] & 15 == 0;
        let place = place_in(&answer[..length]);
        let mut log = lock(&seen);
        if is_good && log.answers.last().is_none_or(|(_, last)| *last != place) {
            log.answers.push((Instant::now(), place));
        }
    }
}

/// For the addresses of the name, with recursion.
pub(super) fn question() -> Vec<u8> {
    let labels =
        HOST.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    header.into_iter().chain(labels).chain([0, 0, 1, 0, 1]).collect()
}

/// The place of the target that an answer leads to; `None` if it has no address.
pub(super) fn place_in(answer: &[u8]) -> Option<usize> {
    let has_answer = answer.get(7).is_some_and(|count| *count > 0);
    let mut places = (0..NAMES.len()).filter(|_| has_answer);
    places.find(|place| answer.windows(4).any(|bytes| bytes == [127, 71, 0, *place as u8 + 1]))
}

pub(super) fn free_udp_port() -> anyhow::Result<SocketAddr> {
    Ok(StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    // A log is whole even after a panic.
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
