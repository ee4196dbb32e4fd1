//! Weir's data plane at 1,000 changes a second, in this process: what is published, and the first
//! request that meets it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::watch,
    time::{Interval, interval},
};
use tokio_rustls::client::TlsStream;
use weir_config::{
    Activity, AppName, AppRoute, Backends, Balance, Certificate, Certificates, Endpoint,
    EndpointId, HostName, InstanceId, Moment, NoObserver, Pool, ProxySettings, Publisher, Reach,
    RouteState, Snapshot, channel,
};
use weir_proxy::{NoDevices, Phase, Proxy, ProxyOptions};

use crate::{
    load::client::{Client, trust},
    report::Report,
    site::{BACKENDS, DOMAIN, NAMES, Site, host},
};

/// Between two changes: 1,000 a second.
const PACE: Duration = Duration::from_millis(1);

/// Windows of each kind, taken in turns.
const WINDOWS: usize = 6;
const WINDOW: Duration = Duration::from_secs(2);

/// The other traffic: connections that ask for a name each, so often.
const CONNECTIONS: usize = 4;
const TRAFFIC_PACE: Duration = Duration::from_millis(2);

/// A stride that visits the names in an order that no cache foresees.
const STRIDE: usize = 7919;

type Connection = Client<TlsStream<TcpStream>>;

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let site = Site::start()?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut control = Control::start(&site, &runtime)?;
    let address = control.address;
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let (mut alone, mut latencies) = (Vec::new(), Vec::new());
    let (mut stale, mut changing) = (0, Duration::ZERO);
    let here = Builder::new_current_thread().enable_all().build()?;
    let mut checker = here.block_on(connect(&site, address))?;
    for window in 0..2 * WINDOWS {
        let publishes = window % 2 == 1;
        let until = AtomicBool::new(false);
        let (others, seen) = thread::scope(|scope| {
            let others = scope.spawn(|| traffic(&site, address, &until));
            let seen = here.block_on(control.window(&site, &mut checker, publishes));
            until.store(true, Ordering::Relaxed);
            (others.join(), seen)
        });
        let others = others.map_err(|_| anyhow!("the traffic's thread panicked"))??;
        let seen = seen?;
        if publishes {
            busy.extend(others);
            stale += seen.stale;
            changing += seen.took;
            latencies.extend(seen.latencies);
        } else {
            idle.extend(others);
            alone.extend(seen.latencies);
        }
    }
    runtime.shutdown_background();

    let rate = latencies.len() as f64 / changing.as_secs_f64();
    println!("{NAMES} names, each an app; a change moves one to another backend");
    report.figure("changes a second", rate, "", "1000");
    report.quantiles("the same request without a change", &mut alone, ["", ""]);
    report.quantiles("change to first conforming request", &mut latencies, ["<= 0.2", "<= 1"]);
    report.figure("  stale answers", stale as f64, "", "0");
    let [_, idle] = report.quantiles("other traffic, nothing changes", &mut idle, ["", ""]);
    let [_, busy] = report.quantiles("other traffic, changes", &mut busy, ["", ""]);
    report.figure("  p99, ratio", busy / idle, "", "<= 1.1");
    Ok(())
}

/// What the control loop does to the data plane, without its reasons.
struct Control {
    publisher: Publisher,
    snapshot: Snapshot,
    activity: Activity,
    address: SocketAddr,
    changes: usize,
    _stop: watch::Sender<Phase>,
}

/// What a window showed.
struct Seen {
    /// From each change, if there were any, to the answer that conforms.
    latencies: Vec<Duration>,
    /// Answers by a backend that was no longer served when the request began.
    stale: usize,
    took: Duration,
}

impl Control {
    fn start(site: &Site, runtime: &Runtime) -> anyhow::Result<Self> {
        let chain = std::fs::read_to_string(site.certificate())?;
        let key = std::fs::read_to_string(site.key())?;
        let names = [format!("*.{DOMAIN}").parse().map_err(anyhow::Error::msg)?];
        let certificate = Arc::new(Certificate::from_pem(names, &chain, &key, (0, 0))?);
        let certificates = Arc::new(Certificates::from_iter([certificate]));
        let activity = Activity::default();
        let mut snapshot = Snapshot::empty(1, 1, certificates);
        for i in 0..NAMES {
            snapshot.insert(route(&activity, i, site.backend(0))?);
        }
        let (publisher, snapshots) = channel(snapshot.clone());
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (http, https) = (listener()?, listener()?);
        let address = https.local_addr()?;
        let settings =
            ProxySettings { max_requests_per_connection: u32::MAX, ..ProxySettings::default() };
        let options = ProxyOptions {
            https_port_public: address.port(),
            cdn_id: "weir-bench".to_owned(),
            settings,
            access_log: None,
            slow_request: Duration::MAX,
            devices: Arc::new(NoDevices),
        };
        let _inside = runtime.enter();
        let proxy = Proxy::new(snapshots, Arc::new(NoObserver), http, https, options)?;
        let (stop, stopping) = watch::channel(Phase::Running);
        runtime.spawn(proxy.run(stopping));
        Ok(Self { publisher, snapshot, activity, address, changes: 0, _stop: stop })
    }

    /// Asks for a name at each step; before that, gives the name another backend if it `publishes`.
    async fn window(
        &mut self,
        site: &Site,
        checker: &mut Connection,
        publishes: bool,
    ) -> anyhow::Result<Seen> {
        let mut seen = Seen { latencies: Vec::new(), stale: 0, took: Duration::ZERO };
        let mut steps = paced(PACE);
        let began = Instant::now();
        let mut step = 0;
        while began.elapsed() < WINDOW {
            steps.tick().await;
            step += 1;
            if !publishes {
                let began = Instant::now();
                ask(checker, step * STRIDE % NAMES).await?;
                seen.latencies.push(began.elapsed());
                continue;
            }
            self.changes += 1;
            let i = self.changes * STRIDE % NAMES;
            // Never the one that it had: the rounds over the names are no multiple of these.
            let n = 1 + (self.changes % (usize::from(BACKENDS) - 1)) as u8;
            let backend = site.backend(n);
            let route = route(&self.activity, i, backend)?;
            let changed = Instant::now();
            self.publish(route)?;
            let expected = backend.ip().to_string();
            while ask(checker, i).await? != expected {
                seen.stale += 1;
            }
            seen.latencies.push(changed.elapsed());
        }
        seen.took = began.elapsed();
        Ok(seen)
    }

    fn publish(&mut self, route: AppRoute) -> anyhow::Result<()> {
        self.snapshot.insert(route);
        self.snapshot.generation += 1;
        Ok(self.publisher.publish(Arc::new(self.snapshot.clone()))?)
    }
}

/// Asks for names at a steady pace until told to end. Returns how long each answer took.
fn traffic(site: &Site, address: SocketAddr, until: &AtomicBool) -> anyhow::Result<Vec<Duration>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let connection = |c: usize| async move {
        let mut client = connect(site, address).await?;
        let mut latencies = Vec::new();
        let mut steps = paced(TRAFFIC_PACE);
        while !until.load(Ordering::Relaxed) {
            steps.tick().await;
            let began = Instant::now();
            ask(&mut client, (c + latencies.len() * CONNECTIONS) % NAMES).await?;
            latencies.push(began.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let all = futures::future::try_join_all((0..CONNECTIONS).map(connection));
    Ok(runtime.block_on(all)?.concat())
}

fn paced(pace: Duration) -> Interval {
    interval(pace)
}

async fn connect(site: &Site, address: SocketAddr) -> anyhow::Result<Connection> {
    Client::connect_tls(address, &host(0), Arc::new(trust(&site.roots())?)).await
}

/// Which backend answers for the i-th name.
async fn ask(client: &mut Connection, i: usize) -> anyhow::Result<String> {
    let answer = client.get(&host(i), "/").await?;
    ensure!(answer.status == 200, "{} was answered with {}", host(i), answer.status);
    Ok(answer.backend().to_owned())
}

fn route(activity: &Activity, i: usize, address: SocketAddr) -> anyhow::Result<AppRoute> {
    let app: AppName = format!("n-{i:05}").parse().map_err(anyhow::Error::msg)?;
    let instance =
        InstanceId { app: app.clone(), deployment: 1, ordinal: 0, host: HostName::local() };
    let id = EndpointId::Instance(instance);
    let endpoint = Endpoint {
        activity: activity.endpoint(&id),
        id,
        address,
        reach: Reach::Direct,
        weight: 1,
        ready_since: Moment::default(),
    };
    let pool = Pool::new(vec![endpoint], Balance::default());
    let (wake_timeout, queue) = AppRoute::wait_of(None);
    Ok(AppRoute {
        activity: activity.app(&app),
        app,
        hostnames: vec![host(i).parse().map_err(anyhow::Error::msg)?],
        state: RouteState::Serving(Backends::Own(Arc::new(pool))),
        policy: Arc::default(),
        wake_timeout,
        queue,
    })
}
