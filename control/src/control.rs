//! Puts the parts of the loop together and runs them.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use weir_config::{
    Activity, Certificate, Desired, Host, Hostname, Moment, Publisher, Resolver, Snapshots,
};
use weir_deploy::Provider;

use crate::{
    aliases,
    api::{self, ApiState},
    authority::{self, AuthorityError, DeviceAuthority, wildcard},
    certificates::{Cache, CertificateMetrics, Keeper, Surroundings},
    conductor,
    devices::{self, DeviceOptions, GateError, Gatekeeper},
    domains::{self, Asker, Domains},
    engines::{Connect, Engines},
    event::{DesiredChange, Event},
    executor::Executor,
    failover, failpoint, feed,
    hints::Hints,
    history::{self, Told, Transitions},
    incidents,
    last_good::{self, Trial},
    notifications,
    observed::Observed,
    prober::Probers,
    providers,
    public_check::PublicChecks,
    reactor::{EVENT_QUEUE, Reactor},
    reconciler::{Reconciler, World},
    recorder,
    state_dir::StateDir,
    store::{Store, StoreError},
    token,
    vault::{Vault, VaultError},
    zones::Zones,
};

/// Control while it does not run: before, and between two runs. Hints find their way to whichever
/// run there is, so that the data plane never waits for one.
#[derive(Debug)]
pub struct Control {
    publisher: Publisher,
    snapshots: Snapshots,
    activity: Arc<Activity>,
    hints: Arc<Hints>,
}

/// What control needs of its surroundings.
#[derive(Debug)]
pub struct Options {
    pub dir: StateDir,
    pub base_domain: Hostname,
    /// Where the admin API listens.
    pub admin: TcpListener,
    /// What `/metrics` tells.
    pub metrics: prometheus::Registry,
    /// The port that end users reach HTTPS at, for the URLs that are shown.
    pub https_port: u16,
    /// Where the proxy takes HTTPS from this machine, if it does: there it is seen whether an app
    /// is reached as its users reach it.
    pub https: Option<SocketAddr>,
    /// Asks the DNS for the domains of apps, and for where ALIAS records lead.
    pub resolver: Box<dyn Resolver>,
    /// Whether the owner of a domain must say so before an app is served at it.
    pub verify_domains: bool,
    /// Servers that have nothing to do with any target of failover: where most of them are not to
    /// be reached, it is this machine that is cut off.
    pub references: Vec<SocketAddr>,
    /// False while a part of the process seems to stand still: then nothing that is served is
    /// taken for good.
    pub well: Arc<AtomicBool>,
    /// Where devices come in, if they may.
    pub devices: Option<DeviceOptions>,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the database in the state directory: {0}")]
    Store(#[from] StoreError),
    #[error("the secrets in the state directory: {0}")]
    Vault(#[from] VaultError),
    #[error("devices cannot be let in: {0}")]
    Devices(#[from] GateError),
    #[error("the local certificate authority: {0}")]
    Authority(#[from] AuthorityError),
    #[error("{file}: {error}")]
    File { file: PathBuf, error: io::Error },
    #[error("the admin API stopped: {0}")]
    Api(io::Error),
    #[error("a metric cannot be registered: {0}")]
    Metrics(prometheus::Error),
    #[error("a part of the control loop ended: {0}")]
    Loop(String),
}

/// Control's surroundings with the store open: from here on nothing of the outside is needed to
/// begin.
#[derive(Debug)]
pub struct Opened {
    options: Options,
    store: Store,
    vault: Vault,
    desired: Desired,
    /// For the base domain, of Weir's own authority.
    local: Arc<Certificate>,
    connect: Connect,
}

impl Control {
    pub fn new(publisher: Publisher, snapshots: Snapshots, activity: Arc<Activity>) -> Self {
        Self { publisher, snapshots, activity, hints: Arc::default() }
    }

    pub fn hints(&self) -> Arc<Hints> {
        self.hints.clone()
    }

    /// The right to change what is served, for when another process decides that.
    pub fn into_publisher(self) -> Publisher {
        self.publisher
    }

    /// Opens the store. `provider` makes the adapter of a host's engine for a cluster's identity.
    ///
    /// # Errors
    /// When the store cannot be opened, or a file of the state directory cannot be written.
    pub async fn open(
        &self,
        options: Options,
        provider: impl Fn(&Host, &str) -> Arc<dyn Provider> + Send + Sync + 'static,
    ) -> Result<Opened, ControlError> {
        let has_traffic = self.snapshots.current().apps().next().is_some();
        options.metrics.register(self.hints.metric()).map_err(ControlError::Metrics)?;
        let store = open_store(&options.dir, &options.base_domain, has_traffic).await?;
        store.verify_domains(options.verify_domains).await?;
        token::ensure_admin(&options.dir, &store).await?;
        let vault = Vault::open(options.dir.key_file(), store.clone()).await?;
        let desired = vault.desired().await?;
        let local = Arc::new(wildcard(&options.dir, &options.base_domain)?);
        let cluster = store.cluster_id().to_owned();
        let connect = move |host: &Host| provider(host, &cluster);
        Ok(Opened { options, store, vault, desired, local, connect: Connect(Box::new(connect)) })
    }

    /// Observes, plans and executes until `shutdown` ends. Then nothing is changed any more, in the
    /// state directory, the store or the engine, and its lock is given up; control can run again.
    ///
    /// # Errors
    /// When a part of it ends by itself.
    pub async fn run(
        self,
        opened: Opened,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, ControlError> {
        let Opened { options, store, vault, desired, local, connect } = opened;
        let Options {
            dir,
            base_domain,
            admin,
            metrics,
            https_port,
            https,
            resolver,
            verify_domains: _,
            references,
            well,
            devices,
        } = options;
        let open_incidents = incidents::gauge();
        metrics.register(Box::new(open_incidents.clone())).map_err(ControlError::Metrics)?;
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        self.hints.lead_to(&events);

        let served = self.snapshots.current();
        let dir = Arc::new(dir);
        let trial = Arc::new(Trial::open(&dir, &served, Moment::now()));
        let mut observed = Observed::new(served, Moment::now());
        observed.zones = Zones::new(&base_domain, https_port);
        let (worlds, world) =
            watch::channel(Arc::new(World::new(desired.clone(), observed.clone())));
        let executor = Executor::new(vault.clone(), self.activity.clone(), &events);
        let engines = Engines::new(connect, vault.clone(), &events);
        let providers = engines.providers.clone();
        let (recorder, decisions) = mpsc::channel(recorder::QUEUE);
        let mut reactor = Reactor {
            engines,
            executor: executor.clone(),
            probers: Probers::new(&events, providers.clone()),
            public_checks: PublicChecks::new(https, &events),
            recorder,
            activity: self.activity.clone(),
            publisher: self.publisher,
            events: received,
            worlds,
            reconciler: Reconciler::new(observed, trial.quarantine(Moment::now())),
            trial: trial.clone(),
        };
        // Before the first plan, which takes what is not wanted for gone.
        reactor.take(Event::Desired(DesiredChange::whole(desired.clone())), Moment::now());
        let (stop, stopping) = watch::channel(false);
        let stopped = async |mut stopping: watch::Receiver<bool>| {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let mut reactor = tokio::spawn(reactor.run(stopped(stopping.clone())));
        let (stop_saver, saver_stops) = oneshot::channel();
        let saver = last_good::keep(self.snapshots.clone(), dir.clone(), trial, well, saver_stops);
        let saver = tokio::spawn(saver);
        let mut tasks = JoinSet::new();
        tasks.spawn(recorder::record(store.clone(), decisions, events.clone()));
        tasks.spawn(feed::follow(store.clone(), vault.clone(), desired.clone(), events.clone()));
        let incidents_changed = Arc::new(Notify::new());
        let (followed, resolved) = (world.clone(), incidents_changed.clone());
        tasks.spawn(incidents::follow(store.clone(), followed, resolved, open_incidents));
        tasks.spawn(notifications::deliver(store.clone(), vault.clone()));
        let resolver: Arc<dyn Resolver> = resolver.into();
        tasks.spawn(aliases::follow(resolver.clone(), world.clone(), events.clone()));
        let measured = failover::FailoverMetrics::new().map_err(ControlError::Metrics)?;
        metrics.register(Box::new(measured.clone())).map_err(ControlError::Metrics)?;
        let around = failover::Surroundings {
            metrics: measured,
            store: store.clone(),
            snapshots: self.snapshots.clone(),
            events: events.clone(),
            own: https,
            references,
        };
        let (failover, flights) = failover::keep(around, world.clone());
        tasks.spawn(flights);
        tasks.spawn(failover::act(store.clone(), base_domain.clone()));
        let (told, carried) = watch::channel(providers::AllCarried::new());
        tasks.spawn(providers::carry(vault.clone(), world.clone(), told));
        let (noticed, events_noticed) = mpsc::channel(history::QUEUE);
        let (lines, lines_noticed) = mpsc::channel(history::QUEUE);
        let (dates, transitions) = watch::channel(Transitions::default());
        let told = Told { events: noticed, lines, transitions: dates };
        let (worlds, seen_by) = (world.clone(), providers.clone());
        tasks.spawn(history::follow(worlds, store.clone(), seen_by, vault.clone(), told));
        tasks.spawn(history::write(store.clone(), events_noticed, lines_noticed));
        tasks.spawn(history::settle_operations(store.clone(), world.clone()));
        tasks.spawn(conductor::conduct(store.clone(), world.clone(), events.clone()));
        let gate = match devices {
            Some(options) => {
                Some(gatekeeper(&dir, &store, world.clone(), options, &mut tasks).await?)
            }
            None => None,
        };
        let address = admin.local_addr().map_err(ControlError::Api)?;
        // Only the command line's convenience: no reason to end with traffic to carry.
        if let Err(error) = api::write_url(&dir, address) {
            tracing::warn!(%error, "the command line will need --url");
        }
        let certificates = CertificateMetrics::new(world.clone()).map_err(ControlError::Metrics)?;
        metrics.register(Box::new(certificates.clone())).map_err(ControlError::Metrics)?;
        let (keeper, commands) = mpsc::channel(KEEPER_QUEUE);
        let around = Surroundings {
            store: store.clone(),
            keys: vault.keys().clone(),
            cache: Cache::of(&dir),
            snapshots: self.snapshots.clone(),
            base_domain: base_domain.clone(),
            events: events.clone(),
            metrics: certificates,
            asker: Asker(resolver.clone()),
            accounts: tokio::sync::Mutex::default(),
        };
        tasks.spawn(Keeper::new(around, local.clone()).keep(world.clone(), commands));
        let base = base_domain.clone();
        tasks.spawn(authority::keep_renewed(dir.clone(), base, local, keeper.clone()));
        let (domain_checks, checks) = mpsc::channel(KEEPER_QUEUE);
        let (told, domains) = watch::channel(Domains::new());
        let (asker, base) = (Asker(resolver), base_domain.clone());
        let watcher = domains::Watcher::new(asker, base, store.clone(), keeper.clone());
        tasks.spawn(watcher.watch(world.clone(), checks, told));

        let state = ApiState {
            store: store.clone(),
            vault,
            world,
            transitions,
            activity: self.activity.clone(),
            events,
            keeper,
            domains,
            domain_checks,
            failover,
            carried,
            providers,
            devices: gate.clone(),
            base_domain,
            metrics,
            https_port,
            incidents_changed,
            stopping: stopping.clone(),
        };
        tracing::info!(%address, "the admin API listens");
        failpoint::arm();
        let api = axum::serve(admin, api::router(state)).with_graceful_shutdown(stopped(stopping));
        let mut api = tokio::spawn(api.into_future());
        // None of them ends by itself. Without one of them nothing would be seen or done any more,
        // and nobody would know: better to end, and to be started again.
        let failed = tokio::select! {
            () = shutdown => None,
            ended = &mut api => Some(format!("the admin API: {ended:?}")),
            ended = &mut reactor => Some(format!("the reactor: {ended:?}")),
            ended = tasks.join_next() => Some(format!("{ended:?}")),
        };
        stop.send_replace(true);
        tasks.shutdown().await;
        if let Some(gate) = gate {
            gate.connected.send_away().await;
        }
        let ended = match failed {
            Some(failed) => Err(ControlError::Loop(failed)),
            None => reactor.await.map_err(|panic| ControlError::Loop(panic.to_string())),
        };
        executor.end(LAST_ACTIONS).await;
        // Requests under way are answered; one that is not by then no longer finds a store.
        let _ = timeout(LAST_ANSWERS, store.close()).await;
        // Nothing is published any more; what is served last is written before this returns.
        let _ = stop_saver.send(());
        if let Err(error) = saver.await {
            tracing::error!(%error, "the last snapshot could not be kept");
        }
        Ok(Self { publisher: ended?, ..self })
    }
}

/// Opens the ways by which devices come in.
async fn gatekeeper(
    dir: &StateDir,
    store: &Store,
    world: watch::Receiver<Arc<World>>,
    options: DeviceOptions,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Gatekeeper>, ControlError> {
    let DeviceOptions { arrivals, connected, calls, address } = options;
    let authority = DeviceAuthority::open(dir).map_err(GateError::from)?;
    let gate = Gatekeeper::new(store.clone(), world, authority, connected, calls, address);
    let gate = Arc::new(gate.await?);
    for arrivals in arrivals {
        tasks.spawn(devices::receive(gate.clone(), arrivals));
    }
    Ok(gate)
}

/// What is asked of the keeper of certificates waits in turn.
const KEEPER_QUEUE: usize = 16;
/// How long actions may go on when control is told to end. What is abandoned is found as it is by
/// who comes next, as after a crash.
const LAST_ACTIONS: Duration = Duration::from_secs(2);
/// How long requests of the admin API may use the store when control is told to end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Between two tries to open the store while the last good snapshot is served.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// Opens the store. A database that fails does not end a process that has traffic to carry: it is
/// tried again, and without end.
async fn open_store(
    dir: &StateDir,
    base_domain: &Hostname,
    has_traffic: bool,
) -> Result<Store, StoreError> {
    loop {
        let opened = match dir.database() {
            Ok(file) => Store::open(&file, base_domain).await,
            Err(error) => Err(sqlx::Error::from(error).into()),
        };
        match opened {
            Err(error) if has_traffic => {
                tracing::error!(%error, "serving from the last snapshot without the store");
                tokio::time::sleep(STORE_RETRY).await;
            }
            opened_or_failed => return opened_or_failed,
        }
    }
}
