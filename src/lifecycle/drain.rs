//! The end of the data plane: no request is cut off that ends in time.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use weir_config::Activity;
use weir_proxy::Proxy;

/// Carries requests on a runtime of its own, or is about to.
#[derive(Debug)]
pub(crate) struct DataPlane {
    runtime: tokio::runtime::Handle,
    proxy: Option<Proxy>,
    running: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl DataPlane {
    pub(crate) fn new(proxy: Proxy, runtime: tokio::runtime::Handle) -> Self {
        Self { runtime, proxy: Some(proxy), running: None, stop: watch::Sender::new(false) }
    }

    /// Accepts connections from now on, if it has not before.
    pub(crate) fn start(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            self.running = Some(self.runtime.spawn(proxy.run(self.stop.subscribe())));
        }
    }

    /// Returns when it no longer accepts connections.
    pub(crate) async fn ended(&mut self) {
        if let Some(running) = &mut self.running {
            match running.await {
                Ok(()) => {}
                Err(error) => tracing::error!(%error, "the data plane"),
            }
            self.running = None;
        }
    }

    pub(crate) fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }

    /// Takes no more connections, and returns when no request is in flight, or at the deadline.
    pub(crate) async fn drain(&mut self, activity: &Activity, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stop.send_replace(true);
        let drained = async {
            self.ended().await;
            quiet(activity).await;
        };
        if timeout_at(deadline, drained).await.is_err() {
            for (app, activity) in activity.apps() {
                let (requests, held) = (activity.in_flight(), activity.held());
                if requests > 0 {
                    tracing::warn!(%app, requests, held, "cut off: still in flight after {grace:?}");
                }
            }
        }
    }
}

/// Between two looks at what is in flight.
const POLL: Duration = Duration::from_millis(10);
/// For so long nothing must be in flight: a request is counted when its header has been read, and
/// the last connections were accepted a moment ago.
const QUIET: Duration = Duration::from_millis(100);

/// Returns when nothing is in flight.
async fn quiet(activity: &Activity) {
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        sleep(POLL).await;
        if activity.apps().iter().any(|(_, app)| app.in_flight() > 0) {
            since = Instant::now();
        }
    }
}

/// The signals by which the process is told to end.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
