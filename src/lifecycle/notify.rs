//! What systemd is told of this process (`sd_notify(3)`); nothing if it did not start us.

use std::{future::Future, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

pub(crate) fn upgrading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("upgrading")]),
        Err(error) => tracing::warn!(%error, "the time since boot is not known"),
    }
}

/// From now on another process is the service, and it serves.
pub(crate) fn handed_over(process: u32) {
    tell(&[NotifyState::MainPid(process), NotifyState::Ready, NotifyState::Status("serving")]);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("waiting for requests in flight")]);
}

/// Keeps the service manager's watchdog quiet as long as `alive` is answered. Never returns.
pub(crate) async fn watchdog<F: Future<Output = bool>>(alive: impl Fn() -> F) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let mut ticks = interval(limit / 3);
    loop {
        ticks.tick().await;
        match timeout(limit / 3, alive()).await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            Ok(false) | Err(_) => {
                tracing::error!("a part does not answer; not telling the watchdog")
            }
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
