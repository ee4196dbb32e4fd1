//! What goes over the wire: the API's objects, for both ends.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weir_config::{
    AppSpec, Cause, DeploymentState, Ending, HostSpec, NotifierSpec, Problem, Severity, ShardSpec,
};

mod certificates;

pub use certificates::{
    CertificateResource, CertificateUpload, DomainResource, IssuerResource, IssuerStatus,
};

/// An object as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resource<Spec, Status> {
    /// `App`, `Shard` or `Host`.
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

/// What the loop makes of the spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AppStatus {
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Where it is reached.
    pub url: String,
    /// Of an image: the number of the deployment that is on its way, or else live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// The one that serves until that one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_deployment: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Of an app that is no image: its upstreams, or the members of its shards.
    pub ready_instances: u16,
    pub desired_instances: u16,
    pub requests_in_flight: u64,
    /// Its upstreams, if it has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<MemberStatus>,
    pub conditions: Vec<Condition>,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureDetails>,
}

/// How the members of a shard are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardStatus {
    /// `progressing`, `ready`, `degraded` or `failed`.
    pub phase: Phase,
    /// The generation of the spec that this status is about; 0 as long as it is about none.
    pub observed_generation: u64,
    pub ready_members: u16,
    pub members: Vec<MemberStatus>,
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

/// What somebody asked for, and what has come of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationResource {
    /// `op_` and a number that grows.
    pub id: String,
    /// Of the object that it is about.
    pub kind: String,
    pub name: String,
    /// The generation of the object that it made, or found.
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// As `put`, `deploy` or `wake`.
    pub verb: String,
    /// The token that asked.
    pub actor: String,
    /// `running`, `succeeded`, `failed`, `superseded` or `cancelled`.
    pub state: String,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// RFC 3339.
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<String>,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    /// Grows with every event.
    pub id: u64,
    /// RFC 3339.
    pub at: String,
    /// Of the object: `App`, `Shard` or `Host`.
    pub kind: String,
    pub name: String,
    /// The deployment that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<u64>,
    /// What happened, as `InstanceReady`: a stable word for programs.
    pub r#type: String,
    /// Why, as `HealthCheckFailed`: a stable word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// A step in the log of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepRecord {
    /// RFC 3339.
    pub at: String,
    /// As in an event.
    pub r#type: String,
    pub reason: String,
    pub message: String,
}

/// Who changed what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// The operation.
    pub id: String,
    /// RFC 3339.
    pub at: String,
    /// The token that was used.
    pub actor: String,
    pub verb: String,
    pub kind: String,
    pub name: String,
    /// Of the store; none if the spec has not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The spec before and after, without its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// One running copy of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceResource {
    /// `<app>-<deployment>-<ordinal>`.
    pub name: String,
    pub app: String,
    pub deployment: u64,
    pub ordinal: u16,
    pub host: String,
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub requests_in_flight: u64,
    /// Times that the engine restarted it by itself.
    pub restarts: u64,
    /// What is being done to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// `unknown`, `ready`, `suspect`, `disconnected`, `lost` or `returned`.
    pub state: String,
    /// Why its engine does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Where its instances are reached; none of `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    pub instances: u64,
}

/// What to bring to where it would be placed anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvergeRequest {
    /// Only tell.
    #[serde(default)]
    pub dry_run: bool,
}

/// An instance that is on another host than it would be placed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftResource {
    pub app: String,
    pub instance: String,
    /// Where it is.
    pub host: String,
}

/// Why a host name gets what it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub hostname: String,
    /// What a request would get now.
    pub answer: String,
    /// From the name to the process, in order.
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// `route`, `app`, `deployment`, `instance` or `health`.
    pub subject: String,
    pub finding: String,
}

/// Something that is wrong, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentResource {
    pub id: String,
    /// By which rule, as `crash-loop`.
    pub rule: String,
    /// What it is about, as `App/shop`.
    pub subject: String,
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    /// `open` or `resolved`.
    pub state: String,
    /// How often it was opened.
    pub occurrences: i64,
    /// RFC 3339.
    pub opened_at: String,
    pub updated_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
    /// The token of who looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentPage {
    pub items: Vec<IncidentResource>,
    /// Asks for the next page, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An incident with its record, the oldest event first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentDetails {
    #[serde(flatten)]
    pub incident: IncidentResource,
    pub events: Vec<IncidentEventResource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IncidentEventResource {
    /// Counts from 1.
    pub number: i64,
    /// RFC 3339.
    pub at: String,
    /// A token, or `weir`.
    pub actor: String,
    /// `opened`, `changed`, `acknowledged`, `note`, `resolved` or `reopened`.
    pub action: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A line for an incident's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    pub text: String,
}

/// Somebody who is told of incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifierResource {
    /// Always `Notifier`.
    pub kind: String,
    pub name: String,
    /// RFC 3339.
    pub created_at: String,
    pub updated_at: String,
    /// Without what is secret.
    pub spec: NotifierSpec,
    pub status: NotifierStatus,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifierStatus {
    pub has_secret: bool,
    /// Messages that it has not taken yet.
    pub queued: i64,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// What came of a test message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifierTest {
    /// Its `webhook-id`.
    pub id: String,
    pub delivered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResource {
    pub generation: u64,
    /// Of the store, that it was planned from.
    pub revision: u64,
    pub host_names: u64,
    /// Whose change is not served; they are served as before.
    pub refused: Vec<RefusalResource>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusalResource {
    /// As `App/shop`.
    pub subject: String,
    /// `broken`, `held` or `quarantined`.
    pub cause: String,
    pub message: String,
    /// For so long.
    pub seconds: u64,
}

/// One line of an app's output, as newline-delimited JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogRecord {
    pub instance: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    pub text: String,
}

/// What may be known of a secret: everything but its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretResource {
    pub name: String,
    /// Another one for every value; a deployment names those that it was made with.
    pub version: u64,
    /// RFC 3339.
    pub updated_at: String,
}

/// A secret's value, as it is sent.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "the schema of what is read by hand, so that no error tells it")]
pub(crate) struct SecretValue {
    value: String,
}

/// What a rotation of the key came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeyRotation {
    /// The name of the new key.
    pub key: String,
    /// How many values were sealed anew.
    pub resealed: u64,
    /// Secrets whose key was not there, as `app/NAME`: they must be set again.
    pub unreadable: Vec<String>,
}

/// A new deployment is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The image to run from now on; the spec's when left out.
    #[serde(default)]
    pub image: Option<String>,
}

/// One immutable, numbered roll-out of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentResource {
    /// Counts from 1 within the app.
    pub number: u64,
    pub state: DeploymentState,
    /// While requests go over to it: of a rolling one, the instances that it has beyond the first;
    /// of a canary, which of its steps.
    pub step: u16,
    pub cause: Cause,
    pub image: String,
    /// RFC 3339, as the next two.
    pub created_at: String,
    /// Since when it is in this state and step.
    pub since: String,
    /// Until when its instances are kept for a rollback within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// Why it is not live, or not for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How a spec would be rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutPreview {
    /// Whether it makes a new deployment.
    pub deploys: bool,
    /// `none`, `first`, `blue-green`, `rolling`, `canary` or `stop-first`.
    pub way: String,
    /// Whether requests have to wait meanwhile.
    pub gap: bool,
    /// The same for people, and why.
    pub message: String,
}

/// A former deployment is wanted back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The number of a deployment; the one that was live before when left out.
    #[serde(default)]
    pub to: Option<u64>,
}

/// What another app runs is wanted, exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// The name of the other app.
    #[serde(default)]
    pub from: String,
}

/// Sleep is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SleepRequest {
    /// How deep; `paused` when left out.
    #[serde(default)]
    pub level: Option<weir_config::SleepLevel>,
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
