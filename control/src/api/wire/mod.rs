//! What goes over the wire: the API's objects, for both ends.

mod apps;
mod certificates;
mod deployments;
mod devices;
mod edge;
mod failover;
mod history;
mod hosts;
mod incidents;
mod providers;
mod secrets;
mod shards;
mod snapshot;
mod zones;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::{
    AppSpec, FailoverSpec, HostSpec, IssuerSpec, NotifierSpec, Problem, ProviderSpec, ShardSpec,
    ZoneSpec,
};

pub(crate) use self::secrets::SecretValue;
pub use self::{
    apps::{AppStatus, Explanation, InstanceResource, LogRecord, SleepRequest, Step},
    certificates::{CertificateResource, CertificateUpload, DomainResource, IssuerStatus},
    deployments::{
        DeployRequest, DeploymentResource, PromoteRequest, RollbackRequest, RolloutPreview,
    },
    devices::{DeviceInvite, DeviceResource, DeviceState, InviteRequest, RenameRequest},
    edge::{DeployToEdge, DiscoveredApp, EdgeContainer, EdgeHealth, Place},
    failover::{
        FailoverDecision, FailoverHealth, FailoverHold, FailoverIncident, FailoverSimulation,
        FailoverStatus, ForceRequest, FreezeRequest, SimulateRequest, SimulatedAnswer,
        SimulatedShare, TargetHealth, WrittenByHand,
    },
    history::{AuditRecord, EventRecord, OperationResource, StepRecord, UpdatedAppResource},
    hosts::{ConvergeRequest, DriftResource, HostStatus},
    incidents::{
        IncidentDetails, IncidentEventResource, IncidentResource, NoteRequest, NotifierStatus,
        NotifierTest,
    },
    providers::{
        CarriedPolicy, CustomHostnameResource, ProviderPreview, ProviderStatus, ProviderTest,
        PurgeRequest,
    },
    secrets::{KeyRotation, SecretResource},
    shards::{ShardDeployRequest, ShardStatus},
    snapshot::{RefusalResource, SnapshotResource},
    zones::{RecordSetResource, RecordSource, RecordsChanged, ZoneStatus},
};

/// An object as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resource<Spec, Status> {
    /// `App`, `Shard`, `Host`, `Zone`, `Provider`, `FailoverPolicy`, `Issuer` or `Notifier`.
    pub kind: String,
    pub name: String,
    /// Grows by one with every change of the spec.
    pub generation: u64,
    /// The place of the last change in the order of all changes; also the `ETag`.
    pub revision: u64,
    /// RFC 3339.
    pub created_at: String,
    pub updated_at: String,
    pub spec: Spec,
    pub status: Status,
}

pub type AppResource = Resource<AppSpec, AppStatus>;
pub type ShardResource = Resource<ShardSpec, ShardStatus>;
pub type HostResource = Resource<HostSpec, HostStatus>;
pub type ZoneResource = Resource<ZoneSpec, ZoneStatus>;
pub type IssuerResource = Resource<IssuerSpec, IssuerStatus>;
pub type FailoverResource = Resource<FailoverSpec, FailoverStatus>;
pub type ProviderResource = Resource<ProviderSpec, ProviderStatus>;
pub type NotifierResource = Resource<NotifierSpec, NotifierStatus>;

/// What writing an object would change of what is not shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HiddenChanges {
    /// Fields of its spec.
    pub changes: Vec<String>,
}

impl HiddenChanges {
    pub(crate) fn of(changes: Vec<&'static str>) -> Self {
        Self { changes: changes.into_iter().map(str::to_owned).collect() }
    }
}

/// A server that something else keeps running: a member of a shard, or an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberStatus {
    pub name: String,
    pub address: String,
    pub weight: u16,
    /// `starting`, `ready` or `unhealthy`.
    pub state: String,
    pub requests_in_flight: u64,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One word for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// On its way: being made, started, verified or woken.
    Progressing,
    Ready,
    /// Serving, but not all of it as it should be.
    Degraded,
    Paused,
    Stopped,
    /// Not serving; it is tried again.
    Failed,
    /// The engine has not been heard of yet.
    Unknown,
}

impl Phase {
    /// Whether nothing more is to be waited for.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Progressing | Self::Unknown)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One statement about an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// `Ready`, `Progressing`, `Healthy`, `Routed`, `Sleeping`, and of an image `UpToDate`: whether
    /// the deployment of the spec is the live one.
    #[serde(rename = "type")]
    pub kind: String,
    /// `true`, `false` or `unknown`.
    pub status: String,
    /// A stable word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    pub observed_generation: u64,
    /// Since when it has this status, as far as the process that answers knows: RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_transition_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailureDetails {
    pub reason: String,
    pub message: String,
    /// An instance or a member.
    pub instance: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines that the process wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
    /// Seconds until it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<u64>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Asks for the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Of objects that operators write: the revision as of which this is, from which a watch goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

impl<T> List<T> {
    /// All there is.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None, revision: None }
    }
}

/// An error, by RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    pub r#type: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// Every field that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}
