//! Everything that can move the loop, on one screen.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::oneshot;
use weir_config::{
    AppName, Desired, DesiredApp, DesiredZone, DnsName, EndpointId, FailoverName, FailoverPolicy,
    Host, HostName, InstanceId, Moment, Shard, ShardName, SleepLevel, ZoneName,
};
use weir_deploy::{Container, EngineInfo, Listing, ProviderError};

use crate::{
    action::Action, certificates::CertificateState, failure::ActionError, observed::PolicySeen,
    store::Touched, subject::Subject, transition::Stage, zones::Addresses,
};

#[derive(Debug)]
pub(crate) enum Event {
    /// The store has changed.
    Desired(DesiredChange),
    /// Every container there is on a host, from a look that began at `began`.
    EngineListed {
        host: HostName,
        info: EngineInfo,
        listing: Listing,
        began: Moment,
    },
    /// A host's engine has answered, with nothing to tell.
    EngineAnswered(HostName),
    EngineDown {
        host: HostName,
        error: ProviderError,
    },
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
        result: Result<Option<Container>, ActionError>,
    },
    /// The verdict of an endpoint's probes has changed, or its first error is known.
    Probed {
        endpoint: EndpointId,
        epoch: u64,
        outcome: Result<(), String>,
    },
    /// A request or an operator wants the app awake.
    WakeWanted(AppName),
    /// An operator wants the app asleep.
    SleepWanted(AppName, SleepLevel),
    /// An operator wants the instances of these on the hosts that they would be dealt to.
    ConvergeWanted(Vec<AppName>),
    /// Somebody wants to know whether the loop goes round.
    Pulse(oneshot::Sender<()>),
    /// What came of a request through the public route; told when it is another than before.
    PublicChecked {
        app: AppName,
        stage: Stage,
        outcome: Result<(), String>,
    },
    /// What was decided about this one was not written, or came too late.
    NotRecorded(Subject),
    /// An operator says that a loss that is held is right, and what is in quarantine too.
    SnapshotConfirmed,
    /// What is kept of certificates, or what authorities are to be answered, has changed.
    Certificates(Box<CertificateState>),
    /// What a name that aliases lead to was found to lead to.
    Resolved(DnsName, Addresses),
    /// What the law of failover has come to for a policy, or where its targets are, has changed.
    Steered(FailoverName, Arc<PolicySeen>),
    /// The proxy could not connect to an endpoint that should be ready.
    ConnectFailed(EndpointId),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Death {
    /// By the engine's clock, as [`Container::started_at`].
    pub(crate) at: i128,
    pub(crate) exit_code: i64,
    /// The last lines that it wrote.
    pub(crate) log_tail: Vec<String>,
}

/// A zone, and what of it has changed.
pub(crate) type TouchedZone = (Arc<DesiredZone>, Touched);

/// What has changed, up to a revision of the store; `None` for what is gone.
#[derive(Debug, Default)]
pub(crate) struct DesiredChange {
    pub(crate) revision: u64,
    /// Whether this is all there is.
    pub(crate) whole: bool,
    pub(crate) hosts: Vec<(HostName, Option<Arc<Host>>)>,
    pub(crate) shards: Vec<(ShardName, Option<Arc<Shard>>)>,
    pub(crate) apps: Vec<(AppName, Option<Arc<DesiredApp>>)>,
    /// With what of it may be served otherwise.
    pub(crate) zones: Vec<(ZoneName, Option<TouchedZone>)>,
    pub(crate) policies: Vec<(FailoverName, Option<Arc<FailoverPolicy>>)>,
    /// See [`Desired::unreadable`].
    pub(crate) unreadable: BTreeSet<AppName>,
    pub(crate) unreadable_shards: BTreeSet<ShardName>,
    pub(crate) unreadable_hosts: BTreeSet<HostName>,
    pub(crate) unreadable_zones: BTreeSet<ZoneName>,
    pub(crate) unreadable_policies: BTreeSet<FailoverName>,
}

impl DesiredChange {
    /// All there is.
    pub(crate) fn whole(desired: Desired) -> Self {
        let Desired { revision, apps, shards, hosts, zones, policies, .. } = desired;
        let hosts = hosts.into_iter().map(|(name, host)| (name, Some(host))).collect();
        let shards = shards.into_iter().map(|(name, shard)| (name, Some(shard))).collect();
        let apps = apps.into_iter().map(|(name, app)| (name, Some(app))).collect();
        let policies = policies.into_iter().map(|(name, policy)| (name, Some(policy))).collect();
        let (unreadable, unreadable_shards) = (desired.unreadable, desired.unreadable_shards);
        let unreadable_hosts = desired.unreadable_hosts;
        let unreadable_zones = desired.unreadable_zones;
        let unreadable_policies = desired.unreadable_policies;
        let zones = zones
            .into_iter()
            .map(|(name, zone)| (name, Some((zone, Touched::Everything))))
            .collect();
        Self {
            revision,
            whole: true,
            hosts,
            shards,
            apps,
            zones,
            policies,
            unreadable,
            unreadable_shards,
            unreadable_hosts,
            unreadable_zones,
            unreadable_policies,
        }
    }

    /// What it is about.
    pub(crate) fn subjects(&self) -> BTreeSet<Subject> {
        let shards = self.shards.iter().map(|(name, _)| Subject::Shard(name.clone()));
        let apps = self.apps.iter().map(|(name, _)| Subject::App(name.clone()));
        let zones = self.zones.iter().map(|(name, _)| Subject::Zone(name.clone()));
        let policies = self.policies.iter().map(|(name, _)| Subject::Policy(name.clone()));
        shards.chain(apps).chain(zones).chain(policies).collect()
    }
}
