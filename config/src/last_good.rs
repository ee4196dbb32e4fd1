//! The served snapshot as it is kept on disk, for a restart that serves before anything outside
//! has answered.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Activity, AppName, AppRoute, Certificate, Endpoint, Hostname, InstanceId, RouteState,
    SleepLevel, Snapshot, Timeouts,
};

/// A [`Snapshot`] without its counters. It holds private keys: write it for its owner's eyes only.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastGood {
    /// The boot of the machine that it was served in: after another one, instances have other
    /// addresses, and theirs may be another app's.
    boot: String,
    generation: u64,
    revision: u64,
    certificates: Vec<Certificate>,
    apps: Vec<SavedRoute>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRoute {
    app: AppName,
    hostnames: Vec<Hostname>,
    state: SavedState,
    timeouts: Timeouts,
    wake_timeout: Duration,
    queue: u32,
}

#[derive(Debug, Serialize, Deserialize)]
enum SavedState {
    Serving(Vec<(InstanceId, SocketAddr)>),
    Asleep(SleepLevel),
    Starting,
    Unavailable { reason: String, retry_after: Duration },
}

impl LastGood {
    pub fn of(snapshot: &Snapshot, boot: &str) -> Self {
        Self {
            boot: boot.to_owned(),
            generation: snapshot.generation,
            revision: snapshot.revision,
            certificates: snapshot.certificates.to_vec(),
            apps: snapshot.apps().map(|route| save(route)).collect(),
        }
    }

    /// The snapshot, with its counters joined to `activity`. In another boot than `boot`, what was
    /// serving is starting: its requests wait until its instances have been found.
    pub fn restore(self, activity: &Activity, boot: &str) -> Snapshot {
        let same_boot = self.boot == boot;
        let mut snapshot =
            Snapshot::empty(self.generation, self.revision, self.certificates.into());
        for saved in self.apps {
            let mut route = restore(saved, activity);
            if !same_boot && matches!(route.state, RouteState::Serving(_)) {
                route.state = RouteState::Starting;
            }
            snapshot.insert(route);
        }
        snapshot
    }
}

fn save(route: &AppRoute) -> SavedRoute {
    let state = match &route.state {
        RouteState::Serving(endpoints) => {
            SavedState::Serving(endpoints.iter().map(|e| (e.instance.clone(), e.address)).collect())
        }
        RouteState::Asleep(level) => SavedState::Asleep(*level),
        RouteState::Starting => SavedState::Starting,
        RouteState::Unavailable { reason, retry_after } => {
            SavedState::Unavailable { reason: reason.clone(), retry_after: *retry_after }
        }
    };
    SavedRoute {
        app: route.app.clone(),
        hostnames: route.hostnames.clone(),
        state,
        timeouts: route.timeouts.clone(),
        wake_timeout: route.wake_timeout,
        queue: route.queue,
    }
}

fn restore(saved: SavedRoute, activity: &Activity) -> AppRoute {
    let state = match saved.state {
        SavedState::Serving(endpoints) => RouteState::Serving(
            endpoints
                .into_iter()
                .map(|(instance, address)| Endpoint {
                    in_flight: activity.instance(&instance),
                    instance,
                    address,
                })
                .collect(),
        ),
        SavedState::Asleep(level) => RouteState::Asleep(level),
        SavedState::Starting => RouteState::Starting,
        SavedState::Unavailable { reason, retry_after } => {
            RouteState::Unavailable { reason, retry_after }
        }
    };
    AppRoute {
        activity: activity.app(&saved.app),
        app: saved.app,
        hostnames: saved.hostnames,
        state,
        timeouts: saved.timeouts,
        wake_timeout: saved.wake_timeout,
        queue: saved.queue,
    }
}
