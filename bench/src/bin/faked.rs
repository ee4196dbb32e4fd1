//! Weir with a container engine that only keeps a table: its control loop and its proxy, with more
//! containers than a machine could run.
//!
//! `faked STATE_DIR DOMAIN` says where it listens: HTTP, HTTPS and the admin API. At SIGHUP its
//! engine is restarted, and what runs has other addresses then.

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use weir_bench::Engine;
use weir_config::{Activity, Hostname, ProxySettings, Snapshot, channel};
use weir_control::{Control, Options, StateDir, certificates};
use weir_dns::StubResolver;
use weir_proxy::{NoDevices, Phase, Proxy, ProxyOptions};

/// As in `weir`, so that memory is what it is there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Only the first of a process can be installed, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [dir, domain] = &arguments[..] else { anyhow::bail!("usage: faked STATE_DIR DOMAIN") };
    let base_domain: Hostname = domain.parse().map_err(anyhow::Error::msg)?;
    let dir = StateDir::open(Path::new(dir))?;
    let certificates = certificates(&dir, &base_domain)?;
    let activity = Arc::new(Activity::default());
    let (publisher, snapshots) = channel(Snapshot::empty(0, 0, certificates));
    let control = Control::new(publisher, snapshots.clone(), activity);

    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (http, https, admin) = (listen()?, listen()?, listen()?);
    let https_address = https.local_addr()?;
    println!("{} {https_address} {}", http.local_addr()?, admin.local_addr()?);
    let options = ProxyOptions {
        https_port_public: https_address.port(),
        cdn_id: "weir-bench".to_owned(),
        settings: ProxySettings { max_requests_per_connection: u32::MAX, ..Default::default() },
        access_log: None,
        slow_request: Duration::MAX,
        devices: Arc::new(NoDevices),
    };
    let proxy = Proxy::new(snapshots, control.hints(), http, https, options)?;
    let (_running, phase) = watch::channel(Phase::Running);
    tokio::spawn(proxy.run(phase));

    let engine = Engine::default();
    let restarted = engine.clone();
    let mut restarts = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while restarts.recv().await.is_some() {
            restarted.restart();
        }
    });
    admin.set_nonblocking(true)?;
    let options = Options {
        dir,
        base_domain,
        admin: tokio::net::TcpListener::from_std(admin)?,
        metrics: prometheus::Registry::new(),
        https_port: https_address.port(),
        https: Some(https_address),
        resolver: Box::new(StubResolver::default()),
        verify_domains: false,
        references: Vec::new(),
        well: Arc::new(AtomicBool::new(true)),
        devices: None,
    };
    let opened = control.open(options, move |_, _| Arc::new(engine.clone())).await?;
    let mut end = signal(SignalKind::terminate())?;
    let ended = control.run(opened, async move { _ = end.recv().await }).await;
    ended.map(drop).context("control")
}
