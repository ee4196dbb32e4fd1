//! Everything that can move the loop, on one screen.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::oneshot;
use weir_config::{AppName, Certificate, Desired, DesiredApp, InstanceId, Moment, SleepLevel};
use weir_deploy::{Container, EngineInfo, Listing, ProviderError};

use crate::action::Action;

#[derive(Debug)]
pub(crate) enum Event {
    /// The store has changed.
    Desired(DesiredChange),
    /// Every container there is, from a look that began at `began`.
    EngineListed {
        info: EngineInfo,
        listing: Listing,
        began: Moment,
    },
    EngineDown(ProviderError),
    /// One container, from a look that began at `began`.
    ContainerSeen {
        instance: InstanceId,
        container: Option<Container>,
        began: Moment,
    },
    /// A container's process has ended.
    Died {
        instance: InstanceId,
        death: Death,
    },
    /// An action has ended; with the container as it is now.
    Done {
        action: Action,
        result: Result<Option<Container>, ProviderError>,
    },
    /// The verdict of an instance's probes has changed, or its first error is known.
    Probed {
        instance: InstanceId,
        epoch: u64,
        outcome: Result<(), String>,
    },
    /// A request or an operator wants the app awake.
    WakeWanted(AppName),
    /// An operator wants the app asleep.
    SleepWanted(AppName, SleepLevel),
    /// Somebody wants to know whether the loop goes round.
    Pulse(oneshot::Sender<()>),
    CertificatesRenewed(Arc<[Certificate]>),
    /// The proxy could not connect to an instance that should be ready.
    ConnectFailed(InstanceId),
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    /// By the engine's clock, as [`Container::started_at`].
    pub(crate) at: i128,
    pub(crate) exit_code: i64,
    /// The last lines that it wrote.
    pub(crate) log_tail: Vec<String>,
}

/// Apps that have changed, up to a revision of the store; `None` for one that is gone.
#[derive(Debug)]
pub(crate) struct DesiredChange {
    pub(crate) revision: u64,
    /// Whether these are all apps there are.
    pub(crate) whole: bool,
    pub(crate) apps: Vec<(AppName, Option<Arc<DesiredApp>>)>,
    /// See [`Desired::unreadable`].
    pub(crate) unreadable: BTreeSet<AppName>,
}

impl DesiredChange {
    /// All apps there are.
    pub(crate) fn whole(desired: Desired) -> Self {
        let apps = desired.apps.into_iter().map(|(name, app)| (name, Some(app))).collect();
        Self { revision: desired.revision, whole: true, apps, unreadable: desired.unreadable }
    }
}
