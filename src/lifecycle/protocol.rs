//! What a process and the one that follows it tell each other.
//!
//! While the former one drains, it is a data plane whose control is in the other process:
//! snapshots come down to it, and levels go up, as between the two halves of one process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weir_config::{Activity, AppName, EndpointId, LastGood, Snapshot};

/// From the process that takes over. Unknown fields are ignored, so that messages can grow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromSuccessor {
    /// Everything that can be tried beforehand went well.
    Ready { version: String, state_dir: PathBuf },
    /// It carries traffic and decides from now on.
    Serving,
    /// What the former process is to serve as long as it has requests.
    Snapshot(LastGood),
}

/// From the process that hands over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromPredecessor {
    /// What is served now, to find out whether it can be read.
    Rehearse(LastGood),
    /// The state directory is free; this is served, and this is in use.
    Yours {
        snapshot: LastGood,
        levels: Levels,
    },
    Levels(Levels),
}

/// A snapshot as it is told. Both processes are of the same boot of the machine.
pub(super) fn told(snapshot: &Snapshot) -> LastGood {
    LastGood::of(snapshot, "")
}

pub(super) fn restored(told: LastGood, activity: &Activity) -> Snapshot {
    told.restore(activity, "")
}

/// Everything that is in use, read after this generation was published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Levels {
    pub(super) generation: u64,
    pub(super) apps: Vec<AppLevel>,
    pub(super) endpoints: Vec<(EndpointId, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AppLevel {
    pub(super) app: AppName,
    pub(super) in_flight: u64,
    pub(super) held: u64,
}

impl Levels {
    pub(super) fn of(activity: &Activity, generation: u64) -> Self {
        let level = |(app, activity): (AppName, std::sync::Arc<weir_config::AppActivity>)| {
            let (in_flight, held) = (activity.in_flight(), activity.held());
            (in_flight > 0).then_some(AppLevel { app, in_flight, held })
        };
        let apps = activity.apps().into_iter().filter_map(level).collect();
        let endpoints = activity.endpoints().into_iter();
        let endpoints = endpoints.map(|(id, activity)| (id, activity.in_flight()));
        Self { generation, apps, endpoints: endpoints.filter(|(_, n)| *n > 0).collect() }
    }
}
