//! From the start of the process to its end, or until another process has taken its place.
//!
//! An upgrade hands over in steps, and until the last of them can be called off:
//!
//! | this process | the new one |
//! |---|---|
//! | starts it with the listening sockets | reads its settings, opens a copy of the database |
//! | | `Ready` |
//! | ends its control loop, frees the state directory | |
//! | `Yours`: what is served, what is in use | locks the state directory, opens the store |
//! | | accepts connections, beside the former one; `Serving` |
//! | drains; tells what is in use here | decides; tells what is to be served there |
//!
//! If the new one fails, or takes too long, at any of them, this one takes back what it gave. It
//! accepts connections all the time.

mod channel;
mod drain;
pub(crate) mod notify;
pub(crate) mod operator;
mod predecessor;
mod protocol;
mod sockets;
mod successor;
pub(crate) mod watchdog;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::sleep,
};
use weir_config::{Activity, Host, Settings, Snapshots};
use weir_control::{Calls, Control, ControlError, DeviceOptions, Opened, Options, StateDir};
use weir_deploy::{Arrivals, Device, Devices, Docker, Provider, TailnetOptions};
use weir_dns::StubResolver;
use weir_proxy::ProxyMetrics;

pub(crate) use drain::{DataPlane, Signals};
use operator::{Asker, Operator, Progress, Request};
pub(crate) use predecessor::{Predecessor, Shared};
pub(crate) use sockets::{Inherited, Sockets};
use successor::Successor;
use watchdog::Watchdog;

use crate::{dns::Dns, tickets::TicketFile};

/// What lasts as long as the process.
pub(crate) struct Process {
    pub(crate) settings: Settings,
    pub(crate) sockets: Sockets,
    pub(crate) activity: Arc<Activity>,
    pub(crate) snapshots: Snapshots,
    /// Those that are connected, for control and the data plane alike.
    pub(crate) devices: Devices,
    /// What apps on them ask of other apps.
    pub(crate) calls: Arc<dyn Calls>,
    pub(crate) metrics: ProxyMetrics,
    pub(crate) data_plane: DataPlane,
    /// `None` if it answers nowhere.
    pub(crate) dns: Option<Dns>,
    pub(crate) watchdog: Watchdog,
}

/// What works with the state directory, and only as long as it is this process's.
pub(crate) struct Stateful {
    pub(crate) control: Control,
    pub(crate) tickets: TicketFile,
}

/// Why the control loop is to end.
enum Next {
    Stop,
    HandOver(Box<Successor>, Asker),
}

/// Between two tries to take the state back.
const RETRY: Duration = Duration::from_secs(1);

impl Process {
    /// Lives until it is told to stop, or a successor carries the traffic, and nothing is in flight.
    ///
    /// # Errors
    /// A part of it cannot begin, or ends by itself.
    pub(crate) async fn live(
        mut self,
        mut state: Stateful,
        dir: StateDir,
        shared: Option<Shared>,
    ) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let operator = Operator::new(self.sockets.operator.as_ref())?;
        if shared.is_none() {
            // Traffic is served before anything outside has answered. The successor of another
            // process has time: traffic is carried there.
            self.data_plane.start();
        }
        let mut opened = tokio::select! {
            opened = self.open(&state.control, dir) => opened?,
            () = signals.stop() => {
                drop(state);
                self.end(&mut signals).await;
                return Ok(());
            }
        };
        self.data_plane.start();
        match shared {
            Some(shared) => drop(tokio::spawn(with_predecessor(shared))),
            None => notify::ready(),
        }
        let hints = state.control.hints();
        tokio::spawn(self.watchdog.tick(hints.clone()));
        let alive = {
            let runtime = self.data_plane.runtime();
            move || {
                let (hints, data_plane) = (hints.clone(), runtime.spawn(async {}));
                async move { data_plane.await.is_ok() && hints.pulse().await }
            }
        };
        let watchdog = tokio::spawn(notify::watchdog(alive));
        loop {
            let mut running = Running::start(state, opened);
            let next = self.next(&mut running, &mut signals, &operator).await?;
            state = running.end().await?;
            let Next::HandOver(successor, mut asker) = next else { break };
            let snapshot = self.snapshots.current();
            match successor.take_over(&snapshot, &self.activity).await {
                Ok(successor) => {
                    watchdog.abort();
                    drop(operator);
                    self.hand_over(successor, state.control, asker, &mut signals).await;
                    return Ok(());
                }
                Err(error) => {
                    opened = tokio::select! {
                        opened = self.take_back(&state.control) => opened,
                        () = signals.stop() => break,
                    };
                    notify::ready();
                    asker.say(Progress::Failed(format!("{error:#}"))).await;
                }
            }
        }
        watchdog.abort();
        drop(operator);
        // With it goes the publisher, and the hope of the requests that wait for an app to wake.
        drop(state);
        self.end(&mut signals).await;
        Ok(())
    }

    /// Serves until there is a reason not to go on. An upgrade that fails is none.
    async fn next(
        &mut self,
        running: &mut Running,
        signals: &mut Signals,
        operator: &Operator,
    ) -> anyhow::Result<Next> {
        loop {
            let (request, mut asker) = tokio::select! {
                () = signals.stop() => return Ok(Next::Stop),
                failed = running.failed() => return Err(failed),
                () = self.data_plane.ended() => bail!("the data plane ended"),
                request = operator.request() => request,
            };
            let Request::Upgrade { ready_within } = request;
            notify::upgrading();
            asker.say(Progress::Step("starting the new program".to_owned())).await;
            let snapshot = self.snapshots.current();
            let state_dir = &self.settings.state_dir;
            let prepared = tokio::select! {
                () = signals.stop() => return Ok(Next::Stop),
                failed = running.failed() => return Err(failed),
                prepared = Successor::prepare(&self.sockets, state_dir, &snapshot, ready_within) => {
                    prepared
                }
            };
            match prepared {
                Ok(successor) => {
                    let (process, version) = (successor.process, &successor.version);
                    let step = format!("process {process} is ready: Weir {version}");
                    asker.say(Progress::Step(step)).await;
                    return Ok(Next::HandOver(Box::new(successor), asker));
                }
                Err(error) => {
                    notify::ready();
                    asker.say(Progress::Failed(format!("{error:#}"))).await;
                }
            }
        }
    }

    async fn open(&self, control: &Control, dir: StateDir) -> anyhow::Result<Opened> {
        let base_domain = self.settings.base_domain.clone();
        let admin = tokio::net::TcpListener::from_std(self.sockets.admin.try_clone()?)?;
        let metrics = prometheus::Registry::new();
        metrics.register(Box::new(self.metrics.clone()))?;
        if let Some(dns) = &self.dns {
            metrics.register(Box::new(dns.metrics()))?;
        }
        let https = self.sockets.https.local_addr()?;
        let https_port = https.port();
        let https = self.settings.proxy.from_here(https);
        let well = self.watchdog.well();
        let resolver = Box::new(StubResolver::new(self.settings.resolver.into_iter().collect()));
        let devices = self.arrivals()?;
        let options = Options {
            dir,
            base_domain,
            admin,
            metrics,
            https_port,
            https,
            well,
            resolver,
            verify_domains: self.settings.verify_domains,
            references: self.settings.references.clone(),
            devices,
        };
        let (docker, devices) = (PathBuf::clone(&self.settings.docker), self.devices.clone());
        let provider = move |host: &Host, cluster: &str| -> Arc<dyn Provider> {
            match Docker::of(host, &docker, cluster) {
                Some(docker) => Arc::new(docker),
                None => Arc::new(Device::new(host.name.clone(), devices.clone())),
            }
        };
        Ok(control.open(options, provider).await?)
    }

    /// Where devices come in, if they may.
    fn arrivals(&self) -> anyhow::Result<Option<DeviceOptions>> {
        let Some(listener) = &self.sockets.devices else { return Ok(None) };
        let Settings { devices_address, base_domain, .. } = &self.settings;
        let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let local = listener.local_addr()?;
        tracing::info!(address = %local, "devices may come");
        let default = || match local.ip() {
            any if any.is_unspecified() => format!("{base_domain}:{}", local.port()),
            _ => local.to_string(),
        };
        let address = Some(devices_address.clone().unwrap_or_else(default));
        let mut arrivals: Vec<Box<dyn Arrivals>> = Vec::new();
        arrivals.extend(tailnet(&self.settings, local.port())?);
        arrivals.push(Box::new(listener));
        let (connected, calls) = (self.devices.clone(), self.calls.clone());
        Ok(Some(DeviceOptions { arrivals, connected, calls, address }))
    }

    /// Takes back what a successor did not keep. Traffic does not depend on it, so this is tried
    /// without end.
    async fn take_back(&self, control: &Control) -> Opened {
        loop {
            let opened =
                async { self.open(control, StateDir::open(&self.settings.state_dir)?).await };
            match opened.await {
                Ok(opened) => return opened,
                Err(error) => {
                    tracing::error!(%error, "the state cannot be taken back; trying again")
                }
            }
            sleep(RETRY).await;
        }
    }

    /// What is left to do after a successor serves.
    async fn hand_over(
        mut self,
        successor: Successor,
        control: Control,
        mut asker: Asker,
        signals: &mut Signals,
    ) {
        notify::handed_over(successor.process);
        let (process, version) = (successor.process, &successor.version);
        asker.say(Progress::Done(format!("process {process} serves: Weir {version}"))).await;
        drop(asker);
        if let Some(dns) = self.dns.take() {
            dns.stop().await;
        }
        let served = self.snapshots.current();
        let publisher = control.into_publisher();
        let activity = self.activity.clone();
        tokio::select! {
            // The first one is for the service, which is another process now.
            () = self.drain(false, async { signals.stop().await; signals.stop().await }) => {}
            () = successor.follow(&served, publisher, activity) => {}
        }
    }

    async fn end(self, signals: &mut Signals) {
        notify::stopping();
        self.drain(true, signals.stop()).await;
    }

    /// Ends when nothing is in flight, at the deadline, or when told again.
    async fn drain(self, accepting: bool, told_again: impl Future<Output = ()>) {
        // Questions are answered to the end.
        let Self { settings, sockets, activity, mut data_plane, dns, .. } = self;
        tracing::info!("draining");
        // As long as anyone has a socket open, it takes connections; one that nobody accepts from
        // would keep its clients waiting.
        drop(sockets);
        tokio::select! {
            () = data_plane.drain(accepting, &activity, settings.shutdown_grace) => {}
            () = told_again => tracing::warn!("told to stop while draining: ending at once"),
        }
        drop(dns);
    }
}

/// The tailnet that devices come by, if the settings name one.
fn tailnet(settings: &Settings, port: u16) -> anyhow::Result<Option<Box<dyn Arrivals>>> {
    let Some(spec) = &settings.tailnet else { return Ok(None) };
    let auth_key = match &spec.auth_key_file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            Some(text.with_context(|| format!("cannot read {}", file.display()))?.trim().to_owned())
        }
        None => None,
    };
    let options = TailnetOptions {
        hostname: spec.hostname.clone(),
        auth_key,
        control_url: spec.url.clone(),
        key_file: settings.state_dir.join("tailnet.json"),
    };
    Ok(Some(options.arrivals(port).context("`tailnet` in the settings")?))
}

/// The control loop, and the rotation of the ticket keys, while they run.
struct Running {
    control: Task<Result<Control, ControlError>>,
    tickets: Task<TicketFile>,
}

/// A task that ends when it is told to, or when nobody is left who could tell it.
struct Task<T> {
    end: oneshot::Sender<()>,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Task<T> {
    fn start<F>(run: impl FnOnce(BoxFuture<'static, ()>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        let ended = ended.map(|_: Result<(), _>| ());
        Self { end, task: tokio::spawn(run(Box::pin(ended))) }
    }

    async fn end(self) -> Result<T, JoinError> {
        drop(self.end);
        self.task.await
    }
}

impl Running {
    fn start(state: Stateful, opened: Opened) -> Self {
        let Stateful { control, tickets } = state;
        Self {
            control: Task::start(|end| control.run(opened, end)),
            tickets: Task::start(|end| tickets.rotate(end)),
        }
    }

    /// Returns if it ends though nobody told it to.
    async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.control.task).await {
            Ok(Ok(_)) => anyhow!("the control loop ended"),
            Ok(Err(error)) => error.into(),
            Err(panic) => anyhow!("the control loop panicked: {panic}"),
        }
    }

    async fn end(self) -> anyhow::Result<Stateful> {
        // Before the control loop, which gives up the state directory when it ends.
        let tickets = self.tickets.end().await.context("the rotation of ticket keys panicked")?;
        let control = self.control.end().await.context("the control loop panicked")??;
        Ok(Stateful { control, tickets })
    }
}

/// Says so when the process before this one cannot be heard any more before its time.
async fn with_predecessor(shared: Shared) {
    match shared.serving().await {
        Ok(()) => tracing::info!("the process before this one has ended"),
        Err(error) => tracing::error!(%error, "the process before this one is not heard"),
    }
}
