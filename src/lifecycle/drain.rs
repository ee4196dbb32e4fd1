//! The end of the data plane: no request is cut off that ends in time.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use weir_config::Activity;
use weir_proxy::{Phase, Proxy};

/// Carries requests on a runtime of its own, or is about to.
#[derive(Debug)]
pub(crate) struct DataPlane {
    runtime: tokio::runtime::Handle,
    proxy: Option<Proxy>,
    running: Option<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
}

impl DataPlane {
    pub(crate) fn new(proxy: Proxy, runtime: tokio::runtime::Handle) -> Self {
        let phase = watch::Sender::new(Phase::Running);
        Self { runtime, proxy: Some(proxy), running: None, phase }
    }

    /// Accepts connections from now on, if it has not before.
    pub(crate) fn start(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            self.running = Some(self.runtime.spawn(proxy.run(self.phase.subscribe())));
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

    /// Tells clients to go, and returns when no request is in flight, or at the deadline.
    /// `accepting` is whether connections are accepted for a while still: nobody else does.
    pub(crate) async fn drain(&mut self, accepting: bool, activity: &Activity, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.phase.send_replace(Phase::Draining { accepting });
        let drained = async {
            // What has come and has not been read is not in flight yet: the proxy waits for it.
            self.ended().await;
            nothing_in_flight(activity).await;
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

async fn nothing_in_flight(activity: &Activity) {
    while activity.apps().iter().any(|(_, app)| app.in_flight() > 0) {
        sleep(POLL).await;
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
