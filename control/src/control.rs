//! Puts the parts of the loop together and runs them.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use weir_config::{Activity, Certificate, Desired, Hostname, Moment, Publisher, Snapshots};
use weir_deploy::Provider;

use crate::{
    api::{self, ApiState},
    authority, engine,
    event::{DesiredChange, Event},
    executor::Executor,
    feed,
    hints::Hints,
    observed::Observed,
    prober::Probers,
    reactor::{EVENT_QUEUE, Reactor, World},
    saver,
    state_dir::StateDir,
    store::{Store, StoreError},
    token,
};

/// Control before it runs: it can take hints already, so that the data plane need not wait.
#[derive(Debug)]
pub struct Control {
    publisher: Publisher,
    snapshots: Snapshots,
    activity: Arc<Activity>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    hints: Arc<Hints>,
}

/// What control needs of its surroundings.
#[derive(Debug)]
pub struct Options {
    pub dir: StateDir,
    pub base_domain: Hostname,
    pub certificates: Arc<[Certificate]>,
    /// Where the admin API listens.
    pub admin: TcpListener,
    /// What `/metrics` tells.
    pub metrics: prometheus::Registry,
    /// The port that end users reach HTTPS at, for the URLs that are shown.
    pub https_port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the database in the state directory: {0}")]
    Store(#[from] StoreError),
    #[error("{file}: {error}")]
    File { file: PathBuf, error: io::Error },
    #[error("the admin API stopped: {0}")]
    Api(io::Error),
    #[error("a metric cannot be registered: {0}")]
    Metrics(prometheus::Error),
    #[error("a part of the control loop ended: {0}")]
    Loop(String),
}

impl Control {
    pub fn new(publisher: Publisher, snapshots: Snapshots, activity: Arc<Activity>) -> Self {
        let events = mpsc::channel(EVENT_QUEUE);
        let hints = Arc::new(Hints::new(&events.0));
        Self { publisher, snapshots, activity, events, hints }
    }

    pub fn hints(&self) -> Arc<Hints> {
        self.hints.clone()
    }

    /// Opens the store, then observes, plans and executes until `shutdown` ends. `provider` makes
    /// the engine's adapter for a cluster's identity.
    ///
    /// # Errors
    /// When the store cannot be opened, or a file of the state directory cannot be written.
    pub async fn run<P: Provider>(
        self,
        options: Options,
        provider: impl FnOnce(&str) -> P,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ControlError> {
        let Options { dir, base_domain, certificates, admin, metrics, https_port } = options;
        let has_traffic = self.snapshots.current().apps().next().is_some();
        metrics.register(self.hints.metric()).map_err(ControlError::Metrics)?;
        let store = open_store(&dir, &base_domain, has_traffic).await?;
        token::ensure_admin(&dir, &store).await?;
        let desired = store.desired().await?;
        let provider: Arc<dyn Provider> = Arc::new(provider(store.cluster_id()));
        let (events, received) = self.events;

        let served = self.snapshots.current();
        let observed = Observed::new(served, certificates.clone(), Moment::now());
        let (worlds, world) = watch::channel(Arc::new(World {
            desired: desired.clone(),
            observed: observed.clone(),
        }));
        let mut reactor = Reactor {
            executor: Executor::new(provider.clone(), self.activity.clone(), &events),
            probers: Probers::new(&events),
            activity: self.activity.clone(),
            publisher: self.publisher,
            events: received,
            worlds,
            turns: 0,
            desired: Desired::default(),
            observed,
        };
        // Before the first plan: to a plan without apps, every app that is served would be gone.
        reactor.change(DesiredChange::whole(desired.clone()), Moment::now());
        let (stop, stopping) = oneshot::channel();
        let saver = saver::keep_last_good(self.snapshots, dir.last_good_file(), stopping);
        let saver = tokio::spawn(saver);
        let mut tasks = JoinSet::new();
        tasks.spawn(engine::watch(provider.clone(), events.clone()));
        tasks.spawn(feed::follow(store.clone(), desired.revision, events.clone()));
        tasks.spawn(reactor.run());
        let dir = Arc::new(dir);
        let renewal =
            authority::keep_renewed(dir.clone(), base_domain.clone(), certificates, events.clone());
        tasks.spawn(renewal);

        let state = ApiState {
            store,
            world,
            activity: self.activity,
            events: events.clone(),
            provider,
            base_domain,
            metrics,
            https_port,
        };
        let address = admin.local_addr().map_err(ControlError::Api)?;
        // Only the command line's convenience: no reason to end with traffic to carry.
        if let Err(error) = api::write_url(&dir, address) {
            tracing::warn!(%error, "the command line will need --url");
        }
        tracing::info!(%address, "the admin API listens");
        let serving = axum::serve(admin, api::router(state)).into_future();
        let ended = tokio::select! {
            served = serving => served.map_err(ControlError::Api),
            () = shutdown => Ok(()),
            // None of them ends by itself. Without one of them nothing would be seen or done any
            // more, and nobody would know: better to end, and to be started again.
            ended = tasks.join_next() => Err(ControlError::Loop(format!("{ended:?}"))),
        };
        tasks.shutdown().await;
        // Nothing is published any more; what is served last is written before this returns.
        let _ = stop.send(());
        if let Err(error) = saver.await {
            tracing::error!(%error, "the last snapshot could not be kept");
        }
        ended
    }
}

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
            Err(error) => Err(StoreError::Database(error.into())),
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
